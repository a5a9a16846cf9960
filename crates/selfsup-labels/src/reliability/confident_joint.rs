//! The confident joint (Northcutt, Jiang and Chuang 2021, section 3.1): how many samples with given label `j` are, by the
//! judgement of a model, of class `k`.
//!
//! ```text
//! t_k = mean { p_ik : y_i = k }                                      the model's mean confidence in a class
//! C_jk = |{ i : y_i = j, k the confident class of i }|               at least 1 on the diagonal
//! ```
//! A class is confident for a sample when its probability reaches the class's threshold. Of several, the paper takes the
//! most probable; as in the authors' code (cleanlab 2.9), that is the most probable of all classes.

use crate::LabelledProbabilities;
use crate::rows::{Rows, at_least_one, class_indices, top};
use selfsup_core::Result;
use serde::{Deserialize, Serialize};

/// Counts of samples by given and confident class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfidentJoint {
    /// The threshold of every class; none for a class without labels, which no sample is confidently of.
    pub thresholds: Vec<Option<f64>>,
    /// `counts[j][k]`: samples labelled `j` that are confidently of class `k`.
    pub counts: Vec<Vec<i64>>,
    /// The same, scaled to the number of labels of each class: an estimate for all samples, not the confident ones alone.
    pub calibrated: Vec<Vec<i64>>,
    /// The samples that are confidently of another class than they are labelled, in order.
    pub off_diagonal: Vec<i64>,
}

/// What thresholds are compared with, and their least value (cleanlab).
const SLACK: f64 = 1e-6;

impl ConfidentJoint {
    /// Counts.
    ///
    /// # Errors
    /// When there are no samples.
    pub fn of(scores: &LabelledProbabilities) -> Result<ConfidentJoint> {
        let p = scores.probabilities().tensor();
        at_least_one("probabilities", p.size()[0])?;
        let labels = class_indices("labels", scores.labels(), p.size()[0], p.size()[1])?;
        let (rows, classes) = (Rows::of(p)?, p.size()[1] as usize);

        let (mut sums, mut given) = (vec![0.0; classes], vec![0_usize; classes]);
        for (row, &label) in rows.iter().zip(&labels) {
            sums[label] += f64::from(row[label]);
            given[label] += 1;
        }
        let thresholds: Vec<Option<f64>> = sums
            .into_iter()
            .zip(&given)
            .map(|(sum, &n)| (n > 0).then(|| (sum / n as f64).max(2.0 * SLACK)))
            .collect();

        let mut counts = vec![vec![0; classes]; classes];
        let mut off_diagonal = Vec::new();
        for (i, (row, &label)) in rows.iter().zip(&labels).enumerate() {
            let mut confident = (0..classes)
                .filter(|&c| thresholds[c].is_some_and(|threshold| f64::from(row[c]) >= threshold - SLACK));
            let class = match (confident.next(), confident.next()) {
                (None, _) => continue,
                (Some(only), None) => only,
                (Some(_), Some(_)) => top(row).1,
            };
            counts[label][class] += 1;
            if class != label {
                off_diagonal.push(i as i64);
            }
        }
        for (k, row) in counts.iter_mut().enumerate() {
            row[k] = row[k].max(1);
        }
        let calibrated = calibrate(&counts, &given);
        Ok(ConfidentJoint { thresholds, counts, calibrated, off_diagonal })
    }

    /// The estimated share of wrong labels among those of each class; none for a class without labels.
    pub fn noise_rates(&self) -> Vec<Option<f64>> {
        let rate = |(j, row): (usize, &Vec<i64>)| {
            let all: i64 = row.iter().sum();
            (all > 0).then(|| (all - row[j]) as f64 / all as f64)
        };
        self.calibrated.iter().enumerate().map(rate).collect()
    }
}

/// Scales every row to the number of labels of its class, in whole numbers.
fn calibrate(counts: &[Vec<i64>], given: &[usize]) -> Vec<Vec<i64>> {
    counts.iter().zip(given).map(|(row, &given)| scale_to_sum(row, given as i64)).collect()
}

/// Whole numbers near `counts` times `sum / counts.sum()`, with this sum: each is rounded, halves to even, and what the sum
/// then lacks or has too much goes to those that rounding has changed most; of equal ones up to the last, down to the
/// first. All in integers, so that halves are halves: cleanlab, which computes in floats, leaves such cases to rounding
/// errors and to the order in which the processor's sort leaves equal numbers.
fn scale_to_sum(counts: &[i64], sum: i64) -> Vec<i64> {
    let whole: i64 = counts.iter().sum();
    let mut scaled: Vec<i64> = counts
        .iter()
        .map(|&count| {
            let (down, rest) = (count * sum / whole, count * sum % whole);
            let up = 2 * rest > whole || (2 * rest == whole && down % 2 == 1);
            down + i64::from(up)
        })
        .collect();
    let missing = sum - scaled.iter().sum::<i64>();
    let mut order: Vec<usize> = (0..counts.len()).collect();
    order.sort_by_key(|&i| counts[i] * sum - scaled[i] * whole);
    if missing > 0 {
        order.reverse();
    }
    // Rounding moves each by a half at most: no more are missing than there are.
    for &i in order.iter().take(missing.unsigned_abs() as usize) {
        scaled[i] += missing.signum();
    }
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, Probabilities, Tensor};

    fn scores(rows: &[[f32; 3]], labels: &[i64]) -> LabelledProbabilities {
        let p = Probabilities::new(&Tensor::from_slice2(rows)).unwrap();
        LabelledProbabilities::new(&Tensor::from_slice(labels), p).unwrap()
    }

    #[test]
    fn counts_by_hand() {
        let rows = [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.9, 0.0], [0.2, 0.7, 0.1], [0.4, 0.3, 0.3]];
        let found = ConfidentJoint::of(&scores(&rows, &[0, 0, 0, 1, 1])).unwrap();
        // Thresholds (0.8 + 0.6 + 0.1) / 3 and (0.7 + 0.3) / 2; the last sample reaches none.
        let thresholds: Vec<f64> = found.thresholds.iter().flatten().copied().collect();
        assert!(thresholds.iter().zip([0.5, 0.5]).all(|(t, e)| (t - e).abs() < 1e-6));
        assert_eq!(found.thresholds[2], None);
        assert_eq!(found.counts, [[2, 1, 0], [0, 1, 0], [0, 0, 1]]);
        assert_eq!(found.calibrated, [[2, 1, 0], [0, 2, 0], [0, 0, 0]]);
        assert_eq!(found.off_diagonal, [2]);
        assert_eq!(found.noise_rates(), [Some(1.0 / 3.0), Some(0.0), None]);
    }

    #[test]
    fn calibrated_rows_have_the_number_of_labels() {
        let i = Tensor::arange(300, (Kind::Double, Device::Cpu));
        let p = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([100, 3]).softmax(1, Kind::Float);
        let labels = Tensor::arange(100, (Kind::Int64, Device::Cpu)).square().remainder(3);
        let given = Vec::<i64>::try_from(labels.bincount(None::<Tensor>, 3)).unwrap();
        let scores = LabelledProbabilities::new(&labels, Probabilities::new(&p).unwrap()).unwrap();
        let found = ConfidentJoint::of(&scores).unwrap();
        assert_eq!(found.calibrated.iter().map(|row| row.iter().sum()).collect::<Vec<i64>>(), given);
    }

    #[test]
    fn rounds_to_the_sum() {
        assert_eq!(scale_to_sum(&[1, 1, 4], 3), [0, 1, 2]); // 0.5, 0.5, 2
        assert_eq!(scale_to_sum(&[1, 1], 3), [1, 2]); // 1.5, 1.5
        assert_eq!(scale_to_sum(&[2, 2, 2, 4], 2), [0, 0, 1, 1]); // 0.4, 0.4, 0.4, 0.8
        assert_eq!(scale_to_sum(&[3, 1], 0), [0, 0]);
        assert_eq!(scale_to_sum(&[5], 7), [7]);
    }

    #[test]
    fn one_class_has_nothing_to_confuse_and_no_samples_are_refused() {
        let of = |n: i64| {
            let p = Probabilities::new(&Tensor::ones([n, 1], (Kind::Float, Device::Cpu))).unwrap();
            LabelledProbabilities::new(&Tensor::zeros([n], (Kind::Int64, Device::Cpu)), p).unwrap()
        };
        assert_eq!(ConfidentJoint::of(&of(3)).unwrap().calibrated, [[3]]);
        let error = ConfidentJoint::of(&of(0)).unwrap_err().to_string();
        assert_eq!(error, "probabilities = no samples: at least one");
    }
}
