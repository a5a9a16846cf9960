//! A student learns what a fine-tuned classifier says of unlabelled images.
//!
//! Chen, Kornblith, Swersky, Norouzi and Hinton 2020, *Big Self-Supervised Models are Strong Semi-Supervised Learners*
//! (SimCLRv2), section 2, equations 2 and 3, by the loss [`Distillation`]. With `P(y | x; tau)` the softmax of a network's
//! logits over tau,
//!
//! ```text
//! L = (1 - alpha) 1/B sum_b v_b H(y_b, P_s(x_b; 1)) + alpha 1/N sum_i w_i H(P_t(u_i; tau), P_s(u_i; tau))
//! ```
//! The teacher is a [`Teacher`] that the program hands in; it stays as it is, and is no part of the checkpoint. As in the paper
//! both see the same view. Where there are several, the teacher sees the first and the student learns from the others. `v` and
//! `w` are 1 in the paper: the weights of the given labels, and those of a curriculum by the teacher's confidence. With mixing,
//! what the teacher says is mixed as the images are.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::curriculum::Curriculum;
use super::mixing::{Mixing, Nearer};
use super::parts::{
    accuracy, check_finite, checked, cross_entropy, joined, mixed, mixed_targets, ones, tally,
};
use crate::contrastive::distillation::{Distillation, DistillationConfig};
use selfsup_core::{
    Encoder, Error, Kind, LabelledAndUnlabelled, Loss, Objective, Result, Site, Step, Tensor, check_shape,
    nn, tch,
};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// Says of images which class they are of.
pub trait Teacher: Debug {
    /// Class scores before the softmax.
    ///
    /// # Shapes
    /// Images `[N, C, H, W]`, as the student sees them, to `[N, classes]`.
    ///
    /// # Errors
    /// When the images are none that the teacher can see.
    fn logits(&self, images: &Tensor) -> Result<Tensor>;
}

/// Settings of [`DistilledClassifier`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DistilledClassifierConfig {
    /// alpha, the weight of the teacher; the labels have the rest. 1, the teacher alone, is equation 2.
    pub alpha: f64,
    /// tau, the temperature of both softmaxes; 1 leaves the teacher's probabilities as they are.
    pub temperature: f64,
    /// The momentum of the averaged weights.
    pub momentum: f64,
    /// How images are mixed; not at all in the paper.
    pub mixing: Mixing,
    /// How many unlabelled samples of a batch are admitted when, by the teacher's confidence; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
}

impl Default for DistilledClassifierConfig {
    fn default() -> Self {
        DistilledClassifierConfig {
            alpha: 1.0,
            temperature: DistillationConfig::default().temperature,
            momentum: 0.999,
            mixing: Mixing::default(),
            curriculum: None,
        }
    }
}

/// A classifier that learns from another.
#[derive(Debug)]
pub struct DistilledClassifier<E: ?Sized> {
    classifier: Classifier<E>,
    teacher: Box<dyn Teacher>,
    loss: Distillation,
    config: DistilledClassifierConfig,
}

impl<E: Encoder + ?Sized> DistilledClassifier<E> {
    /// Makes the student's classifier for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(
        site: &Site<E>,
        classes: i64,
        teacher: Box<dyn Teacher>,
        config: &DistilledClassifierConfig,
    ) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.alpha) {
            return Err(Error::config("alpha", config.alpha, "a share from 0 to 1"));
        }
        config.mixing.check()?;
        config.curriculum.map_or(Ok(()), |curriculum| curriculum.check())?;
        let loss = Distillation::new(&DistillationConfig { temperature: config.temperature })?;
        let classifier = Classifier::new(site, classes, config.momentum)?;
        Ok(DistilledClassifier { classifier, teacher, loss, config: config.clone() })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for DistilledClassifier<E> {
    type Batch = LabelledAndUnlabelled;

    fn loss(&mut self, encoder: &E, batch: &LabelledAndUnlabelled, step: &Step) -> Result<Loss> {
        let (classes, config) = (self.classifier.classes(), &self.config);
        let batch = checked(batch, classes, 1..=usize::MAX)?;
        let (b, n) = (batch.labels.size()[0], batch.unlabelled);
        let said = tch::no_grad(|| self.teacher.logits(&batch.views[0]))?; // [N, C]
        check_shape("what the teacher says", &said, [n, classes])?;
        check_finite("what the teacher says", &said)?;
        let weights = match &config.curriculum {
            Some(curriculum) => {
                let confidence = said.softmax(1, Kind::Float).amax([1].as_slice(), false);
                curriculum.admitted(&confidence, step.progress())
            }
            None => ones(n, said.device()),
        }; // [N]
        let targets = self.loss.targets(&said) * weights.unsqueeze(1); // [N, C]

        let labelled_mix = batch.mix(&config.mixing, batch.labelled, Nearer::Any, 0, step)?;
        let mut images = vec![mixed(labelled_mix.as_ref(), batch.labelled)?];
        let mut wanted = Vec::new();
        let learned = if batch.views.len() == 1 { batch.views } else { &batch.views[1..] };
        for (view, part) in learned.iter().zip(1..) {
            let mix = batch.mix(&config.mixing, view, Nearer::Any, part, step)?;
            images.push(mixed(mix.as_ref(), view)?);
            wanted.push(mixed_targets(mix.as_ref(), targets.shallow_clone())?);
        }
        let logits = self.classifier.learn(encoder, &Tensor::cat(&images, 0))?; // [B + S N, C]
        let (labelled, student) = (logits.narrow(0, 0, b), logits.narrow(0, b, logits.size()[0] - b));
        let supervised =
            cross_entropy(&labelled, &mixed_targets(labelled_mix.as_ref(), batch.targets(classes))?);
        let distilled = self.loss.towards(&student, &Tensor::cat(&wanted, 0))?;
        let pseudo_labels = tally(&said.argmax(1, false), &weights, batch.truth);
        let right = accuracy(&labelled, batch.labels);
        let weighted = [(&supervised, 1.0 - config.alpha), (&distilled, config.alpha)];
        Ok(joined(weighted, &right, pseudo_labels))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.classifier.follow(step);
        Ok(())
    }
}

impl<E: Encoder + ?Sized> SemiSupervised<E> for DistilledClassifier<E> {
    fn classify(&self, images: &Tensor) -> Result<Tensor> {
        self.classifier.apply_average(images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingKind;
    use super::super::parts::fixture::{NAMES, fill, labelled_and_unlabelled};
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, waves};
    use selfsup_core::TensorExt;

    /// A linear classifier of pixels.
    #[derive(Debug)]
    struct Linear(Tensor);

    impl Linear {
        fn boxed() -> Box<dyn Teacher> {
            Box::new(Linear(waves(3, 4, 1.0, 0.7).reshape([3, 4]) * 2.0))
        }
    }

    impl Teacher for Linear {
        fn logits(&self, images: &Tensor) -> Result<Tensor> {
            Ok(images.flatten(1, -1).matmul(&self.0.tr()))
        }
    }

    fn setup(config: &DistilledClassifierConfig) -> (nn::VarStore, Pixels, DistilledClassifier<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let objective = DistilledClassifier::new(&site, 3, Linear::boxed(), config).unwrap();
        drop(site);
        fill(&store);
        (store, encoder, objective)
    }

    fn step() -> Step<'static> {
        Step::single(10, 100, 0, 7)
    }

    /// Both terms by a loop over samples and classes in f64.
    fn by_a_loop(
        encoder: &Pixels,
        objective: &DistilledClassifier<Pixels>,
        batch: &LabelledAndUnlabelled,
    ) -> f64 {
        let config = &objective.config;
        let teacher = Linear::boxed().logits(&batch.unlabelled.views[0]).unwrap();
        let logits = |x: &Tensor| objective.classifier.learn(encoder, x).unwrap();
        let p = |z: &Tensor, tau: f64, i: i64, c: i64| {
            let e = |k: i64| (z.double_value(&[i, k]) / tau).exp();
            e(c) / (0..3).map(e).sum::<f64>()
        };
        let labelled = logits(&batch.labelled.views[0]);
        let labels = batch.labelled.labels.as_ref().unwrap();
        let mut total = 0.0;
        for i in 0..3 {
            let log = p(&labelled, 1.0, i, labels.int64_value(&[i])).ln();
            total -= (1.0 - config.alpha) * batch.weights.double_value(&[i]) * log / 3.0;
        }
        let views = &batch.unlabelled.views;
        let learned = if views.len() == 1 { &views[..] } else { &views[1..] };
        for view in learned {
            let student = logits(view);
            for (i, c) in (0..5).flat_map(|i| (0..3).map(move |c| (i, c))) {
                let (t, s) = (p(&teacher, config.temperature, i, c), p(&student, config.temperature, i, c));
                total -= config.alpha * t * s.ln() / (5.0 * learned.len() as f64);
            }
        }
        total
    }

    #[test]
    fn equals_equation_3_term_by_term() {
        for (alpha, temperature, views) in [(1.0, 1.0, 1), (0.75, 0.5, 1), (0.3, 2.0, 3)] {
            let config = DistilledClassifierConfig { alpha, temperature, ..Default::default() };
            let (_store, encoder, mut objective) = setup(&config);
            let mut batch = labelled_and_unlabelled(views);
            batch.weights = Tensor::from_slice(&[1.0_f32, 0.0, 0.5]);
            let found = objective.loss(&encoder, &batch, &step()).unwrap().total.scalar().unwrap();
            let expected = by_a_loop(&encoder, &objective, &batch);
            assert!((found - expected).abs() < 1e-5, "{alpha}: {found} instead of {expected}");
        }
    }

    // With the names of pseudo_labelling.rs:
    // T = w(12, 1).reshape(3, 4) * 2; t = F.softmax(x_w @ T.T / 0.5, 1)
    // l = 0.25 * F.cross_entropy(model(x_lb), y) + 0.75 * F.cross_entropy(model(x_w) / 0.5, t); l.backward()
    // print(l, ew.grad[1], eb.grad, hw.grad[2], hb.grad)
    #[test]
    fn equals_torch() {
        let config = DistilledClassifierConfig { alpha: 0.75, temperature: 0.5, ..Default::default() };
        let (store, encoder, mut objective) = setup(&config);
        let loss = objective.loss(&encoder, &labelled_and_unlabelled(1), &step()).unwrap().total;
        loss.backward();
        assert_near(&loss, &[1.2351789]);
        let v = store.variables();
        assert_near(&v["encoder.weight"].grad().get(1), &[-0.1230700, -0.3066638, -0.3460288, -0.2226510]);
        assert_near(&v["encoder.bias"].grad(), &[0.4484540, 0.2360810, -0.0873244, -0.3696598]);
        assert_near(
            &v["objective.head.weight"].grad().get(2),
            &[-0.6163952, 0.4370938, -0.4424194, 0.2364607],
        );
        assert_near(&v["objective.head.bias"].grad(), &[0.6138774, -0.4749770, -0.1389004]);
        assert_gradients(&store, &[]);
    }

    #[test]
    fn with_a_weight_of_1_labels_teach_nothing_and_with_0_nothing_else_does() {
        let loss = |alpha: f64, change: &dyn Fn(&mut LabelledAndUnlabelled)| {
            let config = DistilledClassifierConfig { alpha, ..Default::default() };
            let (_store, encoder, mut objective) = setup(&config);
            let mut batch = labelled_and_unlabelled(1);
            change(&mut batch);
            objective.loss(&encoder, &batch, &step()).unwrap().total
        };
        let other_labels: &dyn Fn(&mut LabelledAndUnlabelled) =
            &|batch| batch.labelled.labels = Some(Tensor::from_slice(&[0_i64, 0, 0]));
        let other_images: &dyn Fn(&mut LabelledAndUnlabelled) =
            &|batch| batch.unlabelled.views[0] = &batch.unlabelled.views[0] * 0.5;
        let none: &dyn Fn(&mut LabelledAndUnlabelled) = &|_| ();
        assert_eq!(loss(1.0, none), loss(1.0, other_labels));
        assert_ne!(loss(1.0, none), loss(1.0, other_images));
        assert_eq!(loss(0.0, none), loss(0.0, other_images));
        assert_ne!(loss(0.0, none), loss(0.0, other_labels));
    }

    #[test]
    fn a_curriculum_asks_the_teacher_and_what_it_says_is_mixed_as_the_images_are() {
        let curriculum = Curriculum { start: 0.4, until: 1.0 };
        let mixing = Mixing { kind: MixingKind::Mixup, alpha: 1.0 };
        let config = DistilledClassifierConfig { mixing, curriculum: Some(curriculum), ..Default::default() };
        let (_store, encoder, mut objective) = setup(&config);
        let (batch, step) = (labelled_and_unlabelled(1), Step::single(0, 100, 0, 7));
        let loss = objective.loss(&encoder, &batch, &step).unwrap();
        let view = &batch.unlabelled.views[0];
        let taught = Linear::boxed().logits(view).unwrap().softmax(1, Kind::Double);
        let admitted = curriculum.admitted(&taught.amax([1].as_slice(), false), 0.0);
        assert_eq!(admitted.sum(Kind::Float).double_value(&[]), 2.0);
        let parts = checked(&batch, 3, 1..=1).unwrap();
        let mix = parts.mix(&mixing, view, Nearer::Any, 1, &step).unwrap().unwrap();
        let student = objective.classifier.learn(&encoder, &mix.images(view).unwrap()).unwrap();
        let student = student.log_softmax(1, Kind::Double);
        let mut expected = 0.0;
        for i in 0..5 {
            for (j, share) in [(i, mix.share), (mix.partners[i as usize], 1.0 - mix.share)] {
                for c in 0..3 {
                    let t = taught.double_value(&[j, c]) * admitted.double_value(&[j]);
                    expected -= share * t * student.double_value(&[i, c]) / 5.0;
                }
            }
        }
        assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-5);
        let coverage = loss.parts.iter().find(|(name, _)| name == "coverage").unwrap().1.scalar().unwrap();
        assert!((coverage - 0.4).abs() < 1e-6);
    }

    #[test]
    fn the_student_comes_to_say_what_its_teacher_says() {
        let (store, encoder, mut objective) =
            setup(&DistilledClassifierConfig { momentum: 0.5, ..Default::default() });
        let batch = labelled_and_unlabelled(1);
        let view = &batch.unlabelled.views[0];
        let taught = Linear::boxed().logits(view).unwrap().softmax(1, Kind::Float);
        for t in 0..400 {
            let step = Step::single(t, 400, 0, 7);
            objective.loss(&encoder, &batch, &step).unwrap().total.backward();
            crate::contrastive::pixels::descend(&store, &NAMES, 0.2);
            objective.after_step(&store, &step).unwrap();
        }
        let said = objective.classify(view).unwrap().softmax(1, Kind::Float);
        let furthest = (said - taught).abs().max().scalar().unwrap();
        assert!(furthest < 0.1, "{furthest}");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(&DistilledClassifierConfig::default());
        let error = objective.loss(&encoder, &labelled_and_unlabelled(0), &step()).unwrap_err().to_string();
        assert_eq!(error, "views = 0: at least 1 of each unlabelled image");
        let mut batch = labelled_and_unlabelled(1);
        batch.unlabelled.views[0] = &batch.unlabelled.views[0] * f64::NAN;
        let error = objective.loss(&encoder, &batch, &step()).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let new = |config: DistilledClassifierConfig| {
            DistilledClassifier::new(&site, 3, Linear::boxed(), &config).unwrap_err().to_string()
        };
        let wrong = DistilledClassifierConfig { alpha: 1.5, ..Default::default() };
        assert_eq!(new(wrong), "alpha = 1.5: a share from 0 to 1");
        let wrong = DistilledClassifierConfig { temperature: 0.0, ..Default::default() };
        assert_eq!(new(wrong), "temperature = 0: a positive number");
        drop(site);
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let config = DistilledClassifierConfig::default();
        let mut of_two = DistilledClassifier::new(&site, 2, Linear::boxed(), &config).unwrap();
        let mut batch = labelled_and_unlabelled(1);
        batch.labelled.labels = Some(Tensor::from_slice(&[0_i64, 1, 1]));
        let error = of_two.loss(&encoder, &batch, &step()).unwrap_err().to_string();
        assert_eq!(error, "what the teacher says: expected [5, 2], found [5, 3]");
    }
}
