//! Supervised classification: the encoder and a linear layer learn the labels of the set. It is what self-supervised
//! encoders are measured against.
//!
//! ```text
//! L = mean over views and images of  -sum_c q_c log softmax(W f(x) + b)_c,
//! q_c = (1 - epsilon) 1(c = y) + epsilon / C
//! ```
//!
//! epsilon is the label smoothing of Szegedy et al. 2016, *Rethinking the Inception Architecture for Computer Vision*,
//! section 7; 0 is plain cross-entropy. The labels come with the batch ([`ImageViews::labels`]); a set without is refused.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::tch::Reduction;
use selfsup_core::{
    Encoder, Error, ImageViews, Judgement, Kind, Loss, Mode, Number, Objective, Result, Site, Step, Tensor,
    check_kind, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Supervised`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupervisedConfig {
    /// The classes of the labels, which are 0 to `classes - 1`.
    pub classes: i64,
    /// The share epsilon of the target that is spread over all classes; 0.1 in section 7 of the paper.
    pub label_smoothing: f64,
}

impl Default for SupervisedConfig {
    fn default() -> Self {
        SupervisedConfig { classes: 10, label_smoothing: 0.0 }
    }
}

/// A linear classifier on the encoder's features, both of which learn.
#[derive(Debug)]
pub struct Supervised {
    head: Linear,
    config: SupervisedConfig,
}

impl Supervised {
    /// Makes the classifier for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when there are less than two classes, or the label smoothing is not in `[0, 1)`.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SupervisedConfig) -> Result<Self> {
        if config.classes < 2 {
            return Err(Error::config("classes", config.classes, "at least 2 to tell apart"));
        }
        if !(0.0..1.0).contains(&config.label_smoothing) {
            return Err(Error::config("label_smoothing", config.label_smoothing, "from 0 to below 1"));
        }
        let head = Linear::new(site.path() / "head", site.dim(), config.classes, Bias::Yes);
        Ok(Supervised { head, config: config.clone() })
    }

    /// The logits `[V N, classes]` of all views of a batch, and the labels `[V N]` they should have.
    fn logits<E: Encoder + ?Sized>(
        &self,
        encoder: &E,
        batch: &ImageViews,
        mode: Mode,
    ) -> Result<(Tensor, Tensor)> {
        let Some(view0) = batch.views.first() else {
            return Err(Error::config("views", 0, "at least one view an image"));
        };
        let [n, c, h, w] = check_shape("view 0", view0, [-1, -1, -1, -1])?;
        for (i, view) in batch.views.iter().enumerate() {
            check_shape(&format!("view {i}"), view, [n, c, h, w])?;
        }
        let Some(labels) = &batch.labels else {
            let expected = "a data set with classes: supervised training learns from labels";
            return Err(Error::config("labels", "none", expected));
        };
        check_shape("labels", labels, [n])?;
        check_kind("labels", labels, Kind::Int64)?;
        if n == 0 {
            return Err(Error::config("views", "no image", "at least one"));
        }
        let (low, high) = (i64::try_from(labels.min())?, i64::try_from(labels.max())?);
        if low < 0 || high >= self.config.classes {
            let expected = format!("0 to {}, as `classes` says", self.config.classes - 1);
            return Err(Error::config("labels", format!("{low} to {high}"), expected));
        }
        let features = encoder.encode(&Tensor::cat(&batch.views, 0), mode)?; // [V N, D]
        Ok((self.head.forward(&features), labels.repeat([batch.views.len() as i64])))
    }
}

/// The share of logits `[N, C]` that are largest at their label `[N]`.
fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1, false).eq_tensor(labels).to_kind(Kind::Float).mean(None)
}

impl<E: Encoder + ?Sized> Objective<E> for Supervised {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let (logits, labels) = self.logits(encoder, batch, Mode::Train)?;
        let smoothing = self.config.label_smoothing;
        let loss = logits.cross_entropy_loss(&labels, None::<Tensor>, Reduction::Mean, -100, smoothing);
        Ok(Loss::new(loss).with("accuracy", &accuracy(&logits, &labels)))
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        if batch.labels.is_none() {
            return Ok(Judgement::default());
        }
        let (logits, labels) = self.logits(encoder, batch, Mode::Eval)?;
        let accuracy = Number {
            name: "accuracy".into(),
            value: accuracy(&logits, &labels),
            reading: "The share of the images of which the head that was trained along tells the class.",
        };
        Ok(Judgement { numbers: vec![accuracy], ..Judgement::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, batch, fill};
    use selfsup_core::TensorExt;

    fn labelled(labels: &[i64], views: usize) -> ImageViews {
        ImageViews { labels: Some(Tensor::from_slice(labels)), ..batch(labels.len() as i64, views, 0.0) }
    }

    fn config(label_smoothing: f64) -> SupervisedConfig {
        SupervisedConfig { classes: 3, label_smoothing }
    }

    const NAMES: [&str; 4] =
        ["encoder.weight", "encoder.bias", "objective.head.weight", "objective.head.bias"];

    #[test]
    fn equals_the_formula_term_by_term() {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        for epsilon in [0.0, 0.1] {
            let mut objective = Supervised::new(&site, &config(epsilon)).unwrap();
            fill(&store, &NAMES);
            let images = labelled(&[2, 0, 1, 1], 2);
            let found = objective.loss(&encoder, &images, &Step::single(0, 1, 0, 0)).unwrap();
            let mut sum = 0.0;
            for view in &images.views {
                let logits = objective.head.forward(&encoder.encode(view, Mode::Eval).unwrap());
                for (i, y) in [2_usize, 0, 1, 1].into_iter().enumerate() {
                    let row = Vec::<f64>::try_from(logits.get(i as i64)).unwrap();
                    let total: f64 = row.iter().map(|x| x.exp()).sum();
                    for (c, x) in row.iter().enumerate() {
                        let q = if c == y { 1.0 - epsilon } else { 0.0 } + epsilon / 3.0;
                        sum -= q * (x.exp() / total).ln() / 8.0;
                    }
                }
            }
            assert!((found.total.scalar().unwrap() - sum).abs() < 1e-5);
        }
    }

    #[test]
    fn gradients_reach_encoder_and_head() {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let mut objective = Supervised::new(&site, &config(0.1)).unwrap();
        fill(&store, &NAMES);
        let loss = objective.loss(&encoder, &labelled(&[0, 1, 2], 1), &Step::single(0, 1, 0, 0)).unwrap();
        loss.total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn judges_by_accuracy_where_there_are_labels() {
        let (store, encoder) = Pixels::stored();
        let objective = Supervised::new(&Pixels::site(&store, &encoder), &config(0.0)).unwrap();
        fill(&store, &NAMES);
        let images = labelled(&[0, 0, 0, 0], 1);
        let logits = objective.head.forward(&encoder.encode(&images.views[0], Mode::Eval).unwrap());
        let best = Vec::<i64>::try_from(logits.argmax(1, false)).unwrap();
        let images = ImageViews { labels: Some(Tensor::from_slice(&best)), ..images };
        let judged = objective.judge(&encoder, &images).unwrap();
        let accuracy = &judged.numbers[0];
        assert_eq!((accuracy.name.as_ref(), accuracy.value.scalar().unwrap()), ("accuracy", 1.0));
        assert!(objective.judge(&encoder, &batch(2, 1, 0.0)).unwrap().numbers.is_empty());
    }

    #[test]
    fn rejects_labels_that_do_not_fit_and_bad_settings() {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let mut objective = Supervised::new(&site, &config(0.0)).unwrap();
        let mut refused = |images: ImageViews| {
            objective.loss(&encoder, &images, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        assert!(refused(batch(2, 1, 0.0)).starts_with("labels = none: a data set with classes"));
        assert_eq!(refused(labelled(&[0, 3], 1)), "labels = 0 to 3: 0 to 2, as `classes` says");
        let short = ImageViews { labels: Some(Tensor::from_slice(&[0_i64])), ..batch(2, 1, 0.0) };
        assert_eq!(refused(short), "labels: expected [2], found [1]");
        assert_eq!(refused(labelled(&[0], 0)), "views = 0: at least one view an image");
        let new = |config| Supervised::new(&site, &config).unwrap_err().to_string();
        assert_eq!(
            new(SupervisedConfig { classes: 1, ..config(0.0) }),
            "classes = 1: at least 2 to tell apart"
        );
        assert_eq!(new(config(1.0)), "label_smoothing = 1: from 0 to below 1");
    }
}
