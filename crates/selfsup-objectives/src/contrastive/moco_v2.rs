//! MoCo v2: a view's query is to find the key of the other view, made by a slowly moving teacher, among the keys of the
//! last batches.
//!
//! He, Fan, Wu, Xie and Girshick 2020, *Momentum Contrast for Unsupervised Visual Representation Learning*,
//! algorithm 1, with the projector of two layers and the temperature of Chen, Fan, Girshick and He 2020, *Improved
//! Baselines with Momentum Contrastive Learning*. With f the encoder and its projector,
//!
//! ```text
//! q = f(view 0)     k = f_teacher(view 1)     L = InfoNCE(q, k; queue)     then   queue <- k
//! after the update of f:    f_teacher <- m f_teacher + (1 - m) f
//! ```
//!
//! **Shuffled BatchNorm** (section 3.3): a query and its key must not be normalised by statistics of the same samples,
//! which would give the answer away. The paper shuffles the keys over 8 GPUs, each with its own statistics. One process
//! does the same with groups of the batch: encoder and projector see the queries in `groups` parts in their own order,
//! and the keys in as many parts in a random order, which is undone afterwards. Each part is a forward pass of its own,
//! so that any network with BatchNorm is covered without a BatchNorm of a special kind; its running statistics then
//! move once a part instead of once a batch. The teacher keeps its own statistics, as in the authors' code. Across
//! ranks each shuffles its own keys. Where neither encoder nor projector has BatchNorm, the batch passes whole.

use crate::contrastive::info_nce::{InfoNce, InfoNceOutput};
use crate::contrastive::queue::Queue;
use crate::contrastive::shuffled_groups;
use crate::momentum::check_momentum;
use crate::views::two_views;
use selfsup_core::ema::Buffers;
use selfsup_core::{
    Ema, Encoder, HeadNorm, ImageViews, Kind, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site,
    Step, Tensor, TensorExt, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`MocoV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MocoV2Config {
    /// The temperature of the loss: 0.2 (MoCo v2, section 3; 0.07 in MoCo).
    pub temperature: f64,
    /// How much of the teacher stays at a step: 0.999 (MoCo, section 4.1).
    pub momentum: f64,
    /// The keys that are remembered: 65,536 (MoCo, section 4.1). 4,096 for small sets.
    pub queue: i64,
    /// The parts of a batch that BatchNorm sees apart: 8, the GPUs of the paper. With 1, a network with BatchNorm can
    /// find the key by its statistics; one without takes the batch whole.
    pub groups: i64,
    /// The projector: 2048 hidden units, ReLU, 128 outputs (MoCo v2, section 3), without BatchNorm.
    pub projector: MlpHeadConfig,
}

impl Default for MocoV2Config {
    fn default() -> Self {
        MocoV2Config {
            temperature: 0.2,
            momentum: 0.999,
            queue: 65_536,
            groups: 8,
            projector: MlpHeadConfig {
                hidden: vec![2048],
                output: 128,
                hidden_norm: HeadNorm::None,
                output_norm: HeadNorm::None,
            },
        }
    }
}

/// The MoCo v2 objective: a projector, a teacher of encoder and projector, and the queue of its keys.
#[derive(Debug)]
pub struct MocoV2<E: ?Sized> {
    projector: MlpHead,
    teacher: Box<E>,
    teacher_projector: MlpHead,
    ema: Ema,
    momentum: f64,
    queue: Queue,
    /// The parts of a batch, where there is BatchNorm.
    groups: Option<i64>,
    loss: InfoNce,
}

impl<E: Encoder + ?Sized> MocoV2<E> {
    /// Makes the projector, the teacher and the queue for the site's encoder.
    ///
    /// # Errors
    /// [`selfsup_core::Error::Config`] when a size or the temperature is not positive, or the momentum lies outside 0 to 1.
    pub fn new(site: &Site<E>, config: &MocoV2Config) -> Result<Self> {
        let MocoV2Config { temperature, momentum, queue, groups, ref projector } = *config;
        let loss = InfoNce::new(temperature)?;
        check_momentum(momentum)?;
        shuffled_groups::check(groups)?;
        let head = |path: nn::Path| MlpHead::new(path / "projector", site.dim(), projector);
        let student_head = head(site.path())?;
        let teacher = (site.twin)(site.path() / "teacher" / "encoder")?;
        let teacher_head = head(site.path() / "teacher")?;
        Ok(MocoV2 {
            projector: student_head,
            teacher,
            teacher_projector: teacher_head,
            ema: site.tie_teacher(&["projector"], Buffers::Keep)?,
            momentum,
            queue: Queue::new(site.path() / "queue", queue, projector.output)?,
            groups: shuffled_groups::where_there_is_batch_norm(site, groups),
            loss,
        })
    }

    /// `[N, C, H, W]` to `[N, P]`, with BatchNorm's statistics taken in each group.
    fn embed(&self, encoder: &E, projector: &MlpHead, images: &Tensor) -> Result<Tensor> {
        let parts = images.tensor_split(self.groups.unwrap_or(1), 0);
        let embed = |part: &Tensor| projector.forward(&encoder.encode(part, Mode::Train)?, Mode::Train);
        Ok(Tensor::cat(&parts.iter().map(embed).collect::<Result<Vec<_>>>()?, 0))
    }

    /// The loss of two views `[N, C, H, W]` whose keys are made in the order `shuffled`, Int64 `[N]`.
    fn contrast(&self, encoder: &E, views: [&Tensor; 2], shuffled: &Tensor, step: &Step) -> Result<Loss> {
        let q = self.embed(encoder, &self.projector, views[0])?; // [N, P]
        let embed = |images: &Tensor| Ok([self.embed(&self.teacher, &self.teacher_projector, images)?]);
        let [k] = tch::no_grad(|| shuffled_groups::shuffled(views[1], shuffled, embed))?;
        let k = k.l2_normalize(); // [N, P]
        let InfoNceOutput { loss, accuracy } = self.loss.against(&q, &k, &self.queue.vectors.copy())?;
        self.queue.push(&step.comm.gather(&k)?)?;
        Ok(Loss::new(loss).with("contrastive_accuracy", &accuracy))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for MocoV2<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "MoCo v2")?;
        shuffled_groups::two_in_each(self.groups, view0)?;
        let shuffled = Tensor::randperm(n, (Kind::Int64, view1.device()));
        self.contrast(encoder, [view0, view1], &shuffled, step)
    }

    fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
        self.ema.update(self.momentum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, batch, descend, fill, waves};
    use crate::fixtures::Normalised;
    use selfsup_core::Device;

    const LEARNED: [&str; 6] = [
        "encoder.weight",
        "encoder.bias",
        "objective.projector.0.weight",
        "objective.projector.0.bias",
        "objective.projector.2.weight",
        "objective.projector.2.bias",
    ];

    fn config() -> MocoV2Config {
        let projector = MlpHeadConfig { hidden: vec![5], output: 3, ..MocoV2Config::default().projector };
        MocoV2Config { momentum: 0.9, queue: 12, groups: 2, projector, ..MocoV2Config::default() }
    }

    fn setup() -> (nn::VarStore, Pixels, MocoV2<Pixels>) {
        let (store, encoder) = Pixels::stored();
        let objective = MocoV2::new(&Pixels::site(&store, &encoder), &config()).unwrap();
        fill(&store, &LEARNED);
        objective.ema.copy();
        objective.queue.vectors.shallow_clone().copy_(&waves(12, 3, 1.0, 0.3).l2_normalize());
        (store, encoder, objective)
    }

    /// The same with BatchNorm in the projector.
    fn with_batch_norm() -> (nn::VarStore, Pixels, MocoV2<Pixels>) {
        let projector = MlpHeadConfig { hidden_norm: HeadNorm::BatchNorm, ..config().projector };
        let (store, encoder) = Pixels::stored();
        let config = MocoV2Config { projector, ..config() };
        let objective = MocoV2::new(&Pixels::site(&store, &encoder), &config).unwrap();
        (store, encoder, objective)
    }

    #[test]
    fn equals_lightly_over_five_steps() {
        // def fill(ps):
        //     for i, p in enumerate(ps):
        //         p.data = (torch.sin(torch.arange(float(p.numel())) * 0.7 + i) * 0.5).reshape(p.shape)
        // enc, head = nn.Linear(4, 4), MoCoProjectionHead(4, 5, 3); fill([*enc.parameters(), *head.parameters()])
        // enc_m, head_m = copy.deepcopy(enc), copy.deepcopy(head)
        // crit = NTXentLoss(temperature=0.2, memory_bank_size=(12, 3))
        // crit.memory_bank.bank = F.normalize(wave(12, 3, 1., 0.3), dim=1)      # wave as in info_nce.rs
        // opt = torch.optim.SGD([*enc.parameters(), *head.parameters()], lr=0.5)
        // for s in range(5):
        //     q = head(enc(wave(6, 4, s)))
        //     with torch.no_grad(): k = head_m(enc_m(wave(6, 4, s + 0.5)))
        //     v = crit(q, k); opt.zero_grad(); v.backward(); print(v.item(), enc.weight.grad); opt.step()
        //     update_momentum(enc, enc_m, 0.9); update_momentum(head, head_m, 0.9)
        // print(enc_m.weight, head_m.layers[2].weight, crit.memory_bank.bank)
        let (store, encoder, mut objective) = setup();
        let v = store.variables();
        for (s, expected) in
            [0.777_710_02, 2.214_977, 2.189_526_6, 1.937_381_4, 2.015_911_3].into_iter().enumerate()
        {
            // Any order of the keys comes to the same: the shuffle is undone.
            let step = Step::single(s as u64, 5, 0, 0);
            let loss = objective.loss(&encoder, &batch(6, 2, s as f64), &step).unwrap().total;
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5, "step {s}: {loss:?}");
            loss.backward();
            if s == 0 {
                assert_near(
                    &v["encoder.weight"].grad(),
                    &[
                        0.23171854,
                        0.13988352,
                        -0.017740944,
                        -0.16702163,
                        -0.04592545,
                        -0.0071707964,
                        0.034956399,
                        0.060643047,
                        -0.30197012,
                        -0.15085264,
                        0.071213245,
                        0.25978649,
                        -0.41599327,
                        -0.22358598,
                        0.073977306,
                        0.33674803,
                    ],
                );
            }
            descend(&store, &LEARNED, 0.5);
            objective.after_step(&store, &step).unwrap();
        }
        assert_near(
            &v["objective.teacher.encoder.weight"],
            &[
                -0.078675762,
                0.2608811,
                0.47774151,
                0.46991268,
                0.1927976,
                -0.16205464,
                -0.44068989,
                -0.51206201,
                -0.26251015,
                0.028094562,
                0.30548614,
                0.43920264,
                0.56946313,
                0.25850293,
                -0.17403567,
                -0.52472222,
            ],
        );
        assert_near(
            &v["objective.teacher.projector.2.weight"],
            &[
                -0.44891766,
                -0.49996161,
                -0.46549407,
                -0.091081299,
                -0.037192974,
                0.60063648,
                0.47036532,
                0.26960212,
                -0.087163575,
                -0.60815251,
                -0.44251177,
                -0.38099185,
                -0.081973851,
                0.25433049,
                0.60421097,
            ],
        );
        assert_near(
            &v["objective.queue.vectors"],
            &[
                -0.98723674,
                0.093688004,
                0.12878756,
                -0.80887103,
                -0.31660292,
                0.49546963,
                -0.7755987,
                -0.36720005,
                0.51343042,
                -0.98478436,
                0.096426167,
                0.14457424,
                -0.60523289,
                -0.50329262,
                0.61675733,
                -0.95575845,
                0.28987089,
                -0.050006453,
                -0.65537989,
                -0.49135175,
                0.57362938,
                -0.98540252,
                0.16853231,
                0.024052614,
                -0.58985358,
                -0.52777743,
                0.61116588,
                -0.96585715,
                0.25045395,
                -0.066277213,
                -0.56394309,
                -0.54061025,
                0.62426662,
                -0.98521495,
                0.17132275,
                0.00045436746,
            ],
        );
    }

    #[test]
    fn normalises_queries_and_keys_by_different_samples() {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Normalised::new(store.root() / "encoder");
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Normalised::new(path))));
        let linear = MlpHeadConfig { hidden: vec![], output: 4, ..MocoV2Config::default().projector };
        let config = MocoV2Config { projector: linear, ..config() };
        let mut objective = MocoV2::new(&site, &config).unwrap();
        let v = store.variables();
        let mut identity = v["objective.projector.0.weight"].shallow_clone();
        tch::no_grad(|| identity.copy_(&Tensor::eye(4, (Kind::Float, Device::Cpu))));
        let _ = tch::no_grad(|| v["objective.projector.0.bias"].shallow_clone().zero_());
        objective.ema.copy();
        let queue = v["objective.queue.vectors"].copy();

        let order = [4_i64, 0, 3, 5, 1, 2];
        let images = batch(6, 2, 0.0);
        let views = [&images.views[0], &images.views[1]];
        let step = Step::single(0, 1, 0, 0);
        let found = objective.contrast(&encoder, views, &Tensor::from_slice(&order), &step).unwrap().total;

        // A row normalised by the samples beside which it stands.
        let normalised = |view: usize, groups: [&[i64]; 2]| {
            let x = images.views[view].flatten(1, -1);
            let rows = (0..6).map(|i| {
                let group = groups.into_iter().find(|group| group.contains(&i)).unwrap();
                let group = x.index_select(0, &Tensor::from_slice(group));
                (x.get(i) - group.mean_dim(0, false, None)) / (group.var_dim(0, false, false) + 1e-5).sqrt()
            });
            Tensor::stack(&rows.collect::<Vec<_>>(), 0)
        };
        let q = normalised(0, [&[0, 1, 2], &[3, 4, 5]]);
        let k = normalised(1, [&order[..3], &order[3..]]);
        let expected = InfoNce::new(0.2).unwrap().against(&q, &k, &queue).unwrap().loss;
        assert!((found - &expected).abs().scalar().unwrap() < 1e-5);
        // The teacher has normalised batches of its own, and keeps the statistics of those.
        objective.after_step(&store, &step).unwrap();
        let tracked = |name: &str| i64::try_from(&v[name]).unwrap();
        assert_eq!(tracked("objective.teacher.encoder.num_batches_tracked"), 2);
        assert_ne!(v["encoder.running_mean"], v["objective.teacher.encoder.running_mean"]);
    }

    #[test]
    fn takes_the_batch_whole_where_nothing_has_batch_norm() {
        let (_store, encoder, mut objective) = setup();
        assert_eq!(objective.groups, None);
        assert!(objective.loss(&encoder, &batch(1, 2, 0.0), &Step::single(0, 1, 0, 0)).is_ok());
        let (_store, _encoder, objective) = with_batch_norm();
        assert_eq!(objective.groups, Some(2));
    }

    #[test]
    fn gradients_reach_every_parameter_of_the_student_and_none_of_the_teacher() {
        let (store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap().total.backward();
        assert_eq!(store.trainable_variables().len(), 6);
        assert_gradients(&store, &[]);
    }

    #[test]
    fn rejects_what_cannot_work() {
        let (store, encoder, mut objective) = with_batch_norm();
        let step = Step::single(0, 1, 0, 0);
        let error = objective.loss(&encoder, &batch(6, 3, 0.0), &step).unwrap_err().to_string();
        assert_eq!(error, "views = 3: two views an image for MoCo v2");
        let error = objective.loss(&encoder, &batch(3, 2, 0.0), &step).unwrap_err().to_string();
        assert_eq!(
            error,
            "view 0: expected at least 4 images, two for BatchNorm in each of 2 groups, found [3, 1, 2, 2]"
        );
        let mut unequal = batch(6, 2, 0.0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 5);
        let error = objective.loss(&encoder, &unequal, &step).unwrap_err().to_string();
        assert_eq!(error, "view 1: expected [6, 1, 2, 2], found [5, 1, 2, 2]");
        drop(store);
        for (config, message) in [
            (MocoV2Config { temperature: 0.0, ..config() }, "temperature = 0: a positive number"),
            (MocoV2Config { momentum: 1.5, ..config() }, "momentum = 1.5: from 0 to 1"),
            (MocoV2Config { queue: 0, ..config() }, "queue = 0: at least 1 vector"),
            (MocoV2Config { groups: 0, ..config() }, "groups = 0: at least 1 group"),
        ] {
            let (store, encoder) = Pixels::stored();
            let error = MocoV2::new(&Pixels::site(&store, &encoder), &config).unwrap_err().to_string();
            assert_eq!(error, message);
        }
    }
}
