//! Two models on the same test samples: how far apart they are, and whether that could be chance.
//!
//! ```text
//! d_i = a_i - b_i     difference = mean d
//! interval   quantiles of mean(d*) over samples d* drawn with replacement                          (Efron 1979)
//! p          share of sign vectors s with |mean(s d)| >= |mean d|                          (Fisher 1935; Pitman 1937)
//! ```
//! Both are paired: what makes a sample hard for both models cancels. The permutation test is exact, over all `2^m` sign
//! vectors of the `m` samples that differ, where these are no more than the resamples; otherwise it draws, and counts the
//! observed one among them, `p = (1 + hits) / (1 + resamples)` (Phipson and Smyth 2010), so that no p is 0.
//!
//! A small p says that the difference would be rare if the two were alike *on these trained models*: another training may
//! differ more. For that, compare seeds.

use crate::interval::{LEVEL, check_level, percentiles, resampled_means};
use crate::{Interval, Mean};
use rand::Rng as _;
use selfsup_core::{Error, Key, Result};
use serde::{Deserialize, Serialize};

/// How two models are compared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PairedConfig {
    /// The draws of the bootstrap and of the permutation test.
    pub resamples: usize,
    /// The level of the interval.
    pub level: f64,
    /// Decides the draws.
    pub seed: u64,
}

impl Default for PairedConfig {
    fn default() -> Self {
        PairedConfig { resamples: 10_000, level: LEVEL, seed: 0 }
    }
}

/// How two models differ on the same samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Paired {
    /// The mean of the first minus that of the second, with the bootstrap's interval.
    pub difference: Mean,
    /// The share of bootstrap draws in which the first is better; draws that are equal count half.
    pub first_better: f64,
    /// The two-sided p-value of the permutation test.
    pub p_value: f64,
    /// Whether that is over all sign vectors.
    pub exact: bool,
    /// The draws and their seed.
    pub config: PairedConfig,
}

/// Compares values of two models on the same samples: 1 and 0 for right and wrong, or any score of a sample.
///
/// # Errors
/// When there are not as many of one as of the other, fewer than two, a value is not finite, or the configuration cannot work.
pub fn paired(first: &[f64], second: &[f64], config: &PairedConfig) -> Result<Paired> {
    check_level(config.level)?;
    let differences = differences(first, second)?;
    let n = differences.len();
    let key = Key::new(config.seed);
    let means = resampled_means(&differences, config.resamples, key.with(0))?;
    let wins: f64 = means.iter().map(|m| if *m == 0.0 { 0.5 } else { f64::from(u8::from(*m > 0.0)) }).sum();
    let interval: Interval = percentiles(&means, config.level);
    let (p_value, exact) = permutation(&differences, config.resamples, key.with(1));
    Ok(Paired {
        difference: Mean { value: differences.iter().sum::<f64>() / n as f64, interval: Some(interval), n },
        first_better: wins / means.len() as f64,
        p_value,
        exact,
        config: config.clone(),
    })
}

fn differences(first: &[f64], second: &[f64]) -> Result<Vec<f64>> {
    if first.len() != second.len() {
        let expected = format!("{}, as many as of the first", first.len());
        return Err(Error::config("values of the second", second.len(), expected));
    }
    if first.len() < 2 {
        return Err(Error::config("values", first.len(), "at least two"));
    }
    let differences: Vec<f64> = first.iter().zip(second).map(|(a, b)| a - b).collect();
    if let Some(at) = differences.iter().position(|d| !d.is_finite()) {
        return Err(Error::NonFinite { what: "a value".to_owned(), detail: format!("of sample {at}") });
    }
    Ok(differences)
}

/// The p-value, and whether it is exact.
fn permutation(differences: &[f64], resamples: usize, key: Key) -> (f64, bool) {
    // The sign of a difference of 0 changes nothing.
    let moving: Vec<f64> = differences.iter().copied().filter(|d| *d != 0.0).collect();
    let observed = moving.iter().sum::<f64>().abs();
    // Sums that are equal but for the order of adding count as equal.
    let reached = observed * (1.0 - 1e-12) - f64::MIN_POSITIVE;
    let signed = |sum: f64, d: f64, minus: bool| if minus { sum - d } else { sum + d };
    if moving.len() < 63 && 1_u64 << moving.len() <= resamples as u64 {
        let all = 1_u64 << moving.len();
        let sum = |signs: u64| {
            moving.iter().enumerate().fold(0.0, |sum, (i, &d)| signed(sum, d, signs >> i & 1 == 1))
        };
        let hits = (0..all).filter(|&signs| sum(signs).abs() >= reached).count();
        return (hits as f64 / all as f64, true);
    }
    let hits = (0..resamples)
        .filter(|&resample| {
            let mut rng = key.with(resample as u64).rng();
            let sum = moving.chunks(64).fold(0.0, |sum, chunk| {
                let signs: u64 = rng.next_u64();
                chunk.iter().enumerate().fold(sum, |sum, (i, &d)| signed(sum, d, signs >> i & 1 == 1))
            });
            sum.abs() >= reached
        })
        .count();
    ((1 + hits) as f64 / (1 + resamples) as f64, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sin(0.37 i^1.5) + shift
    fn wave(n: i32, shift: f64) -> Vec<f64> {
        (0..n).map(|i| (f64::from(i).powf(1.5) * 0.37).sin() + shift).collect()
    }

    // a = np.sin(np.arange(12) ** 1.5 * 0.37) + 0.4; b = a[::-1] * 0.5; m = lambda a, b: np.mean(a - b)
    // scipy.stats.permutation_test((a, b), m, permutation_type="samples", n_resamples=np.inf).pvalue  # SciPy 1.17.1
    #[test]
    fn the_exact_permutation_test_agrees_with_scipy() {
        let a = wave(12, 0.4);
        let b: Vec<f64> = a.iter().rev().map(|v| v * 0.5).collect();
        let found = paired(&a, &b, &PairedConfig::default()).unwrap();
        assert!(found.exact && (found.p_value - EXACT).abs() < 1e-12, "{found:?}");
    }

    // a = np.sin(np.arange(300) ** 1.5 * 0.37) + 0.1; b = np.roll(a, 7) * 0.9
    // scipy.stats.permutation_test((a, b), m, permutation_type="samples", n_resamples=100_000, rng=0).pvalue
    // scipy.stats.bootstrap((a, b), m, paired=True, method="percentile", n_resamples=100_000, rng=0).confidence_interval
    #[test]
    fn drawn_tests_and_intervals_agree_with_scipy_up_to_the_draws() {
        let a = wave(300, 0.1);
        let b: Vec<f64> = (0..300).map(|i| a[(i + 293) % 300] * 0.9).collect();
        let found = paired(&a, &b, &PairedConfig { resamples: 20_000, ..Default::default() }).unwrap();
        assert!(!found.exact && (found.p_value - DRAWN[0]).abs() < 0.015, "{found:?}");
        let interval = found.difference.interval.unwrap();
        assert!(
            (interval.low - DRAWN[1]).abs() < 5e-3 && (interval.high - DRAWN[2]).abs() < 5e-3,
            "{found:?}"
        );
    }

    const EXACT: f64 = 0.2080078125;
    const DRAWN: [f64; 3] = [0.8125518744812552, -0.09869101896083231, 0.12624740726512138];

    #[test]
    fn the_drawn_p_value_is_near_the_exact_one() {
        let (a, b) = (wave(14, 0.3), wave(14, 0.0).into_iter().rev().collect::<Vec<_>>());
        let exact = paired(&a, &b, &PairedConfig { resamples: 1 << 14, ..Default::default() }).unwrap();
        let drawn = paired(&a, &b, &PairedConfig { resamples: (1 << 14) - 1, ..Default::default() }).unwrap();
        assert!(exact.exact && !drawn.exact);
        assert!((exact.p_value - drawn.p_value).abs() < 0.015, "{} {}", exact.p_value, drawn.p_value);
    }

    #[test]
    fn models_that_are_alike_do_not_differ_and_exchanging_them_turns_the_sign() {
        let a = wave(40, 0.0);
        let same = paired(&a, &a, &PairedConfig::default()).unwrap();
        assert_eq!((same.difference.value, same.p_value, same.first_better), (0.0, 1.0, 0.5));
        let b: Vec<f64> = a.iter().map(|v| v * v).collect();
        let (ab, ba) = (
            paired(&a, &b, &PairedConfig::default()).unwrap(),
            paired(&b, &a, &PairedConfig::default()).unwrap(),
        );
        assert!((ab.difference.value + ba.difference.value).abs() < 1e-12);
        assert_eq!(ab.p_value, ba.p_value);
        let (x, y) = (ab.difference.interval.unwrap(), ba.difference.interval.unwrap());
        assert!((x.low + y.high).abs() < 1e-12);
    }

    #[test]
    fn a_constant_gain_is_certain() {
        let a = wave(30, 0.0);
        let b: Vec<f64> = a.iter().map(|v| v - 0.2).collect();
        let found = paired(&a, &b, &PairedConfig::default()).unwrap();
        assert!(found.p_value < 2e-4 && found.first_better == 1.0, "{found:?}");
    }

    #[test]
    fn rejects_values_that_do_not_fit() {
        let error = |a: &[f64], b: &[f64], config| paired(a, b, &config).unwrap_err().to_string();
        let config = PairedConfig::default;
        assert_eq!(
            error(&[1.0, 0.0], &[1.0], config()),
            "values of the second = 1: 2, as many as of the first"
        );
        assert_eq!(error(&[1.0], &[1.0], config()), "values = 1: at least two");
        assert_eq!(error(&[1.0, 0.0], &[1.0, f64::NAN], config()), "a value is not finite: of sample 1");
        let none = PairedConfig { resamples: 0, ..config() };
        assert_eq!(error(&[1.0, 0.0], &[1.0, 1.0], none), "resamples = 0: at least 1");
    }
}
