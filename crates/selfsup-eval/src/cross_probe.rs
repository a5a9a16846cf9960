//! What a linear probe says of samples that it has not learned from, for all samples of a set: cross-validation.
//!
//! The samples are divided into stratified folds. Those of each fold are judged by logistic regression that was fitted to the
//! other folds, standardised by them. The L2 strength is chosen once, as in [`LinearProbe`](crate::LinearProbe) by the
//! cross-entropy of the first fold, and serves all. So a label that is wrong does not speak for itself: this is what
//! confident learning judges labels by (Northcutt, Jiang and Chuang 2021, section 2).

use crate::linear_probe::{Path, walk};
use crate::logistic::Problem;
use crate::split::folds;
use crate::standardise::Standardiser;
use crate::strengths::check_strengths;
use crate::{LinearProbeConfig, LogisticConfig, PathPoint, Stage};
use selfsup_core::{Error, Features, Key, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// How samples are divided and classifiers fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CrossProbeConfig {
    /// The number of folds.
    pub folds: usize,
    /// The inverse regularisation strengths to choose from, ascending; scikit-learn's `C`.
    pub strengths: Vec<f64>,
    /// When a fit has converged.
    pub logistic: LogisticConfig,
    /// Decides which samples are of a fold.
    pub seed: u64,
}

impl Default for CrossProbeConfig {
    fn default() -> Self {
        CrossProbeConfig {
            folds: 5,
            strengths: LinearProbeConfig::default().strengths,
            logistic: LogisticConfig::default(),
            seed: 0,
        }
    }
}

/// What was said of every sample by a probe that had not learned from it.
#[derive(Debug)]
pub struct CrossPrediction {
    /// Class scores before softmax, `[N, C]` Float.
    pub logits: Tensor,
    /// The fold of every sample.
    pub fold: Vec<usize>,
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// The strengths that were tried.
    pub path: Vec<PathPoint>,
    /// The share of samples whose most probable class is their label.
    pub accuracy: f64,
    /// Whether every fit's gradient is within the tolerance.
    pub converged: bool,
}

/// The cross-validated linear probe.
#[derive(Debug)]
pub struct CrossProbe {
    config: CrossProbeConfig,
}

impl CrossProbe {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When there are fewer than two folds, or the strengths are none, not above 0 or not ascending.
    pub fn new(config: CrossProbeConfig) -> Result<CrossProbe> {
        if config.folds < 2 {
            return Err(Error::config("folds", config.folds, "at least 2"));
        }
        check_strengths(&config.strengths)?;
        Ok(CrossProbe { config })
    }

    /// Judges every sample. `progress` hears before the first fit and after each how many are done: one for each
    /// strength, those that the path leaves out too, then one for each fold.
    ///
    /// # Errors
    /// When there are fewer than two classes, fewer samples than folds, or a class has fewer than two samples: who learned
    /// from no sample of a class cannot say it.
    pub fn predict(&self, features: &Features, progress: &mut dyn FnMut(Stage)) -> Result<CrossPrediction> {
        let CrossProbeConfig { folds: count, strengths, logistic, seed } = &self.config;
        if features.classes < 2 {
            return Err(Error::config("classes", features.classes, "at least 2"));
        }
        if features.len() < *count as i64 {
            return Err(Error::config(
                "folds",
                count,
                format!("at most {}, the number of samples", features.len()),
            ));
        }
        let counts = Vec::<i64>::try_from(features.labels.bincount(None::<Tensor>, features.classes))?;
        if let Some((class, n)) = counts.iter().enumerate().find(|(_, n)| **n < 2) {
            return Err(Error::config(format!("samples of class {class}"), n, "at least 2"));
        }
        let parts = folds(features, *count, Key::new(*seed))?;
        let mut fold = vec![0; features.len() as usize];
        for (number, part) in parts.iter().enumerate() {
            for &i in part {
                fold[i as usize] = number;
            }
        }
        let mut stage = Stage::new("folds", strengths.len() + count, features.len());
        progress(stage);
        let mut path: Option<Path> = None;
        let mut logits =
            Tensor::zeros([features.len(), features.classes], (Kind::Float, features.x.device()));
        let mut converged = true;
        for (number, part) in parts.iter().enumerate() {
            let rest: Vec<i64> = (0..features.len()).filter(|&i| fold[i as usize] != number).collect();
            let (part, rest) = (Tensor::from_slice(part), features.select(&Tensor::from_slice(&rest)));
            let walked = match path.take() {
                Some(walked) => walked,
                None => walk(strengths, logistic, &rest, &features.select(&part), &mut |tried| {
                    stage.done = tried;
                    progress(stage);
                })?,
            };
            stage.done = strengths.len() + number;
            progress(stage);
            let standardiser = Standardiser::of(&rest.x);
            let problem = Problem::new(&standardiser.apply(&rest.x), &rest.labels)?;
            let start = problem.start_from(&walked.best)?;
            let classifier = problem.to_classifier(&problem.solve(walked.c, start.as_ref(), logistic)?);
            converged &= classifier.converged;
            let judged = classifier.logits(&standardiser.apply(&features.x.index_select(0, &part)))?;
            let _ = logits.index_copy_(0, &part, &judged);
            path = Some(walked);
        }
        stage.done = stage.total;
        progress(stage);
        let Some(Path { points, c, .. }) = path else {
            return Err(Error::config("folds", count, "at least 2"));
        };
        let right = logits.argmax(1, false).eq_tensor(&features.labels).to_kind(Kind::Double);
        let accuracy = f64::try_from(right.mean(None))?;
        Ok(CrossPrediction { logits, fold, c, path: points, accuracy, converged })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Logistic;
    use crate::fixtures::clouds;

    fn probe(config: CrossProbeConfig) -> CrossProbe {
        CrossProbe::new(config).unwrap()
    }

    fn predict(features: &Features, config: CrossProbeConfig) -> CrossPrediction {
        probe(config).predict(features, &mut |_| ()).unwrap()
    }

    #[test]
    fn equals_a_fit_on_the_other_folds() {
        let features = clouds(60, 3, 1.0);
        let config = CrossProbeConfig { folds: 3, strengths: vec![0.1], ..Default::default() };
        let found = predict(&features, config.clone());
        for number in 0..3 {
            let positions = |of: bool| -> Tensor {
                let wanted = (0..60_i64).filter(|&i| (found.fold[i as usize] == number) == of);
                Tensor::from_slice(&wanted.collect::<Vec<_>>())
            };
            let (rest, part) = (features.select(&positions(false)), features.select(&positions(true)));
            let standardiser = Standardiser::of(&rest.x);
            let x = Features::new(standardiser.apply(&rest.x), rest.labels, 3).unwrap();
            let classifier = Logistic::fit(&x, 0.1, &config.logistic).unwrap();
            let expected = classifier.logits(&standardiser.apply(&part.x)).unwrap();
            let judged = found.logits.index_select(0, &positions(true));
            assert!(f64::try_from((judged - expected).abs().max()).unwrap() < 2e-3);
        }
        assert_eq!((found.c, found.path.len(), found.converged), (0.1, 1, true));
    }

    // y = np.arange(60) % 3; fold = np.array(FOLD)
    // x = np.eye(3)[y] + np.sin(np.arange(180.) ** 1.5 * 0.37).reshape(60, 3)
    // for f in range(4):
    //     s = StandardScaler().fit(x[fold != f])
    //     m = LogisticRegression(C=0.1, tol=1e-10, max_iter=10000).fit(s.transform(x[fold != f]), y[fold != f])
    //     p[fold == f] = m.predict_proba(s.transform(x[fold == f]))
    // p[[0, 1, 2, 59]]                                                            # sklearn 1.9.1
    #[test]
    fn agrees_with_scikit_learn() {
        let features = clouds(60, 3, 1.0);
        let config = CrossProbeConfig { folds: 4, strengths: vec![0.1], ..Default::default() };
        let found = predict(&features, config);
        assert_eq!(found.fold, FOLD);
        let p = found.logits.softmax(1, Kind::Double);
        for (row, expected) in [0, 1, 2, 59].into_iter().zip(SKLEARN) {
            let found = Vec::<f64>::try_from(p.get(row)).unwrap();
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-3), "{row}: {found:?}");
        }
    }

    const FOLD: [usize; 60] = [
        3, 0, 2, 2, 3, 1, 2, 0, 2, 0, 3, 1, 2, 2, 3, 0, 2, 0, 2, 1, 3, 3, 2, 0, 2, 1, 3, 0, 3, 3, 0, 0, 1, 1,
        1, 0, 1, 0, 2, 3, 0, 2, 1, 3, 3, 1, 3, 2, 3, 1, 0, 0, 1, 1, 3, 2, 0, 1, 2, 1,
    ];
    const SKLEARN: [[f64; 3]; 4] = [
        [0.3949448580626843, 0.21167024091702244, 0.3933849010202933],
        [0.39763515184765724, 0.516236038405588, 0.08612880974675483],
        [0.0696499940045781, 0.23580229081998647, 0.6945477151754355],
        [0.1887752050373609, 0.14534320023963906, 0.665881594723],
    ];

    #[test]
    fn a_label_does_not_speak_for_itself() {
        // One sample of the far cloud of class 0 says that it is of class 1, and again the truth.
        let features = clouds(90, 3, 6.0);
        let labels = Vec::<i64>::try_from(&features.labels).unwrap();
        let mut wrong = labels.clone();
        wrong[30] = 1;
        let with = |labels: &[i64]| {
            let features = Features::new(features.x.copy(), Tensor::from_slice(labels), 3).unwrap();
            predict(&features, CrossProbeConfig::default()).logits.argmax(1, false).int64_value(&[30])
        };
        assert_eq!((with(&labels), with(&wrong)), (0, 0));
    }

    #[test]
    fn chooses_a_strength_once_and_says_how_far_it_is() {
        let mut stages = Vec::new();
        let config = CrossProbeConfig::default();
        let total = config.strengths.len() + 5;
        let found = probe(config).predict(&clouds(100, 4, 1.5), &mut |stage| stages.push(stage)).unwrap();
        let least = found.path.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        assert_eq!(found.c, least.c);
        assert!(found.path.len() > 1 && found.accuracy > 0.5, "{found:?}");
        assert!(stages.is_sorted_by_key(|stage| stage.done), "{stages:?}");
        assert_eq!((stages[0].done, stages[stages.len() - 1].done, stages[0].total), (0, total, total));
    }

    #[test]
    fn the_seed_decides_the_folds_alone() {
        let features = clouds(50, 2, 2.0);
        let with = |seed| predict(&features, CrossProbeConfig { seed, ..Default::default() });
        assert_eq!(with(1).logits, with(1).logits);
        assert_ne!(with(1).fold, with(2).fold);
    }

    #[test]
    fn rejects_what_cannot_be_divided() {
        let refusal = |config| CrossProbe::new(config).unwrap_err().to_string();
        assert_eq!(refusal(CrossProbeConfig { folds: 1, ..Default::default() }), "folds = 1: at least 2");
        let config = CrossProbeConfig { strengths: vec![], ..Default::default() };
        assert_eq!(refusal(config), "strengths = []: ascending numbers above 0");
        let of = |features: &Features| {
            probe(CrossProbeConfig::default()).predict(features, &mut |_| ()).unwrap_err().to_string()
        };
        assert_eq!(of(&clouds(10, 6, 1.0)), "samples of class 4 = 1: at least 2");
        assert_eq!(of(&clouds(4, 2, 1.0)), "folds = 5: at most 4, the number of samples");
        assert_eq!(of(&clouds(10, 1, 1.0)), "classes = 1: at least 2");
    }
}
