//! A threshold on how familiar samples are, set so that a chosen share of those that belong passes it.
//!
//! ```text
//! threshold = the largest t with |{i in distribution : s_i >= t}| >= rate N
//! ```
//! With a rate of 0.95, what of another set still passes is its false positive rate at 95 % true positives, the usual
//! figure ("FPR95").

use crate::rows::at_least_one;
use selfsup_core::{Error, Kind, PseudoLabels, Reason, Result, Tensor, TensorExt, check_shape};

/// How much a sample is like those that the labels are about.
pub trait Familiarity {
    /// What it looks at: [`Logits`](selfsup_core::Logits), [`Probabilities`](selfsup_core::Probabilities) or
    /// [`FeatureRows`](selfsup_core::FeatureRows).
    type Input;

    /// A score for each sample, `[N]` Float: the higher, the more familiar.
    ///
    /// # Errors
    /// When the input does not fit.
    fn score(&self, input: &Self::Input) -> Result<Tensor>;
}

/// Tells samples that belong from those that do not.
#[derive(Debug)]
pub struct Detector<F> {
    /// The score.
    pub familiarity: F,
    /// Samples with a lower one are rejected.
    pub threshold: f64,
}

impl<F: Familiarity> Detector<F> {
    /// Sets the threshold so that at least the share `rate` of these samples passes it. They should be held out: those that
    /// the model or the score was fitted to look more familiar than new ones.
    ///
    /// # Errors
    /// When there are no samples, the rate is not in `[0, 1]`, a score is not finite, and those of the score.
    pub fn fit(familiarity: F, in_distribution: &F::Input, rate: f64) -> Result<Detector<F>> {
        if !(0.0..=1.0).contains(&rate) {
            return Err(Error::config("rate", rate, "0 to 1"));
        }
        let scores = familiarity.score(in_distribution)?;
        let n = scores.size()[0];
        at_least_one("in_distribution", n)?;
        if !bool::try_from(scores.isfinite().all())? {
            return Err(Error::NonFinite {
                what: "a score".to_owned(),
                detail: "of the samples in distribution".to_owned(),
            });
        }
        // Rounded up, but for what rounding of the product itself has added.
        let passing = ((rate * n as f64 * (1.0 - 1e-12)).ceil() as i64).clamp(1, n);
        let threshold = scores.sort(0, true).0.get(passing - 1).to_kind(Kind::Double).scalar()?;
        Ok(Detector { familiarity, threshold })
    }

    /// Whether samples are familiar enough, `[N]` Bool.
    ///
    /// # Errors
    /// Those of the score.
    pub fn accepts(&self, input: &F::Input) -> Result<Tensor> {
        Ok(self.familiarity.score(input)?.ge(self.threshold))
    }

    /// Labels of the same samples, rejected where these are not familiar enough.
    ///
    /// # Errors
    /// When there are not as many labels as samples, and those of the score.
    pub fn reject(&self, input: &F::Input, labels: PseudoLabels) -> Result<PseudoLabels> {
        let alien = self.accepts(input)?.logical_not().to_device(labels.labels.device());
        check_shape("labels", &labels.labels, [alien.size()[0]])?;
        Ok(PseudoLabels {
            weights: labels.weights.masked_fill(&alien, 0.0),
            reasons: labels.reasons.masked_fill(&alien, Reason::OutOfDistribution.code()),
            ..labels
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::max_softmax::MaxSoftmax;
    use super::*;
    use selfsup_core::{Device, Probabilities};

    fn binary(confidences: &[f32]) -> Probabilities {
        let rows: Vec<[f32; 2]> = confidences.iter().map(|&p| [p, 1.0 - p]).collect();
        Probabilities::new(&Tensor::from_slice2(&rows)).unwrap()
    }

    fn threshold(rate: f64) -> f64 {
        let held_out = binary(&[0.9, 0.6, 0.8, 0.7, 1.0]);
        Detector::fit(MaxSoftmax, &held_out, rate).unwrap().threshold
    }

    #[test]
    fn the_chosen_share_passes() {
        let near = |rate, expected: f64| assert!((threshold(rate) - expected).abs() < 1e-6, "rate {rate}");
        near(1.0, 0.6);
        near(0.8, 0.7);
        near(0.79, 0.7);
        near(0.81, 0.6);
        near(0.6, 0.8);
        near(0.0, 1.0);
        for rate in [0.1, 0.35, 0.6, 0.95] {
            let held_out = binary(&[0.9, 0.6, 0.8, 0.7, 1.0]);
            let detector = Detector::fit(MaxSoftmax, &held_out, rate).unwrap();
            let passing = Vec::<bool>::try_from(detector.accepts(&held_out).unwrap()).unwrap();
            assert!(passing.iter().filter(|p| **p).count() as f64 >= rate * 5.0);
        }
    }

    #[test]
    fn rejects_labels_of_what_does_not_belong() {
        let detector = Detector::fit(MaxSoftmax, &binary(&[0.9, 0.7]), 1.0).unwrap();
        let labels = Tensor::from_slice(&[0_i64, 1, 0]);
        let weights = Tensor::from_slice(&[1.0_f32, 0.0, 0.5]);
        let found = PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure);
        let found = detector.reject(&binary(&[0.6, 0.9, 0.8]), found).unwrap();
        assert_eq!(Vec::<f32>::try_from(&found.weights).unwrap(), [0.0, 0.0, 0.5]);
        assert_eq!(found.reasons().unwrap(), [Reason::OutOfDistribution, Reason::Unsure, Reason::Confident]);
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 1, 0]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |held_out: &Probabilities, rate| {
            Detector::fit(MaxSoftmax, held_out, rate).unwrap_err().to_string()
        };
        assert_eq!(error(&binary(&[0.9]), 1.1), "rate = 1.1: 0 to 1");
        let none = Probabilities::new(&Tensor::zeros([0, 2], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(error(&none, 0.95), "in_distribution = no samples: at least one");
        let detector = Detector::fit(MaxSoftmax, &binary(&[0.9]), 0.95).unwrap();
        let one = PseudoLabels::new(
            Tensor::from_slice(&[0_i64]),
            Tensor::from_slice(&[1.0_f32]),
            Reason::Confident,
            Reason::Unsure,
        );
        let error = detector.reject(&binary(&[0.9, 0.8]), one).unwrap_err().to_string();
        assert_eq!(error, "labels: expected [2], found [1]");
    }
}
