//! DenseCL: MoCo v2 for whole images and, beside it, for every place of the map of features.
//!
//! Wang, Zhang, Shen, Kong and Li 2021, *Dense Contrastive Learning for Self-Supervised Visual Pre-Training*. From the map
//! of the encoder, one projector makes a vector of an image and another a vector of every place:
//!
//! ```text
//! L = (1 - lambda) InfoNCE(q, k; queue) + lambda mean over places s of InfoNCE(r_s, t_{c(s)}; dense queue)
//! c(s) = the place of the teacher's map, in the other view, that is most like place s of the student's map
//! ```
//!
//! The correspondence c compares the maps before any projector (equation 3), by cosine. The dense queue holds, for every
//! image, the mean of its places' vectors as of unit length (section 3.3), as the authors' code has it. Teacher,
//! queues and shuffled BatchNorm are [`MocoV2`](crate::MocoV2)'s: see there.
//!
//! The authors can pool the map to a fixed grid before the dense projector; their published settings do not, nor does
//! this.

use crate::contrastive::info_nce::{InfoNce, InfoNceOutput};
use crate::contrastive::queue::Queue;
use crate::contrastive::shuffled_groups;
use crate::momentum::check_momentum;
use crate::views::two_views;
use selfsup_core::ema::Buffers;
use selfsup_core::{
    Ema, Error, HeadNorm, ImageViews, Kind, Loss, MapEncoder, MlpHead, MlpHeadConfig, Mode, Objective,
    Result, Site, Step, Tensor, TensorExt, check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`DenseCl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DenseClConfig {
    /// The temperature of both losses: 0.2 (section 4.1 of the paper).
    pub temperature: f64,
    /// How much of the teacher stays at a step: 0.999 (section 4.1).
    pub momentum: f64,
    /// The keys that each of the two queues remembers: 65,536 (section 4.1).
    pub queue: i64,
    /// The weight of the dense loss: 0.5 (section 3.2).
    pub lambda: f64,
    /// The parts of a batch that BatchNorm sees apart: 8, the GPUs of the paper. A network without BatchNorm takes the
    /// batch whole.
    pub groups: i64,
    /// The projector of images: 2048 hidden units, ReLU, 128 outputs (section 3.2), without BatchNorm.
    pub projector: MlpHeadConfig,
    /// The projector of places: the same sizes (section 3.2).
    pub dense_projector: MlpHeadConfig,
}

impl Default for DenseClConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![2048],
            output: 128,
            hidden_norm: HeadNorm::None,
            output_norm: HeadNorm::None,
        };
        DenseClConfig {
            temperature: 0.2,
            momentum: 0.999,
            queue: 65_536,
            lambda: 0.5,
            groups: 8,
            dense_projector: projector.clone(),
            projector,
        }
    }
}

/// The two projectors of the student or the teacher.
#[derive(Debug)]
struct Heads {
    global: MlpHead,
    dense: MlpHead,
}

/// What a network makes of images, S places each.
struct Embedded {
    /// `[N, P]`
    global: Tensor,
    /// `[N, S, Q]`
    dense: Tensor,
    /// The encoder's map, `[N, S, C]`, without gradient.
    map: Tensor,
}

impl Heads {
    fn new<E: MapEncoder + ?Sized>(path: &nn::Path, site: &Site<E>, config: &DenseClConfig) -> Result<Self> {
        Ok(Heads {
            global: MlpHead::new(path / "projector", site.dim(), &config.projector)?,
            dense: MlpHead::new(path / "dense_projector", site.encoder.map_dim(), &config.dense_projector)?,
        })
    }

    /// Images `[N, C, H, W]`, with BatchNorm's statistics taken in each of the groups.
    fn embed<E: MapEncoder + ?Sized>(&self, encoder: &E, images: &Tensor, groups: i64) -> Result<Embedded> {
        let (mut globals, mut denses, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for part in images.tensor_split(groups, 0) {
            let (map, features) = encoder.map(&part, Mode::Train)?; // [N, C, H', W'], [N, D]
            let [n, channels, h, w] = check_shape("map", &map, [-1, -1, -1, -1])?;
            let map = map.permute([0, 2, 3, 1]).reshape([n * h * w, channels]); // [N S, C]
            globals.push(self.global.forward(&features, Mode::Train)?);
            denses.push(self.dense.forward(&map, Mode::Train)?.reshape([n, h * w, -1]));
            maps.push(map.detach().reshape([n, h * w, channels]));
        }
        let join = |parts: Vec<Tensor>| Tensor::cat(&parts, 0);
        Ok(Embedded { global: join(globals), dense: join(denses), map: join(maps) })
    }
}

/// The place of the other view that is most like each place: `[N, S, C]` and `[N, T, C]` to Int64 `[N, S]`.
fn correspondence(student: &Tensor, teacher: &Tensor) -> Tensor {
    student.l2_normalize().bmm(&teacher.l2_normalize().transpose(1, 2)).argmax(2, false)
}

/// The DenseCL objective: two projectors, a teacher of encoder and projectors, and two queues of its keys.
#[derive(Debug)]
pub struct DenseCl<E: ?Sized> {
    heads: Heads,
    teacher: Box<E>,
    teacher_heads: Heads,
    ema: Ema,
    momentum: f64,
    queue: Queue,
    dense_queue: Queue,
    lambda: f64,
    /// The parts of a batch, where there is BatchNorm.
    groups: Option<i64>,
    loss: InfoNce,
}

impl<E: MapEncoder + ?Sized> DenseCl<E> {
    /// Makes the projectors, the teacher and the queues for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a size or the temperature is not positive, or the momentum or lambda lies outside 0 to 1.
    pub fn new(site: &Site<E>, config: &DenseClConfig) -> Result<Self> {
        let loss = InfoNce::new(config.temperature)?;
        check_momentum(config.momentum)?;
        shuffled_groups::check(config.groups)?;
        if !(0.0..=1.0).contains(&config.lambda) {
            return Err(Error::config("lambda", config.lambda, "from 0 to 1"));
        }
        let path = site.path();
        let heads = Heads::new(&path, site, config)?;
        let teacher = (site.twin)(&path / "teacher" / "encoder")?;
        let teacher_heads = Heads::new(&(&path / "teacher"), site, config)?;
        Ok(DenseCl {
            heads,
            teacher,
            teacher_heads,
            ema: site.tie_teacher(&["projector", "dense_projector"], Buffers::Keep)?,
            momentum: config.momentum,
            queue: Queue::new(&path / "queue", config.queue, config.projector.output)?,
            dense_queue: Queue::new(&path / "dense_queue", config.queue, config.dense_projector.output)?,
            lambda: config.lambda,
            groups: shuffled_groups::where_there_is_batch_norm(site, config.groups),
            loss,
        })
    }
}

impl<E: MapEncoder + ?Sized> Objective<E> for DenseCl<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "DenseCL")?;
        shuffled_groups::two_in_each(self.groups, view0)?;
        let groups = self.groups.unwrap_or(1);
        let student = self.heads.embed(encoder, view0, groups)?;
        let [global, dense, map] = tch::no_grad(|| {
            let order = Tensor::randperm(n, (Kind::Int64, view1.device()));
            shuffled_groups::shuffled(view1, &order, |images| {
                let Embedded { global, dense, map } =
                    self.teacher_heads.embed(&*self.teacher, images, groups)?;
                Ok([global, dense, map])
            })
        })?;
        let teacher = Embedded { global, dense, map };

        let k = teacher.global.l2_normalize(); // [N, P]
        let global = self.loss.against(&student.global, &k, &self.queue.vectors.copy())?;

        let dim = student.dense.size()[2];
        let place = correspondence(&student.map, &teacher.map).unsqueeze(2).expand([-1, -1, dim], false); // [N, S, Q]
        let t = teacher.dense.gather(1, &place, false).reshape([-1, dim]); // [N S, Q]
        let r = student.dense.reshape([-1, dim]); // [N S, Q]
        let InfoNceOutput { loss: dense, accuracy: dense_accuracy } =
            self.loss.against(&r, &t, &self.dense_queue.vectors.copy())?;

        let dense_key = teacher.dense.mean_dim([1_i64].as_slice(), false, None).l2_normalize(); // [N, Q]
        self.queue.push(&step.comm.gather(&k)?)?;
        self.dense_queue.push(&step.comm.gather(&dense_key)?)?;
        Ok(Loss::new(&global.loss * (1.0 - self.lambda) + &dense * self.lambda)
            .with("global_loss", &global.loss)
            .with("dense_loss", &dense)
            .with("contrastive_accuracy", &global.accuracy)
            .with("dense_accuracy", &dense_accuracy))
    }

    fn after_step(&mut self, _store: &nn::VarStore, _step: &Step) -> Result<()> {
        self.ema.update(self.momentum);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{assert_gradients, assert_near, descend, fill, waves};
    use selfsup_core::layers::{Affine, BatchNorm, Bias, Conv2d, ConvShape};
    use selfsup_core::{Device, Encoder};

    /// A convolution over squares of 2 x 2 pixels, with BatchNorm where a test asks for it.
    #[derive(Debug)]
    struct Squares(Conv2d, Option<BatchNorm>);

    impl Squares {
        fn new(path: &nn::Path, with_norm: bool) -> Self {
            let shape = ConvShape { kernel: 2, stride: 2, padding: 0 };
            let norm = with_norm.then(|| BatchNorm::new(path / "norm", 4, Affine::Yes));
            Squares(Conv2d::new(path, 1, 4, shape, Bias::Yes), norm)
        }
    }

    impl Encoder for Squares {
        fn dim(&self) -> i64 {
            4
        }
        fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
            Ok(self.map(x, mode)?.1)
        }
    }

    impl MapEncoder for Squares {
        fn channels(&self) -> i64 {
            1
        }

        fn map_dim(&self) -> i64 {
            4
        }
        fn map(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
            let map = self.0.forward(x);
            let map = self.1.as_ref().map_or(map.shallow_clone(), |norm| norm.forward(&map, mode));
            let features = map.mean_dim([2_i64, 3].as_slice(), false, None);
            Ok((map, features))
        }
    }

    const LEARNED: [&str; 10] = [
        "encoder.weight",
        "encoder.bias",
        "objective.projector.0.weight",
        "objective.projector.0.bias",
        "objective.projector.2.weight",
        "objective.projector.2.bias",
        "objective.dense_projector.0.weight",
        "objective.dense_projector.0.bias",
        "objective.dense_projector.2.weight",
        "objective.dense_projector.2.bias",
    ];

    fn config() -> DenseClConfig {
        let projector = MlpHeadConfig { hidden: vec![5], output: 3, ..DenseClConfig::default().projector };
        let dense_projector = projector.clone();
        let sizes =
            DenseClConfig { queue: 12, groups: 2, projector, dense_projector, ..DenseClConfig::default() };
        DenseClConfig { momentum: 0.9, lambda: 0.3, ..sizes }
    }

    fn setup(with_norm: bool) -> (nn::VarStore, Squares, DenseCl<Squares>) {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Squares::new(&(store.root() / "encoder"), with_norm);
        let twin = |path: nn::Path| Ok(Box::new(Squares::new(&path, with_norm)));
        let objective = DenseCl::new(&Site::new(&store, &encoder, 6, twin), &config()).unwrap();
        fill(&store, &LEARNED);
        objective.ema.copy();
        objective.queue.vectors.shallow_clone().copy_(&waves(12, 3, 1.0, 0.3).l2_normalize());
        objective.dense_queue.vectors.shallow_clone().copy_(&waves(12, 3, 2.0, 0.3).l2_normalize());
        (store, encoder, objective)
    }

    fn batch(n: i64, views: usize, shift: f64) -> ImageViews {
        let view = |k: usize| waves(n, 16, shift + 0.5 * k as f64, 0.7).reshape([n, 1, 4, 4]);
        let indices = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        ImageViews { views: (0..views).map(view).collect(), indices, labels: None }
    }

    #[test]
    fn equals_the_authors_code_over_five_steps() {
        // forward_train of the authors' densecl.py, without the shuffle:
        // def wave(n, d, s, r): return torch.sin(torch.arange(float(n * d)) * r + s).reshape(n, d)
        // def head(): return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))
        // def embed(net, x):
        //     m = net[0](x).flatten(2).transpose(1, 2); return net[1](m.mean(1)), net[2](m), m.detach()
        // def info_nce(q, k, queue):
        //     q, k = F.normalize(q, dim=1), F.normalize(k, dim=1)
        //     logits = torch.cat([(q * k).sum(1, keepdim=True), q @ queue.T], 1) / 0.2
        //     return F.cross_entropy(logits, torch.zeros(len(q), dtype=torch.long))
        // net = nn.ModuleList([nn.Conv2d(1, 4, 2, stride=2), head(), head()])
        // for i, p in enumerate(net.parameters()): p.data = (torch.sin(torch.arange(float(p.numel())) * 0.7 + i) * 0.5).reshape(p.shape)
        // teacher, opt = copy.deepcopy(net), torch.optim.SGD(net.parameters(), lr=0.2)
        // q1, q2 = F.normalize(wave(12, 3, 1., 0.3), dim=1), F.normalize(wave(12, 3, 2., 0.3), dim=1)
        // for s in range(5):
        //     x0, x1 = [(torch.arange(96.) * 0.7 + s + o).sin().reshape(6, 1, 4, 4) for o in (0., 0.5)]
        //     (q, r, m), (k, t, tm) = embed(net, x0), [x.detach() for x in embed(teacher, x1)]
        //     c = (F.normalize(m, dim=2) @ F.normalize(tm, dim=2).transpose(1, 2)).argmax(2)
        //     places = t.gather(1, c[..., None].expand(-1, -1, 3)).flatten(0, 1)
        //     g, d = info_nce(q, k, q1), info_nce(r.flatten(0, 1), places, q2); l = 0.7 * g + 0.3 * d
        //     opt.zero_grad(); l.backward(); print(l.item(), g.item(), d.item())
        //     if s == 0: print(net[0].weight.grad, net[2][2].weight.grad)
        //     opt.step(); here = slice(s % 2 * 6, s % 2 * 6 + 6)
        //     q1[here], q2[here] = F.normalize(k, dim=1), F.normalize(t.mean(1), dim=1)
        //     with torch.no_grad():
        //         for a, b in zip(teacher.parameters(), net.parameters()): a.mul_(0.9).add_(0.1 * b)
        // print(teacher[0].weight, teacher[2][2].weight, q2)
        let (store, encoder, mut objective) = setup(false);
        let v = store.variables();
        for (s, [expected, global, dense]) in [
            [0.920_248_7, 0.880_554_7, 1.012_868_0],
            [1.595_706_7, 1.530_615_9, 1.747_585_3],
            [2.020_476_3, 2.002_993_8, 2.061_268_6],
            [1.921_852_1, 1.916_962_3, 1.933_262_0],
            [1.761_807_0, 1.768_383_1, 1.746_462_5],
        ]
        .into_iter()
        .enumerate()
        {
            // Any order of the keys comes to the same: the shuffle is undone.
            let step = Step::single(s as u64, 5, 0, 0);
            let Loss { total, parts } = objective.loss(&encoder, &batch(6, 2, s as f64), &step).unwrap();
            for (found, expected) in [(&total, expected), (&parts[0].1, global), (&parts[1].1, dense)] {
                assert!((found.scalar().unwrap() - expected).abs() < 1e-5, "step {s}: {found:?}");
            }
            total.backward();
            if s == 0 {
                assert_near(
                    &v["encoder.weight"].grad(),
                    &[
                        0.114_375_0,
                        0.133_547_5,
                        -0.083_811_4,
                        -0.132_192_1,
                        -0.001_117_2,
                        -0.032_491_6,
                        -0.015_398_3,
                        0.018_273_0,
                        -0.116_084_1,
                        -0.183_249_6,
                        0.060_256_9,
                        0.160_144_1,
                        -0.176_454_7,
                        -0.247_822_2,
                        0.107_572_2,
                        0.226_696_7,
                    ],
                );
                assert_near(
                    &v["objective.dense_projector.2.weight"].grad(),
                    &[
                        -0.060_319_8,
                        -0.016_880_3,
                        -0.041_535_4,
                        -0.018_447_6,
                        0.000_000_0,
                        0.054_399_5,
                        -0.019_251_3,
                        0.046_932_3,
                        -0.018_048_0,
                        0.000_000_0,
                        -0.124_153_6,
                        -0.031_901_0,
                        -0.089_815_7,
                        -0.034_918_9,
                        0.000_000_0,
                    ],
                );
            }
            descend(&store, &LEARNED, 0.2);
            objective.after_step(&store, &step).unwrap();
        }
        assert_near(
            &v["objective.teacher.encoder.weight"],
            &[
                -0.015_591_5,
                0.295_967_2,
                0.500_022_9,
                0.453_946_5,
                0.173_025_6,
                -0.165_423_8,
                -0.438_016_5,
                -0.499_530_1,
                -0.297_489_5,
                0.037_654_7,
                0.319_390_4,
                0.468_723_6,
                0.457_569_6,
                0.212_164_5,
                -0.196_440_1,
                -0.484_237_5,
            ],
        );
        assert_near(
            &v["objective.teacher.dense_projector.2.weight"],
            &[
                0.497_379_9,
                0.318_059_5,
                0.015_679_6,
                -0.328_224_3,
                -0.490_468_1,
                -0.445_987_5,
                -0.164_677_7,
                0.156_309_0,
                0.445_930_5,
                0.493_386_0,
                0.354_724_7,
                0.005_274_3,
                -0.299_411_7,
                -0.490_788_1,
                -0.433_601_3,
            ],
        );
        assert_near(
            &v["objective.dense_queue.vectors"],
            &[
                0.363_558_4,
                0.021_418_5,
                -0.931_325_2,
                0.536_466_5,
                -0.145_918_9,
                -0.831_210_8,
                0.771_556_3,
                -0.452_931_6,
                -0.446_714_4,
                0.762_882_6,
                -0.435_919_5,
                -0.477_477_1,
                0.497_563_8,
                -0.104_148_9,
                -0.861_152_4,
                0.374_588_1,
                0.011_706_1,
                -0.927_117_5,
                0.482_557_5,
                -0.094_280_9,
                -0.870_775_2,
                0.734_179_9,
                -0.394_580_5,
                -0.552_527_0,
                0.768_100_5,
                -0.449_946_9,
                -0.455_597_9,
                0.601_095_1,
                -0.219_894_8,
                -0.768_330_0,
                0.405_664_4,
                -0.021_527_1,
                -0.913_768_5,
                0.598_979_5,
                -0.219_000_0,
                -0.770_235_4,
            ],
        );
    }

    #[test]
    fn the_dense_loss_equals_a_loop_over_places() {
        let (_store, encoder, mut objective) = setup(false);
        let batch = batch(6, 2, 0.0);
        let embed = |heads: &Heads, encoder: &Squares, view: usize| {
            heads.embed(encoder, &batch.views[view], 1).unwrap()
        };
        let student = embed(&objective.heads, &encoder, 0);
        let teacher = embed(&objective.teacher_heads, &objective.teacher, 1);
        let queue = objective.dense_queue.vectors.copy();
        let cosine =
            |a: &Tensor, b: &Tensor| (a.l2_normalize() * b.l2_normalize()).sum(None).scalar().unwrap();
        let mut total = 0.0;
        for i in 0..6 {
            for s in 0..4 {
                let map = student.map.get(i).get(s);
                let likeness: Vec<f64> = (0..4).map(|t| cosine(&map, &teacher.map.get(i).get(t))).collect();
                let best = (0..4).max_by(|&a, &b| likeness[a].total_cmp(&likeness[b])).unwrap();
                let r = student.dense.get(i).get(s);
                let e = |key: &Tensor| (cosine(&r, key) / 0.2).exp();
                let positive = e(&teacher.dense.get(i).get(best as i64));
                let negatives: f64 = (0..12).map(|j| e(&queue.get(j))).sum();
                total -= (positive / (positive + negatives)).ln() / 24.0;
            }
        }
        let loss = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap();
        assert!((loss.parts[1].1.scalar().unwrap() - total).abs() < 1e-5, "{:?} {total}", loss.parts);
    }

    #[test]
    fn places_that_moved_are_found_where_they_went() {
        let map = waves(2 * 5, 3, 0.0, 0.9).reshape([2, 5, 3]);
        let order = Tensor::from_slice(&[3_i64, 0, 4, 1, 2]);
        let moved = map.index_select(1, &order) * 4.0;
        let found = correspondence(&moved, &map);
        assert_eq!(found, order.expand([2, 5], false));
    }

    #[test]
    fn gradients_reach_the_student_and_never_the_teacher() {
        let (store, encoder, mut objective) = setup(true);
        let before = store.variables()["objective.teacher.encoder.weight"].copy();
        let step = Step::single(0, 5, 0, 0);
        objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap().total.backward();
        // BatchNorm removes the mean that the convolution's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
        descend(&store, &["encoder.weight"], 1.0);
        let teacher = store.variables()["objective.teacher.encoder.weight"].shallow_clone();
        assert_eq!(teacher, before);
        objective.after_step(&store, &step).unwrap();
        assert_ne!(teacher, before);
    }

    #[test]
    fn takes_the_batch_whole_where_nothing_has_batch_norm() {
        let (_store, encoder, mut objective) = setup(false);
        assert_eq!(objective.groups, None);
        assert!(objective.loss(&encoder, &batch(1, 2, 0.0), &Step::single(0, 1, 0, 0)).is_ok());
        assert_eq!(setup(true).2.groups, Some(2));
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup(true);
        let mut refusal = |batch: &ImageViews| {
            objective.loss(&encoder, batch, &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        assert_eq!(refusal(&batch(6, 3, 0.0)), "views = 3: two views an image for DenseCL");
        assert_eq!(
            refusal(&batch(3, 2, 0.0)),
            "view 0: expected at least 4 images, two for BatchNorm in each of 2 groups, found [3, 1, 4, 4]"
        );
        let (store, encoder, _) = setup(false);
        let site =
            |store| Site::new(store, &encoder, 6, |path: nn::Path| Ok(Box::new(Squares::new(&path, false))));
        let refusal = |config: DenseClConfig| DenseCl::new(&site(&store), &config).unwrap_err().to_string();
        assert_eq!(refusal(DenseClConfig { lambda: 1.5, ..config() }), "lambda = 1.5: from 0 to 1");
        assert_eq!(refusal(DenseClConfig { momentum: -0.1, ..config() }), "momentum = -0.1: from 0 to 1");
        assert_eq!(refusal(DenseClConfig { groups: 0, ..config() }), "groups = 0: at least 1 group");
        assert!(refusal(DenseClConfig { temperature: 0.0, ..config() }).contains("a positive number"));
    }
}
