//! MixMatch's label guessing (Berthelot et al. 2019, section 3.2): the mean of the predictions on K views of a sample, made
//! sharper.
//!
//! ```text
//! q_i = mean_k p_ik        soft_i = q_i^(1/T) / sum_c q_ic^(1/T)        label_i = argmax_c soft_ic        weight_i = 1
//! ```

use super::confidence::sharpen;
use crate::ProbabilityStack;
use selfsup_core::{Error, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of [`MixMatch`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixMatchConfig {
    /// The sharpening, 1 for none. The paper: 0.5 (section 4).
    pub temperature: f64,
}

impl Default for MixMatchConfig {
    fn default() -> Self {
        MixMatchConfig { temperature: 0.5 }
    }
}

/// Guesses soft labels from several views; all are kept. The paper takes K = 2 views.
#[derive(Debug)]
pub struct MixMatch {
    config: MixMatchConfig,
}

impl MixMatch {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the temperature is not above 0.
    pub fn new(config: MixMatchConfig) -> Result<MixMatch> {
        if config.temperature.is_nan() || config.temperature <= 0.0 {
            return Err(Error::config("temperature", config.temperature, "above 0"));
        }
        Ok(MixMatch { config })
    }
}

impl PseudoLabeler for MixMatch {
    type Scores = ProbabilityStack;

    /// Labels samples from the predictions on K views `[K, N, C]`. It never fails.
    fn label(&mut self, scores: &ProbabilityStack) -> Result<PseudoLabels> {
        let soft = sharpen(&scores.mean()?, self.config.temperature)?.tensor().shallow_clone(); // [N, C]
        let weights = Tensor::ones([soft.size()[0]], (Kind::Float, soft.device()));
        Ok(PseudoLabels::new(soft.argmax(1, false), weights, Reason::Confident, Reason::Unsure)
            .with_soft(soft))
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::{assert_near, probabilities};
    use super::*;
    use selfsup_core::{Device, Probabilities};

    fn label(members: &[Probabilities], temperature: f64) -> PseudoLabels {
        let scores = ProbabilityStack::new(members).unwrap();
        MixMatch::new(MixMatchConfig { temperature }).unwrap().label(&scores).unwrap()
    }

    // p = (logits(4).softmax(1) + logits(5).softmax(1)) / 2                              # logits(t): see course.rs
    // s = p ** (1 / 0.5); s = s / s.sum(-1, keepdim=True); s[:2].flatten()
    #[test]
    fn goes_the_way_of_the_authors_code() {
        let found = label(&[probabilities(4), probabilities(5)], 0.5);
        let soft = found.soft.unwrap();
        assert_near(&soft.narrow(0, 0, 2), &REFERENCE, 1e-6);
        assert_eq!(found.labels, soft.argmax(1, false));
        assert_eq!(Vec::<f64>::try_from(found.weights).unwrap(), [1.0; 8]);
    }

    #[rustfmt::skip]
    const REFERENCE: [f64; 8] = [0.6025542, 0.3170037, 0.06521183, 0.01523027, 0.1914073, 0.07044343, 0.07508219, 0.663067];

    #[test]
    fn the_order_of_the_views_does_not_matter() {
        let a = label(&[probabilities(4), probabilities(5)], 0.7).soft.unwrap();
        let b = label(&[probabilities(5), probabilities(4)], 0.7).soft.unwrap();
        assert_eq!(a, b);
    }

    #[test]
    fn one_view_without_sharpening_is_the_prediction() {
        let soft = label(&[probabilities(7)], 1.0).soft.unwrap();
        let p = Vec::<f64>::try_from(probabilities(7).tensor().view(-1)).unwrap();
        assert_near(&soft, &p, 1e-6);
    }

    #[test]
    fn labels_no_samples_and_one_class() {
        let of =
            |shape: [i64; 2]| Probabilities::new(&Tensor::ones(shape, (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(label(&[of([0, 3])], 0.5).labels.size(), [0]);
        assert_near(&label(&[of([2, 1]), of([2, 1])], 0.5).soft.unwrap(), &[1.0, 1.0], 0.0);
    }

    #[test]
    fn rejects_a_temperature_of_zero() {
        let error = MixMatch::new(MixMatchConfig { temperature: 0.0 }).unwrap_err().to_string();
        assert_eq!(error, "temperature = 0: above 0");
    }
}
