//! Temporal ensembling (Laine and Aila 2017, section 2.2): the label of a sample comes from the running mean of all that was
//! predicted for it so far, which is steadier than any one prediction.
//!
//! ```text
//! Z_i <- alpha Z_i + (1 - alpha) p_i        p~_i = Z_i / (1 - alpha^t_i)
//! label_i = argmax_c p~_ic                  weight_i = 1(max_c p~_ic >= tau)
//! ```
//! `t_i` counts the predictions of sample `i`; in the paper, where every epoch sees every sample once, it is the epoch. A
//! label includes the prediction it was asked with. The paper's loss compares with the mean from before it:
//! [`targets`](TemporalEnsemble::targets), asked before `label`.

use super::super::thresholds::confidence::{check_classes, check_momentum, most_probable, with_classes};
use crate::IndexedProbabilities;
use crate::memory::{restored, saved};
use selfsup_core::{Device, Error, Kind, Probabilities, PseudoLabeler, PseudoLabels, Reason, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Settings of [`TemporalEnsemble`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TemporalEnsembleConfig {
    /// The share of the past, alpha. The paper: 0.6.
    pub momentum: f64,
    /// The least probability that is trusted; 0, as in the paper, keeps all.
    pub tau: f64,
}

impl Default for TemporalEnsembleConfig {
    fn default() -> Self {
        TemporalEnsembleConfig { momentum: 0.6, tau: 0.0 }
    }
}

/// Labels samples by the running mean of their predictions. It holds a distribution for every sample, in main memory.
#[derive(Debug)]
pub struct TemporalEnsemble {
    config: TemporalEnsembleConfig,
    classes: usize,
    /// Z, sample by sample.
    ensemble: Vec<f32>,
    /// t.
    updates: Vec<i64>,
}

impl TemporalEnsemble {
    /// For an unlabelled set of `samples` samples and this many classes.
    ///
    /// # Errors
    /// When there is no class or no sample, or a setting is out of its range.
    pub fn new(classes: i64, samples: i64, config: TemporalEnsembleConfig) -> Result<TemporalEnsemble> {
        check_classes(classes)?;
        check_momentum(config.momentum)?;
        if samples < 1 {
            return Err(Error::config("samples", samples, "at least 1"));
        }
        if !(0.0..=1.0).contains(&config.tau) {
            return Err(Error::config("tau", config.tau, "0 to 1"));
        }
        let ensemble = vec![0.0; (samples * classes) as usize];
        Ok(TemporalEnsemble {
            config,
            classes: classes as usize,
            ensemble,
            updates: vec![0; samples as usize],
        })
    }

    /// The running means of some samples, `[N, C]`, on the CPU.
    ///
    /// # Errors
    /// When a position is out of range, or nothing was predicted for a sample yet.
    pub fn targets(&self, samples: &[i64]) -> Result<Probabilities> {
        let mut means = Vec::with_capacity(samples.len() * self.classes);
        for &sample in samples {
            let at = usize::try_from(sample).ok().filter(|&at| at < self.updates.len()).ok_or_else(|| {
                let expected = format!("0 to {}, a position in the set", self.updates.len() - 1);
                Error::config("samples", sample, expected)
            })?;
            if self.updates[at] == 0 {
                return Err(Error::config("samples", sample, "a sample with a prediction"));
            }
            // By powf, which takes counts of any size.
            let correction = (1.0 - self.config.momentum.powf(self.updates[at] as f64)) as f32;
            means.extend(self.ensemble[at * self.classes..][..self.classes].iter().map(|z| z / correction));
        }
        let means = Tensor::from_slice(&means).to_kind(Kind::Float);
        Probabilities::new(&means.reshape([samples.len() as i64, self.classes as i64]))
    }
}

impl PseudoLabeler for TemporalEnsemble {
    type Scores = IndexedProbabilities;

    /// Adds a batch of class probabilities `[N, C]` of known samples, and labels it.
    ///
    /// # Errors
    /// When the number of classes or a sample's position does not fit.
    fn label(&mut self, scores: &IndexedProbabilities) -> Result<PseudoLabels> {
        let p = with_classes(scores.probabilities(), self.classes as i64)?;
        let samples: Vec<usize> = scores.checked_samples(self.updates.len() as i64)?.collect();
        let (old, new) = (self.config.momentum as f32, (1.0 - self.config.momentum) as f32);
        let values = Vec::<f32>::try_from(p.contiguous().view(-1))?;
        for (sample, row) in samples.into_iter().zip(values.chunks_exact(self.classes)) {
            let mean = &mut self.ensemble[sample * self.classes..][..self.classes];
            mean.iter_mut().zip(row).for_each(|(z, p)| *z = old * *z + new * p);
            self.updates[sample] += 1;
        }
        let soft = self.targets(scores.samples())?.tensor().to_device(p.device());
        let (confidence, labels) = most_probable(&soft);
        let weights = confidence.ge(f64::from(self.config.tau as f32)).to_kind(Kind::Float);
        Ok(PseudoLabels::new(labels, weights, Reason::Confident, Reason::Unsure).with_soft(soft))
    }

    /// `ensemble` `[samples, C]` Float and `updates` `[samples]` Int64.
    fn state(&self) -> Vec<(String, Tensor)> {
        let ensemble = Tensor::from_slice(&self.ensemble).reshape([-1, self.classes as i64]);
        vec![saved("ensemble", &ensemble), saved("updates", &Tensor::from_slice(&self.updates))]
    }

    fn restore(&mut self, state: &[(String, Tensor)]) -> Result<()> {
        let samples = self.updates.len() as i64;
        let like = |shape: &[i64], kind| Tensor::zeros(shape, (kind, Device::Cpu));
        let ensemble = restored(state, "ensemble", &like(&[samples, self.classes as i64], Kind::Float))?;
        let updates = Vec::<i64>::try_from(restored(state, "updates", &like(&[samples], Kind::Int64))?)?;
        if let Some(count) = updates.iter().find(|&&count| count < 0) {
            return Err(Error::config("state.updates", count, "0 or above"));
        }
        self.ensemble = Vec::try_from(ensemble.contiguous().view(-1))?;
        self.updates = updates;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::thresholds::course::{assert_near, probabilities};

    /// Batch `t` of the course: eight of twelve samples.
    fn batch(t: i64) -> IndexedProbabilities {
        let samples = ((Tensor::arange(8, (Kind::Int64, Device::Cpu)) + 8 * t) * 5).remainder(12);
        IndexedProbabilities::new(&samples, probabilities(t)).unwrap()
    }

    fn labeler() -> TemporalEnsemble {
        TemporalEnsemble::new(4, 12, TemporalEnsembleConfig { tau: 0.5, ..Default::default() }).unwrap()
    }

    #[test]
    fn equals_the_weighted_mean_of_all_predictions_of_a_sample() {
        let mut labeler = labeler();
        let mut seen: Vec<Vec<Vec<f64>>> = vec![Vec::new(); 12];
        for t in 0..10 {
            let found = labeler.label(&batch(t)).unwrap();
            let rows = Vec::<Vec<f64>>::try_from(probabilities(t).tensor()).unwrap();
            for (&sample, row) in batch(t).samples().iter().zip(rows) {
                seen[sample as usize].push(row);
            }
            for (i, &sample) in batch(t).samples().iter().enumerate() {
                // The k-th last prediction has the weight alpha^k.
                let history = &seen[sample as usize];
                let weights: Vec<f64> = (0..history.len()).rev().map(|k| 0.6_f64.powi(k as i32)).collect();
                let mean: Vec<f64> = (0..4)
                    .map(|c| {
                        let sum: f64 = history.iter().zip(&weights).map(|(p, w)| p[c] * w).sum();
                        sum / weights.iter().sum::<f64>()
                    })
                    .collect();
                assert_near(&found.soft.as_ref().unwrap().get(i as i64), &mean, 1e-5);
                let most = mean.iter().copied().fold(0.0, f64::max);
                assert_eq!(found.weights.double_value(&[i as i64]) > 0.0, most >= 0.5, "{mean:?}");
            }
        }
        assert!(seen.iter().all(|history| history.len() > 5));
    }

    #[test]
    fn the_first_mean_is_the_first_prediction() {
        let mut labeler = labeler();
        let found = labeler.label(&batch(0)).unwrap();
        let p = Vec::<f64>::try_from(probabilities(0).tensor().view(-1)).unwrap();
        assert_near(&found.soft.unwrap(), &p, 1e-6);
    }

    #[test]
    fn a_sample_that_stands_twice_in_a_batch_counts_twice() {
        let mut labeler = TemporalEnsemble::new(2, 1, TemporalEnsembleConfig::default()).unwrap();
        let p = Probabilities::new(&Tensor::from_slice2(&[[1.0_f32, 0.0], [0.0, 1.0]])).unwrap();
        let scores = IndexedProbabilities::new(&Tensor::from_slice(&[0_i64, 0]), p).unwrap();
        let soft = labeler.label(&scores).unwrap().soft.unwrap();
        assert_near(&soft, &[0.375, 0.625, 0.375, 0.625], 1e-6); // 0.6 : 1
    }

    #[test]
    fn goes_on_from_a_checkpoint_as_if_never_stopped() {
        let (mut whole, mut first) = (labeler(), labeler());
        for t in 0..5 {
            whole.label(&batch(t)).unwrap();
            first.label(&batch(t)).unwrap();
        }
        let mut second = labeler();
        second.restore(&first.state()).unwrap();
        for t in 5..10 {
            let (a, b) = (whole.label(&batch(t)).unwrap(), second.label(&batch(t)).unwrap());
            assert_eq!((a.labels, a.weights, a.soft), (b.labels, b.weights, b.soft));
        }
        assert_eq!(whole.state(), second.state());
    }

    #[test]
    fn labels_an_empty_batch() {
        let none = Probabilities::new(&Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))).unwrap();
        let samples = Tensor::zeros([0], (Kind::Int64, Device::Cpu));
        let found = labeler().label(&IndexedProbabilities::new(&samples, none).unwrap()).unwrap();
        assert_eq!(found.soft.unwrap().size(), [0, 4]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let mut labeler = labeler();
        let error = labeler.targets(&[3]).unwrap_err().to_string();
        assert_eq!(error, "samples = 3: a sample with a prediction");
        let error = labeler.targets(&[12]).unwrap_err().to_string();
        assert_eq!(error, "samples = 12: 0 to 11, a position in the set");
        let mut small = TemporalEnsemble::new(4, 6, TemporalEnsembleConfig::default()).unwrap();
        assert!(small.label(&batch(0)).unwrap_err().to_string().ends_with("below 6, the number of samples"));
        let error = labeler.restore(&small.state()).unwrap_err().to_string();
        assert_eq!(error, "state.ensemble: expected [12, 4] Float, found [6, 4] Float");
        let config = TemporalEnsembleConfig { momentum: 1.0, ..Default::default() };
        assert!(TemporalEnsemble::new(4, 6, config).is_err());
    }
}
