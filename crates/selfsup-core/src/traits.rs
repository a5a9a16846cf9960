//! The traits that make up a pipeline, in the order in which data passes through them.

use crate::{
    Communicator, Error, Judgement, LabelSpace, LabelledTiles, Pictures, Result, SingleProcess, Tensor, nn,
};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Debug;

/// A collection of samples that can be read by index, from any thread.
pub trait Dataset: Sync {
    /// One sample, in native memory.
    type Item;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the sample at `index`, which is below [`len`](Dataset::len).
    ///
    /// # Errors
    /// When the sample's file is missing or cannot be decoded; the error names it.
    fn get(&self, index: usize) -> Result<Self::Item>;
}

/// A random change of one sample. All its randomness comes from `rng`, so that a sample's view is a function
/// of the key that made the generator.
pub trait Augment<In>: Sync {
    /// What the change makes of a sample.
    type Out;

    /// Applies the change.
    ///
    /// # Errors
    /// When the sample does not fit, for instance an image without pixels.
    fn apply(&self, item: In, rng: &mut crate::Rng) -> Result<Self::Out>;
}

/// The batches of a training run. What a batch holds depends on the epoch and its position alone, so that a run
/// can be taken up in the middle of an epoch.
pub trait Batches {
    /// What an objective takes.
    type Batch;

    /// The number of batches in every epoch.
    fn batches_per_epoch(&self) -> u64;

    /// The batches of `epoch`, leaving out the first `skip` without computing them.
    ///
    /// # Errors
    /// When the reading cannot start. An error inside the iterator is final.
    fn epoch(&self, epoch: u64, skip: u64) -> Result<Box<dyn Iterator<Item = Result<Self::Batch>> + '_>>;

    /// What to call the samples of a batch, for a message about one that went wrong; none where nobody knows.
    fn names(&self, _batch: &Self::Batch) -> Vec<String> {
        Vec::new()
    }
}

/// Whether a network trains (batch statistics, dropout) or is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics are used and recorded; dropout drops.
    Train,
    /// Recorded statistics are used; dropout passes everything.
    Eval,
}

impl Mode {
    /// As the boolean that libtorch's operators take.
    pub fn is_train(self) -> bool {
        self == Mode::Train
    }
}

/// A network from a batch of inputs to one feature vector each.
pub trait Encoder: Debug + Send {
    /// The number of features, `D`.
    fn dim(&self) -> i64;

    /// Encodes a batch.
    ///
    /// # Shapes
    /// `[N, ...]` to `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` is no input of this network.
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor>;

    /// The activations on the way, by name and in order, the features last. Names are those of the parameters
    /// that made them.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode).
    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        Ok(vec![("features".to_owned(), self.encode(x, mode)?)])
    }
}

/// An encoder that keeps one vector per token or patch.
pub trait TokenEncoder: Encoder {
    /// Encodes a batch to tokens. `keep` holds the indices of the tokens `[N, K]` that are to be seen; without it
    /// all are.
    ///
    /// # Shapes
    /// `[N, ...]` to `[N, T, D]`, or `[N, K, D]` with `keep`; a class token, where the network has one, comes first
    /// in addition.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x` or `keep` does not fit.
    fn tokens(&self, x: &Tensor, keep: Option<&Tensor>, mode: Mode) -> Result<Tensor>;
}

/// An encoder that tells where in an image things are: one vector for every place of a grid.
pub trait MapEncoder: Encoder {
    /// The number of channels of the map, `C`.
    fn map_dim(&self) -> i64;

    /// The channels of the images.
    fn channels(&self) -> i64;

    /// Encodes a batch to the last map and, from it, the features that [`encode`](Encoder::encode) returns.
    ///
    /// # Shapes
    /// `[N, ...]` to `[N, C, H', W']` and `[N, D]`.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode).
    fn map(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)>;
}

/// A token encoder whose tokens are the square patches of an image, row by row, with a class token before them.
pub trait PatchEncoder: TokenEncoder + MapEncoder {
    /// The side of a patch in pixels.
    fn patch_size(&self) -> i64;

    /// Encodes a batch in which some patches are hidden: `token` stands in the place of each, at its position.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]`, `mask` `[N, T]` Bool (true: hidden), `token` `[D]`, to `[N, 1 + T, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when `x`, `mask` or `token` does not fit.
    fn tokens_masked(&self, x: &Tensor, mask: &Tensor, token: &Tensor, mode: Mode) -> Result<Tensor>;

    /// The features of tokens.
    ///
    /// # Shapes
    /// `[N, 1 + T, D]` to `[N, D]`.
    fn pool(&self, tokens: &Tensor) -> Tensor;

    /// Shows `see` where the tokens look, block by block, the first block first.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]`; `see` gets probabilities `[N, heads, 1 + T, 1 + T]`, a row for each query.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode).
    fn each_attention(&self, x: &Tensor, see: &mut dyn FnMut(Tensor)) -> Result<()>;

    /// Where the tokens look in the last block.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]` to probabilities `[N, heads, 1 + T, 1 + T]`, a row for each query.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode).
    fn attention(&self, x: &Tensor) -> Result<Tensor> {
        let mut last = None;
        self.each_attention(x, &mut |attention| last = Some(attention))?;
        last.ok_or_else(|| Error::Other("an encoder without blocks looks nowhere".to_owned()))
    }
}

/// An encoder that reads an image pixel by pixel, row by row, each as one colour of a palette, and looks only back.
pub trait PixelEncoder: Encoder {
    /// The colours, `[K, C]`, in the scale of the images: a variable that does not learn by gradient.
    fn palette(&self) -> &Tensor;

    /// Puts other colours in the place of the palette's.
    ///
    /// # Shapes
    /// `[K, C]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more or less.
    fn set_palette(&self, palette: &Tensor) -> Result<()>;

    /// The nearest colour of the palette for every pixel.
    ///
    /// # Shapes
    /// Images `[N, C, S, S]` to `[N, S * S]` Int64.
    ///
    /// # Errors
    /// As [`encode`](Encoder::encode).
    fn quantize(&self, images: &Tensor) -> Result<Tensor>;

    /// What is known of every pixel from those before it, from which it is to be predicted.
    ///
    /// # Shapes
    /// Colours `[N, T]` Int64, T up to S * S, to `[N, T, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are more pixels, or colours that the palette has not.
    fn before_each(&self, tokens: &Tensor, mode: Mode) -> Result<Tensor>;
}

/// A scalar loss and its parts.
#[derive(Debug)]
pub struct Loss {
    /// What is minimised: a scalar with gradient.
    pub total: Tensor,
    /// Named scalars for the log, detached.
    pub parts: Vec<Named>,
}

/// A scalar and what it is called in the log.
pub type Named = (Cow<'static, str>, Tensor);

impl Loss {
    /// A loss without parts.
    pub fn new(total: Tensor) -> Self {
        Loss { total, parts: Vec::new() }
    }

    /// Adds a scalar to the log; it is detached.
    #[must_use]
    pub fn with(mut self, name: impl Into<Cow<'static, str>>, value: &Tensor) -> Self {
        self.parts.push((name.into(), value.detach()));
        self
    }
}

/// Where in a run a step stands.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    /// Optimizer steps done before this one.
    pub step: u64,
    /// Optimizer steps of the whole run.
    pub total: u64,
    /// Epochs done before this one.
    pub epoch: u64,
    /// The run's seed.
    pub seed: u64,
    /// The ranks that train together.
    pub comm: &'a dyn Communicator,
}

impl Step<'static> {
    /// The step of a run on one process.
    pub fn single(step: u64, total: u64, epoch: u64, seed: u64) -> Self {
        Step { step, total, epoch, seed, comm: &SingleProcess }
    }
}

impl Step<'_> {
    /// The part of the run that is done, in `[0, 1)`.
    pub fn progress(&self) -> f64 {
        self.step as f64 / self.total.max(1) as f64
    }
}

/// A pretext task: what an encoder learns from. `E` says which encoders it can train, so that a task that needs
/// tokens does not compile with a network that has none.
pub trait Objective<E: ?Sized> {
    /// What one step takes.
    type Batch;

    /// The loss of one batch, with gradient to the encoder's and the objective's parameters.
    ///
    /// # Errors
    /// When the batch does not fit; nothing has changed then.
    fn loss(&mut self, encoder: &E, batch: &Self::Batch, step: &Step) -> Result<Loss>;

    /// Called after the optimizer's step: moving averages, queues, centres.
    ///
    /// # Errors
    /// As the method says.
    fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
        Ok(())
    }

    /// What the method says of a batch that was not learned from, with the networks applied and not trained: how well the
    /// pretext task itself is solved, what was answered to its questions, how near the samples are to prototypes. A
    /// method that has none of these says nothing.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn judge(&self, _encoder: &E, _batch: &Self::Batch) -> Result<Judgement> {
        Ok(Judgement::default())
    }

    /// Pictures of what the method makes of a batch that was not learned from, where that is something to look at.
    ///
    /// # Errors
    /// When the batch does not fit.
    fn pictures(&self, _encoder: &E, _batch: &Self::Batch) -> Result<Option<Pictures>> {
        Ok(None)
    }
}

/// Makes of images a task whose answer is known, because the images were changed here.
pub trait PretextLabeler: Debug + Send {
    /// What there is to tell apart.
    fn space(&self) -> &LabelSpace;

    /// Cuts tiles out of images and labels them; random draws are from libtorch's generator.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to tiles `[M, K, C, h, w]` and labels `[M]`; K is the space's.
    ///
    /// # Errors
    /// When the images do not fit, or are too small for the tiles.
    fn label(&self, images: &Tensor) -> Result<LabelledTiles>;
}

/// Feature vectors with the labels of their samples.
#[derive(Debug)]
pub struct Features {
    /// The features, `[N, D]` Float on the CPU.
    pub x: Tensor,
    /// The classes, `[N]` Int64 in `0..classes`.
    pub labels: Tensor,
    /// The number of classes.
    pub classes: i64,
}

impl Features {
    /// Checks and holds features and labels.
    ///
    /// # Errors
    /// When the counts differ, a feature is not finite, or a label lies outside `0..classes`.
    pub fn new(x: Tensor, labels: Tensor, classes: i64) -> Result<Self> {
        let [n, _] = crate::check_shape("features", &x, [-1, -1])?;
        crate::check_shape("labels", &labels, [n])?;
        crate::check_kind("labels", &labels, crate::Kind::Int64)?;
        if n == 0 {
            return Err(Error::config("features", "[0, D]", "at least one sample"));
        }
        if i64::try_from(x.isfinite().all())? == 0 {
            let row =
                x.isfinite().all_dim(1, false).logical_not().to_kind(crate::Kind::Int64).argmax(0, false);
            return Err(Error::NonFinite {
                what: "features".into(),
                detail: format!("the first bad row is {}", i64::try_from(row)?),
            });
        }
        let (low, high) = (i64::try_from(labels.min())?, i64::try_from(labels.max())?);
        if low < 0 || high >= classes {
            return Err(Error::config(
                "labels",
                format!("{low}..={high}"),
                format!("classes in 0..{classes}"),
            ));
        }
        Ok(Features { x: x.to_kind(crate::Kind::Float).contiguous(), labels, classes })
    }

    /// The number of samples.
    pub fn len(&self) -> i64 {
        self.x.size()[0]
    }

    /// Whether there are no samples; [`Features::new`] refuses that.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of features per sample.
    pub fn dim(&self) -> i64 {
        self.x.size()[1]
    }

    /// The samples at `indices`, `[K]` Int64.
    #[must_use]
    pub fn select(&self, indices: &Tensor) -> Features {
        Features {
            x: self.x.index_select(0, indices),
            labels: self.labels.index_select(0, indices),
            classes: self.classes,
        }
    }
}

/// A measured value: mean and standard deviation (of the sample, `n - 1`) over `n` repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// The mean.
    pub mean: f64,
    /// The standard deviation; 0 when there is one repetition.
    pub std: f64,
    /// The number of repetitions.
    pub n: usize,
}

impl Score {
    /// The score of repeated measurements; of none it is NaN.
    pub fn of(values: &[f64]) -> Self {
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let std = if n < 2 {
            0.0
        } else {
            (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt()
        };
        Score { mean, std, n }
    }
}

/// What an evaluation found: named scores in order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The scores by name.
    pub scores: Vec<(String, Score)>,
}

/// A judgement of features: fitted on one set, scored on another.
pub trait Evaluator {
    /// Fits on `train` and scores on `test`.
    ///
    /// # Errors
    /// When the two sets do not fit each other or are too small.
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report>;
}
