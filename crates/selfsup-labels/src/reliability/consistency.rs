//! Consistency under augmentation: labels that all views of a sample agree on, or all members of an ensemble.
//!
//! ```text
//! label_i = argmax_c p_ic, p_i the mean over K views
//! weight_i = share of the views with this label        (agreement)
//!          = 1 - JS_i / ln min(K, C)                   (Jensen-Shannon)
//!          = exp(-mean KL_i)                           (Kullback-Leibler)
//! ```
//! All three are 1 where the views are equal; the first two are comparable between numbers of views and classes.

use super::agreement::Agreement;
use crate::ProbabilityStack;
use selfsup_core::{Error, PseudoLabeler, PseudoLabels, Reason, Result};
use serde::{Deserialize, Serialize};

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConsistencyMeasure {
    /// The most probable classes.
    Agreement,
    /// The distributions, by their Jensen-Shannon divergence.
    #[default]
    JensenShannon,
    /// The distributions, by the mean Kullback-Leibler divergence of all pairs: strict where views are sure of different
    /// things.
    KullbackLeibler,
}

/// Settings of [`Consistency`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsistencyConfig {
    /// What is compared.
    pub measure: ConsistencyMeasure,
    /// Labels of a lower weight are rejected: their weight becomes 0.
    pub min_weight: f64,
}

impl Default for ConsistencyConfig {
    fn default() -> Self {
        ConsistencyConfig { measure: ConsistencyMeasure::JensenShannon, min_weight: 0.5 }
    }
}

/// Labels by the mean of several predictions, weighted by how much these agree.
#[derive(Debug)]
pub struct Consistency {
    config: ConsistencyConfig,
}

impl Consistency {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the least weight is not in `[0, 1]`.
    pub fn new(config: ConsistencyConfig) -> Result<Consistency> {
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        Ok(Consistency { config })
    }
}

impl PseudoLabeler for Consistency {
    type Scores = ProbabilityStack;

    /// Labels samples from K predictions `[K, N, C]`.
    ///
    /// # Errors
    /// When there is only one prediction of each sample: nothing to agree with.
    fn label(&mut self, scores: &ProbabilityStack) -> Result<PseudoLabels> {
        let shape = scores.tensor().size();
        let (members, classes) = (shape[0], shape[2]);
        if members < 2 {
            return Err(Error::config("members", members, "at least 2, to be compared"));
        }
        let found = Agreement::of(scores)?;
        let weights = match self.config.measure {
            ConsistencyMeasure::Agreement => found.agreement,
            // Of one class there is nothing to disagree about: 1 - 0 / ln 2.
            ConsistencyMeasure::JensenShannon => {
                1.0 - found.mutual_information / (members.min(classes).max(2) as f64).ln()
            }
            ConsistencyMeasure::KullbackLeibler => (-found.mean_kl).exp(),
        };
        let weights = weights.clamp(0.0, 1.0);
        // In 32 bits as the weights are, so that one of exactly the least weight is kept.
        let rejected = weights.lt(f64::from(self.config.min_weight as f32));
        let weights = weights.masked_fill(&rejected, 0.0);
        let soft = found.mean.tensor().shallow_clone();
        Ok(PseudoLabels::new(found.labels, weights, Reason::Confident, Reason::Disagreement).with_soft(soft))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, Probabilities, Tensor};

    fn stack(members: &[[[f32; 2]; 3]]) -> ProbabilityStack {
        let members: Vec<_> =
            members.iter().map(|m| Probabilities::new(&Tensor::from_slice2(m)).unwrap()).collect();
        ProbabilityStack::new(&members).unwrap()
    }

    fn weights(measure: ConsistencyMeasure, min_weight: f64) -> (Vec<f64>, Vec<Reason>) {
        // Equal views; views of different confidence; opposite views.
        let scores = stack(&[[[0.9, 0.1], [0.9, 0.1], [1.0, 0.0]], [[0.9, 0.1], [0.6, 0.4], [0.0, 1.0]]]);
        let found =
            Consistency::new(ConsistencyConfig { measure, min_weight }).unwrap().label(&scores).unwrap();
        (Vec::<f64>::try_from(&found.weights).unwrap(), found.reasons().unwrap())
    }

    #[test]
    fn weighs_by_what_it_is_told_to_compare() {
        let near = |measure, expected: [f64; 3]| {
            let (found, _) = weights(measure, 0.0);
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{measure:?}: {found:?}");
        };
        near(ConsistencyMeasure::Agreement, [1.0, 1.0, 0.5]);
        let h = |p: f64| -p * p.ln() - (1.0 - p) * (1.0 - p).ln();
        let js = h(0.75) - 0.5 * h(0.9) - 0.5 * h(0.6);
        near(ConsistencyMeasure::JensenShannon, [1.0, 1.0 - js / 2_f64.ln(), 0.0]);
        let kl = |p: f64, q: f64| p * (p / q).ln() + (1.0 - p) * ((1.0 - p) / (1.0 - q)).ln();
        near(ConsistencyMeasure::KullbackLeibler, [1.0, (-0.5 * (kl(0.9, 0.6) + kl(0.6, 0.9))).exp(), 0.0]);
    }

    #[test]
    fn rejects_what_views_disagree_about_and_says_so() {
        let (found, reasons) = weights(ConsistencyMeasure::Agreement, 0.6);
        assert_eq!(found, [1.0, 1.0, 0.0]);
        assert_eq!(reasons, [Reason::Confident, Reason::Confident, Reason::Disagreement]);
        assert_eq!(weights(ConsistencyMeasure::Agreement, 0.5).0, [1.0, 1.0, 0.5]);
    }

    #[test]
    fn gives_the_mean_as_distribution() {
        let scores = stack(&[[[0.9, 0.1]; 3], [[0.5, 0.5]; 3]]);
        let found = Consistency::new(ConsistencyConfig::default()).unwrap().label(&scores).unwrap();
        let soft = Vec::<f64>::try_from(found.soft.unwrap().get(0)).unwrap();
        assert!((soft[0] - 0.7).abs() < 1e-6 && (soft[1] - 0.3).abs() < 1e-6);
    }

    #[test]
    fn three_views_of_one_class_agree_and_no_samples_give_no_labels() {
        let of =
            |shape: [i64; 2]| Probabilities::new(&Tensor::ones(shape, (Kind::Float, Device::Cpu))).unwrap();
        let mut labeler = Consistency::new(ConsistencyConfig::default()).unwrap();
        let one = ProbabilityStack::new(&[of([2, 1]), of([2, 1]), of([2, 1])]).unwrap();
        assert_eq!(Vec::<f64>::try_from(labeler.label(&one).unwrap().weights).unwrap(), [1.0, 1.0]);
        let none = ProbabilityStack::new(&[of([0, 2]), of([0, 2])]).unwrap();
        assert_eq!(labeler.label(&none).unwrap().weights.size(), [0]);
    }

    #[test]
    fn rejects_a_single_view_and_weights_out_of_range() {
        let mut labeler = Consistency::new(ConsistencyConfig::default()).unwrap();
        let error = labeler.label(&stack(&[[[0.5, 0.5]; 3]])).unwrap_err().to_string();
        assert_eq!(error, "members = 1: at least 2, to be compared");
        let config = ConsistencyConfig { min_weight: 2.0, ..Default::default() };
        assert_eq!(Consistency::new(config).unwrap_err().to_string(), "min_weight = 2: 0 to 1");
    }
}
