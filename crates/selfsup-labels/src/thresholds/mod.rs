//! Labels from predictions: which to trust, and how much.

pub mod class_balanced;
pub mod confidence;
pub mod distribution_alignment;
pub mod fairness;
pub mod flexmatch;
pub mod freematch;
pub mod mixmatch;
pub mod softmatch;
pub mod threshold;

#[cfg(test)]
pub(crate) mod course;
