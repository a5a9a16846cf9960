//! LeJEPA: all views of an image lie near the middle of its large views, and the embeddings of a batch are spread like an
//! isotropic Gaussian.
//!
//! Balestriero and LeCun 2025, *LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics*,
//! algorithms 1 and 2. For embeddings z of V views, the first Vg of them large, of n images, with [`SigReg`],
//!
//! ```text
//! mu_i = 1/Vg sum_{v <= Vg} z_iv
//! L = (1 - lambda) mean over i, v, features of (mu - z)^2  +  lambda 1/V sum_v SIGReg({z_iv}_i)
//! ```
//!
//! There is no teacher, no stop-gradient and no schedule; lambda is the one thing to choose. The large views are those of
//! the first view's size. Views of one size pass through the encoder as one batch, as in the authors' code.

use super::sig_reg::{SigReg, SigRegConfig};
use crate::clustering::crops::check_crops;
use crate::views::at_least_two;
use selfsup_core::{
    Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site, Step,
    Tensor,
};
use serde::{Deserialize, Serialize};

/// Settings of [`LeJepa`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LeJepaConfig {
    /// The weight of [`SigReg`] against the distance of the views: 0.05 in the paper, 0.02 in its minimal example.
    pub lambda: f64,
    /// The slices and the integral of the regulariser.
    pub sig_reg: SigRegConfig,
    /// The projector. Two hidden layers of 2048 with BatchNorm, and an output of 16 without (the authors' minimal
    /// example).
    pub projector: MlpHeadConfig,
}

impl Default for LeJepaConfig {
    fn default() -> Self {
        let projector = MlpHeadConfig {
            hidden: vec![2048, 2048],
            output: 16,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        LeJepaConfig { lambda: 0.05, sig_reg: SigRegConfig::default(), projector }
    }
}

/// The LeJEPA objective: a projector and the regulariser.
#[derive(Debug)]
pub struct LeJepa {
    projector: MlpHead,
    sig_reg: SigReg,
    lambda: f64,
}

impl LeJepa {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when `lambda` lies outside `[0, 1]`, or another field cannot work.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &LeJepaConfig) -> Result<Self> {
        if !(0.0..=1.0).contains(&config.lambda) {
            return Err(Error::config("lambda", config.lambda, "from 0 to 1"));
        }
        Ok(LeJepa {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            sig_reg: SigReg::new(config.sig_reg.clone())?,
            lambda: config.lambda,
        })
    }

    /// The embeddings of views, those of one size as one batch: `[N, P]` each.
    fn embed<E: Encoder + ?Sized>(&self, encoder: &E, views: &[Tensor]) -> Result<Vec<Tensor>> {
        let mut embeddings = Vec::with_capacity(views.len());
        for alike in views.chunk_by(|a, b| a.size() == b.size()) {
            let h = encoder.encode(&Tensor::cat(alike, 0), Mode::Train)?; // [views N, D]
            let z = self.projector.forward(&h, Mode::Train)?; // [views N, P]
            embeddings.extend(z.chunk(alike.len() as i64, 0));
        }
        Ok(embeddings)
    }

    /// The loss of embeddings `z` `[V, N, P]`, the first `large` views of which are large, along `directions` `[P, M]`.
    fn judge(&self, z: &Tensor, large: i64, directions: &Tensor, step: &Step) -> Result<Loss> {
        let centre = z.narrow(0, 0, large).mean_dim(0, true, None); // [1, N, P]
        let invariance = (z - centre).square().mean(None);
        let sig_reg = self.sig_reg.statistic(z, directions, step.comm)?;
        let loss = &invariance * (1.0 - self.lambda) + &sig_reg * self.lambda;
        Ok(Loss::new(loss).with("invariance", &invariance).with("sig_reg", &sig_reg))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for LeJepa {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, "LeJEPA")?;
        let first = &batch.views[0];
        at_least_two("view 0", first, n)?;
        let large = batch.views.iter().take_while(|view| view.size() == first.size()).count() as i64;
        let z = Tensor::stack(&self.embed(encoder, &batch.views)?, 0); // [V, N, P]
        let directions = self.sig_reg.directions(z.size()[2], z.device(), step.comm)?; // [P, M]
        self.judge(&z, large, &directions, step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::*;
    use super::*;
    use selfsup_core::{Device, SingleProcess, TensorExt, nn};

    fn config() -> LeJepaConfig {
        let projector = MlpHeadConfig { hidden: vec![3], output: 2, ..LeJepaConfig::default().projector };
        LeJepaConfig { projector, ..LeJepaConfig::default() }
    }

    fn setup() -> (nn::VarStore, Pixels, LeJepa) {
        build(|site| LeJepa::new(site, &config())).unwrap()
    }

    /// The mean of every image, and its negative and twofold: three features for any size of view.
    #[derive(Debug)]
    struct Mean;

    impl Encoder for Mean {
        fn dim(&self) -> i64 {
            3
        }
        fn encode(&self, x: &Tensor, _mode: Mode) -> Result<Tensor> {
            let mean = x.flatten(1, -1).mean_dim(1, true, None);
            Ok(Tensor::cat(&[&mean, &(&mean * -1.0), &(&mean * 2.0)], 1))
        }
    }

    /// An objective whose projector is one linear layer, so that views do not meet in BatchNorm.
    fn linear() -> (nn::VarStore, LeJepa) {
        let store = nn::VarStore::new(Device::Cpu);
        let projector = MlpHeadConfig { hidden: vec![], ..config().projector };
        let config = LeJepaConfig { projector, ..config() };
        let twin = |_: nn::Path| Ok(Box::new(Mean));
        let objective = LeJepa::new(&Site::new(&store, &Mean, 6, twin), &config).unwrap();
        (store, objective)
    }

    fn crops() -> ImageViews {
        let view = |side: i64, shift: f64| wave(&[6, 1, side, side], shift).detach();
        let mut crops = batch(6, 2, 0);
        crops.views = vec![view(4, 0.0), view(4, 1.0), view(2, 2.0), view(2, 3.0), view(3, 4.0)];
        crops
    }

    #[test]
    fn pulls_every_crop_to_the_middle_of_the_large_ones_and_regularises_each_view() {
        let (_store, mut objective) = linear();
        let (crops, step) = (crops(), Step::single(0, 1, 0, 0));
        let z = objective.embed(&Mean, &crops.views).unwrap();
        for (view, z) in crops.views.iter().zip(&z) {
            let h = Mean.encode(view, Mode::Train).unwrap();
            let alone = objective.projector.forward(&h, Mode::Train).unwrap();
            assert!((alone - z).abs().max().scalar().unwrap() < 1e-6);
        }
        let directions = wave(&[2, 4], 0.0).detach();
        let (mut invariance, mut sig_reg) = (0.0, 0.0);
        for view in &z {
            let one = objective.sig_reg.statistic(view, &directions, &SingleProcess).unwrap();
            sig_reg += one.scalar().unwrap() / 5.0;
            for i in 0..6 {
                for k in 0..2 {
                    let at = |z: &Tensor| z.double_value(&[i, k]);
                    invariance += (f64::midpoint(at(&z[0]), at(&z[1])) - at(view)).powi(2) / 60.0;
                }
            }
        }
        let found = objective.judge(&Tensor::stack(&z, 0), 2, &directions, &step).unwrap();
        assert_close("invariance", &found.parts[0].1, &[invariance], 1e-6);
        assert_close("sig_reg", &found.parts[1].1, &[sig_reg], 1e-5);
        assert_close("loss", &found.total, &[0.95 * invariance + 0.05 * sig_reg], 1e-5);
        // The objective finds the two large views by their size.
        let found = objective.loss(&Mean, &crops, &step).unwrap();
        assert_close("invariance", &found.parts[0].1, &[invariance], 1e-6);
    }

    #[test]
    fn equals_the_papers_listing_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d)
        // A = f(2, 4, 2.); A = A / A.norm(p=2, dim=0)
        // def SIGReg(x): as in sig_reg.rs, with t from -5 to 5; the mean over the slices
        // z = torch.stack([f(5, 2, float(s)) for s in range(3)]).requires_grad_(); sim = (z[:2].mean(0) - z).square().mean()
        // l = .95 * sim + .05 * torch.stack([SIGReg(v) for v in z]).mean(); l.backward()
        let (_store, objective) = linear();
        let views = [wave(&[5, 2], 0.0), wave(&[5, 2], 1.0), wave(&[5, 2], 2.0)];
        let directions = wave(&[2, 4], 2.0).detach();
        let directions = &directions / directions.norm_scalaropt_dim(2.0, [0], true);
        let z = Tensor::stack(&views, 0);
        let l = objective.judge(&z, 2, &directions, &Step::single(0, 1, 0, 0)).unwrap().total;
        l.backward();
        assert_close("loss", &l, &[0.356_390_63], 1e-5);
        let expected = [
            -0.035_125_64,
            -0.031_193_31,
            0.043_248_81,
            0.033_094_49,
            -0.048_963_56,
            0.040_875_29,
            0.000_896_63,
            -0.060_416_12,
            -0.051_809_31,
            -0.061_056_88,
            0.022_803_03,
            0.003_396_55,
            0.021_722_19,
            -0.010_021_56,
            0.001_943_85,
            -0.004_508_44,
            0.030_536_3,
            -0.015_197_35,
            -0.009_180_84,
            -0.032_866_3,
            0.034_108_94,
            -0.001_882_95,
            -0.071_340_42,
            -0.014_126_1,
            0.055_148_45,
            -0.035_664_58,
            -0.020_490_96,
            0.064_713_9,
            0.084_361_02,
            0.075_403_23,
        ];
        let gradients = Tensor::cat(&views.map(|view| view.grad()), 0);
        assert_close("gradient", &gradients, &expected, 1e-5);
    }

    #[test]
    fn equal_views_have_no_distance() {
        let (_store, encoder, mut objective) = setup();
        let mut views = batch(6, 2, 0);
        views.views[1] = views.views[0].copy();
        let loss = objective.loss(&encoder, &views, &Step::single(0, 1, 0, 0)).unwrap();
        assert!(loss.parts[0].1.scalar().unwrap().abs() < 1e-12);
        let difference = loss.total - &loss.parts[1].1 * 0.05;
        assert!(difference.scalar().unwrap().abs() < 1e-6);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        assert_gradients(&store, &["encoder.bias"]); // BatchNorm takes away the mean that it adds
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let step = Step::single(0, 1, 0, 0);
        let mut refuse = |views: &ImageViews| objective.loss(&encoder, views, &step).unwrap_err().to_string();
        assert_eq!(refuse(&batch(6, 1, 0)), "views = 1: at least two views an image for LeJEPA");
        assert_eq!(refuse(&batch(1, 2, 0)), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let mut unequal = batch(6, 2, 0);
        unequal.views[1] = unequal.views[1].narrow(0, 0, 5);
        assert_eq!(refuse(&unequal), "view 1: expected [6, 1, _, _], found [5, 1, 2, 2]");
        let error = build(|site| LeJepa::new(site, &LeJepaConfig { lambda: 1.5, ..config() })).unwrap_err();
        assert_eq!(error.to_string(), "lambda = 1.5: from 0 to 1");
    }
}
