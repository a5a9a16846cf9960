//! What is gained by labelling less: how often labels are right when only the surest are kept (El-Yaniv and Wiener 2010;
//! Geifman et al. 2019 for the area under the curve), and how often those of each class are.
//!
//! ```text
//! risk(k) = share of wrong labels among the k surest        coverage(k) = k / N        AURC = mean_k risk(k)
//! ```
//! Samples of equal confidence are taken in or left out together: within them the risk is what a random order would have
//! on average, so that the order of the samples does not matter.

use crate::rows::{at_least_one, class_indices};
use selfsup_core::{Error, Kind, PseudoLabels, Result, Tensor, check_kind, check_shape};
use serde::{Deserialize, Serialize};

/// What a threshold would do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoveragePoint {
    /// The least confidence that is kept.
    pub threshold: f64,
    /// The share of samples that is kept.
    pub coverage: f64,
    /// The share of these that is right.
    pub accuracy: f64,
}

/// Accuracy against coverage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Coverage {
    /// One point for every different confidence, the highest first; the last covers all.
    pub curve: Vec<CoveragePoint>,
    /// The area under the risk-coverage curve, 0 to 1: the lower, the better.
    pub aurc: f64,
    /// The part of it that a better order of the same answers would remove: 0 when every right one is surer than every wrong
    /// one.
    pub excess_aurc: f64,
}

impl Coverage {
    /// Orders answers by their confidence.
    ///
    /// # Shapes
    /// `confidence` `[N]` of any floating kind, `right` `[N]` Bool.
    ///
    /// # Errors
    /// When the two do not fit, there are no samples, or a confidence is not a number.
    pub fn of(confidence: &Tensor, right: &Tensor) -> Result<Coverage> {
        let [n] = check_shape("confidence", confidence, [-1])?;
        check_shape("right", right, [n])?;
        check_kind("right", right, Kind::Bool)?;
        at_least_one("confidence", n)?;
        let confidences = Vec::<f64>::try_from(confidence.to_kind(Kind::Double))?;
        if let Some(at) = confidences.iter().position(|c| c.is_nan()) {
            return Err(Error::config("confidence", format!("NaN at {at}"), "numbers"));
        }
        let mut judged: Vec<(f64, bool)> =
            confidences.into_iter().zip(Vec::<bool>::try_from(right)?).collect();
        judged.sort_by(|a, b| b.0.total_cmp(&a.0));

        let all = judged.len() as f64;
        let (mut curve, mut risks) = (Vec::new(), 0.0);
        let (mut kept, mut wrong) = (0.0, 0.0);
        for group in judged.chunk_by(|a, b| a.0 == b.0) {
            let errors = group.iter().filter(|one| !one.1).count() as f64;
            let size = group.len() as f64;
            for j in 1..=group.len() {
                let j = j as f64;
                risks += (wrong + errors * j / size) / (kept + j);
            }
            (kept, wrong) = (kept + size, wrong + errors);
            curve.push(CoveragePoint {
                threshold: group[0].0,
                coverage: kept / all,
                accuracy: 1.0 - wrong / kept,
            });
        }
        // The best order has all right answers first.
        let best: f64 = (1..=wrong as usize).map(|j| j as f64 / (all - wrong + j as f64)).sum();
        Ok(Coverage { curve, aurc: risks / all, excess_aurc: ((risks - best) / all).max(0.0) })
    }

    /// The point with the highest coverage whose accuracy is at least `accuracy`; none where no threshold reaches it.
    pub fn at_accuracy(&self, accuracy: f64) -> Option<&CoveragePoint> {
        self.curve.iter().rev().find(|point| point.accuracy >= accuracy)
    }
}

/// How good the labels of one class are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassPrecision {
    /// Labels of this class with a weight above 0.
    pub kept: usize,
    /// Those of them that are right.
    pub right: usize,
    /// Samples of this class.
    pub samples: usize,
    /// The share of the kept labels that is right; none without any.
    pub precision: Option<f64>,
    /// The share of the class's samples that has its label; none without any.
    pub recall: Option<f64>,
}

/// Compares the labels that are not rejected with true ones, class by class.
///
/// # Shapes
/// `truth` `[N]` Int64; one entry a class.
///
/// # Errors
/// When the labels do not fit the truth, or one of either is no class of `0..classes`.
pub fn class_precision(found: &PseudoLabels, truth: &Tensor, classes: i64) -> Result<Vec<ClassPrecision>> {
    let [n] = check_shape("labels", &found.labels, [-1])?;
    let labels = class_indices("labels", &found.labels, n, classes)?;
    let truth = class_indices("truth", truth, n, classes)?;
    check_shape("weights", &found.weights, [n])?;
    let weights = Vec::<f32>::try_from(&found.weights.to_kind(Kind::Float))?;
    let mut counts = vec![(0, 0, 0); classes.max(0) as usize]; // kept, right, samples
    for ((label, truth), weight) in labels.into_iter().zip(truth).zip(weights) {
        counts[truth].2 += 1;
        if weight > 0.0 {
            counts[label].0 += 1;
            counts[label].1 += usize::from(label == truth);
        }
    }
    let share = |part: usize, whole: usize| (whole > 0).then(|| part as f64 / whole as f64);
    let of = |(kept, right, samples)| ClassPrecision {
        kept,
        right,
        samples,
        precision: share(right, kept),
        recall: share(right, samples),
    };
    Ok(counts.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Reason};

    fn coverage(confidence: &[f64], right: &[bool]) -> Coverage {
        Coverage::of(&Tensor::from_slice(confidence), &Tensor::from_slice(right)).unwrap()
    }

    #[test]
    fn equals_the_definition_without_ties() {
        let confidence = [0.3, 0.9, 0.5, 0.8, 0.6, 0.7];
        let right = [false, true, true, true, false, true];
        let found = coverage(&confidence, &right);
        // Surest first: right, right, right, wrong, right, wrong.
        let risks = [0.0, 0.0, 0.0, 1.0 / 4.0, 1.0 / 5.0, 2.0 / 6.0];
        assert!((found.aurc - risks.iter().sum::<f64>() / 6.0).abs() < 1e-12);
        // Best: four right, two wrong.
        let excess = found.aurc - (1.0 / 5.0 + 2.0 / 6.0) / 6.0;
        assert!((found.excess_aurc - excess).abs() < 1e-12);
        let accuracies: Vec<f64> = found.curve.iter().map(|p| p.accuracy).collect();
        assert!(accuracies.iter().zip(risks).all(|(a, r)| (a - (1.0 - r)).abs() < 1e-12));
        assert_eq!(found.curve[2].threshold, 0.7);
        assert_eq!(found.curve[5].coverage, 1.0);
    }

    #[test]
    fn ties_have_the_mean_over_all_orders() {
        // Three of one confidence, of which one is wrong, after one that is right.
        let found = coverage(&[0.9, 0.5, 0.5, 0.5], &[true, true, false, true]);
        let orders = [[true, true, false], [true, false, true], [false, true, true]];
        let of = |order: &[bool; 3]| {
            let all = [true, order[0], order[1], order[2]];
            let risk = |k: usize| all[..k].iter().filter(|r| !**r).count() as f64 / k as f64;
            (1..=4).map(risk).sum::<f64>() / 4.0
        };
        assert!((found.aurc - orders.iter().map(of).sum::<f64>() / 3.0).abs() < 1e-12);
        assert_eq!(found.curve.len(), 2);
        let shuffled = coverage(&[0.5, 0.5, 0.9, 0.5], &[false, true, true, true]);
        assert_eq!(found, shuffled);
    }

    #[test]
    fn a_perfect_order_has_no_excess_and_no_confidence_the_mean_risk() {
        let perfect = coverage(&[4.0, 3.0, 2.0, 1.0], &[true, true, false, false]);
        assert_eq!(perfect.excess_aurc, 0.0);
        assert_eq!(coverage(&[1.0; 4], &[true, false, true, false]).aurc, 0.5);
        let right = coverage(&[1.0, 2.0], &[true, true]);
        assert_eq!((right.aurc, right.excess_aurc), (0.0, 0.0));
        let wrong = coverage(&[1.0, 2.0], &[false, false]);
        assert_eq!((wrong.aurc, wrong.excess_aurc), (1.0, 0.0));
    }

    #[test]
    fn finds_the_threshold_for_an_accuracy() {
        let found = coverage(&[0.9, 0.8, 0.7, 0.6], &[true, false, true, true]);
        assert_eq!(found.at_accuracy(0.75).unwrap().threshold, 0.6);
        assert_eq!(found.at_accuracy(0.9).unwrap().threshold, 0.9);
        assert!(coverage(&[0.9, 0.8], &[false, true]).at_accuracy(0.9).is_none());
    }

    #[test]
    fn counts_kept_labels_by_class() {
        let labels = Tensor::from_slice(&[0_i64, 0, 1, 0, 1]);
        let weights = Tensor::from_slice(&[1.0_f32, 0.5, 0.0, 0.2, 0.0]);
        let found = PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure);
        let truth = Tensor::from_slice(&[0_i64, 1, 1, 0, 0]);
        let of = class_precision(&found, &truth, 3).unwrap();
        assert_eq!((of[0].kept, of[0].right, of[0].samples), (3, 2, 3));
        assert_eq!((of[0].precision, of[0].recall), (Some(2.0 / 3.0), Some(2.0 / 3.0)));
        assert_eq!((of[1].precision, of[1].recall), (None, Some(0.0)));
        assert_eq!((of[2].precision, of[2].recall), (None, None));
    }

    #[test]
    fn all_weights_zero_and_no_labels_have_no_precision() {
        let none = |n: i64| {
            let zeros = |kind| Tensor::zeros([n], (kind, Device::Cpu));
            let found =
                PseudoLabels::new(zeros(Kind::Int64), zeros(Kind::Float), Reason::Confident, Reason::Unsure);
            class_precision(&found, &zeros(Kind::Int64), 2).unwrap()
        };
        assert_eq!((none(3)[0].precision, none(3)[0].recall), (None, Some(0.0)));
        assert_eq!((none(0)[0].precision, none(0)[0].recall), (None, None));
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let of = |c: &[f64], r: &[bool]| {
            Coverage::of(&Tensor::from_slice(c), &Tensor::from_slice(r)).unwrap_err().to_string()
        };
        assert_eq!(of(&[0.1, 0.2], &[true]), "right: expected [2], found [1]");
        assert_eq!(of(&[0.1, f64::NAN], &[true, true]), "confidence = NaN at 1: numbers");
        assert_eq!(of(&[], &[]), "confidence = no samples: at least one");
        let found = PseudoLabels::new(
            Tensor::from_slice(&[3_i64]),
            Tensor::from_slice(&[1.0_f32]),
            Reason::Confident,
            Reason::Unsure,
        );
        let error = class_precision(&found, &Tensor::from_slice(&[0_i64]), 2).unwrap_err().to_string();
        assert_eq!(error, "labels = 3: a class in 0..2");
    }
}
