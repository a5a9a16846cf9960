//! TypiClust (Hacohen, Dekel and Weinshall 2022, section 3): with few labels, ask about typical samples of parts of the
//! feature space that have no label yet.
//!
//! ```text
//! clusters: k-means with as many as labels there are and will be
//! repeat n times: in the largest of the clusters with the fewest labels, the sample with the highest
//!     typicality(x) = 1 / mean distance of x to its k nearest in the cluster
//! ```
//! As in the authors' code features are scaled to length 1, there are 500 clusters at most, `k` is 20 but no more than half
//! of the cluster, and samples with a label count for no density. Its clusters of 5 or fewer samples are left out; here they
//! come last. It goes round its clusters in a fixed order when there are fewer than samples to choose; here a chosen sample
//! counts as a label at once.

use super::pool::{Picks, Pool, Selector};
use selfsup_core::{Error, Key, Kind, Result, Tensor, TensorExt};
use selfsup_numerics::{KMeans, KMeansConfig, Metric, SelfMatches, TopKConfig, top_k};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Settings of [`TypiClust`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypiClustConfig {
    /// Neighbours in the cluster that a sample's typicality is measured by. The paper: 20.
    pub neighbours: i64,
    /// The most clusters. The paper: 500.
    pub max_clusters: i64,
    /// Clusters with fewer samples are asked last. The authors' code: more than 5 are needed.
    pub min_cluster: usize,
    /// Whether features are scaled to length 1 first. The authors' code: yes.
    pub normalize: bool,
    /// Decides the first centres.
    pub seed: u64,
}

impl Default for TypiClustConfig {
    fn default() -> Self {
        TypiClustConfig { neighbours: 20, max_clusters: 500, min_cluster: 6, normalize: true, seed: 0 }
    }
}

/// Proposes typical samples.
#[derive(Clone, Debug)]
pub struct TypiClust {
    config: TypiClustConfig,
}

impl TypiClust {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there is no neighbour or no cluster.
    pub fn new(config: TypiClustConfig) -> Result<TypiClust> {
        for (name, value) in [("neighbours", config.neighbours), ("max_clusters", config.max_clusters)] {
            if value < 1 {
                return Err(Error::config(name, value, "at least 1"));
            }
        }
        Ok(TypiClust { config })
    }

    /// Goes through the clusters as TypiClust does, and takes from each what scores highest: `score` is called with the
    /// features `[M, D]` and the positions of the samples of a cluster that are neither labelled nor chosen.
    pub(super) fn select_by(
        &self,
        n: usize,
        pool: &Pool,
        score: impl Fn(&Tensor, &[i64]) -> Result<Vec<f64>>,
    ) -> Result<Vec<i64>> {
        let mut picks = Picks::new(n, pool)?;
        if n == 0 {
            return Ok(Vec::new());
        }
        let normalized = self.config.normalize.then(|| pool.features().l2_normalize());
        let features = normalized.as_ref().unwrap_or(pool.features());
        let mut clusters = self.clusters(n, pool, features)?;
        while !picks.done() {
            let has = |fits: &dyn Fn(usize) -> bool| {
                let open = clusters.iter().enumerate().filter(|(_, c)| c.members.iter().any(|&i| fits(i)));
                open.min_by_key(|(_, c)| {
                    (c.members.len() < self.config.min_cluster, c.labels, Reverse(c.members.len()))
                })
            };
            let found = has(&|i| picks.is_new(i)).or_else(|| has(&|i| picks.is_free(i)));
            let Some((at, cluster)) = found else { break };
            let free: Vec<usize> = cluster.members.iter().copied().filter(|&i| picks.is_free(i)).collect();
            let positions: Vec<i64> = free.iter().map(|&i| i as i64).collect();
            let scores = score(&features.index_select(0, &Tensor::from_slice(&positions)), &positions)?;
            picks.take_best(free.into_iter().zip(scores));
            clusters[at].labels += 1;
        }
        Ok(picks.into_order())
    }

    fn clusters(&self, n: usize, pool: &Pool, features: &Tensor) -> Result<Vec<Cluster>> {
        let labelled = pool.labelled();
        let wanted = (labelled.len() + n) as i64;
        let k_means = KMeansConfig { clusters: wanted.min(self.config.max_clusters), ..Default::default() };
        let assigned = KMeans::fit(features, &k_means, Key::new(self.config.seed))?.labels;
        let assigned = Vec::<i64>::try_from(assigned)?;
        let mut clusters: Vec<Cluster> = Vec::new();
        clusters.resize_with(k_means.clusters as usize, Cluster::default);
        for (i, &cluster) in assigned.iter().enumerate() {
            clusters[cluster as usize].members.push(i);
        }
        for i in labelled {
            clusters[assigned[i] as usize].labels += 1;
        }
        Ok(clusters)
    }
}

#[derive(Default)]
struct Cluster {
    /// In the order of their positions.
    members: Vec<usize>,
    /// How many of them are labelled or chosen.
    labels: usize,
}

impl Selector for TypiClust {
    type Pool = Pool;

    fn select_next(&self, n: usize, pool: &Pool) -> Result<Vec<i64>> {
        self.select_by(n, pool, |features, _| {
            let half = features.size()[0] / 2;
            typicality(features, self.config.neighbours.min(half))
        })
    }
}

/// The inverse mean distance of each sample `[M, D]` to its `k` nearest; 0 of all when `k` is 0.
pub(super) fn typicality(features: &Tensor, k: i64) -> Result<Vec<f64>> {
    if k == 0 {
        return Ok(vec![0.0; features.size()[0] as usize]);
    }
    let config =
        TopKConfig { k, metric: Metric::Euclidean, self_matches: SelfMatches::Exclude, ..Default::default() };
    let distances = top_k(features, features, &config)?.scores.mean_dim([1].as_slice(), false, Kind::Double);
    // The authors' constant: copies have no distance.
    Ok(Vec::try_from(1.0 / (distances + 1e-5))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, FeatureRows};

    fn wave(n: i64, from: i64) -> Tensor {
        let i = Tensor::arange(n * 4, (Kind::Double, Device::Cpu)) + from;
        (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([n, 4])
    }

    /// Six clouds of 30, 24, 20, 16, 12 and 8 samples.
    fn clouds() -> Tensor {
        let corners = [[1.0_f64, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0], [1.0, 1.0], [-1.0, -1.0]];
        let parts: Vec<Tensor> = [30, 24, 20, 16, 12, 8]
            .into_iter()
            .zip(corners)
            .zip(0..)
            .map(|((n, [a, b]), i)| {
                wave(n, 1000 * i) * 0.1 + Tensor::from_slice(&[a, b, 1.0 - a.abs(), 1.0 - b.abs()])
            })
            .collect();
        Tensor::cat(&parts, 0).to_kind(Kind::Float)
    }

    fn select(config: TypiClustConfig, labelled: &[i64], n: usize) -> Vec<i64> {
        let pool = Pool::new(&FeatureRows::new(&clouds()).unwrap(), labelled).unwrap();
        TypiClust::new(config).unwrap().select_next(n, &pool).unwrap()
    }

    // wave = lambda n, s: np.sin((np.arange(n * 4) + s) ** 1.5 * 0.37).reshape(n, 4)
    // corners = [[1, 0], [0, 1], [-1, 0], [0, -1], [1, 1], [-1, -1]]
    // x = np.concatenate([wave(n, 1000 * i) * 0.1 + [a, b, 1 - abs(a), 1 - abs(b)]
    //     for i, (n, (a, b)) in enumerate(zip([30, 24, 20, 16, 12, 8], corners))]).astype(np.float32)
    // x = x / np.linalg.norm(x, axis=1, keepdims=True)
    // c = KMeans(6, n_init=10, random_state=0).fit_predict(x)                              # sklearn 1.9.1
    // def typicality(f, k):
    //     d = np.sort(np.linalg.norm(f[:, None] - f, axis=2), axis=1)[:, 1:k + 1]; return 1 / (d.mean(1) + 1e-5)
    // existing = np.bincount(c[[0, 100]], minlength=6); size = np.bincount(c)
    // order = sorted((k for k in range(6) if size[k] > 5), key=lambda k: (existing[k], -size[k]))
    // c[[0, 100]] = -1
    // for i in range(4):
    //     idx = (c == order[i]).nonzero()[0]; t = typicality(x[idx], min(20, len(idx) // 2))
    //     picked = idx[t.argmax()]; c[picked] = -1
    #[test]
    fn goes_the_way_of_the_authors_code() {
        assert_eq!(select(TypiClustConfig::default(), &[0, 100], 4), REFERENCE);
    }

    const REFERENCE: [i64; 4] = [43, 64, 83, 104];

    #[test]
    fn chosen_samples_count_as_labels() {
        // Two clusters only: the second sample comes from the other one, the third from the first again.
        let config = TypiClustConfig { max_clusters: 2, ..Default::default() };
        let chosen = select(config.clone(), &[], 4);
        let normalized = clouds().l2_normalize();
        let k_means = KMeansConfig { clusters: 2, ..Default::default() };
        let clusters = KMeans::fit(&normalized, &k_means, Key::new(0)).unwrap().labels;
        let of = |i: usize| clusters.int64_value(&[chosen[i]]);
        assert!(of(0) != of(1) && of(0) == of(2) && of(1) == of(3));
    }

    #[test]
    fn small_clusters_come_last() {
        let config = |min_cluster| TypiClustConfig { min_cluster, ..Default::default() };
        let cloud = |i: i64| [30, 54, 74, 90, 102, 110].iter().position(|&end| i < end).unwrap();
        let of = |min_cluster| -> Vec<usize> {
            select(config(min_cluster), &[0, 31], 4).into_iter().map(cloud).collect()
        };
        assert_eq!(of(6), [2, 3, 4, 5]);
        // With the three smallest clouds "small", the labelled large ones are asked before them.
        assert_eq!(of(17), [2, 0, 1, 2]);
    }

    #[test]
    fn typicality_equals_a_loop() {
        let x = clouds().narrow(0, 0, 30);
        let rows = Vec::<Vec<f64>>::try_from(&x).unwrap();
        let found = typicality(&x, 5).unwrap();
        for (i, a) in rows.iter().enumerate() {
            let mut distances: Vec<f64> = rows
                .iter()
                .enumerate()
                .filter(|&(j, _)| j != i)
                .map(|(_, b)| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt())
                .collect();
            distances.sort_by(f64::total_cmp);
            let mean = distances[..5].iter().sum::<f64>() / 5.0;
            assert!((found[i] * (mean + 1e-5) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn rejects_no_neighbours() {
        let config = TypiClustConfig { neighbours: 0, ..Default::default() };
        assert_eq!(TypiClust::new(config).unwrap_err().to_string(), "neighbours = 0: at least 1");
        assert!(TypiClust::new(TypiClustConfig { max_clusters: 0, ..Default::default() }).is_err());
    }
}
