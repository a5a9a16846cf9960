//! Learning from the labelled images alone: what every use of unlabelled ones is measured against.
//!
//! ```text
//! L = 1/B sum_b v_b H(y_b, p(x_b))
//! ```
//! `v_b` is the weight of a label. The averaged weights come out, and mixing and a curriculum are there, as in the methods that
//! it is compared with; the curriculum goes by the weights, so that labels that a machine gave (`selfsup label`) are learned
//! from the most reliable on. Unlike [`Supervised`](crate::Supervised) it takes the batches of semi-supervised training, and
//! looks at no unlabelled image.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::curriculum::Curriculum;
use super::mixing::{Mixing, Nearer};
use super::parts::{accuracy, checked, cross_entropy, mixed, mixed_targets};
use selfsup_core::{Encoder, Kind, LabelledAndUnlabelled, Loss, Objective, Result, Site, Step, Tensor, nn};
use serde::{Deserialize, Serialize};

/// Settings of [`LabelledOnly`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LabelledOnlyConfig {
    /// The momentum of the averaged weights.
    pub momentum: f64,
    /// How images are mixed.
    pub mixing: Mixing,
    /// How many labelled samples of a batch are admitted when, by the weights of their labels; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
}

impl Default for LabelledOnlyConfig {
    fn default() -> Self {
        LabelledOnlyConfig { momentum: 0.999, mixing: Mixing::default(), curriculum: None }
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
        config.curriculum.map_or(Ok(()), |curriculum| curriculum.check())?;
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
        let admitted = self.config.curriculum.map(|c| c.admitted(batch.weights, step.progress())); // [B]
        let targets = match &admitted {
            Some(admitted) => batch.targets(classes) * admitted.unsqueeze(1),
            None => batch.targets(classes),
        }; // [B, C]
        let loss = Loss::new(cross_entropy(&logits, &mixed_targets(mix.as_ref(), targets)?))
            .with("labelled_accuracy", &accuracy(&logits, batch.labels));
        Ok(match admitted {
            Some(admitted) => loss.with("labelled_coverage", &admitted.mean(Kind::Float)),
            None => loss,
        })
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
    use selfsup_core::TensorExt;

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
    fn a_curriculum_learns_from_the_most_reliable_labels_first() {
        let curriculum = Some(Curriculum { start: 0.4, until: 0.5 });
        let (_store, encoder, mut objective) =
            setup(&LabelledOnlyConfig { curriculum, ..Default::default() });
        let mut batch = labelled_and_unlabelled(0);
        batch.weights = Tensor::from_slice(&[0.2_f32, 0.9, 0.5]);
        let logits = objective.classifier.learn(&encoder, &batch.labelled.views[0]).unwrap();
        let log = logits.log_softmax(1, Kind::Double);
        // 0.4 and 0.7 of three are two and three.
        for (step, admitted) in [(0, &[1, 2][..]), (25, &[0, 1, 2]), (80, &[0, 1, 2])] {
            let loss = objective.loss(&encoder, &batch, &Step::single(step, 100, 0, 0)).unwrap();
            let term = |&i: &i64| {
                -batch.weights.double_value(&[i]) * log.double_value(&[i, [2, 0, 1][i as usize]]) / 3.0
            };
            let expected: f64 = admitted.iter().map(term).sum();
            assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-6, "{step}");
            let found = loss.parts.iter().find(|(name, _)| name == "labelled_coverage").unwrap().1.scalar();
            assert!((found.unwrap() - admitted.len() as f64 / 3.0).abs() < 1e-6);
        }
        let (store, encoder) = Pixels::stored();
        let wrong = Some(Curriculum { start: 2.0, until: 0.5 });
        let config = LabelledOnlyConfig { curriculum: wrong, ..Default::default() };
        let error = LabelledOnly::new(&Pixels::site(&store, &encoder), 3, &config).unwrap_err().to_string();
        assert_eq!(error, "curriculum.start = 2: a share from 0 to 1");
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
