//! Uncertain samples of clusters without labels: clusters are gone through as [`TypiClust`] does, and in each the sample is
//! taken that the model is least sure of. The clusters keep the proposal diverse, which the most uncertain samples alone are
//! not.

use super::pool::{PredictedPool, Selector};
use super::typiclust::{TypiClust, TypiClustConfig};
use super::uncertainty::Uncertainty;
use selfsup_core::Result;
use serde::{Deserialize, Serialize};

/// Settings of [`ClusterUncertainty`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClusterUncertaintyConfig {
    /// The clusters.
    pub clusters: TypiClustConfig,
    /// What is taken from them.
    pub uncertainty: Uncertainty,
}

/// Proposes the most uncertain sample of each of many clusters.
#[derive(Clone, Debug)]
pub struct ClusterUncertainty {
    clusters: TypiClust,
    uncertainty: Uncertainty,
}

impl ClusterUncertainty {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there is no cluster.
    pub fn new(config: ClusterUncertaintyConfig) -> Result<ClusterUncertainty> {
        Ok(ClusterUncertainty { clusters: TypiClust::new(config.clusters)?, uncertainty: config.uncertainty })
    }
}

impl Selector for ClusterUncertainty {
    type Pool = PredictedPool;

    fn select_next(&self, n: usize, pool: &PredictedPool) -> Result<Vec<i64>> {
        let uncertainty = self.uncertainty.of(pool.probabilities())?;
        self.clusters.select_by(n, pool.pool(), |_, positions| {
            Ok(positions.iter().map(|&i| uncertainty[i as usize]).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::pool::Pool;
    use super::*;
    use selfsup_core::{FeatureRows, Probabilities, Tensor};

    #[test]
    fn takes_the_least_sure_of_each_cluster() {
        // Three directions of 4, 3 and 2 samples.
        let features = [
            [1.0_f32, 0.0],
            [1.0, 0.01],
            [1.0, 0.02],
            [1.0, 0.03],
            [0.0, 1.0],
            [0.01, 1.0],
            [0.02, 1.0],
            [-1.0, 0.0],
            [-1.0, 0.01],
        ];
        let sure = [0.9_f32, 0.51, 0.7, 0.8, 0.99, 0.95, 0.97, 0.6, 0.7];
        let p = Probabilities::new(&Tensor::from_slice2(&sure.map(|p| [p, 1.0 - p]))).unwrap();
        let pool = Pool::new(&FeatureRows::new(&Tensor::from_slice2(&features)).unwrap(), &[]).unwrap();
        let pool = PredictedPool::new(pool, p).unwrap();
        let clusters = TypiClustConfig { min_cluster: 0, ..Default::default() };
        let config = ClusterUncertaintyConfig { clusters, ..Default::default() };
        let selector = ClusterUncertainty::new(config).unwrap();
        assert_eq!(selector.select_next(3, &pool).unwrap(), [1, 5, 7]);
    }
}
