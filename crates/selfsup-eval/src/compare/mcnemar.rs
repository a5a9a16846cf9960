//! McNemar's test: do two classifiers err equally often on the same samples? (McNemar 1947)
//!
//! ```text
//! b = samples that only the first has right      c = samples that only the second has right
//! p = P[|X - (b + c)/2| >= |b - c|/2],  X ~ Binomial(b + c, 1/2)                exact, two-sided
//! statistic = (|b - c| - 1)^2 / (b + c)                                  with Edwards' correction (1948)
//! ```
//! What both have right, or both wrong, says nothing about which is better. The p-value is the exact one for any number of
//! samples; the statistic is for comparison with other programs.

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use statrs::distribution::{Binomial, DiscreteCDF};

/// What McNemar's test found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Samples that only the first classifier has right.
    pub only_first: u64,
    /// Samples that only the second has right.
    pub only_second: u64,
    /// The exact two-sided p-value; 1 where they never differ.
    pub p_value: f64,
    /// The chi-squared statistic with continuity correction; 0 where they never differ.
    pub statistic: f64,
    /// The samples.
    pub n: usize,
}

/// Tests whether answers of two classifiers, right or wrong on the same samples, are equally often right.
///
/// # Errors
/// When there are not as many of one as of the other, or none.
pub fn mcnemar(first: &[bool], second: &[bool]) -> Result<McNemar> {
    if first.len() != second.len() {
        let expected = format!("{}, as many as of the first", first.len());
        return Err(Error::config("answers of the second", second.len(), expected));
    }
    if first.is_empty() {
        return Err(Error::config("answers", "none", "at least one"));
    }
    let count =
        |which: [bool; 2]| first.iter().zip(second).filter(|(a, b)| [**a, **b] == which).count() as u64;
    let (only_first, only_second) = (count([true, false]), count([false, true]));
    let differ = only_first + only_second;
    if differ == 0 {
        return Ok(McNemar { only_first, only_second, p_value: 1.0, statistic: 0.0, n: first.len() });
    }
    let binomial = Binomial::new(0.5, differ)
        .map_err(|error| Error::config("samples that differ", differ, error.to_string()))?;
    let p_value = (2.0 * binomial.cdf(only_first.min(only_second))).min(1.0);
    let apart = only_first.abs_diff(only_second) as f64;
    let statistic = (apart - 1.0).powi(2) / differ as f64;
    Ok(McNemar { only_first, only_second, p_value, statistic, n: first.len() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test(both: usize, only_first: usize, only_second: usize, neither: usize) -> McNemar {
        let answers = |counts: [(bool, usize); 4]| -> Vec<bool> {
            counts.into_iter().flat_map(|(right, count)| vec![right; count]).collect()
        };
        let first = answers([(true, both), (true, only_first), (false, only_second), (false, neither)]);
        let second = answers([(true, both), (false, only_first), (true, only_second), (false, neither)]);
        mcnemar(&first, &second).unwrap()
    }

    // [scipy.stats.binomtest(b, b + c, 0.5).pvalue for b, c in [(3, 12), (12, 3), (7, 7), (0, 1), (150, 210), (5, 6)]]
    // the same as statsmodels.stats.contingency_tables.mcnemar(exact=True)                            # SciPy 1.17.1
    #[test]
    fn agrees_with_scipys_binomial_test() {
        let pairs = [(3, 12), (12, 3), (7, 7), (0, 1), (150, 210), (5, 6)];
        for ((b, c), expected) in pairs.into_iter().zip(SCIPY) {
            let found = test(20, b, c, 4);
            assert!((found.p_value - expected).abs() < 1e-9 * expected, "{found:?}, expected {expected}");
            assert_eq!((found.only_first, found.only_second, found.n), (b as u64, c as u64, 24 + b + c));
        }
    }

    const SCIPY: [f64; 6] = [0.03515625, 0.03515625, 1.0, 1.0, 0.001834007417096482, 1.0];

    #[test]
    fn has_the_statistic_of_the_formula() {
        assert!((test(5, 3, 12, 5).statistic - 64.0 / 15.0).abs() < 1e-12);
        assert!((test(5, 12, 3, 0).statistic - 64.0 / 15.0).abs() < 1e-12);
    }

    #[test]
    fn classifiers_that_never_differ_are_alike() {
        let found = test(9, 0, 0, 3);
        assert_eq!((found.p_value, found.statistic), (1.0, 0.0));
    }

    #[test]
    fn rejects_answers_that_do_not_fit() {
        let error = mcnemar(&[true, false], &[true]).unwrap_err().to_string();
        assert_eq!(error, "answers of the second = 1: 2, as many as of the first");
        assert_eq!(mcnemar(&[], &[]).unwrap_err().to_string(), "answers = none: at least one");
    }
}
