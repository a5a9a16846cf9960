//! Mean teacher: what the classifier says of one view of an image is to be what the moving average of its weights says of
//! another.
//!
//! Tarvainen and Valpola 2017, *Mean teachers are better role models: Weight-averaged consistency targets improve
//! semi-supervised deep learning results*, section 2. With the student's probabilities p and the teacher's p':
//!
//! ```text
//! L = L_s + w r(t) 1/(N C) sum_i w_i || p(view1(u_i)) - p'(view0(u_i)) ||^2        r(t) = exp(-5 (1 - t / T)^2)
//! theta' = m theta' + (1 - m) theta
//! ```
//! `w = 100` and the sum over the classes divided by their number are those of the authors' code for CIFAR-10. The teacher
//! is applied, with its averaged BatchNorm statistics, where the authors' is in training mode. All `w_i` are 1 without a
//! curriculum. With mixing the target is mixed as the images are (interpolation consistency, Verma et al. 2019): for images
//! with shares lambda and weights w it is the mean by `lambda w`, and the distance counts `sum lambda w`.

use super::SemiSupervised;
use super::classifier::Classifier;
use super::curriculum::Curriculum;
use super::mixing::{Mixing, Nearer};
use super::parts::{
    accuracy, check_finite, checked, cross_entropy, joined, mixed, mixed_by_weight, mixed_targets, ones,
    tally,
};
use super::ramp::{Ramp, RampShape};
use selfsup_core::{
    Encoder, Error, Kind, LabelledAndUnlabelled, Loss, Objective, Result, Site, Step, Tensor, nn,
};
use serde::{Deserialize, Serialize};

/// Settings of [`MeanTeacher`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeanTeacherConfig {
    /// w, the weight of the consistency; 100 in the authors' code for CIFAR-10.
    pub weight: f64,
    /// How that weight rises; over 40,000 of 180,000 steps in the paper (appendix B).
    pub ramp: Ramp,
    /// m, the momentum of the teacher; 0.999 after the ramp in the paper (section 3).
    pub momentum: f64,
    /// How images are mixed; not at all in the paper.
    pub mixing: Mixing,
    /// How many unlabelled samples of a batch are admitted when, by the teacher's confidence; absent, all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub curriculum: Option<Curriculum>,
}

impl Default for MeanTeacherConfig {
    fn default() -> Self {
        MeanTeacherConfig {
            weight: 100.0,
            ramp: Ramp { until: 40_000.0 / 180_000.0, shape: RampShape::Sigmoid },
            momentum: 0.999,
            mixing: Mixing::default(),
            curriculum: None,
        }
    }
}

/// A classifier that learns from few labels and from its own average.
#[derive(Debug)]
pub struct MeanTeacher<E: ?Sized> {
    classifier: Classifier<E>,
    config: MeanTeacherConfig,
}

impl<E: Encoder + ?Sized> MeanTeacher<E> {
    /// Makes the classifier and the teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(site: &Site<E>, classes: i64, config: &MeanTeacherConfig) -> Result<Self> {
        if !(config.weight >= 0.0 && config.weight.is_finite()) {
            return Err(Error::config("weight", config.weight, "a finite number from 0 up"));
        }
        config.ramp.check()?;
        config.mixing.check()?;
        config.curriculum.map_or(Ok(()), |curriculum| curriculum.check())?;
        let classifier = Classifier::new(site, classes, config.momentum)?;
        Ok(MeanTeacher { classifier, config: config.clone() })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for MeanTeacher<E> {
    type Batch = LabelledAndUnlabelled;

    fn loss(&mut self, encoder: &E, batch: &LabelledAndUnlabelled, step: &Step) -> Result<Loss> {
        let (classes, config) = (self.classifier.classes(), &self.config);
        let batch = checked(batch, classes, 2..=2)?;
        let (b, n) = (batch.labels.size()[0], batch.unlabelled);
        let labelled_mix = batch.mix(&config.mixing, batch.labelled, Nearer::Any, 0, step)?;
        let mix = batch.mix(&config.mixing, &batch.views[1], Nearer::Any, 1, step)?;
        let taught = self.classifier.apply_average(&batch.views[0])?.softmax(1, Kind::Float); // [N, C]
        let images = [mixed(labelled_mix.as_ref(), batch.labelled)?, mixed(mix.as_ref(), &batch.views[1])?];
        let logits = self.classifier.learn(encoder, &Tensor::cat(&images, 0))?; // [B + N, C]
        let (labelled, learned) = (logits.narrow(0, 0, b), logits.narrow(0, b, n));
        let supervised =
            cross_entropy(&labelled, &mixed_targets(labelled_mix.as_ref(), batch.targets(classes))?);
        check_finite("what the teacher says", &taught)?;
        let weights = match &config.curriculum {
            Some(curriculum) => curriculum.admitted(&taught.amax([1].as_slice(), false), step.progress()),
            None => ones(n, taught.device()),
        };
        let (targets, counted) = mixed_by_weight(mix.as_ref(), &taught, &weights)?; // [N, C], [N]
        let distance = (learned.softmax(1, Kind::Float) - targets).square(); // [N, C]
        let unlabelled = (distance.mean_dim([1].as_slice(), false, Kind::Float) * counted).mean(Kind::Float);
        let weight = config.weight * config.ramp.at(step.progress());
        let pseudo_labels = tally(&taught.argmax(1, false), &weights, batch.truth);
        let right = accuracy(&labelled, batch.labels);
        Ok(joined([(&supervised, 1.0), (&unlabelled, weight)], &right, pseudo_labels))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.classifier.follow(step);
        Ok(())
    }
}

impl<E: Encoder + ?Sized> SemiSupervised<E> for MeanTeacher<E> {
    fn classify(&self, images: &Tensor) -> Result<Tensor> {
        self.classifier.apply_average(images)
    }
}

#[cfg(test)]
mod tests {
    use super::super::mixing::MixingKind;
    use super::super::parts::fixture::{NAMES, fill, labelled_and_unlabelled};
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, descend};
    use selfsup_core::{TensorExt, tch};

    fn config() -> MeanTeacherConfig {
        MeanTeacherConfig {
            ramp: Ramp { until: 0.5, shape: RampShape::Sigmoid },
            ..MeanTeacherConfig::default()
        }
    }

    fn setup(config: &MeanTeacherConfig) -> (nn::VarStore, Pixels, MeanTeacher<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let objective = MeanTeacher::new(&Pixels::site(&store, &encoder), 3, config).unwrap();
        fill(&store);
        (store, encoder, objective)
    }

    // With the names of pseudo_labelling.rs, and a teacher with weights of its own:
    // tw = lambda i, *s: w(torch.Size(s).numel(), i).reshape(s) * 0.5 + w(torch.Size(s).numel(), i + 2).reshape(s) * 0.1
    // te, tb, th, thb = tw(0, 4, 4), tw(1, 4), tw(2, 3, 4), tw(3, 3)
    // teach = ((x_w @ te.T + tb) @ th.T + thb).softmax(-1); r = math.exp(-5.0 * (1 - 0.25 / 0.5) ** 2)
    // cons = F.mse_loss(model(x_s).softmax(-1), teach, reduction="sum") / 3 / 5            # softmax_mse_loss / batch size
    // l = F.cross_entropy(model(x_lb), y) + 100 * r * cons; l.backward(); print(l, ew.grad[1], eb.grad, hw.grad[2], hb.grad)
    #[test]
    fn equals_torch() {
        let (store, encoder, mut objective) = setup(&config());
        let step = Step::single(25, 100, 0, 7);
        let loss = objective.loss(&encoder, &labelled_and_unlabelled(2), &step).unwrap();
        loss.total.backward();
        assert_near(&loss.total, &[1.4748033]);
        let v = store.variables();
        assert_near(&v["encoder.weight"].grad().get(1), &[-0.2385540, -0.1521441, 0.0058215, 0.1610492]);
        assert_near(&v["encoder.bias"].grad(), &[0.2608653, 0.1431858, -0.0418362, -0.2071820]);
        assert_near(
            &v["objective.head.weight"].grad().get(2),
            &[-0.3065854, 0.2073143, -0.1757861, 0.0614848],
        );
        assert_near(&v["objective.head.bias"].grad(), &[0.3296434, -0.2754744, -0.0541689]);
        assert_gradients(&store, &[]);
    }

    #[test]
    fn a_teacher_that_is_the_student_asks_nothing_of_the_same_view() {
        let (store, encoder) = Pixels::stored();
        let mut objective = MeanTeacher::new(&Pixels::site(&store, &encoder), 3, &config()).unwrap();
        let mut batch = labelled_and_unlabelled(2);
        batch.unlabelled.views[1] = batch.unlabelled.views[0].shallow_clone();
        let loss = objective.loss(&encoder, &batch, &Step::single(99, 100, 0, 7)).unwrap();
        let number = |name: &str| loss.parts.iter().find(|(n, _)| n == name).unwrap().1.scalar().unwrap();
        assert!(number("unlabelled_loss") < 1e-12, "{}", number("unlabelled_loss"));
        assert!((loss.total.scalar().unwrap() - number("labelled_loss")).abs() < 1e-6);
    }

    #[test]
    fn mixed_images_have_mixed_targets_and_a_curriculum_leaves_some_out() {
        let mixing = Mixing { kind: MixingKind::Mixup, alpha: 0.75 };
        let curriculum = Curriculum { start: 0.4, until: 1.0 };
        let config = MeanTeacherConfig { mixing, curriculum: Some(curriculum), ..config() };
        let (_store, encoder, mut objective) = setup(&config);
        let (batch, step) = (labelled_and_unlabelled(2), Step::single(0, 100, 0, 7));
        let loss = objective.loss(&encoder, &batch, &step).unwrap();
        let view = &batch.unlabelled.views[1];
        let mix =
            checked(&batch, 3, 2..=2).unwrap().mix(&mixing, view, Nearer::Any, 1, &step).unwrap().unwrap();
        let taught = objective.classify(&batch.unlabelled.views[0]).unwrap().softmax(1, Kind::Float);
        let learned = objective.classifier.learn(&encoder, &mix.images(view).unwrap()).unwrap();
        let learned = learned.softmax(1, Kind::Double);
        let admitted = curriculum.admitted(&taught.amax([1].as_slice(), false), 0.0);
        let mut expected = 0.0;
        for i in 0..5 {
            let j = mix.partners[i as usize];
            let (first, second) =
                (mix.share * admitted.double_value(&[i]), (1.0 - mix.share) * admitted.double_value(&[j]));
            for c in (0..3).filter(|_| first + second > 0.0) {
                let of = |row: i64| taught.double_value(&[row, c]);
                let target = (first * of(i) + second * of(j)) / (first + second);
                expected += (first + second) * (learned.double_value(&[i, c]) - target).powi(2) / 15.0;
            }
        }
        let found =
            loss.parts.iter().find(|(name, _)| name == "unlabelled_loss").unwrap().1.scalar().unwrap();
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");

        // What the teacher says of an image that is not admitted teaches nothing.
        let left_out = (0..5).find(|&i| admitted.double_value(&[i]) == 0.0).unwrap();
        let other = labelled_and_unlabelled(2);
        tch::no_grad(|| drop(other.unlabelled.views[0].get(left_out).g_mul_scalar_(0.99)));
        assert_ne!(other.unlabelled.views[0], batch.unlabelled.views[0]);
        assert_eq!(objective.loss(&encoder, &other, &step).unwrap().total, loss.total);
    }

    #[test]
    fn the_teacher_follows_and_a_run_goes_on_from_the_store() {
        let run = |store: &nn::VarStore, encoder: &Pixels, objective: &mut MeanTeacher<Pixels>, from, to| {
            for t in from..to {
                let step = Step::single(t, 6, 0, 7);
                objective.loss(encoder, &labelled_and_unlabelled(2), &step).unwrap().total.backward();
                descend(store, &NAMES, 0.1);
                objective.after_step(store, &step).unwrap();
            }
        };
        let (whole, encoder, mut objective) = setup(&config());
        let before = whole.variables()["objective.teacher.head.bias"].copy();
        run(&whole, &encoder, &mut objective, 0, 1);
        // The first momentum is a tenth.
        let v = whole.variables();
        let expected = &before * 0.1 + &v["objective.head.bias"] * 0.9;
        assert!(v["objective.teacher.head.bias"].allclose(&expected, 0.0, 1e-6, false));
        let kept: Vec<_> = whole.variables().into_iter().map(|(name, x)| (name, x.copy())).collect();
        run(&whole, &encoder, &mut objective, 1, 6);
        let (taken_up, encoder, mut objective) = setup(&config());
        tch::no_grad(|| {
            for (name, value) in kept {
                taken_up.variables()[&name].shallow_clone().copy_(&value);
            }
        });
        run(&taken_up, &encoder, &mut objective, 1, 6);
        for (name, x) in whole.variables() {
            assert_eq!(x, taken_up.variables()[&name], "{name}");
        }
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(&config());
        let error = |objective: &mut MeanTeacher<Pixels>, batch: &LabelledAndUnlabelled| {
            objective.loss(&encoder, batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        let found = error(&mut objective, &labelled_and_unlabelled(1));
        assert_eq!(found, "views = 1: 2 of each unlabelled image");
        let mut batch = labelled_and_unlabelled(2);
        batch.unlabelled.views[0] = &batch.unlabelled.views[0] * f64::INFINITY;
        let error = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
        let (store, encoder) = Pixels::stored();
        let wrong = MeanTeacherConfig { weight: f64::NAN, ..config() };
        let error = MeanTeacher::new(&Pixels::site(&store, &encoder), 3, &wrong).unwrap_err().to_string();
        assert_eq!(error, "weight = NaN: a finite number from 0 up");
    }
}
