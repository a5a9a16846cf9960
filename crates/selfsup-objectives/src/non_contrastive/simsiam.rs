//! SimSiam: the features of one view are to predict those of the other, which stand still meanwhile.
//!
//! Chen and He 2021, *Exploring Simple Siamese Representation Learning*, equations 1 to 4 and algorithm 1. For the two
//! views, z = g(f(view)) and p = q(z), with encoder f, projector g and predictor q,
//!
//! ```text
//! D(p, z) = - p . sg(z) / (|p| |z|),     L = D(p0, z1) / 2 + D(p1, z0) / 2
//! ```
//!
//! BYOL without the teacher: the stop-gradient sg alone keeps the features apart. The paper leaves the predictor's
//! learning rate at its base throughout (section 4.2): name it in the recipe, `train.fixed_lr = ["objective.predictor"]`.
//! Each view passes through the networks as a batch of its own, as in the authors' code.
//!
//! A collapse shows in `embedding_std`, the mean over the features of the standard deviation of z / |z|: near
//! 1 / sqrt(d) in a healthy run, 0 in one that has collapsed (section 4.1). The log holds it multiplied by sqrt(d), so that
//! 1 is healthy for any size.

use crate::views::{at_least_two, two_views};
use selfsup_core::{
    Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step,
    Tensor, TensorExt, check_shape,
};
use serde::{Deserialize, Serialize};

/// Settings of [`SimSiam`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimSiamConfig {
    /// The projector g: three layers of 2048, BatchNorm after each, that of the output without scale and shift (section
    /// 3 of the paper, and its code).
    pub projector: MlpHeadConfig,
    /// The predictor q, a bottleneck: 512 hidden units with BatchNorm, an output without (section 3). Its output is as
    /// long as the projector's.
    pub predictor: MlpHeadConfig,
}

impl Default for SimSiamConfig {
    fn default() -> Self {
        SimSiamConfig {
            projector: MlpHeadConfig {
                hidden: vec![2048, 2048],
                output: 2048,
                hidden_norm: HeadNorm::BatchNorm,
                output_norm: HeadNorm::BatchNormPlain,
            },
            predictor: MlpHeadConfig {
                hidden: vec![512],
                output: 2048,
                hidden_norm: HeadNorm::BatchNorm,
                output_norm: HeadNorm::None,
            },
        }
    }
}

/// SimSiam's D: the negative cosine of a prediction and its target.
#[derive(Clone, Copy, Debug, Default)]
pub struct NegativeCosine;

impl NegativeCosine {
    /// The mean over the batch; nothing flows back to `z`.
    ///
    /// # Shapes
    /// `p`, `z`: `[N, D]`, row i of both from sample i, of any length. Returns a scalar in `[-1, 1]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ, [`Error::Config`] when they are empty.
    pub fn forward(&self, p: &Tensor, z: &Tensor) -> Result<Tensor> {
        let [n, d] = check_shape("p", p, [-1, -1])?;
        check_shape("z", z, [n, d])?;
        if n == 0 {
            return Err(Error::config("p", "[0, _]", "at least one sample"));
        }
        let cosine = (p.l2_normalize() * z.detach().l2_normalize()).sum_dim_intlist(-1, false, None); // [N]
        Ok(-cosine.mean(None))
    }
}

/// The SimSiam objective: projector and predictor.
#[derive(Debug)]
pub struct SimSiam {
    projector: MlpHead,
    predictor: MlpHead,
}

impl SimSiam {
    /// Makes the heads for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, or the predictor's output is not of the projector's size.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &SimSiamConfig) -> Result<Self> {
        let output = config.projector.output;
        if config.predictor.output != output {
            let expected = format!("{output}, the projector's output");
            return Err(Error::config("predictor.output", config.predictor.output, expected));
        }
        Ok(SimSiam {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            predictor: MlpHead::new(site.path() / "predictor", output, &config.predictor)?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for SimSiam {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "SimSiam")?;
        at_least_two("view 0", view0, n)?;
        let z0 = self.projector.forward(&encoder.encode(view0, Mode::Train)?, Mode::Train)?; // [N, P]
        let z1 = self.projector.forward(&encoder.encode(view1, Mode::Train)?, Mode::Train)?; // [N, P]
        let p0 = self.predictor.forward(&z0, Mode::Train)?; // [N, P]
        let p1 = self.predictor.forward(&z1, Mode::Train)?; // [N, P]
        let loss = (NegativeCosine.forward(&p0, &z1)? + NegativeCosine.forward(&p1, &z0)?) / 2.0;
        let std = z0.detach().l2_normalize().std_dim(0, true, false).mean(None);
        Ok(Loss::new(loss).with("embedding_std", &(std * (z0.size()[1] as f64).sqrt())))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::nn;

    fn config() -> SimSiamConfig {
        let SimSiamConfig { projector, predictor } = SimSiamConfig::default();
        SimSiamConfig {
            projector: MlpHeadConfig { hidden: vec![3], output: 2, ..projector },
            predictor: MlpHeadConfig { hidden: vec![3], output: 2, ..predictor },
        }
    }

    fn setup() -> (nn::VarStore, Pixels, SimSiam) {
        build(|site| SimSiam::new(site, &config())).unwrap()
    }

    #[test]
    fn equals_the_papers_cosine_term_by_term() {
        let (p, z) = (wave(&[4, 3], 0.0), wave(&[4, 3], 1.0));
        let mut naive = 0.0;
        for i in 0..4 {
            let dot = |a: &Tensor, b: &Tensor| {
                (0..3).map(|j| a.double_value(&[i, j]) * b.double_value(&[i, j])).sum::<f64>()
            };
            naive -= dot(&p, &z) / (dot(&p, &p) * dot(&z, &z)).sqrt() / 4.0;
        }
        assert!((NegativeCosine.forward(&p, &z).unwrap().scalar().unwrap() - naive).abs() < 1e-6);
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d).requires_grad_()
        // p, z = f(4, 3, 0.), f(4, 3, 1.); l = lightly.loss.NegativeCosineSimilarity()(p, z.detach()); l.backward()
        // print(l.item(), p.grad.flatten().tolist())
        let (p, z) = (wave(&[4, 3], 0.0), wave(&[4, 3], 1.0));
        let loss = NegativeCosine.forward(&p, &z).unwrap();
        loss.backward();
        assert_close("loss", &loss, &[-0.391_616_7], 1e-5);
        let expected = [
            -0.138_819_72,
            -0.110_310_54,
            0.040_054_96,
            0.469_863_36,
            -0.124_280_87,
            0.252_181_17,
            -0.106_117_13,
            -0.098_136_45,
            -0.007_993_65,
            -0.008_802_43,
            -0.099_993_11,
            -0.103_117_96,
        ];
        assert_close("gradient", &p.grad(), &expected, 1e-5);
        assert!(!z.grad().defined());
    }

    #[test]
    fn is_minus_one_for_a_perfect_prediction_of_any_length_and_one_for_the_opposite() {
        let z = wave(&[4, 3], 0.0);
        for (scale, expected) in [(3.0, -1.0), (-0.2, 1.0)] {
            let found = NegativeCosine.forward(&(&z * scale), &z).unwrap().scalar().unwrap();
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn five_steps_leave_the_encoder_where_lightlys_parts_leave_it() {
        // enc, pred, batch as in byol.rs; cos = lightly.loss.NegativeCosineSimilarity(); opt = SGD(all, lr=0.1)
        // proj = Sequential(lin(3, 4, 3, False), BatchNorm1d(3), ReLU(), lin(4, 3, 2, False), BatchNorm1d(2, affine=False))
        // for s in range(5):
        //     x0, x1 = batch(s); z0, z1 = proj(enc(x0)), proj(enc(x1)); p0, p1 = pred(z0), pred(z1)
        //     l = .5 * (cos(p0, z1.detach()) + cos(p1, z0.detach())); opt.zero_grad(); l.backward(); opt.step()
        let (store, encoder, mut objective) = setup();
        let losses = five_steps(&store, &encoder, &mut objective);
        let expected = [-0.075_605_92, -0.248_032_24, -0.144_870_19, -0.142_419_1, -0.173_924_13];
        assert_close("losses", &Tensor::from_slice(&losses), &expected, 1e-5);
        let expected = [
            -0.004_251_75,
            0.327_941,
            0.487_466_66,
            0.431_902_32,
            0.168_249_96,
            -0.151_320_52,
            -0.455_056_61,
            -0.477_191_6,
            -0.310_225_37,
            0.039_395_82,
            0.304_276_38,
            0.515_255_03,
            0.434_816_24,
            0.182_881_76,
            -0.201_015_14,
            -0.421_497_58,
        ];
        assert_close("encoder", &store.variables()["encoder.weight"], &expected, 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        assert_gradients(&store, &["encoder.bias"]); // BatchNorm takes away the mean that it adds
    }

    #[test]
    fn the_log_tells_a_collapse() {
        let (store, encoder, mut objective) = setup();
        let std = |objective: &mut SimSiam| {
            let loss = objective.loss(&encoder, &batch(6, 2, 0), &Step::single(0, 1, 0, 0)).unwrap();
            assert_eq!(loss.parts[0].0, "embedding_std");
            loss.parts[0].1.scalar().unwrap()
        };
        assert!(std(&mut objective) > 0.3);
        selfsup_core::tch::no_grad(|| drop(store.variables()["encoder.weight"].shallow_clone().zero_()));
        assert!(std(&mut objective) < 1e-6);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(n, views, 0), &step).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 1), "views = 1: two views an image for SimSiam");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let error = NegativeCosine.forward(&wave(&[4, 3], 0.0), &wave(&[4, 2], 0.0)).unwrap_err();
        assert_eq!(error.to_string(), "z: expected [4, 3], found [4, 2]");
        let predictor = MlpHeadConfig { output: 5, ..config().predictor };
        let error = build(|site| SimSiam::new(site, &SimSiamConfig { predictor, ..config() })).unwrap_err();
        assert_eq!(error.to_string(), "predictor.output = 5: 2, the projector's output");
    }
}
