//! View identity: which of all other views of a batch shows the same sample? The labels of contrastive learning.
//!
//! Chen, Kornblith, Norouzi and Hinton 2020, *A Simple Framework for Contrastive Learning of Visual Representations*,
//! section 2.1: of the 2N views of N samples, all first views and then all second ones, each has one positive, and the other
//! 2(N - 1) are negatives:
//!
//! ```text
//! label_i = (i + N) mod 2N
//! ```
//! NT-Xent is the cross-entropy of these labels, where the logits of a view are its similarities to all others (a test of
//! `selfsup-objectives` holds the two together). The classes are the places of a batch, so that its size is a setting.

use selfsup_core::{Error, Kind, LabelSpace, LabelledTiles, PretextLabeler, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// Settings of [`ViewIdentity`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewIdentityConfig {
    /// N, the samples of a batch; 4096 (section 2.2).
    pub samples: i64,
}

impl Default for ViewIdentityConfig {
    fn default() -> Self {
        ViewIdentityConfig { samples: 4096 }
    }
}

const QUESTION: &str = "Which other view of the batch shows the same sample?";

/// Labels each view of a batch by the other view of its sample.
#[derive(Debug)]
pub struct ViewIdentity {
    space: LabelSpace,
    samples: i64,
}

impl ViewIdentity {
    /// Checks the settings.
    ///
    /// # Errors
    /// [`Error::Config`] when there are less than two samples: a single one has no negative.
    pub fn new(config: &ViewIdentityConfig) -> Result<Self> {
        let samples = config.samples;
        if samples < 2 {
            return Err(Error::config("samples", samples, "at least 2, so that there are negatives"));
        }
        let of = |view: i64| (0..samples).map(move |sample| format!("view {view} of sample {sample}"));
        let classes = of(0).chain(of(1)).collect();
        Ok(ViewIdentity { space: LabelSpace { question: QUESTION, tiles: 1, classes }, samples })
    }
}

impl PretextLabeler for ViewIdentity {
    /// The classes are the 2N views. A view is never its own positive, so that guessing is right once in 2N - 1 times.
    fn space(&self) -> &LabelSpace {
        &self.space
    }

    /// Views `[2N, C, H, W]`, all first ones and then all second ones, to `[2N, 1, C, H, W]` as they are, and the place of
    /// each one's positive.
    ///
    /// # Errors
    /// When there are other than 2N views.
    fn label(&self, images: &Tensor) -> Result<LabelledTiles> {
        let [views, _, _, _] = check_shape("images", images, [2 * self.samples, -1, -1, -1])?;
        let places = Tensor::arange(views, (Kind::Int64, images.device()));
        Ok(LabelledTiles { tiles: images.unsqueeze(1), labels: places.roll(self.samples, 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    fn labeler(samples: i64) -> ViewIdentity {
        ViewIdentity::new(&ViewIdentityConfig { samples }).unwrap()
    }

    #[test]
    fn the_positive_of_a_view_is_the_other_view_of_its_sample() {
        for samples in [2, 3, 8] {
            let images =
                Tensor::arange(2 * samples * 4, (Kind::Float, Device::Cpu)).reshape([2 * samples, 1, 2, 2]);
            let labeler = labeler(samples);
            let found = labeler.label(&images).unwrap();
            assert_eq!(found.tiles, images.unsqueeze(1));
            for i in 0..2 * samples {
                let positive = found.labels.int64_value(&[i]);
                assert_eq!(positive, if i < samples { i + samples } else { i - samples });
                assert_eq!(found.labels.int64_value(&[positive]), i);
                let name = |i: i64| labeler.space().classes[i as usize].clone();
                let (own, other) = (name(i), name(positive));
                assert_ne!(own, other);
                assert_eq!(own.split(" of ").nth(1), other.split(" of ").nth(1));
            }
        }
    }

    #[test]
    fn rejects_batches_of_another_size() {
        let images = Tensor::zeros([5, 1, 2, 2], (Kind::Float, Device::Cpu));
        let error = labeler(3).label(&images).unwrap_err().to_string();
        assert_eq!(error, "images: expected [6, _, _, _], found [5, 1, 2, 2]");
        let error = ViewIdentity::new(&ViewIdentityConfig { samples: 1 }).unwrap_err().to_string();
        assert_eq!(error, "samples = 1: at least 2, so that there are negatives");
    }
}
