//! Learning to classify from a few labels and many images without.
//!
//! All take [`LabelledAndUnlabelled`] and send labelled and unlabelled images through
//! the encoder in one pass, so that BatchNorm has one statistic for both. Each keeps a moving average of the weights, which
//! is the classifier that comes out ([`SemiSupervised::classify`]). What labels the unlabelled images is a
//! [`StepLabeler`](labeler::StepLabeler) that the program hands in, and what it remembers is in the checkpoint.

pub mod classifier;
pub mod curriculum;
pub mod distilled_classifier;
pub mod labeler;
pub mod labelled_only;
pub mod mean_teacher;
pub mod mix_match;
pub mod mixing;
pub mod pseudo_labelling;
pub mod ramp;

pub(crate) mod parts;

use selfsup_core::{LabelledAndUnlabelled, Objective, Result, Tensor};

/// An objective from which a classifier comes out.
pub trait SemiSupervised<E: ?Sized>: Objective<E, Batch = LabelledAndUnlabelled> {
    /// What the averaged weights say of images that were not learned from.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]` to logits `[N, classes]`.
    ///
    /// # Errors
    /// When the images are no input of the encoder.
    fn classify(&self, images: &Tensor) -> Result<Tensor>;
}
