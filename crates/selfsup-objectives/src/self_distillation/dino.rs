//! DINO: a student is to say of every view what its own moving average says of another large view of the same image.
//!
//! Caron, Touvron, Misra, Jégou, Mairal, Bojanowski and Joulin 2021, *Emerging Properties in Self-Supervised Vision
//! Transformers*, algorithm 1: the teacher sees the global views, the student all, and [`DinoLoss`] compares what
//! their [`DinoHead`]s say. The teacher is kept from collapsing by the centre of its logits and a low temperature, and
//! follows the student after each step,
//!
//! ```text
//! teacher <- l teacher + (1 - l) student,     l from 0.996 to 1 along a cosine
//! ```
//!
//! The last layer stays as it is in the first epoch. As in the authors' code the teacher runs in training mode, so that
//! BatchNorm normalises its batches by themselves; the site's twin is to have no stochastic depth, as their teacher has none.
//! They clip the gradient of each parameter apart, as the recipes do (`train.clip = { each = 3.0 }`), and take the teacher's
//! encoder, as `selfsup eval --weights teacher` does.

use crate::clustering::crops::{check_crops, encode_crops};
use crate::momentum::check_momentum;
use crate::self_distillation::dino_head::{DinoHead, DinoHeadConfig, LastLayer};
use crate::self_distillation::dino_loss::DinoLoss;
use crate::self_distillation::targets::DinoLossConfig;
use selfsup_core::ema::{Buffers, cosine_momentum};
use selfsup_core::{
    Ema, Encoder, Error, ImageViews, Judgement, Loss, Mode, Objective, Result, Site, Step, Tensor, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Dino`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoConfig {
    /// How many of the first views are global, and seen by the teacher. 2 (section 3.1 of the paper).
    pub global_views: i64,
    /// Temperatures and centring.
    pub loss: DinoLossConfig,
    /// The heads of student and teacher.
    pub head: DinoHeadConfig,
    /// The momentum of the teacher at the start; it rises to 1. 0.996 (section 3.1).
    pub momentum: f64,
    /// The epochs in which the last layer of the head stays as it is. 1 (appendix, and the authors' code).
    pub frozen_last_layer_epochs: u64,
}

impl Default for DinoConfig {
    fn default() -> Self {
        DinoConfig {
            global_views: 2,
            loss: DinoLossConfig::default(),
            head: DinoHeadConfig::default(),
            momentum: 0.996,
            frozen_last_layer_epochs: 1,
        }
    }
}

/// The DINO objective: a head, a teacher with one, and the loss with its centre.
#[derive(Debug)]
pub struct Dino<E: ?Sized> {
    head: DinoHead,
    teacher: Box<E>,
    teacher_head: DinoHead,
    ema: Ema,
    loss: DinoLoss,
    config: DinoConfig,
}

impl<E: Encoder + ?Sized> Dino<E> {
    /// Makes heads and teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature or size is not positive, or a momentum no share.
    pub fn new(site: &Site<E>, config: &DinoConfig) -> Result<Self> {
        check_momentum(config.momentum)?;
        check_global_views(config.global_views)?;
        let (path, dim) = (site.path(), site.dim());
        let teacher_path = &path / "teacher";
        Ok(Dino {
            head: DinoHead::new(&path / "head", dim, &config.head)?,
            teacher: (site.twin)(&teacher_path / "encoder")?,
            teacher_head: DinoHead::new(&teacher_path / "head", dim, &config.head)?,
            ema: site.tie_teacher(&["head"], Buffers::Keep)?,
            loss: DinoLoss::new(&path / "loss", config.head.output, &config.loss)?,
            config: config.clone(),
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for Dino<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, "DINO")?;
        let (all, globals) = (batch.views.len() as i64, self.config.global_views);
        let global = global_views(&batch.views, globals)?;
        let teacher = tch::no_grad(|| {
            let h = encode_crops(self.teacher.as_ref(), global, Mode::Train)?; // [G N, D]
            self.teacher_head.forward(&h, Mode::Train, LastLayer::Learns) // [G N, K]
        })?;
        let last_layer = last_layer(step, self.config.frozen_last_layer_epochs);
        let h = encode_crops(encoder, &batch.views, Mode::Train)?; // [V N, D]
        let student = self.head.forward(&h, Mode::Train, last_layer)?.unflatten(0, [all, n]); // [V, N, K]
        let teacher = teacher.unflatten(0, [globals, n]); // [G, N, K]
        let loss = self.loss.forward(&student, &teacher, step.epoch, step.comm)?;
        self.loss.update_centre(&teacher, step.comm)?;
        Ok(Loss::new(loss))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.ema.update(cosine_momentum(self.config.momentum, step.progress()));
        Ok(())
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        let h = encoder.encode(batch.first("DINO")?, Mode::Eval)?; // [N, D]
        Ok(Judgement::of_prototypes(&self.head.forward(&h, Mode::Eval, LastLayer::Learns)?)) // [N, K]
    }
}

/// The first views, which the teacher sees.
pub(crate) fn global_views(views: &[Tensor], count: i64) -> Result<&[Tensor]> {
    views.get(..count as usize).ok_or_else(|| {
        let expected = format!("at least the {count} that global_views says the teacher sees");
        Error::config("views", views.len(), expected)
    })
}

/// Whether the last layer learns yet.
pub(crate) fn last_layer(step: &Step, frozen_epochs: u64) -> LastLayer {
    if step.epoch < frozen_epochs { LastLayer::Frozen } else { LastLayer::Learns }
}

pub(crate) fn check_global_views(count: i64) -> Result<()> {
    if count >= 1 {
        return Ok(());
    }
    Err(Error::config("global_views", count, "at least 1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{Pixels, batch, descend, fill};
    use crate::self_distillation::targets::TeacherTemperature;
    use crate::self_distillation::tiny::assert_near;
    use selfsup_core::{Device, Kind, TensorExt};

    fn config() -> DinoConfig {
        DinoConfig {
            loss: DinoLossConfig {
                teacher_temperature: TeacherTemperature { warmup_epochs: 3, ..Default::default() },
                ..Default::default()
            },
            head: DinoHeadConfig { hidden: 5, bottleneck: 3, output: 6, ..Default::default() },
            momentum: 0.9,
            ..Default::default()
        }
    }

    fn setup() -> (nn::VarStore, Pixels, Dino<Pixels>) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
        let twin = |path: nn::Path| Ok(Box::new(Pixels::new(path)));
        let objective = Dino::new(&Site::new(&store, &encoder, 6, twin), &config()).unwrap();
        fill(&store);
        objective.ema.copy();
        (store, encoder, objective)
    }

    // enc, head = Pixels(), DINOProjectionHead(4, 5, 3, 6, freeze_last_layer=1)  # filled as `fill` does
    // tenc, thead = copies
    // loss = DINOLoss(output_dim=6, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=3)
    // for step in range(5):
    //     views = [wave([3, 1, z, z], k + step) for k, z in enumerate([4, 4, 2])]
    //     with torch.no_grad(): t = [thead(tenc(v)) for v in views[:2]]
    //     l = loss(t, [head(enc(v)) for v in views], epoch=step // 2); print(l)
    //     l.backward(); head.cancel_last_layer_gradients(step // 2)
    //     for p in enc, head: p -= 0.5 * p.grad
    //     m = 1 - (1 - 0.9) * (math.cos(math.pi * step / 10) + 1) / 2
    //     for p, t in (enc, tenc), (head, thead): t = m * t + (1 - m) * p
    // print(enc.weight, tenc.weight, thead.last_layer.weight_v, loss.center)
    #[test]
    fn five_steps_equal_the_authors_algorithm() {
        let (store, encoder, mut objective) = setup();
        let mut values = Vec::new();
        for step in 0..5_u32 {
            let at = Step::single(u64::from(step), 10, u64::from(step / 2), 0);
            let batch = batch(3, &[4, 4, 2], f64::from(step));
            let loss = objective.loss(&encoder, &batch, &at).unwrap().total;
            loss.backward();
            values.push(loss.detach());
            descend(&store, 0.5);
            objective.after_step(&store, &at).unwrap();
        }
        let v = store.variables();
        assert_near(&Tensor::stack(&values, 0), &[1.1306263, 0.6942997, 0.6936685, 0.6931017, 0.6934199]);
        assert_near(
            &v["encoder.weight"],
            &[
                0.0432295, 0.6853757, 1.002749, 0.8476077, 0.3427365, -0.3515982, -0.8804031, -1.0048997,
                -0.6626462, -0.0255891, 0.6261872, 0.9694365, 0.7988557, 0.2550458, -0.4047771, -0.8859162,
            ],
        );
        assert_near(
            &v["objective.teacher.encoder.weight"],
            &[
                0.0157319, 0.659231, 0.9917985, 0.857578, 0.3378016, -0.3510748, -0.8747757, -0.9906116,
                -0.6426943, 0.0013543, 0.6457419, 0.9813174, 0.8343048, 0.2957412, -0.3804808, -0.8820168,
            ],
        );
        assert_near(
            &v["objective.teacher.head.last_layer.weight_v"],
            &[
                0.8434464, 0.9920301, 0.6724935, 0.0415795, -0.6118594, -0.9775292, -0.8834547, -0.3738767,
                0.3115414, 0.8486179, 0.9890374, 0.6658094, 0.0247745, -0.6250719, -0.9809355, -0.8754522,
                -0.3582292, 0.3274745,
            ],
        );
        assert_near(
            &v["objective.loss.centre"],
            &[0.3087481, -0.3430938, -0.0523491, 0.3070347, -0.3444894, -0.0445181],
        );
    }

    #[test]
    fn gradients_reach_the_student_alone_and_the_last_layer_after_the_first_epoch() {
        let (store, encoder, mut objective) = setup();
        let batch = batch(3, &[4, 4, 2], 0.0);
        objective.loss(&encoder, &batch, &Step::single(0, 4, 0, 0)).unwrap().total.backward();
        assert!(!store.variables()["objective.head.last_layer.weight_v"].grad().defined());
        objective.loss(&encoder, &batch, &Step::single(2, 4, 1, 0)).unwrap().total.backward();
        for (name, x) in store.variables() {
            if name.starts_with("objective.teacher") || name.ends_with("weight_g") || name.ends_with("centre")
            {
                assert!(!x.requires_grad() && !x.grad().defined(), "{name}");
                continue;
            }
            let gradient = x.grad();
            assert!(gradient.defined() && gradient.isfinite().all().scalar().unwrap() == 1.0, "{name}");
            assert!(gradient.abs().max().scalar().unwrap() > 1e-7, "{name}");
        }
    }

    #[test]
    fn the_teacher_stays_within_a_step_and_moves_after_it() {
        let (store, encoder, mut objective) = setup();
        let teacher = || store.variables()["objective.teacher.encoder.weight"].copy();
        let (before, at) = (teacher(), Step::single(2, 4, 1, 0));
        objective.loss(&encoder, &batch(3, &[4, 4], 0.0), &at).unwrap().total.backward();
        descend(&store, 0.5);
        assert_eq!(teacher(), before);
        objective.after_step(&store, &at).unwrap();
        assert_ne!(teacher(), before);
    }

    #[test]
    fn the_rows_of_the_last_layer_are_prototypes_and_images_lie_near_those_that_point_to_them() {
        let (store, encoder, objective) = setup();
        let batch = batch(6, &[4, 4], 0.0);
        let scores = || objective.judge(&encoder, &batch).unwrap().prototypes.remove(0).scores;
        let said = objective.head.forward(
            &encoder.encode(&batch.views[0], Mode::Eval).unwrap(),
            Mode::Eval,
            LastLayer::Learns,
        );
        assert_eq!(scores(), said.unwrap().detach());
        // Rows that are the bottleneck's basis tell its coordinates, the squares of which sum to 1.
        let basis = Tensor::eye(3, (Kind::Float, Device::Cpu));
        let rows = Tensor::cat(&[&basis, &-&basis], 0);
        tch::no_grad(|| store.variables()["objective.head.last_layer.weight_v"].shallow_clone().copy_(&rows));
        let coordinates = scores().narrow(1, 0, 3);
        assert_eq!(scores().narrow(1, 3, 3), -&coordinates);
        let lengths = coordinates.square().sum_dim_intlist(1, false, None);
        assert!((lengths - 1.0).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn rejects_views_and_settings_that_do_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        let mut refused =
            |batch: &ImageViews| objective.loss(&encoder, batch, &step).unwrap_err().to_string();
        assert_eq!(refused(&batch(3, &[4], 0.0)), "views = 1: at least two views an image for DINO");
        let mut unequal = batch(3, &[4, 4], 0.0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 2);
        assert_eq!(refused(&unequal), "view 1: expected [3, 1, _, _], found [2, 1, 4, 4]");
        objective.config.global_views = 3;
        let error = objective.loss(&encoder, &batch(3, &[4, 4], 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "views = 2: at least the 3 that global_views says the teacher sees");

        let new = |config: &DinoConfig| {
            let store = nn::VarStore::new(Device::Cpu);
            let encoder = Pixels::new(store.root() / Site::<Pixels>::ENCODER);
            let twin = |path: nn::Path| Ok(Box::new(Pixels::new(path)));
            Dino::new(&Site::new(&store, &encoder, 6, twin), config).unwrap_err().to_string()
        };
        assert_eq!(new(&DinoConfig { momentum: 1.5, ..config() }), "momentum = 1.5: from 0 to 1");
        assert_eq!(new(&DinoConfig { global_views: 0, ..config() }), "global_views = 0: at least 1");
    }
}
