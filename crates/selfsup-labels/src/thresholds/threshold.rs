//! Confidence thresholding: the label a model is sure of (Lee 2013), kept when its probability is high enough, as in
//! FixMatch (Sohn et al. 2020, equation 4).
//!
//! ```text
//! label_i = argmax_c p_ic        weight_i = 1(max_c p_ic >= tau)
//! ```

use selfsup_core::{Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result};
use serde::{Deserialize, Serialize};

/// The threshold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdConfig {
    /// The least probability that is trusted. FixMatch: 0.95.
    pub tau: f64,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        ThresholdConfig { tau: 0.95 }
    }
}

/// Labels what a classifier is sure of.
#[derive(Debug)]
pub struct Threshold {
    config: ThresholdConfig,
}

impl Threshold {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the threshold is not in `[0, 1]`.
    pub fn new(config: ThresholdConfig) -> Result<Threshold> {
        if !(0.0..=1.0).contains(&config.tau) {
            return Err(Error::config("tau", config.tau, "0 to 1"));
        }
        Ok(Threshold { config })
    }
}

impl PseudoLabeler for Threshold {
    type Scores = Probabilities;

    /// Labels a batch of class probabilities `[N, C]`; equal ones go to the lower class. It never fails.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let p = scores.tensor();
        // A threshold in 32 bits as well, so that a probability of exactly tau is kept.
        let confidence = p.amax([1].as_slice(), false);
        let weights = confidence.ge(f64::from(self.config.tau as f32)).to_kind(Kind::Float);
        Ok(PseudoLabels::new(p.argmax(1, false), weights, Reason::Confident, Reason::Unsure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Tensor;

    #[test]
    fn keeps_what_reaches_the_threshold() {
        let p = Tensor::from_slice2(&[
            [0.95_f32, 0.05, 0.0],
            [0.02, 0.04, 0.94],
            [0.5, 0.5, 0.0],
            [0.0, 1.0, 0.0],
        ]);
        let found = Threshold::new(ThresholdConfig::default())
            .unwrap()
            .label(&Probabilities::new(&p).unwrap())
            .unwrap();
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 2, 0, 1]);
        assert_eq!(Vec::<f32>::try_from(&found.weights).unwrap(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!((found.labels.kind(), found.weights.kind()), (Kind::Int64, Kind::Float));
    }

    #[test]
    fn labels_an_empty_batch() {
        let p = Tensor::zeros([0, 3], (Kind::Float, selfsup_core::Device::Cpu));
        let found = Threshold::new(ThresholdConfig::default())
            .unwrap()
            .label(&Probabilities::new(&p).unwrap())
            .unwrap();
        assert_eq!((found.labels.size(), found.weights.size()), (vec![0], vec![0]));
    }

    #[test]
    fn says_why_a_label_is_kept_or_not() {
        let p = Probabilities::new(&Tensor::from_slice2(&[[0.97_f32, 0.03], [0.4, 0.6]])).unwrap();
        let found = Threshold::new(ThresholdConfig::default()).unwrap().label(&p).unwrap();
        assert_eq!(found.reasons().unwrap(), [Reason::Confident, Reason::Unsure]);
    }

    #[test]
    fn rejects_thresholds_out_of_range() {
        let error = Threshold::new(ThresholdConfig { tau: 1.5 }).unwrap_err().to_string();
        assert_eq!(error, "tau = 1.5: 0 to 1");
    }
}
