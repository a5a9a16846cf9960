//! How alike samples are, as labels are handed on from one to the other: along the edges of a nearest-neighbour graph, or
//! between all by a Gaussian of their distance. What propagation and spreading share stands here.

use crate::FewLabels;
use selfsup_core::tensor::{tensor_from_fn, with_slice};
use selfsup_core::{Device, Error, FeatureRows, Kind, PseudoLabels, Reason, Result, Tensor};
use selfsup_numerics::{Csr, KnnGraph, KnnGraphConfig};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Which samples hand labels to each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kernel {
    /// Neighbours, all alike; sparse, for sets of any size. scikit-learn's `knn` with `n_neighbors` has
    /// `k = n_neighbors - 1`, as it counts a sample as its own neighbour, and directed edges.
    Knn(KnnGraphConfig),
    /// All samples, alike by `exp(-gamma |x - y|^2)`; a full matrix, for sets of up to 10,000 samples.
    Rbf {
        /// How fast similarity falls with the squared distance.
        gamma: f64,
    },
}

impl Default for Kernel {
    fn default() -> Self {
        Kernel::Knn(KnnGraphConfig::default())
    }
}

/// The similarities of a set's samples, found once, along which several sets of few labels can be handed on: what finding
/// them costs is most of it.
pub struct Graph {
    pub(crate) affinity: Affinity,
    pub(crate) samples: i64,
    pub(crate) device: Device,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let similarities = match &self.affinity {
            Affinity::Sparse(_) => "sparse",
            Affinity::Dense(_) => "dense",
        };
        f.debug_struct("Graph")
            .field("similarities", &similarities)
            .field("samples", &self.samples)
            .field("device", &self.device)
            .finish_non_exhaustive()
    }
}

impl Graph {
    /// Compares the samples of a set `[N, D]`.
    ///
    /// # Errors
    /// When the kernel does not fit the set.
    pub fn new(features: &FeatureRows, kernel: &Kernel) -> Result<Graph> {
        let (samples, device) = (features.tensor().size()[0], features.tensor().device());
        Ok(Graph { affinity: Affinity::new(features, kernel)?, samples, device })
    }
}

/// The most samples between all of which similarities are held.
const MOST_DENSE: i64 = 10_000;

/// The similarities of samples, without those with themselves.
pub(crate) enum Affinity {
    Sparse(Csr),
    /// `[N, N]` Float.
    Dense(Tensor),
}

impl Affinity {
    pub(crate) fn new(features: &FeatureRows, kernel: &Kernel) -> Result<Affinity> {
        let x = features.tensor();
        match kernel {
            Kernel::Knn(config) => {
                Ok(Affinity::Sparse(KnnGraph::new(x, config)?.distances.map(|_, _, _| 1.0)))
            }
            Kernel::Rbf { gamma } => {
                if !(*gamma > 0.0 && gamma.is_finite()) {
                    return Err(Error::config("kernel.rbf.gamma", gamma, "above 0"));
                }
                let n = x.size()[0];
                if !(1..=MOST_DENSE).contains(&n) {
                    let expected = format!("1 to {MOST_DENSE} for the kernel rbf; knn takes any number");
                    return Err(Error::config("samples", n, expected));
                }
                let x = x.to_device(Device::Cpu).to_kind(Kind::Double);
                let x = &x - x.mean_dim(0, true, None);
                let squares = x.square().sum_dim_intlist(1, true, None); // [N, 1]
                let mut rows = Vec::new();
                for first in (0..n).step_by(1024) {
                    let count = 1024.min(n - first);
                    let products = x.narrow(0, first, count).matmul(&x.tr()) * 2.0; // [count, N]
                    let apart = (squares.narrow(0, first, count) + squares.tr() - products).clamp_min(0.0);
                    rows.push((apart * -gamma).exp().to_kind(Kind::Float));
                }
                let alike = Tensor::cat(&rows, 0);
                let _ = alike.diagonal(0, 0, 1).zero_();
                Ok(Affinity::Dense(alike))
            }
        }
    }

    /// Divides by the square roots of the degrees of both samples; a degree is the sum of a column.
    pub(crate) fn normalised(&self) -> Result<Affinity> {
        let inverse = |degree: f32| if degree > 0.0 { 1.0 / degree.sqrt() } else { 1.0 };
        Ok(match self {
            Affinity::Sparse(matrix) => {
                let scales: Vec<f32> = matrix.column_sums().into_iter().map(inverse).collect();
                Affinity::Sparse(matrix.clone().map(|i, j, v| v * scales[i] * scales[j]))
            }
            Affinity::Dense(matrix) => {
                let degrees = Vec::<f32>::try_from(matrix.sum_dim_intlist(0, false, None))?;
                let scales = Tensor::from_slice(&degrees.into_iter().map(inverse).collect::<Vec<_>>());
                Affinity::Dense(matrix * scales.unsqueeze(1) * scales)
            }
        })
    }

    /// Writes the product with `x` `[N, width]` to `out` and lets `finish` change every row; the sum of what it returned.
    fn multiply(
        &self,
        x: &[f32],
        width: usize,
        out: &mut [f32],
        finish: impl Fn(usize, &mut [f32], &[f32]) -> f64 + Sync,
    ) -> Result<f64> {
        match self {
            Affinity::Sparse(matrix) => Ok(matrix.multiply(x, width, out, finish)),
            Affinity::Dense(matrix) => {
                let product = matrix.matmul(&Tensor::from_slice(x).view([-1, width as i64])).contiguous();
                with_slice(&product, |product: &[f32]| out.copy_from_slice(product))?;
                let rows = out.chunks_exact_mut(width).zip(x.chunks_exact(width)).enumerate();
                Ok(rows.map(|(i, (row, before))| finish(i, row, before)).sum())
            }
        }
    }

    /// Which samples a labelled one can reach, in any number of steps.
    fn reached(&self, given: &[Option<i64>]) -> Result<Vec<bool>> {
        let mut reached: Vec<bool> = given.iter().map(Option::is_some).collect();
        loop {
            let before = reached.iter().filter(|r| **r).count();
            match self {
                Affinity::Sparse(matrix) => {
                    for i in 0..reached.len() {
                        reached[i] = reached[i] || matrix.row(i).0.iter().any(|&j| reached[j as usize]);
                    }
                }
                Affinity::Dense(matrix) => {
                    let from: Vec<f32> = reached.iter().map(|&r| f32::from(u8::from(r))).collect();
                    let linked = matrix.gt(0.0).to_kind(Kind::Float).mv(&Tensor::from_slice(&from));
                    let linked = Vec::<f32>::try_from(linked)?;
                    reached.iter_mut().zip(linked).for_each(|(r, linked)| *r |= linked > 0.0);
                }
            }
            if reached.iter().filter(|r| **r).count() == before {
                return Ok(reached);
            }
        }
    }
}

/// When to end.
pub(crate) struct Until {
    pub max_iterations: usize,
    pub tolerance: f64,
}

impl Until {
    pub(crate) fn check(&self) -> Result<()> {
        if self.max_iterations == 0 {
            return Err(Error::config("max_iterations", 0, "at least 1"));
        }
        if self.tolerance.is_nan() || self.tolerance < 0.0 {
            return Err(Error::config("tolerance", self.tolerance, "0 or above"));
        }
        Ok(())
    }
}

/// Propagates labels, iteration by iteration, and makes of what every sample has in the end its label. `finish` is given a row's
/// sample, its label if it has one, what its neighbours hand it, to be changed, and what it had before.
pub(crate) fn propagate(
    affinity: &Affinity,
    given: &FewLabels,
    samples: i64,
    until: &Until,
    min_weight: f64,
    device: Device,
    finish: impl Fn(Option<i64>, &mut [f32], &[f32]) + Sync,
) -> Result<PseudoLabels> {
    let labels = given.over(samples)?;
    let width = given.classes() as usize;
    let mut now = vec![0.0_f32; labels.len() * width];
    for (row, label) in now.chunks_exact_mut(width).zip(&labels) {
        if let Some(label) = label {
            row[*label as usize] = 1.0;
        }
    }
    let mut next = vec![0.0_f32; now.len()];
    for _ in 0..until.max_iterations {
        let change = affinity.multiply(&now, width, &mut next, |i, row, before| {
            finish(labels[i], row, before);
            row.iter().zip(before).map(|(a, b)| f64::from((a - b).abs())).sum()
        })?;
        std::mem::swap(&mut now, &mut next);
        let total: f64 = now.chunks_exact(width).map(|row| f64::from(row.iter().sum::<f32>())).sum();
        if change <= until.tolerance * total {
            break;
        }
    }
    drop(next);
    let reached = affinity.reached(&labels)?;
    let (mut classes, mut weights, mut reasons) = (Vec::new(), Vec::new(), Vec::new());
    for (row, reached) in now.chunks_exact_mut(width).zip(reached) {
        let sum: f32 = row.iter().sum();
        if sum > 0.0 {
            for v in row.iter_mut() {
                *v /= sum;
            }
        } else {
            row.fill(1.0 / width as f32);
        }
        let weight = if sum > 0.0 { certainty(row) } else { 0.0 };
        let kept = f64::from(weight) >= min_weight && weight > 0.0;
        weights.push(if kept { weight } else { 0.0 });
        let reason = match (reached, kept) {
            (false, _) => Reason::Unreached,
            (true, true) => Reason::Reached,
            (true, false) => Reason::Unsure,
        };
        reasons.push(reason.code());
        classes.push(largest(row));
    }
    let soft = tensor_from_fn(&[samples, width as i64], |out: &mut [f32]| {
        out.copy_from_slice(&now);
        Ok(())
    })?;
    let found = PseudoLabels {
        labels: Tensor::from_slice(&classes).to_device(device),
        weights: Tensor::from_slice(&weights).to_device(device),
        reasons: Tensor::from_slice(&reasons).to_device(device),
        soft: Some(soft.to_device(device)),
    };
    given.put_into(&found);
    Ok(found)
}

/// 1 less the entropy of a distribution as a share of the largest there is, in `[0, 1]`.
fn certainty(p: &[f32]) -> f32 {
    let entropy: f32 = p.iter().filter(|p| **p > 0.0).map(|p| -p * p.ln()).sum();
    (1.0 - entropy / (p.len() as f32).ln()).clamp(0.0, 1.0)
}

/// Where the largest value first stands.
fn largest(row: &[f32]) -> i64 {
    let best = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
    (0..row.len()).reduce(best).map_or(0, |i| i as i64)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use selfsup_core::PseudoLabeler;
    use selfsup_numerics::{Edges, Metric};

    /// sin(0.37 i^1.5), row by row.
    pub(crate) fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    pub(crate) fn rows(x: &Tensor) -> FeatureRows {
        FeatureRows::new(x).unwrap()
    }

    pub(crate) fn knn(k: i64, edges: Edges) -> Kernel {
        Kernel::Knn(KnnGraphConfig { k, metric: Metric::Euclidean, edges })
    }

    /// Five labels of `formula(30, 3)`.
    pub(crate) fn five() -> FewLabels {
        FewLabels::new(&[0, 7, 11, 20, 29], &[0, 1, 2, 1, 0], 3).unwrap()
    }

    /// Holds the distributions against stored ones of samples 1, 5, 11, 13 and 28, and the largest of each against
    /// `classes`.
    pub(crate) fn assert_agrees(
        labeler: &mut dyn PseudoLabeler<Scores = FeatureRows>,
        classes: &str,
        expected: [[f64; 3]; 5],
    ) {
        let soft = labeler.label(&rows(&formula(30, 3))).unwrap().soft.unwrap();
        let found = Vec::<Vec<f64>>::try_from(&soft).unwrap();
        for (sample, expected) in [1, 5, 11, 13, 28].into_iter().zip(expected) {
            let close = found[sample].iter().zip(expected).all(|(f, e)| (f - e).abs() < 2e-6);
            assert!(close, "sample {sample}: {:?} {expected:?}", found[sample]);
        }
        let largest = Vec::<i64>::try_from(soft.argmax(1, false)).unwrap();
        assert_eq!(largest.iter().map(i64::to_string).collect::<String>(), classes);
    }

    #[test]
    fn certainty_is_one_for_a_sure_and_zero_for_an_even_distribution() {
        assert_eq!(certainty(&[0.0, 1.0, 0.0]), 1.0);
        assert!(certainty(&[0.25; 4]) < 1e-6);
        // 1 - H(0.75, 0.25) / ln 2 = 1 - 0.562335 / 0.693147
        assert!((certainty(&[0.75, 0.25]) - 0.188722).abs() < 1e-5);
        assert_eq!((largest(&[0.2, 0.4, 0.4]), largest(&[0.5, 0.5])), (1, 0));
    }

    #[test]
    fn samples_are_reached_against_the_edges_that_they_read_along() {
        // 0 and 1 are near each other; 2 reads from 1, but none reads from 2.
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 3.0]).unsqueeze(1);
        let affinity = Affinity::new(&rows(&x), &knn(1, Edges::Directed)).unwrap();
        assert_eq!(affinity.reached(&[Some(0), None, None]).unwrap(), [true, true, true]);
        assert_eq!(affinity.reached(&[None, None, Some(0)]).unwrap(), [false, false, true]);
        let far = Tensor::from_slice(&[0.0_f32, 1.0, 1000.0]).unsqueeze(1);
        let affinity = Affinity::new(&rows(&far), &Kernel::Rbf { gamma: 1.0 }).unwrap();
        assert_eq!(affinity.reached(&[Some(0), None, None]).unwrap(), [true, true, false]);
    }

    #[test]
    fn kernels_are_checked() {
        let error = |x: &Tensor, kernel: &Kernel| Affinity::new(&rows(x), kernel).err().unwrap().to_string();
        let x = formula(5, 2);
        assert_eq!(error(&x, &Kernel::Rbf { gamma: 0.0 }), "kernel.rbf.gamma = 0: above 0");
        assert_eq!(error(&x, &knn(5, Edges::Either)), "k = 5: 1 to 4, the number of candidates");
        let many = Tensor::zeros([MOST_DENSE + 1, 1], (Kind::Float, Device::Cpu));
        assert_eq!(
            error(&many, &Kernel::Rbf { gamma: 1.0 }),
            "samples = 10001: 1 to 10000 for the kernel rbf; knn takes any number"
        );
    }
}
