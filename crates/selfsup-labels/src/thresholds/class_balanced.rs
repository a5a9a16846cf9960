//! Class-balanced selection: of the samples that are predicted to be of a class only the surest are kept, so that frequent
//! classes do not drown rare ones (CBST, Zou et al. 2018; CReST, Wei et al. 2021).
//!
//! ```text
//! label_i = argmax_c p_ic        n_c = |{i : label_i = c, max_c p_ic >= tau}|
//! weight_i = 1(i is among the keep(c, n_c) samples of its class c with the highest max_c p_ic)
//! ```
//! CBST keeps the share `f` of every class, `ceil(f n_c)` (its threshold `exp(-k_c)` is the confidence of the last one that
//! is kept). CReST keeps more of a class the fewer labelled samples it has: with classes sorted by their labelled samples
//! `N_1 >= ... >= N_C`, the share of class `l` is `(N_{C+1-l} / N_1)^alpha`, 1 for the rarest.

use super::confidence::most_probable;
use selfsup_core::{Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// How many samples of a class are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Keep {
    /// This share of those that are predicted to be of the class, rounded up. CBST starts at 0.2 and adds 0.05 a round.
    Share(f64),
    /// At most this many.
    Count(usize),
    /// CReST's shares.
    ByLabelled {
        /// The labelled samples of each class.
        counts: Vec<u64>,
        /// 0 keeps all; the larger, the fewer of the frequent classes. CReST: 1/3 on CIFAR.
        alpha: f64,
    },
}

/// Settings of [`ClassBalanced`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ClassBalancedConfig {
    /// How many samples of a class are kept.
    pub keep: Keep,
    /// The least probability that is trusted; samples below are not counted. CBST and CReST: 0.
    pub tau: f64,
}

impl Default for ClassBalancedConfig {
    fn default() -> Self {
        ClassBalancedConfig { keep: Keep::Share(0.2), tau: 0.0 }
    }
}

/// Labels the surest samples of every class. It balances what it is given at once, which should be the whole unlabelled
/// set.
#[derive(Debug)]
pub struct ClassBalanced {
    config: ClassBalancedConfig,
}

impl ClassBalanced {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When a share or the threshold is not in `[0, 1]`, `alpha` is negative, or there are no labelled samples.
    pub fn new(config: ClassBalancedConfig) -> Result<ClassBalanced> {
        let in_range = |name, value: f64| {
            if (0.0..=1.0).contains(&value) { Ok(()) } else { Err(Error::config(name, value, "0 to 1")) }
        };
        in_range("tau", config.tau)?;
        match &config.keep {
            Keep::Share(share) => in_range("keep.share", *share)?,
            Keep::Count(_) => {}
            Keep::ByLabelled { counts, alpha } => {
                if !alpha.is_finite() || *alpha < 0.0 {
                    return Err(Error::config("keep.by-labelled.alpha", alpha, "0 or above"));
                }
                if counts.iter().all(|&count| count == 0) {
                    let found = format!("{counts:?}");
                    return Err(Error::config("keep.by-labelled.counts", found, "a labelled sample"));
                }
            }
        }
        Ok(ClassBalanced { config })
    }

    /// How many of `n` samples of each class are kept.
    fn limits(&self, n: &[usize]) -> Result<Vec<usize>> {
        // Rounded up, but for what rounding of the product itself has added.
        let part = |share: f64, n: usize| ((share * n as f64) * (1.0 - 1e-12)).ceil() as usize;
        Ok(match &self.config.keep {
            Keep::Share(share) => n.iter().map(|&n| part(*share, n)).collect(),
            Keep::Count(count) => vec![*count; n.len()],
            Keep::ByLabelled { counts, alpha } => {
                if counts.len() != n.len() {
                    let expected = format!("{}, one for each class", n.len());
                    return Err(Error::config("keep.by-labelled.counts", counts.len(), expected));
                }
                let mut order: Vec<usize> = (0..counts.len()).collect();
                order.sort_by_key(|&c| std::cmp::Reverse(counts[c]));
                let most = counts[order[0]] as f64;
                let mut limits = vec![0; n.len()];
                for (&class, &mirrored) in order.iter().zip(order.iter().rev()) {
                    limits[class] = part((counts[mirrored] as f64 / most).powf(*alpha), n[class]);
                }
                limits
            }
        })
    }
}

impl PseudoLabeler for ClassBalanced {
    type Scores = Probabilities;

    /// Labels class probabilities `[N, C]`; of equally sure samples the first are kept.
    ///
    /// # Errors
    /// When labelled samples are counted for another number of classes.
    fn label(&mut self, scores: &Probabilities) -> Result<PseudoLabels> {
        let p = scores.tensor();
        let (confidence, labels) = most_probable(p);
        let (confidences, classes) = (Vec::<f32>::try_from(&confidence)?, Vec::<i64>::try_from(&labels)?);
        let mut members = vec![Vec::new(); p.size()[1] as usize];
        let mut weights = vec![0.0_f32; confidences.len()];
        let mut reasons = vec![Reason::Unsure.code(); confidences.len()];
        for (i, (&class, &confidence)) in classes.iter().zip(&confidences).enumerate() {
            if confidence >= self.config.tau as f32 {
                members[class as usize].push(i);
                reasons[i] = Reason::Surplus.code();
            }
        }
        let limits = self.limits(&members.iter().map(Vec::len).collect::<Vec<_>>())?;
        for (members, limit) in members.iter_mut().zip(limits) {
            members.sort_by(|&a, &b| confidences[b].total_cmp(&confidences[a])); // stable: the lower index first
            for &i in members.iter().take(limit) {
                (weights[i], reasons[i]) = (1.0, Reason::Confident.code());
            }
        }
        let device = p.device();
        Ok(PseudoLabels {
            labels,
            weights: Tensor::from_slice(&weights).to_kind(Kind::Float).to_device(device),
            reasons: Tensor::from_slice(&reasons).to_device(device),
            soft: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::course::{bits, probabilities};
    use super::*;
    use selfsup_core::Device;

    fn label(keep: Keep, tau: f64, p: &Probabilities) -> PseudoLabels {
        ClassBalanced::new(ClassBalancedConfig { keep, tau }).unwrap().label(p).unwrap()
    }

    /// Six of class 0, two of class 1.
    fn unbalanced() -> Probabilities {
        let first = [0.9_f32, 0.6, 0.8, 0.45, 0.8, 0.7, 0.3, 0.95];
        let rows = first.map(|p| [p, 1.0 - p]);
        Probabilities::new(&Tensor::from_slice2(&rows)).unwrap()
    }

    #[test]
    fn keeps_the_same_share_of_every_class() {
        let found = label(Keep::Share(0.5), 0.0, &unbalanced());
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [0, 0, 0, 1, 0, 0, 1, 0]);
        // Of class 0 0.95, 0.9 and the first 0.8; of class 1 0.7.
        assert_eq!(bits(&found.weights), 0b1100_0101);
        let reasons = found.reasons().unwrap();
        assert_eq!(reasons[..4], [Reason::Confident, Reason::Surplus, Reason::Confident, Reason::Surplus]);
    }

    #[test]
    fn keeps_one_of_every_class_that_is_predicted() {
        assert_eq!(bits(&label(Keep::Share(0.01), 0.0, &unbalanced()).weights), 0b1100_0000);
        assert_eq!(bits(&label(Keep::Share(0.0), 0.0, &unbalanced()).weights), 0);
        assert_eq!(bits(&label(Keep::Share(1.0), 0.0, &unbalanced()).weights), 0b1111_1111);
    }

    #[test]
    fn does_not_count_what_is_below_the_threshold() {
        let found = label(Keep::Count(2), 0.6, &unbalanced());
        assert_eq!(bits(&found.weights), 0b1100_0001);
        assert_eq!(found.reasons().unwrap()[3], Reason::Unsure); // 0.55 for class 1
        assert_eq!(found.reasons().unwrap()[1], Reason::Surplus); // exactly 0.6
    }

    #[test]
    fn equals_a_loop_that_asks_of_each_sample_how_many_are_surer() {
        let p = probabilities(6);
        for share in [0.0, 0.2, 0.5, 0.9, 1.0] {
            let found = label(Keep::Share(share), 0.0, &p);
            let rows = Vec::<Vec<f64>>::try_from(p.tensor()).unwrap();
            let tops: Vec<(f64, usize)> = rows
                .iter()
                .map(|r| (0..4).map(|c| (r[c], c)).max_by(|a, b| a.0.total_cmp(&b.0)).unwrap())
                .collect();
            let expected: u8 = (0..8)
                .filter(|&i| {
                    let own = tops.iter().filter(|t| t.1 == tops[i].1).count() as f64;
                    let surer = tops.iter().filter(|t| t.1 == tops[i].1 && t.0 > tops[i].0).count();
                    (surer as f64) < (share * own - 1e-9).ceil()
                })
                .map(|i| 1 << i)
                .sum();
            assert_eq!(bits(&found.weights), expected, "share {share}");
        }
    }

    #[test]
    fn keeps_more_of_the_classes_that_have_fewer_labels() {
        let by = |counts: Vec<u64>, alpha| ClassBalancedConfig {
            keep: Keep::ByLabelled { counts, alpha },
            tau: 0.0,
        };
        let limits =
            |config, n: &[usize]| ClassBalanced::new(config).unwrap().limits(n).map_err(|e| e.to_string());
        // Sorted 100, 25, 4; shares 4 / 100, 25 / 100 and 100 / 100, their square roots at alpha 1/2.
        assert_eq!(limits(by(vec![25, 100, 4], 1.0), &[100, 100, 100]).unwrap(), [25, 4, 100]);
        assert_eq!(limits(by(vec![25, 100, 4], 0.5), &[100, 100, 100]).unwrap(), [50, 20, 100]);
        assert_eq!(limits(by(vec![25, 100, 4], 0.0), &[7, 8, 9]).unwrap(), [7, 8, 9]);
        // A class without labels: all of it is kept, and none of the most frequent.
        assert_eq!(limits(by(vec![0, 10], 1.0), &[5, 5]).unwrap(), [5, 0]);
        let error = limits(by(vec![1, 2], 1.0), &[1, 1, 1]).unwrap_err();
        assert_eq!(error, "keep.by-labelled.counts = 2: 3, one for each class");
    }

    #[test]
    fn shares_are_not_rounded_up_by_a_rounding_error() {
        let limits = |share, n| {
            let config = ClassBalancedConfig { keep: Keep::Share(share), tau: 0.0 };
            ClassBalanced::new(config).unwrap().limits(&[n]).unwrap()[0]
        };
        assert_eq!((limits(0.1, 30), limits(0.7, 10), limits(0.29, 100)), (3, 7, 29));
    }

    #[test]
    fn labels_no_samples_and_one_class() {
        let none = Probabilities::new(&Tensor::zeros([0, 3], (Kind::Float, Device::Cpu))).unwrap();
        let found = label(Keep::Share(0.5), 0.0, &none);
        assert_eq!((found.weights.size(), found.weights.kind()), (vec![0], Kind::Float));
        assert_eq!(found.reasons.kind(), Kind::Int64);
        let one = Probabilities::new(&Tensor::ones([4, 1], (Kind::Float, Device::Cpu))).unwrap();
        assert_eq!(bits(&label(Keep::Share(0.5), 0.0, &one).weights), 0b0011);
    }

    #[test]
    fn rejects_settings_out_of_range() {
        let error =
            |keep, tau| ClassBalanced::new(ClassBalancedConfig { keep, tau }).unwrap_err().to_string();
        assert_eq!(error(Keep::Share(1.5), 0.0), "keep.share = 1.5: 0 to 1");
        assert_eq!(error(Keep::Count(3), -0.1), "tau = -0.1: 0 to 1");
        let by = |alpha, count| Keep::ByLabelled { counts: vec![count; 2], alpha };
        assert_eq!(error(by(-1.0, 1), 0.0), "keep.by-labelled.alpha = -1: 0 or above");
        assert_eq!(error(by(1.0, 0), 0.0), "keep.by-labelled.counts = [0, 0]: a labelled sample");
    }
}
