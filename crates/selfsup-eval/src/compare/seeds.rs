//! Repetitions with other seeds: the mean with its interval, and whether two methods differ beyond their seeds.
//!
//! ```text
//! paired     t = mean d / (s_d / sqrt n),  d_i = a_i - b_i,  n - 1 degrees of freedom          (Student 1908)
//! unpaired   t = (mean a - mean b) / sqrt(s_a^2/n_a + s_b^2/n_b),  Welch's degrees of freedom          (Welch 1947)
//! ```
//! Paired is right where a seed means the same for both methods: the same split, the same draws of labels. Seeds of a
//! training share nothing between two methods: unpaired. Both take the values to be normal, which a handful cannot show.

use crate::interval::{check_level, student};
use crate::{Interval, IntervalMethod, Mean};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::ContinuousCDF;

/// Whether the values of two methods belong together one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pairing {
    /// The i-th values are of the same split or draw.
    Paired,
    /// They are of trainings of their own.
    Unpaired,
}

/// How two methods differ over repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedTest {
    /// The mean of the first minus that of the second, with its interval.
    pub difference: Mean,
    /// Student's or Welch's t; none where no value varies.
    pub t: Option<f64>,
    /// The degrees of freedom.
    pub freedom: f64,
    /// The two-sided p-value; where no value varies, 1 for equal means and 0 for others.
    pub p_value: f64,
    /// Which test it is.
    pub pairing: Pairing,
}

/// Compares repetitions of two methods by a t-test.
///
/// # Errors
/// When either has fewer than two values, a value is not finite, the level is not between 0 and 1, or values that are paired
/// are not equally many.
pub fn compare_seeds(first: &[f64], second: &[f64], pairing: Pairing, level: f64) -> Result<SeedTest> {
    check_level(level)?;
    for (name, values) in [("first", first), ("second", second)] {
        if values.len() < 2 {
            return Err(Error::config(format!("repetitions of the {name}"), values.len(), "at least two"));
        }
        if let Some(at) = values.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite {
                what: format!("the {name}"),
                detail: format!("in repetition {at}"),
            });
        }
    }
    let (difference, error, freedom) = match pairing {
        Pairing::Paired => {
            if first.len() != second.len() {
                let expected = format!("{}, as they are paired", first.len());
                return Err(Error::config("repetitions of the second", second.len(), expected));
            }
            let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
            let (mean, variance) = moments(&differences);
            (mean, variance, (first.len() - 1) as f64)
        }
        Pairing::Unpaired => {
            let ((a, va), (b, vb)) = (moments(first), moments(second));
            let parts = va * va / (first.len() - 1) as f64 + vb * vb / (second.len() - 1) as f64;
            let most = (first.len() + second.len() - 2) as f64;
            let freedom = if parts > 0.0 { (va + vb).powi(2) / parts } else { most };
            (a - b, va + vb, freedom)
        }
    };
    let error = error.sqrt();
    let distribution = student(freedom)?;
    let half = distribution.inverse_cdf(0.5 * (1.0 + level)) * error;
    let t = (error > 0.0).then(|| difference / error);
    let p_value = match t {
        Some(t) => 2.0 * distribution.cdf(-t.abs()),
        None => f64::from(u8::from(difference == 0.0)),
    };
    let (low, high) = (difference - half, difference + half);
    let interval = Some(Interval { low, high, level, method: IntervalMethod::Student });
    let n = first.len().min(second.len());
    Ok(SeedTest { difference: Mean { value: difference, interval, n }, t, freedom, p_value, pairing })
}

/// The mean and its squared standard error.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0) / n)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: [f64; 5] = [0.912, 0.905, 0.921, 0.899, 0.915];
    const B: [f64; 5] = [0.901, 0.903, 0.907, 0.898, 0.895];

    fn numbers(found: &SeedTest) -> [f64; 5] {
        let interval = found.difference.interval.unwrap();
        [found.t.unwrap(), found.freedom, found.p_value, interval.low, interval.high]
    }

    fn assert_close(found: [f64; 5], expected: [f64; 5]) {
        assert!(
            found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-8),
            "{found:?}\nexpected {expected:?}"
        );
    }

    // for r in scipy.stats.ttest_rel(a, b), scipy.stats.ttest_ind(a, b[:4], equal_var=False):
    //     print(r.statistic, r.df, r.pvalue, *r.confidence_interval(0.95))                             # SciPy 1.17.1
    #[test]
    fn agrees_with_scipy() {
        assert_close(numbers(&compare_seeds(&A, &B, Pairing::Paired, 0.95).unwrap()), PAIRED);
        assert_close(numbers(&compare_seeds(&A, &B[..4], Pairing::Unpaired, 0.95).unwrap()), UNPAIRED);
    }

    const PAIRED: [f64; 5] =
        [2.6564377579799303, 4.0, 0.05660022753419674, -0.00043369001582313493, 0.01963369001582315];
    const UNPAIRED: [f64; 5] = [
        1.9039925448543513,
        5.719648299750223,
        0.10796450457917037,
        -0.0024496687260924382,
        0.01874966872609242,
    ];

    #[test]
    fn exchanging_the_methods_turns_the_sign() {
        for pairing in [Pairing::Paired, Pairing::Unpaired] {
            let (ab, ba) =
                (compare_seeds(&A, &B, pairing, 0.9).unwrap(), compare_seeds(&B, &A, pairing, 0.9).unwrap());
            assert_eq!(ab.difference.value, -ba.difference.value);
            assert!((ab.p_value - ba.p_value).abs() < 1e-12);
        }
    }

    #[test]
    fn values_that_do_not_vary_are_equal_or_not() {
        for pairing in [Pairing::Paired, Pairing::Unpaired] {
            let equal = compare_seeds(&[0.5; 3], &[0.5; 3], pairing, 0.95).unwrap();
            assert_eq!((equal.t, equal.p_value, equal.difference.value), (None, 1.0, 0.0));
            let other = compare_seeds(&[0.75; 3], &[0.5; 3], pairing, 0.95).unwrap();
            assert_eq!((other.t, other.p_value, other.difference.value), (None, 0.0, 0.25));
        }
    }

    #[test]
    fn rejects_repetitions_that_do_not_fit() {
        let error =
            |a: &[f64], b: &[f64]| compare_seeds(a, b, Pairing::Paired, 0.95).unwrap_err().to_string();
        assert_eq!(error(&A, &B[..1]), "repetitions of the second = 1: at least two");
        assert_eq!(error(&A, &B[..3]), "repetitions of the second = 3: 5, as they are paired");
        assert_eq!(error(&[0.1, f64::NAN], &B[..2]), "the first is not finite: in repetition 1");
    }
}
