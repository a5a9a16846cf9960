//! All probes on one pair of feature sets, as a table compares encoders by.

use crate::{
    Confusion, FewLabelConfig, FewLabelProbe, Knn, KnnConfig, LinearOutcome, LinearProbe, LinearProbeConfig,
};
use selfsup_core::{Evaluator, Features, Report, Result, Score};
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

/// What the probes found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuiteOutcome {
    /// The scores `linear`, `few10` (with the number of labels a class) and `knn`: accuracies in `[0, 1]`.
    pub report: Report,
    /// The linear probe in full.
    pub linear: LinearOutcome,
    /// The nearest-neighbour classifier's confusions.
    pub knn: Confusion,
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
    /// Those of the probes.
    pub fn new(config: SuiteConfig) -> Result<Suite> {
        Ok(Suite {
            linear: LinearProbe::new(config.linear)?,
            few_label: FewLabelProbe::new(config.few_label)?,
            knn: Knn::new(config.knn)?,
        })
    }

    /// Runs the probes, each fitted on `train` and scored on `test`. `progress` hears the name of each stage before it
    /// starts: `knn`, `linear`, `few labels`.
    ///
    /// # Errors
    /// Those of the probes.
    pub fn run(
        &self,
        train: &Features,
        test: &Features,
        progress: &mut dyn FnMut(&'static str),
    ) -> Result<SuiteOutcome> {
        progress("knn");
        let knn = self.knn.confusion(train, test)?;
        progress("linear");
        let linear = self.linear.run(train, test)?;
        progress("few labels");
        let few = self.few_label.evaluate(train, test)?;
        let mut scores = vec![("linear".to_owned(), Score::of(&[linear.accuracy]))];
        scores.extend(few.scores);
        scores.push(("knn".to_owned(), Score::of(&[knn.accuracy()])));
        Ok(SuiteOutcome { report: Report { scores }, linear, knn })
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
        assert_eq!(stages, ["knn", "linear", "few labels"]);
        let names: Vec<(&str, usize)> = found.report.scores.iter().map(|(n, s)| (n.as_str(), s.n)).collect();
        assert_eq!(names, [("linear", 1), ("few5", 3), ("knn", 1)]);
        assert!(found.report.scores.iter().all(|(_, s)| s.mean > 0.95), "{:?}", found.report);
        assert_eq!(suite.evaluate(&train, &test).unwrap(), found.report);
    }

    #[test]
    fn rejects_a_bad_configuration_of_any_probe() {
        let config = SuiteConfig { knn: KnnConfig { k: 0, temperature: 0.1 }, ..Default::default() };
        assert_eq!(Suite::new(config).unwrap_err().to_string(), "k = 0: at least 1");
    }
}
