//! The learning rate over a run, and the weight decay where it changes.

use crate::optimizer::check_not_negative;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How the learning rate goes from its base to the end, after a linear warm-up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The shape after warm-up.
    pub kind: ScheduleKind,
    /// The epochs, or parts of one, in which the rate rises linearly from 0. Absent, they are the 10 of most papers, and
    /// a tenth of a run that is shorter than 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_epochs: Option<f64>,
    /// The rate at the end, as a share of the base.
    pub final_share: f64,
    /// The batch size for which the base rate is meant: it is multiplied by the run's batch size over this (Goyal et
    /// al. 2017; 256 in most papers). 0 takes the base as it is.
    pub reference_batch: u64,
    /// The weight decay at the end of the run: from the optimizer's own it goes there along half a cosine, without
    /// warm-up (Caron et al. 2021, DINO, section 3.1: 0.04 to 0.4). Absent, it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_weight_decay: Option<f64>,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        ScheduleConfig {
            kind: ScheduleKind::Cosine,
            warmup_epochs: None,
            final_share: 0.0,
            reference_batch: 256,
            final_weight_decay: None,
        }
    }
}

/// The shape of a schedule after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScheduleKind {
    /// Half a cosine down to the final share (Loshchilov and Hutter 2017, *SGDR*, without restarts).
    Cosine,
    /// The base rate to the end.
    Constant,
}

/// The learning rate of every step of a run.
#[derive(Clone, Debug)]
pub struct Schedule {
    kind: ScheduleKind,
    base: f64,
    last: f64,
    warmup: f64,
    total: f64,
    final_weight_decay: Option<f64>,
}

impl Schedule {
    /// The schedule of a run of `total` steps with a batch of `batch_size` samples each.
    ///
    /// # Errors
    /// [`Error::Config`] when the warm-up is negative or longer than the run, the final share lies outside `[0, 1]`, or
    /// the final weight decay is negative.
    pub fn new(
        config: &ScheduleConfig,
        base_rate: f64,
        batch_size: u64,
        steps_per_epoch: u64,
        total: u64,
    ) -> Result<Self> {
        let epochs = total as f64 / steps_per_epoch.max(1) as f64;
        let warmup_epochs = config.warmup_epochs.unwrap_or((epochs / 10.0).min(10.0));
        if !(0.0..=epochs).contains(&warmup_epochs) {
            let expected = format!("from 0 to the {epochs} epochs of the run");
            return Err(Error::config("warmup_epochs", warmup_epochs, expected));
        }
        let warmup = warmup_epochs * steps_per_epoch as f64;
        if !(0.0..=1.0).contains(&config.final_share) {
            return Err(Error::config("final_share", config.final_share, "a share from 0 to 1"));
        }
        let scale = match config.reference_batch {
            0 => 1.0,
            reference => batch_size as f64 / reference as f64,
        };
        if let Some(decay) = config.final_weight_decay {
            check_not_negative("final_weight_decay", decay)?;
        }
        let base = base_rate * scale;
        Ok(Schedule {
            kind: config.kind,
            base,
            last: base * config.final_share,
            warmup,
            total: total as f64,
            final_weight_decay: config.final_weight_decay,
        })
    }

    /// The rate before warm-up and decay.
    pub fn base(&self) -> f64 {
        self.base
    }

    /// The rate of step `step`, counted from 0. The first step of a warm-up already moves.
    pub fn at(&self, step: u64) -> f64 {
        let done = step as f64;
        if done < self.warmup {
            return self.base * ((done + 1.0) / self.warmup).min(1.0);
        }
        match self.kind {
            ScheduleKind::Constant => self.base,
            ScheduleKind::Cosine => {
                let progress = (done - self.warmup) / (self.total - self.warmup).max(1.0);
                cosine(self.base, self.last, progress)
            }
        }
    }

    /// The weight decay of step `step` of an optimizer whose own is `base`.
    pub fn weight_decay_at(&self, step: u64, base: f64) -> f64 {
        let end = self.final_weight_decay.unwrap_or(base);
        cosine(base, end, step as f64 / self.total.max(1.0))
    }
}

/// Half a cosine from `start` to `end`.
fn cosine(start: f64, end: f64, progress: f64) -> f64 {
    end + (start - end) * ((std::f64::consts::PI * progress).cos() + 1.0) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(config: ScheduleConfig) -> Result<Schedule> {
        Schedule::new(&config, 0.2, 512, 10, 100)
    }

    #[test]
    fn rises_linearly_then_falls_along_a_cosine() {
        let config = ScheduleConfig { warmup_epochs: Some(2.0), ..Default::default() };
        let schedule = schedule(config).unwrap();
        assert!((schedule.base() - 0.4).abs() < 1e-12, "scaled from 256 to 512");
        assert!((schedule.at(0) - 0.02).abs() < 1e-12);
        assert!((schedule.at(19) - 0.4).abs() < 1e-12);
        // torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=80), base 0.4, after 0, 40 and 79 steps
        assert!((schedule.at(20) - 0.4).abs() < 1e-12);
        assert!((schedule.at(60) - 0.2).abs() < 1e-12);
        assert!((schedule.at(99) - 0.000_154_2).abs() < 1e-7, "{}", schedule.at(99));
    }

    #[test]
    fn ends_at_the_final_share_and_stays_constant_when_asked() {
        let config = ScheduleConfig {
            warmup_epochs: Some(0.0),
            final_share: 0.5,
            reference_batch: 0,
            ..Default::default()
        };
        assert!((schedule(config.clone()).unwrap().at(100) - 0.1).abs() < 1e-12);
        let constant = schedule(ScheduleConfig { kind: ScheduleKind::Constant, ..config }).unwrap();
        assert!((constant.at(0) - 0.2).abs() < 1e-12 && (constant.at(99) - 0.2).abs() < 1e-12);
    }

    // i = np.arange(100); print((0.4 + 0.5 * (0.04 - 0.4) * (1 + np.cos(np.pi * i / 100)))[[0, 25, 50, 99]])
    #[test]
    fn weight_decay_follows_dinos_cosine_through_the_warm_up() {
        let config = ScheduleConfig { final_weight_decay: Some(0.4), ..Default::default() };
        let rising = schedule(config).unwrap();
        for (step, expected) in [(0, 0.04), (25, 0.092_720_779_4), (50, 0.22), (99, 0.399_911_181_7)] {
            let found = rising.weight_decay_at(step, 0.04);
            assert!((found - expected).abs() < 1e-9, "{found} at {step}");
        }
        let constant = schedule(ScheduleConfig::default()).unwrap();
        assert_eq!([0, 33, 99].map(|step| constant.weight_decay_at(step, 0.04)), [0.04; 3]);
        let error = schedule(ScheduleConfig { final_weight_decay: Some(-0.1), ..Default::default() });
        assert_eq!(error.unwrap_err().to_string(), "final_weight_decay = -0.1: a number from 0 up");
    }

    #[test]
    fn warms_up_for_a_tenth_of_a_short_run_and_ten_epochs_of_a_long_one() {
        let epochs =
            |total| Schedule::new(&ScheduleConfig::default(), 1.0, 256, 10, total).unwrap().warmup / 10.0;
        assert_eq!([20, 300, 1000, 4000].map(epochs), [0.2, 3.0, 10.0, 10.0]);
    }

    #[test]
    fn rejects_a_warm_up_longer_than_the_run() {
        let error = schedule(ScheduleConfig { warmup_epochs: Some(11.0), ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "warmup_epochs = 11: from 0 to the 10 epochs of the run");
        assert!(schedule(ScheduleConfig { final_share: 2.0, ..Default::default() }).is_err());
    }
}
