//! W-MSE: views of an image agree after the embeddings of a batch have been whitened, which leaves a collapse nowhere to
//! go.
//!
//! Ermolov, Siarohin, Sangineto and Sebe 2021, *Whitening for Self-Supervised Representation Learning*, equations 5 to 7.
//! For the embeddings v_i of a view's sub-batch, with their mean mu and covariance S = L L^T (Cholesky),
//!
//! ```text
//! z_i = L^-1 (v_i - mu),     L = mean over pairs of views and samples of || z_i / |z_i| - z'_i / |z'_i| ||^2
//! ```
//!
//! A covariance of few samples is noise, so a batch is whitened in sub-batches of at least twice as many samples as there
//! are features; each view by itself, all views cut alike. The samples are dealt out by chance, and the loss is the mean
//! over `iterations` such deals (section 3.1). Each view passes through the encoder as a batch of its own and all pass
//! through the projector as one, as in the authors' code. Across ranks each whitens its own samples.

use crate::clustering::crops::check_crops;
use crate::views::at_least_two;
use selfsup_core::{
    Device, Encoder, Error, HeadNorm, ImageViews, Kind, Loss, MlpHead, MlpHeadConfig, Mode, Objective,
    Result, Site, Step, Tensor, TensorExt, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`WMseLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WMseLossConfig {
    /// The samples that are whitened together: 128 for 64 features, 256 for 128 (the authors' commands for CIFAR and for
    /// STL-10). The batch is a multiple of it.
    pub sub_batch: i64,
    /// How often the batch is dealt out anew: 1 on CIFAR, 4 on STL-10 and Tiny ImageNet with two views (the authors'
    /// commands).
    pub iterations: i64,
    /// The share of the identity that is mixed into the covariance: 0 in the authors' code.
    pub eps: f64,
}

impl Default for WMseLossConfig {
    fn default() -> Self {
        WMseLossConfig { sub_batch: 128, iterations: 1, eps: 0.0 }
    }
}

/// The W-MSE loss.
#[derive(Clone, Debug)]
pub struct WMseLoss {
    config: WMseLossConfig,
}

impl WMseLoss {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work.
    pub fn new(config: WMseLossConfig) -> Result<Self> {
        if config.sub_batch < 2 {
            return Err(Error::config("sub_batch", config.sub_batch, "at least 2"));
        }
        if config.iterations < 1 {
            return Err(Error::config("iterations", config.iterations, "at least 1"));
        }
        if !(0.0..1.0).contains(&config.eps) {
            return Err(Error::config("eps", config.eps, "at least 0 and below 1"));
        }
        Ok(WMseLoss { config })
    }

    /// The loss of all pairs of views; the sub-batches are drawn from libtorch's generator.
    ///
    /// # Shapes
    /// `v`: `[V, N, D]`, row i of every view from sample i. Returns a scalar in `[0, 4]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when there are fewer than two views, or N is no multiple of the sub-batch; [`Error::Other`] when a
    /// covariance cannot be inverted.
    pub fn forward(&self, v: &Tensor) -> Result<Tensor> {
        let [views, n, _] = check_shape("v", v, [-1, -1, -1])?;
        let WMseLossConfig { sub_batch, iterations, .. } = self.config;
        if views < 2 || n < sub_batch || n % sub_batch != 0 {
            return Err(Error::Shape {
                name: "v".to_owned(),
                expected: format!("at least 2 views of a multiple of {sub_batch} samples (sub_batch)"),
                found: format!("{:?}", v.size()),
            });
        }
        let mut losses = Vec::new();
        for _ in 0..iterations {
            losses.push(self.deal(v, &Tensor::randperm(n, (Kind::Int64, v.device())))?);
        }
        Ok(Tensor::stack(&losses, 0).mean(None))
    }

    /// The loss of one deal: the samples in `order`, `[N]`, cut into sub-batches.
    fn deal(&self, v: &Tensor, order: &Tensor) -> Result<Tensor> {
        let (views, n, d) = (v.size()[0], v.size()[1], v.size()[2]);
        let dealt = v.index_select(1, order).reshape([-1, self.config.sub_batch, d]); // [V S, B, D]
        let z = self.whiten(&dealt)?.reshape([views, n, d]).l2_normalize(); // [V, N, D]
        // Of unit vectors, |sum over views|^2 is V plus twice the cosines of all pairs.
        let together = z.sum_dim_intlist(0, false, None).square().sum_dim_intlist(-1, false, None); // [N]
        let pairs = (views * (views - 1)) as f64 / 2.0;
        let cosine = (together.mean(None) - views as f64) / (2.0 * pairs);
        Ok(2.0 - cosine * 2.0)
    }

    /// Whitens every sub-batch: `[S, B, D]` to the same shape.
    fn whiten(&self, v: &Tensor) -> Result<Tensor> {
        let (b, d) = (v.size()[1], v.size()[2]);
        let v = v.to_kind(Kind::Float);
        let v = (&v - v.mean_dim(1, true, None)).transpose(1, 2); // [S, D, B]
        let covariance = v.matmul(&v.transpose(1, 2)) / (b - 1) as f64; // [S, D, D]
        let identity = Tensor::eye(d, (Kind::Float, v.device()));
        let covariance = covariance * (1.0 - self.config.eps) + identity * self.config.eps;
        let (root, info) = covariance.linalg_cholesky_ex(false, false); // [S, D, D], [S]
        // What is not finite goes on as it is: the trainer's guard names it.
        let failed = info.to_device(Device::Cpu).max().scalar()? > 0.0;
        if failed && covariance.isfinite().all().scalar()? > 0.0 {
            return Err(Error::Other(format!(
                "the covariance of {d} embedded features over a sub-batch of {b} samples cannot be inverted: \
                 a larger sub_batch, a smaller projector.output or a larger eps"
            )));
        }
        Ok(root.linalg_solve_triangular(&v, false, true, false).transpose(1, 2))
    }
}

/// Settings of [`WMse`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WMseConfig {
    /// The sub-batches and the whitening.
    pub loss: WMseLossConfig,
    /// The projector: 1024 hidden units with BatchNorm, 64 outputs without, which is the paper's size for CIFAR-10.
    pub projector: MlpHeadConfig,
}

impl Default for WMseConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![1024],
            output: 64,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        WMseConfig { loss: WMseLossConfig::default(), projector }
    }
}

/// The W-MSE objective: a projector and the loss.
#[derive(Debug)]
pub struct WMse {
    projector: MlpHead,
    loss: WMseLoss,
}

impl WMse {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] with the field that cannot work; `sub_batch` is at least twice the projector's output.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &WMseConfig) -> Result<Self> {
        let twice = 2 * config.projector.output;
        if config.loss.sub_batch < twice {
            let expected = format!("at least {twice}, twice the projector's output");
            return Err(Error::config("loss.sub_batch", config.loss.sub_batch, expected));
        }
        Ok(WMse {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: WMseLoss::new(config.loss.clone())?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for WMse {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, "W-MSE")?;
        at_least_two("view 0", &batch.views[0], n)?;
        // [N, D] each
        let features: Vec<_> =
            batch.views.iter().map(|view| encoder.encode(view, Mode::Train)).collect::<Result<_>>()?;
        let v = self.projector.forward(&Tensor::cat(&features, 0), Mode::Train)?; // [V N, P]
        let v = v.reshape([features.len() as i64, n, -1]); // [V, N, P]
        Ok(Loss::new(self.loss.forward(&v)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::{nn, tch};

    fn loss(sub_batch: i64, eps: f64) -> WMseLoss {
        WMseLoss::new(WMseLossConfig { sub_batch, iterations: 1, eps }).unwrap()
    }

    fn in_order(n: i64) -> Tensor {
        Tensor::arange(n, (Kind::Int64, Device::Cpu))
    }

    fn config() -> WMseConfig {
        let projector = MlpHeadConfig { hidden: vec![3], output: 2, ..WMseConfig::default().projector };
        WMseConfig { loss: WMseLossConfig { sub_batch: 6, ..WMseLossConfig::default() }, projector }
    }

    fn setup() -> (nn::VarStore, Pixels, WMse) {
        build(|site| WMse::new(site, &config())).unwrap()
    }

    #[test]
    fn whitened_features_are_uncorrelated_with_variance_one_in_every_sub_batch() {
        let z = loss(8, 0.0).whiten(&wave(&[3, 8, 3], 0.0)).unwrap();
        for s in 0..3 {
            for j in 0..3 {
                for k in 0..3 {
                    let at = |i: i64, j: i64| z.double_value(&[s, i, j]);
                    let mean = |j: i64| (0..8).map(|i| at(i, j)).sum::<f64>() / 8.0;
                    let covariance =
                        (0..8).map(|i| (at(i, j) - mean(j)) * (at(i, k) - mean(k))).sum::<f64>() / 7.0;
                    assert!((covariance - f64::from(u8::from(j == k))).abs() < 1e-4, "{s} {j} {k}");
                }
            }
        }
    }

    #[test]
    fn equals_the_papers_distance_of_all_pairs_term_by_term() {
        let v = Tensor::stack(&[wave(&[8, 2], 0.0), wave(&[8, 2], 1.0), wave(&[8, 2], 2.0)], 0);
        let whitening = loss(4, 0.1);
        let z = whitening.whiten(&v.reshape([6, 4, 2])).unwrap().reshape([3, 8, 2]);
        let unit = |view: i64, i: i64| {
            let (x, y) = (z.double_value(&[view, i, 0]), z.double_value(&[view, i, 1]));
            (x / x.hypot(y), y / x.hypot(y))
        };
        let mut naive = 0.0;
        for i in 0..8 {
            for (a, b) in [(0, 1), (0, 2), (1, 2)] {
                let (a, b) = (unit(a, i), unit(b, i));
                naive += ((a.0 - b.0).powi(2) + (a.1 - b.1).powi(2)) / 24.0;
            }
        }
        assert_close("loss", &whitening.deal(&v, &in_order(8)).unwrap(), &[naive], 1e-5);
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d).requires_grad_()
        // from lightly.loss.wmse_loss import Whitening2d, norm_mse_loss
        // w = Whitening2d(3, eps=0., track_running_stats=False); z0, z1 = f(8, 3, 0.), f(8, 3, 1.)
        // l = norm_mse_loss(w(z0), w(z1)); l.backward(); print(l.item(), z0.grad.flatten().tolist())
        let (z0, z1) = (wave(&[8, 3], 0.0), wave(&[8, 3], 1.0));
        let l = loss(8, 0.0).forward(&Tensor::stack(&[&z0, &z1], 0)).unwrap();
        l.backward();
        assert_close("loss", &l, &[0.965_413_45], 1e-5);
        let expected = [
            -0.048_771_25,
            -0.181_783_85,
            0.171_016_19,
            0.455_946_15,
            -0.423_612_24,
            0.160_321_33,
            -0.272_236_65,
            0.147_995_08,
            -0.060_769_51,
            -0.214_289_58,
            0.113_942_97,
            -0.170_967_07,
            0.621_505_8,
            -0.231_299_67,
            0.181_399_32,
            -0.125_269_26,
            0.064_370_91,
            -0.119_968_65,
            0.038_294_35,
            -0.007_171_36,
            -0.047_575_18,
            -0.455_179_51,
            0.517_558_1,
            -0.113_456_41,
        ];
        assert_close("gradient", &z0.grad(), &expected, 1e-5);
        // w = Whitening2d(2, eps=0.1, track_running_stats=False); zs = [f(8, 2, float(s)) for s in range(3)]
        // v = [torch.cat([w(z[:4]), w(z[4:])]) for z in zs]
        // l = (norm_mse_loss(v[0], v[1]) + norm_mse_loss(v[0], v[2]) + norm_mse_loss(v[1], v[2])) / 3; l.backward()
        let z = [wave(&[8, 2], 0.0), wave(&[8, 2], 1.0), wave(&[8, 2], 2.0)];
        let l = loss(4, 0.1).deal(&Tensor::stack(&z, 0), &in_order(8)).unwrap();
        l.backward();
        assert_close("loss", &l, &[2.115_543_6], 1e-5);
        let expected = [
            -0.200_572_19,
            -0.257_446_29,
            0.125_501_13,
            0.144_531_59,
            0.180_199_44,
            0.228_877_84,
            -0.105_128_39,
            -0.115_963_15,
            0.006_160_98,
            0.019_954_63,
            -0.182_158_32,
            -0.038_677_77,
            -0.049_059_28,
            -0.009_890_5,
            0.225_056_62,
            0.028_613_64,
        ];
        assert_close("gradient", &z[0].grad(), &expected, 1e-5);
    }

    #[test]
    fn the_objective_has_lightlys_loss_and_gradient_of_three_views() {
        // def W(i, o, n): return nn.Parameter(0.5 * (torch.arange(float(o * n)) * 0.7 + i).sin().reshape(o, n))
        // def lin(i, n, o, bias): l = nn.Linear(n, o, bias=bias); l.weight = W(i, o, n); l.bias is None or zeros_(l.bias); return l
        // x = [(lambda i: (i * i * 0.37 + k).sin().reshape(6, 4))(torch.arange(24.)) for k in (0, 1, 2)]
        // enc, proj = BatchNorm1d(4), Sequential(lin(0, 4, 3, False), BatchNorm1d(3), ReLU(), lin(1, 3, 2, True))
        // from lightly.loss.wmse_loss import Whitening2d, norm_mse_loss as mse
        // w = Whitening2d(2, eps=0., track_running_stats=False); v = proj(torch.cat([enc(view) for view in x])).chunk(3)
        // l = sum(mse(w(v[a]), w(v[b])) for a, b in ((0, 1), (0, 2), (1, 2))) / 3; l.backward()
        // print(l.item(), enc.weight.grad, proj[0].weight.grad, proj[3].weight.grad)
        // With all views through enc as one it is 1.694177, with each through proj alone 1.198512.
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Normalised::new(store.root() / Site::<Normalised>::ENCODER);
        let site = Site::new(&store, &encoder, 6, |path| Ok(Box::new(Normalised::new(path))));
        let mut objective = WMse::new(&site, &config()).unwrap();
        fill(&store);
        let loss = objective.loss(&encoder, &batch(6, 3, 0), &Step::single(0, 1, 0, 0)).unwrap().total;
        loss.backward();
        assert_close("loss", &loss, &[0.942_326_25], 1e-5);
        let v = store.variables();
        let expected = [-0.409_381_15, -0.147_707_12, -0.145_496_73, 0.702_581_52];
        assert_close("encoder", &v["encoder.weight"].grad(), &expected, 1e-5);
        let expected = [
            0.580_993_59,
            -0.409_608_87,
            -0.501_267_02,
            0.877_978_92,
            0.451_070_87,
            0.102_003_2,
            -0.199_393_59,
            0.294_276,
            1.536_380_17,
            0.252_415_12,
            0.044_435_32,
            0.947_607_7,
        ];
        assert_close("hidden", &v["objective.projector.0.weight"].grad(), &expected, 1e-5);
        let expected = [1.006_104_35, -0.964_621_13, 0.162_811_95, 0.948_607_86, -1.451_069_83, 0.948_607_39];
        assert_close("output", &v["objective.projector.3.weight"].grad(), &expected, 1e-5);
    }

    #[test]
    fn a_linear_map_that_whitening_undoes_changes_nothing() {
        let z = wave(&[16, 3], 0.0).detach();
        // Lower triangular with a positive diagonal: the Cholesky factor takes it up whole.
        let map = Tensor::from_slice2(&[[2.0_f32, 0.0, 0.0], [0.5, 0.3, 0.0], [-1.0, 0.4, 5.0]]);
        let mapped = z.matmul(&map.tr()) + 7.0;
        let l = loss(16, 0.0);
        assert_close("loss", &l.forward(&Tensor::stack(&[&z, &mapped], 0)).unwrap(), &[0.0], 1e-5);
    }

    #[test]
    fn deals_differ_where_there_are_several_sub_batches_and_are_averaged() {
        let v = Tensor::stack(&[wave(&[8, 2], 0.0), wave(&[8, 2], 1.0)], 0);
        let of = |sub_batch, iterations| {
            let l = WMseLoss::new(WMseLossConfig { sub_batch, iterations, eps: 0.1 }).unwrap();
            l.forward(&v).unwrap().scalar().unwrap()
        };
        assert!((of(8, 3) - of(8, 1)).abs() < 1e-6);
        let deals: Vec<f64> = (0..20).map(|_| of(4, 1)).collect();
        assert!(deals.iter().any(|deal| (deal - deals[0]).abs() > 1e-4), "{deals:?}");
        let (low, high) =
            (deals.iter().copied().fold(4.0, f64::min), deals.iter().copied().fold(0.0, f64::max));
        let averaged = of(4, 50);
        assert!(averaged > low && averaged < high, "{low} {averaged} {high}");
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        // BatchNorm and whitening take away the means that these two add.
        assert_gradients(&store, &["encoder.bias", "objective.projector.3.bias"]);
    }

    #[test]
    fn what_is_not_finite_goes_on_and_what_cannot_be_inverted_is_told() {
        let nan = Tensor::full([2, 4, 2], f64::NAN, (Kind::Float, Device::Cpu));
        assert!(loss(4, 0.0).forward(&nan).unwrap().scalar().unwrap().is_nan());
        let same = Tensor::ones([2, 4, 2], (Kind::Float, Device::Cpu));
        let error = loss(4, 0.0).forward(&same).unwrap_err().to_string();
        assert!(error.starts_with("the covariance of 2 embedded features over a sub-batch of 4"), "{error}");
        assert!(loss(4, 0.1).forward(&same).is_ok());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            let step = Step::single(0, 1, 0, 0);
            tch::no_grad(|| objective.loss(&encoder, &batch(n, views, 0), &step)).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 1), "views = 1: at least two views an image for W-MSE");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let error = refuse(8, 2);
        assert_eq!(
            error,
            "v: expected at least 2 views of a multiple of 6 samples (sub_batch), found [2, 8, 2]"
        );
        let refuse = |config| build(|site| WMse::new(site, &config)).unwrap_err().to_string();
        let small = WMseLossConfig { sub_batch: 3, ..config().loss };
        let error = refuse(WMseConfig { loss: small, ..config() });
        assert_eq!(error, "loss.sub_batch = 3: at least 4, twice the projector's output");
        let refuse = |config| WMseLoss::new(config).unwrap_err().to_string();
        assert_eq!(refuse(WMseLossConfig { sub_batch: 1, ..config().loss }), "sub_batch = 1: at least 2");
        assert_eq!(refuse(WMseLossConfig { iterations: 0, ..config().loss }), "iterations = 0: at least 1");
        assert_eq!(refuse(WMseLossConfig { eps: 1.0, ..config().loss }), "eps = 1: at least 0 and below 1");
    }
}
