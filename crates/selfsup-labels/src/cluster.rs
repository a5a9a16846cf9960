//! Clusters as labels: k-means on features (DeepCluster, Caron et al. 2018), each label weighted by how clearly its
//! sample lies in its cluster.
//!
//! ```text
//! label_i = argmin_k |x_i - c_k|        weight_i = 1 - |x_i - c_1st| / |x_i - c_2nd|
//! ```
//! A sample on its centre has weight 1, one halfway to the next centre 0. With distances to centres in place of mean
//! distances to clusters this is the silhouette (the "simplified" one of Hruschka et al. 2004).

use crate::memory::{restored_as, saved};
use selfsup_core::{
    Error, FeatureRows, Key, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor, check_shape,
};
use selfsup_numerics::{KMeans, KMeansConfig, nearest_centres};
use serde::{Deserialize, Serialize};

/// How to cluster, and which labels to trust.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterConfig {
    /// The clustering.
    pub k_means: KMeansConfig,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
    /// Decides the first centres.
    pub seed: u64,
}

/// Labels features by the cluster they fall in. The first batch that it labels, which should be a whole data set, is
/// what the centres are fitted to; later ones are assigned to the same centres.
#[derive(Debug)]
pub struct ClusterLabels {
    config: ClusterConfig,
    /// `[K, D]`, or `[0, 0]` before the first batch.
    centres: Tensor,
}

impl ClusterLabels {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the least weight is not in `[0, 1]`.
    pub fn new(config: ClusterConfig) -> Result<ClusterLabels> {
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        let centres = Tensor::zeros([0, 0], (Kind::Float, selfsup_core::Device::Cpu));
        Ok(ClusterLabels { config, centres })
    }

    /// The centres `[K, D]`, once a batch was labelled.
    pub fn centres(&self) -> Option<&Tensor> {
        (self.centres.size()[0] > 0).then_some(&self.centres)
    }
}

impl PseudoLabeler for ClusterLabels {
    type Scores = FeatureRows;

    /// Labels features `[N, D]`.
    ///
    /// # Errors
    /// When the first batch has fewer samples than clusters, or a later one another
    /// number of features.
    fn label(&mut self, scores: &FeatureRows) -> Result<PseudoLabels> {
        let scores = scores.tensor();
        if self.centres().is_none() {
            self.centres = KMeans::fit(scores, &self.config.k_means, Key::new(self.config.seed))?.centres;
        }
        let centres = self.centres.to_device(scores.device());
        let found = nearest_centres(scores, &centres, self.config.k_means.geometry)?;
        // A sample on two centres at once (0 / 0) belongs to neither.
        let margin: Tensor = 1.0 - (found.nearest / found.second).sqrt().nan_to_num(1.0, 1.0, 1.0);
        let rejected = margin.lt(self.config.min_weight);
        let weights = margin.masked_fill(&rejected, 0.0);
        Ok(PseudoLabels::new(found.labels, weights, Reason::Central, Reason::Between))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("centres", &self.centres)]
    }

    /// Takes up the centres.
    ///
    /// # Errors
    /// When they are missing, no finite Floats, or not one for each cluster.
    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let centres = restored_as(state, "centres", &[-1, -1], Kind::Float)?;
        if centres.size() != [0, 0] {
            check_shape("state.centres", &centres, [self.config.k_means.clusters, -1])?;
        }
        self.centres = centres;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(x: Tensor) -> FeatureRows {
        FeatureRows::new(&x).unwrap()
    }

    fn labeler(clusters: i64, min_weight: f64) -> ClusterLabels {
        let k_means = KMeansConfig { clusters, ..Default::default() };
        ClusterLabels::new(ClusterConfig { k_means, min_weight, seed: 0 }).unwrap()
    }

    #[test]
    fn weighs_labels_by_the_margin_to_the_second_centre() {
        let mut labeler = labeler(2, 0.0);
        let first = labeler.label(&rows(Tensor::from_slice2(&[[-1.0_f32], [1.0], [9.0], [11.0]]))).unwrap();
        let labels = Vec::<i64>::try_from(&first.labels).unwrap();
        assert!(labels[0] == labels[1] && labels[2] == labels[3] && labels[0] != labels[2]);
        // Centres are 0 and 10: distances 1 and 11, 1 and 9.
        let weights = Vec::<f64>::try_from(&first.weights).unwrap();
        let expected = [1.0 - 1.0 / 11.0, 1.0 - 1.0 / 9.0, 1.0 - 1.0 / 9.0, 1.0 - 1.0 / 11.0];
        assert!(weights.iter().zip(expected).all(|(w, e)| (w - e).abs() < 1e-5), "{weights:?}");

        let later = labeler.label(&rows(Tensor::from_slice2(&[[0.0_f32], [5.0], [10.0]]))).unwrap();
        let weights = Vec::<f64>::try_from(&later.weights).unwrap();
        assert!((weights[0] - 1.0).abs() < 1e-3 && weights[1].abs() < 1e-5, "{weights:?}");
        assert_eq!(later.labels.int64_value(&[0]), labels[0]);
        assert_eq!(later.labels.int64_value(&[2]), labels[2]);
    }

    #[test]
    fn rejects_labels_below_the_least_weight() {
        let found =
            labeler(2, 0.9).label(&rows(Tensor::from_slice2(&[[-1.0_f32], [1.0], [9.0], [11.0]]))).unwrap();
        let kept = Vec::<bool>::try_from(found.weights.gt(0.0)).unwrap();
        assert_eq!(kept, [true, false, false, true]);
    }

    #[test]
    fn one_cluster_has_no_rival() {
        let found = labeler(1, 0.0).label(&rows(Tensor::from_slice2(&[[0.0_f32], [4.0]]))).unwrap();
        assert_eq!(Vec::<f64>::try_from(&found.weights).unwrap(), [1.0, 1.0]);
    }

    #[test]
    fn goes_on_from_its_state() {
        let (mut a, mut b) = (labeler(2, 0.0), labeler(2, 0.0));
        b.restore(&a.state()).unwrap();
        assert!(b.centres().is_none());
        a.label(&rows(Tensor::from_slice2(&[[-1.0_f32], [1.0], [9.0], [11.0]]))).unwrap();
        b.restore(&a.state()).unwrap();
        // Alone these two would be the centres.
        let next = Tensor::from_slice2(&[[2.0_f32], [3.0]]);
        let (found, other) = (a.label(&rows(next.copy())).unwrap(), b.label(&rows(next)).unwrap());
        assert!(found.labels == other.labels && found.weights == other.weights);
        assert_eq!(found.labels.int64_value(&[0]), found.labels.int64_value(&[1]));
        let error = labeler(3, 0.0).restore(&a.state()).unwrap_err().to_string();
        assert_eq!(error, "state.centres: expected [3, _], found [2, 1]");
        assert_eq!(b.restore(&[]).unwrap_err().to_string(), "state.centres = missing: [_, _] Float");
        let nan = [("centres".to_owned(), Tensor::from_slice2(&[[1.0_f32], [f32::NAN]]))];
        assert!(b.restore(&nan).unwrap_err().to_string().starts_with("state.centres is not finite"));
        assert_eq!(b.centres(), a.centres());
    }

    #[test]
    fn rejects_batches_that_do_not_fit_and_keeps_its_centres() {
        let mut labeler = labeler(2, 0.0);
        let error = labeler.label(&rows(Tensor::from_slice2(&[[1.0_f32]]))).unwrap_err().to_string();
        assert_eq!(error, "clusters = 2: 1 to 1, the number of samples");
        labeler.label(&rows(Tensor::from_slice2(&[[0.0_f32], [1.0]]))).unwrap();
        assert!(labeler.label(&rows(Tensor::from_slice2(&[[0.0_f32, 1.0]]))).is_err());
        assert!(labeler.centres().is_some());
        let error = ClusterLabels::new(ClusterConfig { min_weight: -1.0, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "min_weight = -1: 0 to 1");
    }
}
