//! FlexMatch's curriculum pseudo-labelling (Zhang et al. 2021, section 3): a threshold of its own for every class, lower
//! while the class is learned badly.
//!
//! ```text
//! u_i = the class last predicted for sample i with max_c p_ic >= tau, or none        sigma(c) = |{i : u_i = c}|
//! beta(c) = sigma(c) / max(max_c sigma(c), N - sum_c sigma(c))                       T(c) = M(beta(c)) tau
//! label_i = argmax_c p_ic        weight_i = 1(max_c p_ic >= T(label_i))
//! ```
//! The second term of the denominator, the samples that no confident prediction was made for yet, is the warm-up: while
//! most samples are unused all thresholds stay low. `M(x) = x / (2 - x)`.
//!
//! As in the authors' code (USB) a batch is judged by the thresholds from before it. USB leaves `beta` as it was while
//! all samples have the same class; here the formula holds then too.

use super::confidence::{check_classes, most_probable, with_classes};
use crate::IndexedProbabilities;
use crate::memory::{restored, saved};
use selfsup_core::{Device, Error, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// How a class's learning status becomes a share of the threshold (section 3.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mapping {
    /// `x / (2 - x)`: thresholds rise slowly at first. The paper's choice.
    #[default]
    Convex,
    /// `x`.
    Linear,
    /// `ln(1 + x) / ln 2`: thresholds rise fast at first.
    Concave,
}

impl Mapping {
    fn of(self, x: f32) -> f32 {
        match self {
            Mapping::Convex => x / (2.0 - x),
            Mapping::Linear => x,
            Mapping::Concave => x.ln_1p() / std::f32::consts::LN_2,
        }
    }
}

/// Settings of [`FlexMatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlexMatchConfig {
    /// The threshold of the class that is learned best. The paper: 0.95.
    pub tau: f64,
    /// Whether thresholds stay low while most samples have no confident prediction. The paper: yes.
    pub warm_up: bool,
    /// How thresholds rise.
    pub mapping: Mapping,
}

impl Default for FlexMatchConfig {
    fn default() -> Self {
        FlexMatchConfig { tau: 0.95, warm_up: true, mapping: Mapping::Convex }
    }
}

/// Labels what a classifier is sure of, and asks less of classes that it knows less.
#[derive(Debug)]
pub struct FlexMatch {
    config: FlexMatchConfig,
    /// Of every sample the class of its last confident prediction; -1 where there was none.
    selected: Vec<i64>,
    /// The samples of each class in it.
    counts: Vec<usize>,
}

impl FlexMatch {
    /// For an unlabelled set of `samples` samples and this many classes.
    ///
    /// # Errors
    /// When there is no class or no sample, or the threshold is not in `[0, 1]`.
    pub fn new(classes: i64, samples: i64, config: FlexMatchConfig) -> Result<FlexMatch> {
        check_classes(classes)?;
        if samples < 1 {
            return Err(Error::config("samples", samples, "at least 1"));
        }
        if !(0.0..=1.0).contains(&config.tau) {
            return Err(Error::config("tau", config.tau, "0 to 1"));
        }
        Ok(FlexMatch { config, selected: vec![-1; samples as usize], counts: vec![0; classes as usize] })
    }

    /// The threshold of every class, `[C]` Float, that the next batch is judged by.
    pub fn thresholds(&self) -> Tensor {
        let most = self.counts.iter().copied().max().unwrap_or(0);
        let unused = self.selected.len() - self.counts.iter().sum::<usize>();
        let scale = if self.config.warm_up { most.max(unused) } else { most.max(1) };
        let threshold = |&count: &usize| {
            let status = (count as f64 / scale as f64) as f32;
            self.config.tau as f32 * self.config.mapping.of(status)
        };
        Tensor::from_slice(&self.counts.iter().map(threshold).collect::<Vec<_>>())
    }

    fn select(&mut self, sample: usize, class: i64) {
        let before = std::mem::replace(&mut self.selected[sample], class);
        if before >= 0 {
            self.counts[before as usize] -= 1;
        }
        self.counts[class as usize] += 1;
    }
}

impl PseudoLabeler for FlexMatch {
    type Scores = IndexedProbabilities;

    /// Labels a batch of class probabilities `[N, C]` of known samples, then remembers its confident predictions.
    ///
    /// # Errors
    /// When the number of classes or a sample's position does not fit.
    fn label(&mut self, scores: &IndexedProbabilities) -> Result<PseudoLabels> {
        let p = with_classes(scores.probabilities(), self.counts.len() as i64)?;
        let samples: Vec<usize> = scores.checked_samples(self.selected.len() as i64)?.collect();
        let (confidence, labels) = most_probable(p);
        let thresholds = self.thresholds().to_device(p.device()).index_select(0, &labels); // [N]
        let weights = confidence.ge_tensor(&thresholds).to_kind(Kind::Float);

        let (confidences, classes) = (Vec::<f32>::try_from(&confidence)?, Vec::<i64>::try_from(&labels)?);
        for ((sample, class), confidence) in samples.into_iter().zip(classes).zip(confidences) {
            if confidence >= self.config.tau as f32 {
                self.select(sample, class);
            }
        }
        Ok(PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure))
    }

    /// `selected` `[samples]` Int64.
    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("selected", &Tensor::from_slice(&self.selected))]
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let like = Tensor::zeros([self.selected.len() as i64], (Kind::Int64, Device::Cpu));
        let selected = Vec::<i64>::try_from(restored(state, "selected", &like)?)?;
        let classes = self.counts.len();
        let mut counts = vec![0; classes];
        for &class in &selected {
            match usize::try_from(class) {
                Ok(class) if class < classes => counts[class] += 1,
                Err(_) if class == -1 => {}
                _ => return Err(Error::config("state.selected", class, format!("-1 to {}", classes - 1))),
            }
        }
        (self.selected, self.counts) = (selected, counts);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::{STEPS, assert_near, bits, probabilities};
    use super::*;
    use selfsup_core::Probabilities;

    /// Batch `t` of the course: eight of twenty samples.
    fn batch(t: i64) -> IndexedProbabilities {
        let samples = ((Tensor::arange(8, (Kind::Int64, Device::Cpu)) + 8 * t) * 3).remainder(20);
        IndexedProbabilities::new(&samples, probabilities(t)).unwrap()
    }

    fn labeler(warm_up: bool) -> FlexMatch {
        FlexMatch::new(4, 20, FlexMatchConfig { tau: 0.8, warm_up, ..Default::default() }).unwrap()
    }

    // selected = -torch.ones(20, dtype=torch.long); acc = torch.zeros(4)
    // for t in range(20):                                   # logits(t): see course.rs
    //     p = logits(t).softmax(1); idx = (3 * (torch.arange(8) + 8 * t)) % 20
    //     conf, lab = p.max(1)
    //     thresholds = 0.8 * (acc / (2 - acc)); mask = conf.ge(thresholds[lab])
    //     selected[idx[conf.ge(0.8)]] = lab[conf.ge(0.8)]
    //     c = Counter(selected.tolist())
    //     if max(c.values()) < 20:
    //         if not warm_up: c.pop(-1, None)
    //         for k in range(4): acc[k] = c[k] / max(c.values())
    #[rustfmt::skip]
    const MASKS: [u8; 20] = [
        255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 191, 191, 26, 208, 127, 221, 255,
    ];
    #[rustfmt::skip]
    const THRESHOLDS: [[f64; 4]; 20] = [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.02162162, 0.0, 0.0, 0.0],
        [0.02162162, 0.0, 0.0, 0.0],
        [0.02162162, 0.0, 0.0, 0.0],
        [0.02424243, 0.0, 0.02424243, 0.02424243],
        [0.02758621, 0.02758621, 0.05714286, 0.02758621],
        [0.0, 0.06666667, 0.1904762, 0.0],
        [0.08000001, 0.08000001, 0.2352941, 0.0],
        [0.1411765, 0.1411765, 0.2, 0.0],
        [0.32, 0.4444445, 0.32, 0.0],
        [0.5714285, 0.8, 0.8, 0.0],
        [0.8, 0.8, 0.8, 0.3428572],
        [0.8, 0.2666667, 0.4000001, 0.5714285],
        [0.8, 0.1333333, 0.32, 0.4444445],
        [0.8, 0.1333333, 0.32, 0.4444445],
        [0.8, 0.1333333, 0.2181818, 0.6000001],
        [0.8, 0.1333333, 0.1333333, 0.8],
        [0.8, 0.04705883, 0.1, 0.5090909],
    ];
    #[rustfmt::skip]
    const MASKS_WITHOUT_WARM_UP: [u8; 20] = [
        255, 255, 255, 37, 176, 202, 80, 253, 247, 231, 255, 255, 255, 191, 191, 26, 208, 127, 221, 255,
    ];
    #[rustfmt::skip]
    const THRESHOLDS_WITHOUT_WARM_UP: [[f64; 4]; 20] = [
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0],
        [0.8, 0.0, 0.0, 0.0],
        [0.8, 0.0, 0.0, 0.0],
        [0.8, 0.0, 0.0, 0.0],
        [0.8, 0.0, 0.8, 0.8],
        [0.2666667, 0.2666667, 0.8, 0.2666667],
        [0.0, 0.2, 0.8, 0.0],
        [0.2, 0.2, 0.8, 0.0],
        [0.48, 0.48, 0.8, 0.0],
        [0.5333333, 0.8, 0.5333333, 0.0],
        [0.5714285, 0.8, 0.8, 0.0],
        [0.8, 0.8, 0.8, 0.3428572],
        [0.8, 0.2666667, 0.4000001, 0.5714285],
        [0.8, 0.1333333, 0.32, 0.4444445],
        [0.8, 0.1333333, 0.32, 0.4444445],
        [0.8, 0.1333333, 0.2181818, 0.6000001],
        [0.8, 0.1333333, 0.1333333, 0.8],
        [0.8, 0.04705883, 0.1, 0.5090909],
    ];

    fn follows(warm_up: bool, masks: [u8; 20], thresholds: &[[f64; 4]; 20]) {
        let mut labeler = labeler(warm_up);
        for t in 0..STEPS {
            assert_near(&labeler.thresholds(), &thresholds[t as usize], 1e-6);
            let found = labeler.label(&batch(t)).unwrap();
            assert_eq!(bits(&found.weights), masks[t as usize], "step {t}");
            assert_eq!(found.labels, probabilities(t).tensor().argmax(1, false));
        }
    }

    #[test]
    fn goes_the_way_of_the_authors_code_with_warm_up() {
        follows(true, MASKS, &THRESHOLDS);
    }

    #[test]
    fn goes_the_way_of_the_authors_code_without_warm_up() {
        follows(false, MASKS_WITHOUT_WARM_UP, &THRESHOLDS_WITHOUT_WARM_UP);
    }

    #[test]
    fn counts_as_a_recount_of_all_samples_does() {
        let mut labeler = labeler(true);
        for t in 0..STEPS {
            labeler.label(&batch(t)).unwrap();
            let recount: Vec<usize> =
                (0..4).map(|c| labeler.selected.iter().filter(|&&s| s == c).count()).collect();
            assert_eq!(labeler.counts, recount, "step {t}");
        }
    }

    #[test]
    fn goes_on_from_a_checkpoint_as_if_never_stopped() {
        let (mut whole, mut first) = (labeler(true), labeler(true));
        for t in 0..10 {
            whole.label(&batch(t)).unwrap();
            first.label(&batch(t)).unwrap();
        }
        let mut second = labeler(true);
        second.restore(&first.state()).unwrap();
        for t in 10..STEPS {
            let (a, b) = (whole.label(&batch(t)).unwrap(), second.label(&batch(t)).unwrap());
            assert_eq!((a.labels, a.weights, a.reasons), (b.labels, b.weights, b.reasons));
            assert_eq!(whole.thresholds(), second.thresholds());
        }
    }

    #[test]
    fn a_class_that_has_all_samples_reaches_the_full_threshold() {
        let mut labeler = FlexMatch::new(2, 2, FlexMatchConfig::default()).unwrap();
        let sure = Tensor::from_slice2(&[[0.99_f32, 0.01], [0.97, 0.03]]);
        let scores =
            IndexedProbabilities::new(&Tensor::from_slice(&[0_i64, 1]), Probabilities::new(&sure).unwrap());
        labeler.label(&scores.unwrap()).unwrap();
        assert_near(&labeler.thresholds(), &[0.95, 0.0], 1e-6);
    }

    #[test]
    fn the_last_of_a_samples_predictions_in_a_batch_counts() {
        let mut labeler = FlexMatch::new(2, 3, FlexMatchConfig::default()).unwrap();
        let sure = Tensor::from_slice2(&[[0.99_f32, 0.01], [0.03, 0.97]]);
        let scores =
            IndexedProbabilities::new(&Tensor::from_slice(&[1_i64, 1]), Probabilities::new(&sure).unwrap());
        labeler.label(&scores.unwrap()).unwrap();
        assert_eq!((labeler.selected, labeler.counts), (vec![-1, 1, -1], vec![0, 1]));
    }

    #[test]
    fn mappings_meet_at_both_ends() {
        for mapping in [Mapping::Convex, Mapping::Linear, Mapping::Concave] {
            assert_eq!(mapping.of(0.0), 0.0);
            assert!((mapping.of(1.0) - 1.0).abs() < 1e-6);
        }
        let half = [Mapping::Convex, Mapping::Linear, Mapping::Concave].map(|m| m.of(0.5));
        let expected = [1.0 / 3.0, 0.5, 1.5_f32.log2()];
        assert!(half.iter().zip(expected).all(|(h, e)| (h - e).abs() < 1e-6), "{half:?}");
    }

    #[test]
    fn an_empty_batch_changes_nothing() {
        let mut labeler = labeler(true);
        let empty = |kind| Tensor::zeros([0], (kind, Device::Cpu));
        let none = Probabilities::new(&empty(Kind::Float).reshape([0, 4])).unwrap();
        let found = labeler.label(&IndexedProbabilities::new(&empty(Kind::Int64), none).unwrap()).unwrap();
        assert_eq!((found.labels.size(), found.weights.size()), (vec![0], vec![0]));
        assert!(labeler.selected.iter().all(|&s| s == -1));
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = FlexMatch::new(4, 0, FlexMatchConfig::default()).unwrap_err().to_string();
        assert_eq!(error, "samples = 0: at least 1");
        assert!(FlexMatch::new(0, 4, FlexMatchConfig::default()).is_err());
        let config = FlexMatchConfig { tau: f64::NAN, ..Default::default() };
        assert_eq!(FlexMatch::new(4, 4, config).unwrap_err().to_string(), "tau = NaN: 0 to 1");
        let mut small = FlexMatch::new(4, 10, FlexMatchConfig::default()).unwrap();
        let error = small.label(&batch(0)).unwrap_err().to_string();
        assert!(error.ends_with("below 10, the number of samples"), "{error}");
        let mut fewer = FlexMatch::new(3, 20, FlexMatchConfig::default()).unwrap();
        let error = fewer.label(&batch(0)).unwrap_err().to_string();
        assert_eq!(error, "probabilities: expected [_, 3], found [8, 4]");
        let alien = [saved("selected", &Tensor::full([20], 3, (Kind::Int64, Device::Cpu)))];
        assert_eq!(fewer.restore(&alien).unwrap_err().to_string(), "state.selected = 3: -1 to 2");
        assert!(fewer.selected.iter().all(|&s| s == -1));
    }
}
