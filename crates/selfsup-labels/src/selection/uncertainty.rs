//! Uncertainty sampling (Lewis and Gale 1994; Settles 2009, section 3.1): ask about what the model knows least.
//!
//! ```text
//! least confident: 1 - p_(1)        margin: 1 - (p_(1) - p_(2))        entropy: -sum_c p_c ln p_c
//! ```
//! with `p_(1) >= p_(2)` the two highest probabilities. With two classes all three give one order.

use super::pool::{Picks, PredictedPool, Selector};
use crate::rows::Rows;
use selfsup_core::{Probabilities, Result};
use serde::{Deserialize, Serialize};

/// Proposes the samples that a model is least sure of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Uncertainty {
    /// By the probability of the most probable class.
    LeastConfident,
    /// By its distance from the second: asks at the border of two classes, whatever the others.
    #[default]
    Margin,
    /// By the entropy in nats: asks where all classes are possible.
    Entropy,
}

impl Uncertainty {
    /// How unsure predictions are, `N` numbers, 0 or above.
    ///
    /// # Errors
    /// None but libtorch's.
    pub fn of(self, probabilities: &Probabilities) -> Result<Vec<f64>> {
        let of = |row: &[f32]| {
            // Sorted, so that the same probabilities in another order have the same sum to the last bit.
            let mut p: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
            p.sort_by(|a, b| b.total_cmp(a));
            match self {
                Uncertainty::LeastConfident => 1.0 - p[0],
                Uncertainty::Margin => 1.0 - (p[0] - p.get(1).unwrap_or(&0.0)),
                Uncertainty::Entropy => p.iter().filter(|&&p| p > 0.0).map(|p| -p * p.ln()).sum(),
            }
        };
        Ok(Rows::of(probabilities.tensor())?.iter().map(of).collect())
    }
}

impl Selector for Uncertainty {
    type Pool = PredictedPool;

    fn select_next(&self, n: usize, pool: &PredictedPool) -> Result<Vec<i64>> {
        Ok(Picks::new(n, pool.pool())?.take_by(&self.of(pool.probabilities())?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;
    use selfsup_core::{Device, FeatureRows, Kind, Tensor};

    const P: [[f32; 3]; 5] =
        [[0.4, 0.4, 0.2], [0.5, 0.25, 0.25], [0.34, 0.33, 0.33], [0.9, 0.1, 0.0], [0.2, 0.4, 0.4]];

    fn pool(labelled: &[i64]) -> PredictedPool {
        let features = Tensor::arange(5, (Kind::Float, Device::Cpu)).unsqueeze(1);
        let pool = Pool::new(&FeatureRows::new(&features).unwrap(), labelled).unwrap();
        PredictedPool::new(pool, Probabilities::new(&Tensor::from_slice2(&P)).unwrap()).unwrap()
    }

    #[test]
    fn asks_what_each_measure_finds_least_sure() {
        let next = |uncertainty: Uncertainty| uncertainty.select_next(5, &pool(&[])).unwrap();
        // Samples 0 and 4 have the same probabilities in another order.
        assert_eq!(next(Uncertainty::LeastConfident), [2, 0, 4, 1, 3]);
        assert_eq!(next(Uncertainty::Margin), [0, 4, 2, 1, 3]);
        assert_eq!(next(Uncertainty::Entropy), [2, 0, 4, 1, 3]);
        assert_eq!(Uncertainty::Margin.select_next(2, &pool(&[0, 2])).unwrap(), [4, 1]);
    }

    #[test]
    fn equals_the_formulas() {
        let p = Probabilities::new(&Tensor::from_slice2(&P)).unwrap();
        let entropy = Uncertainty::Entropy.of(&p).unwrap();
        for (row, found) in P.iter().zip(entropy) {
            let expected: f64 =
                row.iter().map(|&p| f64::from(p)).filter(|&p| p > 0.0).map(|p| -p * p.ln()).sum();
            assert!((found - expected).abs() < 1e-12);
        }
        assert!((Uncertainty::Margin.of(&p).unwrap()[1] - 0.75).abs() < 1e-6);
        assert!((Uncertainty::LeastConfident.of(&p).unwrap()[3] - 0.1).abs() < 1e-6);
    }

    #[test]
    fn two_classes_have_one_order() {
        let rows: Vec<[f32; 2]> = [0.9, 0.55, 0.3, 0.48, 0.05].map(|p| [p, 1.0 - p]).to_vec();
        let p = Probabilities::new(&Tensor::from_slice2(&rows)).unwrap();
        let order = |u: Uncertainty| {
            let scores = u.of(&p).unwrap();
            let mut order: Vec<usize> = (0..5).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            order
        };
        assert_eq!(order(Uncertainty::Margin), [3, 1, 2, 0, 4]);
        assert_eq!(order(Uncertainty::Margin), order(Uncertainty::Entropy));
        assert_eq!(order(Uncertainty::Margin), order(Uncertainty::LeastConfident));
    }

    #[test]
    fn one_class_is_always_sure() {
        let p = Probabilities::new(&Tensor::ones([2, 1], (Kind::Float, Device::Cpu))).unwrap();
        for uncertainty in [Uncertainty::LeastConfident, Uncertainty::Margin, Uncertainty::Entropy] {
            assert_eq!(uncertainty.of(&p).unwrap(), [0.0, 0.0]);
        }
    }
}
