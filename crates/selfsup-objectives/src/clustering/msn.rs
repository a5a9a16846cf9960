//! MSN: from an image with patches left out tell to which prototypes a teacher finds the whole image similar.
//!
//! Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat and Ballas 2022, *Masked Siamese Networks for
//! Label-Efficient Learning*, section 3. The first view is the target, which the teacher sees whole; the
//! others are anchors. Of an anchor as large as the target a random part of the patches is dropped before the first
//! block (random masking); a smaller one is a small crop (focal masking) and keeps its patches. Encoder and projector
//! have a teacher, their moving average; [`MsnLoss`] joins anchors and targets over learned prototypes.
//!
//! The authors leave the prototypes out of weight decay, as the recipe does (`train.no_decay`): the loss does not see their
//! length, but under an adaptive optimizer the length, and with it the decay, sets how fast they turn.
//!
//! Departures: every image has a mask of its own, where the authors' code draws one for a batch; the layers before a
//! BatchNorm have no bias.

use crate::clustering::crops::check_crops;
use crate::clustering::msn_loss::{MsnLoss, MsnLossConfig, MsnOutput};
use crate::momentum::check_momentum;
use selfsup_core::ema::{Buffers, Ema};
use selfsup_core::layers::{Affine, BatchNorm, Bias, Linear, normal};
use selfsup_core::{
    Error, ImageViews, Judgement, Kind, Loss, Mode, Objective, PatchEncoder, Result, Site, Step, Tensor,
    TensorExt, check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};

/// The runs after which the teacher's momentum would be 1.
const STRETCH: f64 = 1.25;

/// Settings of [`Msn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MsnConfig {
    /// The share of the patches of a large anchor that are left out. 0.15 for ViT-S/16 (the authors'
    /// configuration); larger networks take more, to 0.7 for ViT-L/7.
    pub masked: f64,
    /// The number of prototypes, K. 1024 (the authors' configuration).
    pub prototypes: i64,
    /// See [`MsnLossConfig::temperature`].
    pub temperature: f64,
    /// See [`MsnLossConfig::sharpening`].
    pub sharpening: f64,
    /// See [`MsnLossConfig::sinkhorn_iterations`].
    pub sinkhorn_iterations: usize,
    /// See [`MsnLossConfig::mean_entropy`].
    pub mean_entropy: f64,
    /// The teacher's momentum at the beginning. It rises in a straight line that would reach 1 after 1.25 runs, so that
    /// a run which begins with 0.996 ends with 0.9992 (both in the authors' code).
    pub momentum: f64,
    /// The units of the two hidden layers of the projector. 2048 (the authors' configuration).
    pub hidden: i64,
    /// The outputs of the projector. 256 (the authors' configuration).
    pub output: i64,
}

impl Default for MsnConfig {
    fn default() -> Self {
        let MsnLossConfig { temperature, sharpening, sinkhorn_iterations, mean_entropy } =
            MsnLossConfig::default();
        MsnConfig {
            masked: 0.15,
            prototypes: 1024,
            temperature,
            sharpening,
            sinkhorn_iterations,
            mean_entropy,
            momentum: 0.996,
            hidden: 2048,
            output: 256,
        }
    }
}

/// Linear, BatchNorm, GELU, twice, and linear; weights start at a standard deviation of 0.02.
#[derive(Debug)]
struct Projector {
    hidden: [(Linear, BatchNorm); 2],
    output: Linear,
}

impl Projector {
    fn new(path: &nn::Path, inputs: i64, config: &MsnConfig) -> Self {
        let linear = |name: &str, inputs, outputs, bias| {
            let linear = Linear::new(path / name, inputs, outputs, bias);
            normal(&linear.weight, 0.02);
            if let Some(bias) = &linear.bias {
                tch::no_grad(|| drop(bias.shallow_clone().zero_()));
            }
            linear
        };
        let units = config.hidden;
        let norm = |name: &str| BatchNorm::new(path / name, units, Affine::Yes);
        Projector {
            hidden: [
                (linear("fc1", inputs, units, Bias::No), norm("bn1")),
                (linear("fc2", units, units, Bias::No), norm("bn2")),
            ],
            output: linear("fc3", units, config.output, Bias::Yes),
        }
    }

    /// `[N, D]` to `[N, output]`.
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let mut x = x.shallow_clone();
        for (linear, norm) in &self.hidden {
            x = norm.forward(&linear.forward(&x), mode).gelu("none");
        }
        self.output.forward(&x)
    }
}

/// The MSN objective: a projector, prototypes, and a teacher of encoder and projector.
#[derive(Debug)]
pub struct Msn<E: ?Sized> {
    projector: Projector,
    /// `[K, output]`
    prototypes: Linear,
    teacher: Box<E>,
    teacher_projector: Projector,
    ema: Ema,
    loss: MsnLoss,
    masked: f64,
    momentum: f64,
}

impl<E: PatchEncoder + ?Sized> Msn<E> {
    /// Makes projector, prototypes and teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a size or temperature is not positive, the masked share not in [0, 1), or the momentum not
    /// in [0, 1].
    pub fn new(site: &Site<E>, config: &MsnConfig) -> Result<Self> {
        if !(0.0..1.0).contains(&config.masked) {
            return Err(Error::config("masked", config.masked, "a share of at least 0 and below 1"));
        }
        check_momentum(config.momentum)?;
        let sizes = [
            ("prototypes", config.prototypes, 2),
            ("hidden", config.hidden, 1),
            ("output", config.output, 1),
        ];
        if let Some((field, size, least)) = sizes.into_iter().find(|(_, size, least)| size < least) {
            return Err(Error::config(field, size, format!("at least {least}")));
        }
        let loss = MsnLoss::new(MsnLossConfig {
            temperature: config.temperature,
            sharpening: config.sharpening,
            sinkhorn_iterations: config.sinkhorn_iterations,
            mean_entropy: config.mean_entropy,
        })?;
        let path = site.path();
        let projector = Projector::new(&(&path / "projector"), site.dim(), config);
        let prototypes = Linear::new(&path / "prototypes", config.output, config.prototypes, Bias::No);
        let teacher = (site.twin)(&path / "teacher" / "encoder")?;
        let teacher_projector = Projector::new(&(&path / "teacher" / "projector"), site.dim(), config);
        let ema = site.tie_teacher(&["projector"], Buffers::Keep)?;
        Ok(Msn {
            projector,
            prototypes,
            teacher,
            teacher_projector,
            ema,
            loss,
            masked: config.masked,
            momentum: config.momentum,
        })
    }

    /// Draws the patches that stay, Int64 `[A N, K]`, of as many large anchors.
    fn draw(&self, encoder: &E, anchors: &[Tensor]) -> Result<Option<Tensor>> {
        let Some(first) = anchors.first() else { return Ok(None) };
        let [n, _, height, width] = check_shape("anchors", first, [-1, -1, -1, -1])?;
        let patches = height / encoder.patch_size() * (width / encoder.patch_size());
        let kept = (patches as f64 * (1.0 - self.masked)).floor() as i64;
        if kept < 1 {
            let expected = format!("a share that leaves one of the {patches} patches of a view");
            return Err(Error::config("masked", self.masked, expected));
        }
        let anchors = anchors.len() as i64 * n;
        let order = Tensor::rand([anchors, patches], (Kind::Float, first.device())).argsort(1, false); // [A N, T]
        Ok(Some(order.narrow(1, 0, kept)))
    }

    /// The loss of a batch whose large anchors keep the patches `kept`, `[A N, K]`; without any all are small.
    fn compare(&self, encoder: &E, batch: &ImageViews, kept: Option<&Tensor>, step: &Step) -> Result<Loss> {
        let (target, anchors) = (&batch.views[0], &batch.views[1..]);
        let alike = |a: &Tensor, b: &Tensor| a.size() == b.size();
        // One batch for each size, in the projector as in the encoder: BatchNorm sees sizes apart.
        let z = anchors
            .chunk_by(alike)
            .map(|anchors| {
                let x = Tensor::cat(anchors, 0);
                let kept = kept.filter(|_| alike(&anchors[0], target));
                let tokens = encoder.tokens(&x, kept, Mode::Train)?; // [A N, 1 + K, D]
                Ok(self.projector.forward(&encoder.pool(&tokens), Mode::Train)) // [A N, P]
            })
            .collect::<Result<Vec<_>>>()?;
        let z = Tensor::cat(&z, 0); // [V N, P], V anchors
        let targets = tch::no_grad(|| {
            let h = self.teacher.encode(target, Mode::Train)?; // [N, D]
            Ok::<_, Error>(self.teacher_projector.forward(&h, Mode::Train)) // [N, P]
        })?;
        let MsnOutput { loss, cross_entropy, mean_entropy } =
            self.loss.forward(&z, &targets, &self.prototypes.weight, step.comm)?;
        Ok(Loss::new(loss).with("cross_entropy", &cross_entropy).with("mean_entropy", &mean_entropy))
    }
}

impl<E: PatchEncoder + ?Sized> Objective<E> for Msn<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, "MSN")?;
        if n < 2 {
            return Err(Error::Shape {
                name: "view 0".to_owned(),
                expected: "at least 2 images for BatchNorm".to_owned(),
                found: format!("{:?}", batch.views[0].size()),
            });
        }
        let (target, anchors) = (&batch.views[0], &batch.views[1..]);
        let large = anchors.iter().take_while(|view| view.size() == target.size()).count();
        if let Some(late) = anchors[large..].iter().position(|view| view.size() == target.size()) {
            let expected = "the large anchors right after the target, before the small";
            return Err(Error::config("views", format!("view {} is large", 1 + large + late), expected));
        }
        let kept = self.draw(encoder, &anchors[..large])?;
        self.compare(encoder, batch, kept.as_ref(), step)
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.ema.update(self.momentum + (1.0 - self.momentum) * step.progress() / STRETCH);
        Ok(())
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        let h = encoder.encode(batch.first("MSN")?, Mode::Eval)?; // [N, D]
        let z = self.projector.forward(&h, Mode::Eval).l2_normalize(); // [N, P]
        Ok(Judgement::of_prototypes(&z.matmul(&self.prototypes.weight.l2_normalize().tr()))) // [N, K]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{batch, descend, fill};
    use selfsup_core::{Device, Encoder, TensorExt};
    use selfsup_encoders::{Vit, VitConfig};

    fn config() -> MsnConfig {
        MsnConfig { prototypes: 7, hidden: 10, output: 5, ..Default::default() }
    }

    /// 16 patches in a large view, 4 in a small one.
    fn vit(path: nn::Path) -> Result<Vit> {
        let shape = VitConfig { image_size: 16, patch_size: 4, channels_in: 1, ..VitConfig::default() };
        Vit::new(path, &VitConfig { dim: 12, heads: 3, depth: 2, ..shape })
    }

    fn setup(config: &MsnConfig) -> (nn::VarStore, Vit, Msn<Vit>) {
        tch::manual_seed(0);
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = vit(store.root() / Site::<Vit>::ENCODER).unwrap();
        let msn = Msn::new(&Site::new(&store, &encoder, 6, |path| Ok(Box::new(vit(path)?))), config).unwrap();
        (store, encoder, msn)
    }

    /// The same with parameters by formula, whatever else draws random numbers, and a teacher that is a copy.
    fn filled(config: &MsnConfig) -> (nn::VarStore, Vit, Msn<Vit>) {
        let (store, encoder, msn) = setup(config);
        fill(&store);
        let v = store.variables();
        tch::no_grad(|| {
            for x in &mut store.trainable_variables() {
                let _ = x.g_mul_scalar_(0.3);
            }
            for (name, x) in &v {
                let Some(name) = name.strip_prefix("objective.teacher.") else { continue };
                let student = v.get(name).unwrap_or_else(|| &v[&format!("objective.{name}")]);
                x.shallow_clone().copy_(student);
            }
        });
        (store, encoder, msn)
    }

    fn step(i: u64) -> Step<'static> {
        Step::single(i, 10, 0, 0)
    }

    #[test]
    fn is_the_msn_loss_of_anchors_with_the_teachers_view_of_the_first() {
        let (_store, encoder, mut msn) = filled(&MsnConfig { masked: 0.0, ..config() });
        let batch = batch(4, &[16, 16, 16, 8, 8, 12], 0.0);
        let loss = msn.loss(&encoder, &batch, &step(0)).unwrap();
        let h: Vec<_> = batch.views.iter().map(|v| encoder.encode(v, Mode::Train).unwrap()).collect();
        // The projector of the authors' code sees the anchors of one size together, and those of another apart.
        let of_one_size = [&h[1..3], &h[3..5], &h[5..]];
        let z = of_one_size.map(|h| msn.projector.forward(&Tensor::cat(h, 0), Mode::Train));
        let z = Tensor::cat(&z, 0);
        let targets = msn.projector.forward(&h[0], Mode::Train); // the teacher starts as a copy
        let output = msn.loss.forward(&z, &targets, &msn.prototypes.weight, step(0).comm).unwrap();
        let [found, expected] = [&loss.total, &output.loss].map(|x| x.scalar().unwrap());
        // The loss is 12 here: batches of another length round otherwise, by a millionth of it.
        assert!((found - expected).abs() < 1e-5 * expected, "{found} instead of {expected}");
        let names: Vec<_> = loss.parts.iter().map(|(name, _)| name.as_ref()).collect();
        assert_eq!(names, ["cross_entropy", "mean_entropy"]);
    }

    #[test]
    fn large_anchors_lose_patches_and_small_ones_and_the_target_do_not() {
        let (_store, encoder, mut msn) = setup(&MsnConfig { masked: 0.3, ..config() });
        let batch = batch(4, &[16, 16, 16, 8], 0.0);
        let views = batch.views.iter().map(|v| v.copy().set_requires_grad(true)).collect();
        let batch = ImageViews { views, ..batch };
        msn.loss(&encoder, &batch, &step(0)).unwrap().total.backward();
        assert!(!batch.views[0].grad().defined());
        let seen = |view: usize| {
            let (height, width) = ([4_i64, 4], [4_i64, 4]);
            let gradient = batch.views[view].grad().abs().max_pool2d(height, width, [0, 0], [1, 1], false);
            gradient.ne(0.0).flatten(1, -1) // [N, T]
        };
        // floor(16 * 0.7) of 16 patches.
        for view in [1, 2] {
            let counts = seen(view).sum_dim_intlist(1, false, Kind::Int64);
            assert_eq!(Vec::<i64>::try_from(counts).unwrap(), [11; 4]);
        }
        assert_ne!(seen(1), seen(1).get(0).expand([4, 16], false), "images have masks of their own");
        assert!(bool::try_from(seen(3).all()).unwrap());
    }

    #[test]
    fn the_patches_that_stay_decide_the_loss() {
        let (_store, encoder, msn) = setup(&MsnConfig { masked: 0.5, ..config() });
        let batch = batch(4, &[16, 16], 0.0);
        let loss = |first: i64| {
            let kept = Tensor::arange_start(first, first + 8, (Kind::Int64, Device::Cpu)).repeat([4, 1]);
            msn.compare(&encoder, &batch, Some(&kept), &step(0)).unwrap().total.scalar().unwrap()
        };
        let (first, second, again) = (loss(0), loss(8), loss(0));
        assert!((first - again).abs() < 1e-6);
        assert!((first - second).abs() > 1e-4, "{first} {second}");
    }

    #[test]
    fn the_teacher_follows_by_the_formula_over_five_steps() {
        let (store, encoder, mut msn) = filled(&MsnConfig { momentum: 0.9, ..config() });
        let v = store.variables();
        let kept = Tensor::arange(8, (Kind::Int64, Device::Cpu)).unsqueeze(1);
        let kept = (kept + Tensor::arange(11, (Kind::Int64, Device::Cpu)) * 5).remainder(16); // [8, 11]
        let losses = (0..5).map(|i| {
            let loss =
                msn.compare(&encoder, &batch(4, &[16, 16, 16, 8], i as f64), Some(&kept), &step(i)).unwrap();
            loss.total.backward();
            descend(&store, 0.002);
            Objective::<Vit>::after_step(&mut msn, &store, &step(i)).unwrap();
            loss.total.scalar().unwrap()
        });
        let losses = Tensor::from_slice(&losses.collect::<Vec<_>>());
        let near = |found: &Tensor, expected: &[f64]| {
            let expected = Tensor::from_slice(expected);
            let difference = (found.flatten(0, -1).to_kind(Kind::Double) - &expected).abs();
            let relative = difference / expected.abs().clamp_min(1.0);
            assert!(relative.max().scalar().unwrap() < 1e-5, "{found} instead of {expected}");
        };
        near(&losses, &[11.916_234, 11.967_411, 11.983_421, 11.543_810, 11.641_309]);
        let of_teacher = |name: &str| v[&format!("objective.teacher.{name}")].shallow_clone();
        near(&of_teacher("projector.fc3.bias"), &[-0.297_555, -0.251_115, -0.086_997, 0.117_502, 0.266_356]);
        near(
            &of_teacher("encoder.cls_token"),
            &[
                -0.271_643, -0.125_782, 0.079_193, 0.246_972, 0.298_649, 0.209_811, 0.022_262, -0.175_740,
                -0.291_063, -0.269_460, -0.121_179, 0.084_032,
            ],
        );
        near(
            &v["objective.prototypes.weight"].get(0),
            &[0.070_656, 0.242_567, 0.300_101, 0.216_119, 0.030_223],
        );
        near(
            &of_teacher("projector.bn1.running_mean"),
            &[
                -0.234_002, 0.031_656, 0.201_080, -0.240_570, 0.048_731, 0.189_968, -0.246_040, 0.065_495,
                0.177_948, -0.250_325,
            ],
        );
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut msn) = setup(&config());
        for i in 0..2 {
            msn.loss(&encoder, &batch(4, &[16, 16, 8], 0.3 * i as f64), &step(i)).unwrap().total.backward();
        }
        for (name, parameter) in store.variables().iter().filter(|(_, p)| p.requires_grad()) {
            assert!(!name.starts_with("objective.teacher."), "{name}");
            let gradient = parameter.grad();
            assert!(gradient.defined() && bool::try_from(gradient.isfinite().all()).unwrap(), "{name}");
            assert!(gradient.abs().max().scalar().unwrap() > 0.0, "{name}");
        }
    }

    #[test]
    fn images_are_nearest_to_the_prototypes_that_point_where_they_do() {
        let (_store, encoder, msn) = setup(&MsnConfig { prototypes: 4, ..config() });
        let batch = batch(4, &[16, 16], 0.0);
        let h = encoder.encode(&batch.views[0], Mode::Eval).unwrap();
        let z = msn.projector.forward(&h, Mode::Eval).flip([0]) * 3.0;
        tch::no_grad(|| msn.prototypes.weight.shallow_clone().copy_(&z));
        let judged = msn.judge(&encoder, &batch).unwrap();
        let of_own = judged.prototypes[0].scores.flip([1]).diag(0);
        assert!((of_own - 1.0).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn rejects_batches_and_configs_that_do_not_fit() {
        let (store, encoder, mut msn) = setup(&config());
        let mut refused =
            |n, sizes: &[i64]| msn.loss(&encoder, &batch(n, sizes, 0.0), &step(0)).unwrap_err().to_string();
        assert_eq!(refused(4, &[16]), "views = 1: at least two views an image for MSN");
        let error = refused(1, &[16, 16]);
        assert_eq!(error, "view 0: expected at least 2 images for BatchNorm, found [1, 1, 16, 16]");
        let error = refused(4, &[16, 8, 16]);
        assert_eq!(
            error,
            "views = view 2 is large: the large anchors right after the target, before the small"
        );
        let (_store, encoder_99, mut msn) = setup(&MsnConfig { masked: 0.99, ..config() });
        let error = msn.loss(&encoder_99, &batch(4, &[16, 16], 0.0), &step(0)).unwrap_err().to_string();
        assert_eq!(error, "masked = 0.99: a share that leaves one of the 16 patches of a view");
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(vit(path)?)));
        for (config, expected) in [
            (MsnConfig { masked: 1.0, ..config() }, "masked = 1: a share of at least 0 and below 1"),
            (MsnConfig { momentum: 1.1, ..config() }, "momentum = 1.1: from 0 to 1"),
            (MsnConfig { prototypes: 1, ..config() }, "prototypes = 1: at least 2"),
            (MsnConfig { output: 0, ..config() }, "output = 0: at least 1"),
        ] {
            assert_eq!(Msn::new(&site, &config).err().map(|e| e.to_string()).as_deref(), Some(expected));
        }
    }
}
