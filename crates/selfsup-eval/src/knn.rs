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
        // A factor per query changes no vote; with that of its nearest, no temperature makes all weights 0 or infinite.
        let scores = &neighbours.scores;
        let weights = ((scores - scores.narrow(1, 0, 1)) / self.config.temperature).exp(); // [M, k]
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};
    use selfsup_core::Device;

    fn knn(k: i64, temperature: f64) -> Knn {
        Knn::new(KnnConfig { k, temperature }).unwrap()
    }

    fn thirty() -> (Features, Features) {
        let labels: Vec<i64> = (0..30).map(|i| i * 7 % 5 % 3).collect();
        let all = Features::new(formula(30, 4), Tensor::from_slice(&labels), 3).unwrap();
        let range = |a, b| Tensor::arange_start(a, b, (Kind::Int64, Device::Cpu));
        (all.select(&range(0, 20)), all.select(&range(20, 30)))
    }

    // x = torch.sin(torch.arange(120.).double() ** 1.5 * 0.37).reshape(30, 4).float(); y = torch.arange(30) * 7 % 5 % 3
    // n = torch.nn.functional.normalize(x, dim=1)
    // lightly.utils.benchmarking.knn.knn_predict(n[20:], n[:20].T, y[:20], 3, k, T)[:, 0]
    #[test]
    fn agrees_with_lightly() {
        let (train, test) = thirty();
        let predict = |k, t| Vec::<i64>::try_from(knn(k, t).predict(&train, &test.x).unwrap()).unwrap();
        assert_eq!(predict(6, 0.1), [0, 0, 0, 2, 0, 2, 0, 0, 0, 1]);
        assert_eq!(predict(20, 0.5), [1, 0, 0, 1, 0, 1, 0, 0, 0, 1]);
        assert_eq!(predict(200, 0.5), predict(20, 0.5), "a k above the set takes the set");
    }

    #[test]
    fn agrees_with_a_loop() {
        let (train, test) = (clouds(50, 4, 0.5), clouds(23, 4, 0.5));
        let (x, y) =
            (Vec::<Vec<f64>>::try_from(&train.x).unwrap(), Vec::<i64>::try_from(&train.labels).unwrap());
        let found = Vec::<i64>::try_from(knn(7, 0.2).predict(&train, &test.x).unwrap()).unwrap();
        let length = |a: &[f64]| a.iter().map(|v| v * v).sum::<f64>().sqrt();
        for (q, found) in Vec::<Vec<f64>>::try_from(&test.x).unwrap().iter().zip(found) {
            let mut near: Vec<(f64, i64)> = x
                .iter()
                .zip(&y)
                .map(|(k, &y)| {
                    (q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (length(q) * length(k)), y)
                })
                .collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let mut votes = [0.0; 4];
            near[..7].iter().for_each(|(s, y)| votes[*y as usize] += (s / 0.2).exp());
            let best = (0..4).max_by(|&a, &b| votes[a].total_cmp(&votes[b])).unwrap();
            assert_eq!(found, best as i64);
        }
    }

    #[test]
    fn duplicates_vote_together_and_equal_votes_go_to_the_lower_class() {
        let x = Tensor::from_slice2(&[[1.0_f32, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]);
        let train = Features::new(x.shallow_clone(), Tensor::from_slice(&[2_i64, 1, 2, 1]), 3).unwrap();
        let predict = |k| knn(k, 0.1).predict(&train, &x.narrow(0, 0, 1)).unwrap().int64_value(&[0]);
        assert_eq!((predict(1), predict(2), predict(3), predict(4)), (2, 1, 2, 1));
    }

    #[test]
    fn at_a_low_temperature_the_nearest_decides() {
        let (train, test) = thirty();
        let nearest = knn(1, 0.1).predict(&train, &test.x).unwrap();
        assert_eq!(knn(20, 1e-7).predict(&train, &test.x).unwrap(), nearest);
    }

    #[test]
    fn one_class_is_always_right() {
        let train = Features::new(formula(5, 2), Tensor::from_slice(&[0_i64; 5]), 1).unwrap();
        assert_eq!(knn(200, 0.1).evaluate(&train, &train).unwrap().scores[0].1.mean, 1.0);
    }

    #[test]
    fn rejects_bad_configurations_and_sets() {
        let error = Knn::new(KnnConfig { k: 0, temperature: 0.1 }).unwrap_err().to_string();
        assert_eq!(error, "k = 0: at least 1");
        let error = Knn::new(KnnConfig { k: 1, temperature: 0.0 }).unwrap_err().to_string();
        assert_eq!(error, "temperature = 0: above 0");
        let (train, _) = thirty();
        let error = knn(5, 0.1).evaluate(&train, &clouds(9, 3, 1.0)).unwrap_err().to_string();
        assert_eq!(error, "test features: expected [_, 4], found [9, 3]");
        let error = knn(5, 0.1).predict(&train, &(formula(2, 4) / 0.0)).unwrap_err().to_string();
        assert!(error.starts_with("queries is not finite"), "{error}");
    }
}
