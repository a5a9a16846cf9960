//! Agglomerative clustering along the edges of a graph: the two nearest clusters that an edge joins become one, until one
//! is left.
//!
//! ```text
//! Ward 1963:  d(a, b) = sqrt(2 |a||b| / (|a| + |b|)) |mean a - mean b|
//! average:    d(a + b, c) = (|a| d(a, c) + |b| d(b, c)) / (|a| + |b|)
//! complete:   d(a + b, c) = max(d(a, c), d(b, c))
//! ```
//! This is scikit-learn 1.9's `AgglomerativeClustering` with `connectivity`: of two distances to `c` of which the graph
//! has one, that one is taken, so that average and complete linkage see the edges of the graph alone and distances may
//! fall from one merge to the next; a graph in components is first made one (`links.rs`). Among equal distances the
//! clusters that were made first are joined.
//!
//! When two clusters are joined, the one with fewer neighbours hands its own to the other, whose distances to all the rest
//! stay as they are. So average and complete linkage take time `E log^2 E` for `E` edges; Ward's takes that of the distances
//! between means of all joined clusters and their neighbours.

use crate::assign::square_distance;
use crate::finite_matrix;
use crate::knn_graph::{KnnGraph, Sets, length};
use crate::links::links;
use crate::top_k::Metric;
use selfsup_core::tensor::with_slice;
use selfsup_core::{Device, Error, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// How far apart two clusters are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Linkage {
    /// By how much their union raises the sum of squared distances to the means; of Euclidean graphs.
    #[default]
    Ward,
    /// The mean distance of their samples.
    Average,
    /// The largest distance of their samples.
    Complete,
}

/// Two clusters that became one. Sample `i` is cluster `i`; the merge at place `m` makes cluster `N + m`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Merge {
    /// The lower of the two.
    pub left: usize,
    /// The higher of the two.
    pub right: usize,
    /// How far apart they were.
    pub distance: f64,
    /// The samples of both.
    pub size: usize,
}

/// The tree of all merges.
#[derive(Clone, Debug)]
pub struct Agglomerative {
    /// The `N - 1` merges, in order.
    pub merges: Vec<Merge>,
    /// The connected components that the graph had.
    pub components: usize,
}

impl Agglomerative {
    /// Clusters the rows of `x` along the edges of their graph, whichever way they point.
    ///
    /// # Shapes
    /// `x` `[N, D]`, the rows that the graph joins.
    ///
    /// # Errors
    /// When `x` is no finite matrix, the graph has another number of rows, or Ward's linkage is asked for on a graph of
    /// cosines.
    pub fn fit(x: &Tensor, graph: &KnnGraph, linkage: Linkage) -> Result<Agglomerative> {
        let (x, [n, d]) = finite_matrix("x", x)?;
        check_shape("x", &x, [graph.rows() as i64, d])?;
        if linkage == Linkage::Ward && graph.metric == Metric::Cosine {
            let expected =
                "average or complete for a graph of cosines; or rows of length 1 and a Euclidean graph";
            return Err(Error::config("linkage", "ward", expected));
        }
        let x = match graph.metric {
            // Differences do not change when all is moved to the mean, and their rounding error shrinks.
            Metric::Euclidean => &x - x.mean_dim(0, true, None),
            Metric::Cosine => x.l2_normalize(),
        };
        let (n, d) = (n as usize, d as usize);
        let components = graph.components();
        let count = components.iter().max().map_or(0, |last| last + 1);
        let merges = with_slice(&x.to_device(Device::Cpu).contiguous(), |x: &[f32]| {
            let joining = links(x, d, graph.metric, components);
            let mut forest = Forest::new(x, d, linkage, n);
            let row = |i: usize| &x[i * d..][..d];
            for i in 0..n {
                let (others, lengths) = graph.distances.row(i);
                for (&j, &length) in others.iter().zip(lengths) {
                    forest.join(i, j as usize, length);
                }
            }
            for (i, j) in joining {
                let (i, j) = (i as usize, j as usize);
                forest.join(i, j, length(graph.metric, row(i), row(j)));
            }
            forest.grow()
        })?;
        if merges.len() + 1 < n {
            return Err(Error::NonFinite {
                what: "a squared distance".to_owned(),
                detail: "scale the features below 1e18".to_owned(),
            });
        }
        Ok(Agglomerative { merges, components: count })
    }

    /// The cluster of every sample when `clusters` are left; they are numbered by their first samples.
    ///
    /// # Shapes
    /// `[N]` Int64.
    ///
    /// # Errors
    /// When the number of clusters is not in `1..=N`.
    pub fn cut(&self, clusters: i64) -> Result<Tensor> {
        let n = self.merges.len() + 1;
        if !(1..=n as i64).contains(&clusters) {
            return Err(Error::config("clusters", clusters, format!("1 to {n}, the number of samples")));
        }
        let mut sets = Sets::new(n);
        let mut samples: Vec<usize> = (0..n).collect(); // one of every cluster
        for merge in &self.merges[..n - clusters as usize] {
            sets.join(samples[merge.left], samples[merge.right]);
            samples.push(samples[merge.left]);
        }
        let labels: Vec<i64> = sets.numbered().into_iter().map(|label| label as i64).collect();
        Ok(Tensor::from_slice(&labels))
    }
}

/// The distances to the neighbours of a cluster, by their places.
type Neighbours = HashMap<u32, f64, BuildHasherDefault<PlaceHasher>>;

/// Multiplicative hashing, as places need no more.
#[derive(Default)]
struct PlaceHasher(u64);

impl Hasher for PlaceHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, place: u32) {
        self.0 =
            (self.0.rotate_left(32) ^ u64::from(place)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26);
    }
}

/// An edge between two clusters at the distance that they had when it was put on the heap.
#[derive(Clone, Copy)]
struct Edge {
    distance: f64,
    high: u32,
    low: u32,
}

impl Ord for Edge {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then((self.high, self.low).cmp(&(other.high, other.low)))
    }
}

impl PartialOrd for Edge {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Edge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Edge {}

/// The clusters while they grow. There are `N` places; of two clusters that become one, one keeps its place.
struct Forest {
    linkage: Linkage,
    d: usize,
    /// By place; empty for a place that was given up.
    neighbours: Vec<Neighbours>,
    sizes: Vec<u32>,
    /// The means, row by row, for Ward's linkage.
    means: Vec<f32>,
    /// The cluster at a place.
    clusters: Vec<u32>,
    /// The place that a cluster has or had.
    places: Vec<u32>,
    /// Holds every edge between clusters, and some that are no more.
    heap: BinaryHeap<Reverse<Edge>>,
    /// The edges between clusters.
    edges: usize,
}

impl Forest {
    fn new(x: &[f32], d: usize, linkage: Linkage, n: usize) -> Self {
        Forest {
            linkage,
            d,
            neighbours: vec![Neighbours::default(); n],
            sizes: vec![1; n],
            means: if linkage == Linkage::Ward { x.to_vec() } else { Vec::new() },
            clusters: (0..n as u32).collect(),
            places: (0..n as u32).collect(),
            heap: BinaryHeap::new(),
            edges: 0,
        }
    }

    /// An edge between two samples.
    fn join(&mut self, i: usize, j: usize, length: f32) {
        if i == j || self.neighbours[i].contains_key(&(j as u32)) {
            return;
        }
        let distance = match self.linkage {
            Linkage::Ward => self.ward(i, j),
            Linkage::Average | Linkage::Complete => f64::from(length),
        };
        self.edges += 1;
        self.put(i, j, distance);
    }

    /// Sets the distance of the clusters at two places.
    fn put(&mut self, a: usize, b: usize, distance: f64) {
        self.neighbours[a].insert(b as u32, distance);
        self.neighbours[b].insert(a as u32, distance);
        let (a, b) = (self.clusters[a], self.clusters[b]);
        self.heap.push(Reverse(Edge { distance, high: a.max(b), low: a.min(b) }));
    }

    /// By how much the union of the clusters at two places raises the sum of squares.
    fn ward(&self, a: usize, b: usize) -> f64 {
        let mean = |place: usize| &self.means[place * self.d..][..self.d];
        let (na, nb) = (f64::from(self.sizes[a]), f64::from(self.sizes[b]));
        f64::from(square_distance(mean(a), mean(b))) * (na * nb / (na + nb))
    }

    /// Joins clusters until one is left.
    fn grow(mut self) -> Vec<Merge> {
        let n = self.clusters.len();
        let mut merges = Vec::with_capacity(n - 1);
        while merges.len() + 1 < n {
            let Some(Reverse(edge)) = self.heap.pop() else { break };
            if !self.lasts(&edge) {
                continue;
            }
            let (a, b) = (self.places[edge.high as usize] as usize, self.places[edge.low as usize] as usize);
            let (first, second) = (self.clusters[a] as usize, self.clusters[b] as usize);
            let size = (self.sizes[a] + self.sizes[b]) as usize;
            let distance = match self.linkage {
                Linkage::Ward => (2.0 * edge.distance).sqrt(),
                Linkage::Average | Linkage::Complete => edge.distance,
            };
            merges.push(Merge { left: first.min(second), right: first.max(second), distance, size });
            self.merge(a, b);
            if self.heap.len() > 4 * self.edges + 1024 {
                let mut heap = std::mem::take(&mut self.heap);
                heap.retain(|Reverse(edge)| self.lasts(edge));
                self.heap = heap;
            }
        }
        merges
    }

    /// Whether two clusters are still joined at this distance.
    fn lasts(&self, edge: &Edge) -> bool {
        let (a, b) = (self.places[edge.high as usize], self.places[edge.low as usize]);
        // Ward's distances all change with a cluster, and its edges are put on the heap anew.
        let now =
            |place: u32, cluster| self.linkage != Linkage::Ward || self.clusters[place as usize] == cluster;
        now(a, edge.high) && now(b, edge.low) && self.neighbours[a as usize].get(&b) == Some(&edge.distance)
    }

    /// Makes the clusters at two places one, at the place of the one with more neighbours.
    fn merge(&mut self, a: usize, b: usize) {
        let keeps_a = self.neighbours[a].len() >= self.neighbours[b].len();
        let (kept, left) = if keeps_a { (a, b) } else { (b, a) };
        let handed = std::mem::take(&mut self.neighbours[left]);
        self.neighbours[kept].remove(&(left as u32));
        self.edges -= 1;
        self.clusters[kept] = self.places.len() as u32;
        self.places.push(kept as u32);
        let (n_kept, n_left) = (f64::from(self.sizes[kept]), f64::from(self.sizes[left]));
        for (&other, &distance) in handed.iter().filter(|(other, _)| **other != kept as u32) {
            self.neighbours[other as usize].remove(&(left as u32));
            let known = self.neighbours[kept].get(&other).copied();
            self.edges -= usize::from(known.is_some());
            let distance = match (self.linkage, known) {
                (Linkage::Average, Some(known)) => (n_kept * known + n_left * distance) / (n_kept + n_left),
                (Linkage::Complete, Some(known)) => known.max(distance),
                _ => distance,
            };
            if self.linkage == Linkage::Ward {
                self.neighbours[kept].insert(other, distance);
            } else {
                self.put(kept, other as usize, distance);
            }
        }
        self.sizes[kept] += self.sizes[left];
        if self.linkage == Linkage::Ward {
            for j in 0..self.d {
                let at = kept * self.d + j;
                let sum =
                    n_kept * f64::from(self.means[at]) + n_left * f64::from(self.means[left * self.d + j]);
                self.means[at] = (sum / (n_kept + n_left)) as f32;
            }
            let others: Vec<u32> = self.neighbours[kept].keys().copied().collect();
            for other in others {
                let distance = self.ward(kept, other as usize);
                self.put(kept, other as usize, distance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knn_graph::{Edges, KnnGraphConfig};
    use selfsup_core::Kind;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    fn fit(x: &Tensor, k: i64, metric: Metric, linkage: Linkage) -> Agglomerative {
        let graph = KnnGraph::new(x, &KnnGraphConfig { k, metric, edges: Edges::Directed }).unwrap();
        Agglomerative::fit(x, &graph, linkage).unwrap()
    }

    fn labels(tree: &Agglomerative, clusters: i64) -> Vec<i64> {
        Vec::<i64>::try_from(tree.cut(clusters).unwrap()).unwrap()
    }

    const LINKAGES: [Linkage; 3] = [Linkage::Ward, Linkage::Average, Linkage::Complete];

    // x = np.sin(np.arange(120).reshape(40, 3) ** 1.5 * 0.37)
    // a = sklearn.cluster.AgglomerativeClustering(6, linkage=..., metric=..., compute_distances=True,       # 1.9.1
    //     compute_full_tree=True, connectivity=kneighbors_graph(x, 4, metric=...)).fit(x)
    // a.labels_ numbered by their first samples, a.distances_[[0, 1, 2, -3, -2, -1]], a.children_[[0, 1, 2, 3, -2, -1]]
    #[test]
    fn agrees_with_scikit_learn_on_a_connected_graph() {
        let (euclidean, cosine) = (Metric::Euclidean, Metric::Cosine);
        let cases = [
            (
                euclidean,
                Linkage::Ward,
                "0102222332323223311111304104141454451440",
                [0.1143528, 0.1662862, 0.1725996, 4.0543888, 5.0342299, 6.3009954],
                [(18, 19), (1, 25), (9, 11), (28, 30), (70, 75), (76, 77)],
            ),
            (
                euclidean,
                Linkage::Average,
                "0102222112121221111111102102121234231520",
                [0.1143528, 0.1662862, 0.1725996, 0.8600368, 1.0089662, 1.0639631],
                [(18, 19), (1, 25), (9, 11), (28, 30), (75, 76), (48, 77)],
            ),
            (
                euclidean,
                Linkage::Complete,
                "0120000110101001111111120120303045041500",
                [0.1143528, 0.1662862, 0.1725996, 0.9752807, 1.0794337, 1.1830178],
                [(18, 19), (1, 25), (9, 11), (28, 30), (70, 76), (47, 77)],
            ),
            (
                cosine,
                Linkage::Average,
                "0102222112121221111111103103424252251220",
                [0.0003147, 0.0018565, 0.0020355, 0.2257962, 0.2291106, 0.3563729],
                [(10, 12), (9, 11), (19, 25), (18, 42), (44, 76), (75, 77)],
            ),
            (
                cosine,
                Linkage::Complete,
                "0102222112121221111111103103424252251220",
                [0.0003147, 0.0018565, 0.0020355, 0.2615152, 0.380484, 0.3954118],
                [(10, 12), (9, 11), (19, 25), (32, 35), (58, 76), (75, 77)],
            ),
        ];
        let x = formula(40, 3);
        for (metric, linkage, expected, distances, children) in cases {
            let tree = fit(&x, 4, metric, linkage);
            let found: String = labels(&tree, 6).iter().map(i64::to_string).collect();
            assert_eq!(found, expected, "{metric:?} {linkage:?}");
            assert_eq!(tree.components, 1);
            for (at, distance) in [0, 1, 2, 36, 37, 38].into_iter().zip(distances) {
                assert!((tree.merges[at].distance - distance).abs() < 2e-6, "{metric:?} {linkage:?} {at}");
            }
            for (at, children) in [0, 1, 2, 3, 37, 38].into_iter().zip(children) {
                let merge = tree.merges[at];
                assert_eq!((merge.left, merge.right), children, "{metric:?} {linkage:?} {at}");
            }
            assert_eq!(tree.merges[38].size, 40);
        }
    }

    // The same with x + np.repeat([[0, 0, 0], [9, 0, 0], [4, 7, 0], [0, 0, 30]], 10, 0) and kneighbors_graph(x, 2):
    // a.n_connected_components_ is 6. Labels of 7 and 2 clusters, a.distances_[-6:]
    #[test]
    fn joins_components_as_scikit_learn_does() {
        let shift = [[0.0_f32, 0.0, 0.0], [9.0, 0.0, 0.0], [4.0, 7.0, 0.0], [0.0, 0.0, 30.0]];
        let shift = Tensor::from_slice2(&shift).repeat_interleave_self_int(10, 0, 40);
        let x = formula(40, 3) + shift;
        let same = "0100000000232332222244555455456666666666";
        let cases = [
            (
                Linkage::Ward,
                "0000000000121221111133444344345656655665",
                [3.982421, 4.299411, 4.433562, 26.38363, 28.430317, 117.503816],
            ),
            (Linkage::Average, same, [1.202332, 1.764604, 1.85142, 6.429769, 7.845736, 29.208626]),
            (Linkage::Complete, same, [1.202332, 1.892734, 2.073437, 6.429769, 8.53613, 31.419049]),
        ];
        for (linkage, seven, distances) in cases {
            let tree = fit(&x, 2, Metric::Euclidean, linkage);
            assert_eq!(tree.components, 6);
            let found: String = labels(&tree, 7).iter().map(i64::to_string).collect();
            assert_eq!(found, seven, "{linkage:?}");
            assert_eq!(labels(&tree, 2), [vec![0; 30], vec![1; 10]].concat());
            for (merge, distance) in tree.merges[33..].iter().zip(distances) {
                assert!((merge.distance - distance).abs() < 1e-5 * distance, "{linkage:?} {merge:?}");
            }
        }
    }

    /// Joins the two clusters of the least distance, by loops over all pairs of their samples.
    fn naive(x: &[Vec<f64>], linkage: Linkage) -> Vec<(Vec<usize>, f64)> {
        let mut clusters: Vec<Vec<usize>> = (0..x.len()).map(|i| vec![i]).collect();
        let square = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>();
        let mean = |cluster: &[usize]| -> Vec<f64> {
            let sum = |j| cluster.iter().map(|&i| x[i][j]).sum::<f64>();
            (0..x[0].len()).map(|j| sum(j) / cluster.len() as f64).collect()
        };
        let spread = |cluster: &[usize]| -> f64 {
            let mean = mean(cluster);
            cluster.iter().map(|&i| square(&x[i], &mean)).sum()
        };
        let distance = |a: &[usize], b: &[usize]| {
            let pairs = a.iter().flat_map(|&i| b.iter().map(move |&j| (i, j)));
            let lengths: Vec<f64> = pairs.map(|(i, j)| square(&x[i], &x[j]).sqrt()).collect();
            match linkage {
                Linkage::Average => lengths.iter().sum::<f64>() / lengths.len() as f64,
                Linkage::Complete => lengths.iter().copied().fold(0.0, f64::max),
                Linkage::Ward => {
                    let union = [a, b].concat();
                    (2.0 * (spread(&union) - spread(a) - spread(b)).max(0.0)).sqrt()
                }
            }
        };
        let mut merges = Vec::new();
        while clusters.len() > 1 {
            let pairs = (0..clusters.len()).flat_map(|b| (0..b).map(move |a| (a, b)));
            let apart = |&(a, b): &(usize, usize)| distance(&clusters[a], &clusters[b]);
            let (a, b) = pairs.min_by(|p, q| apart(p).total_cmp(&apart(q))).unwrap();
            let length = apart(&(a, b));
            let other = clusters.remove(b);
            clusters[a].extend(other);
            clusters[a].sort_unstable();
            merges.push((clusters[a].clone(), length));
        }
        merges
    }

    #[test]
    fn with_all_edges_it_is_the_definition_of_the_linkage() {
        let x = formula(24, 3);
        let rows = Vec::<Vec<f64>>::try_from(&x).unwrap();
        for linkage in LINKAGES {
            let tree = fit(&x, 23, Metric::Euclidean, linkage);
            let mut members: Vec<Vec<usize>> = (0..24).map(|i| vec![i]).collect();
            for (merge, (cluster, distance)) in tree.merges.iter().zip(naive(&rows, linkage)) {
                let mut union = [members[merge.left].clone(), members[merge.right].clone()].concat();
                union.sort_unstable();
                assert_eq!(union, cluster, "{linkage:?}");
                assert!((merge.distance - distance).abs() < 1e-5, "{linkage:?} {merge:?} {distance}");
                members.push(union);
            }
        }
    }

    #[test]
    fn every_cut_refines_the_one_before() {
        let x = formula(300, 4);
        for linkage in LINKAGES {
            let tree = fit(&x, 5, Metric::Euclidean, linkage);
            for clusters in 1..300 {
                let (coarse, fine) = (labels(&tree, clusters), labels(&tree, clusters + 1));
                assert_eq!(coarse.iter().max(), Some(&(clusters - 1)));
                let mut parents = vec![None; clusters as usize + 1];
                for (&coarse, &fine) in coarse.iter().zip(&fine) {
                    assert_eq!(*parents[fine as usize].get_or_insert(coarse), coarse);
                }
            }
        }
    }

    #[test]
    fn the_order_of_the_samples_does_not_matter() {
        let x = formula(120, 3);
        let backwards = x.flip([0]);
        for linkage in LINKAGES {
            let found = labels(&fit(&x, 6, Metric::Euclidean, linkage), 5);
            let mut other = labels(&fit(&backwards, 6, Metric::Euclidean, linkage), 5);
            other.reverse();
            let mut names = HashMap::new();
            for (a, b) in found.iter().zip(&other) {
                assert_eq!(names.entry(a).or_insert(b), &b, "{linkage:?}");
            }
        }
    }

    #[test]
    fn equal_samples_come_together_first() {
        // Four places of six samples each, more than there are neighbours: the graph has four components at least.
        let places = Tensor::from_slice2(&[[0.0_f32, 0.0], [3.0, 0.0], [0.0, 4.0], [9.0, 9.0]]);
        let x = places.repeat([6, 1]);
        for linkage in LINKAGES {
            let tree = fit(&x, 3, Metric::Euclidean, linkage);
            assert!(tree.merges[..20].iter().all(|merge| merge.distance == 0.0));
            assert!(tree.merges[20].distance > 0.0);
            assert_eq!(labels(&tree, 4), [0, 1, 2, 3].repeat(6));
        }
    }

    #[test]
    fn one_sample_is_one_cluster() {
        let tree = Agglomerative { merges: Vec::new(), components: 1 };
        assert_eq!(labels(&tree, 1), [0]);
    }

    #[test]
    fn rejects_what_it_cannot_cluster() {
        let x = formula(6, 2);
        let tree = fit(&x, 2, Metric::Euclidean, Linkage::Ward);
        assert_eq!(tree.cut(7).unwrap_err().to_string(), "clusters = 7: 1 to 6, the number of samples");
        assert_eq!(tree.cut(0).unwrap_err().to_string(), "clusters = 0: 1 to 6, the number of samples");
        let config = KnnGraphConfig { k: 2, metric: Metric::Cosine, ..Default::default() };
        let graph = KnnGraph::new(&x, &config).unwrap();
        let error = Agglomerative::fit(&x, &graph, Linkage::Ward).unwrap_err().to_string();
        assert_eq!(
            error,
            "linkage = ward: average or complete for a graph of cosines; or rows of length 1 and a Euclidean graph"
        );
        let error = Agglomerative::fit(&formula(5, 2), &graph, Linkage::Average).unwrap_err().to_string();
        assert_eq!(error, "x: expected [6, 2], found [5, 2]");
    }
}
