//! Probes, retrieval and feature health: how good a representation is, judged from its features alone.
//!
//! Everything here takes [`Features`], vectors with labels on the CPU, and knows nothing of the network or the
//! training that made them.
//!
//! | question | answer |
//! |---|---|
//! | what does a linear classifier reach? | [`LinearProbe`]: logistic regression to convergence, strength chosen on held-out training samples |
//! | and with ten labels a class? | [`FewLabelProbe`]: the same over many draws, with its spread |
//! | are neighbours of one class? | [`Knn`]: the weighted vote of the nearest, nothing to train |
//! | all of these at once | [`Suite`] |
//! | have the features collapsed? | [`feature_health`]: no labels, cheap enough for every line of a log |
//! | are two views close, and all samples spread? | [`alignment`], [`uniformity`] |
//! | what is taken for what? | [`Confusion`] |
//! | what does a probe say of samples that it has not learned from? | [`CrossProbe`] |
//! | how well does a score find what is sought? | [`Ranking`] |
//! | what lies near a sample, and how do all lie? | [`nearest_neighbours`], [`map_2d`] |
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

mod confusion;
mod cross_probe;
mod few_label;
mod health;
mod insight;
mod knn;
mod lbfgs;
mod linear_probe;
mod logistic;
mod ranking;
mod split;
mod standardise;
mod suite;

pub use confusion::Confusion;
pub use cross_probe::{CrossPrediction, CrossProbe, CrossProbeConfig};
pub use few_label::{FewLabelClassifier, FewLabelConfig, FewLabelProbe};
pub use health::{FeatureHealth, Verdict, alignment, feature_health, rank_me, uniformity};
pub use insight::{Neighbourhood, map_2d, nearest_neighbours};
pub use knn::{Knn, KnnConfig};
pub use linear_probe::{LinearOutcome, LinearProbe, LinearProbeConfig, PathPoint};
pub use logistic::{Logistic, LogisticConfig};
pub use ranking::Ranking;
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
