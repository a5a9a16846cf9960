//! All probes on one pair of feature sets, as a table compares encoders by.

use crate::{
    Confusion, FewLabelConfig, FewLabelProbe, Knn, KnnConfig, LinearOutcome, LinearProbe, LinearProbeConfig,
    check_pair,
};
use selfsup_core::{Error, Evaluator, Features, Report, Result, Score};
use serde::{Deserialize, Serialize};

/// The probes' configurations.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuiteConfig {
    /// The linear probe.
    pub linear: LinearProbeConfig,
    /// The few-label probe.
    pub few_label: FewLabelConfig,
    /// The nearest-neighbour classifier.
    pub knn: KnnConfig,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// What is done, as in `linear`.
    pub name: &'static str,
    /// Steps done.
    pub done: usize,
    /// Steps of the whole stage.
    pub total: usize,
    /// The samples that a step goes over.
    pub samples: usize,
}

impl Stage {
    pub(crate) fn new(name: &'static str, total: usize, samples: i64) -> Self {
        Stage { name, done: 0, total, samples: samples as usize }
    }
}

/// What the probes found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteOutcome {
    /// The scores `linear`, `few10` (with the number of labels a class) and `knn`: accuracies in `[0, 1]`.
    pub report: Report,
    /// The linear probe in full.
    pub linear: LinearOutcome,
    /// The nearest-neighbour classifier's confusions.
    pub knn: Confusion,
    /// The class that it gave each test sample.
    #[serde(skip)]
    pub knn_predictions: Vec<i64>,
}

/// The probes of a [`SuiteConfig`].
#[derive(Debug)]
pub struct Suite {
    linear: LinearProbe,
    few_label: FewLabelProbe,
    knn: Knn,
}

impl Suite {
    /// Checks the configurations.
    ///
    /// # Errors
    /// Those of the probes, with the probe before the field: `knn.k`.
    pub fn new(config: SuiteConfig) -> Result<Suite> {
        let of = |probe: &'static str| {
            move |error| match error {
                Error::Config { field, value, expected } => {
                    Error::Config { field: format!("{probe}.{field}"), value, expected }
                }
                other => other,
            }
        };
        Ok(Suite {
            linear: LinearProbe::new(config.linear).map_err(of("linear"))?,
            few_label: FewLabelProbe::new(config.few_label).map_err(of("few_label"))?,
            knn: Knn::new(config.knn).map_err(of("knn"))?,
        })
    }

    /// Runs the probes, each fitted on `train` and scored on `test`. `progress` hears how far each of the stages `knn`,
    /// `linear` and `few labels` is, first that it begins.
    ///
    /// # Errors
    /// Those of the probes.
    pub fn run(
        &self,
        train: &Features,
        test: &Features,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<SuiteOutcome> {
        let mut search = Stage::new("knn", 1, test.len());
        progress(search);
        check_pair(train, test)?;
        let predictions = self.knn.predict(train, &test.x)?;
        let knn = Confusion::of(&test.labels, &predictions, test.classes)?;
        search.done = 1;
        progress(search);
        let linear = self.linear.follow(train, test, progress)?;
        let few = self.few_label.follow(train, test, progress)?;
        let scores = vec![
            ("linear".to_owned(), Score::of(&[linear.accuracy])),
            (self.few_label.config.name(), Score::of(&few)),
            ("knn".to_owned(), Score::of(&[knn.accuracy()])),
        ];
        Ok(SuiteOutcome {
            report: Report { scores },
            linear,
            knn,
            knn_predictions: Vec::try_from(predictions)?,
        })
    }
}

impl Evaluator for Suite {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        Ok(self.run(train, test, &mut |_| ())?.report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;

    #[test]
    fn reports_every_probe_under_its_name_and_says_what_it_does() {
        let config = SuiteConfig {
            few_label: FewLabelConfig { labels_per_class: 5, draws: 3, ..Default::default() },
            ..Default::default()
        };
        let (train, test) = (clouds(90, 3, 5.0), clouds(30, 3, 5.0));
        let mut stages = Vec::new();
        let suite = Suite::new(config).unwrap();
        let found = suite.run(&train, &test, &mut |stage| stages.push(stage)).unwrap();
        for (name, total) in [("knn", 1), ("linear", 12), ("few labels", 3)] {
            let mut of_it = stages.iter().filter(|stage| stage.name == name);
            assert_eq!(of_it.clone().map(|stage| stage.done).next(), Some(0), "{name}");
            assert!(of_it.clone().is_sorted_by_key(|stage| stage.done), "{name}: {stages:?}");
            assert!(
                of_it.clone().all(|stage| stage.total == total && stage.samples > 0),
                "{name}: {stages:?}"
            );
            assert_eq!(of_it.next_back().map(|stage| stage.done), Some(total), "{name}");
        }
        assert!(
            stages.is_sorted_by_key(|s| ["knn", "linear", "few labels"].iter().position(|n| *n == s.name))
        );
        let names: Vec<(&str, usize)> = found.report.scores.iter().map(|(n, s)| (n.as_str(), s.n)).collect();
        assert_eq!(names, [("linear", 1), ("few5", 3), ("knn", 1)]);
        assert!(found.report.scores.iter().all(|(_, s)| s.mean > 0.95), "{:?}", found.report);
        assert_eq!(suite.evaluate(&train, &test).unwrap(), found.report);
    }

    #[test]
    fn rejects_a_bad_configuration_of_any_probe() {
        let refusal = |config| Suite::new(config).unwrap_err().to_string();
        let config = SuiteConfig { knn: KnnConfig { k: 0, temperature: 0.1 }, ..Default::default() };
        assert_eq!(refusal(config), "knn.k = 0: at least 1");
        let linear = LinearProbeConfig { held_out: 1.0, ..Default::default() };
        let config = SuiteConfig { linear, ..Default::default() };
        assert_eq!(refusal(config), "linear.held_out = 1: between 0 and 1");
        let few_label = FewLabelConfig { draws: 0, ..Default::default() };
        let config = SuiteConfig { few_label, ..Default::default() };
        assert_eq!(refusal(config), "few_label.draws = 0: at least 1");
    }
}
