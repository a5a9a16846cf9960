//! DCL and DCLW: SimCLR without the positive pair in the denominator, which else weakens the gradient of a sample whose
//! views are near already; DCLW weights the pairs that are far apart.
//!
//! Yeh, Hong, Hsu, Liu, Chen and LeCun 2022, *Decoupled Contrastive Learning*, equations 6 and 7. For the two views z
//! of N samples, of unit length,
//!
//! ```text
//! L = mean over i and views k of
//!         -w_i z_i^1 . z_i^2 / tau + log sum_{l in {1, 2}} sum_{j != i} exp(z_i^k . z_j^l / tau)
//! ```
//!
//! with w = 1 for DCL and, for DCLW, the negative von Mises-Fisher weights
//! `w_i = 2 - exp(z_i^1 . z_i^2 / sigma) / mean over j of exp(z_j^1 . z_j^2 / sigma)`, which average to 1 and carry no
//! gradient. The paper sums over i and k; here, as in its reimplementations, the loss is the mean. Across ranks the
//! negatives and the mean of the weights are those of the whole batch.

use crate::contrastive::simclr::project_together;
use selfsup_core::{
    Communicator, Encoder, Error, ImageViews, Kind, Loss, MlpHead, MlpHeadConfig, Objective, Result, Site,
    Step, Tensor, TensorExt, check_shape,
};
use serde::{Deserialize, Serialize};

/// How much the positive pairs count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PairWeights {
    /// All alike: DCL.
    #[default]
    Equal,
    /// More, the farther apart they are: DCLW.
    VonMisesFisher {
        /// The temperature of the weights: 0.5 (section 3 of the paper).
        #[serde(default = "half")]
        sigma: f64,
    },
}

fn half() -> f64 {
    0.5
}

/// Settings of [`Dcl`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DclConfig {
    /// The temperature of the loss: 0.1 on ImageNet and 0.07 on CIFAR-10 (section 4 of the paper).
    pub temperature: f64,
    /// DCL or DCLW.
    pub weights: PairWeights,
    /// The projector, SimCLR's: 2048 hidden units and 128 outputs for a ResNet-50.
    pub projector: MlpHeadConfig,
}

impl Default for DclConfig {
    fn default() -> Self {
        DclConfig {
            temperature: 0.1,
            weights: PairWeights::Equal,
            projector: MlpHeadConfig::projector(2048, 128),
        }
    }
}

/// The decoupled contrastive loss.
#[derive(Clone, Debug)]
pub struct DecoupledContrastive {
    temperature: f64,
    weights: PairWeights,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct DecoupledContrastiveOutput {
    /// The mean loss, a scalar with gradient.
    pub loss: Tensor,
    /// The share of views whose positive is nearer than every negative, a scalar without gradient.
    pub accuracy: Tensor,
}

impl DecoupledContrastive {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature or sigma is not a positive number.
    pub fn new(temperature: f64, weights: PairWeights) -> Result<Self> {
        let sigma = match weights {
            PairWeights::Equal => 1.0,
            PairWeights::VonMisesFisher { sigma } => sigma,
        };
        for (field, value) in [("temperature", temperature), ("weights.sigma", sigma)] {
            if !(value > 0.0 && value.is_finite()) {
                return Err(Error::config(field, value, "a positive number"));
            }
        }
        Ok(DecoupledContrastive { temperature, weights })
    }

    /// The mean loss of this rank's views, with the views of all ranks as negatives.
    ///
    /// # Shapes
    /// `z0`, `z1`: `[N, D]`, row i of both from sample i, of any length.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or no negative is left (one sample on one rank).
    pub fn forward(
        &self,
        z0: &Tensor,
        z1: &Tensor,
        comm: &dyn Communicator,
    ) -> Result<DecoupledContrastiveOutput> {
        let [n, d] = check_shape("z0", z0, [-1, -1])?;
        check_shape("z1", z1, [n, d])?;
        let all = n * comm.world_size();
        if all < 2 {
            return Err(Error::Shape {
                name: "z0".to_owned(),
                expected: "at least 2 samples, so that there are negatives".to_owned(),
                found: format!("{:?}", z0.size()),
            });
        }
        let (z0, z1) = (z0.l2_normalize(), z1.l2_normalize());
        let keys = Tensor::cat(&[comm.gather(&z0)?, comm.gather(&z1)?], 0); // [2M, D], M samples on all ranks
        let similarity = (&z0 * &z1).sum_dim_intlist(1, false, None); // [N]
        let weights = self.weigh(&similarity, all, comm)?; // [N]
        let queries = Tensor::cat(&[z0, z1], 0); // [2N, D]

        let sample = (Tensor::arange(n, (Kind::Int64, queries.device())) + comm.rank() * n).repeat([2]); // [2N]
        let own = Tensor::stack(&[&sample, &(&sample + all)], 1); // [2N, 2], the columns of a sample's own views
        let logits = (queries / self.temperature).matmul(&keys.tr()); // [2N, 2M]
        let logits = logits.scatter_value(1, &own, f64::NEG_INFINITY);
        let positive = similarity / self.temperature; // [N]

        let nearest = positive.detach().repeat([2]).gt_tensor(&logits.detach().amax(1, false)); // [2N]
        Ok(DecoupledContrastiveOutput {
            // Both views of a sample have the same positive term.
            loss: logits.logsumexp(1, false).mean(None) - (weights * positive).mean(None),
            accuracy: nearest.to_kind(Kind::Float).mean(None),
        })
    }

    /// The weights of this rank's pairs, `[N]` without gradient, whose mean over all ranks is 1.
    fn weigh(&self, similarity: &Tensor, all: i64, comm: &dyn Communicator) -> Result<Tensor> {
        let similarity = similarity.detach();
        let PairWeights::VonMisesFisher { sigma } = self.weights else {
            return Ok(similarity.ones_like());
        };
        // A similarity is at most 1: without the common factor exp(1 / sigma) the exponential overflows for no sigma.
        let density = ((similarity - 1.0) / sigma).exp();
        let sum = comm.all_reduce(&density.sum(None))?;
        Ok(2.0 - density * all / sum.clamp_min(f64::from(f32::MIN_POSITIVE)))
    }
}

/// The DCL objective: SimCLR's projector and the decoupled loss.
#[derive(Debug)]
pub struct Dcl {
    projector: MlpHead,
    loss: DecoupledContrastive,
}

impl Dcl {
    /// Makes the projector for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature, sigma or a size is not positive.
    pub fn new<E: Encoder + ?Sized>(site: &Site<E>, config: &DclConfig) -> Result<Self> {
        Ok(Dcl {
            projector: MlpHead::new(site.path() / "projector", site.dim(), &config.projector)?,
            loss: DecoupledContrastive::new(config.temperature, config.weights)?,
        })
    }
}

impl<E: Encoder + ?Sized> Objective<E> for Dcl {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let [z0, z1] = project_together(encoder, &self.projector, batch, "DCL")?; // [N, P] each
        let DecoupledContrastiveOutput { loss, accuracy } = self.loss.forward(&z0, &z1, step.comm)?;
        Ok(Loss::new(loss).with("contrastive_accuracy", &accuracy))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{Pixels, assert_gradients, assert_near, batch, waves};
    use crate::fixtures::assert_two_ranks_equal_one;
    use proptest::prelude::*;
    use selfsup_core::tensor::to_array2;
    use selfsup_core::{Device, SingleProcess};

    const WEIGHTED: PairWeights = PairWeights::VonMisesFisher { sigma: 0.5 };

    fn learned(n: i64, d: i64, shift: f64) -> Tensor {
        waves(n, d, shift, 0.7).set_requires_grad(true)
    }

    fn loss(z0: &Tensor, z1: &Tensor, temperature: f64, weights: PairWeights) -> Tensor {
        DecoupledContrastive::new(temperature, weights).unwrap().forward(z0, z1, &SingleProcess).unwrap().loss
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // def wave(n, d, s): return torch.sin(torch.arange(float(n * d)) * 0.7 + s).reshape(n, d).requires_grad_()
        // for l in (DCLLoss(temperature=0.2), DCLWLoss(temperature=0.2, sigma=0.5)):
        //     a, b = wave(4, 3, 0.), wave(4, 3, 1.); v = l(a, b); v.backward(); print(v.item(), a.grad, b.grad)
        let cases: [(PairWeights, f64, [f32; 12], [f32; 12]); 2] = [
            (
                PairWeights::Equal,
                1.246_319_2,
                [
                    -0.6510998,
                    -0.29820257,
                    0.19494386,
                    0.18147105,
                    1.0927836,
                    1.4901429,
                    0.81029367,
                    -0.099954732,
                    -0.96319282,
                    -0.64414364,
                    -0.28852722,
                    0.20278825,
                ],
                [
                    0.41776627,
                    -0.034249656,
                    -0.47015741,
                    -1.7032573,
                    -0.82376254,
                    0.44316059,
                    0.064957321,
                    0.75595236,
                    1.0914109,
                    0.41202226,
                    -0.038553037,
                    -0.47099611,
                ],
            ),
            (
                WEIGHTED,
                1.708_020_4,
                [
                    -0.47388604,
                    -0.21703896,
                    0.1418848,
                    0.25638062,
                    1.5438741,
                    2.1052599,
                    0.80040741,
                    -0.098735221,
                    -0.95144093,
                    -0.46378863,
                    -0.20774196,
                    0.14600918,
                ],
                [
                    0.3101303,
                    -0.025425345,
                    -0.34902307,
                    -2.2796977,
                    -1.1025522,
                    0.59314138,
                    0.063869655,
                    0.7432946,
                    1.0731364,
                    0.30244341,
                    -0.028299689,
                    -0.34573293,
                ],
            ),
        ];
        for (weights, expected, expected0, expected1) in cases {
            let (z0, z1) = (learned(4, 3, 0.0), learned(4, 3, 1.0));
            let l = loss(&z0, &z1, 0.2, weights);
            l.backward();
            assert!((l.scalar().unwrap() - expected).abs() < 1e-5);
            assert_near(&z0.grad(), &expected0);
            assert_near(&z1.grad(), &expected1);
        }
    }

    #[test]
    fn embeddings_without_information_cost_the_logarithm_of_the_negatives_less_the_positive() {
        // All similarities are 1: log((2N - 2) exp(1 / tau)) - 1 / tau, whatever the weights, which are then 1.
        let z = Tensor::ones([5, 3], (Kind::Float, Device::Cpu));
        for weights in [PairWeights::Equal, WEIGHTED, PairWeights::VonMisesFisher { sigma: 0.004 }] {
            assert!((loss(&z, &z, 0.1, weights).scalar().unwrap() - 8_f64.ln()).abs() < 1e-5);
        }
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        assert_two_ranks_equal_one(&|z0, z1, comm| {
            DecoupledContrastive::new(0.2, WEIGHTED).unwrap().forward(z0, z1, comm).unwrap().loss
        });
    }

    fn config() -> DclConfig {
        DclConfig { projector: MlpHeadConfig::projector(8, 3), weights: WEIGHTED, ..DclConfig::default() }
    }

    #[test]
    fn is_the_decoupled_loss_of_the_projections_of_one_joint_batch() {
        for weights in [PairWeights::Equal, WEIGHTED] {
            let (store, encoder) = Pixels::stored();
            let config = DclConfig { weights, ..config() };
            let mut objective = Dcl::new(&Pixels::site(&store, &encoder), &config).unwrap();
            let batch = batch(6, 2, 0.0);
            let found = objective.loss(&encoder, &batch, &Step::single(0, 1, 0, 0)).unwrap().total;
            let v = store.variables();
            let x = Tensor::cat(&batch.views, 0).flatten(1, -1);
            let norm =
                |x: Tensor| (&x - x.mean_dim(0, true, None)) / (x.var_dim(0, false, true) + 1e-5).sqrt();
            let h = x.matmul(&v["encoder.weight"].tr()) + &v["encoder.bias"];
            let h = norm(h.matmul(&v["objective.projector.0.weight"].tr())).relu();
            let z = norm(h.matmul(&v["objective.projector.3.weight"].tr()));
            let sigma = if weights == WEIGHTED { Some(0.5) } else { None };
            let expected = naive([&z.narrow(0, 0, 6), &z.narrow(0, 6, 6)], 0.1, sigma);
            assert!(
                (found.scalar().unwrap() - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        }
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder) = Pixels::stored();
        let mut objective = Dcl::new(&Pixels::site(&store, &encoder), &config()).unwrap();
        let step = Step::single(0, 1, 0, 0);
        let loss = objective.loss(&encoder, &batch(6, 2, 0.0), &step).unwrap();
        loss.total.backward();
        assert_eq!(loss.parts[0].0, "contrastive_accuracy");
        // BatchNorm removes the mean that the encoder's bias adds.
        assert_gradients(&store, &["encoder.bias"]);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let dcl = DecoupledContrastive::new(0.1, WEIGHTED).unwrap();
        let error = dcl.forward(&learned(1, 3, 0.0), &learned(1, 3, 0.0), &SingleProcess).unwrap_err();
        assert_eq!(
            error.to_string(),
            "z0: expected at least 2 samples, so that there are negatives, found [1, 3]"
        );
        let error = dcl.forward(&learned(4, 3, 0.0), &learned(3, 3, 0.0), &SingleProcess).unwrap_err();
        assert_eq!(error.to_string(), "z1: expected [4, 3], found [3, 3]");
        let (store, encoder) = Pixels::stored();
        let site = Pixels::site(&store, &encoder);
        let error = Dcl::new(&site, &DclConfig { temperature: -1.0, ..config() }).unwrap_err();
        assert_eq!(error.to_string(), "temperature = -1: a positive number");
        let weights = PairWeights::VonMisesFisher { sigma: 0.0 };
        let error = DecoupledContrastive::new(0.1, weights).unwrap_err();
        assert_eq!(error.to_string(), "weights.sigma = 0: a positive number");
        let (store, encoder) = Pixels::stored();
        let mut objective = Dcl::new(&Pixels::site(&store, &encoder), &config()).unwrap();
        let error = objective.loss(&encoder, &batch(6, 1, 0.0), &Step::single(0, 1, 0, 0)).unwrap_err();
        assert_eq!(error.to_string(), "views = 1: two views an image for DCL");
    }

    /// Equations 6 and 7, term by term in f64.
    fn naive(views: [&Tensor; 2], tau: f64, sigma: Option<f64>) -> f64 {
        let z = views.map(|view| to_array2(view).unwrap().mapv(f64::from));
        let cosine = |(k, i): (usize, usize), (l, j): (usize, usize)| {
            let (a, b) = (z[k].row(i), z[l].row(j));
            a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt()
        };
        let n = z[0].nrows();
        let mut sum = 0.0;
        for i in 0..n {
            let density = |j: usize| sigma.map_or(1.0, |sigma| (cosine((0, j), (1, j)) / sigma).exp());
            let weight = 2.0 - density(i) / ((0..n).map(density).sum::<f64>() / n as f64);
            for k in 0..2 {
                let negatives = (0..2).flat_map(|l| (0..n).map(move |j| (l, j))).filter(|&(_, j)| j != i);
                let negatives: f64 = negatives.map(|other| (cosine((k, i), other) / tau).exp()).sum();
                sum += negatives.ln() - weight * cosine((0, i), (1, i)) / tau;
            }
        }
        sum / (2 * n) as f64
    }

    proptest! {
        #[test]
        fn equals_the_naive_loop_and_ignores_order_scale_and_the_order_of_views(
            values in prop::collection::vec(-1.0_f32..1.0, 2 * 5 * 3), tau in 0.05..2.0_f64, sigma in 0.2..2.0_f64,
        ) {
            prop_assume!(values.chunks(3).all(|row| row.iter().map(|x| x * x).sum::<f32>() > 0.01));
            let z = Tensor::from_slice(&values).reshape([2, 5, 3]);
            let (z0, z1) = (z.get(0), z.get(1));
            let order = Tensor::from_slice(&[3_i64, 1, 4, 0, 2]);
            for (weights, s) in [(PairWeights::Equal, None), (PairWeights::VonMisesFisher { sigma }, Some(sigma))] {
                let expected = naive([&z0, &z1], tau, s);
                let variants = [
                    loss(&z0, &z1, tau, weights),
                    loss(&z1, &z0, tau, weights),
                    loss(&(&z0 * 7.0), &(&z1 * 0.3), tau, weights),
                    loss(&z0.index_select(0, &order), &z1.index_select(0, &order), tau, weights),
                ];
                for found in variants.map(|l| l.scalar().unwrap()) {
                    prop_assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
                }
            }
        }
    }
}
