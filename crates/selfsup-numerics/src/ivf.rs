//! Approximate nearest-neighbour search with inverted lists (Sivic and Zisserman 2003; faiss' `IndexIVFFlat`): keys are put into
//! the list of their nearest centre, and a query is compared with the keys of the lists whose centres are nearest to it.
//!
//! ```text
//! cost of a query    lists + probes N / lists  comparisons, in place of N          recall@k = |found and exact| / k
//! ```
//! With as many probes as lists the search is exact. With fewer it misses what lies behind the border of a list: how much is for
//! [`neighbour_recall`] to say, on queries that were also searched exactly. Centres are k-means' by default; with faiss' centres the
//! answers are faiss'.

use crate::finite_matrix;
use crate::{Geometry, KMeans, KMeansConfig, Metric, Neighbours, TopKConfig, nearest_centres, top_k};
use rand::seq::SliceRandom;
use selfsup_core::{Device, Error, Key, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// How an index is built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IvfConfig {
    /// The lists; faiss advises 4 to 16 times the root of the number of keys.
    pub lists: i64,
    /// What "near" means.
    pub metric: Metric,
    /// The keys of a list that k-means is fitted to, drawn where there are more; faiss' 256.
    pub fitted: usize,
    /// The rounds of k-means; faiss' 10.
    pub iterations: usize,
}

impl Default for IvfConfig {
    fn default() -> Self {
        IvfConfig { lists: 256, metric: Metric::Cosine, fitted: 256, iterations: 10 }
    }
}

/// Keys in the lists of their nearest centres.
#[derive(Debug)]
pub struct Ivf {
    metric: Metric,
    /// `[L, D]` Float.
    centres: Tensor,
    /// The keys, list by list, `[N, D]` Float.
    keys: Tensor,
    /// The row of each of them, `[N]` Int64.
    rows: Tensor,
    /// Where each list begins, and where the last ends.
    starts: Vec<i64>,
}

impl Ivf {
    /// Builds an index with the centres that k-means finds; draws depend on `key`.
    ///
    /// # Shapes
    /// `keys` `[N, D]`, on the CPU.
    ///
    /// # Errors
    /// When `keys` is no finite matrix, there are not from 1 to `N` lists, or nothing is fitted.
    pub fn fit(keys: &Tensor, config: &IvfConfig, key: Key) -> Result<Ivf> {
        let (x, [n, _]) = finite_matrix("keys", keys)?;
        if !(1..=n).contains(&config.lists) {
            return Err(Error::config("lists", config.lists, format!("1 to {n}, the number of keys")));
        }
        if config.fitted == 0 {
            return Err(Error::config("fitted", 0, "at least 1 key a list"));
        }
        let most = config.fitted.saturating_mul(config.lists as usize);
        let some = if most < n as usize {
            let mut chosen: Vec<i64> = (0..n).collect();
            chosen.shuffle(&mut key.with(0).rng());
            chosen.truncate(most);
            chosen.sort_unstable();
            x.index_select(0, &Tensor::from_slice(&chosen))
        } else {
            x.shallow_clone()
        };
        let k_means = KMeansConfig {
            clusters: config.lists,
            iterations: config.iterations,
            geometry: geometry(config.metric),
            ..Default::default()
        };
        Ivf::with_centres(keys, &KMeans::fit(&some, &k_means, key.with(1))?.centres, config.metric)
    }

    /// Builds an index with given centres, one a list.
    ///
    /// # Shapes
    /// `keys` `[N, D]`, `centres` `[L, D]`, on the CPU.
    ///
    /// # Errors
    /// When these are no finite matrices of as many features.
    pub fn with_centres(keys: &Tensor, centres: &Tensor, metric: Metric) -> Result<Ivf> {
        let (keys, [_, d]) = finite_matrix("keys", &keys.to_device(Device::Cpu))?;
        let (centres, [lists, _]) = finite_matrix("centres", &centres.to_device(Device::Cpu))?;
        check_shape("centres", &centres, [-1, d])?;
        let scaled = |x: Tensor| if metric == Metric::Cosine { x.l2_normalize() } else { x };
        let (keys, centres) = (scaled(keys), scaled(centres));
        let list = nearest_centres(&keys, &centres, geometry(metric))?.labels;
        let rows = list.argsort_stable(true, 0, false);
        let counts = Vec::<i64>::try_from(list.bincount(None::<Tensor>, lists))?;
        let mut starts = vec![0];
        for count in counts {
            starts.push(starts[starts.len() - 1] + count);
        }
        Ok(Ivf { metric, centres, keys: keys.index_select(0, &rows), rows, starts })
    }

    /// The number of lists.
    pub fn lists(&self) -> i64 {
        self.centres.size()[0]
    }

    /// The nearest keys of every query among those of the `probes` lists that are nearest to it. Where these hold fewer than `k`, the
    /// rest of a row is -1, infinitely far away. Equally near keys stand in no order.
    ///
    /// # Shapes
    /// `queries` `[Q, D]`; returns `[Q, k]`.
    ///
    /// # Errors
    /// When `queries` is no finite matrix of as many features, `k` is not in `1..=N`, or `probes` not in `1..=lists`.
    pub fn search(&self, queries: &Tensor, k: i64, probes: i64) -> Result<Neighbours> {
        let (queries, [q, _]) = finite_matrix("queries", &queries.to_device(Device::Cpu))?;
        let [n, d] = check_shape("keys", &self.keys, [-1, -1])?;
        check_shape("queries", &queries, [-1, d])?;
        if !(1..=n).contains(&k) {
            return Err(Error::config("k", k, format!("1 to {n}, the number of keys")));
        }
        if !(1..=self.lists()).contains(&probes) {
            return Err(Error::config(
                "probes",
                probes,
                format!("1 to {}, the number of lists", self.lists()),
            ));
        }
        let queries = if self.metric == Metric::Cosine { queries.l2_normalize() } else { queries };
        let config = TopKConfig { k: probes, metric: self.metric, ..Default::default() };
        let probed = top_k(&queries, &self.centres, &config)?.indices.reshape([-1]); // [Q P]
        // The queries of every list.
        let order = probed.argsort_stable(true, 0, false);
        let of_query = order.divide_scalar_mode(probes, "floor").to_kind(Kind::Int64);
        let counts = Vec::<i64>::try_from(probed.bincount(None::<Tensor>, self.lists()))?;
        let mut scores = Tensor::full([q, k], f64::NEG_INFINITY, (Kind::Float, Device::Cpu));
        let mut indices = Tensor::full([q, k], -1, (Kind::Int64, Device::Cpu));
        let mut start = 0;
        for (list, count) in counts.into_iter().enumerate() {
            let (from, length) = (self.starts[list], self.starts[list + 1] - self.starts[list]);
            let asking = of_query.narrow(0, start, count);
            start += count;
            if count == 0 || length == 0 {
                continue;
            }
            let (keys, rows) = (self.keys.narrow(0, from, length), self.rows.narrow(0, from, length));
            // The lists of one query may be large together, but one list at a time is held.
            for asking in asking.split(BLOCK, 0) {
                let near = self.nearness(&queries.index_select(0, &asking), &keys); // [A, length]
                let (near, at) = near.topk(k.min(length), 1, true, true);
                let rows = rows.index_select(0, &at.reshape([-1])).reshape_as(&at);
                let all = Tensor::cat(&[scores.index_select(0, &asking), near], 1);
                let of_all = Tensor::cat(&[indices.index_select(0, &asking), rows], 1);
                let (best, at) = all.topk(k, 1, true, true);
                let _ = scores.index_copy_(0, &asking, &best);
                let _ = indices.index_copy_(0, &asking, &of_all.gather(1, &at, false));
            }
        }
        let scores = match self.metric {
            Metric::Cosine => scores,
            Metric::Euclidean => (-scores).clamp_min(0.0).sqrt(),
        };
        Ok(Neighbours { indices, scores })
    }

    /// The cosine, or the squared distance with the other sign: the larger, the nearer.
    fn nearness(&self, queries: &Tensor, keys: &Tensor) -> Tensor {
        match self.metric {
            Metric::Cosine => queries.matmul(&keys.tr()),
            Metric::Euclidean => {
                // Differences are small inside a list: they are taken from its mean.
                let mean = keys.mean_dim(0, true, None);
                let (queries, keys) = (queries - &mean, keys - &mean);
                let squares = |x: &Tensor| x.square().sum_dim_intlist([1].as_slice(), true, None);
                queries.matmul(&keys.tr()) * 2.0 - squares(&queries) - squares(&keys).tr()
            }
        }
    }
}

/// Queries of a list that are compared at a time.
const BLOCK: i64 = 1024;

fn geometry(metric: Metric) -> Geometry {
    match metric {
        Metric::Cosine => Geometry::Spherical,
        Metric::Euclidean => Geometry::Euclidean,
    }
}

/// The share of the exact neighbours that were found, the mean over queries.
///
/// # Shapes
/// Indices `[Q, k]` Int64 each, those of `exact` all different.
///
/// # Errors
/// When the shapes differ or are empty.
pub fn neighbour_recall(found: &Tensor, exact: &Tensor) -> Result<f64> {
    let [q, k] = check_shape("exact", exact, [-1, -1])?;
    check_shape("found", found, [q, k])?;
    if q == 0 || k == 0 {
        return Err(Error::config("exact", format!("[{q}, {k}]"), "at least one query and one neighbour"));
    }
    let (found, exact) = (Vec::<Vec<i64>>::try_from(found)?, Vec::<Vec<i64>>::try_from(exact)?);
    let hits =
        |(found, exact): (&Vec<i64>, &Vec<i64>)| exact.iter().filter(|row| found.contains(row)).count();
    let all: usize = found.iter().zip(&exact).map(hits).sum();
    Ok(all as f64 / (q * k) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sin(0.37 i^1.5), `[260, 6]`: keys and queries.
    fn data() -> (Tensor, Tensor) {
        let i = Tensor::arange(1560, (Kind::Double, Device::Cpu));
        let x = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([260, 6]).to_kind(Kind::Float);
        (x.narrow(0, 0, 240), x.narrow(0, 240, 20))
    }

    fn exact(metric: Metric, k: i64) -> Neighbours {
        let (keys, queries) = data();
        top_k(&queries, &keys, &TopKConfig { k, metric, ..Default::default() }).unwrap()
    }

    // x = np.sin(np.arange(1560) ** 1.5 * 0.37).reshape(260, 6).astype(np.float32); k, q = x[:240], x[240:]
    // for the cosine: k and q divided by their lengths, IndexFlatIP and METRIC_INNER_PRODUCT                       # faiss 1.15
    // c = faiss.IndexFlatL2(6); c.add(k[:8]); i = faiss.IndexIVFFlat(c, 6, 8, faiss.METRIC_L2); i.is_trained = True
    // i.add(k); i.nprobe = 2; f = i.search(q, 3)[1]; f[:8], and the share of IndexFlatL2's answers that is in f
    #[test]
    fn finds_what_faiss_finds_with_the_same_centres() {
        let (keys, queries) = data();
        for (metric, rows, recall) in
            [(Metric::Euclidean, EUCLIDEAN, L2_RECALL), (Metric::Cosine, COSINE, IP_RECALL)]
        {
            let index = Ivf::with_centres(&keys, &keys.narrow(0, 0, 8), metric).unwrap();
            let found = index.search(&queries, 3, 2).unwrap();
            let first = Vec::<Vec<i64>>::try_from(found.indices.narrow(0, 0, 8)).unwrap();
            assert_eq!(first, rows, "{metric:?}");
            let share = neighbour_recall(&found.indices, &exact(metric, 3).indices).unwrap();
            assert!((share - recall).abs() < 1e-9, "{metric:?}: {share}");
        }
        let found = Ivf::with_centres(&keys, &keys.narrow(0, 0, 8), Metric::Euclidean).unwrap();
        let found = found.search(&queries, 3, 2).unwrap();
        let nearest = found.scores.double_value(&[0, 0]);
        assert!((nearest - 0.3490932583808899).abs() < 1e-5, "{nearest}");
    }

    #[test]
    fn with_all_lists_it_is_exact_and_with_more_probes_never_worse() {
        let (keys, queries) = data();
        for metric in [Metric::Euclidean, Metric::Cosine] {
            let config = IvfConfig { lists: 12, metric, ..Default::default() };
            let index = Ivf::fit(&keys, &config, Key::new(1)).unwrap();
            let exact = exact(metric, 5);
            let recalls: Vec<f64> = (1..=12)
                .map(|probes| {
                    let found = index.search(&queries, 5, probes).unwrap();
                    neighbour_recall(&found.indices, &exact.indices).unwrap()
                })
                .collect();
            assert!(recalls.is_sorted() && recalls[0] < 1.0 && recalls[11] == 1.0, "{recalls:?}");
            let all = index.search(&queries, 5, 12).unwrap();
            assert!(all.scores.allclose(&exact.scores, 1e-4, 1e-4, false));
        }
    }

    #[test]
    fn what_the_probed_lists_lack_is_far_away() {
        let (keys, queries) = data();
        let index = Ivf::with_centres(&keys, &keys.narrow(0, 0, 8), Metric::Euclidean).unwrap();
        let found = index.search(&queries, 40, 1).unwrap();
        let missing = Vec::<Vec<i64>>::try_from(&found.indices).unwrap();
        let counts: Vec<usize> = missing.iter().map(|row| row.iter().filter(|i| **i == -1).count()).collect();
        assert_eq!(counts, MISSING);
        assert_eq!(found.scores.double_value(&[1, 39]), f64::INFINITY);
    }

    // i.nprobe = 1; (i.search(q, 40)[1] < 0).sum(1), with Euclidean distances
    const EUCLIDEAN: [[i64; 3]; 8] = [
        [56, 39, 146],
        [40, 8, 121],
        [58, 116, 59],
        [149, 145, 118],
        [120, 123, 42],
        [121, 40, 147],
        [122, 118, 149],
        [146, 123, 44],
    ];
    const COSINE: [[i64; 3]; 8] = [
        [56, 127, 132],
        [40, 8, 121],
        [58, 116, 59],
        [149, 145, 118],
        [120, 123, 42],
        [121, 40, 8],
        [122, 118, 149],
        [44, 146, 123],
    ];
    const L2_RECALL: f64 = 59.0 / 60.0;
    const IP_RECALL: f64 = 57.0 / 60.0;
    const MISSING: [usize; 20] =
        [0, 29, 19, 19, 13, 29, 19, 13, 31, 13, 31, 13, 19, 29, 13, 0, 31, 29, 0, 13];

    #[test]
    fn an_index_is_a_function_of_its_key_and_empty_lists_do_no_harm() {
        let (keys, queries) = data();
        let config = IvfConfig { lists: 10, fitted: 8, ..Default::default() };
        let search = |key| Ivf::fit(&keys, &config, Key::new(key)).unwrap().search(&queries, 4, 2).unwrap();
        assert_eq!(search(3).indices, search(3).indices);
        let twice = Tensor::cat(&[&keys.narrow(0, 0, 4), &keys.narrow(0, 0, 4)], 0);
        let index = Ivf::with_centres(&keys, &twice, Metric::Euclidean).unwrap();
        assert_eq!(index.lists(), 8);
        let found = index.search(&queries, 3, 8).unwrap();
        assert_eq!(neighbour_recall(&found.indices, &exact(Metric::Euclidean, 3).indices).unwrap(), 1.0);
    }

    #[test]
    fn rejects_what_cannot_be_searched() {
        let (keys, queries) = data();
        let index = Ivf::with_centres(&keys, &keys.narrow(0, 0, 8), Metric::Cosine).unwrap();
        let error = |k, probes| index.search(&queries, k, probes).unwrap_err().to_string();
        assert_eq!(error(0, 1), "k = 0: 1 to 240, the number of keys");
        assert_eq!(error(3, 9), "probes = 9: 1 to 8, the number of lists");
        let wide = index.search(&queries.narrow(1, 0, 5), 3, 1).unwrap_err().to_string();
        assert_eq!(wide, "queries: expected [_, 6], found [20, 5]");
        let many = IvfConfig { lists: 241, ..Default::default() };
        let error = Ivf::fit(&keys, &many, Key::new(0)).unwrap_err().to_string();
        assert_eq!(error, "lists = 241: 1 to 240, the number of keys");
        let found = index.search(&queries, 3, 1).unwrap().indices;
        assert!(neighbour_recall(&found, &found.narrow(1, 0, 2)).is_err());
    }
}
