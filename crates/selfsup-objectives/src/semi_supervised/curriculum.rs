//! Easy samples first: of every batch only the most reliable are learned from, more and more of them as the run goes on
//! (self-paced learning, Kumar et al. 2010; Cascante-Bonilla et al. 2021, *Curriculum Labeling*, who admit a growing
//! percentile of the confidences).
//!
//! ```text
//! share(t) = start + (1 - start) min(t / until, 1)        admitted_i = 1(i is among the ceil(share N) most reliable)
//! ```
//! Samples are ranked within their batch, which is drawn from the whole set, so that nothing has to be remembered. What
//! reliable means, the method says: for unlabelled samples the confidence at that step, of the model or of its teacher, for
//! labelled ones (of [`LabelledOnly`](crate::LabelledOnly)) the weight of the label. It comes after whatever the method itself
//! rejects.

use selfsup_core::{Error, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// How many samples are admitted when.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Curriculum {
    /// The share that is admitted at the start.
    pub start: f64,
    /// The share of the run at which all are.
    pub until: f64,
}

impl Default for Curriculum {
    /// A fifth at the start, all from the middle of the run on.
    fn default() -> Self {
        Curriculum { start: 0.2, until: 0.5 }
    }
}

impl Curriculum {
    /// Whether the values make sense.
    ///
    /// # Errors
    /// [`Error::Config`] when a share lies outside `[0, 1]`.
    pub fn check(&self) -> Result<()> {
        for (field, value) in [("start", self.start), ("until", self.until)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(Error::config(format!("curriculum.{field}"), value, "a share from 0 to 1"));
            }
        }
        Ok(())
    }

    /// The share that is admitted, 0 to 1, where `progress`, 0 to 1, is the part of the run that is done.
    pub fn share(&self, progress: f64) -> f64 {
        if progress >= self.until { 1.0 } else { self.start + (1.0 - self.start) * progress / self.until }
    }

    /// 1 for samples that are admitted, 0 for others; of equally reliable ones the first come first. `progress`, 0 to 1, is the
    /// part of the run that is done.
    ///
    /// # Shapes
    /// `reliability` `[N]` of any scale, the higher the better; returns `[N]` Float.
    pub fn admitted(&self, reliability: &Tensor, progress: f64) -> Tensor {
        let n = reliability.size().first().copied().unwrap_or(0);
        let count = ((self.share(progress) * n as f64 - 1e-9).ceil() as i64).clamp(0, n);
        let order = reliability.argsort_stable(true, 0, true); // [N]
        let admitted = Tensor::zeros([n], (Kind::Float, reliability.device()));
        admitted.index_fill(0, &order.narrow(0, 0, count), 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(curriculum: Curriculum, reliability: &[f32], progress: f64) -> Vec<f64> {
        Vec::<f64>::try_from(curriculum.admitted(&Tensor::from_slice(reliability), progress)).unwrap()
    }

    #[test]
    fn admits_the_most_reliable_and_ever_more() {
        let curriculum = Curriculum { start: 0.25, until: 0.5 };
        let reliability = [0.3, 0.9, 0.5, 0.7];
        assert_eq!(admitted(curriculum, &reliability, 0.0), [0.0, 1.0, 0.0, 0.0]);
        assert_eq!(admitted(curriculum, &reliability, 1.0 / 6.0), [0.0, 1.0, 0.0, 1.0]);
        assert_eq!(admitted(curriculum, &reliability, 0.3), [0.0, 1.0, 1.0, 1.0]);
        assert_eq!(admitted(curriculum, &reliability, 0.5), [1.0; 4]);
        assert_eq!(admitted(curriculum, &reliability, 0.99), [1.0; 4]);
    }

    #[test]
    fn ties_go_to_the_first_and_an_empty_batch_has_none() {
        let curriculum = Curriculum { start: 0.5, until: 1.0 };
        assert_eq!(admitted(curriculum, &[0.5; 4], 0.0), [1.0, 1.0, 0.0, 0.0]);
        assert!(admitted(curriculum, &[], 0.0).is_empty());
        assert_eq!(admitted(Curriculum { start: 0.0, until: 1.0 }, &[0.5; 2], 0.0), [0.0, 0.0]);
    }

    #[test]
    fn refuses_what_is_no_share() {
        let error = Curriculum { start: 20.0, until: 0.5 }.check().unwrap_err().to_string();
        assert_eq!(error, "curriculum.start = 20: a share from 0 to 1");
        assert!(Curriculum { start: 0.2, until: -0.5 }.check().is_err());
    }
}
