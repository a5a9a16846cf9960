//! Clusters along a graph as labels: agglomerative clustering of the nearest-neighbour graph, which finds clusters that are
//! no balls; each label weighted by how many of its sample's neighbours have it.
//!
//! ```text
//! label_i = the cluster of i when K are left        weight_i = share of i's neighbours with label_i
//! ```

use selfsup_core::{
    Error, FeatureRows, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor, tensor::with_slice,
};
use selfsup_numerics::{Agglomerative, KnnGraph, KnnGraphConfig, Linkage};
use serde::{Deserialize, Serialize};

/// How to cluster, and which labels to trust.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgglomerativeLabelsConfig {
    /// The number of clusters K.
    pub clusters: i64,
    /// How far apart two clusters are.
    pub linkage: Linkage,
    /// Along which edges clusters are joined.
    pub graph: KnnGraphConfig,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
}

impl Default for AgglomerativeLabelsConfig {
    fn default() -> Self {
        AgglomerativeLabelsConfig {
            clusters: 8,
            linkage: Linkage::Ward,
            graph: KnnGraphConfig::default(),
            min_weight: 0.0,
        }
    }
}

/// Labels features by their cluster. Every batch, which should be a whole data set, is clustered anew, and its clusters are
/// numbered by their first samples.
#[derive(Debug)]
pub struct AgglomerativeLabels {
    config: AgglomerativeLabelsConfig,
}

impl AgglomerativeLabels {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there is no cluster, or the least weight is not in `[0, 1]`.
    pub fn new(config: AgglomerativeLabelsConfig) -> Result<AgglomerativeLabels> {
        if config.clusters < 1 {
            return Err(Error::config("clusters", config.clusters, "at least 1"));
        }
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        Ok(AgglomerativeLabels { config })
    }
}

impl PseudoLabeler for AgglomerativeLabels {
    type Scores = FeatureRows;

    /// Labels features `[N, D]`.
    ///
    /// # Errors
    /// When there are fewer samples than clusters, not more than neighbours, or Ward's linkage is asked for on a graph of
    /// cosines.
    fn label(&mut self, scores: &FeatureRows) -> Result<PseudoLabels> {
        let x = scores.tensor();
        let n = x.size()[0];
        if self.config.clusters > n {
            let expected = format!("1 to {n}, the number of samples");
            return Err(Error::config("clusters", self.config.clusters, expected));
        }
        let graph = KnnGraph::new(x, &self.config.graph)?;
        let labels = Agglomerative::fit(x, &graph, self.config.linkage)?.cut(self.config.clusters)?;
        let shares: Vec<f32> = with_slice(&labels, |labels: &[i64]| {
            let share = |i: usize| {
                let neighbours = graph.distances.row(i).0;
                let same = neighbours.iter().filter(|&&j| labels[j as usize] == labels[i]).count();
                // A sample without neighbours is no one's.
                same as f32 / neighbours.len().max(1) as f32
            };
            (0..labels.len()).map(share).collect()
        })?;
        let shares = Tensor::from_slice(&shares).to_kind(Kind::Float);
        let weights = shares.masked_fill(&shares.lt(self.config.min_weight), 0.0);
        let (labels, weights) = (labels.to_device(x.device()), weights.to_device(x.device()));
        Ok(PseudoLabels::new(labels, weights, Reason::Central, Reason::Between))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::affinity::tests::{formula, rows};
    use selfsup_core::Device;
    use selfsup_numerics::{Edges, Metric};

    fn labeler(clusters: i64, linkage: Linkage, k: i64) -> AgglomerativeLabels {
        let graph = KnnGraphConfig { k, ..Default::default() };
        let config = AgglomerativeLabelsConfig { clusters, linkage, graph, ..Default::default() };
        AgglomerativeLabels::new(config).unwrap()
    }

    fn labels(found: &PseudoLabels) -> Vec<i64> {
        Vec::<i64>::try_from(&found.labels).unwrap()
    }

    // x = np.sin(np.arange(120).reshape(40, 3) ** 1.5 * 0.37)                                    # scikit-learn 1.9.1
    // AgglomerativeClustering(6, linkage="average", connectivity=kneighbors_graph(x, 4)).fit(x).labels_
    #[test]
    fn gives_the_clusters_of_scikit_learn() {
        let found = labeler(6, Linkage::Average, 4).label(&rows(&formula(40, 3))).unwrap();
        let numbers: String = labels(&found).iter().map(i64::to_string).collect();
        assert_eq!(numbers, "0102222112121221111111102102121234231520");
    }

    #[test]
    fn follows_two_rings_that_no_ball_can_hold() {
        let angle = Tensor::arange(100, (Kind::Float, Device::Cpu)) * (std::f64::consts::TAU / 100.0);
        let ring = Tensor::stack(&[angle.cos(), angle.sin()], 1);
        let found = labeler(2, Linkage::Average, 3)
            .label(&rows(&Tensor::cat(&[&ring * 1.0, &ring * 5.0], 0)))
            .unwrap();
        assert_eq!(labels(&found), [[0; 100], [1; 100]].concat());
        assert_eq!(Vec::<f64>::try_from(&found.weights).unwrap(), [1.0; 200]);
        assert!(found.reasons().unwrap().iter().all(|reason| *reason == Reason::Central));
    }

    #[test]
    fn weighs_labels_by_the_share_of_neighbours_that_have_them() {
        let x = formula(60, 2);
        let mut labeler = labeler(5, Linkage::Ward, 4);
        let found = labeler.label(&rows(&x)).unwrap();
        let (labels, weights) = (labels(&found), Vec::<f64>::try_from(&found.weights).unwrap());
        let graph = KnnGraph::new(&x, &KnnGraphConfig { k: 4, ..Default::default() }).unwrap();
        for i in 0..60 {
            let neighbours = graph.distances.row(i).0;
            let same: Vec<_> = neighbours.iter().filter(|&&j| labels[j as usize] == labels[i]).collect();
            assert!((weights[i] - same.len() as f64 / neighbours.len() as f64).abs() < 1e-6);
        }
        assert!(weights.iter().any(|w| *w < 1.0) && weights.contains(&1.0));
        labeler.config.min_weight = 1.0;
        let strict = labeler.label(&rows(&x)).unwrap();
        let kept = Vec::<f64>::try_from(&strict.weights).unwrap();
        assert!(kept.iter().zip(&weights).all(|(k, w)| *k == if *w < 1.0 { 0.0 } else { 1.0 }));
        let reasons = strict.reasons().unwrap();
        assert!(reasons.iter().zip(&kept).all(|(r, k)| (*r == Reason::Central) == (*k > 0.0)));
    }

    #[test]
    fn a_sample_without_mutual_neighbours_has_no_weight() {
        let x = Tensor::from_slice(&[0.0_f32, 1.0, 2.5]).unsqueeze(1);
        let graph = KnnGraphConfig { k: 1, metric: Metric::Euclidean, edges: Edges::Mutual };
        let config = AgglomerativeLabelsConfig { clusters: 2, graph, ..Default::default() };
        let found = AgglomerativeLabels::new(config).unwrap().label(&rows(&x)).unwrap();
        assert_eq!(labels(&found), [0, 0, 1]);
        assert_eq!(Vec::<f64>::try_from(&found.weights).unwrap(), [1.0, 1.0, 0.0]);
    }

    #[test]
    fn duplicated_samples_share_a_cluster() {
        let places = Tensor::from_slice2(&[[0.0_f32, 0.0], [3.0, 0.0], [0.0, 4.0]]);
        let found = labeler(3, Linkage::Complete, 3).label(&rows(&places.repeat([5, 1]))).unwrap();
        assert_eq!(labels(&found), [0, 1, 2].repeat(5));
    }

    #[test]
    fn rejects_what_cannot_work() {
        let error = |labeler: &mut AgglomerativeLabels, n| {
            labeler.label(&rows(&formula(n, 2))).unwrap_err().to_string()
        };
        assert_eq!(
            error(&mut labeler(6, Linkage::Ward, 2), 5),
            "clusters = 6: 1 to 5, the number of samples"
        );
        assert_eq!(error(&mut labeler(2, Linkage::Ward, 5), 5), "k = 5: 1 to 4, the number of candidates");
        let mut cosines = labeler(2, Linkage::Ward, 2);
        cosines.config.graph.metric = Metric::Cosine;
        assert!(error(&mut cosines, 5).starts_with("linkage = ward: average or complete"));
        let config = AgglomerativeLabelsConfig { clusters: 0, ..Default::default() };
        assert_eq!(AgglomerativeLabels::new(config).unwrap_err().to_string(), "clusters = 0: at least 1");
        let config = AgglomerativeLabelsConfig { min_weight: -1.0, ..Default::default() };
        assert_eq!(AgglomerativeLabels::new(config).unwrap_err().to_string(), "min_weight = -1: 0 to 1");
    }
}
