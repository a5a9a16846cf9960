//! Uncertainty and typicality at once (information density, Settles and Craven 2008): samples that the model is unsure of and
//! that stand for many others. Ranks are weighed and not values, which have no common unit.
//!
//! ```text
//! score_i = w rank(uncertainty_i) + (1 - w) rank(typicality_i)        ranks from 0, the least, to 1; equal ones share the mean
//! ```
//! Typicality is the inverse mean distance to the nearest samples without a label, in the whole pool.

use super::pool::{Picks, PredictedPool, Selector};
use super::typiclust::typicality;
use super::uncertainty::Uncertainty;
use selfsup_core::{Error, Result, Tensor, TensorExt};
use serde::{Deserialize, Serialize};

/// Settings of [`WeightedRanks`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WeightedRanksConfig {
    /// How uncertainty is measured.
    pub uncertainty: Uncertainty,
    /// The weight of the uncertainty; 0 asks for typical samples alone, 1 for uncertain ones.
    pub weight: f64,
    /// Neighbours that typicality is measured by.
    pub neighbours: i64,
    /// Whether features are scaled to length 1 first.
    pub normalize: bool,
}

impl Default for WeightedRanksConfig {
    fn default() -> Self {
        WeightedRanksConfig {
            uncertainty: Uncertainty::default(),
            weight: 0.5,
            neighbours: 20,
            normalize: true,
        }
    }
}

/// Proposes samples that are both uncertain and typical.
#[derive(Clone, Debug)]
pub struct WeightedRanks {
    config: WeightedRanksConfig,
}

impl WeightedRanks {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the weight is not in `[0, 1]`, or there is no neighbour.
    pub fn new(config: WeightedRanksConfig) -> Result<WeightedRanks> {
        if !(0.0..=1.0).contains(&config.weight) {
            return Err(Error::config("weight", config.weight, "0 to 1"));
        }
        if config.neighbours < 1 {
            return Err(Error::config("neighbours", config.neighbours, "at least 1"));
        }
        Ok(WeightedRanks { config })
    }
}

impl Selector for WeightedRanks {
    type Pool = PredictedPool;

    fn select_next(&self, n: usize, pool: &PredictedPool) -> Result<Vec<i64>> {
        let picks = Picks::new(n, pool.pool())?;
        let free: Vec<i64> = (0..pool.pool().len()).filter(|&i| picks.is_free(i)).map(|i| i as i64).collect();
        if n == 0 {
            return Ok(Vec::new());
        }
        let features = pool.pool().features().index_select(0, &Tensor::from_slice(&free));
        let features = if self.config.normalize { features.l2_normalize() } else { features };
        let typicality = ranks(&typicality(&features, self.config.neighbours.min(free.len() as i64 - 1))?);
        let uncertainty = self.config.uncertainty.of(pool.probabilities())?;
        let uncertainty = ranks(&free.iter().map(|&i| uncertainty[i as usize]).collect::<Vec<_>>());
        let mut scores = vec![0.0; pool.pool().len()];
        for ((&i, u), t) in free.iter().zip(uncertainty).zip(typicality) {
            scores[i as usize] = self.config.weight * u + (1.0 - self.config.weight) * t;
        }
        Ok(picks.take_by(&scores))
    }
}

/// Ranks from 0 to 1, the mean of theirs for equal values; 0 of a single one.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let last = values.len().saturating_sub(1).max(1) as f64;
    let mut first = 0;
    for group in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let mean = first as f64 + (group.len() - 1) as f64 / 2.0;
        for &i in group {
            ranks[i] = mean / last;
        }
        first += group.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;
    use selfsup_core::{FeatureRows, Probabilities};

    fn select(weight: f64, n: usize) -> Vec<i64> {
        // On a line: a dense middle, two outliers, the last labelled.
        let x = [0.0_f32, 4.9, 5.0, 5.2, 9.0, 5.05];
        let sure = [0.5_f32, 0.9, 0.8, 0.6, 0.7, 0.5];
        let features = FeatureRows::new(&Tensor::from_slice(&x).unsqueeze(1)).unwrap();
        let p = Probabilities::new(&Tensor::from_slice2(&sure.map(|p| [p, 1.0 - p]))).unwrap();
        let pool = PredictedPool::new(Pool::new(&features, &[5]).unwrap(), p).unwrap();
        let config = WeightedRanksConfig { weight, neighbours: 2, normalize: false, ..Default::default() };
        WeightedRanks::new(config).unwrap().select_next(n, &pool).unwrap()
    }

    #[test]
    fn goes_from_typical_to_uncertain() {
        // Mean distances to two neighbours: 4.95, 0.2, 0.15, 0.25, 3.9.
        assert_eq!(select(0.0, 5), [2, 1, 3, 4, 0]);
        assert_eq!(select(1.0, 5), [0, 3, 4, 2, 1]);
        // Ranks of uncertainty 4, 0, 1, 3, 2; of typicality 0, 3, 4, 2, 1: sums 4, 3, 5, 5, 3.
        assert_eq!(select(0.5, 5), [2, 3, 0, 1, 4]);
    }

    #[test]
    fn equal_values_share_a_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 5.0]), [0.5, 0.0, 0.5, 1.0]);
        assert_eq!(ranks(&[2.0, 2.0]), [0.5, 0.5]);
        assert_eq!(ranks(&[7.0]), [0.0]);
        assert_eq!(ranks(&[]), [0.0; 0]);
    }

    #[test]
    fn rejects_settings_out_of_range() {
        let config = WeightedRanksConfig { weight: -0.5, ..Default::default() };
        assert_eq!(WeightedRanks::new(config).unwrap_err().to_string(), "weight = -0.5: 0 to 1");
        assert!(WeightedRanks::new(WeightedRanksConfig { neighbours: 0, ..Default::default() }).is_err());
    }
}
