//! The few-label probe: what a linear classifier reaches with a handful of labels a class, over many draws of them.
//!
//! Each draw takes `labels_per_class` training samples of every class; the classifier is the linear probe's logistic
//! regression.

use crate::linear_probe::check_strengths;
use crate::logistic::Problem;
use crate::split::shuffled_by_class;
use crate::standardise::Standardiser;
use crate::{LogisticConfig, check_pair};
use selfsup_core::{Error, Evaluator, Features, Key, Kind, Report, Result, Score, Tensor};
use serde::{Deserialize, Serialize};

/// How labels are drawn and classifiers fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FewLabelConfig {
    /// Labels of each class in a draw.
    pub labels_per_class: usize,
    /// The number of draws.
    pub draws: usize,
    /// The inverse regularisation strengths to choose from, ascending; one is taken as it is.
    pub strengths: Vec<f64>,
    /// The parts into which a draw is split to choose: each in turn is held out.
    pub folds: usize,
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
            strengths: vec![1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0],
            folds: 5,
            logistic: LogisticConfig::default(),
            seed: 0,
        }
    }
}

/// The few-label probe.
#[derive(Debug)]
pub struct FewLabelProbe {
    config: FewLabelConfig,
}

impl FewLabelProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a number is 0, the strengths are none, not above 0 or not ascending, or a class has fewer labels than
    /// there are folds to choose with.
    pub fn new(config: FewLabelConfig) -> Result<FewLabelProbe> {
        check_strengths(&config.strengths)?;
        if config.labels_per_class == 0 || config.draws == 0 {
            let value = format!("{}, draws = {}", config.labels_per_class, config.draws);
            return Err(Error::config("labels_per_class", value, "both at least 1"));
        }
        if config.strengths.len() > 1 && !(2..=config.labels_per_class).contains(&config.folds) {
            let expected =
                format!("2 to labels_per_class = {}, or give one strength", config.labels_per_class);
            return Err(Error::config("folds", config.folds, expected));
        }
        Ok(FewLabelProbe { config })
    }

    /// The test accuracy of every draw.
    ///
    /// # Errors
    /// When the two sets do not fit each other, or a class of the training set has too few samples.
    pub fn run(&self, train: &Features, test: &Features) -> Result<Vec<f64>> {
        check_pair(train, test)?;
        let standardiser = Standardiser::of(&train.x);
        let test_x = standardiser.apply(&test.x); // [M, D]
        (0..self.config.draws)
            .map(|draw| {
                let labelled = self.draw(train, draw)?;
                let x = standardiser.apply(&train.x.index_select(0, &labelled));
                let labels = train.labels.index_select(0, &labelled);
                let c = self.choose(&x, &labels)?;
                let problem = Problem::new(&x, &labels)?;
                let classifier = problem.to_classifier(&problem.solve(c, None, &self.config.logistic)?);
                accuracy(&classifier.predict(&test_x)?, &test.labels)
            })
            .collect()
    }

    /// The samples of a draw, the first of every class, then the second of every class, and so on.
    fn draw(&self, train: &Features, draw: usize) -> Result<Tensor> {
        let by_class = shuffled_by_class(train, Key::new(self.config.seed).with(draw as u64))?;
        let count = self.config.labels_per_class;
        let mut samples = Vec::with_capacity(count * by_class.len());
        for i in 0..count {
            for (class, of_class) in by_class.iter().enumerate().filter(|(_, s)| !s.is_empty()) {
                let Some(&sample) = of_class.get(i) else {
                    let expected = format!("at most the {} samples of class {class}", of_class.len());
                    return Err(Error::config("labels_per_class", count, expected));
                };
                samples.push(sample);
            }
        }
        Ok(Tensor::from_slice(&samples))
    }

    /// The strength that is right most often on the held-out folds of a draw; of equals, the strongest penalty.
    fn choose(&self, x: &Tensor, labels: &Tensor) -> Result<f64> {
        let strengths = &self.config.strengths;
        if let [only] = strengths[..] {
            return Ok(only);
        }
        let n = x.size()[0] as usize;
        let rounds = n / self.config.labels_per_class; // classes
        let mut right = vec![0.0; strengths.len()];
        for fold in 0..self.config.folds {
            let (held, fit): (Vec<i64>, Vec<i64>) =
                (0..n as i64).partition(|&i| i as usize / rounds % self.config.folds == fold);
            let (held, fit) = (Tensor::from_slice(&held), Tensor::from_slice(&fit));
            let (held_x, held_labels) = (x.index_select(0, &held), labels.index_select(0, &held));
            let problem = Problem::new(&x.index_select(0, &fit), &labels.index_select(0, &fit))?;
            let mut solution = None;
            for (right, &c) in right.iter_mut().zip(strengths) {
                let solved = problem.solve(c, solution.as_ref(), &self.config.logistic)?;
                *right += accuracy(&problem.to_classifier(&solved).predict(&held_x)?, &held_labels)?;
                solution = Some(solved);
            }
        }
        let best = right.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        Ok(right.iter().zip(strengths).find(|(r, _)| **r == best).map_or(strengths[0], |(_, c)| *c))
    }
}

impl Evaluator for FewLabelProbe {
    fn evaluate(&self, train: &Features, test: &Features) -> Result<Report> {
        let score = Score::of(&self.run(train, test)?);
        Ok(Report { scores: vec![(format!("few{}", self.config.labels_per_class), score)] })
    }
}

fn accuracy(predictions: &Tensor, labels: &Tensor) -> Result<f64> {
    Ok(f64::try_from(predictions.eq_tensor(labels).to_kind(Kind::Double).mean(None))?)
}
