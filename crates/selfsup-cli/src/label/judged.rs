//! How right labels are, on samples whose true class is known and was not given.

use super::trust::Labels;
use anyhow::Result;
use selfsup::core::{Probabilities, PseudoLabels, Reason, Tensor};
use selfsup::labels::{
    Calibration, CalibrationConfig, ClassPrecision, Coverage, LabelledProbabilities, calibration,
    class_precision,
};
use std::collections::HashSet;

/// How right labels are.
#[derive(Debug)]
pub struct Judged {
    /// The samples that were judged.
    pub samples: usize,
    /// The share of them whose label is right.
    pub accuracy: f64,
    /// The samples whose label counts.
    pub kept: usize,
    /// The share of these whose label is right; none without any.
    pub kept_accuracy: Option<f64>,
    /// Accuracy against coverage, by trust.
    pub coverage: Coverage,
    /// How true the probabilities are; none of clusters.
    pub calibration: Option<Calibration>,
    /// The true classes, one by one.
    pub classes: Vec<(String, ClassPrecision)>,
}

/// Compares labels with true ones; none where all were given. Clusters are taken for the class that most of their samples are
/// of, so that the accuracy is their purity.
///
/// # Errors
/// When labels and truth do not fit.
pub fn judge(
    labels: &Labels,
    truth: &[i64],
    classes: &[String],
    seen: &HashSet<usize>,
) -> Result<Option<Judged>> {
    let unseen: Vec<usize> = (0..truth.len()).filter(|i| !seen.contains(i)).collect();
    if unseen.is_empty() {
        return Ok(None);
    }
    let clusters = labels.probabilities.is_none();
    let named =
        if clusters { majority(labels, truth, classes.len()) } else { (0..classes.len() as i64).collect() };
    let found: Vec<i64> = unseen.iter().map(|&i| named[labels.labels[i] as usize]).collect();
    let true_ones: Vec<i64> = unseen.iter().map(|&i| truth[i]).collect();
    let right: Vec<bool> = found.iter().zip(&true_ones).map(|(a, b)| a == b).collect();
    let trust: Vec<f64> = unseen.iter().map(|&i| labels.trust(i)).collect();
    let weights: Vec<f64> = unseen.iter().map(|&i| labels.weights[i]).collect();
    let share = |part: usize, whole: usize| part as f64 / whole as f64;
    let kept = weights.iter().filter(|weight| **weight > 0.0).count();
    let kept_right = weights.iter().zip(&right).filter(|(weight, right)| **weight > 0.0 && **right).count();
    let truth = Tensor::from_slice(&true_ones);
    let rows = Tensor::from_slice(&unseen.iter().map(|&i| i as i64).collect::<Vec<_>>());
    let of_probabilities = |p: &Tensor| -> Result<Calibration> {
        let p = Probabilities::new(&p.index_select(0, &rows))?;
        Ok(calibration(&LabelledProbabilities::new(&truth, p)?, &CalibrationConfig::default())?)
    };
    let calibration = labels.probabilities.as_ref().map(of_probabilities).transpose()?;
    let weights = Tensor::from_slice(&weights);
    let pseudo = PseudoLabels::new(Tensor::from_slice(&found), weights, Reason::Confident, Reason::Unsure);
    let by_class = class_precision(&pseudo, &truth, classes.len() as i64)?;
    Ok(Some(Judged {
        samples: unseen.len(),
        accuracy: share(right.iter().filter(|right| **right).count(), unseen.len()),
        kept,
        kept_accuracy: (kept > 0).then(|| share(kept_right, kept)),
        coverage: Coverage::of(&Tensor::from_slice(&trust), &Tensor::from_slice(&right))?,
        calibration,
        classes: classes.iter().cloned().zip(by_class).collect(),
    }))
}

/// The class that most samples of each cluster are of; of equals the first.
fn majority(labels: &Labels, truth: &[i64], classes: usize) -> Vec<i64> {
    let mut counts = vec![vec![0_usize; classes]; labels.classes.len()];
    for (&cluster, &class) in labels.labels.iter().zip(truth) {
        counts[cluster as usize][class as usize] += 1;
    }
    let most = |counts: &Vec<usize>| {
        let best = counts.iter().enumerate().max_by_key(|&(class, count)| (count, std::cmp::Reverse(class)));
        best.map_or(0, |(class, _)| class as i64)
    };
    counts.iter().map(most).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(probabilities: Option<Tensor>) -> Labels {
        let labels = vec![0, 0, 1, 1, 2, 0, 1];
        Labels {
            classes: ["a", "b", "c"].map(str::to_owned).to_vec(),
            probability: vec![Some(0.9), Some(0.8), Some(0.7), Some(0.6), Some(0.5), Some(1.0), Some(0.4)],
            weights: vec![0.9, 0.8, 0.7, 0.0, 0.5, 1.0, 0.0],
            reasons: vec!["why"; labels.len()],
            how: "by hand".to_owned(),
            held_out: None,
            probabilities,
            labels,
        }
    }

    /// Each label with its probability, the rest shared.
    fn probabilities() -> Tensor {
        let p = [0.9_f32, 0.8, 0.7, 0.6, 0.5, 1.0, 0.4];
        let rows: Vec<[f32; 3]> = [0, 0, 1, 1, 2, 0, 1]
            .iter()
            .zip(p)
            .map(|(&label, p)| {
                let mut row = [(1.0 - p) / 2.0; 3];
                row[label] = p;
                row
            })
            .collect();
        Tensor::from_slice2(&rows)
    }

    const TRUTH: [i64; 7] = [0, 1, 1, 1, 0, 0, 1];

    #[test]
    fn counts_as_a_loop_does_and_leaves_out_what_was_given() {
        let labels = labels(Some(probabilities()));
        let classes = labels.classes.clone();
        let found = judge(&labels, &TRUTH, &classes, &HashSet::from([5])).unwrap().unwrap();
        let (mut order, mut right) = (vec![0, 1, 2, 3, 4, 6], 0);
        assert_eq!((found.samples, found.kept), (6, 4));
        for &i in &order {
            right += usize::from(labels.labels[i] == TRUTH[i]);
        }
        assert!((found.accuracy - right as f64 / 6.0).abs() < 1e-12);
        assert_eq!(found.kept_accuracy, Some(0.5)); // 0 and 2 of 0, 1, 2, 4
        order.sort_by(|&a, &b| labels.trust(b).total_cmp(&labels.trust(a)));
        assert_eq!(order, [0, 1, 2, 4, 3, 6]);
        for (k, point) in (1..).zip(&found.coverage.curve) {
            let right = order[..k].iter().filter(|&&i| labels.labels[i] == TRUTH[i]).count();
            assert!((point.coverage - k as f64 / 6.0).abs() < 1e-12);
            assert!((point.accuracy - right as f64 / k as f64).abs() < 1e-12);
        }
        assert_eq!(found.coverage.curve.len(), 6);
        // Confidences 0.9 to 0.4 in bins of their own, right where the label is.
        let gaps = [(0.9, 1.0), (0.8, 0.0), (0.7, 1.0), (0.6, 1.0), (0.5, 0.0), (0.4, 1.0)];
        let ece: f64 = gaps.iter().map(|(p, right): &(f64, f64)| (p - right).abs()).sum::<f64>() / 6.0;
        assert!((found.calibration.unwrap().ece - ece).abs() < 1e-6);
        let (name, a) = &found.classes[0];
        assert_eq!((name.as_str(), a.kept, a.right, a.samples), ("a", 2, 1, 2));
        assert_eq!((a.precision, a.recall), (Some(0.5), Some(0.5)));
        assert_eq!(found.classes[2].1.precision, Some(0.0));
    }

    #[test]
    fn clusters_are_judged_by_the_class_of_most() {
        let found =
            judge(&labels(None), &TRUTH, &["x".into(), "y".into()], &HashSet::new()).unwrap().unwrap();
        // Cluster 0 is of 0, 1, 0; cluster 1 of 1, 1, 1; cluster 2 of 0.
        assert_eq!((found.samples, found.accuracy), (7, 6.0 / 7.0));
        assert!(found.calibration.is_none());
        assert!(
            judge(&labels(None), &TRUTH, &["x".into(), "y".into()], &(0..7).collect()).unwrap().is_none()
        );
    }
}
