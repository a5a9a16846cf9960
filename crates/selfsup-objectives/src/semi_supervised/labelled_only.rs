//! Learning from the labelled images alone: what every use of unlabelled ones is measured against.
//!
//! ```text
//! L = 1/B sum_b v_b H(y_b, p(x_b))
//! ```
//! The averaged weights come out, and mixing is there, as in the methods that it is compared with. Unlike
//! [`Supervised`](crate::Supervised) it takes the batches of semi-supervised training, and looks at no unlabelled image.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::mixing::{Mixing, Nearer};
use super::parts::{accuracy, checked, cross_entropy, mixed, mixed_targets};
use selfsup_core::{Encoder, LabelledAndUnlabelled, Loss, Objective, Result, Site, Step, Tensor, nn};
use serde::{Deserialize, Serialize};

/// Settings of [`LabelledOnly`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelledOnlyConfig {
    /// The momentum of the averaged weights.
    pub momentum: f64,
    /// How images are mixed.
    pub mixing: Mixing,
}

impl Default for LabelledOnlyConfig {
    fn default() -> Self {
        LabelledOnlyConfig { momentum: 0.999, mixing: Mixing::default() }
    }
}

/// A classifier that learns from few labels and nothing else.
#[derive(Debug)]
pub struct LabelledOnly<E: ?Sized> {
    classifier: Classifier<E>,
    config: LabelledOnlyConfig,
}

impl<E: Encoder + ?Sized> LabelledOnly<E> {
    /// Makes the classifier for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`](selfsup_core::Error::Config) with the field that cannot work.
    pub fn new(site: &Site<E>, classes: i64, config: &LabelledOnlyConfig) -> Result<Self> {
        config.mixing.check()?;
        let classifier = Classifier::new(site, classes, config.momentum)?;
        Ok(LabelledOnly { classifier, config: config.clone() })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for LabelledOnly<E> {
    type Batch = LabelledAndUnlabelled;

    fn loss(&mut self, encoder: &E, batch: &LabelledAndUnlabelled, step: &Step) -> Result<Loss> {
        let classes = self.classifier.classes();
        let batch = checked(batch, classes, 0..=usize::MAX)?;
        let mix = batch.mix(&self.config.mixing, batch.labelled, Nearer::Any, 0, step)?;
        let logits = self.classifier.learn(encoder, &mixed(mix.as_ref(), batch.labelled)?)?; // [B, C]
        let loss = cross_entropy(&logits, &mixed_targets(mix.as_ref(), batch.targets(classes))?);
        Ok(Loss::new(loss).with("labelled_accuracy", &accuracy(&logits, batch.labels)))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.classifier.follow(step);
        Ok(())
    }
}

impl<E: Encoder + ?Sized> SemiSupervised<E> for LabelledOnly<E> {
    fn classify(&self, images: &Tensor) -> Result<Tensor> {
        self.classifier.apply_average(images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingKind;
    use super::super::parts::fixture::{fill, labelled_and_unlabelled};
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients};
    use selfsup_core::{Kind, TensorExt};

    fn setup(config: &LabelledOnlyConfig) -> (nn::VarStore, Pixels, LabelledOnly<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let objective = LabelledOnly::new(&Pixels::site(&store, &encoder), 3, config).unwrap();
        fill(&store);
        (store, encoder, objective)
    }

    #[test]
    fn equals_cross_entropy_and_looks_at_no_unlabelled_image() {
        let (store, encoder, mut objective) = setup(&LabelledOnlyConfig::default());
        let step = Step::single(0, 1, 0, 0);
        let batch = labelled_and_unlabelled(0);
        let loss = objective.loss(&encoder, &batch, &step).unwrap();
        let logits = objective.classifier.learn(&encoder, &batch.labelled.views[0]).unwrap();
        let expected = logits.cross_entropy_for_logits(batch.labelled.labels.as_ref().unwrap());
        assert!((loss.total.scalar().unwrap() - expected.scalar().unwrap()).abs() < 1e-6);
        loss.total.backward();
        assert_gradients(&store, &[]);
        let with = objective.loss(&encoder, &labelled_and_unlabelled(2), &step).unwrap();
        assert_eq!(with.total, loss.total);
    }

    #[test]
    fn mixes_images_and_labels() {
        let mixing = Mixing { kind: MixingKind::Mixup, alpha: 1.0 };
        let (_store, encoder, mut objective) = setup(&LabelledOnlyConfig { mixing, ..Default::default() });
        let (batch, step) = (labelled_and_unlabelled(0), Step::single(3, 9, 0, 5));
        let found = objective.loss(&encoder, &batch, &step).unwrap().total.scalar().unwrap();
        let images = &batch.labelled.views[0];
        let parts = checked(&batch, 3, 0..=0).unwrap();
        let mix = parts.mix(&mixing, images, Nearer::Any, 0, &step).unwrap().unwrap();
        let p = objective.classifier.learn(&encoder, &mix.images(images).unwrap()).unwrap();
        let p = p.log_softmax(1, Kind::Double);
        let mut expected = 0.0;
        for i in 0..3 {
            for (j, share) in [(i, mix.share), (mix.partners[i as usize], 1.0 - mix.share)] {
                expected -= share * p.double_value(&[i, [2, 0, 1][j as usize]]) / 3.0;
            }
        }
        assert!((found - expected).abs() < 1e-5);
    }

    #[test]
    fn the_average_is_what_classifies() {
        let (store, _encoder, objective) = setup(&LabelledOnlyConfig::default());
        let images = &labelled_and_unlabelled(0).labelled.views[0];
        let v = store.variables();
        let (w, b) = (&v["objective.teacher.encoder.weight"], &v["objective.teacher.encoder.bias"]);
        let features = images.flatten(1, -1).linear(w, Some(b));
        let (w, b) = (&v["objective.teacher.head.weight"], &v["objective.teacher.head.bias"]);
        let found = objective.classify(images).unwrap();
        assert!(found.allclose(&features.linear(w, Some(b)), 0.0, 1e-6, false) && !found.requires_grad());
    }
}
