//! MoCo v3: every view's query is to find the key of the other view, made by a slowly moving teacher, among the keys of
//! the batch.
//!
//! Chen, Xie and He 2021, *An Empirical Study of Training Self-Supervised Vision Transformers*, algorithm 1. With f the
//! encoder and projector, h the predictor, and m going from its first value to 1 along half a cosine,
//!
//! ```text
//! q_v = h(f(view v))    k_v = f_teacher(view v)    ctr(q, k) = 2 tau InfoNCE(q, k; the keys of the whole batch)
//! L = ctr(q_0, k_1) + ctr(q_1, k_0)        after the update of f:    f_teacher <- m f_teacher + (1 - m) f
//! ```
//!
//! There is no queue: the batch is large. Views pass through the networks one after the other, the teacher normalises
//! its own batches and keeps its own statistics, and the last BatchNorm of a head has no scale and shift, all as in the
//! authors' code. On a Vision Transformer the patch projection stays as it was drawn (section 4.2), which the paper
//! found to train more steadily; position embeddings are the encoder's, and learned where it learns them.

use crate::contrastive::info_nce::InfoNce;
use crate::momentum::check_momentum;
use crate::views::two_views;
use selfsup_core::ema::{Buffers, cosine_momentum};
use selfsup_core::{
    Ema, Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site,
    Step, Tensor, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Whether the layer that makes tokens of patches learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PatchProjection {
    /// It stays as it was drawn. A network without patches has no such layer, and learns whole.
    Frozen,
    /// It learns as the rest does.
    Learned,
}

/// Settings of [`MocoV3`]. The defaults are the paper's for a Vision Transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV3Config {
    /// The temperature of the loss: 0.2 for ViT and 1.0 for ResNet-50, in the authors' code.
    pub temperature: f64,
    /// How much of the teacher stays at the first step; it grows to 1. 0.99, and 0.996 for ResNet-50
    /// trained for 1000 epochs, in the authors' code.
    pub momentum: f64,
    /// The projector: 4096, 4096, 256, BatchNorm after every layer (section 5 of the paper).
    pub projector: MlpHeadConfig,
    /// The predictor: 4096, 256, BatchNorm after every layer (section 5). Its output is as large as the projector's.
    pub predictor: MlpHeadConfig,
    /// Whether a Vision Transformer learns its patch projection (section 4.2).
    pub patch_projection: PatchProjection,
}

impl Default for MocoV3Config {
    fn default() -> Self {
        let head = |hidden: Vec<i64>| MlpHeadConfig {
            hidden,
            output: 256,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::BatchNormPlain,
        };
        MocoV3Config {
            temperature: 0.2,
            momentum: 0.99,
            projector: head(vec![4096, 4096]),
            predictor: head(vec![4096]),
            patch_projection: PatchProjection::Frozen,
        }
    }
}

/// The MoCo v3 objective: a projector, a predictor, and a teacher of encoder and projector.
#[derive(Debug)]
pub struct MocoV3<E: ?Sized> {
    projector: MlpHead,
    predictor: MlpHead,
    teacher: Box<E>,
    teacher_projector: MlpHead,
    ema: Ema,
    momentum: f64,
    temperature: f64,
    loss: InfoNce,
}

impl<E: Encoder + ?Sized> MocoV3<E> {
    /// Makes the heads and the teacher for the site's encoder, and freezes its patch projection if that is asked for.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature or a size is not positive, the momentum lies outside 0 to 1, or the
    /// predictor's output has another size than the projector's.
    pub fn new(site: &Site<E>, config: &MocoV3Config) -> Result<Self> {
        let MocoV3Config { temperature, momentum, projector, predictor, patch_projection } = config;
        let loss = InfoNce::new(*temperature)?;
        check_momentum(*momentum)?;
        if predictor.output != projector.output {
            let expected = format!("projector.output = {}, with which it is compared", projector.output);
            return Err(Error::config("predictor.output", predictor.output, expected));
        }
        if *patch_projection == PatchProjection::Frozen {
            freeze(site.store, &format!("{}.patch_embed", Site::<E>::ENCODER));
        }
        let path = site.path();
        let student_head = MlpHead::new(&path / "projector", site.dim(), projector)?;
        let predictor = MlpHead::new(&path / "predictor", projector.output, predictor)?;
        let teacher = (site.twin)(&path / "teacher" / "encoder")?;
        let teacher_head = MlpHead::new(&path / "teacher" / "projector", site.dim(), projector)?;
        if *patch_projection == PatchProjection::Frozen {
            freeze(site.store, &site.name("teacher.encoder.patch_embed"));
        }
        Ok(MocoV3 {
            projector: student_head,
            predictor,
            teacher,
            teacher_projector: teacher_head,
            ema: site.tie_teacher(&["projector"], Buffers::Keep)?,
            momentum: *momentum,
            temperature: *temperature,
            loss,
        })
    }
}

/// Takes the variables below `layer` from those that learn.
fn freeze(store: &nn::VarStore, layer: &str) {
    for (name, x) in store.variables() {
        if name.strip_prefix(layer).is_some_and(|below| below.starts_with('.')) {
            let _ = x.set_requires_grad(false);
        }
    }
    if let Ok(mut variables) = store.variables_.lock() {
        variables.trainable_variables.retain(|variable| variable.tensor.requires_grad());
    }
}

impl<E: Encoder + ?Sized> Objective<E> for MocoV3<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, _) = two_views(batch, "MoCo v3")?;
        let query = |view: &Tensor| {
            let z = self.projector.forward(&encoder.encode(view, Mode::Train)?, Mode::Train)?;
            self.predictor.forward(&z, Mode::Train)
        };
        let key = |view: &Tensor| {
            tch::no_grad(|| {
                self.teacher_projector.forward(&self.teacher.encode(view, Mode::Train)?, Mode::Train)
            })
        };
        let (q0, q1) = (query(view0)?, query(view1)?); // [N, P] each
        let (k0, k1) = (key(view0)?, key(view1)?); // [N, P] each
        let first = self.loss.across(&q0, &k1, step.comm)?;
        let second = self.loss.across(&q1, &k0, step.comm)?;
        Ok(Loss::new((first.loss + second.loss) * (2.0 * self.temperature))
            .with("contrastive_accuracy", &((first.accuracy + second.accuracy) / 2.0)))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        // The teacher moves before the next step in the authors' code, with that step's momentum.
        let next = (step.step + 1) as f64 / step.total.max(1) as f64;
        self.ema.update(cosine_momentum(self.momentum, next));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{
        Pixels, assert_gradients, assert_near, assert_within, batch, descend, fill,
    };
    use selfsup_core::TensorExt;

    const LEARNED: [&str; 7] = [
        "encoder.weight",
        "encoder.bias",
        "objective.projector.0.weight",
        "objective.projector.3.weight",
        "objective.projector.6.weight",
        "objective.predictor.0.weight",
        "objective.predictor.3.weight",
    ];

    fn config() -> MocoV3Config {
        let MocoV3Config { projector, predictor, .. } = MocoV3Config::default();
        MocoV3Config {
            momentum: 0.9,
            projector: MlpHeadConfig { hidden: vec![5, 5], output: 3, ..projector },
            predictor: MlpHeadConfig { hidden: vec![6], output: 3, ..predictor },
            ..MocoV3Config::default()
        }
    }

    fn setup() -> (nn::VarStore, Pixels, MocoV3<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let objective = MocoV3::new(&Pixels::site(&store, &encoder), &config()).unwrap();
        fill(&store, &LEARNED);
        objective.ema.copy();
        (store, encoder, objective)
    }

    #[test]
    fn equals_the_authors_loss_and_schedule_over_five_steps() {
        // In float64: with so few samples BatchNorm makes much of what 32 bits round away.
        // enc = nn.Linear(4, 4)
        // proj = MoCoProjectionHead(4, 5, 3, num_layers=3, batch_norm=True)      # lightly's
        // pred = MoCoProjectionHead(3, 6, 3, num_layers=2, batch_norm=True)
        // # The scales and shifts of BatchNorm stay at 1 and 0.
        // ps = the parameters of all linear layers, in this order; fill(ps)      # fill, wave as in moco_v2.rs
        // em, pm = copy.deepcopy(enc), copy.deepcopy(proj); opt = torch.optim.SGD(ps, lr=0.001)
        // def ctr(q, k):
        //     return F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2, torch.arange(6)) * 2 * 0.2
        // for s in range(5):
        //     x0, x1 = wave(6, 4, s), wave(6, 4, s + 0.5)
        //     q0, q1 = pred(proj(enc(x0))), pred(proj(enc(x1)))
        //     with torch.no_grad(): k0, k1 = pm(em(x0)), pm(em(x1))
        //     v = ctr(q0, k1) + ctr(q1, k0); opt.zero_grad(); v.backward(); opt.step()
        //     print(v.item(), enc.weight.grad, pred.layers[3].weight.grad)
        //     m = 1 - 0.5 * (1 + math.cos(math.pi * (s + 1) / 8)) * (1 - 0.9)
        //     update_momentum(enc, em, m); update_momentum(proj, pm, m)
        // print(em.weight, pm.layers[6].weight)
        let (store, encoder, mut objective) = setup();
        let v = store.variables();
        for (s, expected) in [3.044259, 3.1703773, 3.9196401, 4.1798037, 2.7843477].into_iter().enumerate() {
            let step = Step::single(s as u64, 8, 0, 0);
            let loss = objective.loss(&encoder, &batch(6, 2, s as f64), &step).unwrap().total;
            // Two of MKL's kernels come to lie as far from float64 after five steps.
            let tolerance = if s == 0 { 1e-5 } else { 2e-4 };
            assert!((loss.scalar().unwrap() / expected - 1.0).abs() < tolerance, "step {s}: {loss:?}");
            loss.backward();
            if s == 0 {
                assert_near(
                    &v["encoder.weight"].grad(),
                    &[
                        23.414831, 19.347567, 6.1808236, -9.8928466, 23.118582, 17.81616, 4.134507,
                        -11.491664, 11.949297, 7.9055297, 0.14366489, -7.6857704, -4.8399276, -5.7231919,
                        -3.9147426, -0.2651382,
                    ],
                );
                assert_near(
                    &v["objective.predictor.3.weight"].grad(),
                    &[
                        4.441674,
                        -0.98766201,
                        -2.4541624,
                        4.4654568,
                        -1.137955,
                        -2.3992163,
                        -0.48303999,
                        0.74374746,
                        -0.095434542,
                        -0.46581432,
                        0.75434229,
                        -0.12770627,
                        0.71144562,
                        -0.51904877,
                        0.44781863,
                        0.6966215,
                        -0.53371791,
                        0.47413734,
                    ],
                );
            }
            descend(&store, &LEARNED, 0.001);
            objective.after_step(&store, &step).unwrap();
        }
        assert_within(
            &v["objective.teacher.encoder.weight"],
            &[
                -0.0084607766,
                0.31489321,
                0.49014802,
                0.43487857,
                0.15931753,
                -0.18186195,
                -0.43750882,
                -0.48738852,
                -0.31969793,
                0.0057145751,
                0.3284396,
                0.49669418,
                0.42929007,
                0.1619246,
                -0.18159695,
                -0.43971021,
            ],
            2e-4,
        );
        assert_within(
            &v["objective.teacher.projector.6.weight"],
            &[
                -0.37782558,
                -0.49965156,
                -0.38824992,
                -0.092860144,
                0.24514247,
                0.46690725,
                0.47136823,
                0.24606594,
                -0.087941591,
                -0.38797625,
                -0.50298504,
                -0.37986214,
                -0.086570589,
                0.25480068,
                0.46863959,
            ],
            2e-4,
        );
    }

    #[test]
    fn the_order_of_the_views_does_not_matter_and_the_last_update_leaves_the_teacher() {
        let loss = |swapped: bool| {
            let (store, encoder, mut objective) = setup();
            let mut images = batch(6, 2, 0.0);
            if swapped {
                images.views.swap(0, 1);
            }
            let step = Step::single(7, 8, 0, 0);
            let loss = objective.loss(&encoder, &images, &step).unwrap().total;
            loss.backward();
            descend(&store, &LEARNED, 0.1);
            let teacher = &store.variables()["objective.teacher.encoder.weight"];
            let before = teacher.copy();
            objective.after_step(&store, &step).unwrap();
            assert_eq!(*teacher, before);
            loss
        };
        assert!((loss(false) - loss(true)).abs().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter_of_the_student_and_none_of_the_teacher() {
        let (store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap().total.backward();
        // BatchNorm removes the mean that the encoder's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
    }

    /// Tokens by one layer, features by another.
    #[derive(Debug)]
    struct Patches(Pixels, Pixels);

    impl Patches {
        fn new(path: &nn::Path) -> Self {
            Patches(Pixels::with_bias(path / "patch_embed" / "proj"), Pixels::with_bias(path / "blocks"))
        }
    }

    impl Encoder for Patches {
        fn dim(&self) -> i64 {
            4
        }
        fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
            self.1.encode(&self.0.encode(x, mode)?.relu().reshape([-1, 1, 2, 2]), mode)
        }
    }

    #[test]
    fn nothing_of_the_teacher_learns_wherever_the_objective_stands() {
        let store = nn::VarStore::new(selfsup_core::Device::Cpu);
        let encoder = Patches::new(&(store.root() / Site::<Patches>::ENCODER));
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Patches::new(&path))));
        let _objective = MocoV3::new(&site.part("x").unwrap(), &config()).unwrap();
        let v = store.variables();
        assert!(v.contains_key("objective.x.teacher.encoder.patch_embed.proj.weight"));
        let learning: Vec<_> = v.iter().filter(|(_, x)| x.requires_grad()).map(|(name, _)| name).collect();
        assert!(!learning.iter().any(|name| name.contains(".teacher.")), "{learning:?}");
        assert_eq!(store.trainable_variables().len(), learning.len());
    }

    #[test]
    fn a_frozen_patch_projection_does_not_learn_and_is_the_teachers_too() {
        for (patch_projection, learns) in [(PatchProjection::Frozen, false), (PatchProjection::Learned, true)]
        {
            let store = nn::VarStore::new(selfsup_core::Device::Cpu);
            let encoder = Patches::new(&(store.root() / "encoder"));
            let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Patches::new(&path))));
            let mut objective = MocoV3::new(&site, &MocoV3Config { patch_projection, ..config() }).unwrap();
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap().total.backward();
            assert_gradients(&store, &["encoder.blocks.bias"]);
            let v = store.variables();
            assert_eq!(v["encoder.patch_embed.proj.weight"].requires_grad(), learns);
            assert!(v["encoder.blocks.weight"].requires_grad());
            assert_eq!(
                v["encoder.patch_embed.proj.weight"],
                v["objective.teacher.encoder.patch_embed.proj.weight"]
            );
            let learning = v.values().filter(|x| x.requires_grad()).count();
            assert_eq!(store.trainable_variables().len(), learning);
        }
    }

    #[test]
    fn rejects_what_cannot_work() {
        let (_store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        let error = objective.loss(&encoder, &batch(6, 1, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "views = 1: two views an image for MoCo v3");
        let error = objective.loss(&encoder, &batch(1, 2, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "features: expected at least 2 samples for BatchNorm, found [1, 4]");
        for (config, message) in [
            (MocoV3Config { temperature: 0.0, ..config() }, "temperature = 0: a positive number"),
            (MocoV3Config { momentum: -0.5, ..config() }, "momentum = -0.5: from 0 to 1"),
            (
                MocoV3Config { predictor: MlpHeadConfig::projector(6, 4), ..config() },
                "predictor.output = 4: projector.output = 3, with which it is compared",
            ),
        ] {
            let (store, encoder) = Pixels::stored();
            let error = MocoV3::new(&Pixels::site(&store, &encoder), &config).unwrap_err().to_string();
            assert_eq!(error, message);
        }
    }
}
