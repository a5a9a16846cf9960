//! The weighted k-nearest-neighbour classifier of instance discrimination (Wu et al. 2018, section 3.4): features on
//! the unit sphere, cosine similarity `s`, and a vote of weight `exp(s / T)` by each of the `k` nearest training
//! samples. It has nothing to train and nothing to tune, so it follows a run cheaply.
//!
//! Defaults are lightly's, `k` = 200 and `T` = 0.1 (solo-learn: 20 and 0.07; the paper: 200 and 0.07). A training set
//! smaller than `k` votes as a whole. Equal votes go to the lower class, equally near samples to the earlier.

use crate::{Confusion, check_pair};
use selfsup_core::{Error, Evaluator, Features, Kind, Report, Result, Score, Tensor};
use selfsup_numerics::{TopKConfig, top_k};
use serde::{Deserialize, Serialize};

/// How neighbours vote.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnConfig {
    /// The number of neighbours; of a smaller training set, all.
    pub k: i64,
    /// The temperature of the weights: the lower, the more the nearest count.
    pub temperature: f64,
}

impl Default for KnnConfig {
    fn default() -> Self {
        KnnConfig { k: 200, temperature: 0.1 }
    }
}

/// The k-nearest-neighbour classifier.
#[derive(Debug)]
pub struct Knn {
    config: KnnConfig,
}

impl Knn {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When `k` is below 1 or the temperature not above 0.
    pub fn new(config: KnnConfig) -> Result<Knn> {
        if config.k < 1 {
            return Err(Error::config("k", config.k, "at least 1"));
        }
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::config("temperature", config.temperature, "above 0"));
        }
        Ok(Knn { config })
    }

    /// The class of every row of `x` by the vote of its neighbours in `train`.
    ///
    /// # Shapes
    /// `x` `[M, D]` to `[M]` Int64.
    ///
    /// # Errors
    /// When `x` is no finite matrix with as many features as `train`.
    pub fn predict(&self, train: &Features, x: &Tensor) -> Result<Tensor> {
        let search = TopKConfig { k: self.config.k.min(train.len()), ..Default::default() };
        let neighbours = top_k(x, &train.x, &search)?;
        // A constant factor changes no vote: exp((s - 1) / T) cannot overflow.
        let weights = ((neighbours.scores - 1.0) / self.config.temperature).exp(); // [M, k]
        let classes = train.labels.index_select(0, &neighbours.indices.reshape([-1])).reshape_as(&weights);
        let votes = Tensor::zeros([x.size()[0], train.classes], (Kind::Float, weights.device()));
        Ok(votes.scatter_add(1, &classes, &weights).argmax(1, false))
    }

    /// Predicts `test` from `train` and counts.
    ///
    /// # Errors
    /// When the two sets do not fit each other.
    pub fn confusion(&self, train: &Features, test: &Features) -> Result<Confusion> {
        check_pair(train, test)?;
        Confusion::of(&test.labels, &self.predict(train, &test.x)?, test.classes)
    }
}

impl Evaluator for Knn {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        let accuracy = self.confusion(train, test)?.accuracy();
        Ok(Report { scores: vec![("knn".to_owned(), Score::of(&[accuracy]))] })
    }
}
