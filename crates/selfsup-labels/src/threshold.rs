//! Confidence thresholding: the label a model is sure of (Lee 2013), kept when its probability is high enough, as in
//! FixMatch (Sohn et al. 2020, equation 4).
//!
//! ```text
//! label_i = argmax_c p_ic        weight_i = 1(max_c p_ic >= tau)
//! ```

use selfsup_core::{Error, Kind, PseudoLabeler, PseudoLabels, Result, Tensor, check_shape};
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
    /// Labels a batch of class probabilities `[N, C]`; equal ones go to the lower class.
    ///
    /// # Errors
    /// When `scores` is no matrix with a column, or a row is no distribution: it has a value that is negative or not
    /// finite, or does not sum to 1. Logits need a softmax first.
    fn label(&mut self, scores: &Tensor) -> Result<PseudoLabels> {
        let [_, classes] = check_shape("probabilities", scores, [-1, -1])?;
        if classes == 0 {
            return Err(Error::config("probabilities", "[N, 0]", "at least one class"));
        }
        let p = scores.detach().to_kind(Kind::Float);
        let sums_to_one = (p.sum_dim_intlist(1, false, None) - 1.0).abs().le(1e-2);
        let distribution = p.ge(0.0).all_dim(1, false).logical_and(&sums_to_one); // [N]
        if !bool::try_from(distribution.all())? {
            let row = i64::try_from(distribution.to_kind(Kind::Int64).argmin(0, false))?;
            let found = format!("row {row} = {:?}", Vec::<f32>::try_from(p.get(row))?);
            return Err(Error::config("probabilities", found, "0 or above, with sum 1"));
        }
        let labels = p.argmax(1, false);
        // A threshold in 32 bits as well, so that a probability of exactly tau is kept.
        let confidence = p.amax([1].as_slice(), false);
        let weights = confidence.ge(f64::from(self.config.tau as f32)).to_kind(Kind::Float);
        Ok(PseudoLabels { labels, weights })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_reaches_the_threshold() {
        let p = Tensor::from_slice2(&[
            [0.95_f32, 0.05, 0.0],
            [0.02, 0.04, 0.94],
            [0.5, 0.5, 0.0],
            [0.0, 1.0, 0.0],
        ]);
        let found = Threshold::new(ThresholdConfig::default()).unwrap().label(&p).unwrap();
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 2, 0, 1]);
        assert_eq!(Vec::<f32>::try_from(&found.weights).unwrap(), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!((found.labels.kind(), found.weights.kind()), (Kind::Int64, Kind::Float));
    }

    #[test]
    fn labels_an_empty_batch() {
        let p = Tensor::zeros([0, 3], (Kind::Float, selfsup_core::Device::Cpu));
        let found = Threshold::new(ThresholdConfig::default()).unwrap().label(&p).unwrap();
        assert_eq!((found.labels.size(), found.weights.size()), (vec![0], vec![0]));
    }

    #[test]
    fn rejects_logits_and_thresholds_out_of_range() {
        let mut threshold = Threshold::new(ThresholdConfig::default()).unwrap();
        let logits = Tensor::from_slice2(&[[0.5_f32, 0.5], [3.0, -1.0]]);
        let error = threshold.label(&logits).unwrap_err().to_string();
        assert_eq!(error, "probabilities = row 1 = [3.0, -1.0]: 0 or above, with sum 1");
        let error = threshold.label(&Tensor::from_slice2(&[[f32::NAN, 1.0]])).unwrap_err().to_string();
        assert!(error.contains("row 0"), "{error}");
        let error = threshold.label(&Tensor::from_slice(&[1.0_f32])).unwrap_err().to_string();
        assert_eq!(error, "probabilities: expected [_, _], found [1]");
        let error = Threshold::new(ThresholdConfig { tau: 1.5 }).unwrap_err().to_string();
        assert_eq!(error, "tau = 1.5: 0 to 1");
    }
}
