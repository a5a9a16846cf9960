//! The few-label probe: what a linear classifier reaches with a handful of labels a class, over many draws of them.
//!
//! Each draw takes `labels_per_class` training samples of every class. The classifier is the linear probe's logistic
//! regression with a fixed strength: so few labels cannot choose one. Measured on pixels and on random ReLU
//! features, choosing it by cross-validation inside the draw was no better on average, spread more, and cost six
//! times as much. Features are standardised by the whole training set, whose labels are not needed for that.

use crate::logistic::Problem;
use crate::split::shuffled_by_class;
use crate::standardise::Standardiser;
use crate::{Logistic, LogisticConfig, Stage, check_pair};
use selfsup_core::{Error, Evaluator, Features, Key, Kind, Report, Result, Score, Tensor, TensorExt};
use serde::{Deserialize, Serialize};

/// How labels are drawn and classifiers fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FewLabelConfig {
    /// Labels of each class in a draw.
    pub labels_per_class: usize,
    /// The number of draws.
    pub draws: usize,
    /// The inverse regularisation strength, scikit-learn's `C`.
    pub c: f64,
    /// When a fit has converged.
    pub logistic: LogisticConfig,
    /// Decides which labels are drawn.
    pub seed: u64,
}

impl Default for FewLabelConfig {
    fn default() -> Self {
        FewLabelConfig {
            labels_per_class: 10,
            draws: 20,
            c: 0.03,
            logistic: LogisticConfig::default(),
            seed: 0,
        }
    }
}

impl FewLabelConfig {
    /// What the score is called: `few10` with ten labels a class.
    pub fn name(&self) -> String {
        format!("few{}", self.labels_per_class)
    }
}

/// The few-label probe.
#[derive(Debug)]
pub struct FewLabelProbe {
    pub(crate) config: FewLabelConfig,
}

impl FewLabelProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a number is 0 or the strength not above 0.
    pub fn new(config: FewLabelConfig) -> Result<FewLabelProbe> {
        for (field, value) in [("labels_per_class", config.labels_per_class), ("draws", config.draws)] {
            if value == 0 {
                return Err(Error::config(field, 0, "at least 1"));
            }
        }
        if !(config.c > 0.0 && config.c.is_finite()) {
            return Err(Error::config("c", config.c, "above 0"));
        }
        Ok(FewLabelProbe { config })
    }

    /// The test accuracy of every draw.
    ///
    /// # Errors
    /// When the two sets do not fit each other, or a class of the training set has too few samples.
    pub fn run(&self, train: &Features, test: &Features) -> Result<Vec<f64>> {
        self.follow(train, test, &mut |_| ())
    }

    /// As [`run`](FewLabelProbe::run); `progress` hears before the first draw and after each how many are done.
    ///
    /// # Errors
    /// As [`run`](FewLabelProbe::run).
    pub fn follow(
        &self,
        train: &Features,
        test: &Features,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<Vec<f64>> {
        check_pair(train, test)?;
        let mut stage = Stage::new("few labels", self.config.draws, test.len());
        progress(stage);
        let standardiser = Standardiser::of(&train.x);
        let test_x = standardiser.apply(&test.x); // [M, D]
        (0..self.config.draws)
            .map(|draw| {
                let classifier = self.fitted(&standardiser, train, &self.draw(train, draw)?)?;
                let right = classifier.predict(&test_x)?.eq_tensor(&test.labels);
                let accuracy = right.to_kind(Kind::Double).mean(None).scalar()?;
                stage.done += 1;
                progress(stage);
                Ok(accuracy)
            })
            .collect()
    }

    /// The classifier that these labels of the training set make; the other samples only say how features are scaled.
    ///
    /// # Errors
    /// When a position is none of the training set's, or the labels hold fewer than two classes.
    pub fn fit(&self, train: &Features, labelled: &[i64]) -> Result<FewLabelClassifier> {
        if let Some(position) = labelled.iter().find(|i| !(0..train.len()).contains(*i)) {
            return Err(Error::config("labelled", position, format!("positions in 0..{}", train.len())));
        }
        if labelled.is_empty() {
            return Err(Error::config("labelled", "no samples", "at least one of each of two classes"));
        }
        let standardiser = Standardiser::of(&train.x);
        let classifier = self.fitted(&standardiser, train, &Tensor::from_slice(labelled))?;
        Ok(FewLabelClassifier { standardiser, classifier })
    }

    fn fitted(&self, standardiser: &Standardiser, train: &Features, labelled: &Tensor) -> Result<Logistic> {
        let x = standardiser.apply(&train.x.index_select(0, labelled));
        let problem = Problem::new(&x, &train.labels.index_select(0, labelled))?;
        Ok(problem.to_classifier(&problem.solve(self.config.c, None, &self.config.logistic)?))
    }

    /// The samples of a draw.
    fn draw(&self, train: &Features, draw: usize) -> Result<Tensor> {
        let by_class = shuffled_by_class(train, Key::new(self.config.seed).with(draw as u64))?;
        let count = self.config.labels_per_class;
        let mut samples = Vec::<i64>::new();
        for (class, of_class) in by_class.iter().enumerate().filter(|(_, samples)| !samples.is_empty()) {
            let Some(drawn) = of_class.get(..count) else {
                let expected = format!("at most {}, the samples of class {class}", of_class.len());
                return Err(Error::config("labels_per_class", count, expected));
            };
            samples.extend(drawn);
        }
        Ok(Tensor::from_slice(&samples))
    }
}

/// A classifier made by few labels, on features as they are.
pub struct FewLabelClassifier {
    standardiser: Standardiser,
    classifier: Logistic,
}

impl FewLabelClassifier {
    /// The probabilities of the classes that had a label, ascending.
    ///
    /// # Shapes
    /// `x` `[M, D]` to `[M, K]` Float.
    ///
    /// # Errors
    /// When `x` has another number of features.
    pub fn probabilities(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.classifier.logits(&self.standardiser.apply(x))?.softmax(1, Kind::Float))
    }

    /// The share of the samples of `test` that it classifies rightly; those of a class without a label are wrong.
    ///
    /// # Errors
    /// When `test` has another number of features.
    pub fn accuracy(&self, test: &Features) -> Result<f64> {
        let predicted = self.classifier.predict(&self.standardiser.apply(&test.x))?;
        predicted.eq_tensor(&test.labels).to_kind(Kind::Double).mean(None).scalar()
    }
}

impl Evaluator for FewLabelProbe {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        let score = Score::of(&self.run(train, test)?);
        Ok(Report { scores: vec![(self.config.name(), score)] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::clouds;

    fn probe(config: FewLabelConfig) -> FewLabelProbe {
        FewLabelProbe::new(config).unwrap()
    }

    #[test]
    fn few_labels_suffice_for_clear_classes() {
        let report =
            probe(FewLabelConfig::default()).evaluate(&clouds(200, 4, 5.0), &clouds(80, 4, 5.0)).unwrap();
        let (name, score) = &report.scores[0];
        assert_eq!((name.as_str(), score.n), ("few10", 20));
        assert!(score.mean > 0.99, "{score:?}");
    }

    #[test]
    fn more_labels_help_and_draws_differ() {
        let (train, test) = (clouds(300, 3, 0.7), clouds(300, 3, 0.7));
        let run = |labels_per_class| {
            let config = FewLabelConfig { labels_per_class, ..Default::default() };
            Score::of(&probe(config).run(&train, &test).unwrap())
        };
        let (few, many) = (run(2), run(50));
        assert!(few.mean < many.mean && few.std > many.std, "{few:?} {many:?}");
    }

    #[test]
    fn a_draw_takes_the_same_number_of_every_class_and_depends_on_seed_and_number() {
        let train = clouds(100, 5, 1.0);
        let draw = |seed, number| {
            let drawn = probe(FewLabelConfig { seed, ..Default::default() }).draw(&train, number).unwrap();
            let counts = train.labels.index_select(0, &drawn).bincount(None::<Tensor>, 5);
            assert_eq!(Vec::<i64>::try_from(counts).unwrap(), [10; 5]);
            Vec::<i64>::try_from(drawn).unwrap()
        };
        assert_eq!(draw(0, 0), draw(0, 0));
        assert!(draw(0, 0) != draw(0, 1) && draw(0, 0) != draw(1, 0));
    }

    #[test]
    fn labels_that_are_named_make_the_classifier_of_a_draw_of_the_same() {
        let (train, test) = (clouds(120, 3, 1.0), clouds(90, 3, 1.0));
        let probe = probe(FewLabelConfig { draws: 2, ..Default::default() });
        let accuracies = probe.run(&train, &test).unwrap();
        for (draw, expected) in accuracies.into_iter().enumerate() {
            let labelled = Vec::<i64>::try_from(probe.draw(&train, draw).unwrap()).unwrap();
            let classifier = probe.fit(&train, &labelled).unwrap();
            assert_eq!(classifier.accuracy(&test).unwrap(), expected);
            let p = classifier.probabilities(&test.x).unwrap();
            assert_eq!(p.size(), [90, 3]);
            let best = p.argmax(1, false).eq_tensor(&test.labels).to_kind(Kind::Double).mean(None);
            assert_eq!(f64::try_from(best).unwrap(), expected);
        }
    }

    #[test]
    fn a_class_without_a_label_is_never_said() {
        let (train, test) = (clouds(120, 3, 6.0), clouds(90, 3, 6.0));
        let classifier = probe(FewLabelConfig::default()).fit(&train, &[0, 1, 3, 4]).unwrap();
        assert_eq!(classifier.probabilities(&test.x).unwrap().size(), [90, 2]);
        assert!((classifier.accuracy(&test).unwrap() - 2.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn rejects_labels_that_are_none_or_of_one_class() {
        let train = clouds(12, 3, 1.0);
        let refusal = |labelled: &[i64]| {
            probe(FewLabelConfig::default())
                .fit(&train, labelled)
                .err()
                .map(|e| e.to_string())
                .unwrap_or_default()
        };
        assert_eq!(refusal(&[12]), "labelled = 12: positions in 0..12");
        assert_eq!(refusal(&[]), "labelled = no samples: at least one of each of two classes");
        assert_eq!(refusal(&[0, 3]), "labels = only class 0: at least two classes");
    }

    #[test]
    fn rejects_bad_configurations_and_small_classes() {
        let new = |config| FewLabelProbe::new(config).unwrap_err().to_string();
        let error = new(FewLabelConfig { draws: 0, ..Default::default() });
        assert_eq!(error, "draws = 0: at least 1");
        let error = new(FewLabelConfig { labels_per_class: 0, ..Default::default() });
        assert_eq!(error, "labels_per_class = 0: at least 1");
        assert_eq!(new(FewLabelConfig { c: -1.0, ..Default::default() }), "c = -1: above 0");
        let error =
            probe(FewLabelConfig::default()).run(&clouds(20, 3, 1.0), &clouds(6, 3, 1.0)).unwrap_err();
        assert_eq!(error.to_string(), "labels_per_class = 10: at most 7, the samples of class 0");
    }
}
