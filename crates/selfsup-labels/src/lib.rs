//! Labels that a machine gives, and how far to trust them.
//!
//! A [`PretextLabeler`] makes questions whose answers are known out of images that nobody labelled:
//!
//! | labeler | tiles | classes |
//! |---|---|---|
//! | [`Rotation`] | the image, turned | 4 quarter turns |
//! | [`Jigsaw`] | the cells of a grid, shuffled | permutations that are far apart |
//! | [`RelativePosition`] | two neighbours | 8 directions |
//! | [`ViewIdentity`] | the views of a batch | which other view is of the same sample |
//!
//! [`ColourClasses`] labels not images but their places: with the 313 bins of colour that colorization tells of a grey image.
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
//! | [`FlexMatch`] | class probabilities of known samples | the most probable class | 1 from the class's threshold on, lower for classes learned less |
//! | [`FreeMatch`] | class probabilities | the most probable class | 1 from the class's threshold on, all following the model's confidence |
//! | [`SoftMatch`] | class probabilities | the most probable class | a truncated Gaussian of the confidence |
//! | [`ClassBalanced`] | class probabilities | the most probable class | 1 for the surest of each class |
//! | [`DistributionAlignment`] | class probabilities | their distribution, pulled to a target and sharpened | 1 |
//! | [`Aligned`] | class probabilities | another labeler's, after alignment | the other labeler's |
//! | [`MixMatch`] | class probabilities of K views | their mean, sharpened | 1 |
//! | [`TemporalEnsemble`] | class probabilities of known samples | the running mean of a sample's predictions | 1 from a probability of `tau` on, else 0 |
//! | [`Consistency`] | class probabilities of K views or models | their mean | how much these agree |
//! | [`LabelAudit`] | given labels and class probabilities | the given one | 0 where the model is sure of another, else 1 |
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
//! How far to trust a model, and what of its labels to believe:
//!
//! | question | answer |
//! |---|---|
//! | are its confidences true? | [`calibration()`]; [`TemperatureScaling`] makes them so, where a temperature does ([`BestTemperature`]) |
//! | do views, or models, agree? | [`Agreement`] |
//! | which given labels are wrong? | [`LabelAudit`], from the [`ConfidentJoint`]; [`PlantedNoise`] tells how well that works |
//! | how probable is it that a given label is right? | [`NoisyScaling`], which also makes confidences true where labels are wrong |
//! | is a sample like the labelled ones? | a [`Detector`] on [`MaxSoftmax`], [`Energy`], [`NearestLabelled`] or [`Mahalanobis`] |
//! | what does a threshold cost and gain? | [`Coverage`], [`class_precision`] |
//!
//! A [`Selector`] proposes what to label next, never a sample that is labelled, and copies of one last:
//!
//! | selector | proposes |
//! |---|---|
//! | [`Uncertainty`] | what the model is least sure of |
//! | [`CoreSet`] | what is farthest from all labelled samples |
//! | [`TypiClust`] | typical samples of clusters without labels: for the first labels of all |
//! | [`ClusterUncertainty`] | the least sure sample of each such cluster |
//! | [`WeightedRanks`] | what is both unsure and typical |
//!
//! ```
//! use selfsup_core::{FeatureRows, Tensor};
//! use selfsup_labels::{CoreSet, Pool, Selector};
//!
//! let features = FeatureRows::new(&Tensor::from_slice2(&[[0.0_f32], [1.0], [5.0], [6.0]]))?;
//! let pool = Pool::new(&features, &[0])?; // the first is labelled
//! assert_eq!(CoreSet {}.select_next(2, &pool)?, [3, 1]); // the farthest; then of two that are as near the first
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! [`PretextLabeler`]: selfsup_core::PretextLabeler
//! [`PseudoLabeler`]: selfsup_core::PseudoLabeler

mod affinity;
mod agglomerative;
mod cluster;
mod colour_classes;
mod few_labels;
mod jigsaw;
mod label_propagation;
mod label_spreading;
mod memory;
mod nearest_mean;
mod permutations;
mod relative_position;
mod reliability;
mod rotation;
mod rows;
mod scores;
mod selection;
mod sinkhorn;
mod thresholds;
mod tiles;
mod view_identity;

pub use affinity::{Graph, Kernel};
pub use agglomerative::{AgglomerativeLabels, AgglomerativeLabelsConfig};
pub use cluster::{ClusterConfig, ClusterLabels};
pub use colour_classes::{ColourClasses, ColourClassesConfig, ColourLabels};
pub use few_labels::FewLabels;
pub use jigsaw::{Jigsaw, JigsawConfig};
pub use label_propagation::{LabelPropagation, LabelPropagationConfig};
pub use label_spreading::{LabelSpreading, LabelSpreadingConfig};
pub use nearest_mean::{NearestMean, NearestMeanConfig};
pub use relative_position::{Colour, RelativePosition, RelativePositionConfig};
pub use reliability::agreement::Agreement;
pub use reliability::calibration::{Binning, Calibration, CalibrationConfig, CurvePoint, calibration};
pub use reliability::confident_joint::ConfidentJoint;
pub use reliability::consistency::{Consistency, ConsistencyConfig, ConsistencyMeasure};
pub use reliability::coverage::{ClassPrecision, Coverage, CoveragePoint, class_precision};
pub use reliability::label_audit::{
    AuditReport, Filter, LabelAudit, LabelAuditConfig, Quality, label_quality,
};
pub use reliability::noisy_scaling::NoisyScaling;
pub use reliability::out_of_distribution::detector::{Detector, Familiarity};
pub use reliability::out_of_distribution::energy::Energy;
pub use reliability::out_of_distribution::mahalanobis::Mahalanobis;
pub use reliability::out_of_distribution::max_softmax::MaxSoftmax;
pub use reliability::out_of_distribution::nearest_labelled::NearestLabelled;
pub use reliability::planted_noise::PlantedNoise;
pub use reliability::temperature_scaling::{BestTemperature, TemperatureScaling};
pub use reliability::temporal_ensemble::{TemporalEnsemble, TemporalEnsembleConfig};
pub use rotation::{Rotation, RotationConfig};
pub use scores::{IndexedProbabilities, LabelledProbabilities, ProbabilityStack};
pub use selection::cluster_uncertainty::{ClusterUncertainty, ClusterUncertaintyConfig};
pub use selection::core_set::CoreSet;
pub use selection::pool::{Pool, PredictedPool, Selector};
pub use selection::typiclust::{TypiClust, TypiClustConfig};
pub use selection::uncertainty::Uncertainty;
pub use selection::weighted_ranks::{WeightedRanks, WeightedRanksConfig};
pub use sinkhorn::{SinkhornLabels, SinkhornLabelsConfig};
pub use thresholds::class_balanced::{ClassBalanced, ClassBalancedConfig, Keep};
pub use thresholds::confidence::sharpen;
pub use thresholds::distribution_alignment::{
    Aligned, DistributionAlignment, DistributionAlignmentConfig, Target,
};
pub use thresholds::fairness::self_adaptive_fairness;
pub use thresholds::flexmatch::{FlexMatch, FlexMatchConfig, Mapping};
pub use thresholds::freematch::{FreeMatch, FreeMatchConfig};
pub use thresholds::mixmatch::{MixMatch, MixMatchConfig};
pub use thresholds::softmatch::{SoftMatch, SoftMatchConfig};
pub use thresholds::threshold::{Threshold, ThresholdConfig};
pub use view_identity::{ViewIdentity, ViewIdentityConfig};
