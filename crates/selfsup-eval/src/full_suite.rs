//! All that labelled features can be asked, for a report: retrieval, clusters, few labels, health, unknown classes.
//!
//! Costs are bounded: queries, samples of the silhouette, of the spectra and of the detectors are drawn where there are more.
//! Everything is a function of the features and one seed. A part that the samples do not allow is left out, and the others stand.

use crate::label_free::mean_silhouette;
use crate::measurement::Origin;
use crate::{
    ClusterAgreement, LabelCurve, LabelCurveConfig, LabelFree, LabelFreeConfig, Mean, Measurement,
    NovelClasses, NovelClassesConfig, Retrieval, RetrievalConfig, Stage, check_pair, cluster_agreement,
    label_curve, label_free, novel_classes, retrieval,
};
use rand::seq::SliceRandom;
use selfsup_core::{Error, Features, Key, Result, Tensor, TensorExt, check_shape};
use selfsup_numerics::{KMeans, KMeansConfig, SelfMatches};
use serde::{Deserialize, Serialize};

/// How each question is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FullSuiteConfig {
    /// The search of test samples among the other test samples.
    pub retrieval: RetrievalConfig,
    /// The points of the label curve.
    pub label_curve: LabelCurveConfig,
    /// Starts of k-means on the test samples, of which the one with the least inertia counts.
    pub starts: u64,
    /// Test samples that the silhouette compares, drawn where there are more.
    pub max_silhouettes: usize,
    /// Classes left out.
    pub novel_classes: NovelClassesConfig,
    /// What needs no labels.
    pub label_free: LabelFreeConfig,
    /// Decides the starts of k-means and the samples of the silhouette.
    pub seed: u64,
}

impl Default for FullSuiteConfig {
    fn default() -> Self {
        FullSuiteConfig {
            retrieval: RetrievalConfig {
                self_matches: SelfMatches::Exclude,
                max_queries: Some(2000),
                ..Default::default()
            },
            label_curve: LabelCurveConfig::default(),
            starts: 3,
            max_silhouettes: 5000,
            novel_classes: NovelClassesConfig::default(),
            label_free: LabelFreeConfig::default(),
            seed: 0,
        }
    }
}

/// Clusters of the test samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clustering {
    /// How far they agree with the classes.
    pub agreement: ClusterAgreement,
    /// The mean silhouette by cosine distance, with an interval over the samples for the clusters as they are; none where k-means
    /// leaves one cluster.
    pub silhouette: Option<Mean>,
    /// Decides the starts.
    pub seed: u64,
}

/// All answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FullOutcome {
    /// Of test samples among the others; none where no sample that is asked for has another of its class.
    pub retrieval: Option<Retrieval>,
    /// Of the test samples.
    pub clustering: Clustering,
    /// From few labels to many.
    pub label_curve: LabelCurve,
    /// Of the test features, without their labels.
    pub label_free: LabelFree,
    /// Classes left out in turn; none where fewer than two occur in both parts.
    pub novel_classes: Option<NovelClasses>,
}

/// Asks everything. `views` `[n, q, D]` are features of several views of samples, where there are any; `layers` are activations
/// of test samples by layer, of which the features alone are looked at when there are none. `progress` hears how far each stage is.
///
/// # Errors
/// When the sets do not fit each other, and those of the parts.
pub fn full_suite(
    train: &Features,
    test: &Features,
    views: Option<&Tensor>,
    layers: &[(String, Tensor)],
    config: &FullSuiteConfig,
    progress: &mut dyn FnMut(Stage),
) -> Result<FullOutcome> {
    check_pair(train, test)?;
    let once = |name: &'static str, progress: &mut dyn FnMut(Stage), done: usize| {
        progress(Stage { done, ..Stage::new(name, 1, test.len()) });
    };
    once("retrieval", progress, 0);
    let retrieval = match retrieval(test, test, &config.retrieval) {
        Ok(found) => Some(found),
        // Every query is alone in its class.
        Err(Error::Config { field, .. }) if field == "queries" => None,
        Err(error) => return Err(error),
    };
    once("retrieval", progress, 1);
    once("clusters", progress, 0);
    let clustering = clustering(test, config)?;
    once("clusters", progress, 1);
    let label_free = label_free(&test.x, views, layers, &config.label_free, progress)?;
    let label_curve = label_curve(train, test, &config.label_curve, progress)?;
    let novel_classes = novel_classes(train, test, &config.novel_classes, progress)?;
    Ok(FullOutcome { retrieval, clustering, label_curve, label_free, novel_classes })
}

fn clustering(test: &Features, config: &FullSuiteConfig) -> Result<Clustering> {
    if config.starts == 0 || config.max_silhouettes < 3 {
        let found = format!("{} and {}", config.starts, config.max_silhouettes);
        return Err(Error::config("starts and max_silhouettes", found, "at least 1 and 3"));
    }
    let counts = Vec::<i64>::try_from(test.labels.bincount(None::<Tensor>, test.classes))?;
    let present = counts.iter().filter(|count| **count > 0).count() as i64;
    let k_means = KMeansConfig { clusters: present, ..Default::default() };
    let key = Key::new(config.seed);
    // Directions are what the other measures look at, too.
    let x = test.x.l2_normalize();
    let mut best: Option<KMeans> = None;
    for start in 0..config.starts {
        let found = KMeans::fit(&x, &k_means, key.with(start))?;
        if best.as_ref().is_none_or(|best| found.inertia < best.inertia) {
            best = Some(found);
        }
    }
    let best = best.ok_or_else(|| Error::config("starts", 0, "at least 1"))?;
    let mut chosen: Vec<i64> = (0..test.len()).collect();
    if chosen.len() > config.max_silhouettes {
        chosen.shuffle(&mut key.with(config.starts).rng());
        chosen.truncate(config.max_silhouettes);
        chosen.sort_unstable();
    }
    let chosen = Tensor::from_slice(&chosen);
    let clusters = best.labels.index_select(0, &chosen);
    let silhouette = mean_silhouette(&x.index_select(0, &chosen), &clusters, config.seed)?;
    let agreement = cluster_agreement(&test.labels, &best.labels)?;
    Ok(Clustering { agreement, silhouette, seed: config.seed })
}

impl FullOutcome {
    /// The measures for a report by group, in order; `split` says what the test samples are. Their keys are `retrieval`,
    /// `clustering`, `few_labels`, `health` and `novel_classes`; those that were left out are missing.
    ///
    /// # Errors
    /// None but those of empty groups, which do not occur.
    pub fn groups(&self, split: &str) -> Result<Vec<(String, Vec<Measurement>)>> {
        let clustering = &self.clustering;
        let by = "k-means at unit length";
        let mut clusters = clustering.agreement.measurements(split, Some(clustering.seed), by);
        let origin = Origin { split, seed: Some(clustering.seed) };
        if let Some(silhouette) = &clustering.silhouette {
            let text = format!(
                "mean silhouette of the clusters by {by}, cosine distance (Rousseeuw 1987); needs no labels"
            );
            clusters.push(origin.mean("silhouette", silhouette, text));
        }
        let mut groups = Vec::new();
        if let Some(retrieval) = &self.retrieval {
            groups.push(("retrieval".to_owned(), retrieval.measurements(split)));
        }
        groups.extend([
            ("clustering".to_owned(), clusters),
            ("few_labels".to_owned(), self.label_curve.measurements(split)),
            ("health".to_owned(), self.label_free.measurements(split)),
        ]);
        if let Some(novel) = &self.novel_classes {
            groups.push(("novel_classes".to_owned(), novel.measurements(split)?));
        }
        Ok(groups)
    }
}

/// Features of two views of samples as [`lidar`](crate::lidar()) takes them.
///
/// # Shapes
/// `[n, D]` twice to `[n, 2, D]`.
///
/// # Errors
/// When the shapes differ.
pub fn pair_of_views(x0: &Tensor, x1: &Tensor) -> Result<Tensor> {
    let [n, d] = check_shape("x0", x0, [-1, -1])?;
    check_shape("x1", x1, [n, d])?;
    Ok(Tensor::stack(&[x0, x1], 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FewLabelConfig;
    use crate::fixtures::{clouds, formula};

    fn config() -> FullSuiteConfig {
        let few_label = FewLabelConfig { draws: 3, ..Default::default() };
        FullSuiteConfig {
            label_curve: LabelCurveConfig { labels_per_class: vec![1, 5], few_label },
            ..Default::default()
        }
    }

    #[test]
    fn clear_classes_get_good_answers_that_explain_themselves() {
        let (train, test) = (clouds(200, 4, 6.0), clouds(80, 4, 6.0));
        let views = pair_of_views(&test.x, &(&test.x + formula(80, 4) * 0.1)).unwrap();
        let mut stages = Vec::new();
        let found = full_suite(&train, &test, Some(&views), &[], &config(), &mut |s| stages.push(s)).unwrap();
        for name in ["retrieval", "clusters", "health", "label curve", "novel classes"] {
            let of_it: Vec<_> = stages.iter().filter(|s| s.name == name).collect();
            assert!(of_it[0].done == 0 && of_it[of_it.len() - 1].done == of_it[0].total, "{name}: {of_it:?}");
        }
        let groups = found.groups("test").unwrap();
        let keys: Vec<&str> = groups.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["retrieval", "clustering", "few_labels", "health", "novel_classes"]);
        let value = |name: &str| groups.iter().flat_map(|g| &g.1).find(|m| m.name == name).unwrap().value;
        for name in ["map", "cluster_accuracy", "cluster_ari", "labels@5", "novel_auroc_knn"] {
            assert!(value(name) > 0.95, "{name} {}", value(name));
        }
        assert!(value("silhouette") > 0.7 && value("lidar") > 1.0);
        assert!(groups.iter().flat_map(|g| &g.1).all(|m| !m.definition.is_empty() && m.value.is_finite()));
        let json = serde_json::to_string(&groups).unwrap();
        assert_eq!(serde_json::from_str::<Vec<(String, Vec<Measurement>)>>(&json).unwrap().len(), 5);
    }

    #[test]
    fn layers_are_measured_in_the_place_of_the_features() {
        let (train, test) = (clouds(60, 3, 2.0), clouds(40, 3, 2.0));
        let layers = [("conv1".to_owned(), formula(40, 8)), ("features".to_owned(), test.x.shallow_clone())];
        let found = full_suite(&train, &test, None, &layers, &config(), &mut |_| ()).unwrap();
        let found = found.label_free;
        let names: Vec<&str> = found.spectra.iter().map(|s| s.layer.as_str()).collect();
        assert_eq!((names, found.health.lidar), (vec!["conv1", "features"], None));
    }

    #[test]
    fn collapsed_features_are_measured_all_the_same() {
        let flat = |n: i64| {
            let set = clouds(n, 3, 2.0);
            Features::new(set.x.ones_like(), set.labels, 3).unwrap()
        };
        let found = full_suite(&flat(60), &flat(30), None, &[], &config(), &mut |_| ()).unwrap();
        assert_eq!((found.clustering.agreement.clusters, found.clustering.silhouette), (1, None));
        assert!(found.novel_classes.unwrap().found.iter().all(|(_, o)| o.mahalanobis.is_none()));
    }

    #[test]
    fn a_part_that_the_samples_do_not_allow_is_left_out_and_the_others_stand() {
        // Three of 2,000 are of class 1: a draw of 100 that ignores classes has none of them, most often.
        let labels: Vec<i64> = (0..2000).map(|i| i64::from([200, 800, 1800].contains(&i))).collect();
        let labels = Tensor::from_slice(&labels);
        let rare = Features::new(formula(2000, 2) + labels.one_hot(2) * 4.0, labels, 2).unwrap();
        let novel_classes = NovelClassesConfig { max_test: 100, ..Default::default() };
        let retrieval = RetrievalConfig { max_queries: Some(50), ..config().retrieval };
        let few = FullSuiteConfig { retrieval, novel_classes, ..config() };
        let found = full_suite(&rare, &rare, None, &[], &few, &mut |_| ()).unwrap();
        assert_eq!(found.novel_classes.unwrap().found.len(), 2);
        // One test sample a class, so that none has another; and one class only, so that none can be left out.
        let train = clouds(60, 3, 2.0);
        let alone = train.select(&Tensor::from_slice(&[0_i64, 1, 2]));
        let found = full_suite(&train, &alone, None, &[], &config(), &mut |_| ()).unwrap();
        assert_eq!(found.retrieval, None);
        let keys: Vec<String> = found.groups("test").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["clustering", "few_labels", "health", "novel_classes"]);
        let one_class = train.select(&Tensor::from_slice(&[0_i64, 3, 6]));
        let found = full_suite(&train, &one_class, None, &[], &config(), &mut |_| ()).unwrap();
        assert_eq!(found.novel_classes, None);
        assert!(found.retrieval.is_some());
    }

    #[test]
    fn rejects_no_starts() {
        let (train, test) = (clouds(60, 3, 2.0), clouds(40, 3, 2.0));
        let config = FullSuiteConfig { starts: 0, ..config() };
        let error = full_suite(&train, &test, None, &[], &config, &mut |_| ()).unwrap_err().to_string();
        assert_eq!(error, "starts and max_silhouettes = 0 and 5000: at least 1 and 3");
    }
}
