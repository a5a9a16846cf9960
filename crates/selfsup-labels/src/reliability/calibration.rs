//! Are confidences true? Of the samples labelled with a confidence of 0.8, are 80 % right?
//!
//! ```text
//! ECE = sum_b |B_b| / N |acc(B_b) - conf(B_b)|        MCE = max_b |acc(B_b) - conf(B_b)|
//! Brier = mean_i sum_c (p_ic - 1(y_i = c))^2
//! ```
//! over bins `B_b` of the highest probability. Bins of equal width, `((b - 1) / M, b / M]`, are those of Guo et al. 2017
//! (equations 3 and 5); bins of equal mass, each with the same number of samples, are the adaptive ones of Nguyen and
//! O'Connor 2015, whose estimate is not left to a few full bins. The Brier score (1950) is 0 to 2 and needs no bins.

use crate::LabelledProbabilities;
use crate::rows::{Rows, at_least_one, class_indices, top};
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How confidences are grouped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// Bins of equal width.
    #[default]
    EqualWidth,
    /// Bins of equally many samples; those of equal confidence stay together.
    EqualMass,
}

/// How to measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CalibrationConfig {
    /// The number of bins. Guo et al.: 15.
    pub bins: usize,
    /// How confidences are grouped.
    pub binning: Binning,
}

impl Default for CalibrationConfig {
    fn default() -> Self {
        CalibrationConfig { bins: 15, binning: Binning::EqualWidth }
    }
}

/// A point of the reliability curve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CurvePoint {
    /// Where the bin begins; its samples lie above (at or above, in a bin of equal mass).
    pub lower: f64,
    /// Where it ends; its samples lie at or below.
    pub upper: f64,
    /// The samples in it.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

/// How true confidences are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Expected calibration error, 0 to 1.
    pub ece: f64,
    /// Maximum calibration error, 0 to 1.
    pub mce: f64,
    /// Brier score, 0 to 2.
    pub brier: f64,
    /// The share of samples that is right.
    pub accuracy: f64,
    /// The mean confidence: above the accuracy, the classifier is too sure.
    pub confidence: f64,
    /// The reliability curve, from the lowest confidence on; bins without samples are left out.
    pub curve: Vec<CurvePoint>,
}

/// One sample: its confidence and whether its label was predicted.
type Judged = (f32, bool);

/// Measures how true the confidences of a classifier are, on labelled samples that it has not learned from.
///
/// # Errors
/// When there are no samples or no bins.
pub fn calibration(scores: &LabelledProbabilities, config: &CalibrationConfig) -> Result<Calibration> {
    let p = scores.probabilities().tensor();
    at_least_one("probabilities", p.size()[0])?;
    if config.bins == 0 {
        return Err(Error::config("bins", 0, "at least 1"));
    }
    let labels = class_indices("labels", scores.labels(), p.size()[0], p.size()[1])?;
    let rows = Rows::of(p)?;
    let mut judged: Vec<Judged> = rows
        .iter()
        .zip(&labels)
        .map(|(row, &label)| {
            let (confidence, class) = top(row);
            (confidence, class == label)
        })
        .collect();
    let n = judged.len() as f64;
    let curve = match config.binning {
        Binning::EqualWidth => equal_width(&judged, config.bins),
        Binning::EqualMass => {
            judged.sort_by(|a, b| a.0.total_cmp(&b.0));
            equal_mass(&judged, config.bins)
        }
    };
    let gap = |point: &CurvePoint| (point.accuracy - point.confidence).abs();
    let square = |(row, &label): (&[f32], &usize)| -> f64 {
        let difference = |(c, &p): (usize, &f32)| f64::from(p) - f64::from(u8::from(c == label));
        row.iter().enumerate().map(|entry| difference(entry).powi(2)).sum()
    };
    Ok(Calibration {
        ece: curve.iter().map(|point| gap(point) * point.count as f64 / n).sum(),
        mce: curve.iter().map(gap).fold(0.0, f64::max),
        brier: rows.iter().zip(&labels).map(square).sum::<f64>() / n,
        accuracy: judged.iter().filter(|j| j.1).count() as f64 / n,
        confidence: judged.iter().map(|j| f64::from(j.0)).sum::<f64>() / n,
        curve,
    })
}

fn equal_width(judged: &[Judged], bins: usize) -> Vec<CurvePoint> {
    let edge = |b: usize| b as f64 / bins as f64;
    // In 32 bits, as the confidences: one of 0.2 belongs to the bin that ends at 0.2.
    let edges: Vec<f32> = (1..bins).map(|b| edge(b) as f32).collect();
    let mut members = vec![Vec::new(); bins];
    for &one in judged {
        members[edges.partition_point(|&edge| edge < one.0)].push(one);
    }
    let filled = members.iter().enumerate().filter(|(_, members)| !members.is_empty());
    filled.map(|(b, members)| point(edge(b), edge(b + 1), members)).collect()
}

/// `judged` is sorted.
fn equal_mass(judged: &[Judged], bins: usize) -> Vec<CurvePoint> {
    let n = judged.len();
    let mut curve = Vec::new();
    let mut first = 0;
    for b in 1..=bins {
        let mut end = (b * n) / bins;
        while end > first && end < n && judged[end].0 == judged[end - 1].0 {
            end += 1;
        }
        if end > first {
            let members = &judged[first..end];
            curve.push(point(members[0].0.into(), members[members.len() - 1].0.into(), members));
            first = end;
        }
    }
    curve
}

fn point(lower: f64, upper: f64, members: &[Judged]) -> CurvePoint {
    let count = members.len() as f64;
    CurvePoint {
        lower,
        upper,
        count: members.len(),
        confidence: members.iter().map(|m| f64::from(m.0)).sum::<f64>() / count,
        accuracy: members.iter().filter(|m| m.1).count() as f64 / count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::{Device, Kind, Logits, Probabilities, Tensor};

    fn samples() -> LabelledProbabilities {
        let i = Tensor::arange(480, (Kind::Double, Device::Cpu));
        let wave = (i.pow_tensor_scalar(1.5) * 0.37).sin().reshape([160, 3]);
        let logits = (wave.narrow(0, 0, 80) * 3.0).to_kind(Kind::Float);
        let labels = (wave.narrow(0, 0, 80) + wave.narrow(0, 80, 80) * 0.8).argmax(1, false);
        let p = Logits::new(&logits).unwrap().softmax(1.0).unwrap();
        LabelledProbabilities::new(&labels, p).unwrap()
    }

    fn config(bins: usize, binning: Binning) -> CalibrationConfig {
        CalibrationConfig { bins, binning }
    }

    fn binary(confidences: &[f32], right: &[bool]) -> LabelledProbabilities {
        let rows: Vec<[f32; 2]> = confidences.iter().map(|&p| [p, 1.0 - p]).collect();
        let labels: Vec<i64> = right.iter().map(|&right| i64::from(!right)).collect();
        let p = Probabilities::new(&Tensor::from_slice2(&rows)).unwrap();
        LabelledProbabilities::new(&Tensor::from_slice(&labels), p).unwrap()
    }

    // i = torch.arange(480, dtype=torch.float64); w = (i ** 1.5 * 0.37).sin().reshape(160, 3)
    // p = (w[:80] * 3).float().softmax(1); y = (w[:80] + 0.8 * w[80:]).argmax(1)
    // E = torchmetrics.functional.classification.multiclass_calibration_error
    // E(p, y, 3, n_bins=15, norm="l1"), E(p, y, 3, n_bins=15, norm="max"), E(p, y, 3, n_bins=7, norm="l1")
    // ((p - F.one_hot(y, 3)) ** 2).sum(1).mean(), (p.argmax(1) == y).float().mean(), p.amax(1).mean()
    #[test]
    fn agrees_with_torchmetrics() {
        let found = calibration(&samples(), &CalibrationConfig::default()).unwrap();
        let coarse = calibration(&samples(), &config(7, Binning::EqualWidth)).unwrap();
        let values = [found.ece, found.mce, coarse.ece, found.brier, found.accuracy, found.confidence];
        assert!(values.iter().zip(TORCHMETRICS).all(|(f, e)| (f - e).abs() < 1e-6), "{values:?}");
        assert_eq!(found.curve.iter().map(|point| point.count).sum::<usize>(), 80);
    }

    const TORCHMETRICS: [f64; 6] =
        [0.1669469625, 0.3585961759, 0.1212025806, 0.4630308747, 0.625, 0.7462026477];

    #[test]
    fn a_confidence_on_an_edge_belongs_to_the_bin_that_ends_there() {
        let found = calibration(
            &binary(&[0.6, 0.8, 0.8, 1.0], &[true, false, true, true]),
            &config(5, Binning::EqualWidth),
        )
        .unwrap();
        let bins: Vec<_> = found.curve.iter().map(|p| (p.lower, p.upper, p.count)).collect();
        assert_eq!(bins, [(0.4, 0.6, 1), (0.6, 0.8, 2), (0.8, 1.0, 1)]);
        assert!((found.ece - (0.4 + 2.0 * 0.3 + 0.0) / 4.0).abs() < 1e-6);
        assert!((found.mce - 0.4).abs() < 1e-6);
    }

    #[test]
    fn equal_mass_puts_as_many_samples_in_each_bin() {
        let found = calibration(&samples(), &config(8, Binning::EqualMass)).unwrap();
        assert!(found.curve.iter().all(|point| point.count == 10));
        let rows = Vec::<Vec<f64>>::try_from(samples().probabilities().tensor()).unwrap();
        let labels = Vec::<i64>::try_from(samples().labels()).unwrap();
        let mut all: Vec<(f64, f64)> = rows
            .iter()
            .zip(labels)
            .map(|(row, y)| {
                let most = row.iter().copied().fold(0.0, f64::max);
                (most, f64::from(u8::from(row[y as usize] == most)))
            })
            .collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let gap = |bin: &[(f64, f64)]| (bin.iter().map(|(c, a)| c - a).sum::<f64>() / 10.0).abs();
        let expected: f64 = all.chunks(10).map(gap).sum::<f64>() / 8.0;
        assert!((found.ece - expected).abs() < 1e-6);
    }

    #[test]
    fn equal_confidences_stay_together_in_any_order() {
        let scores = |order: [bool; 4]| binary(&[0.75; 4], &order);
        for order in [[true, true, false, false], [false, true, false, true]] {
            let found = calibration(&scores(order), &config(3, Binning::EqualMass)).unwrap();
            assert_eq!(found.curve.len(), 1);
            assert_eq!((found.curve[0].accuracy, found.ece), (0.5, 0.25));
        }
    }

    #[test]
    fn true_confidences_have_no_error_and_a_sure_wrong_answer_has_the_worst() {
        let found =
            calibration(&binary(&[0.75; 4], &[true, true, true, false]), &config(10, Binning::EqualWidth));
        let found = found.unwrap();
        assert_eq!((found.ece, found.mce), (0.0, 0.0));
        assert_eq!(found.brier, 2.0 * (3.0 * 0.0625 + 0.5625) / 4.0);
        let wrong = calibration(&binary(&[1.0], &[false]), &CalibrationConfig::default()).unwrap();
        assert_eq!((wrong.ece, wrong.mce, wrong.brier), (1.0, 1.0, 2.0));
    }

    #[test]
    fn one_class_is_always_right() {
        let p = Probabilities::new(&Tensor::ones([3, 1], (Kind::Float, Device::Cpu))).unwrap();
        let labels = Tensor::zeros([3], (Kind::Int64, Device::Cpu));
        let scores = LabelledProbabilities::new(&labels, p).unwrap();
        let found = calibration(&scores, &CalibrationConfig::default()).unwrap();
        assert_eq!((found.ece, found.brier, found.accuracy), (0.0, 0.0, 1.0));
    }

    #[test]
    fn rejects_no_samples_and_no_bins() {
        let error = calibration(&samples(), &config(0, Binning::EqualWidth)).unwrap_err().to_string();
        assert_eq!(error, "bins = 0: at least 1");
        let p = Probabilities::new(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))).unwrap();
        let none = LabelledProbabilities::new(&Tensor::zeros([0], (Kind::Int64, Device::Cpu)), p).unwrap();
        let error = calibration(&none, &CalibrationConfig::default()).unwrap_err().to_string();
        assert_eq!(error, "probabilities = no samples: at least one");
    }
}
