//! Barlow Twins: over the batch, a feature of one view correlates with the same feature of the other view, and with no
//! other.
//!
//! Zbontar, Jing, Misra, LeCun and Deny 2021, *Barlow Twins: Self-Supervised Learning via Redundancy Reduction*,
//! equations 1 and 2. For the embeddings Z, Z' `[n, d]` of the two views, each feature scaled to mean 0 and variance 1 over
//! the batch,
//!
//! ```text
//! C = Z^T Z' / n,     L = sum_i (1 - C_ii)^2 + lambda sum_{i != j} C_ij^2
//! ```
//!
//! The scaling is BatchNorm without scale and shift, eps 1e-5, as in the authors' code, over the batch of all ranks. Each
//! view passes through the encoder as a batch of its own.
//!
//! The sum of C's squares is also the sum of the entries of `(Z Z^T) * (Z' Z'^T) / n^2`, which with the paper's 8192
//! features and a batch of 256 takes a sixteenth of the arithmetic and no matrix of 8192 squared.

use crate::views::{at_least_two, two_views};
use selfsup_core::{
    Communicator, Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective,
    Result, Site, Step, Tensor, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`BarlowTwinsLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwinsLossConfig {
    /// The weight lambda of the correlations of different features: 0.005 (section 2.2 of the paper; 0.0051 in its code).
    pub lambda: f64,
    /// What the whole loss is multiplied by. 1 in the paper; 0.1 in solo-learn's recipe for CIFAR, where it matters for
    /// weight decay and for the parameters outside LARS.
    pub scale: f64,
}

impl Default for BarlowTwinsLossConfig {
    fn default() -> Self {
        BarlowTwinsLossConfig { lambda: 0.005, scale: 1.0 }
    }
}

/// The Barlow Twins loss.
#[derive(Clone, Debug)]
pub struct BarlowTwinsLoss {
    config: BarlowTwinsLossConfig,
}

/// What a batch comes to: scalars with gradient.
#[derive(Debug)]
pub struct BarlowTwinsOutput {
    /// The weighted sum of the two, scaled.
    pub loss: Tensor,
    /// How far the diagonal is from 1.
    pub on_diagonal: Tensor,
    /// How far the rest is from 0.
    pub off_diagonal: Tensor,
}

impl BarlowTwinsLoss {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when `lambda` is negative or `scale` not positive.
    pub fn new(config: BarlowTwinsLossConfig) -> Result<Self> {
        let BarlowTwinsLossConfig { lambda, scale } = config;
        if !(lambda >= 0.0 && lambda.is_finite()) {
            return Err(Error::config("lambda", lambda, "a number from 0 up"));
        }
        if !(scale > 0.0 && scale.is_finite()) {
            return Err(Error::config("scale", scale, "a positive number"));
        }
        Ok(BarlowTwinsLoss { config })
    }

    /// The loss of the embeddings of all ranks.
    ///
    /// # Shapes
    /// `z0`, `z1`: `[N, D]`, row i of both from sample i.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or there are fewer than two samples.
    pub fn forward(&self, z0: &Tensor, z1: &Tensor, comm: &dyn Communicator) -> Result<BarlowTwinsOutput> {
        let [n, d] = check_shape("z0", z0, [-1, -1])?;
        check_shape("z1", z1, [n, d])?;
        at_least_two("z0", z0, n)?;
        let (z0, z1) = (standardize(&comm.gather(z0)?), standardize(&comm.gather(z1)?)); // [N, D] each
        let n = z0.size()[0];
        let diagonal = (&z0 * &z1).mean_dim(0, false, None); // [D]
        let squares = if n < d {
            (z0.matmul(&z0.tr()) * z1.matmul(&z1.tr())).sum(None) // of [N, N]
        } else {
            z0.tr().matmul(&z1).square().sum(None) // of [D, D]
        };
        let off_diagonal = squares / (n * n) as f64 - diagonal.square().sum(None);
        let on_diagonal = (diagonal - 1.0).square().sum(None);
        let loss = (&on_diagonal + &off_diagonal * self.config.lambda) * self.config.scale;
        Ok(BarlowTwinsOutput { loss, on_diagonal, off_diagonal })
    }
}

/// Every feature with mean 0 and variance 1 over the batch.
fn standardize(z: &Tensor) -> Tensor {
    z.batch_norm::<&Tensor>(None, None, None, None, true, 0.0, 1e-5, true)
}

/// Settings of [`BarlowTwins`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwinsConfig {
    /// The weight and the scale of the loss.
    pub loss: BarlowTwinsLossConfig,
    /// The projector: three layers of 8192, the last without a norm (section 2.2 of the paper).
    pub projector: MlpHeadConfig,
}

impl Default for BarlowTwinsConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![8192, 8192],
            output: 8192,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        BarlowTwinsConfig { loss: BarlowTwinsLossConfig::default(), projector }
    }
}

/// The Barlow Twins objective: a projector and the loss.
#[derive(Debug)]
pub struct BarlowTwins {
    projector: MlpHead,
    loss: BarlowTwinsLoss,
}

impl BarlowTwins {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when `lambda` is negative, or the scale or a size is not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &BarlowTwinsConfig) -> Result<Self> {
        Ok(BarlowTwins {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: BarlowTwinsLoss::new(config.loss.clone())?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for BarlowTwins {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "Barlow Twins")?;
        at_least_two("view 0", view0, n)?;
        let z0 = self.projector.forward(&encoder.encode(view0, Mode::Train)?, Mode::Train)?; // [N, P]
        let z1 = self.projector.forward(&encoder.encode(view1, Mode::Train)?, Mode::Train)?; // [N, P]
        let BarlowTwinsOutput { loss, on_diagonal, off_diagonal } = self.loss.forward(&z0, &z1, step.comm)?;
        Ok(Loss::new(loss).with("on_diagonal", &on_diagonal).with("off_diagonal", &off_diagonal))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::{SingleProcess, nn};

    fn loss(z0: &Tensor, z1: &Tensor) -> BarlowTwinsOutput {
        let loss = BarlowTwinsLoss::new(BarlowTwinsLossConfig::default()).unwrap();
        loss.forward(z0, z1, &SingleProcess).unwrap()
    }

    fn config() -> BarlowTwinsConfig {
        let projector =
            MlpHeadConfig { hidden: vec![3], output: 2, ..BarlowTwinsConfig::default().projector };
        BarlowTwinsConfig { projector, ..BarlowTwinsConfig::default() }
    }

    fn setup() -> (nn::VarStore, Pixels, BarlowTwins) {
        build(|site| BarlowTwins::new(site, &config())).unwrap()
    }

    #[test]
    fn equals_the_papers_sums_term_by_term_with_more_samples_than_features_and_with_fewer() {
        for (n, d) in [(6, 4), (4, 6)] {
            let (z0, z1) = (wave(&[n, d], 0.5), wave(&[n, d], 1.5));
            let (n, d) = (n as usize, d as usize);
            let scaled = |z: &Tensor, i: usize, j: usize| {
                let column: Vec<f64> = (0..n).map(|i| z.double_value(&[i as i64, j as i64])).collect();
                let mean = column.iter().sum::<f64>() / n as f64;
                let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
                (column[i] - mean) / (variance + 1e-5).sqrt()
            };
            let (mut on, mut off) = (0.0, 0.0);
            for i in 0..d {
                for j in 0..d {
                    let c = (0..n).map(|k| scaled(&z0, k, i) * scaled(&z1, k, j)).sum::<f64>() / n as f64;
                    if i == j { on += (1.0 - c).powi(2) } else { off += c * c }
                }
            }
            let found = loss(&z0, &z1);
            assert_close("on", &found.on_diagonal, &[on], 1e-4);
            assert_close("off", &found.off_diagonal, &[off], 1e-4);
            assert_close("loss", &found.loss, &[on + 0.005 * off], 1e-4);
        }
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d).requires_grad_()
        // z0, z1 = f(5, 3, 0.), f(5, 3, 1.); l = lightly.loss.BarlowTwinsLoss(lambda_param=5e-3)(z0, z1)
        // l.backward(); print(l.item(), z0.grad.flatten().tolist(), z1.grad.flatten().tolist())
        let (z0, z1) = (wave(&[5, 3], 0.0), wave(&[5, 3], 1.0));
        let l = loss(&z0, &z1).loss;
        l.backward();
        assert_close("loss", &l, &[0.313_175_5], 1e-5);
        let expected = [
            -0.366_130_14,
            0.005_407_36,
            -0.009_708_8,
            0.338_508_7,
            -0.007_935_43,
            0.141_860_04,
            -0.195_934_68,
            0.006_428_88,
            -0.113_403_8,
            -0.151_148_99,
            0.004_910_47,
            -0.136_730_98,
            0.374_705_11,
            -0.008_811_28,
            0.117_983_56,
        ];
        assert_close("gradient 0", &z0.grad(), &expected, 1e-5);
        let expected = [
            0.105_408_71,
            -0.006_804_15,
            -0.084_102_09,
            -0.082_337_39,
            0.007_878_18,
            -0.097_286_16,
            -0.169_477_43,
            -0.007_951_87,
            0.188_799_63,
            0.339_587_66,
            0.000_702_44,
            0.028_870_19,
            -0.193_181_54,
            0.006_175_38,
            -0.036_281_56,
        ];
        assert_close("gradient 1", &z1.grad(), &expected, 1e-5);
    }

    #[test]
    fn is_zero_for_equal_views_of_uncorrelated_features_whatever_their_scale() {
        // The columns of a Hadamard matrix without its first.
        let z = Tensor::from_slice2(&[
            [1.0_f32, 1.0, 1.0],
            [-1.0, 1.0, -1.0],
            [1.0, -1.0, -1.0],
            [-1.0, -1.0, 1.0],
        ]);
        assert_close("loss", &loss(&z, &(&z * 7.0 + 3.0)).loss, &[0.0], 1e-6);
        let same = z.narrow(1, 0, 1).repeat([1, 3]); // every feature says the same: six correlations of 1
        assert_close("off", &loss(&same, &same).off_diagonal, &[6.0], 1e-3);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let of = |z0: &Tensor, z1: &Tensor, comm: &dyn Communicator| {
            let loss = BarlowTwinsLoss::new(BarlowTwinsLossConfig::default()).unwrap();
            loss.forward(z0, z1, comm).unwrap().loss
        };
        assert_two_ranks_equal_one(&of);
    }

    #[test]
    fn the_objective_has_lightlys_loss_and_gradient() {
        // enc, proj as in byol.rs with matrices 0, 1 and 2; l = BarlowTwinsLoss(5e-3)(proj(enc(x0)), proj(enc(x1)))
        let (store, encoder, mut objective) = setup();
        assert!((one_loss(&encoder, &mut objective) - 0.459_918_47).abs() < 1e-5);
        let expected = [
            2.072_156, -2.694_546, 5.650_138, -3.389_9, 1.341_985, -5.674_399, 7.745_825, -5.473_591,
            -0.019_343, -5.985_494, 6.198_53, -4.982_966, -1.371_574, -3.481_515, 1.735_968, -2.148_777,
        ];
        assert_close("encoder", &store.variables()["encoder.weight"].grad(), &expected, 5e-5);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        assert_gradients(&store, &["encoder.bias", "objective.projector.3.bias"]); // the scaling removes means
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(n, views, 0), &step).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 3), "views = 3: two views an image for Barlow Twins");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let l = BarlowTwinsLoss::new(BarlowTwinsLossConfig::default()).unwrap();
        let error = l.forward(&wave(&[4, 3], 0.0), &wave(&[4, 2], 0.0), &SingleProcess).unwrap_err();
        assert_eq!(error.to_string(), "z1: expected [4, 3], found [4, 2]");
        let refuse = |config| BarlowTwinsLoss::new(config).unwrap_err().to_string();
        assert_eq!(
            refuse(BarlowTwinsLossConfig { lambda: -1.0, scale: 1.0 }),
            "lambda = -1: a number from 0 up"
        );
        assert_eq!(refuse(BarlowTwinsLossConfig { lambda: 1.0, scale: 0.0 }), "scale = 0: a positive number");
    }
}
