//! The silhouette: how much nearer a sample is to its own cluster than to the next (Rousseeuw 1987).
//!
//! ```text
//! a_i = mean distance to the others of its cluster        b_i = least mean distance to another cluster
//! s_i = (b_i - a_i) / max(a_i, b_i)                       0 for a cluster of one
//! ```
//! It is exact: every two samples are compared, a block at a time, and of their distances only the sums over clusters are
//! kept, so that the matrix `[N, N]` never exists. Distances are in 32 bits, from inner products of centred data; those
//! of samples that nearly coincide are rounded to about 1e-3 of the data's spread.

use crate::clusters::Clusters;
use crate::finite_matrix;
use crate::product::products;
use crate::top_k::Metric;
use rayon::prelude::*;
use selfsup_core::tensor::with_slice;
use selfsup_core::{Device, Kind, Result, Tensor, TensorExt};

/// Samples that a thread compares at a time, and those it compares them with: half a megabyte of distances.
const ROWS: usize = 128;
const OTHERS: usize = 1024;

/// The same on an accelerator.
const ROW_BLOCK: i64 = 1024;
const OTHER_BLOCK: i64 = 8192;

/// The silhouette of every sample, in `[-1, 1]`; their mean is scikit-learn's `silhouette_score`.
///
/// # Shapes
/// `x` `[N, D]`, `labels` `[N]` Int64 of any values, to `[N]` Double.
///
/// # Errors
/// When `x` is no finite matrix, the labels do not fit it, or they name fewer than 2 or more than `N - 1` clusters.
pub fn silhouette(x: &Tensor, labels: &Tensor, metric: Metric) -> Result<Tensor> {
    let (x, [n, _]) = finite_matrix("x", x)?;
    let clusters = Clusters::new(labels, n)?;
    let x = match metric {
        Metric::Cosine => x.l2_normalize(),
        Metric::Euclidean => &x - x.mean_dim(0, true, None),
    };
    let sums = if x.device() == Device::Cpu {
        sums_on_cpu(&x, &clusters, metric)?
    } else {
        sums_on_accelerator(&x, &clusters, metric)?
    };
    let sizes: Vec<f64> = clusters.members.iter().map(|members| members.len() as f64).collect();
    let silhouette = |(sums, &own): (&[f64], &usize)| {
        let within = sums[own] / (sizes[own] - 1.0);
        let others = (0..sizes.len()).filter(|&c| c != own).map(|c| sums[c] / sizes[c]);
        let between = others.fold(f64::INFINITY, f64::min);
        let s = (between - within) / within.max(between);
        // A cluster of one, or all samples of two clusters at one place.
        if s.is_nan() { 0.0 } else { s }
    };
    let found: Vec<f64> = sums.chunks_exact(sizes.len()).zip(&clusters.labels).map(silhouette).collect();
    Ok(Tensor::from_slice(&found))
}

/// The sums of the distances of every sample to the clusters, row by row `[N, K]`.
fn sums_on_cpu(x: &Tensor, clusters: &Clusters, metric: Metric) -> Result<Vec<f64>> {
    let d = x.size()[1] as usize;
    let order: Vec<usize> = clusters.members.iter().flatten().copied().collect();
    // Where each cluster ends in this order.
    let ends: Vec<usize> = clusters
        .members
        .iter()
        .scan(0, |end, members| {
            *end += members.len();
            Some(*end)
        })
        .collect();
    let sorted: Vec<f32> = with_slice(&x.contiguous(), |x: &[f32]| {
        order.iter().flat_map(|&i| &x[i * d..][..d]).copied().collect()
    })?;
    let squares = crate::assign::squares(&sorted, d);
    let block = |(block, rows): (usize, &[f32])| {
        let count = rows.len() / d;
        let mut sums = vec![0.0_f64; count * ends.len()];
        let mut distances = vec![0.0; count * OTHERS];
        let mut cluster = 0;
        for (first, others) in (0..).step_by(OTHERS).zip(sorted.chunks(OTHERS * d)) {
            let width = others.len() / d;
            let distances = &mut distances[..count * width];
            products(rows, others, d, distances);
            while ends[cluster] <= first {
                cluster += 1;
            }
            for (i, row) in distances.chunks_exact_mut(width).enumerate() {
                let itself = block * ROWS + i;
                match metric {
                    Metric::Cosine => {
                        for v in row.iter_mut() {
                            *v = 1.0 - *v;
                        }
                    }
                    Metric::Euclidean => {
                        let square = squares[itself];
                        row.iter_mut()
                            .zip(&squares[first..])
                            .for_each(|(v, other)| *v = (square + other - 2.0 * *v).max(0.0).sqrt());
                    }
                }
                if (first..first + width).contains(&itself) {
                    row[itself - first] = 0.0;
                }
                let mut start = first;
                for (c, &end) in ends.iter().enumerate().skip(cluster) {
                    let end = end.min(first + width);
                    sums[i * ends.len() + c] += sum(&row[start - first..end - first]);
                    start = end;
                    if start == first + width {
                        break;
                    }
                }
            }
        }
        sums
    };
    let sums: Vec<Vec<f64>> = sorted.par_chunks(ROWS * d).enumerate().map(block).collect();
    let mut unsorted = vec![0.0; order.len() * ends.len()];
    for (&i, sums) in order.iter().zip(sums.iter().flat_map(|block| block.chunks_exact(ends.len()))) {
        unsorted[i * ends.len()..][..ends.len()].copy_from_slice(sums);
    }
    Ok(unsorted)
}

/// In sixteen lanes that the compiler keeps in vectors.
fn sum(row: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; 16];
    let chunks = row.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(lane, v)| *lane += v);
    }
    lanes.into_iter().chain([rest]).map(f64::from).sum()
}

/// As [`sums_on_cpu`], in tensor operations.
fn sums_on_accelerator(x: &Tensor, clusters: &Clusters, metric: Metric) -> Result<Vec<f64>> {
    let (n, k) = (x.size()[0], clusters.members.len() as i64);
    let labels: Vec<i64> = clusters.labels.iter().map(|&label| label as i64).collect();
    let labels = Tensor::from_slice(&labels).to_device(x.device());
    let squares = x.square().sum_dim_intlist(1, false, None);
    let mut all = Vec::new();
    for first_row in (0..n).step_by(ROW_BLOCK as usize) {
        let rows = ROW_BLOCK.min(n - first_row);
        let mut sums = Tensor::zeros([rows, k], (Kind::Double, x.device()));
        for first in (0..n).step_by(OTHER_BLOCK as usize) {
            let width = OTHER_BLOCK.min(n - first);
            let products = x.narrow(0, first_row, rows).matmul(&x.narrow(0, first, width).tr());
            let distances = match metric {
                Metric::Cosine => 1.0 - products,
                Metric::Euclidean => {
                    let row = squares.narrow(0, first_row, rows).unsqueeze(1);
                    (row + squares.narrow(0, first, width) - products * 2.0).clamp_min(0.0).sqrt()
                }
            };
            if first_row < first + width && first < first_row + rows {
                let _ = distances.diagonal(first_row - first, 0, 1).zero_();
            }
            let members = Tensor::zeros([width, k], (Kind::Float, x.device()));
            let members = members.scatter_value(1, &labels.narrow(0, first, width).unsqueeze(1), 1.0);
            sums += distances.matmul(&members).to_kind(Kind::Double); // [rows, K]
        }
        all.push(sums);
    }
    Ok(Vec::<f64>::try_from(Tensor::cat(&all, 0).view(-1))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    fn values(x: &Tensor, labels: &[i64], metric: Metric) -> Vec<f64> {
        Vec::<f64>::try_from(silhouette(x, &Tensor::from_slice(labels), metric).unwrap()).unwrap()
    }

    fn mean(values: &[f64]) -> f64 {
        values.iter().sum::<f64>() / values.len() as f64
    }

    /// Clusters 0, 1, 2 and 4.
    fn squares_modulo_7() -> Vec<i64> {
        (0..60).map(|i| i * i % 7).collect()
    }

    // x = np.sin(np.arange(180).reshape(60, 3) ** 1.5 * 0.37);  labels = np.arange(60) ** 2 % 7
    // silhouette_score(x, labels, metric=m), silhouette_samples(x, labels, metric=m)[:6]         # scikit-learn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let cases = [
            (
                Metric::Euclidean,
                -0.10090439593219488,
                [0.20639402, -0.11788192, -0.21835872, 0.00077254, 0.0650138, -0.18737753],
            ),
            (
                Metric::Cosine,
                -0.1514438570345047,
                [0.36875401, -0.24824502, -0.37577434, -0.02725516, 0.06166136, -0.2146913],
            ),
        ];
        for (metric, score, first) in cases {
            let found = values(&formula(60, 3), &squares_modulo_7(), metric);
            assert!((mean(&found) - score).abs() < 1e-6);
            assert!(found.iter().zip(first).all(|(f, e)| (f - e).abs() < 2e-6), "{found:?}");
        }
    }

    // The same with labels[7] = 9.
    #[test]
    fn a_cluster_of_one_has_silhouette_zero_as_in_scikit_learn() {
        let mut labels = squares_modulo_7();
        labels[7] = 9;
        let found = values(&formula(60, 3), &labels, Metric::Euclidean);
        assert!((mean(&found) + 0.2088761669628542).abs() < 1e-6);
        assert_eq!(found[7], 0.0);
    }

    #[test]
    fn agrees_with_a_loop_on_more_samples_than_a_block_holds() {
        let n = 1500;
        let x = formula(n, 4);
        let labels: Vec<i64> = (0..n).map(|i| i * i % 7 + i % 2).collect();
        let rows = Vec::<Vec<f64>>::try_from(&x).unwrap();
        let found = values(&x, &labels, Metric::Euclidean);
        for i in (0..n as usize).step_by(37) {
            let mean_to = |cluster: i64| {
                let others = (0..n as usize).filter(|&j| labels[j] == cluster && j != i);
                let lengths: Vec<f64> = others
                    .map(|j| rows[i].iter().zip(&rows[j]).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt())
                    .collect();
                mean(&lengths)
            };
            let others = (0..8).filter(|&c| c != labels[i] && labels.contains(&c));
            let (a, b) = (mean_to(labels[i]), others.map(mean_to).fold(f64::INFINITY, f64::min));
            assert!((found[i] - (b - a) / a.max(b)).abs() < 1e-5);
        }
    }

    #[test]
    fn both_ways_of_adding_distances_agree() {
        let x = formula(1300, 3);
        let labels: Vec<i64> = (0..1300).map(|i| i * i % 7).collect();
        let clusters = Clusters::new(&Tensor::from_slice(&labels), 1300).unwrap();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let a = sums_on_cpu(&x, &clusters, metric).unwrap();
            let b = sums_on_accelerator(&x, &clusters, metric).unwrap();
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-2), "{metric:?}");
        }
    }

    #[test]
    fn does_not_depend_on_order_place_and_names() {
        let (x, labels) = (formula(60, 3), squares_modulo_7());
        let found = values(&x, &labels, Metric::Euclidean);
        let renamed: Vec<i64> = labels.iter().rev().map(|l| -3 * l).collect();
        let mut other = values(&(x.flip([0]) * 2.0 + 5.0), &renamed, Metric::Euclidean);
        other.reverse();
        assert!(found.iter().zip(&other).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn samples_at_their_clusters_places_have_silhouette_one_and_at_one_place_zero() {
        let x = Tensor::from_slice(&[1.0_f32, 1.0, 4.0, 4.0]).unsqueeze(1);
        assert_eq!(values(&x, &[0, 0, 1, 1], Metric::Euclidean), [1.0; 4]);
        assert_eq!(values(&(x * 0.0), &[0, 0, 1, 1], Metric::Euclidean), [0.0; 4]);
    }

    #[test]
    fn rejects_labels_that_do_not_fit() {
        let x = formula(4, 2);
        let error = |labels: &[i64]| {
            silhouette(&x, &Tensor::from_slice(labels), Metric::Euclidean).unwrap_err().to_string()
        };
        assert_eq!(error(&[3; 4]), "clusters that the labels name = 1: 2 to 3, one less than the samples");
        assert_eq!(
            error(&[0, 1, 2, 3]),
            "clusters that the labels name = 4: 2 to 3, one less than the samples"
        );
        assert_eq!(error(&[0, 1]), "labels: expected [4], found [2]");
        let floats = Tensor::from_slice(&[0.0_f32, 1.0, 0.0, 1.0]);
        let error = silhouette(&x, &floats, Metric::Euclidean).unwrap_err().to_string();
        assert_eq!(error, "labels: expected elements of kind Int64, found Float");
    }
}
