//! An encoder with a linear layer on its features, and the moving average of both, which is what comes out of training
//! (FixMatch, Sohn et al. 2020, section 2.3: a momentum of 0.999; mean teacher's teacher, Tarvainen and Valpola 2017).
//!
//! ```text
//! m_t = min(m, (1 + t) / (10 + t))        average = m_t average + (1 - m_t) weights
//! ```
//! The papers train for a million steps; over a few hundred, an average at 0.999 would still be what the network was at the
//! start. With the momentum rising so (TensorFlow's `ExponentialMovingAverage` with `num_updates`), it reaches back over a
//! ninth of the steps so far until that is longer than the momentum says. BatchNorm's statistics are averaged like the
//! weights.

use selfsup_core::ema::Buffers;
use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{Ema, Encoder, Error, Mode, Result, Site, Step, Tensor, tch};

/// The momentum of the average after `step` steps: `momentum`, and less in the first steps.
pub fn average_momentum(momentum: f64, step: u64) -> f64 {
    momentum.min((1.0 + step as f64) / (10.0 + step as f64))
}

/// A linear classifier on an encoder, and the moving average of both.
#[derive(Debug)]
pub struct Classifier<E: ?Sized> {
    head: Linear,
    average: Box<E>,
    average_head: Linear,
    ema: Ema,
    momentum: f64,
    classes: i64,
}

impl<E: Encoder + ?Sized> Classifier<E> {
    /// Makes the linear layer and the average for the site's encoder, as its weights are now.
    ///
    /// # Errors
    /// [`Error::Config`] when there are less than two classes, or the momentum lies outside `[0, 1)`.
    pub fn new(site: &Site<E>, classes: i64, momentum: f64) -> Result<Self> {
        if classes < 2 {
            return Err(Error::config("classes", classes, "at least 2 to tell apart"));
        }
        if !(0.0..1.0).contains(&momentum) {
            return Err(Error::config("momentum", momentum, "from 0 to below 1"));
        }
        let path = site.path();
        let head = Linear::new(&path / "head", site.dim(), classes, Bias::Yes);
        let average = (site.twin)(&path / "teacher" / "encoder")?;
        let average_head = Linear::new(&path / "teacher" / "head", site.dim(), classes, Bias::Yes);
        let ema = site.tie_teacher(&["head"], Buffers::Average)?;
        Ok(Classifier { head, average, average_head, ema, momentum, classes })
    }

    /// The number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// The logits `[N, classes]` of images that are learned from.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn learn(&self, encoder: &E, images: &Tensor) -> Result<Tensor> {
        Ok(self.head.forward(&encoder.encode(images, Mode::Train)?))
    }

    /// The logits `[N, classes]` of the average, applied, without gradient.
    ///
    /// # Errors
    /// Those of the encoder.
    pub fn apply_average(&self, images: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| Ok(self.average_head.forward(&self.average.encode(images, Mode::Eval)?)))
    }

    /// Moves the average towards the weights after the optimizer's step.
    pub fn follow(&self, step: &Step) {
        self.ema.update(average_momentum(self.momentum, step.step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, batch, fill};

    #[test]
    fn the_momentum_rises_to_its_value() {
        // tf.train.ExponentialMovingAverage: min(decay, (1 + num_updates) / (10 + num_updates))
        let found = [0, 1, 90, 8_989, 8_991, 1_000_000].map(|step| average_momentum(0.999, step));
        for (found, expected) in found.iter().zip([0.1, 2.0 / 11.0, 0.91, 8990.0 / 8999.0, 0.999, 0.999]) {
            assert!((found - expected).abs() < 1e-12, "{found} instead of {expected}");
        }
    }

    #[test]
    fn the_average_follows_the_formula_and_is_what_is_applied() {
        let (store, encoder) = Pixels::stored();
        let classifier = Classifier::new(&Pixels::site(&store, &encoder), 3, 0.6).unwrap();
        let images = &batch(5, 1, 0.0).views[0];
        let learned = classifier.learn(&encoder, images).unwrap();
        assert!(learned.allclose(&classifier.apply_average(images).unwrap(), 0.0, 1e-6, false));
        let names = ["encoder.weight", "encoder.bias", "objective.head.weight", "objective.head.bias"];
        let value = |name: &str| store.variables()[name].double_value(&[1]);
        let mut expected = value("objective.teacher.head.bias");
        fill(&store, &names);
        for step in 0..20 {
            classifier.follow(&Step::single(step, 20, 0, 0));
            let momentum = 0.6_f64.min((1.0 + step as f64) / (10.0 + step as f64));
            expected = momentum * expected + (1.0 - momentum) * value("objective.head.bias");
            assert!((value("objective.teacher.head.bias") - expected).abs() < 1e-6);
        }
        assert!(store.trainable_variables().len() == 4);
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let error = |classes, momentum| Classifier::new(&site, classes, momentum).unwrap_err().to_string();
        assert_eq!(error(1, 0.9), "classes = 1: at least 2 to tell apart");
        assert_eq!(error(3, 1.0), "momentum = 1: from 0 to below 1");
    }
}
