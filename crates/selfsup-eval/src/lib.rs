//! Probes, retrieval and feature health: how good a representation is, judged from its features alone.
//!
//! Everything here takes [`Features`], vectors with labels on the CPU, and knows nothing of the network or the
//! training that made them.
//!
//! | question | answer |
//! |---|---|
//! | what does a linear classifier reach? | [`LinearProbe`]: logistic regression to convergence, strength chosen on held-out training samples |
//! | and with ten labels a class? | [`FewLabelProbe`]: the same over many draws, with its spread |
//! | and with 1, 5, 10, 50? | [`label_curve()`]: nested draws, each fit from the one before |
//! | with several labels a sample, or numbers? | [`MultiLabelProbe`], [`RegressionProbe`] |
//! | are neighbours of one class? | [`Knn`]: the weighted vote of the nearest, nothing to train |
//! | does a search find the class? | [`retrieval()`]: mAP, precision, recall, hit rate and nDCG, ties in expectation |
//! | do clusters agree with classes? | [`cluster_agreement()`]: accuracy, NMI, AMI, ARI, V-measure |
//! | all of these at once | [`Suite`] |
//! | and all that follows | [`full_suite()`] |
//! | and without labels | [`label_free()`] |
//! | have the features collapsed? | [`feature_health`]: no labels, cheap enough for every line of a log |
//! | do samples differ more than their views? | [`lidar()`] |
//! | how does the variance fall, layer by layer? | [`layer_spectra()`], [`alpha_req()`] |
//! | are two views close, and all samples spread? | [`alignment`], [`uniformity`] |
//! | is what was never seen told from what was? | [`outliers()`]: k-NN, Mahalanobis, energy by AUROC, AP, FPR95 |
//! | what does a disturbed input cost? | [`robustness()`]: accuracy kept, mCE; [`attack()`]: FGSM, PGD |
//! | where in an image is what? | [`Confusion::segmentation`]: mIoU; [`detection()`]: COCO's average precision |
//! | does it know what is where? | [`SegmentationProbe`]: a linear head on feature maps |
//! | and where things are? | [`DetectionProbe`]: linear functions of feature maps, [`nms()`] |
//! | is the class in some of the tokens? | [`AttentiveProbe`]: one query looks at them |
//! | is one encoder better, or luckier? | [`paired()`], [`mcnemar()`], [`compare_seeds()`], [`holm()`] |
//! | how alike are two networks' layers? | [`cka()`], [`cka_map()`] |
//! | what is taken for what? | [`Confusion`] |
//! | what does a probe say of samples that it has not learned from? | [`CrossProbe`] |
//! | how well does a score find what is sought? | [`Ranking`] |
//! | what lies near a sample, and how do all lie? | [`nearest_neighbours`], [`map_2d`] |
//! | what do clusters hold, and what fits them least? | [`cluster_members()`] |
//! | where in an image does the answer come from? | [`integrated_gradients()`], [`grad_cam()`], [`occlusion()`], [`AttentionRollout`] |
//! | which patches are alike? | [`patch_colours()`] |
//! | does a map show what was learned? | [`sanity_check()`] |
//! | which columns of a table count? | [`permutation_importance()`], [`column_attributions()`] |
//!
//! A score means little alone. Run the same suite on the raw input and on the same encoder untrained, and compare.
//!
//! # Example
//! ```
//! use selfsup_core::{Features, Kind, Device, Tensor};
//! use selfsup_eval::{FewLabelConfig, Suite, SuiteConfig, feature_health};
//!
//! // Three classes, each around a direction of its own.
//! selfsup_core::tch::manual_seed(0);
//! let features = |n: i64| {
//!     let labels = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(3);
//!     let x = labels.one_hot(3).to_kind(Kind::Float) + Tensor::randn([n, 3], (Kind::Float, Device::Cpu)) * 0.2;
//!     Features::new(x, labels, 3)
//! };
//! let (train, test) = (features(300)?, features(90)?);
//!
//! let config = SuiteConfig { few_label: FewLabelConfig { draws: 5, ..Default::default() }, ..Default::default() };
//! let found = Suite::new(config)?.run(&train, &test, &mut |stage| println!("{}: {}/{}", stage.name, stage.done, stage.total))?;
//! for (name, score) in &found.report.scores {
//!     println!("{name}: {:.3} +- {:.3}", score.mean, score.std); // linear, few10, knn
//!     assert!(score.mean > 0.9);
//! }
//! println!("the linear probe chose C = {}", found.linear.c);
//!
//! let health = feature_health(&train.x)?;
//! println!("{}; {:.1} effective dimensions of {}", health.verdict, health.rank_me, train.dim());
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! Everything is deterministic: draws and splits are functions of a seed in the configuration.

mod attribution;
mod axes;
mod cluster_agreement;
mod cluster_members;
mod compare;
mod confusion;
mod contingency;
mod cross_probe;
mod dense;
mod few_label;
mod full_suite;
mod group_jackknife;
mod health;
mod insight;
mod interval;
mod knn;
mod label_free;
mod lbfgs;
mod lidar;
mod linear_classifier;
mod linear_probe;
mod logistic;
mod measurement;
mod novel_classes;
mod outliers;
mod probe;
mod ranking;
mod retrieval;
mod robustness;
mod set_health;
mod sought;
mod spectrum;
mod split;
mod standardise;
mod strengths;
mod suite;

pub use attribution::attention_rollout::AttentionRollout;
pub use attribution::columns::{PermutationConfig, column_attributions, permutation_importance};
pub use attribution::grad_cam::{Sign, grad_cam, interpolate};
pub use attribution::integrated_gradients::{
    IntegratedGradients, IntegratedGradientsConfig, Quadrature, integrated_gradients, sum_channels,
};
pub use attribution::occlusion::{OcclusionConfig, occlusion};
pub use attribution::patch_colours::{PatchColours, patch_colours};
pub use attribution::rank_correlation::rank_correlation;
pub use attribution::sanity::{CHANGES, MapVerdict, STAYS, SanityCheck, sanity_check, sanity_definition};
pub use attribution::score::{MapFunction, ScoreFunction};
pub use attribution::similarity::Similarity;
pub use attribution::ssim::ssim;
pub use cluster_agreement::{ClusterAgreement, cluster_agreement};
pub use cluster_members::{ClusterMembers, ClusterMembersConfig, cluster_members, members_of};
pub use compare::cka::{CkaMap, Estimator, cka, cka_map};
pub use compare::holm::holm;
pub use compare::mcnemar::{McNemar, mcnemar};
pub use compare::paired::{Paired, PairedConfig, paired};
pub use compare::seeds::{Pairing, SeedTest, compare_seeds};
pub use confusion::Confusion;
pub use cross_probe::{CrossPrediction, CrossProbe, CrossProbeConfig};
pub use dense::boxes::Rectangle;
pub use dense::detection::{BoxKind, Detection, FoundBox, ImageBoxes, TrueBox, detection};
pub use dense::nms::nms;
pub use dense::segmentation::Segmentation;
pub use few_label::{FewLabelClassifier, FewLabelConfig, FewLabelProbe};
pub use full_suite::{Clustering, FullOutcome, FullSuiteConfig, full_suite, pair_of_views};
pub use health::{FeatureHealth, Verdict, alignment, feature_health, rank_me, uniformity};
pub use insight::{Neighbourhood, map_2d, nearest_neighbours};
pub use interval::{Interval, IntervalMethod, LEVEL, Mean};
pub use knn::{Knn, KnnConfig};
pub use label_free::{ClusterSilhouette, LabelFree, LabelFreeConfig, label_free};
pub use lidar::{LIDAR_DELTA, lidar};
pub use linear_classifier::LinearClassifier;
pub use linear_probe::{LinearOutcome, LinearProbe, LinearProbeConfig, PathPoint};
pub use logistic::{Logistic, LogisticConfig};
pub use measurement::Measurement;
pub use novel_classes::{NovelClasses, NovelClassesConfig, novel_classes};
pub use outliers::{
    OutlierConfig, OutlierDetection, Outliers, Sources, outlier_detection, outliers, outliers_by_source,
};
pub use probe::attentive::{AttentiveConfig, AttentiveOutcome, AttentiveProbe, LabelledTokens};
pub use probe::detection::{
    BoxedMaps, DetectionLevel, DetectionOutcome, DetectionProbe, DetectionProbeConfig,
};
pub use probe::label_curve::{LabelCurve, LabelCurveConfig, LabelCurvePoint, label_curve};
pub use probe::multi_label::{MultiLabelOutcome, MultiLabelPoint, MultiLabelProbe, MultiLabelled};
pub use probe::regression::{RegressionConfig, RegressionOutcome, RegressionProbe, RegressionSet};
pub use probe::segmentation::{
    LabelledMaps, SegmentationOutcome, SegmentationProbe, SegmentationProbeConfig,
};
pub use retrieval::search::{ApproximateSearch, Retrieval, RetrievalAt, RetrievalConfig, retrieval};
pub use robustness::attack::{AttackConfig, AttackOutcome, Classifier, Norm, attack, attacked_accuracy};
pub use robustness::corruption::{Accuracies, Robustness, robustness};
pub use robustness::label_noise::{LabelNoise, LabelNoiseConfig, LabelNoisePoint, label_noise};
pub use robustness::resampled::{ResampledRobustness, RightAnswers, accuracy_kept, resampled_robustness};
pub use set_health::{SetHealth, SetHealthConfig};
pub use sought::Ranking;
pub use spectrum::{LayerSpectrum, PowerLaw, PowerLawConfig, alpha_req, layer_spectra};
pub use standardise::Standardiser;
pub use suite::{Stage, Suite, SuiteConfig, SuiteOutcome};

use selfsup_core::{Error, Features, Result, check_shape};

/// Checks that a test set fits its training set.
fn check_pair(train: &Features, test: &Features) -> Result<()> {
    check_shape("test features", &test.x, [-1, train.dim()])?;
    if train.classes != test.classes {
        return Err(Error::config(
            "test classes",
            test.classes,
            format!("{}, as in the training set", train.classes),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod fixtures {
    use selfsup_core::{Device, Features, Kind, Tensor};

    /// sin(0.37 i^1.5), row by row, `[n, d]` Float.
    pub fn formula(n: i64, d: i64) -> Tensor {
        let i = Tensor::arange(n * d, (Kind::Double, Device::Cpu));
        (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, d]).to_kind(Kind::Float)
    }

    /// `n` samples of `classes` classes in turn, each class `distance` from the others in noise of the formula.
    pub fn clouds(n: i64, classes: i64, distance: f64) -> Features {
        let labels = Tensor::arange(n, (Kind::Int64, Device::Cpu)).remainder(classes);
        let x = labels.one_hot(classes).to_kind(Kind::Float) * distance + formula(n, classes);
        Features::new(x, labels, classes).unwrap()
    }
}
