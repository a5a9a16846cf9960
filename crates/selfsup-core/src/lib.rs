//! What every selfsup crate shares: libtorch's tensors with checked shapes, the traits that make up a
//! pipeline, keyed randomness, and the parameter store's way to and from safetensors.
//!
//! The crate re-exports [`tch`], so that a program and all selfsup crates hold the same libtorch, and adds
//! what tch lacks. It puts no wrapper around [`Tensor`] and abstracts over no backend.
//!
//! | module | holds |
//! |---|---|
//! | [`traits`] | [`Dataset`], [`Augment`], [`Batches`], [`Encoder`] and what more it may be ([`TokenEncoder`], [`MapEncoder`], [`PatchEncoder`], [`PixelEncoder`]), [`Objective`], [`PretextLabeler`], [`Evaluator`] |
//! | [`pseudo`] | [`PseudoLabeler`] and what it takes and gives: [`Logits`], [`Probabilities`], [`FeatureRows`], [`PseudoLabels`], [`Reason`] |
//! | [`judgement`] | what an objective says of a batch that was not learned from: numbers, answers, prototypes, pictures |
//! | [`site`] | [`Site`]: what an objective is built from |
//! | [`batch`] | the batches that data crates make and objectives take |
//! | [`tensor`] | [`check_shape`], [`TensorExt`], bridges to and from native memory |
//! | [`layers`] | linear, convolution, norms and embedding with PyTorch's initialisation and names |
//! | [`heads`] | projectors and predictors |
//! | [`transformer`] | attention and the pre-norm block, for encoders and for decoders and predictors |
//! | [`state`] | named tensors in safetensors files, validated before anything is allocated |
//! | [`random`] | [`Key`]: every random draw is a function of where it is made |
//! | [`ema`] | a teacher as the moving average of a student |
//! | [`comm`] | ranks: gathering with gradient, reducing |
//! | [`device`] | where a run computes |
//!
//! # Example
//! An objective of one's own needs nothing but this crate:
//! ```
//! use selfsup_core::{Encoder, Loss, Mode, Objective, Result, Step, Tensor, check_shape};
//!
//! /// Pulls all features to unit length.
//! struct UnitLength;
//!
//! impl<E: Encoder + ?Sized> Objective<E> for UnitLength {
//!     type Batch = Tensor;
//!     fn loss(&mut self, encoder: &E, batch: &Tensor, _step: &Step) -> Result<Loss> {
//!         check_shape("batch", batch, [-1, 3])?;
//!         let z = encoder.encode(batch, Mode::Train)?; // [N, D]
//!         Ok(Loss::new((z.square().sum_dim_intlist(1, false, None) - 1.0).square().mean(None)))
//!     }
//! }
//! ```

pub mod batch;
pub mod comm;
pub mod device;
pub mod ema;
mod error;
pub mod heads;
pub mod judgement;
pub mod layers;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod mkl;
pub mod precision;
pub mod pseudo;
pub mod random;
pub mod site;
pub mod state;
pub mod tensor;
pub mod traits;
pub mod transformer;

pub use tch::{self, Device, Kind, Tensor, nn};

pub use batch::{ImageViews, LabelSpace, LabelledAndUnlabelled, LabelledTiles, TokenBatch};
pub use comm::{Communicator, SingleProcess};
pub use ema::Ema;
pub use error::{Error, Result};
pub use heads::{HeadNorm, MlpHead, MlpHeadConfig};
pub use judgement::{Answers, Judgement, Number, PictureScale, PictureSet, Pictures, Prototypes};
pub use precision::Precision;
pub use pseudo::{FeatureRows, Logits, Probabilities, PseudoLabeler, PseudoLabels, Reason};
pub use random::{Key, Rng};
pub use site::Site;
pub use tensor::{TensorExt, check_kind, check_shape};
pub use traits::{
    Augment, Batches, Dataset, Encoder, Evaluator, Features, Loss, MapEncoder, Mode, Named, Objective,
    PatchEncoder, PixelEncoder, PretextLabeler, Report, Score, Step, TokenEncoder,
};
