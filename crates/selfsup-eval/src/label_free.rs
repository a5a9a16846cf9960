//! All that features can be asked without labels, for a report: how they spread, how their variance falls layer by layer, whether
//! samples differ more than their views, and whether they fall into clusters.
//!
//! Costs are bounded: rows are evenly taken where there are more, and every number says over how many it is. Everything is a
//! function of the features and one seed.

use crate::measurement::Origin;
use crate::{
    LayerSpectrum, Mean, Measurement, PowerLawConfig, SetHealth, SetHealthConfig, Stage, layer_spectra,
};
use selfsup_core::{Error, Key, Kind, Result, Tensor, TensorExt, check_shape};
use selfsup_numerics::{KMeans, KMeansConfig, Metric, silhouette};
use serde::{Deserialize, Serialize};

/// How each question is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelFreeConfig {
    /// Rows whose pairs are compared, for the spread and the silhouettes: every so manyth, this many to twice as many.
    pub max_rows: i64,
    /// Rows of a layer whose spectrum is taken, likewise.
    pub max_spectrum_rows: i64,
    /// The eigenvalues that a power law is fitted to.
    pub power_law: PowerLawConfig,
    /// The numbers of clusters whose silhouette is measured; those that the rows cannot fill are left out.
    pub clusters: Vec<i64>,
    /// Decides the starts of k-means.
    pub seed: u64,
}

impl Default for LabelFreeConfig {
    fn default() -> Self {
        LabelFreeConfig {
            max_rows: 2048,
            max_spectrum_rows: 4096,
            power_law: PowerLawConfig::default(),
            clusters: vec![2, 5, 10, 20, 50],
            seed: 0,
        }
    }
}

/// The silhouette of clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClusterSilhouette {
    /// The clusters asked for.
    pub clusters: i64,
    /// The mean silhouette by cosine distance, with an interval over the samples for the clusters as they are.
    pub silhouette: Mean,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelFree {
    /// How the features spread, and how near those of two views of a sample are.
    pub health: SetHealth,
    /// Of the features, or of every layer that was given.
    pub spectra: Vec<LayerSpectrum>,
    /// Of k-means at unit length, by the number of clusters; none of features that are one point.
    pub silhouettes: Vec<ClusterSilhouette>,
    /// How it was found.
    pub config: LabelFreeConfig,
}

/// Asks everything. `views` `[n, q, D]` are features of several views of samples, where there are any; `layers` are activations by
/// layer, of which the features alone are looked at when there are none. `progress` hears how far it is.
///
/// # Shapes
/// `x` `[N, D]`, N at least 2; layers as [`layer_spectra`] takes them.
///
/// # Errors
/// When a shape does not fit, a value is not finite, or a number of the configuration cannot work.
pub fn label_free(
    x: &Tensor,
    views: Option<&Tensor>,
    layers: &[(String, Tensor)],
    config: &LabelFreeConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<LabelFree> {
    let [n, _] = check_shape("features", x, [-1, -1])?;
    if config.max_spectrum_rows < 2 {
        return Err(Error::config("max_spectrum_rows", config.max_spectrum_rows, "at least 2"));
    }
    if let Some(clusters) = config.clusters.iter().find(|clusters| **clusters < 2) {
        return Err(Error::config("clusters", clusters, "at least 2"));
    }
    let mut stage = Stage::new("health", 2 + config.clusters.len(), n);
    let mut step = |done: usize| {
        stage.done = done;
        progress(stage);
    };
    step(0);
    let health_config = SetHealthConfig { max_rows: config.max_rows, power_law: config.power_law };
    let health = SetHealth::measure(x, views, &health_config)?;
    step(1);
    let of_features = [("features".to_owned(), x.shallow_clone())];
    let layers = if layers.is_empty() { &of_features } else { layers };
    let layers: Vec<(String, Tensor)> =
        layers.iter().map(|(name, x)| (name.clone(), every_so_manyth(x, config.max_spectrum_rows))).collect();
    let spectra = layer_spectra(&layers, &config.power_law)?;
    step(2);
    let directions = every_so_manyth(x, config.max_rows).l2_normalize();
    let rows = directions.size()[0];
    let mut silhouettes = Vec::new();
    for (i, &clusters) in config.clusters.iter().enumerate() {
        if clusters < rows {
            let k_means = KMeansConfig { clusters, ..Default::default() };
            let found = KMeans::fit(&directions, &k_means, Key::new(config.seed).with(clusters as u64))?;
            let silhouette = mean_silhouette(&directions, &found.labels, config.seed)?;
            silhouettes.extend(silhouette.map(|silhouette| ClusterSilhouette { clusters, silhouette }));
        }
        step(3 + i);
    }
    Ok(LabelFree { health, spectra, silhouettes, config: config.clone() })
}

/// Every so manyth row: `most` to twice as many where there are more.
pub(crate) fn every_so_manyth(x: &Tensor, most: i64) -> Tensor {
    x.slice(0, 0, None, (x.size().first().copied().unwrap_or(0) / most).max(1))
}

/// The mean silhouette of rows at unit length by cosine distance; none unless there are two clusters at least, and fewer than rows.
/// The seed decides the draws of the interval.
pub(crate) fn mean_silhouette(x: &Tensor, clusters: &Tensor, seed: u64) -> Result<Option<Mean>> {
    let found = clusters.unique_dim(0, true, false, false).0.size()[0];
    if !(2..x.size()[0]).contains(&found) {
        return Ok(None);
    }
    let each = Vec::<f64>::try_from(silhouette(x, clusters, Metric::Cosine)?.to_kind(Kind::Double))?;
    Ok(Some(Mean::over_samples(&each, RESAMPLES, Key::new(seed))?))
}

/// Draws of a bootstrap over the samples of a silhouette.
const RESAMPLES: usize = 1000;

impl LabelFree {
    /// The measures for a report, of samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let mut all = self.health.measurements(split);
        all.extend(self.spectra.iter().flat_map(|spectrum| spectrum.measurements(split)));
        let drawn = Origin { split, seed: Some(self.config.seed) };
        for ClusterSilhouette { clusters, silhouette } in &self.silhouettes {
            let text = format!(
                "mean silhouette of {clusters} clusters by k-means at unit length, cosine distance (Rousseeuw 1987): 1 for clusters far \
                 apart, 0 for none"
            );
            all.push(drawn.mean(format!("silhouette@{clusters}"), silhouette, text));
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feature_health;
    use crate::fixtures::{clouds, formula};
    use selfsup_core::{Device, Kind};

    fn ask(x: &Tensor, views: Option<&Tensor>, config: &LabelFreeConfig) -> LabelFree {
        label_free(x, views, &[], config, &mut |_| ()).unwrap()
    }

    #[test]
    fn answers_without_a_label_and_says_over_how_many_samples() {
        let x = clouds(200, 5, 6.0).x;
        let views = Tensor::stack(&[&x, &(&x + formula(200, 5) * 0.1)], 1);
        let mut done = Vec::new();
        let config = LabelFreeConfig { clusters: vec![2, 5, 200], ..Default::default() };
        let found = label_free(&x, Some(&views), &[], &config, &mut |stage| {
            assert_eq!((stage.name, stage.total), ("health", 5));
            done.push(stage.done);
        })
        .unwrap();
        assert_eq!(done, [0, 1, 2, 3, 4, 5]);
        assert_eq!(found.health.spread, feature_health(&x).unwrap());
        let measures = found.measurements("test");
        let names: Vec<&str> = measures.iter().map(|m| m.name.as_str()).collect();
        let expected = [
            "std",
            "rank_me",
            "uniformity",
            "alignment",
            "lidar",
            "effective_rank features",
            "participation_ratio features",
            "silhouette@2",
            "silhouette@5",
        ];
        assert_eq!(names, expected);
        assert!(measures.iter().all(|m| m.n == 200 && m.value.is_finite() && !m.definition.is_empty()));
        let sure = |m: &Measurement| m.interval.is_some_and(|i| i.low <= m.value && m.value <= i.high);
        assert!(measures.iter().all(sure), "{measures:?}");
        let [two, five] = [&found.silhouettes[0], &found.silhouettes[1]];
        assert!(five.silhouette.value > 0.8 && five.silhouette.value > two.silhouette.value, "{found:?}");
    }

    #[test]
    fn more_rows_than_the_bounds_are_taken_evenly() {
        let x = formula(1000, 4);
        let config = LabelFreeConfig { max_rows: 90, max_spectrum_rows: 300, ..Default::default() };
        let found = ask(&x, None, &config);
        assert_eq!((found.health.std.n, found.spectra[0].samples), (91, 334));
        let measures = found.measurements("test");
        let n = |name: &str| measures.iter().find(|m| m.name == name).map(|m| m.n);
        assert_eq!((n("std"), n("effective_rank features")), (Some(91), Some(334)));
    }

    #[test]
    fn one_point_has_no_clusters() {
        let x = Tensor::ones([60, 3], (Kind::Float, Device::Cpu));
        let found = ask(&x, None, &LabelFreeConfig::default());
        assert!(found.silhouettes.is_empty() && found.health.spread.std < 1e-6, "{found:?}");
    }

    #[test]
    fn rejects_bounds_that_cannot_work() {
        let x = formula(30, 4);
        let error = |config: LabelFreeConfig| {
            label_free(&x, None, &[], &config, &mut |_| ()).unwrap_err().to_string()
        };
        let base = LabelFreeConfig::default;
        assert_eq!(error(LabelFreeConfig { max_rows: 1, ..base() }), "max_rows = 1: at least 2");
        let config = LabelFreeConfig { max_spectrum_rows: 1, ..base() };
        assert_eq!(error(config), "max_spectrum_rows = 1: at least 2");
        let config = LabelFreeConfig { clusters: vec![1], ..base() };
        assert_eq!(error(config), "clusters = 1: at least 2");
    }
}
