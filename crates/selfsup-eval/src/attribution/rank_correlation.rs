//! Spearman's rank correlation (1904): Pearson's, of ranks; equal values share the mean of their ranks. Values are scipy's
//! `spearmanr`.

use selfsup_core::{Error, Result};

/// The correlation of the ranks of two series, from -1 to 1; none where one of them is constant.
///
/// # Errors
/// When there are not as many of both, or a value is not finite.
pub fn rank_correlation(a: &[f64], b: &[f64]) -> Result<Option<f64>> {
    if a.len() != b.len() {
        return Err(Error::config("values", b.len(), format!("{}, one for each of the others", a.len())));
    }
    for series in [a, b] {
        if let Some(at) = series.iter().position(|v| !v.is_finite()) {
            return Err(Error::NonFinite { what: "a value".to_owned(), detail: format!("at position {at}") });
        }
    }
    let (a, b) = (ranks(a), ranks(b));
    // Whatever the ties, the mean rank is this.
    let mean = 0.5 * (a.len() as f64 + 1.0);
    let product =
        |x: &[f64], y: &[f64]| -> f64 { x.iter().zip(y).map(|(x, y)| (x - mean) * (y - mean)).sum() };
    let scale = (product(&a, &a) * product(&b, &b)).sqrt();
    Ok((scale > 0.0).then(|| (product(&a, &b) / scale).clamp(-1.0, 1.0)))
}

/// Ranks from 1, the mean of those of equal values.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let mut ranks = vec![0.0; values.len()];
    let mut start = 0;
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let rank = start as f64 + 0.5 * (equal.len() as f64 + 1.0);
        for &i in equal {
            ranks[i] = rank;
        }
        start += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    // scipy.stats.spearmanr([3, 1, 2, 2, 5, -1, 0], [1, 1, 4, 0, 3, 0, -2])     # scipy 1.17
    #[test]
    fn equals_scipys_with_ties() {
        let found =
            rank_correlation(&[3.0, 1.0, 2.0, 2.0, 5.0, -1.0, 0.0], &[1.0, 1.0, 4.0, 0.0, 3.0, 0.0, -2.0]);
        assert!((found.unwrap().unwrap() - 0.651_403_561_033_096_7).abs() < 1e-12);
    }

    #[test]
    fn only_the_order_counts() {
        let a = [0.3, -2.0, 5.0, 1.0, 0.0, -0.0];
        let (cubed, turned) = (a.map(|x: f64| x.powi(3) * 7.0 + 1.0), a.map(|x| -x));
        assert_eq!(rank_correlation(&a, &cubed).unwrap(), Some(1.0));
        assert_eq!(rank_correlation(&a, &turned).unwrap(), Some(-1.0));
    }

    #[test]
    fn a_constant_has_no_order() {
        assert_eq!(rank_correlation(&[1.0, 2.0, 3.0], &[4.0; 3]).unwrap(), None);
        assert_eq!(rank_correlation(&[1.0], &[4.0]).unwrap(), None);
        assert_eq!(rank_correlation(&[], &[]).unwrap(), None);
    }

    #[test]
    fn rejects_values_that_cannot_be_ranked() {
        let error = rank_correlation(&[1.0, 2.0], &[1.0]).unwrap_err().to_string();
        assert_eq!(error, "values = 1: 2, one for each of the others");
        let error = rank_correlation(&[1.0, f64::NAN], &[1.0, 2.0]).unwrap_err().to_string();
        assert_eq!(error, "a value is not finite: at position 1");
    }
}
