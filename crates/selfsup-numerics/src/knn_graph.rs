//! The graph of nearest neighbours: exact, sparse, directed or made symmetric.
//!
//! The neighbours are those of [`top_k`](crate::top_k()). The lengths of the edges are computed again from the rows, as the
//! search's are rounded where near rows lie far from the mean: so an edge has the same length from both of its ends, and
//! equal rows have the Euclidean distance 0.

use crate::assign::{dot, square_distance};
use crate::csr::Csr;
use crate::finite_matrix;
use crate::top_k::{Metric, SelfMatches, TopKConfig, top_k};
use rayon::prelude::*;
use selfsup_core::tensor::with_slice;
use selfsup_core::{Device, Result, Tensor, TensorExt};
use serde::{Deserialize, Serialize};

/// Which neighbours are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edges {
    /// From every row to its `k` nearest, as in scikit-learn's `kneighbors_graph`.
    Directed,
    /// Both ways, where either is among the other's `k` nearest.
    #[default]
    Either,
    /// Both ways, where each is among the other's `k` nearest.
    Mutual,
}

/// How to join rows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KnnGraphConfig {
    /// How many neighbours a row has, itself left out.
    pub k: i64,
    /// What "near" means.
    pub metric: Metric,
    /// Which neighbours are joined.
    pub edges: Edges,
}

impl Default for KnnGraphConfig {
    fn default() -> Self {
        KnnGraphConfig { k: 10, metric: Metric::Euclidean, edges: Edges::Either }
    }
}

/// Rows joined with their nearest neighbours; none with itself.
#[derive(Clone, Debug)]
pub struct KnnGraph {
    /// The lengths of the edges: Euclidean distances, or 1 less the cosine.
    pub distances: Csr,
    /// What the lengths are.
    pub metric: Metric,
}

impl KnnGraph {
    /// Joins the rows of `x`. The search runs where `x` lies, the graph lies in native memory.
    ///
    /// # Shapes
    /// `x` `[N, D]`.
    ///
    /// # Errors
    /// When `x` is no finite matrix, or `k` is not in `1..=N - 1`.
    pub fn new(x: &Tensor, config: &KnnGraphConfig) -> Result<KnnGraph> {
        let KnnGraphConfig { k, metric, edges } = *config;
        let search = TopKConfig { k, metric, self_matches: SelfMatches::Exclude, ..Default::default() };
        let nearest = top_k(x, x, &search)?.indices.to_device(Device::Cpu).contiguous(); // [N, k]
        let nearest: Vec<u32> =
            with_slice(&nearest, |indices: &[i64]| indices.iter().map(|&i| i as u32).collect())?;
        let columns = joined(&nearest, k as usize, edges);
        let (x, [_, d]) = finite_matrix("x", x)?;
        let x = match metric {
            Metric::Cosine => x.l2_normalize(),
            Metric::Euclidean => x,
        };
        let d = d as usize;
        let rows: Vec<(Vec<u32>, Vec<f32>)> =
            with_slice(&x.to_device(Device::Cpu).contiguous(), |x: &[f32]| {
                let row = |i: usize| &x[i * d..][..d];
                let with_lengths = |(i, columns): (usize, Vec<u32>)| {
                    let lengths = columns.iter().map(|&j| length(metric, row(i), row(j as usize))).collect();
                    (columns, lengths)
                };
                columns.into_par_iter().enumerate().map(with_lengths).collect()
            })?;
        Ok(KnnGraph { distances: Csr::from_rows(&rows), metric })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.distances.rows()
    }

    /// The connected component of every row, whichever way the edges point; they are numbered by their first rows.
    pub fn components(&self) -> Vec<usize> {
        let mut sets = Sets::new(self.rows());
        for i in 0..self.rows() {
            for &j in self.distances.row(i).0 {
                sets.join(i, j as usize);
            }
        }
        sets.numbered()
    }
}

/// How far apart two rows are; those for the cosine have length 1.
pub(crate) fn length(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Metric::Cosine => (1.0 - dot(a, b)).max(0.0),
        Metric::Euclidean => square_distance(a, b).sqrt(),
    }
}

/// The columns of every row, ascending.
fn joined(nearest: &[u32], k: usize, edges: Edges) -> Vec<Vec<u32>> {
    let mut rows: Vec<Vec<u32>> = nearest.par_chunks(k).map(<[u32]>::to_vec).collect();
    if edges == Edges::Directed {
        rows.par_iter_mut().for_each(|row| row.sort_unstable());
        return rows;
    }
    for (i, nearest) in nearest.chunks(k).enumerate() {
        for &j in nearest {
            rows[j as usize].push(i as u32);
        }
    }
    rows.par_iter_mut().for_each(|row| {
        row.sort_unstable();
        match edges {
            // What stands there twice came from both ends.
            Edges::Mutual => {
                let twice = row.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
                *row = twice.collect();
            }
            _ => row.dedup(),
        }
        row.shrink_to_fit();
    });
    rows
}

/// Disjoint sets of rows.
pub(crate) struct Sets {
    parents: Vec<usize>,
}

impl Sets {
    pub(crate) fn new(rows: usize) -> Self {
        Sets { parents: (0..rows).collect() }
    }

    fn root(&mut self, mut i: usize) -> usize {
        while self.parents[i] != i {
            self.parents[i] = self.parents[self.parents[i]];
            i = self.parents[i];
        }
        i
    }

    /// Joins the sets of two rows under the lower of their first rows.
    pub(crate) fn join(&mut self, i: usize, j: usize) {
        let (a, b) = (self.root(i), self.root(j));
        self.parents[a.max(b)] = a.min(b);
    }

    /// The set of every row, numbered by their first rows.
    pub(crate) fn numbered(&mut self) -> Vec<usize> {
        let mut sets = 0;
        let mut numbers = Vec::with_capacity(self.parents.len());
        for i in 0..self.parents.len() {
            let root = self.root(i);
            // A root is the first row of its set, so its number is known before it is asked for.
            numbers.push(if root == i { sets } else { numbers[root] });
            sets += usize::from(root == i);
        }
        numbers
    }
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

    fn graph(x: &Tensor, k: i64, metric: Metric, edges: Edges) -> KnnGraph {
        KnnGraph::new(x, &KnnGraphConfig { k, metric, edges }).unwrap()
    }

    fn entries(graph: &KnnGraph) -> Vec<(usize, u32, f32)> {
        let row = |i| {
            let (columns, lengths) = graph.distances.row(i);
            columns.iter().zip(lengths).map(move |(&j, &length)| (i, j, length))
        };
        (0..graph.rows()).flat_map(row).collect()
    }

    #[test]
    fn agrees_with_a_loop_in_64_bits() {
        let (x, k) = (formula(30, 4), 3);
        let rows = Vec::<Vec<f64>>::try_from(&x).unwrap();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let distance = |a: &[f64], b: &[f64]| match metric {
                Metric::Euclidean => a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt(),
                Metric::Cosine => 1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(),
            };
            let mut near = vec![vec![false; 30]; 30];
            for i in 0..30 {
                let mut others: Vec<usize> = (0..30).filter(|&j| j != i).collect();
                others
                    .sort_by(|&a, &b| distance(&rows[i], &rows[a]).total_cmp(&distance(&rows[i], &rows[b])));
                for &j in &others[..k] {
                    near[i][j] = true;
                }
            }
            for edges in [Edges::Directed, Edges::Either, Edges::Mutual] {
                let mut expected = Vec::new();
                for i in 0..30 {
                    for j in 0..30 {
                        let joined = match edges {
                            Edges::Directed => near[i][j],
                            Edges::Either => near[i][j] || near[j][i],
                            Edges::Mutual => near[i][j] && near[j][i],
                        };
                        if joined {
                            expected.push((i, j as u32, distance(&rows[i], &rows[j])));
                        }
                    }
                }
                let found = entries(&graph(&x, k as i64, metric, edges));
                assert_eq!(found.len(), expected.len(), "{metric:?} {edges:?}");
                for (f, e) in found.iter().zip(&expected) {
                    assert!((f.0, f.1) == (e.0, e.1) && (f64::from(f.2) - e.2).abs() < 1e-5, "{f:?} {e:?}");
                }
            }
        }
    }

    #[test]
    fn edges_that_go_both_ways_are_equally_long_from_both_ends() {
        let found = entries(&graph(&(formula(200, 19) * 3.7), 5, Metric::Euclidean, Edges::Either));
        for &(i, j, length) in &found {
            assert!(found.contains(&(j as usize, i as u32, length)));
        }
    }

    #[test]
    fn equal_rows_are_at_distance_zero_and_no_row_is_joined_with_itself() {
        let x = Tensor::ones([6, 3], (Kind::Float, Device::Cpu)) * 1e3;
        let found = entries(&graph(&x, 2, Metric::Euclidean, Edges::Directed));
        assert_eq!(found.len(), 12);
        assert!(found.iter().all(|&(i, j, length)| i != j as usize && length == 0.0));
    }

    #[test]
    fn components_are_numbered_by_their_first_rows() {
        let x = Tensor::from_slice(&[0.0_f32, 50.0, 1.0, 51.0, 2.0, 100.0, 101.0]).unsqueeze(1);
        let found = graph(&x, 1, Metric::Euclidean, Edges::Directed).components();
        assert_eq!(found, [0, 1, 0, 1, 0, 2, 2]);
    }

    #[test]
    fn rejects_more_neighbours_than_there_are_others() {
        let config = KnnGraphConfig { k: 5, ..Default::default() };
        let error = KnnGraph::new(&formula(5, 2), &config).unwrap_err().to_string();
        assert_eq!(error, "k = 5: 1 to 4, the number of candidates");
    }
}
