//! The linear probe: how well a linear classifier on frozen features does when it is fitted to the end.
//!
//! Features are standardised by the training part. The L2 strength is chosen on a stratified part of the training set
//! that is held out, by its cross-entropy, which is less noisy than its accuracy: the path of strengths is walked from
//! the strongest penalty to the weakest, each fit starting from the one before, and ends when the held-out loss rises,
//! beyond which only slow fits lie. The chosen strength is fitted anew on all training samples. The test set is seen
//! once, at the end.

use crate::logistic::Problem;
use crate::split::hold_out;
use crate::standardise::Standardiser;
use crate::strengths::{check_strengths, least_loss};
use crate::{Confusion, LinearClassifier, Logistic, LogisticConfig, Stage, check_pair};
use selfsup_core::{Error, Evaluator, Features, Key, Kind, Report, Result, Score, Tensor};
use serde::{Deserialize, Serialize};

/// How the probe chooses its regularisation and when its fits end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearProbeConfig {
    /// The inverse regularisation strengths to choose from, ascending; scikit-learn's `C`.
    pub strengths: Vec<f64>,
    /// The share of the training set that chooses.
    pub held_out: f64,
    /// When a fit has converged.
    pub logistic: LogisticConfig,
    /// Decides which samples are held out.
    pub seed: u64,
}

impl Default for LinearProbeConfig {
    fn default() -> Self {
        LinearProbeConfig {
            strengths: vec![1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0, 3.0, 10.0],
            held_out: 0.2,
            logistic: LogisticConfig::default(),
            seed: 0,
        }
    }
}

impl LinearProbeConfig {
    /// What a probe with such a configuration asks of it.
    pub(crate) fn check(&self) -> Result<()> {
        check_strengths(&self.strengths)?;
        if !(self.held_out > 0.0 && self.held_out < 1.0) {
            return Err(Error::config("held_out", self.held_out, "between 0 and 1"));
        }
        Ok(())
    }
}

/// One strength of the path.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// The inverse regularisation strength.
    pub c: f64,
    /// The accuracy on the held-out part.
    pub accuracy: f64,
    /// The mean cross-entropy on the held-out part.
    pub loss: f64,
    /// Iterations from the strength before.
    pub iterations: usize,
}

/// What a linear probe found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinearOutcome {
    /// The accuracy on the test set.
    pub accuracy: f64,
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// Iterations of the last fit.
    pub iterations: usize,
    /// Whether the last fit's gradient is within the tolerance.
    pub converged: bool,
    /// The strengths that were tried.
    pub path: Vec<PathPoint>,
    /// The test set's classes against the predicted.
    pub confusion: Confusion,
    /// The class that each test sample was given.
    #[serde(skip)]
    pub predictions: Vec<i64>,
    /// What was fitted, for other features.
    #[serde(skip)]
    pub classifier: LinearClassifier,
}

/// The linear probe.
#[derive(Debug)]
pub struct LinearProbe {
    config: LinearProbeConfig,
}

impl LinearProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the strengths are none, not above 0 or not ascending, or the held-out share is not between 0 and 1.
    pub fn new(config: LinearProbeConfig) -> Result<LinearProbe> {
        config.check()?;
        Ok(LinearProbe { config })
    }

    /// Fits on `train` and scores on `test`.
    ///
    /// # Errors
    /// When the two sets do not fit each other, or the training set has fewer than two classes or too few samples to
    /// hold one out.
    pub fn run(&self, train: &Features, test: &Features) -> Result<LinearOutcome> {
        self.follow(train, test, &mut |_| ())
    }

    /// As [`run`](LinearProbe::run); `progress` hears before the first fit and after each how many are done: one for
    /// each strength and a last one. The strengths that a path leaves out count as done when it ends.
    ///
    /// # Errors
    /// As [`run`](LinearProbe::run).
    pub fn follow(
        &self,
        train: &Features,
        test: &Features,
        progress: &mut dyn FnMut(Stage),
    ) -> Result<LinearOutcome> {
        check_pair(train, test)?;
        let (fit, held) = hold_out(train, self.config.held_out, Key::new(self.config.seed))?;
        if held.size()[0] == 0 {
            return Err(Error::config(
                "train",
                format!("{} samples", train.len()),
                "more, so that some can be held out",
            ));
        }
        let mut stage = Stage::new("linear", self.config.strengths.len() + 1, train.len());
        progress(stage);
        let (fit, held) = (train.select(&fit), train.select(&held));
        let Path { points, c, best } =
            walk(&self.config.strengths, &self.config.logistic, &fit, &held, &mut |tried| {
                stage.done = tried;
                progress(stage);
            })?;
        stage.done = stage.total - 1;
        progress(stage);
        let standardiser = Standardiser::of(&train.x);
        let problem = Problem::new(&standardiser.apply(&train.x), &train.labels)?;
        let start = problem.start_from(&best)?;
        let classifier = problem.to_classifier(&problem.solve(c, start.as_ref(), &self.config.logistic)?);
        let predictions = classifier.predict(&standardiser.apply(&test.x))?;
        let confusion = Confusion::of(&test.labels, &predictions, test.classes)?;
        stage.done = stage.total;
        progress(stage);
        Ok(LinearOutcome {
            accuracy: confusion.accuracy(),
            c,
            iterations: classifier.iterations,
            converged: classifier.converged,
            path: points,
            confusion,
            predictions: Vec::try_from(predictions)?,
            classifier: LinearClassifier::new(&classifier, &standardiser, train.classes)?,
        })
    }
}

impl Evaluator for LinearProbe {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        let accuracy = self.run(train, test)?.accuracy;
        Ok(Report { scores: vec![("linear".to_owned(), Score::of(&[accuracy]))] })
    }
}

/// A path of strengths and where it led.
pub(crate) struct Path {
    /// The strengths that were tried.
    pub points: Vec<PathPoint>,
    /// The one with the least loss.
    pub c: f64,
    /// Its classifier of standardised features.
    pub best: Logistic,
}

/// Walks the path of strengths, fitting `fit` and judging by `held`; `tried` hears how many strengths are done.
pub(crate) fn walk(
    strengths: &[f64],
    logistic: &LogisticConfig,
    fit: &Features,
    held: &Features,
    tried: &mut dyn FnMut(usize),
) -> Result<Path> {
    let standardiser = Standardiser::of(&fit.x);
    let problem = Problem::new(&standardiser.apply(&fit.x), &fit.labels)?;
    let held_x = standardiser.apply(&held.x);
    let mut points = Vec::new();
    let (c, best) = least_loss(&problem, strengths, logistic, &mut |c, classifier| {
        let (accuracy, loss) = held_out_scores(classifier, &held_x, &held.labels)?;
        points.push(PathPoint { c, accuracy, loss, iterations: classifier.iterations });
        tried(points.len());
        Ok(loss)
    })?;
    Ok(Path { points, c, best })
}

/// Accuracy and mean cross-entropy of standardised held-out samples.
fn held_out_scores(classifier: &Logistic, x: &Tensor, labels: &Tensor) -> Result<(f64, f64)> {
    let log_p = classifier.logits(x)?.log_softmax(1, None); // [M, K]
    let predictions = classifier.classes.index_select(0, &log_p.argmax(1, false));
    let accuracy = f64::try_from(predictions.eq_tensor(labels).to_kind(Kind::Double).mean(None))?;
    // Every held-out class occurs in the fitted part: its column is the number of smaller classes there.
    let columns = labels.searchsorted(&classifier.classes, false, false, "left", None::<Tensor>).unsqueeze(1);
    let loss = -f64::try_from(log_p.gather(1, &columns, false).mean(None))?;
    Ok((accuracy, loss))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::{clouds, formula};

    fn probe(config: LinearProbeConfig) -> LinearProbe {
        LinearProbe::new(config).unwrap()
    }

    /// Samples of four classes in twelve features, a wave with an offset for the class.
    fn waves(from: i64, n: i64) -> Features {
        let labels =
            Tensor::arange_start(from, from + n, (Kind::Int64, selfsup_core::Device::Cpu)).remainder(4);
        let offset = labels.one_hot(12).to_kind(Kind::Float) * 0.9;
        Features::new(formula(2600, 12).narrow(0, from, n) + offset, labels, 4).unwrap()
    }

    // y = np.arange(2600) % 4; x = np.sin(np.arange(2600 * 12) ** 1.5 * 0.37).reshape(2600, 12)
    // x = x.astype(np.float32) + np.float32(0.9) * np.eye(12, dtype=np.float32)[y]
    // s = StandardScaler().fit(x[:600]); a, b = s.transform(x[:600]), s.transform(x[600:])
    // [LogisticRegression(C=c, tol=1e-8, max_iter=9999).fit(a, y[:600]).score(b, y[600:]) for c in (1e-3, .03, 1, 10)]
    #[test]
    fn reaches_the_accuracy_of_scikit_learn_to_a_tenth_of_a_point() {
        for (c, expected) in [1e-3, 0.03, 1.0, 10.0].into_iter().zip(SKLEARN) {
            let config = LinearProbeConfig { strengths: vec![c], ..Default::default() };
            let found = probe(config).run(&waves(0, 600), &waves(600, 2000)).unwrap();
            assert!(
                (found.accuracy - expected).abs() <= 0.001,
                "C = {c}: {}, expected {expected}",
                found.accuracy
            );
        }
    }

    const SKLEARN: [f64; 4] = [0.617, 0.6255, 0.628, 0.627];

    #[test]
    fn separates_what_is_separable() {
        let found =
            probe(LinearProbeConfig::default()).run(&clouds(200, 4, 4.0), &clouds(80, 4, 4.0)).unwrap();
        assert_eq!(found.accuracy, 1.0);
        assert!(found.converged);
        assert_eq!(found.confusion.counts[2], [0, 0, 20, 0]);
    }

    #[test]
    fn features_without_information_get_a_strong_penalty() {
        let labels = |n| Tensor::arange(n, (Kind::Int64, selfsup_core::Device::Cpu)).remainder(2);
        let features = |n| Features::new(formula(n, 20), labels(n), 2).unwrap();
        let found = probe(LinearProbeConfig::default()).run(&features(100), &features(60)).unwrap();
        assert!(found.c < 0.1, "chose {}", found.c);
        assert!(found.path.len() < LinearProbeConfig::default().strengths.len());
    }

    #[test]
    fn the_choice_has_the_least_held_out_loss_of_the_path() {
        let found =
            probe(LinearProbeConfig::default()).run(&clouds(300, 3, 0.8), &clouds(90, 3, 0.8)).unwrap();
        let least = found.path.iter().map(|p| p.loss).fold(f64::INFINITY, f64::min);
        let chosen = found.path.iter().find(|p| p.c == found.c).unwrap();
        assert_eq!(chosen.loss, least);
    }

    #[test]
    fn does_not_depend_on_the_features_scales() {
        let (train, test) = (clouds(200, 3, 1.0), clouds(90, 3, 1.0));
        let scales = Tensor::from_slice(&[1e-3_f32, 1.0, 1e4]);
        let scale =
            |f: &Features| Features::new(&f.x * &scales + 7.0, f.labels.shallow_clone(), f.classes).unwrap();
        let config = LinearProbeConfig { strengths: vec![0.1], ..Default::default() };
        let a = probe(config.clone()).run(&train, &test).unwrap();
        let b = probe(config).run(&scale(&train), &scale(&test)).unwrap();
        assert!((a.accuracy - b.accuracy).abs() < 0.02, "{} {}", a.accuracy, b.accuracy);
    }

    #[test]
    fn a_class_that_training_lacks_is_missed_and_no_more() {
        let (train, test) = (clouds(60, 2, 5.0), clouds(60, 3, 5.0));
        let wider = Tensor::cat(&[&train.x, &train.x.narrow(1, 0, 1).zeros_like()], 1);
        let train = Features::new(wider, train.labels, 3).unwrap();
        let found = probe(LinearProbeConfig::default()).run(&train, &test).unwrap();
        assert_eq!(found.confusion.per_class_accuracy()[2], 0.0);
    }

    #[test]
    fn rejects_bad_configurations_and_sets() {
        let new = |config| LinearProbe::new(config).unwrap_err().to_string();
        let error = new(LinearProbeConfig { strengths: vec![1.0, 0.1], ..Default::default() });
        assert_eq!(error, "strengths = [1.0, 0.1]: ascending numbers above 0");
        let error = new(LinearProbeConfig { held_out: 1.0, ..Default::default() });
        assert_eq!(error, "held_out = 1: between 0 and 1");
        let run = |train: &Features, test: &Features| {
            probe(LinearProbeConfig::default()).run(train, test).unwrap_err().to_string()
        };
        let error = run(&clouds(2, 2, 1.0), &clouds(2, 2, 1.0));
        assert_eq!(error, "train = 2 samples: more, so that some can be held out");
        let error = run(&clouds(9, 3, 1.0), &clouds(9, 2, 1.0));
        assert_eq!(error, "test features: expected [_, 3], found [9, 2]");
        let one = Features::new(formula(20, 2), Tensor::from_slice(&[0_i64; 20]), 2).unwrap();
        assert_eq!(run(&one, &one), "labels = only class 0: at least two classes");
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let error = serde_json::from_str::<LinearProbeConfig>(r#"{"held": 0.1}"#).unwrap_err().to_string();
        assert!(error.contains("unknown field `held`"), "{error}");
    }
}
