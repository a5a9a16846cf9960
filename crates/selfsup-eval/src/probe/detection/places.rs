//! The places of a level as the problems that are fitted to them.

use crate::Logistic;
use crate::logistic::{Link, Problem};
use crate::probe::regression::RegressionSet;
use selfsup_core::{Kind, Result, Tensor};

/// The places that a fit takes: those with a box first, then background.
pub(super) struct Places {
    /// `[P, F]` Float.
    pub(super) x: Tensor,
    /// Of the places with a box.
    pub(super) classes: Vec<i64>,
    /// `[B, 4]` Double, in cells.
    pub(super) distances: Tensor,
    /// `[B, 1]` Double.
    pub(super) centre: Tensor,
    pub(super) boxes: usize,
    /// What is added to the background's score, of which another share was drawn than of boxes.
    pub(super) correction: f64,
}

impl Places {
    pub(super) fn with_box(&self) -> Tensor {
        self.x.narrow(0, 0, self.classes.len() as i64)
    }

    /// Background, 0, and the classes that occur, from 1.
    pub(super) fn known(&self) -> Vec<i64> {
        let mut known: Vec<i64> = self.classes.iter().map(|class| class + 1).collect();
        known.push(0);
        known.sort_unstable();
        known.dedup();
        known
    }

    /// Shares of the `known` classes at every place, `[P, K]` Double; places of other classes have none.
    pub(super) fn targets(&self, known: &[i64]) -> Tensor {
        let places = self.x.size()[0] as usize;
        let mut targets = vec![0.0; places * known.len()];
        for place in 0..places {
            let class = self.classes.get(place).map_or(0, |class| class + 1);
            if let Ok(column) = known.binary_search(&class) {
                targets[place * known.len() + column] = 1.0;
            }
        }
        Tensor::from_slice(&targets).reshape([places as i64, known.len() as i64])
    }

    pub(super) fn class_problem(&self, known: &[i64]) -> Result<Problem> {
        Problem::with_targets(&self.x, &self.targets(known), Tensor::from_slice(known), Link::Softmax)
    }

    /// The cross-entropy of what was fitted to places drawn with another `correction`.
    pub(super) fn class_loss(&self, fitted: &Logistic, known: &[i64], correction: f64) -> Result<f64> {
        let scores = fitted.logits(&self.x)?.to_kind(Kind::Double);
        let _ = scores.select(1, 0).f_add_scalar_(correction - self.correction)?;
        let log_p = scores.log_softmax(1, None);
        Ok(f64::try_from(-(log_p * self.targets(known)).sum(None))? / self.x.size()[0] as f64)
    }

    pub(super) fn centre_problem(&self) -> Result<Problem> {
        Problem::with_targets(&self.with_box(), &self.centre, Tensor::from_slice(&[0_i64]), Link::Sigmoid)
    }

    pub(super) fn centre_loss(&self, fitted: &Logistic) -> Result<f64> {
        let z = fitted.logits(&self.with_box())?.to_kind(Kind::Double);
        Ok(f64::try_from((z.softplus() - z * &self.centre).mean(None))?)
    }

    pub(super) fn edges(&self) -> Result<RegressionSet> {
        RegressionSet::new(&self.with_box(), &self.distances)
    }
}
