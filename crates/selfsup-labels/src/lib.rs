//! Labels that a machine gives, and how far to trust them.
//!
//! A [`PseudoLabeler`] turns scores into a label and a weight for each sample; a
//! weight of 0 rejects the label. What the scores are, its type says:
//!
//! | labeler | scores | label | weight |
//! |---|---|---|---|
//! | [`Threshold`] | class probabilities | the most probable class | 1 from a probability of `tau` on, else 0 |
//! | [`ClusterLabels`] | features | the k-means cluster | the margin to the second nearest centre |
//!
//! # Example
//! ```
//! use selfsup_core::{PseudoLabeler, Tensor};
//! use selfsup_labels::{ClusterConfig, ClusterLabels, Threshold, ThresholdConfig};
//! use selfsup_numerics::KMeansConfig;
//!
//! let probabilities = Tensor::from_slice2(&[[0.97_f32, 0.03], [0.4, 0.6]]);
//! let found = Threshold::new(ThresholdConfig { tau: 0.95 })?.label(&probabilities)?;
//! assert_eq!(Vec::<i64>::try_from(&found.labels)?, [0, 1]);
//! assert_eq!(Vec::<f64>::try_from(&found.weights)?, [1.0, 0.0]); // not sure of the second
//!
//! let features = Tensor::from_slice2(&[[0.0_f32, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]]);
//! let k_means = KMeansConfig { clusters: 2, ..Default::default() };
//! let found = ClusterLabels::new(ClusterConfig { k_means, ..Default::default() })?.label(&features)?;
//! assert_eq!(found.labels.int64_value(&[0]), found.labels.int64_value(&[1]));
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! [`PseudoLabeler`]: selfsup_core::PseudoLabeler

mod cluster;
mod threshold;

pub use cluster::{ClusterConfig, ClusterLabels};
pub use threshold::{Threshold, ThresholdConfig};
