//! Confident learning (Northcutt, Jiang and Chuang 2021): which given labels are wrong, by the judgement of a model that has
//! not learned from them.
//!
//! From the [confident joint](super::confident_joint), scaled to all samples, it takes how many labels of each class are
//! wrong, and doubts that many of those the model agrees with least (section 3.2):
//!
//! ```text
//! by class:      of the samples labelled j, the n_j - C_jj with the least p_ij
//! by noise rate: for each pair j != k, of the samples labelled j, the C_jk with the most p_ik - p_ij
//! ```
//! A sample whose most probable class is its label is never doubted, and each class keeps a sample at least, as in the
//! authors' code (cleanlab 2.9), whose results these are; of equal samples the first are doubted.

use super::confident_joint::ConfidentJoint;
use crate::LabelledProbabilities;
use crate::rows::{Rows, class_indices, top};
use selfsup_core::{Device, Error, Kind, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which labels are doubted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// For each pair of classes those that look most like the other: cleanlab's `prune_by_noise_rate`.
    #[default]
    NoiseRate,
    /// In each class those that look least like it: `prune_by_class`.
    Class,
    /// What both doubt: `both`.
    Both,
    /// All that are confidently of another class: `confident_learning`.
    ConfidentJoint,
}

/// How a label's quality is measured; 0 to 1, low where it is likely wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// The probability of the label.
    #[default]
    SelfConfidence,
    /// How far it is above the most probable other class, moved to 0 to 1; with one class, 1.
    NormalizedMargin,
}

/// Settings of [`LabelAudit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LabelAuditConfig {
    /// Which labels are doubted.
    pub filter: Filter,
    /// What doubted labels are ordered by.
    pub quality: Quality,
    /// The part of the estimated noise that is looked for, 1 for all; without effect on [`Filter::ConfidentJoint`].
    pub fraction: f64,
    /// The samples that each class keeps at least.
    pub min_per_class: usize,
}

impl Default for LabelAuditConfig {
    fn default() -> Self {
        LabelAuditConfig {
            filter: Filter::NoiseRate,
            quality: Quality::SelfConfidence,
            fraction: 1.0,
            min_per_class: 1,
        }
    }
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditReport {
    /// How classes are taken for each other.
    pub joint: ConfidentJoint,
    /// The quality of every label.
    pub quality: Vec<f64>,
    /// The samples whose label is doubted, the worst first.
    pub doubted: Vec<i64>,
}

/// Checks given labels; as a labeler it gives them back, those that it doubts with weight 0.
#[derive(Debug)]
pub struct LabelAudit {
    config: LabelAuditConfig,
}

impl LabelAudit {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When the fraction is not in `[0, 1]`.
    pub fn new(config: LabelAuditConfig) -> Result<LabelAudit> {
        if !(0.0..=1.0).contains(&config.fraction) {
            return Err(Error::config("fraction", config.fraction, "0 to 1"));
        }
        Ok(LabelAudit { config })
    }

    /// Looks for wrong labels.
    ///
    /// # Errors
    /// When there are no samples.
    pub fn audit(&self, scores: &LabelledProbabilities) -> Result<AuditReport> {
        let joint = ConfidentJoint::of(scores)?;
        let quality = label_quality(scores, self.config.quality)?;
        let p = scores.probabilities().tensor();
        let labels = class_indices("labels", scores.labels(), p.size()[0], p.size()[1])?;
        let rows = Rows::of(p)?;
        let samples = Samples::new(&rows, &labels, p.size()[1] as usize, self.config.min_per_class);
        let prune = prune_counts(&joint.calibrated, self.config.min_per_class as i64, self.config.fraction);
        let mut doubted = match self.config.filter {
            Filter::NoiseRate => samples.by_noise_rate(&prune),
            Filter::Class => samples.by_class(&prune),
            Filter::Both => {
                let by_class = samples.by_class(&prune);
                samples.by_noise_rate(&prune).into_iter().zip(by_class).map(|(a, b)| a && b).collect()
            }
            Filter::ConfidentJoint => {
                let mut mask = vec![false; labels.len()];
                joint.off_diagonal.iter().for_each(|&i| mask[i as usize] = true);
                mask
            }
        };
        for (i, doubted) in doubted.iter_mut().enumerate() {
            *doubted &= !samples.predicted(i);
        }
        let mut doubted: Vec<i64> = (0..labels.len() as i64).filter(|&i| doubted[i as usize]).collect();
        doubted.sort_by(|&a, &b| quality[a as usize].total_cmp(&quality[b as usize]));
        Ok(AuditReport { joint, quality, doubted })
    }
}

impl PseudoLabeler for LabelAudit {
    type Scores = LabelledProbabilities;

    /// Gives the labels back with weight 1, or 0 where they are doubted.
    ///
    /// # Errors
    /// When there are no samples.
    fn label(&mut self, scores: &LabelledProbabilities) -> Result<PseudoLabels> {
        let mut weights = vec![1.0_f32; scores.labels().size()[0] as usize];
        self.audit(scores)?.doubted.iter().for_each(|&i| weights[i as usize] = 0.0);
        let weights = Tensor::from_slice(&weights).to_device(scores.labels().device());
        Ok(PseudoLabels::new(scores.labels().copy(), weights, Reason::Given, Reason::Doubted))
    }
}

/// The quality of every label, 0 to 1.
///
/// # Errors
/// None but libtorch's.
pub fn label_quality(scores: &LabelledProbabilities, quality: Quality) -> Result<Vec<f64>> {
    let p = scores.probabilities().tensor().to_device(Device::Cpu).to_kind(Kind::Double);
    let own = p.gather(1, &scores.labels().to_device(Device::Cpu).unsqueeze(1), false); // [N, 1]
    let found = match quality {
        Quality::SelfConfidence => own,
        Quality::NormalizedMargin => {
            let labels = scores.labels().to_device(Device::Cpu).unsqueeze(1);
            let others = p.scatter_value(1, &labels, 0.0).amax([1].as_slice(), true); // [N, 1]
            (own - others + 1.0) / 2.0
        }
    };
    Ok(Vec::try_from(found.squeeze_dim(1))?)
}

/// `prune[j][k]`: the samples labelled `j` to be doubted as of class `k`; on the diagonal those to be kept.
fn prune_counts(joint: &[Vec<i64>], least: i64, fraction: f64) -> Vec<Vec<i64>> {
    let classes = joint.len();
    let mut prune = Vec::with_capacity(classes);
    for (j, row) in joint.iter().enumerate() {
        let kept = row[j].max(least);
        // What the diagonal gains the other counts of the class lose, in equal parts.
        let filled = row.iter().filter(|&&count| count != 0).count() as f64;
        let loss = (kept - row[j]) as f64 / (filled - 1.0).max(1.0);
        let mut row: Vec<f64> = row.iter().map(|&count| (count as f64 - loss).max(0.0)).collect();
        row[j] = kept as f64;
        let reduced: Vec<f64> = row.iter().map(|count| count * fraction).collect();
        let freed: f64 = (0..classes).filter(|&k| k != j).map(|k| row[k] - reduced[k]).sum();
        let diagonal = row[j] + freed;
        row = reduced;
        row[j] = diagonal;
        prune.push(row.into_iter().map(|count| count as i64).collect());
    }
    prune
}

struct Samples<'a> {
    rows: &'a Rows,
    labels: &'a [usize],
    /// The samples labelled with each class; none where they are too few to doubt any.
    of: Vec<Vec<usize>>,
}

impl<'a> Samples<'a> {
    fn new(rows: &'a Rows, labels: &'a [usize], classes: usize, min_per_class: usize) -> Self {
        let mut of = vec![Vec::new(); classes];
        labels.iter().enumerate().for_each(|(i, &label)| of[label].push(i));
        of.iter_mut().filter(|members| members.len() <= min_per_class.max(1)).for_each(Vec::clear);
        Samples { rows, labels, of }
    }

    fn probability(&self, i: usize, class: usize) -> f64 {
        f64::from(self.rows.row(i)[class])
    }

    fn by_class(&self, prune: &[Vec<i64>]) -> Vec<bool> {
        let mut mask = vec![false; self.labels.len()];
        for (class, row) in prune.iter().enumerate() {
            let mut members = self.of[class].clone();
            let count = (members.len() as i64 - row[class]).max(0) as usize;
            members.sort_by(|&a, &b| self.probability(a, class).total_cmp(&self.probability(b, class)));
            members.iter().take(count).for_each(|&i| mask[i] = true);
        }
        mask
    }

    fn by_noise_rate(&self, prune: &[Vec<i64>]) -> Vec<bool> {
        let mut mask = vec![false; self.labels.len()];
        for (class, row) in prune.iter().enumerate() {
            for (other, &count) in
                row.iter().enumerate().filter(|&(other, &count)| other != class && count > 0)
            {
                let margin = |i: usize| self.probability(i, other) - self.probability(i, class);
                let mut order = self.of[class].clone();
                order.sort_by(|&a, &b| margin(b).total_cmp(&margin(a)));
                order.iter().take(count as usize).for_each(|&i| mask[i] = true);
            }
        }
        mask
    }

    /// Whether the label is the most probable class, to within 1e-6.
    fn predicted(&self, i: usize) -> bool {
        let (row, label) = (self.rows.row(i), self.labels[i]);
        let own = f64::from(row[label]) + 1e-6;
        let (most, class) = top(row);
        // Of equal ones the lower class is the most probable.
        class == label || own > f64::from(most) || (own == f64::from(most) && label < class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Probabilities;

    /// 60 samples of 4 classes, a quarter of which are labelled at random.
    fn samples() -> LabelledProbabilities {
        let wave = |n: i64, from: i64| {
            ((Tensor::arange(n, (Kind::Double, Device::Cpu)) + from).pow_tensor_scalar(1.5) * 0.37).sin()
        };
        let logits = (wave(240, 0).reshape([60, 4]) * 3.0 + Tensor::from_slice(&[0.8, 0.3, 0.0, -0.5]))
            .to_kind(Kind::Float);
        let p = logits.softmax(1, Kind::Float);
        let noise = (wave(60, 500) * 1000.0).abs().to_kind(Kind::Int64).remainder(4);
        let chosen = wave(60, 900).gt(0.6);
        let labels = noise.where_self(&chosen, &p.argmax(1, false));
        LabelledProbabilities::new(&labels, Probabilities::new(&p).unwrap()).unwrap()
    }

    fn audit(filter: Filter, scores: &LabelledProbabilities) -> AuditReport {
        LabelAudit::new(LabelAuditConfig { filter, ..Default::default() }).unwrap().audit(scores).unwrap()
    }

    // wave = lambda n, s: ((torch.arange(n, dtype=torch.float64) + s) ** 1.5 * 0.37).sin()
    // z = (wave(240, 0).reshape(60, 4) * 3 + torch.tensor([0.8, 0.3, 0, -0.5], dtype=torch.float64)).float()
    // p = z.softmax(1); y = torch.where(wave(60, 900) > 0.6, (wave(60, 500) * 1000).abs().long() % 4, p.argmax(1))
    // p, y = p.double().numpy(), y.numpy()                                                    # cleanlab 2.9.0
    // compute_confident_joint(y, p, calibrate=False), compute_confident_joint(y, p), get_confident_thresholds(y, p)
    // find_label_issues(y, p, filter_by=f, return_indices_ranked_by="self_confidence") for each f, for
    //     prune_by_noise_rate also with frac_noise=0.5, and ranked by "normalized_margin"
    // get_label_quality_scores(y, p, method=m)[:6] for both m
    const COUNTS: [[i64; 4]; 4] = [[13, 0, 2, 0], [1, 5, 0, 0], [1, 1, 8, 2], [1, 2, 1, 5]];
    const CALIBRATED: [[i64; 4]; 4] = [[21, 0, 3, 0], [2, 8, 0, 0], [1, 1, 10, 3], [1, 3, 1, 6]];
    const THRESHOLDS: [f64; 4] = [0.577629113, 0.581615974, 0.415370441, 0.486634936];
    const NOISE_RATE: [i64; 12] = [5, 14, 2, 47, 20, 54, 17, 26, 58, 50, 8, 43];
    const CLASS: [i64; 13] = [5, 14, 2, 47, 20, 54, 40, 17, 26, 33, 58, 8, 43];
    const BOTH: [i64; 11] = [5, 14, 2, 47, 20, 54, 17, 26, 58, 8, 43];
    const CONFIDENT_JOINT: [i64; 10] = [5, 14, 2, 47, 20, 54, 17, 50, 8, 43];
    const HALF_OF_NOISE_RATE: [i64; 4] = [5, 14, 47, 17];
    const NOISE_RATE_BY_MARGIN: [i64; 12] = [20, 54, 14, 5, 47, 2, 17, 50, 58, 26, 8, 43];
    const SELF_CONFIDENCE: [f64; 6] =
        [0.450750083, 0.539084792, 0.00273048598, 0.448508978, 0.903500855, 0.0020565954];
    const NORMALIZED_MARGIN: [f64; 6] =
        [0.555172011, 0.554229707, 0.0968680666, 0.548245057, 0.910783209, 0.0499516709];

    #[test]
    fn the_joint_agrees_with_cleanlab() {
        let joint = ConfidentJoint::of(&samples()).unwrap();
        assert_eq!(joint.counts, COUNTS);
        assert_eq!(joint.calibrated, CALIBRATED);
        let thresholds: Vec<f64> = joint.thresholds.into_iter().flatten().collect();
        assert!(thresholds.iter().zip(THRESHOLDS).all(|(t, e)| (t - e).abs() < 1e-6), "{thresholds:?}");
    }

    #[test]
    fn doubts_what_cleanlab_doubts_in_its_order() {
        let scores = samples();
        assert_eq!(audit(Filter::NoiseRate, &scores).doubted, NOISE_RATE);
        assert_eq!(audit(Filter::Class, &scores).doubted, CLASS);
        assert_eq!(audit(Filter::Both, &scores).doubted, BOTH);
        assert_eq!(audit(Filter::ConfidentJoint, &scores).doubted, CONFIDENT_JOINT);
        let with = |config| LabelAudit::new(config).unwrap().audit(&scores).unwrap().doubted;
        let half = LabelAuditConfig { fraction: 0.5, ..Default::default() };
        assert_eq!(with(half), HALF_OF_NOISE_RATE);
        let by_margin = LabelAuditConfig { quality: Quality::NormalizedMargin, ..Default::default() };
        assert_eq!(with(by_margin), NOISE_RATE_BY_MARGIN);
    }

    #[test]
    fn the_quality_of_labels_agrees_with_cleanlab() {
        for (quality, expected) in
            [(Quality::SelfConfidence, SELF_CONFIDENCE), (Quality::NormalizedMargin, NORMALIZED_MARGIN)]
        {
            let found = label_quality(&samples(), quality).unwrap();
            assert!(found.iter().zip(expected).all(|(f, e)| (f - e).abs() < 1e-6), "{found:?}");
        }
    }

    #[test]
    fn gives_labels_back_and_those_in_doubt_without_weight() {
        let scores = samples();
        let found = LabelAudit::new(LabelAuditConfig::default()).unwrap().label(&scores).unwrap();
        assert_eq!(&found.labels, scores.labels());
        let reasons = found.reasons().unwrap();
        for i in 0..60 {
            let doubted = NOISE_RATE.contains(&i);
            assert_eq!(found.weights.double_value(&[i]) == 0.0, doubted);
            assert_eq!(reasons[i as usize], if doubted { Reason::Doubted } else { Reason::Given });
        }
    }

    #[test]
    fn every_class_keeps_a_sample_and_rare_ones_are_left_alone() {
        // The model says class 0 of all; class 1 has two labels, class 2 one.
        let rows = [[0.9_f32, 0.05, 0.05], [0.8, 0.15, 0.05], [0.7, 0.1, 0.2], [0.85, 0.05, 0.1]];
        let p = Probabilities::new(&Tensor::from_slice2(&rows)).unwrap();
        let scores = LabelledProbabilities::new(&Tensor::from_slice(&[0_i64, 1, 1, 2]), p).unwrap();
        for filter in [Filter::NoiseRate, Filter::Class, Filter::Both] {
            let doubted = audit(filter, &scores).doubted;
            assert!(!doubted.contains(&3), "{doubted:?}");
            assert!(!doubted.contains(&1) || !doubted.contains(&2), "{doubted:?}");
        }
    }

    #[test]
    fn finds_nothing_where_there_is_nothing() {
        let p = Probabilities::new(&Tensor::from_slice2(&[[0.9_f32, 0.1], [0.1, 0.9]])).unwrap();
        let right = LabelledProbabilities::new(&Tensor::from_slice(&[0_i64, 1]), p).unwrap();
        assert_eq!(audit(Filter::NoiseRate, &right).doubted, [0_i64; 0]);
        let one = Probabilities::new(&Tensor::ones([3, 1], (Kind::Float, Device::Cpu))).unwrap();
        let one = LabelledProbabilities::new(&Tensor::zeros([3], (Kind::Int64, Device::Cpu)), one).unwrap();
        for filter in [Filter::NoiseRate, Filter::Class, Filter::Both, Filter::ConfidentJoint] {
            assert_eq!(audit(filter, &one).doubted, [0_i64; 0]);
        }
        assert_eq!(label_quality(&one, Quality::NormalizedMargin).unwrap(), [1.0; 3]);
    }

    #[test]
    fn rejects_a_fraction_out_of_range() {
        let config = LabelAuditConfig { fraction: 1.5, ..Default::default() };
        assert_eq!(LabelAudit::new(config).unwrap_err().to_string(), "fraction = 1.5: 0 to 1");
    }
}
