//! TiCo: two views of an image agree, and embeddings keep away from the directions that embeddings so far have taken.
//!
//! Zhu, Moraes, Karakulak, Sobal, Canziani and LeCun 2022, *TiCo: Transformation Invariance and Covariance Contrast for
//! Self-Supervised Visual Representation Learning*, algorithm 1. With z of the student and z' of a teacher that is its
//! moving average, both of unit length, and n samples,
//!
//! ```text
//! C = beta C + (1 - beta) 1/n sum_i z_i z_i^T
//! L = 1 - 1/n sum_i z_i . z'_i  +  rho/n sum_i z_i^T C z_i
//! ```
//!
//! C is a memory of all embeddings so far, without gradient; it begins at zero and already holds the batch when the loss
//! is computed. It stands in the checkpoint. Across ranks the memory is one, of all samples. The student sees the first
//! view and the teacher the second; the teacher normalises by its own batches and keeps its own running statistics, and
//! its momentum rises to 1 along BYOL's cosine. (The constant 1 is lightly's: the loss of perfect agreement is then 0.)

use crate::momentum::check_momentum;
use crate::views::{at_least_two, two_views};
use selfsup_core::ema::{Buffers, cosine_momentum};
use selfsup_core::{
    Communicator, Ema, Encoder, Error, HeadNorm, ImageViews, Kind, Loss, MlpHead, MlpHeadConfig, Mode,
    Objective, Result, Site, Step, Tensor, TensorExt, check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// Settings of [`TiCoLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TiCoLossConfig {
    /// How slowly the memory C forgets: the paper's 0.9, as lightly has it.
    pub beta: f64,
    /// The weight of the covariance contrast: the paper's 8, as lightly has it.
    pub rho: f64,
}

impl Default for TiCoLossConfig {
    fn default() -> Self {
        TiCoLossConfig { beta: 0.9, rho: 8.0 }
    }
}

/// The TiCo loss and its memory.
#[derive(Debug)]
pub struct TiCoLoss {
    config: TiCoLossConfig,
    covariance: Tensor, // [D, D]
}

/// What a batch comes to: scalars with gradient.
#[derive(Debug)]
pub struct TiCoOutput {
    /// The sum of the two.
    pub loss: Tensor,
    /// One minus the mean cosine of the two views.
    pub invariance: Tensor,
    /// The covariance contrast, times rho.
    pub contrast: Tensor,
}

impl TiCoLoss {
    /// Makes the loss for embeddings of `dim` features, with its memory under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when `beta` lies outside `[0, 1)`, `rho` is negative, or `dim` is not positive.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, dim: i64, config: TiCoLossConfig) -> Result<Self> {
        let TiCoLossConfig { beta, rho } = config;
        if !(0.0..1.0).contains(&beta) {
            return Err(Error::config("beta", beta, "at least 0 and below 1"));
        }
        if !(rho >= 0.0 && rho.is_finite()) {
            return Err(Error::config("rho", rho, "a number from 0 up"));
        }
        if dim < 1 {
            return Err(Error::config("dim", dim, "at least 1"));
        }
        Ok(TiCoLoss { config, covariance: path.borrow().zeros_no_train("covariance", &[dim, dim]) })
    }

    /// The memory C, `[D, D]`.
    pub fn covariance(&self) -> &Tensor {
        &self.covariance
    }

    /// The loss of this rank's embeddings. The embeddings `z` of all ranks enter the memory.
    ///
    /// # Shapes
    /// `z`, `target`: `[N, D]`, row i of both from sample i, of any length.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ, are not of the memory's size, or are fewer than two.
    pub fn forward(&mut self, z: &Tensor, target: &Tensor, comm: &dyn Communicator) -> Result<TiCoOutput> {
        let [n, d] = check_shape("z", z, [-1, self.covariance.size()[0]])?;
        check_shape("target", target, [n, d])?;
        at_least_two("z", z, n)?;
        let TiCoLossConfig { beta, rho } = self.config;
        let (z, target) = (z.l2_normalize(), target.l2_normalize()); // [N, D] each
        let covariance = tch::no_grad(|| {
            let batch = comm.all_reduce(&z.tr().matmul(&z))? / (n * comm.world_size()) as f64; // [D, D]
            let covariance = &self.covariance * beta + batch * (1.0 - beta);
            self.covariance.copy_(&covariance);
            Ok::<_, Error>(covariance.to_kind(z.kind()))
        })?;
        let invariance = 1.0 - (&z * target).sum_dim_intlist(-1, false, None).mean(None);
        let contrast = (z.matmul(&covariance) * &z).sum_dim_intlist(-1, false, Kind::Float).mean(None) * rho;
        Ok(TiCoOutput { loss: &invariance + &contrast, invariance, contrast })
    }
}

/// Settings of [`TiCo`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TiCoConfig {
    /// The loss and its memory.
    pub loss: TiCoLossConfig,
    /// The teacher's momentum at the start; it rises to 1 along a cosine. 0.996: BYOL's, as lightly's example has it.
    pub momentum: f64,
    /// The projector, BYOL's: 4096 hidden units and 256 outputs.
    pub projector: MlpHeadConfig,
}

impl Default for TiCoConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![4096],
            output: 256,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        TiCoConfig { loss: TiCoLossConfig::default(), momentum: 0.996, projector }
    }
}

/// The TiCo objective: projector, the teacher's encoder and projector, and the memory.
#[derive(Debug)]
pub struct TiCo<E: ?Sized> {
    projector: MlpHead,
    teacher: Box<E>,
    teacher_projector: MlpHead,
    ema: Ema,
    momentum: f64,
    loss: TiCoLoss,
}

impl<E: Encoder + ?Sized> TiCo<E> {
    /// Makes the projector, the teacher and the memory for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(site: &Site<E>, config: &TiCoConfig) -> Result<Self> {
        check_momentum(config.momentum)?;
        let path = site.path();
        let projector = MlpHead::new(&path / "projector", site.dim(), &config.projector)?;
        let teacher = (site.twin)(&path / "teacher" / "encoder")?;
        let teacher_projector = MlpHead::new(&path / "teacher" / "projector", site.dim(), &config.projector)?;
        let ema = site.tie_teacher(&["projector"], Buffers::Keep)?;
        let loss = TiCoLoss::new(&path / "memory", config.projector.output, config.loss.clone())?;
        Ok(TiCo { projector, teacher, teacher_projector, ema, momentum: config.momentum, loss })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for TiCo<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "TiCo")?;
        at_least_two("view 0", view0, n)?;
        let z = self.projector.forward(&encoder.encode(view0, Mode::Train)?, Mode::Train)?; // [N, P]
        let target = tch::no_grad(|| {
            self.teacher_projector.forward(&self.teacher.encode(view1, Mode::Train)?, Mode::Train)
        })?; // [N, P]
        let TiCoOutput { loss, invariance, contrast } = self.loss.forward(&z, &target, step.comm)?;
        Ok(Loss::new(loss).with("invariance", &invariance).with("contrast", &contrast))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.ema.update(cosine_momentum(self.momentum, step.progress()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::{Device, SingleProcess};

    fn memory(dim: i64) -> TiCoLoss {
        let store = nn::VarStore::new(Device::Cpu);
        TiCoLoss::new(store.root(), dim, TiCoLossConfig::default()).unwrap()
    }

    fn config() -> TiCoConfig {
        let projector = MlpHeadConfig { hidden: vec![3], output: 2, ..TiCoConfig::default().projector };
        TiCoConfig { momentum: 0.9, projector, ..TiCoConfig::default() }
    }

    fn setup() -> (nn::VarStore, Pixels, TiCo<Pixels>) {
        let (store, encoder, objective) = build(|site| TiCo::new(site, &config())).unwrap();
        objective.ema.copy();
        (store, encoder, objective)
    }

    #[test]
    fn equals_the_papers_sums_term_by_term() {
        let unit = |x: &Tensor, i: i64| -> Vec<f64> {
            let row: Vec<f64> = (0..3).map(|j| x.double_value(&[i, j])).collect();
            let length = row.iter().map(|v| v * v).sum::<f64>().sqrt();
            row.iter().map(|v| v / length).collect()
        };
        let (mut loss, mut c) = (memory(3), [[0.0; 3]; 3]);
        for shift in [0.0, 5.0] {
            let (z, target) = (wave(&[4, 3], shift), wave(&[4, 3], shift + 1.0));
            for (j, row) in c.iter_mut().enumerate() {
                for (k, entry) in row.iter_mut().enumerate() {
                    let batch = (0..4).map(|i| unit(&z, i)[j] * unit(&z, i)[k]).sum::<f64>() / 4.0;
                    *entry = 0.9 * *entry + 0.1 * batch;
                }
            }
            let mut naive = 1.0;
            for i in 0..4 {
                let (a, b) = (unit(&z, i), unit(&target, i));
                naive -= a.iter().zip(&b).map(|(x, y)| x * y).sum::<f64>() / 4.0;
                for (j, row) in c.iter().enumerate() {
                    naive += row.iter().zip(&a).map(|(c, x)| 8.0 / 4.0 * c * a[j] * x).sum::<f64>();
                }
            }
            let found = loss.forward(&z, &target, &SingleProcess).unwrap().loss;
            assert_close("loss", &found, &[naive], 1e-5);
        }
    }

    #[test]
    fn equals_lightly_over_five_batches_with_the_memory_and_the_gradient() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d).requires_grad_()
        // L = lightly.loss.TiCoLoss(beta=0.9, rho=8.)
        // for s in range(5): z0, z1 = f(4, 3, float(s)), f(4, 3, s + 1.); l = L(z0, z1); print(l.item())
        // l.backward(); print(z0.grad.flatten().tolist(), L.C.flatten().tolist())
        let mut tico = memory(3);
        let expected = [0.997_082_23, 0.968_114_43, 1.243_112_33, 1.747_094_63, 1.567_440_99];
        for (s, expected) in expected.into_iter().enumerate() {
            let (z, target) = (wave(&[4, 3], s as f64), wave(&[4, 3], s as f64 + 1.0));
            let loss = tico.forward(&z, &target, &SingleProcess).unwrap().loss;
            assert_close("loss", &loss, &[expected], 1e-5);
            loss.backward();
            if s == 4 {
                let expected = [
                    0.067_066_37,
                    0.003_234_79,
                    -0.074_770_87,
                    0.046_459_21,
                    0.099_590_96,
                    0.011_244_86,
                    0.081_043_54,
                    0.102_350_56,
                    0.169_907_39,
                    0.122_232_41,
                    0.219_204_52,
                    0.033_076_02,
                ];
                assert_close("gradient", &z.grad(), &expected, 1e-5);
            }
        }
        let expected = [
            0.132_833_81,
            0.033_844_05,
            -0.029_997_21,
            0.033_844_05,
            0.123_964_95,
            0.009_936_33,
            -0.029_997_21,
            0.009_936_33,
            0.152_711_21,
        ];
        assert_close("memory", tico.covariance(), &expected, 1e-6);
    }

    #[test]
    fn one_direction_for_all_costs_rho_in_the_end_and_the_memory_has_trace_one() {
        let z = Tensor::ones([4, 3], (Kind::Float, Device::Cpu));
        let mut tico = memory(3);
        let mut last = 0.0;
        for _ in 0..200 {
            last = tico.forward(&z, &z, &SingleProcess).unwrap().loss.scalar().unwrap();
        }
        assert!((last - 8.0).abs() < 1e-4, "{last}");
        assert!((tico.covariance().trace().scalar().unwrap() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn five_steps_leave_the_teacher_and_the_memory_where_lightlys_parts_leave_them() {
        // enc, batch as in byol.rs; proj = Sequential(lin(1, 4, 3, False), BatchNorm1d(3), ReLU(), lin(2, 3, 2, True))
        // for s in range(5):
        //     x0, x1 = batch(s); z = proj(enc(x0)); with no_grad(): t = tproj(tenc(x1))
        //     l = L(z, t); opt.zero_grad(); l.backward(); opt.step(); update_momentum(...) as in byol.rs
        let (store, encoder, mut objective) = setup();
        let losses = five_steps(&store, &encoder, &mut objective);
        let expected = [0.759_286_34, 1.189_250_23, 1.643_738_27, 2.280_996_08, 2.976_376_3];
        assert_close("losses", &Tensor::from_slice(&losses), &expected, 2e-5);
        let v = store.variables();
        let expected = [
            0.019_132_03,
            0.312_488_2,
            0.485_734_82,
            0.425_819_04,
            0.198_424_06,
            -0.189_162_46,
            -0.443_268_03,
            -0.512_954_95,
            -0.286_109_03,
            -0.003_743_03,
            0.325_014_89,
            0.467_888_92,
            0.441_131_32,
            0.154_430_14,
            -0.185_005_35,
            -0.460_879_39,
        ];
        assert_close("encoder", &v["objective.teacher.encoder.weight"], &expected, 1e-5);
        let expected = [0.183_944_2, -0.121_677_15, -0.121_677_15, 0.225_565_79];
        assert_close("memory", &v["objective.memory.covariance"], &expected, 1e-5);
    }

    #[test]
    fn gradients_reach_the_student_and_neither_the_teacher_nor_the_memory() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        assert_gradients(&store, &["encoder.bias"]); // BatchNorm takes away the mean that it adds
        assert!(!store.variables()["objective.memory.covariance"].requires_grad());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(n, views, 0), &step).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 3), "views = 3: two views an image for TiCo");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let error = memory(3).forward(&wave(&[4, 2], 0.0), &wave(&[4, 2], 0.0), &SingleProcess).unwrap_err();
        assert_eq!(error.to_string(), "z: expected [_, 3], found [4, 2]");
        let refuse = |config| build(|site| TiCo::new(site, &config)).unwrap_err().to_string();
        assert_eq!(refuse(TiCoConfig { momentum: -0.1, ..config() }), "momentum = -0.1: from 0 to 1");
        let loss = TiCoLossConfig { beta: 1.0, rho: 8.0 };
        assert_eq!(refuse(TiCoConfig { loss, ..config() }), "beta = 1: at least 0 and below 1");
        let loss = TiCoLossConfig { beta: 0.9, rho: -8.0 };
        assert_eq!(refuse(TiCoConfig { loss, ..config() }), "rho = -8: a number from 0 up");
    }
}
