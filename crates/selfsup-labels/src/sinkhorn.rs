//! Labels in equal shares: the assignment of samples to classes that their scores ask for most, of all those in which
//! every class gets as much.
//!
//! Asano, Rupprecht and Vedaldi 2020, *Self-labelling via simultaneous clustering and representation learning*, section
//! 3.2, on a whole set; Caron et al. 2020 (SwAV), section 3.1, batch by batch with a queue of recent scores, as a small
//! batch alone cannot be cut into equal shares. The transport is [`sinkhorn`]'s:
//!
//! ```text
//! q = Sinkhorn(s, epsilon)  over the queue and the batch
//! label_i = argmax_k q_ik        weight_i = max_k q_ik
//! ```
//! Scores are whatever is higher for the better class: logits, or the cosines of features and centres.

use crate::memory::{restored_as, saved};
use selfsup_core::{Error, Kind, Logits, PseudoLabeler, PseudoLabels, Reason, Result, Tensor, check_shape};
use selfsup_numerics::{SinkhornConfig, sinkhorn};
use serde::{Deserialize, Serialize};

/// How to balance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkhornLabelsConfig {
    /// The transport. SwAV's 3 iterations balance a batch roughly; here there are 100, as a set is labelled once.
    pub sinkhorn: SinkhornConfig,
    /// How many recent scores take part in the balance of a batch, themselves not labelled again. With 0 every batch is
    /// balanced in itself: for whole sets. SwAV: 3840.
    pub queue: i64,
    /// Labels of a lower weight are rejected: their weight becomes 0. The default rejects none.
    pub min_weight: f64,
}

impl Default for SinkhornLabelsConfig {
    fn default() -> Self {
        let sinkhorn = SinkhornConfig { iterations: 100, ..Default::default() };
        SinkhornLabelsConfig { sinkhorn, queue: 0, min_weight: 0.0 }
    }
}

/// Labels scores in equal shares.
#[derive(Debug)]
pub struct SinkhornLabels {
    config: SinkhornLabelsConfig,
    /// The last scores, the oldest first, `[L, C]`; `[0, 0]` before the first batch.
    queue: Tensor,
}

impl SinkhornLabels {
    /// Checks the configuration.
    ///
    /// # Errors
    /// When epsilon is not above 0, there is no iteration, the queue is shorter than 0, or the least weight is not in
    /// `[0, 1]`.
    pub fn new(config: SinkhornLabelsConfig) -> Result<SinkhornLabels> {
        let SinkhornConfig { epsilon, iterations } = config.sinkhorn;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::config("sinkhorn.epsilon", epsilon, "above 0"));
        }
        if iterations == 0 {
            return Err(Error::config("sinkhorn.iterations", 0, "at least 1"));
        }
        if config.queue < 0 {
            return Err(Error::config("queue", config.queue, "0 or above"));
        }
        if !(0.0..=1.0).contains(&config.min_weight) {
            return Err(Error::config("min_weight", config.min_weight, "0 to 1"));
        }
        Ok(SinkhornLabels { config, queue: no_scores() })
    }
}

fn no_scores() -> Tensor {
    Tensor::zeros([0, 0], (Kind::Float, selfsup_core::Device::Cpu))
}

impl PseudoLabeler for SinkhornLabels {
    type Scores = Logits;

    /// Labels scores `[N, C]`, with their shares `[N, C]`.
    ///
    /// # Errors
    /// When there is no sample, or another number of classes than in the queue.
    fn label(&mut self, scores: &Logits) -> Result<PseudoLabels> {
        let scores = scores.tensor();
        let [n, classes] = check_shape("scores", scores, [-1, -1])?;
        let queue = self.queue.to_device(scores.device());
        let queued = queue.size()[0];
        if queued > 0 && queue.size()[1] != classes {
            let expected = format!("{}, as in the queue", queue.size()[1]);
            return Err(Error::config("classes", classes, expected));
        }
        let all = if queued > 0 { Tensor::cat(&[&queue, scores], 0) } else { scores.shallow_clone() };
        let q = sinkhorn(&all, &self.config.sinkhorn)?.narrow(0, queued, n); // [N, C]
        let kept = (queued + n).min(self.config.queue);
        self.queue = if kept > 0 { all.narrow(0, queued + n - kept, kept).copy() } else { no_scores() };
        let (share, labels) = q.max_dim(1, false);
        let share = share.clamp_max(1.0);
        let rejected = share.lt(self.config.min_weight);
        let weights = share.masked_fill(&rejected, 0.0);
        Ok(PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure).with_soft(q))
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        vec![saved("queue", &self.queue)]
    }

    /// Takes up the queue.
    ///
    /// # Errors
    /// When it is missing, is no matrix of finite Floats, or is longer than this one's.
    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let queue = restored_as(state, "queue", &[-1, -1], Kind::Float)?;
        let length = queue.size()[0];
        if length > self.config.queue {
            let expected = format!("at most {}, as this labeler's queue", self.config.queue);
            return Err(Error::config("state.queue", length, expected));
        }
        self.queue = queue;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
            .to_kind(Kind::Float)
    }

    fn labeler(epsilon: f64, iterations: usize, queue: i64) -> SinkhornLabels {
        let sinkhorn = SinkhornConfig { epsilon, iterations };
        SinkhornLabels::new(SinkhornLabelsConfig { sinkhorn, queue, min_weight: 0.0 }).unwrap()
    }

    fn label(labeler: &mut SinkhornLabels, scores: &Tensor) -> PseudoLabels {
        labeler.label(&Logits::new(scores).unwrap()).unwrap()
    }

    #[test]
    fn agrees_with_the_optimal_transport_of_pot() {
        // s = np.sin(np.arange(30).reshape(10, 3) ** 1.5 * 0.37)                                        # POT 0.9.7
        // ot.sinkhorn(np.full(10, 0.1), np.full(3, 1/3), -s, 0.2, numItermax=20000, stopThr=1e-13) * 10
        let expected = [
            [0.037925, 0.532682, 0.429392],
            [0.950556, 0.049425, 2e-05],
            [0.00052, 0.747523, 0.251957],
            [0.008183, 0.006085, 0.985732],
            [0.723885, 0.002274, 0.273841],
            [0.665155, 0.000989, 0.333856],
            [0.048282, 0.003091, 0.948626],
            [0.000559, 0.992111, 0.00733],
            [0.000935, 0.999052, 1.3e-05],
            [0.897333, 0.000101, 0.102566],
        ];
        let found = label(&mut labeler(0.2, 2000, 0), &formula(10, 3));
        let soft = Vec::<Vec<f64>>::try_from(found.soft.as_ref().unwrap()).unwrap();
        assert!(soft.iter().flatten().zip(expected.as_flattened()).all(|(f, e)| (f - e).abs() < 1e-5));
        // The scores alone say 2, 0, 2, 2, 2, 2, 2, 1, 1, 0.
        assert_eq!(Vec::<i64>::try_from(&found.labels).unwrap(), [1, 0, 1, 2, 0, 0, 2, 1, 1, 0]);
        for (weight, row) in Vec::<f64>::try_from(&found.weights).unwrap().iter().zip(expected) {
            assert!((weight - row.iter().copied().fold(0.0, f64::max)).abs() < 1e-5);
        }
    }

    #[test]
    fn classes_get_equal_shares_whatever_the_scores_favour() {
        let scores = formula(120, 4) + Tensor::from_slice(&[3.0_f32, 0.0, -1.0, 0.5]);
        let alone = Vec::<i64>::try_from(scores.argmax(1, false).bincount(None::<Tensor>, 4)).unwrap();
        assert!(alone[0] > 110, "{alone:?}");
        let found = label(&mut labeler(0.05, 500, 0), &scores);
        let shares = Vec::<f64>::try_from(found.soft.unwrap().sum_dim_intlist(0, false, None)).unwrap();
        assert!(shares.iter().all(|share| (share - 30.0).abs() < 0.1), "{shares:?}");
        let counts = Vec::<i64>::try_from(found.labels.bincount(None::<Tensor>, 4)).unwrap();
        assert!(counts.iter().all(|count| (25..=35).contains(count)), "{counts:?}");
    }

    #[test]
    fn a_constant_added_to_a_class_or_a_sample_changes_nothing() {
        let scores = formula(40, 3);
        let moved = &scores + Tensor::from_slice(&[0.5_f32, -0.2, 0.1]) + formula(40, 1);
        let soft = |scores: &Tensor| label(&mut labeler(0.2, 2000, 0), scores).soft.unwrap();
        assert!(f64::try_from((soft(&scores) - soft(&moved)).abs().max()).unwrap() < 1e-4);
    }

    #[test]
    fn a_batch_with_a_queue_is_labelled_as_part_of_both() {
        let scores = formula(40, 3);
        let mut online = labeler(0.1, 50, 25);
        let batch = |first: i64| scores.narrow(0, first, 10);
        let mut found = Vec::new();
        for first in [0, 10, 20, 30] {
            found.push(label(&mut online, &batch(first)).soft.unwrap());
        }
        // The queue holds at most 25: of the first three batches the last 25 rows.
        for (at, from) in [(0, 0), (1, 0), (2, 0), (3, 5)] {
            let end = 10 * (at + 1);
            let together = sinkhorn(&scores.narrow(0, from, end - from), &online.config.sinkhorn).unwrap();
            let expected = together.narrow(0, end - from - 10, 10);
            assert!(f64::try_from((&found[at as usize] - expected).abs().max()).unwrap() < 1e-6);
        }
        assert_eq!(online.queue, scores.narrow(0, 15, 25));
    }

    #[test]
    fn goes_on_from_its_state() {
        let (mut a, mut b) = (labeler(0.1, 10, 16), labeler(0.1, 10, 16));
        b.restore(&labeler(0.1, 10, 16).state()).unwrap();
        assert_eq!(b.queue.size(), [0, 0]);
        label(&mut a, &formula(12, 3));
        let state = a.state();
        b.restore(&state).unwrap();
        let next = formula(20, 3).narrow(0, 12, 8);
        let (found, other) = (label(&mut a, &next), label(&mut b, &next));
        assert_eq!(found.soft.unwrap(), other.soft.unwrap());
        assert_eq!(state[0].1, formula(12, 3));
        assert_eq!(a.state()[0].1, b.state()[0].1);
    }

    #[test]
    fn one_class_takes_all_and_unsure_labels_are_rejected() {
        let found = label(&mut labeler(0.05, 3, 0), &formula(4, 1));
        assert!(Vec::<f64>::try_from(&found.weights).unwrap().iter().all(|w| (w - 1.0).abs() < 1e-5));
        let config = SinkhornLabelsConfig { min_weight: 0.6, ..Default::default() };
        let mut labeler = SinkhornLabels::new(config).unwrap();
        let scores = Tensor::from_slice2(&[[1.0_f32, 0.0], [0.0, 1.0], [0.5, 0.5]]);
        let found = label(&mut labeler, &scores);
        assert_eq!(found.reasons().unwrap(), [Reason::Confident, Reason::Confident, Reason::Unsure]);
        assert_eq!(found.weights.double_value(&[2]), 0.0);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let error = |config| SinkhornLabels::new(config).unwrap_err().to_string();
        let with = |epsilon, iterations| SinkhornConfig { epsilon, iterations };
        let config = SinkhornLabelsConfig { sinkhorn: with(0.0, 3), ..Default::default() };
        assert_eq!(error(config), "sinkhorn.epsilon = 0: above 0");
        let config = SinkhornLabelsConfig { sinkhorn: with(0.1, 0), ..Default::default() };
        assert_eq!(error(config), "sinkhorn.iterations = 0: at least 1");
        let config = SinkhornLabelsConfig { queue: -1, ..Default::default() };
        assert_eq!(error(config), "queue = -1: 0 or above");
        let config = SinkhornLabelsConfig { min_weight: 1.5, ..Default::default() };
        assert_eq!(error(config), "min_weight = 1.5: 0 to 1");

        let mut labeler = labeler(0.1, 3, 4);
        label(&mut labeler, &formula(3, 2));
        let wider = Logits::new(&formula(3, 5)).unwrap();
        assert_eq!(labeler.label(&wider).unwrap_err().to_string(), "classes = 5: 2, as in the queue");
        let mut restore =
            |name: &str, x: Tensor| labeler.restore(&[(name.to_owned(), x)]).unwrap_err().to_string();
        assert_eq!(restore("centres", formula(3, 2)), "state.queue = missing: [_, _] Float");
        assert_eq!(restore("queue", formula(5, 2)), "state.queue = 5: at most 4, as this labeler's queue");
        assert_eq!(
            restore("queue", formula(5, 2).get(0)),
            "state.queue: expected [_, _] Float, found [2] Float"
        );
        assert!(restore("queue", formula(2, 2) / 0.0).starts_with("state.queue is not finite"));
        assert_eq!(labeler.queue, formula(3, 2));
    }
}
