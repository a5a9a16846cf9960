//! Labels without any given: clusters of the features.

use super::arguments::Method;
use super::trust::Labels;
use anyhow::{Result, ensure};
use selfsup::core::{FeatureRows, Key, Kind, Logits, PseudoLabeler, Reason, Tensor, TensorExt};
use selfsup::labels::{
    AgglomerativeLabels, AgglomerativeLabelsConfig, ClusterConfig, ClusterLabels, SinkhornLabels,
    SinkhornLabelsConfig,
};
use selfsup::numerics::{
    ClusterCounts, GapConfig, Geometry, KMeans, KMeansConfig, SuggestConfig, suggest_clusters,
};

/// The numbers of clusters that are tried, where the data have more samples.
const CANDIDATES: [i64; 12] = [2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50];

/// Suggests a number of clusters for features `[N, D]`.
///
/// # Errors
/// When there are fewer than four samples, or all are alike.
pub fn suggest(x: &Tensor, seed: u64) -> Result<ClusterCounts> {
    let n = x.size()[0];
    ensure!(n > 3, "{n} samples: too few to find out how many clusters there are; say it with --clusters");
    let sample = 2000;
    let candidates: Vec<i64> = CANDIDATES.into_iter().filter(|&k| k < n.min(sample)).collect();
    let gap = GapConfig { k_means: k_means(2), starts: 2, references: 5, ..Default::default() };
    Ok(suggest_clusters(x, &candidates, &SuggestConfig { gap, sample }, Key::new(seed))?)
}

/// On the sphere: what self-supervised features say is in their direction.
fn k_means(clusters: i64) -> KMeansConfig {
    KMeansConfig { clusters, geometry: Geometry::Spherical, ..Default::default() }
}

/// Labels features `[N, D]` by `clusters` clusters.
///
/// # Errors
/// When there are fewer samples than clusters.
pub fn label(method: Method, x: &Tensor, clusters: i64, seed: u64) -> Result<Labels> {
    let n = x.size()[0];
    ensure!((1..=n).contains(&clusters), "--clusters {clusters}: 1 to {n}, the number of samples");
    let features = FeatureRows::new(x)?;
    let (found, how) = match method {
        Method::Agglomerative => {
            let config = AgglomerativeLabelsConfig { clusters, ..Default::default() };
            (AgglomerativeLabels::new(config)?.label(&features)?, "clusters along the graph")
        }
        Method::Sinkhorn => {
            let centres = KMeans::fit(x, &k_means(clusters), Key::new(seed))?.centres;
            let cosines = Logits::new(&x.l2_normalize().matmul(&centres.tr()))?;
            (SinkhornLabels::new(SinkhornLabelsConfig::default())?.label(&cosines)?, "clusters of equal size")
        }
        _ => {
            let config = ClusterConfig { k_means: k_means(clusters), seed, ..Default::default() };
            (ClusterLabels::new(config)?.label(&features)?, "k-means on the sphere")
        }
    };
    let width = (clusters - 1).to_string().len();
    Ok(Labels {
        classes: (0..clusters).map(|k| format!("cluster-{k:0width$}")).collect(),
        labels: Vec::try_from(&found.labels)?,
        probability: vec![None; n as usize],
        weights: Vec::try_from(&found.weights.to_kind(Kind::Double))?,
        reasons: found.reasons()?.into_iter().map(Reason::sentence).collect(),
        probabilities: None,
        how: how.to_owned(),
        held_out: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three_directions() -> Tensor {
        let rows: Vec<[f32; 3]> = (0..60)
            .map(|i| {
                let mut row = [0.0; 3];
                row[i % 3] = 1.0 + i as f32 * 0.1;
                row[(i + 1) % 3] = 0.02 * (i / 3 % 5) as f32;
                row
            })
            .collect();
        Tensor::from_slice2(&rows)
    }

    #[test]
    fn every_method_finds_directions_whatever_their_lengths() {
        let x = three_directions();
        for method in [Method::KMeans, Method::Sinkhorn] {
            let found = label(method, &x, 3, 0).unwrap();
            for i in 0..60 {
                assert_eq!(found.labels[i] == found.labels[0], i % 3 == 0, "{method:?} {i}");
            }
            assert_eq!(found.classes, ["cluster-0", "cluster-1", "cluster-2"]);
            assert!(found.weights.iter().all(|w| (0.0..=1.0).contains(w)));
            assert!(found.probability.iter().all(Option::is_none));
        }
        assert_eq!(label(Method::Agglomerative, &x, 3, 0).unwrap().labels.len(), 60);
        assert_eq!(suggest(&x, 0).unwrap().suggested, 3);
    }

    #[test]
    fn more_clusters_than_samples_are_refused() {
        let x = three_directions();
        let error = label(Method::KMeans, &x, 61, 0).unwrap_err().to_string();
        assert_eq!(error, "--clusters 61: 1 to 60, the number of samples");
        let error = suggest(&x.narrow(0, 0, 3), 0).unwrap_err().to_string();
        assert!(error.starts_with("3 samples: too few"), "{error}");
    }
}
