//! Several tests at once: Holm's correction (Holm 1979), so that the chance of any false alarm stays at the level of one test.
//!
//! ```text
//! p_(1) <= ... <= p_(m)        adjusted p_(i) = max_{j <= i} min(1, (m - j + 1) p_(j))
//! ```
//! It holds whatever the tests have to do with each other, and is never weaker than Bonferroni's.

use selfsup_core::{Error, Result};

/// Adjusted p-values, in the order of the given ones.
///
/// # Errors
/// When one is not in `[0, 1]`.
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(bad) = p_values.iter().find(|p| !(0.0..=1.0).contains(*p)) {
        return Err(Error::config("p-value", bad, "0 to 1"));
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[a].total_cmp(&p_values[b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest = 0.0_f64;
    for (place, &i) in order.iter().enumerate() {
        largest = largest.max((p_values[i] * (p_values.len() - place) as f64).min(1.0));
        adjusted[i] = largest;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use super::*;

    // R 4: p.adjust(c(0.03, 0.01, 0.05, 0.02, 0.04), "holm"), p.adjust(c(0.5, 0.001, 0.4), "holm")
    #[test]
    fn agrees_with_r() {
        let close = |found: Vec<f64>, expected: &[f64]| {
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-12), "{found:?}");
        };
        close(holm(&[0.03, 0.01, 0.05, 0.02, 0.04]).unwrap(), &[0.09, 0.05, 0.09, 0.08, 0.09]);
        close(holm(&[0.5, 0.001, 0.4]).unwrap(), &[0.8, 0.003, 0.8]);
    }

    #[test]
    fn one_test_stays_and_none_is_none() {
        assert_eq!(holm(&[0.04]).unwrap(), [0.04]);
        assert!(holm(&[]).unwrap().is_empty());
        assert_eq!(holm(&[0.9, 0.8]).unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn rejects_what_is_no_chance() {
        assert_eq!(holm(&[0.1, 1.5]).unwrap_err().to_string(), "p-value = 1.5: 0 to 1");
        assert!(holm(&[f64::NAN]).is_err());
    }
}
