//! Labels that a machine gives, and how far to trust them.
//!
//! A [`PretextLabeler`] makes questions whose answers are known out of images that nobody labelled:
//!
//! | labeler | tiles | classes |
//! |---|---|---|
//! | [`Rotation`] | the image, turned | 4 quarter turns |
//! | [`Jigsaw`] | the cells of a grid, shuffled | permutations that are far apart |
//! | [`RelativePosition`] | two neighbours | 8 directions |
//!
//! ```
//! use selfsup_core::{Device, Kind, PretextLabeler, Tensor};
//! use selfsup_labels::{Jigsaw, JigsawConfig};
//!
//! let jigsaw = Jigsaw::new(&JigsawConfig { permutations: 24, ..Default::default() })?;
//! let images = Tensor::rand([2, 3, 36, 36], (Kind::Float, Device::Cpu));
//! let puzzles = jigsaw.label(&images)?;
//! assert_eq!(puzzles.tiles.size(), [2, 9, 3, 10, 10]); // 10 of the 12 pixels of a cell
//! assert_eq!(jigsaw.space().classes[0], "012 345 678"); // in the right order
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! A [`PseudoLabeler`] turns scores into a label and a weight for each sample; a
//! weight of 0 rejects the label. What the scores are, its type says:
//!
//! | labeler | scores | label | weight |
//! |---|---|---|---|
//! | [`Threshold`] | class probabilities | the most probable class | 1 from a probability of `tau` on, else 0 |
//! | [`ClusterLabels`] | features | the k-means cluster | the margin to the second nearest centre |
//! | [`AgglomerativeLabels`] | features | the cluster along the neighbour graph | the share of neighbours with the label |
//! | [`SinkhornLabels`] | logits | the best class when all get equal shares | the share of the sample that it gets |
//! | [`NearestMean`] | features, few labels | the class with the nearest mean | the margin to the second nearest mean |
//! | [`LabelPropagation`], [`LabelSpreading`] | features, few labels | the class that arrives from labelled samples | how certain its distribution is |
//!
//! Few labels are [`FewLabels`]; they keep weight 1.
//!
//! ```
//! use selfsup_core::{FeatureRows, Probabilities, PseudoLabeler, Tensor};
//! use selfsup_labels::{ClusterConfig, ClusterLabels, Threshold, ThresholdConfig};
//! use selfsup_numerics::KMeansConfig;
//!
//! let probabilities = Probabilities::new(&Tensor::from_slice2(&[[0.97_f32, 0.03], [0.4, 0.6]]))?;
//! let found = Threshold::new(ThresholdConfig { tau: 0.95 })?.label(&probabilities)?;
//! assert_eq!(Vec::<i64>::try_from(&found.labels)?, [0, 1]);
//! assert_eq!(Vec::<f64>::try_from(&found.weights)?, [1.0, 0.0]); // not sure of the second
//!
//! let features = Tensor::from_slice2(&[[0.0_f32, 0.0], [0.0, 1.0], [9.0, 9.0], [9.0, 8.0]]);
//! let features = FeatureRows::new(&features)?;
//! let k_means = KMeansConfig { clusters: 2, ..Default::default() };
//! let found = ClusterLabels::new(ClusterConfig { k_means, ..Default::default() })?.label(&features)?;
//! assert_eq!(found.labels.int64_value(&[0]), found.labels.int64_value(&[1]));
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! [`PretextLabeler`]: selfsup_core::PretextLabeler
//! [`PseudoLabeler`]: selfsup_core::PseudoLabeler

mod affinity;
mod agglomerative;
mod cluster;
mod few_labels;
mod jigsaw;
mod label_propagation;
mod label_spreading;
mod nearest_mean;
mod permutations;
mod relative_position;
mod rotation;
mod sinkhorn;
mod threshold;
mod tiles;

pub use affinity::Kernel;
pub use agglomerative::{AgglomerativeLabels, AgglomerativeLabelsConfig};
pub use cluster::{ClusterConfig, ClusterLabels};
pub use few_labels::FewLabels;
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use label_propagation::{LabelPropagation, LabelPropagationConfig};
pub use label_spreading::{LabelSpreading, LabelSpreadingConfig};
pub use nearest_mean::{NearestMean, NearestMeanConfig};
pub use relative_position::{Colour, RelativePosition, RelativePositionConfig};
pub use rotation::{Rotation, RotationConfig};
pub use sinkhorn::{SinkhornLabels, SinkhornLabelsConfig};
pub use threshold::{Threshold, ThresholdConfig};
