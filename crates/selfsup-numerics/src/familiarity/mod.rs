//! How much a sample is like those that are known: scores by which what is out of distribution, or an anomaly, is told. The
//! higher, the more familiar.
//!
//! - `energy`: from logits
//! - `mahalanobis`: from features, classes taken as Gaussians
//! - `nearest`: from features, by the distance to the k-th nearest

pub mod energy;
pub mod mahalanobis;
pub mod nearest;
