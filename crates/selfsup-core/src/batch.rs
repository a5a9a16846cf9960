//! The batches that data crates make and objectives take.

use crate::{Device, Error, Result, Tensor};

/// Several augmented views of the same images.
#[derive(Debug)]
pub struct ImageViews {
    /// One tensor a view, `[N, C, H, W]` Float; views may differ in `H` and `W` (multi-crop).
    pub views: Vec<Tensor>,
    /// The samples' positions in the data set, `[N]` Int64.
    pub indices: Tensor,
    /// The classes of the samples, `[N]` Int64, where the set has them: for methods that learn from labels.
    pub labels: Option<Tensor>,
}

impl ImageViews {
    /// The first view, in which images are judged; `who` asks for it.
    ///
    /// # Errors
    /// [`Error::Config`] when there is none.
    pub fn first(&self, who: &str) -> Result<&Tensor> {
        let expected = || format!("at least one view an image for {who}");
        self.views.first().ok_or_else(|| Error::config("views", 0, expected()))
    }

    /// The batch on `device`.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        ImageViews {
            views: self.views.iter().map(|v| v.to_device(device)).collect(),
            indices: self.indices.to_device(device),
            labels: self.labels.as_ref().map(|labels| labels.to_device(device)),
        }
    }
}

/// Some images with labels and some without, for one step.
#[derive(Debug)]
pub struct LabelledAndUnlabelled {
    /// Images whose labels are learned from: [`labels`](ImageViews::labels) are there.
    pub labelled: ImageViews,
    /// How far each of these labels counts, `[N]` Float from 0 up; 1 where nobody says otherwise.
    pub weights: Tensor,
    /// Images without labels, in as many views as the method asks for, the one that is labelled first; no view where it
    /// asks for none. Labels that are there all the same are for counting how many pseudo-labels are right, and are never
    /// learned from.
    pub unlabelled: ImageViews,
}

impl LabelledAndUnlabelled {
    /// The batch on `device`.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        LabelledAndUnlabelled {
            labelled: self.labelled.to_device(device),
            weights: self.weights.to_device(device),
            unlabelled: self.unlabelled.to_device(device),
        }
    }
}

/// Tiles of images with a label that is known from how they were cut: what a pretext task is learned from.
#[derive(Debug)]
pub struct LabelledTiles {
    /// `K` tiles for each of `M` questions, `[M, K, C, h, w]` Float.
    pub tiles: Tensor,
    /// The answers, `[M]` Int64 in `0..classes` of the [`LabelSpace`].
    pub labels: Tensor,
}

/// What the labels of [`LabelledTiles`] stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelSpace {
    /// What is asked of the tiles, as in `By how much was the image turned?`
    pub question: &'static str,
    /// The tiles of a question, `K`.
    pub tiles: i64,
    /// What each class is, in words.
    pub classes: Vec<String>,
}

impl LabelSpace {
    /// The accuracy of guessing, where all classes are equally frequent.
    pub fn chance(&self) -> f64 {
        1.0 / self.classes.len().max(1) as f64
    }
}

/// A batch of tokenized text, padded to one length.
#[derive(Debug)]
pub struct TokenBatch {
    /// Token ids, `[N, T]` Int64; padding holds the tokenizer's padding id.
    pub tokens: Tensor,
    /// Which word of its text a token belongs to, `[N, T]` Int64; -1 for special tokens and padding, which are never
    /// masked.
    pub words: Tensor,
    /// The samples' positions in the data set, `[N]` Int64.
    pub indices: Tensor,
}

impl TokenBatch {
    /// The batch on `device`.
    #[must_use]
    pub fn to_device(&self, device: Device) -> Self {
        TokenBatch {
            tokens: self.tokens.to_device(device),
            words: self.words.to_device(device),
            indices: self.indices.to_device(device),
        }
    }
}
