//! Samples that are unlike all that the labels are about: scores of how familiar a sample is, and a threshold on them.

pub mod detector;
pub mod energy;
pub mod mahalanobis;
pub mod max_softmax;
pub mod nearest_labelled;
