//! The linear probe: how well a linear classifier on frozen features does when it is fitted to the end.
//!
//! Features are standardised by the training part. The L2 strength is chosen on a stratified part of the training set
//! that is held out: the path of strengths is walked from the strongest penalty to the weakest, each fit starting from
//! the one before, and ends early once the held-out loss has clearly turned. The best strength is fitted anew on all
//! training samples. The test set is seen once, at the end.

use crate::logistic::Problem;
use crate::split::hold_out;
use crate::standardise::Standardiser;
use crate::{Confusion, Logistic, LogisticConfig, check_pair};
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
        check_strengths(&config.strengths)?;
        if !(config.held_out > 0.0 && config.held_out < 1.0) {
            return Err(Error::config("held_out", config.held_out, "between 0 and 1"));
        }
        Ok(LinearProbe { config })
    }

    /// Fits on `train` and scores on `test`.
    ///
    /// # Errors
    /// When the two sets do not fit each other, or the training set has fewer than two classes or too few samples to
    /// hold one out.
    pub fn run(&self, train: &Features, test: &Features) -> Result<LinearOutcome> {
        check_pair(train, test)?;
        let (fit, held) = hold_out(train, self.config.held_out, Key::new(self.config.seed))?;
        if held.size()[0] == 0 {
            return Err(Error::config(
                "train",
                format!("{} samples", train.len()),
                "more, so that some can be held out",
            ));
        }
        let (path, best) = self.path(&train.select(&fit), &train.select(&held))?;
        let standardiser = Standardiser::of(&train.x);
        let problem = Problem::new(&standardiser.apply(&train.x), &train.labels)?;
        let start = problem.start_from(&best)?;
        let c = chosen(&path);
        let classifier = problem.to_classifier(&problem.solve(c, start.as_ref(), &self.config.logistic)?);
        let predictions = classifier.predict(&standardiser.apply(&test.x))?;
        let confusion = Confusion::of(&test.labels, &predictions, test.classes)?;
        Ok(LinearOutcome {
            accuracy: confusion.accuracy(),
            c,
            iterations: classifier.iterations,
            converged: classifier.converged,
            path,
            confusion,
        })
    }

    /// Walks the path; also returns the classifier of the chosen strength.
    fn path(&self, fit: &Features, held: &Features) -> Result<(Vec<PathPoint>, Logistic)> {
        let standardiser = Standardiser::of(&fit.x);
        let problem = Problem::new(&standardiser.apply(&fit.x), &fit.labels)?;
        let held_x = standardiser.apply(&held.x);
        let mut path: Vec<PathPoint> = Vec::new();
        let mut best = None;
        let mut solution = None;
        for &c in &self.config.strengths {
            let solved = problem.solve(c, solution.as_ref(), &self.config.logistic)?;
            let classifier = problem.to_classifier(&solved);
            let (accuracy, loss) = held_out_scores(&classifier, &held_x, &held.labels)?;
            path.push(PathPoint { c, accuracy, loss, iterations: classifier.iterations });
            if chosen(&path) == c {
                best = Some(classifier);
            }
            if has_turned(&path) {
                break;
            }
            solution = Some(solved);
        }
        match best {
            Some(best) => Ok((path, best)),
            None => Err(Error::config("strengths", "[]", "at least one")),
        }
    }
}

impl Evaluator for LinearProbe {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        let accuracy = self.run(train, test)?.accuracy;
        Ok(Report { scores: vec![("linear".to_owned(), Score::of(&[accuracy]))] })
    }
}

pub(crate) fn check_strengths(strengths: &[f64]) -> Result<()> {
    let ascending = strengths.windows(2).all(|w| w[0] < w[1]);
    if strengths.is_empty() || !ascending || !strengths.iter().all(|c| *c > 0.0 && c.is_finite()) {
        return Err(Error::config("strengths", format!("{strengths:?}"), "ascending numbers above 0"));
    }
    Ok(())
}

/// Accuracy and mean cross-entropy on standardised held-out samples.
fn held_out_scores(classifier: &Logistic, x: &Tensor, labels: &Tensor) -> Result<(f64, f64)> {
    let log_p = classifier.logits(x)?.log_softmax(1, None); // [M, K]
    let predictions = classifier.classes.index_select(0, &log_p.argmax(1, false));
    let accuracy = f64::try_from(predictions.eq_tensor(labels).to_kind(Kind::Double).mean(None))?;
    // Every held-out class occurs in the fitted part: its column is the number of smaller classes there.
    let columns = classifier.classes.searchsorted(labels, false, false, "left", None::<Tensor>).unsqueeze(1);
    let loss = -f64::try_from(log_p.gather(1, &columns, false).mean(None))?;
    Ok((accuracy, loss))
}

/// The strength with the best held-out accuracy; of equals, the strongest penalty.
fn chosen(path: &[PathPoint]) -> f64 {
    let best = path.iter().fold(f64::NEG_INFINITY, |best, p| best.max(p.accuracy));
    path.iter().find(|p| p.accuracy == best).map_or(f64::NAN, |p| p.c)
}

/// Whether weaker penalties only overfit: the held-out loss stands clearly above its least.
fn has_turned(path: &[PathPoint]) -> bool {
    let least = path.iter().fold(f64::INFINITY, |least, p| least.min(p.loss));
    path.last().is_some_and(|p| p.loss > 1.1 * least)
}
