//! Probes, retrieval and feature health for judging a representation.

mod confusion;
mod few_label;
pub mod health;
pub mod insight;
mod knn;
mod lbfgs;
mod linear_probe;
mod logistic;
mod split;
mod standardise;
mod suite;

pub use confusion::Confusion;
pub use few_label::{FewLabelConfig, FewLabelProbe};
pub use health::{FeatureHealth, Verdict, alignment, feature_health, rank_me, uniformity};
pub use insight::{Neighbourhood, map_2d, nearest_neighbours};
pub use knn::{Knn, KnnConfig};
pub use linear_probe::{LinearOutcome, LinearProbe, LinearProbeConfig, PathPoint};
pub use logistic::{Logistic, LogisticConfig};
pub use suite::{Suite, SuiteConfig, SuiteOutcome};

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
