//! How compact clusters are beside how far apart they lie, from their means alone.
//!
//! ```text
//! Calinski and Harabasz 1974:  sum_k n_k |c_k - c|^2 / (K - 1)  over  sum_i |x_i - c_l(i)|^2 / (N - K)
//! Davies and Bouldin 1979:     mean_k max_j (S_k + S_j) / |c_k - c_j|,    S_k = mean distance of cluster k's samples to c_k
//! ```
//! Both are scikit-learn 1.9's, in 64 bits: the first is 1 when no sample lies off its mean; the second leaves out means
//! that coincide, and is 0 when no sample lies off its mean or all means coincide.

use crate::clusters::{Clusters, Spread};
use crate::finite_matrix;
use rayon::prelude::*;
use selfsup_core::tensor::with_slice;
use selfsup_core::{Device, Result, Tensor};

/// The score of Calinski and Harabasz: the higher, the better the clusters are separated.
///
/// # Shapes
/// `x` `[N, D]`, `labels` `[N]` Int64 of any values.
///
/// # Errors
/// When `x` is no finite matrix, the labels do not fit it, or they name fewer than 2 or more than `N - 1` clusters.
pub fn calinski_harabasz(x: &Tensor, labels: &Tensor) -> Result<f64> {
    let spreads = spreads(x, labels)?;
    let n: f64 = spreads.iter().map(|spread| spread.count).sum();
    let mut mean = vec![0.0; spreads[0].mean.len()];
    for spread in &spreads {
        mean.iter_mut().zip(&spread.mean).for_each(|(mean, v)| *mean += v * spread.count / n);
    }
    let between: f64 = spreads.iter().map(|s| s.count * distance(&s.mean, &mean).powi(2)).sum();
    let within: f64 = spreads.iter().map(|spread| spread.squares).sum();
    let clusters = spreads.len() as f64;
    Ok(if within == 0.0 { 1.0 } else { between * (n - clusters) / (within * (clusters - 1.0)) })
}

/// The index of Davies and Bouldin: the lower, the better the clusters are separated.
///
/// # Shapes
/// `x` `[N, D]`, `labels` `[N]` Int64 of any values.
///
/// # Errors
/// As [`calinski_harabasz`].
pub fn davies_bouldin(x: &Tensor, labels: &Tensor) -> Result<f64> {
    let spreads = spreads(x, labels)?;
    let worst = |spread: &Spread| {
        let likeness = |other: &Spread| {
            let apart = distance(&spread.mean, &other.mean);
            if apart == 0.0 { 0.0 } else { (spread.distance + other.distance) / apart }
        };
        spreads.iter().map(likeness).fold(0.0, f64::max)
    };
    let worst: Vec<f64> = spreads.par_iter().map(worst).collect();
    Ok(worst.iter().sum::<f64>() / spreads.len() as f64)
}

fn spreads(x: &Tensor, labels: &Tensor) -> Result<Vec<Spread>> {
    let (x, [n, d]) = finite_matrix("x", x)?;
    let clusters = Clusters::new(labels, n)?;
    with_slice(&x.to_device(Device::Cpu).contiguous(), |x: &[f32]| clusters.spreads(x, d as usize))
}

fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Kind;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    fn both(x: &Tensor, labels: &[i64]) -> (f64, f64) {
        let labels = Tensor::from_slice(labels);
        (calinski_harabasz(x, &labels).unwrap(), davies_bouldin(x, &labels).unwrap())
    }

    // x = np.sin(np.arange(180).reshape(60, 3) ** 1.5 * 0.37);  labels = np.arange(60) ** 2 % 7
    // calinski_harabasz_score(x, labels), davies_bouldin_score(x, labels); again with labels[7] = 9   # scikit-learn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let x = formula(60, 3);
        let mut labels: Vec<i64> = (0..60).map(|i| i * i % 7).collect();
        let (ch, db) = both(&x, &labels);
        assert!((ch - 1.0346110272797588).abs() < 1e-6 && (db - 9.336718479054072).abs() < 1e-5, "{ch} {db}");
        labels[7] = 9; // a cluster of one
        let (ch, db) = both(&x, &labels);
        assert!((ch - 1.046700491151597).abs() < 1e-6 && (db - 7.640521824137748).abs() < 1e-5, "{ch} {db}");
    }

    #[test]
    fn two_pairs_on_a_line_have_the_scores_of_the_formulas() {
        // Means 0 and 10, samples 1 off: between 100, within 4; (1 + 1) / 10.
        let x = Tensor::from_slice(&[-1.0_f32, 1.0, 9.0, 11.0]).unsqueeze(1);
        assert_eq!(both(&x, &[0, 0, 1, 1]), (100.0 / (4.0 / 2.0), 0.2));
    }

    #[test]
    fn do_not_depend_on_place_scale_and_names() {
        let x = formula(60, 3);
        let labels: Vec<i64> = (0..60).map(|i| i * i % 7).collect();
        let renamed: Vec<i64> = labels.iter().map(|l| 100 - l).collect();
        let (a, b) = (both(&x, &labels), both(&(x * 3.0 - 2.0), &renamed));
        assert!((a.0 - b.0).abs() < 1e-4 && (a.1 - b.1).abs() < 1e-4, "{a:?} {b:?}");
    }

    #[test]
    fn samples_on_their_means_have_the_scores_of_scikit_learn() {
        let x = Tensor::from_slice(&[1.0_f32, 1.0, 4.0, 4.0]).unsqueeze(1);
        assert_eq!(both(&x, &[0, 0, 1, 1]), (1.0, 0.0));
        // Means that coincide: calinski_harabasz_score 0.0, davies_bouldin_score 0.0
        assert_eq!(both(&x, &[0, 1, 0, 1]), (0.0, 0.0));
    }

    #[test]
    fn reject_one_cluster_and_as_many_as_samples() {
        let x = formula(4, 2);
        for labels in [[0, 0, 0, 0], [0, 1, 2, 3]] {
            let labels = Tensor::from_slice(&labels.map(i64::from));
            assert!(
                calinski_harabasz(&x, &labels)
                    .unwrap_err()
                    .to_string()
                    .ends_with("2 to 3, one less than the samples")
            );
            assert!(
                davies_bouldin(&x, &labels)
                    .unwrap_err()
                    .to_string()
                    .starts_with("clusters that the labels name = ")
            );
        }
    }
}
