//! A weight that rises from 0 to 1 over the first part of a run, while what a model says of unlabelled images is worth little.
//!
//! Linear: `t / T` (MixMatch, Berthelot et al. 2019; USB). Sigmoid: `exp(-5 (1 - t / T)^2)` (Laine and Aila 2017; mean teacher,
//! Tarvainen and Valpola 2017, section 3).

use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};

/// How a weight rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RampShape {
    /// Evenly.
    #[default]
    Linear,
    /// Slowly at first and at the end.
    Sigmoid,
}

/// When a weight rises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ramp {
    /// The share of the run at which it is 1; 0 for 1 from the start.
    pub until: f64,
    /// How it gets there.
    pub shape: RampShape,
}

impl Ramp {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] when the share lies outside `[0, 1]`.
    pub fn check(&self) -> Result<()> {
        if !(0.0..=1.0).contains(&self.until) {
            return Err(Error::config("ramp.until", self.until, "a share of the run from 0 to 1"));
        }
        Ok(())
    }

    /// The weight, 0 to 1, where `progress`, 0 to 1, is the part of the run that is done.
    pub fn at(&self, progress: f64) -> f64 {
        if progress >= self.until {
            return 1.0;
        }
        let x = progress / self.until;
        match self.shape {
            RampShape::Linear => x,
            RampShape::Sigmoid => (-5.0 * (1.0 - x).powi(2)).exp(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // def sigmoid_rampup(current, rampup_length):                     # mean-teacher, ramps.py of the authors
    //     phase = 1.0 - np.clip(current, 0.0, rampup_length) / rampup_length
    //     return float(np.exp(-5.0 * phase * phase))
    // [sigmoid_rampup(t, 80) for t in (0, 20, 40, 79, 80, 100)]
    #[test]
    fn rises_as_mean_teachers_does() {
        let ramp = Ramp { until: 0.8, shape: RampShape::Sigmoid };
        let expected = [
            (0, 0.006737946999),
            (20, 0.060054667895),
            (40, 0.286504796860),
            (79, 0.999219055),
            (80, 1.0),
            (100, 1.0),
        ];
        for (t, expected) in expected {
            assert!((ramp.at(t as f64 / 100.0) - expected).abs() < 1e-8, "{t}");
        }
    }

    #[test]
    fn rises_evenly_or_not_at_all() {
        let ramp = Ramp { until: 0.4, shape: RampShape::Linear };
        for (progress, expected) in [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)] {
            assert!((ramp.at(progress) - expected).abs() < 1e-12);
        }
        assert_eq!(Ramp::default().at(0.0), 1.0);
        let error = Ramp { until: 40.0, shape: RampShape::Linear }.check().unwrap_err().to_string();
        assert_eq!(error, "ramp.until = 40: a share of the run from 0 to 1");
    }
}
