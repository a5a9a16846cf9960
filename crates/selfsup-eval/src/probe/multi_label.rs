//! The linear probe for samples with any number of labels: a logistic regression for each label, fitted together.
//!
//! ```text
//! min over W, b    1/N sum_i sum_k log(1 + exp(-s_ik (w_k x_i + b_k)))  +  1/(2 C N) |W|^2,      s = +1, -1
//! mAP = mean over labels of the average precision        macro F1 = mean over labels of 2 TP / (2 TP + FP + FN)
//! ```
//! As in the linear probe features are standardised by the training part, and the strength, one for all labels, is chosen by
//! the cross-entropy of a held-out part along a path with warm starts. A label is predicted from a probability of one half
//! on. Labels without a positive sample in the test set have no average precision: they are left out of both means and
//! counted. Values are scikit-learn's `LogisticRegression` for each label, `average_precision_score` and `f1_score`.

use crate::logistic::{Link, Problem};
use crate::measurement::Origin;
use crate::ranking::{Ranked, resampled};
use crate::standardise::Standardiser;
use crate::strengths::least_loss;
use crate::{LinearProbeConfig, Logistic, Mean, Measurement};
use rand::seq::SliceRandom;
use selfsup_core::{Device, Error, Key, Kind, Result, Tensor, check_shape};
use serde::{Deserialize, Serialize};

/// Features with the labels of their samples, any number each.
#[derive(Debug)]
pub struct MultiLabelled {
    /// The features, `[N, D]` Float.
    x: Tensor,
    /// Whether a sample has a label, `[N, K]` Double of 0 and 1.
    y: Tensor,
}

impl MultiLabelled {
    /// Checks and holds features and labels.
    ///
    /// # Shapes
    /// `x` `[N, D]`, `y` `[N, K]` of any kind, 1 or true where the sample has the label, else 0.
    ///
    /// # Errors
    /// When the shapes do not fit or are empty, a feature is not finite, or `y` holds another value.
    pub fn new(x: &Tensor, y: &Tensor) -> Result<MultiLabelled> {
        let x = finite_features(x)?;
        let [_, k] = check_shape("labels", y, [x.size()[0], -1])?;
        if k == 0 {
            return Err(Error::config("labels", "[N, 0]", "at least one label"));
        }
        let y = y.to_device(Device::Cpu).to_kind(Kind::Double);
        let binary = y.eq(0.0).logical_or(&y.eq(1.0)).all_dim(1, false);
        if !bool::try_from(binary.all())? {
            let row = i64::try_from(binary.to_kind(Kind::Int64).argmin(0, false))?;
            return Err(Error::config("labels", format!("another value in row {row}"), "0 or 1"));
        }
        Ok(MultiLabelled { x, y })
    }

    fn select(&self, indices: &Tensor) -> MultiLabelled {
        MultiLabelled { x: self.x.index_select(0, indices), y: self.y.index_select(0, indices) }
    }
}

/// `[N, D]` Float on the CPU, with a sample and a feature at least and all values finite.
pub(crate) fn finite_features(x: &Tensor) -> Result<Tensor> {
    let [n, d] = check_shape("features", x, [-1, -1])?;
    if n == 0 || d == 0 {
        return Err(Error::config("features", format!("[{n}, {d}]"), "at least one sample and one feature"));
    }
    let x = x.detach().to_device(Device::Cpu).to_kind(Kind::Float).contiguous();
    let finite = x.isfinite().all_dim(1, false);
    if !bool::try_from(finite.all())? {
        let row = i64::try_from(finite.to_kind(Kind::Int64).argmin(0, false))?;
        return Err(Error::NonFinite {
            what: "features".into(),
            detail: format!("the first bad row is {row}"),
        });
    }
    Ok(x)
}

/// Which samples of `n` choose: `share` of them, one at least and not all; (rest, held out), both ascending.
pub(crate) fn hold_out_any(n: i64, share: f64, key: Key) -> Result<(Tensor, Tensor)> {
    if n < 2 {
        return Err(Error::config("train", format!("{n} samples"), "more, so that some can be held out"));
    }
    let mut all: Vec<i64> = (0..n).collect();
    all.shuffle(&mut key.rng());
    let count = ((n as f64 * share).round() as usize).clamp(1, n as usize - 1);
    let (held, rest) = all.split_at_mut(count);
    held.sort_unstable();
    rest.sort_unstable();
    Ok((Tensor::from_slice(rest), Tensor::from_slice(held)))
}

/// One strength of the path.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelPoint {
    /// The inverse regularisation strength.
    pub c: f64,
    /// The mean cross-entropy of a label on the held-out part.
    pub loss: f64,
    /// Iterations from the strength before.
    pub iterations: usize,
}

/// What the probe found on the test set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MultiLabelOutcome {
    /// The mean average precision.
    pub map: Mean,
    /// The mean F1 at a probability of one half.
    pub macro_f1: Mean,
    /// The average precision of every label; none for one without positive test samples.
    pub average_precision: Vec<Option<f64>>,
    /// The labels without positive test samples.
    pub without_positives: usize,
    /// The chosen inverse regularisation strength.
    pub c: f64,
    /// Whether the last fit converged.
    pub converged: bool,
    /// The strengths that were tried.
    pub path: Vec<MultiLabelPoint>,
    /// Decides which samples are held out and the draws of the intervals.
    pub seed: u64,
}

/// The multi-label probe; its configuration is the linear probe's.
#[derive(Debug)]
pub struct MultiLabelProbe {
    config: LinearProbeConfig,
    resamples: usize,
}

impl MultiLabelProbe {
    /// Checks the configuration. Intervals take `resamples` draws of the test samples; 1000 are enough.
    ///
    /// # Errors
    /// As [`LinearProbe::new`](crate::LinearProbe::new), and when there are no resamples.
    pub fn new(config: LinearProbeConfig, resamples: usize) -> Result<MultiLabelProbe> {
        config.check()?;
        if resamples == 0 {
            return Err(Error::config("resamples", 0, "at least 1"));
        }
        Ok(MultiLabelProbe { config, resamples })
    }

    /// Fits on `train` and scores on `test`.
    ///
    /// # Errors
    /// When the sets do not fit each other, the training set has fewer than two samples, or no label of the test set has a
    /// positive sample.
    pub fn run(&self, train: &MultiLabelled, test: &MultiLabelled) -> Result<MultiLabelOutcome> {
        check_shape("test features", &test.x, [-1, train.x.size()[1]])?;
        check_shape("test labels", &test.y, [-1, train.y.size()[1]])?;
        let key = Key::new(self.config.seed);
        let (rest, held) = hold_out_any(train.x.size()[0], self.config.held_out, key.with(0))?;
        let (path, c, best) = self.path(&train.select(&rest), &train.select(&held))?;
        let standardiser = Standardiser::of(&train.x);
        let problem = problem(&standardiser.apply(&train.x), &train.y)?;
        let start = problem.start_from(&best)?;
        let fitted = problem.to_classifier(&problem.solve(c, start.as_ref(), &self.config.logistic)?);
        let logits = fitted.logits(&standardiser.apply(&test.x))?; // [M, K]
        let scored = Scored::new(&logits, &test.y)?;
        let n = test.x.size()[0] as usize;
        let none = || Error::config("test labels", "no positive sample", "a label with one at least");
        let map = resampled(n, self.resamples, key.with(1), |w| scored.mean_average_precision(w))?;
        let macro_f1 = resampled(n, self.resamples, key.with(1), |w| scored.macro_f1(w))?;
        let average_precision: Vec<Option<f64>> =
            scored.ranked.iter().map(|ranked| ranked.average_precision(None)).collect();
        Ok(MultiLabelOutcome {
            map: map.ok_or_else(none)?,
            macro_f1: macro_f1.ok_or_else(none)?,
            without_positives: average_precision.iter().filter(|ap| ap.is_none()).count(),
            average_precision,
            c,
            converged: fitted.converged,
            path,
            seed: self.config.seed,
        })
    }

    /// From the strongest penalty to the weakest, until the held-out loss rises.
    fn path(
        &self,
        rest: &MultiLabelled,
        held: &MultiLabelled,
    ) -> Result<(Vec<MultiLabelPoint>, f64, Logistic)> {
        let standardiser = Standardiser::of(&rest.x);
        let problem = problem(&standardiser.apply(&rest.x), &rest.y)?;
        let held_x = standardiser.apply(&held.x);
        let mut path = Vec::new();
        let mut judge = |c: f64, fitted: &Logistic| {
            let logits = fitted.logits(&held_x)?.to_kind(Kind::Double);
            let loss = f64::try_from((logits.softplus() - logits * &held.y).mean(None))?;
            path.push(MultiLabelPoint { c, loss, iterations: fitted.iterations });
            Ok(loss)
        };
        let (c, best) = least_loss(&problem, &self.config.strengths, &self.config.logistic, &mut judge)?;
        Ok((path, c, best))
    }
}

fn problem(x: &Tensor, y: &Tensor) -> Result<Problem> {
    let labels = Tensor::arange(y.size()[1], (Kind::Int64, Device::Cpu));
    Problem::with_targets(x, y, labels, Link::Sigmoid)
}

/// Test scores, sorted once for all draws.
struct Scored {
    ranked: Vec<Ranked>,
    /// Label by label and sample by sample: whether it is predicted, and whether it is there.
    answers: Vec<Vec<(bool, bool)>>,
}

impl Scored {
    fn new(logits: &Tensor, y: &Tensor) -> Result<Scored> {
        let columns = |x: &Tensor| Vec::<Vec<f64>>::try_from(x.tr().contiguous());
        let (logits, y) = (columns(logits)?, columns(y)?);
        let mut scored = Scored { ranked: Vec::new(), answers: Vec::new() };
        for (logits, y) in logits.iter().zip(&y) {
            let there: Vec<bool> = y.iter().map(|y| *y > 0.5).collect();
            scored.ranked.push(Ranked::new(logits, &there)?);
            // A probability of one half is a score of 0.
            scored.answers.push(logits.iter().map(|z| *z >= 0.0).zip(there).collect());
        }
        Ok(scored)
    }

    fn mean_average_precision(&self, weights: Option<&[f64]>) -> Option<f64> {
        mean(self.ranked.iter().filter_map(|ranked| ranked.average_precision(weights)))
    }

    fn macro_f1(&self, weights: Option<&[f64]>) -> Option<f64> {
        let f1 = |answers: &Vec<(bool, bool)>| {
            let (mut hits, mut predicted, mut there) = (0.0, 0.0, 0.0);
            for (i, &(p, t)) in answers.iter().enumerate() {
                let weight = weights.map_or(1.0, |w| w[i]);
                hits += if p && t { weight } else { 0.0 };
                predicted += if p { weight } else { 0.0 };
                there += if t { weight } else { 0.0 };
            }
            (there > 0.0).then(|| 2.0 * hits / (predicted + there))
        };
        mean(self.answers.iter().filter_map(f1))
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = values.fold((0.0, 0.0), |(sum, n), v| (sum + v, n + 1.0));
    (n > 0.0).then(|| sum / n)
}

impl MultiLabelOutcome {
    /// The measures for a report, of test samples from `split`.
    pub fn measurements(&self, split: &str) -> Vec<Measurement> {
        let origin = Origin { split, seed: Some(self.seed) };
        let labels = self.average_precision.len() - self.without_positives;
        let by = format!(
            "of logistic regressions on frozen, standardised features, C = {} chosen on held-out samples",
            self.c
        );
        vec![
            origin.mean(
                "multi_label_map",
                &self.map,
                format!("mean over {labels} labels of the average precision {by}"),
            ),
            origin.mean(
                "multi_label_f1",
                &self.macro_f1,
                format!("mean over {labels} labels of F1 at a probability of one half {by}"),
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::formula;

    /// Three labels that overlap: signs of mixtures of the features with noise.
    fn set(from: i64, n: i64) -> MultiLabelled {
        let x = formula(700, 8).narrow(0, from, n);
        let noise = formula(700, 3).flip([0]).narrow(0, from, n);
        let mixed = x.narrow(1, 0, 3) + x.narrow(1, 2, 3) * 0.7 + noise * 0.8;
        MultiLabelled::new(&x, &mixed.gt_tensor(&Tensor::from_slice(&[0.0_f32, 0.4, 0.8]))).unwrap()
    }

    fn probe(strengths: Vec<f64>) -> MultiLabelProbe {
        MultiLabelProbe::new(LinearProbeConfig { strengths, ..Default::default() }, 50).unwrap()
    }

    // w = lambda d: np.sin(np.arange(700 * d) ** 1.5 * 0.37).reshape(700, d).astype(np.float32)
    // x = w(8); y = x[:, :3] + x[:, 2:5] * np.float32(.7) + w(3)[::-1] * np.float32(.8) > np.float32([0, .4, .8])
    // s = StandardScaler().fit(x[:400]); a, b = s.transform(x[:400]), s.transform(x[400:])
    // z = np.stack([LogisticRegression(C=0.3, tol=1e-8, max_iter=9999).fit(a, t).decision_function(b) for t in y[:400].T], 1)
    // average_precision_score(y[400:], z), f1_score(y[400:], z >= 0, average="macro")             # scikit-learn 1.9.1
    // average_precision_score(y[400:], z, average=None)
    #[test]
    fn agrees_with_scikit_learn() {
        let found = probe(vec![0.3]).run(&set(0, 400), &set(400, 300)).unwrap();
        let each: Vec<f64> = found.average_precision.iter().map(|ap| ap.unwrap()).collect();
        let values = [&[found.map.value, found.macro_f1.value], each.as_slice()].concat();
        assert!(values.iter().zip(SKLEARN).all(|(f, e)| (f - e).abs() < 1e-3), "{values:?}");
        assert!(found.converged);
    }

    const SKLEARN: [f64; 5] =
        [0.8418318510366863, 0.6939560813887446, 0.9325599407621507, 0.8122646625364485, 0.78067094981146];

    #[test]
    fn the_path_ends_where_the_held_out_loss_rises_and_the_choice_is_its_least() {
        let found = MultiLabelProbe::new(LinearProbeConfig::default(), 50).unwrap();
        let found = found.run(&set(0, 400), &set(400, 300)).unwrap();
        let least = found.path.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).unwrap();
        assert_eq!(least.c, found.c);
        let interval = found.map.interval.unwrap();
        assert!(interval.low < found.map.value && found.map.value < interval.high, "{found:?}");
        assert_eq!(found.measurements("test")[0].name, "multi_label_map");
    }

    #[test]
    fn a_label_that_no_test_sample_has_is_left_out_and_counted() {
        let test = set(400, 300);
        let _ = test.y.select(1, 1).fill_(0.0);
        let found = probe(vec![0.3]).run(&set(0, 400), &test).unwrap();
        assert_eq!((found.average_precision[1], found.without_positives), (None, 1));
        let rest = [found.average_precision[0].unwrap(), found.average_precision[2].unwrap()];
        assert!((found.map.value - 0.5 * (rest[0] + rest[1])).abs() < 1e-12);
        let _ = test.y.shallow_clone().fill_(0.0);
        let error = probe(vec![0.3]).run(&set(0, 400), &test).unwrap_err().to_string();
        assert_eq!(error, "test labels = no positive sample: a label with one at least");
    }

    #[test]
    fn a_label_that_all_or_no_training_samples_have_is_fitted_all_the_same() {
        let train = set(0, 400);
        let _ = train.y.select(1, 0).fill_(1.0);
        let _ = train.y.select(1, 2).fill_(0.0);
        let found = probe(vec![0.3]).run(&train, &set(400, 300)).unwrap();
        assert!(found.map.value.is_finite() && found.macro_f1.value.is_finite());
    }

    #[test]
    fn rejects_labels_that_are_none() {
        let x = formula(4, 2);
        let error = |y: &Tensor| MultiLabelled::new(&x, y).unwrap_err().to_string();
        assert_eq!(error(&(formula(4, 2) * 0.0 + 2.0)), "labels = another value in row 0: 0 or 1");
        assert_eq!(error(&formula(3, 2)), "labels: expected [4, _], found [3, 2]");
        let error = MultiLabelled::new(&(&x / 0.0), &x.gt(0.0)).unwrap_err().to_string();
        assert_eq!(error, "features is not finite: the first bad row is 0");
        let error = MultiLabelProbe::new(LinearProbeConfig::default(), 0).unwrap_err().to_string();
        assert_eq!(error, "resamples = 0: at least 1");
    }
}
