//! BYOL: the features of one view are to predict what a slowly moving teacher makes of the other view.
//!
//! Grill et al. 2020, *Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning*, section 3.1 and
//! algorithm 1. For views v and v' of an image, with the student's encoder f, projector g and predictor q, and the
//! teacher's f' and g' (all vectors scaled to unit length),
//!
//! ```text
//! L(v, v') = || q(g(f(v))) - sg(g'(f'(v'))) ||^2,     L = L(v, v') + L(v', v)
//! xi = tau xi + (1 - tau) theta,     tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2
//! ```
//!
//! There are no negatives; the predictor and the teacher's slowness keep the features apart. Each view passes through
//! the networks as a batch of its own, as in the authors' code, so that BatchNorm never mixes the two. The teacher is in
//! training mode too: it normalises by its own batches and keeps its own running statistics.

use crate::momentum::check_momentum;
use crate::views::{at_least_two, two_views};
use selfsup_core::ema::{Buffers, cosine_momentum};
use selfsup_core::{
    Ema, Encoder, Error, HeadNorm, ImageViews, Loss, MlpHead, MlpHeadConfig, Mode, Objective, Result, Site,
    Step, Tensor, TensorExt, check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Byol`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ByolConfig {
    /// The teacher's momentum tau at the start; it rises to 1 along a cosine. 0.996 for 1000 epochs (section 3.3 of the
    /// paper), 0.99 for 300 (appendix).
    pub momentum: f64,
    /// The projector g; 4096 hidden units and 256 outputs (section 3.3).
    pub projector: MlpHeadConfig,
    /// The predictor q, of the same form (section 3.3). Its output is as long as the projector's.
    pub predictor: MlpHeadConfig,
}

impl Default for ByolConfig {
    fn default() -> Self {
        let head = MlpHeadConfig {
            hidden: vec![4096],
            output: 256,
            hidden_norm: HeadNorm::BatchNorm,
            output_norm: HeadNorm::None,
        };
        ByolConfig { momentum: 0.996, projector: head.clone(), predictor: head }
    }
}

/// BYOL's loss of one direction: the squared distance of the unit vectors, which is 2 - 2 cos.
#[derive(Clone, Copy, Debug, Default)]
pub struct ByolLoss;

impl ByolLoss {
    /// The mean over the batch; nothing flows back to `target`.
    ///
    /// # Shapes
    /// `prediction`, `target`: `[N, D]`, row i of both from sample i, of any length. Returns a scalar in `[0, 4]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or are empty.
    pub fn forward(&self, prediction: &Tensor, target: &Tensor) -> Result<Tensor> {
        let [n, d] = check_shape("prediction", prediction, [-1, -1])?;
        check_shape("target", target, [n, d])?;
        if n == 0 {
            return Err(Error::config("prediction", "[0, _]", "at least one sample"));
        }
        let difference = prediction.l2_normalize() - target.detach().l2_normalize(); // [N, D]
        Ok(difference.square().sum_dim_intlist(-1, false, None).mean(None))
    }
}

/// The BYOL objective: projector, predictor, and the teacher's encoder and projector.
#[derive(Debug)]
pub struct Byol<E: ?Sized> {
    projector: MlpHead,
    predictor: MlpHead,
    teacher: Box<E>,
    teacher_projector: MlpHead,
    ema: Ema,
    momentum: f64,
}

impl<E: Encoder + ?Sized> Byol<E> {
    /// Makes the heads and the teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the momentum lies outside `[0, 1]`, a size is not positive, or the predictor's output is not
    /// of the projector's size.
    pub fn new(site: &Site<E>, config: &ByolConfig) -> Result<Self> {
        check_momentum(config.momentum)?;
        let output = config.projector.output;
        if config.predictor.output != output {
            let expected = format!("{output}, the projector's output");
            return Err(Error::config("predictor.output", config.predictor.output, expected));
        }
        let path = site.path();
        let projector = MlpHead::new(&path / "projector", site.dim(), &config.projector)?;
        let predictor = MlpHead::new(&path / "predictor", output, &config.predictor)?;
        let teacher = (site.twin)(&path / "teacher" / "encoder")?;
        let teacher_projector = MlpHead::new(&path / "teacher" / "projector", site.dim(), &config.projector)?;
        let ema = site.tie_teacher(&["projector"], Buffers::Keep)?;
        Ok(Byol { projector, predictor, teacher, teacher_projector, ema, momentum: config.momentum })
    }

    /// What the student predicts of a view's partner, `[N, P]`.
    fn predict(&self, encoder: &E, view: &Tensor) -> Result<Tensor> {
        let z = self.projector.forward(&encoder.encode(view, Mode::Train)?, Mode::Train)?;
        self.predictor.forward(&z, Mode::Train)
    }

    /// What the teacher makes of a view, `[N, P]`.
    fn target(&self, view: &Tensor) -> Result<Tensor> {
        tch::no_grad(|| self.teacher_projector.forward(&self.teacher.encode(view, Mode::Train)?, Mode::Train))
    }
}

impl<E: Encoder + ?Sized> Objective<E> for Byol<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let (view0, view1, n) = two_views(batch, "BYOL")?;
        at_least_two("view 0", view0, n)?;
        let (p0, p1) = (self.predict(encoder, view0)?, self.predict(encoder, view1)?); // [N, P] each
        let (t0, t1) = (self.target(view0)?, self.target(view1)?); // [N, P] each
        Ok(Loss::new(ByolLoss.forward(&p0, &t1)? + ByolLoss.forward(&p1, &t0)?))
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

    fn config() -> ByolConfig {
        let head = MlpHeadConfig { hidden: vec![3], output: 2, ..ByolConfig::default().projector };
        ByolConfig { momentum: 0.9, projector: head.clone(), predictor: head }
    }

    fn setup() -> (nn::VarStore, Pixels, Byol<Pixels>) {
        let (store, encoder, objective) = build(|site| Byol::new(site, &config())).unwrap();
        objective.ema.copy();
        (store, encoder, objective)
    }

    #[test]
    fn equals_the_papers_distance_of_unit_vectors_term_by_term() {
        let (p, t) = (wave(&[4, 3], 0.0), wave(&[4, 3], 1.0));
        let row = |x: &Tensor, i: i64| -> Vec<f64> {
            let values: Vec<f64> = (0..3).map(|j| x.double_value(&[i, j])).collect();
            let length = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            values.iter().map(|v| v / length).collect()
        };
        let mut naive = 0.0;
        for i in 0..4 {
            naive += row(&p, i).iter().zip(row(&t, i)).map(|(a, b)| (a - b).powi(2)).sum::<f64>() / 4.0;
        }
        assert!((ByolLoss.forward(&p, &t).unwrap().scalar().unwrap() - naive).abs() < 1e-6);
    }

    #[test]
    fn equals_pytorch_forward_and_backward() {
        // def f(n, d, s): i = torch.arange(float(n * d)); return (i * i * 0.37 + s).sin().reshape(n, d)
        // z0, z1 = f(4, 3, 0.).requires_grad_(), f(4, 3, 1.)
        // l = ((F.normalize(z0, dim=1) - F.normalize(z1, dim=1)) ** 2).sum(1).mean(); l.backward()
        // print(l.item(), z0.grad.flatten().tolist())
        let (p, t) = (wave(&[4, 3], 0.0), wave(&[4, 3], 1.0));
        let loss = ByolLoss.forward(&p, &t).unwrap();
        loss.backward();
        assert_close("loss", &loss, &[1.216_766_5], 1e-5);
        let expected = [
            -0.277_639_45,
            -0.220_621_06,
            0.080_109_98,
            0.939_726_77,
            -0.248_561_74,
            0.504_362_23,
            -0.212_234_26,
            -0.196_272_94,
            -0.015_987_32,
            -0.017_604_9,
            -0.199_986_26,
            -0.206_235_89,
        ];
        assert_close("gradient", &p.grad(), &expected, 1e-5);
        assert!(!t.grad().defined());
    }

    #[test]
    fn is_zero_for_a_perfect_prediction_of_any_length_and_four_for_the_opposite() {
        let z = wave(&[4, 3], 0.0);
        for (scale, expected) in [(3.0, 0.0), (-0.2, 4.0)] {
            let found = ByolLoss.forward(&(&z * scale), &z).unwrap().scalar().unwrap();
            assert!((found - expected).abs() < 1e-6, "{found}");
        }
    }

    #[test]
    fn five_steps_leave_the_student_and_the_teacher_where_lightlys_parts_leave_them() {
        // def W(i, o, n): return nn.Parameter(0.5 * (torch.arange(float(o * n)) * 0.7 + i).sin().reshape(o, n))
        // def lin(i, n, o, bias): l = nn.Linear(n, o, bias=bias); l.weight = W(i, o, n); l.bias is None or zeros_(l.bias)
        // def batch(s): return [(lambda i: (i * i * 0.37 + k + 10 * s).sin().reshape(6, 4))(torch.arange(24.)) for k in (0, 1)]
        // enc = lin(0, 4, 4, True); pred = Sequential(lin(1, 2, 3, False), BatchNorm1d(3), ReLU(), lin(2, 3, 2, True))
        // proj = Sequential(lin(3, 4, 3, False), BatchNorm1d(3), ReLU(), lin(4, 3, 2, True)); tenc, tproj = deepcopy(enc, proj)
        // opt = SGD(all but the teacher's, lr=0.1); cos = lightly.loss.NegativeCosineSimilarity()
        // for s in range(5):
        //     x0, x1 = batch(s); p0, p1 = pred(proj(enc(x0))), pred(proj(enc(x1)))
        //     with no_grad(): t0, t1 = tproj(tenc(x0)), tproj(tenc(x1))
        //     l = 2 + 2 * cos(p0, t1) + 2 + 2 * cos(p1, t0); opt.zero_grad(); l.backward(); opt.step(); print(l.item())
        //     m = 1 - (1 - 0.9) * (math.cos(math.pi * s / 10) + 1) / 2
        //     lightly.models.utils.update_momentum(enc, tenc, m); update_momentum(proj, tproj, m)
        let (store, encoder, mut objective) = setup();
        let losses = five_steps(&store, &encoder, &mut objective);
        let expected = [5.771_118_2, 0.984_493_4, 0.324_554_8, 0.325_890_06, 0.289_140_58];
        assert_close("losses", &Tensor::from_slice(&losses), &expected, 1e-5);
        let v = store.variables();
        let expected = [
            -0.000_515_06,
            0.315_041_54,
            0.494_410_81,
            0.427_843_39,
            0.198_922_74,
            -0.159_182_12,
            -0.413_947_25,
            -0.479_865_34,
            -0.257_898_81,
            0.026_652_99,
            0.360_575_05,
            0.518_285_16,
            0.482_495_43,
            0.173_552_39,
            -0.156_578_29,
            -0.414_507_78,
        ];
        assert_close("encoder", &v["objective.teacher.encoder.weight"], &expected, 1e-5);
        let expected =
            [-0.392_853_35, -0.458_216_43, -0.379_145_38, -0.096_388_9, 0.288_214_77, 0.482_879_79];
        assert_close("projector", &v["objective.teacher.projector.3.weight"], &expected, 1e-5);
        let expected = [-0.003_286_27, 0.006_590_42, -0.008_374_21];
        assert_close("statistics", &v["objective.teacher.projector.1.running_mean"], &expected, 1e-6);
    }

    #[test]
    fn gradients_reach_the_student_and_not_the_teacher() {
        let (store, encoder, mut objective) = setup();
        one_loss(&encoder, &mut objective);
        // BatchNorm takes away the means that these two add.
        assert_gradients(&store, &["encoder.bias", "objective.projector.3.bias"]);
        let v = store.variables();
        assert_ne!(v["encoder.weight"].data_ptr(), v["objective.teacher.encoder.weight"].data_ptr());
        assert!(!v["objective.teacher.projector.0.weight"].requires_grad());
    }

    #[test]
    fn a_teacher_of_full_momentum_stands_still() {
        let (store, encoder, mut objective) = setup();
        objective.momentum = 1.0;
        let before = store.variables()["objective.teacher.encoder.weight"].copy();
        five_steps(&store, &encoder, &mut objective);
        assert_eq!(store.variables()["objective.teacher.encoder.weight"], before);
        assert_ne!(store.variables()["encoder.weight"], before);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (_store, encoder, mut objective) = setup();
        let mut refuse = |n, views| {
            objective.loss(&encoder, &batch(n, views, 0), &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        assert_eq!(refuse(6, 3), "views = 3: two views an image for BYOL");
        assert_eq!(refuse(1, 2), "view 0: expected at least 2 samples, found [1, 1, 2, 2]");
        let error = ByolLoss.forward(&wave(&[4, 3], 0.0), &wave(&[4, 2], 0.0)).unwrap_err().to_string();
        assert_eq!(error, "target: expected [4, 3], found [4, 2]");
        let refuse = |config| build(|site| Byol::new(site, &config)).unwrap_err().to_string();
        assert_eq!(refuse(ByolConfig { momentum: 1.1, ..config() }), "momentum = 1.1: from 0 to 1");
        let predictor = MlpHeadConfig { output: 5, ..config().predictor };
        let error = refuse(ByolConfig { predictor, ..config() });
        assert_eq!(error, "predictor.output = 5: 2, the projector's output");
    }
}
