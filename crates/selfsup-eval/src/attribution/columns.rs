//! Which columns of a table an encoder, or what stands on it, hangs on.
//!
//! ```text
//! permutation    I_j = s(X) - mean over shuffles of s(X with column j shuffled)        (Breiman 2001; Fisher et al. 2019)
//! integrated     P_j = mean over rows of |IG_j(x)|                                     (Sundararajan et al. 2017)
//! ```
//! The first asks for a measure of all rows, as the accuracy of a probe, and sees nothing of a column whose copy is there as well. The
//! second asks for a score of each row, and for its gradient.

use super::integrated_gradients::{IntegratedGradientsConfig, integrated_gradients};
use super::score::{ScoreFunction, check_inputs};
use crate::Mean;
use rand::seq::SliceRandom;
use selfsup_core::{Error, Key, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// How columns are shuffled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PermutationConfig {
    /// The shuffles of each column.
    pub repeats: usize,
    /// Decides them.
    pub seed: u64,
}

impl Default for PermutationConfig {
    /// Five shuffles, as scikit-learn's `permutation_importance`.
    fn default() -> Self {
        PermutationConfig { repeats: 5, seed: 0 }
    }
}

/// By how much a measure of all rows falls when a column is shuffled, column by column, with Student's interval over the shuffles.
///
/// # Shapes
/// `x` `[N, D]` Float to D means; below 0 where the measure rises.
///
/// # Errors
/// When there are no repeats, `x` or a measure is not finite, and those of `measure`.
pub fn permutation_importance(
    measure: &dyn Fn(&Tensor) -> Result<f64>,
    x: &Tensor,
    config: &PermutationConfig,
) -> Result<Vec<Mean>> {
    check_inputs("x", x)?;
    let [n, d] = check_shape("x", x, [-1, -1])?;
    if config.repeats == 0 {
        return Err(Error::config("repeats", 0, "at least 1"));
    }
    let x = x.detach();
    let finite = |value: f64| {
        if value.is_finite() {
            return Ok(value);
        }
        Err(Error::NonFinite { what: "the measure".to_owned(), detail: value.to_string() })
    };
    let whole = finite(measure(&x)?)?;
    let key = Key::new(config.seed);
    (0..d)
        .map(|column| {
            let fall = |repeat: usize| -> Result<f64> {
                let mut order: Vec<i64> = (0..n).collect();
                order.shuffle(&mut key.with(column as u64).with(repeat as u64).rng());
                let shuffled = x.copy();
                let rows =
                    x.select(1, column).index_select(0, &Tensor::from_slice(&order).to_device(x.device()));
                shuffled.select(1, column).copy_(&rows);
                Ok(whole - finite(measure(&shuffled)?)?)
            };
            Mean::over_repetitions(&(0..config.repeats).map(fall).collect::<Result<Vec<_>>>()?)
        })
        .collect()
}

/// How much each column adds to the scores of rows, in either direction, on average: `[D]` Float.
///
/// # Shapes
/// `x` `[N, D]` Float; `baseline` `[D]`, most often the columns' means.
///
/// # Errors
/// As [`integrated_gradients`].
pub fn column_attributions(
    function: &ScoreFunction,
    x: &Tensor,
    baseline: &Tensor,
    config: &IntegratedGradientsConfig,
) -> Result<Tensor> {
    let [_, d] = check_shape("x", x, [-1, -1])?;
    check_shape("baseline", baseline, [d])?;
    Ok(integrated_gradients(function, x, baseline, config)?.attributions.abs().mean_dim(0, false, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attribution::fixtures::{assert_elements, wave};
    use selfsup_core::{Kind, TensorExt};

    /// Minus the mean squared error of `2 x_0 - x_2`, of which the rows are the truth.
    fn measure(truth: &Tensor) -> impl Fn(&Tensor) -> Result<f64> + '_ {
        move |x: &Tensor| (-(predict(x) - predict(truth)).square().mean(Kind::Double)).scalar()
    }

    fn predict(x: &Tensor) -> Tensor {
        x.select(1, 0) * 2.0 - x.select(1, 2)
    }

    #[test]
    fn shuffling_costs_what_a_column_is_worth() {
        let x = wave(&[4000, 3], 0.37);
        let found = permutation_importance(&measure(&x), &x, &PermutationConfig::default()).unwrap();
        // E (w (x - x'))^2 = 2 w^2 var(x) for independent x, x'.
        let variance = |column: i64| x.select(1, column).var(false).scalar().unwrap();
        for (column, weight) in [(0, 2.0), (2, -1.0)] {
            let expected = 2.0 * weight * weight * variance(column);
            let value = found[column as usize].value;
            assert!((value / expected - 1.0).abs() < 0.05, "{column}: {value}, {expected}");
            assert!(found[column as usize].interval.is_some());
        }
        assert_eq!(found[1].value, 0.0, "the middle column is not looked at");
    }

    // x = np.sin(np.arange(24) ** 1.5 * 0.37).astype(np.float32).reshape(8, 3); y = f(x)
    // f = lambda x: 2 * x[:, 0] - x[:, 2] + x[:, 0] * x[:, 1]; an estimator whose predict is f
    // permutation_importance(it, x, y, scoring="neg_mean_squared_error", n_repeats=40000, random_state=0).importances_mean
    #[test]
    fn agrees_with_scikit_learn_on_average_over_many_shuffles() {
        let x = wave(&[8, 3], 0.37);
        let f = |x: &Tensor| predict(x) + x.select(1, 0) * x.select(1, 1);
        let truth = f(&x);
        let measure = |x: &Tensor| (-(f(x) - &truth).square().mean(Kind::Double)).scalar();
        let config = PermutationConfig { repeats: 8000, seed: 0 };
        let found = permutation_importance(&measure, &x, &config).unwrap();
        for (found, expected) in found.iter().zip(SKLEARN) {
            // Four standard errors of theirs and of ours.
            assert!((found.value / expected - 1.0).abs() < 0.03, "{found:?}, expected {expected}");
            let interval = found.interval.unwrap();
            assert!(interval.low < expected * 1.01 && expected * 0.99 < interval.high, "{found:?}");
        }
    }

    const SKLEARN: [f64; 3] = [2.80529772, 0.28454922, 0.66773251];

    #[test]
    fn shuffles_are_a_function_of_the_seed() {
        let x = wave(&[50, 3], 0.37);
        let of = |seed| {
            let config = PermutationConfig { repeats: 3, seed };
            permutation_importance(&measure(&x), &x, &config).unwrap()
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }

    #[test]
    fn a_linear_score_has_its_weights_times_the_distances_from_the_baseline() {
        let (x, baseline) = (wave(&[20, 3], 0.37), wave(&[3], 0.9));
        let found =
            column_attributions(&|x| Ok(predict(x)), &x, &baseline, &IntegratedGradientsConfig::default())
                .unwrap();
        let distances = (&x - &baseline).abs().mean_dim(0, false, None);
        let expected = distances * Tensor::from_slice(&[2.0_f32, 0.0, 1.0]);
        assert_elements(&found, &Vec::<f64>::try_from(expected.to_kind(Kind::Double)).unwrap(), 1e-5);
    }

    #[test]
    fn rejects_tables_and_measures_that_cannot_work() {
        let x = wave(&[20, 3], 0.37);
        let none = PermutationConfig { repeats: 0, seed: 0 };
        let error = permutation_importance(&measure(&x), &x, &none).unwrap_err().to_string();
        assert_eq!(error, "repeats = 0: at least 1");
        let config = PermutationConfig::default();
        let error = permutation_importance(&|_| Ok(f64::NAN), &x, &config).unwrap_err().to_string();
        assert_eq!(error, "the measure is not finite: NaN");
        let error = permutation_importance(&measure(&x), &(&x / 0.0), &config).unwrap_err().to_string();
        assert!(error.starts_with("x is not finite"), "{error}");
        let steps = IntegratedGradientsConfig::default();
        let error =
            column_attributions(&|x| Ok(predict(x)), &x, &wave(&[2], 0.1), &steps).unwrap_err().to_string();
        assert_eq!(error, "baseline: expected [3], found [2]");
    }
}
