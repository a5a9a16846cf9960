//! VICReg: two views of an image agree, every feature of the embedding varies over the batch, and no two of them say
//! the same.
//!
//! Bardes, Ponce and LeCun 2022, *VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning*,
//! section 4.1. For the embeddings Z, Z' `[n, d]` of the two views, with C(Z) the covariance of the features,
//!
//! ```text
//! s(Z, Z') = mean over i of ||z_i - z'_i||^2
//! v(Z) = 1/d sum_j max(0, 1 - sqrt(C_jj + eps)),     c(Z) = 1/d sum_{j != k} C_jk^2
//! L = lambda s(Z, Z') + mu (v(Z) + v(Z')) + nu (c(Z) + c(Z'))
//! ```
//!
//! As in the authors' code, for which their weights are meant, s is divided by d and the two v are averaged instead of
//! added. Variance and covariance are those of the batch of all ranks. Each view passes through the encoder as a batch of
//! its own.
//!
//! The sum of C's squares is also that of the squares of `Z Z^T / (n - 1)`, so that one product of the smaller of the two
//! suffices: with the paper's 8192 features and a batch of 256 a thirty-second of the arithmetic, and no matrix of 8192
//! squared.

use crate::views::{at_least_two, two_views};
use selfsup_core::{
    Communicator, Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective,
    Result, Site, Step, Tensor, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`VicRegLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VicRegLossConfig {
    /// The weight lambda of the distance of the two views: 25 (section 4.2 of the paper).
    pub invariance: f64,
    /// The weight mu of the variance: 25 (section 4.2).
    pub variance: f64,
    /// The weight nu of the covariance: 1 (section 4.2).
    pub covariance: f64,
    /// What keeps the root's gradient finite: 1e-4 (section 4.1).
    pub eps: f64,
}

impl Default for VicRegLossConfig {
    fn default() -> Self {
        VicRegLossConfig { invariance: 25.0, variance: 25.0, covariance: 1.0, eps: 1e-4 }
    }
}

/// The VICReg loss.
#[derive(Clone, Debug)]
pub struct VicRegLoss {
    config: VicRegLossConfig,
}

/// What a batch comes to: scalars with gradient.
#[derive(Debug)]
pub struct VicRegOutput {
    /// The weighted sum of the three.
    pub loss: Tensor,
    /// The mean squared difference of the two views, s.
    pub invariance: Tensor,
    /// How far the standard deviations are below 1, the mean of v(Z) and v(Z').
    pub variance: Tensor,
    /// What the features share, c(Z) + c(Z').
    pub covariance: Tensor,
}

impl VicRegLoss {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when a weight is negative, or `eps` is not positive.
    pub fn new(config: VicRegLossConfig) -> Result<Self> {
        let VicRegLossConfig { invariance, variance, covariance, eps } = config;
        for (field, weight) in
            [("invariance", invariance), ("variance", variance), ("covariance", covariance)]
        {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::config(field, weight, "a number from 0 up"));
            }
        }
        if !(eps > 0.0 && eps.is_finite()) {
            return Err(Error::config("eps", eps, "a positive number"));
        }
        Ok(VicRegLoss { config })
    }

    /// The loss of this rank's embeddings, with the statistics of all ranks.
    ///
    /// # Shapes
    /// `z0`, `z1`: `[N, D]`, row i of both from sample i.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or there are fewer than two samples.
    pub fn forward(&self, z0: &Tensor, z1: &Tensor, comm: &dyn Communicator) -> Result<VicRegOutput> {
        let [n, d] = check_shape("z0", z0, [-1, -1])?;
        check_shape("z1", z1, [n, d])?;
        at_least_two("z0", z0, n)?;
        let VicRegLossConfig { eps, .. } = self.config;
        let invariance = (z0 - z1).square().mean(None);
        let (variance0, covariance0) = spread(&comm.gather(z0)?, eps);
        let (variance1, covariance1) = spread(&comm.gather(z1)?, eps);
        let variance = (variance0 + variance1) / 2.0;
        let covariance = covariance0 + covariance1;
        let loss = &invariance * self.config.invariance
            + &variance * self.config.variance
            + &covariance * self.config.covariance;
        Ok(VicRegOutput { loss, invariance, variance, covariance })
    }
}

/// v(Z) and c(Z) of `z` `[N, D]`.
fn spread(z: &Tensor, eps: f64) -> (Tensor, Tensor) {
    let (n, d) = (z.size()[0], z.size()[1]);
    let z = z - z.mean_dim(0, true, None); // [N, D]
    let variances = z.square().sum_dim_intlist(0, false, None) / (n - 1) as f64; // [D], the diagonal of C
    let missing: Tensor = 1.0 - (&variances + eps).sqrt(); // [D]
    let product = if n < d { z.matmul(&z.tr()) } else { z.tr().matmul(&z) }; // [N, N] or [D, D]
    let all = (product / (n - 1) as f64).square().sum(None);
    (missing.relu().mean(None), (all - variances.square().sum(None)) / d as f64)
}

/// Settings of [`VicReg`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VicRegConfig {
    /// The weights of the three terms.
    pub loss: VicRegLossConfig,
    /// The projector: three layers of 8192, the last without a norm (section 4.2 of the paper, the expander).
    pub projector: MlpHeadConfig,
}

impl Default for VicRegConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![8192, 8192],
            output: 8192,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        VicRegConfig { loss: VicRegLossConfig::default(), projector }
    }
}

/// The VICReg objective: a projector and the loss.
#[derive(Debug)]
pub struct VicReg {
    projector: MlpHead,
    loss: VicRegLoss,
}

impl VicReg {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a weight is negative or a size not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &VicRegConfig) -> Result<Self> {
        Ok(VicReg {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: VicRegLoss::new(config.loss.clone())?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for VicReg {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "VICReg")?;
        at_least_two("view 0", view0, n)?;
        let z0 = self.projector.forward(&encoder.encode(view0, Mode::Train)?, Mode::Train)?; // [N, P]
        let z1 = self.projector.forward(&encoder.encode(view1, Mode::Train)?, Mode::Train)?; // [N, P]
        let VicRegOutput { loss, invariance, variance, covariance } =
            self.loss.forward(&z0, &z1, step.comm)?;
        Ok(Loss::new(loss)
            .with("invariance", &invariance)
            .with("variance", &variance)
            .with("covariance", &covariance))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::tensor::to_array2;
    use selfsup_core::{Device, Kind, SingleProcess, nn};

    fn loss(z0: &Tensor, z1: &Tensor) -> VicRegOutput {
        VicRegLoss::new(VicRegLossConfig::default()).unwrap().forward(z0, z1, &SingleProcess).unwrap()
    }

    fn config() -> VicRegConfig {
        let projector = MlpHeadConfig { hidden: vec![3], output: 2, ..VicRegConfig::default().projector };
        VicRegConfig { projector, ..VicRegConfig::default() }
    }

    fn setup() -> (nn::VarStore, Pixels, VicReg) {
        build(|site| VicReg::new(site, &config())).unwrap()
    }

    #[test]
    fn equals_the_papers_sums_term_by_term() {
        for (n, d) in [(6, 4), (4, 6)] {
            let (z0, z1) = (wave(&[n, d], 0.0), wave(&[n, d], 1.0));
            let (a, b) = (to_array2(&z0).unwrap(), to_array2(&z1).unwrap());
            let (n, d) = (n as usize, d as usize);
            let mut s = 0.0;
            for i in 0..n {
                s += (0..d).map(|j| f64::from(a[[i, j]] - b[[i, j]]).powi(2)).sum::<f64>();
            }
            let (mut v, mut c) = (0.0, 0.0);
            for z in [&a, &b] {
                let mean = |j: usize| (0..n).map(|i| f64::from(z[[i, j]])).sum::<f64>() / n as f64;
                let covariance = |j: usize, k: usize| {
                    let one = |i: usize| (f64::from(z[[i, j]]) - mean(j)) * (f64::from(z[[i, k]]) - mean(k));
                    (0..n).map(one).sum::<f64>() / (n - 1) as f64
                };
                for j in 0..d {
                    v += (1.0 - (covariance(j, j) + 1e-4).sqrt()).max(0.0) / d as f64;
                    let others = (0..d).filter(|&k| k != j);
                    c += others.map(|k| covariance(j, k).powi(2)).sum::<f64>() / d as f64;
                }
            }
            let found = loss(&z0, &z1);
            assert_close("invariance", &found.invariance, &[s / (n * d) as f64], 1e-5);
            assert_close("variance", &found.variance, &[v / 2.0], 1e-5);
            assert_close("covariance", &found.covariance, &[c], 1e-5);
        }
    }

    #[test]
    fn equals_lightly_forward_and_backward_with_more_samples_than_features_and_with_fewer() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d).requires_grad_()
        // for n, d in (5, 3), (3, 5): z0, z1 = f(n, d, 0.), f(n, d, 1.); l = lightly.loss.VICRegLoss()(z0, z1)
        //     l.backward(); print(l.item(), z0.grad.flatten().tolist(), z1.grad.flatten().tolist())
        let (z0, z1) = (wave(&[5, 3], 0.0), wave(&[5, 3], 1.0));
        let l = loss(&z0, &z1).loss;
        l.backward();
        assert_close("loss", &l, &[22.754_730_2], 2e-5);
        let expected = [
            -3.027_382_14,
            -3.715_000_87,
            0.159_574_99,
            2.656_983_85,
            -3.072_179_79,
            2.975_167_04,
            -2.168_273_93,
            -2.329_396_01,
            -0.489_490_27,
            -0.366_143_11,
            -2.286_136_39,
            -1.575_411_56,
            2.678_122_28,
            -3.210_662_84,
            2.794_932_37,
        ];
        assert_close("gradient 0", &z0.grad(), &expected, 1e-5);
        let expected = [
            1.835_658_79,
            0.549_588_56,
            -2.072_692_39,
            -1.526_273_49,
            3.027_007_82,
            -2.337_929_73,
            -0.232_393_15,
            4.140_335_56,
            2.345_924_14,
            2.388_382_2,
            4.074_712_28,
            -0.462_229_85,
            -2.238_681_55,
            2.821_731_81,
            -1.337_845_09,
        ];
        assert_close("gradient 1", &z1.grad(), &expected, 1e-5);
        let (z0, z1) = (wave(&[3, 5], 0.0), wave(&[3, 5], 1.0));
        let l = loss(&z0, &z1).loss;
        l.backward();
        assert_close("loss", &l, &[25.688_627_2], 2e-5);
        let expected = [
            -3.299_488_31,
            -0.677_726_63,
            0.068_451_05,
            1.715_748_07,
            -3.631_994_01,
            2.133_258_1,
            -1.583_100_2,
            -2.017_594_34,
            -0.574_368_6,
            -0.572_759_27,
            -1.743_068_93,
            -1.689_734_34,
            3.077_872_75,
            -3.658_762_93,
            1.477_971_79,
        ];
        assert_close("gradient 0", &z0.grad(), &expected, 1e-5);
        let expected = [
            1.842_363_36,
            2.064_998_15,
            -1.924_822_81,
            -1.756_139_52,
            2.170_983_79,
            -1.683_107_02,
            0.595_497_97,
            2.710_421_56,
            2.172_665_36,
            2.118_366_96,
            2.750_043_92,
            1.290_065_29,
            -1.914_328_22,
            2.100_858_21,
            -1.562_569_26,
        ];
        assert_close("gradient 1", &z1.grad(), &expected, 1e-5);
    }

    #[test]
    fn constant_embeddings_pay_for_their_variance_alone_and_a_shift_changes_nothing_but_the_distance() {
        let z = Tensor::ones([8, 4], (Kind::Float, Device::Cpu));
        let found = loss(&z, &z);
        assert_close("variance", &found.variance, &[0.99], 1e-6); // 1 - sqrt(1e-4)
        assert_close("loss", &found.loss, &[25.0 * 0.99], 1e-5);
        let z = wave(&[8, 4], 0.0);
        let (here, there) = (loss(&z, &z), loss(&z, &(&z + 3.0)));
        assert_close("variance", &(here.variance - there.variance), &[0.0], 1e-5);
        assert_close("covariance", &(here.covariance - there.covariance), &[0.0], 1e-5);
        assert_close("invariance", &there.invariance, &[9.0], 1e-4);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let of = |z0: &Tensor, z1: &Tensor, comm: &dyn Communicator| {
            VicRegLoss::new(VicRegLossConfig::default()).unwrap().forward(z0, z1, comm).unwrap().loss
        };
        assert_two_ranks_equal_one(&of);
    }

    #[test]
    fn the_objective_has_lightlys_loss_and_gradient() {
        // enc, proj as in byol.rs with matrices 0, 1 and 2; l = VICRegLoss()(proj(enc(x0)), proj(enc(x1))); l.backward()
        let (store, encoder, mut objective) = setup();
        assert!((one_loss(&encoder, &mut objective) - 19.114_662).abs() < 1e-4);
        let expected = [
            2.801_969,
            -9.240_387,
            15.944_386,
            -9.019_485,
            1.202_501,
            -14.641_196,
            20.388_826,
            -12.579_023,
            -0.962_52,
            -13.156_023,
            15.244_082,
            -10.222_45,
            -2.674_853,
            -5.483_363,
            2.929_809,
            -3.058_104,
        ];
        assert_close("encoder", &store.variables()["encoder.weight"].grad(), &expected, 1e-4);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        // The loss knows no mean, and the two views share the projector's bias.
        assert_gradients(&store, &["encoder.bias", "objective.projector.3.bias"]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(n, views, 0), &step).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 1), "views = 1: two views an image for VICReg");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let l = VicRegLoss::new(VicRegLossConfig::default()).unwrap();
        let error = l.forward(&wave(&[4, 3], 0.0), &wave(&[3, 3], 0.0), &SingleProcess).unwrap_err();
        assert_eq!(error.to_string(), "z1: expected [4, 3], found [3, 3]");
        let error = VicRegLoss::new(VicRegLossConfig { covariance: -1.0, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "covariance = -1: a number from 0 up");
        let error = VicRegLoss::new(VicRegLossConfig { eps: 0.0, ..Default::default() }).unwrap_err();
        assert_eq!(error.to_string(), "eps = 0: a positive number");
    }
}
