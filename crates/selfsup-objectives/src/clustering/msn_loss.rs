//! The loss of MSN: a masked view is to resemble the same prototypes as a whole view of its image, and all prototypes are
//! to be used.
//!
//! Assran, Caron, Misra, Bojanowski, Bordes, Vincent, Joulin, Rabbat and Ballas 2022, *Masked Siamese Networks for
//! Label-Efficient Learning*, equation 1. With anchors z, targets z+ and prototypes q of length 1,
//!
//! ```text
//! p = softmax(z q^T / tau)        p+ = Sinkhorn(softmax(z+ q^T / (tau T)))        p' = mean of all p
//! L = mean over anchors of H(p+, p)  +  lambda (log K - H(p'))
//! ```
//! Dividing the target's temperature by 1/T is the sharpening, p^(1/T) scaled to sum 1. p+ has no gradient. The constant
//! log K, which the authors' code adds, makes the second term 0 where all prototypes are used alike. p' and the Sinkhorn
//! step are those of the images of all ranks.

use selfsup_core::{Communicator, Error, Kind, Result, Tensor, TensorExt, check_shape, tch};
use selfsup_numerics::{SinkhornConfig, sinkhorn};
use serde::{Deserialize, Serialize};

/// Settings of [`MsnLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MsnLossConfig {
    /// The temperature tau of the anchors. 0.1 (the authors' configuration).
    pub temperature: f64,
    /// The sharpening T of the targets, at most 1: 0.25, so that their temperature is 0.025 (the authors'
    /// configuration).
    pub sharpening: f64,
    /// Rounds of Sinkhorn's algorithm that balance the targets, 0 for none. 3 (the authors' configuration).
    pub sinkhorn_iterations: usize,
    /// The weight lambda of the mean entropy. 1 (the authors' configuration).
    pub mean_entropy: f64,
}

impl Default for MsnLossConfig {
    fn default() -> Self {
        MsnLossConfig { temperature: 0.1, sharpening: 0.25, sinkhorn_iterations: 3, mean_entropy: 1.0 }
    }
}

/// The MSN loss.
#[derive(Clone, Debug)]
pub struct MsnLoss {
    config: MsnLossConfig,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct MsnOutput {
    /// The loss, a scalar with gradient.
    pub loss: Tensor,
    /// Its first part, the mean cross-entropy of anchors with their targets, a scalar.
    pub cross_entropy: Tensor,
    /// The entropy of the mean prediction, a scalar between 0 and log K, where all prototypes are used alike.
    pub mean_entropy: Tensor,
}

impl MsnLoss {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when a temperature is not positive, the sharpening not in (0, 1], or lambda negative.
    pub fn new(config: MsnLossConfig) -> Result<Self> {
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::config("temperature", config.temperature, "a positive number"));
        }
        if !(config.sharpening > 0.0 && config.sharpening <= 1.0) {
            return Err(Error::config("sharpening", config.sharpening, "above 0 and at most 1"));
        }
        if !(config.mean_entropy >= 0.0 && config.mean_entropy.is_finite()) {
            return Err(Error::config("mean_entropy", config.mean_entropy, "a weight of at least 0"));
        }
        Ok(MsnLoss { config })
    }

    /// The loss of this rank's anchors.
    ///
    /// # Shapes
    /// `anchors` `[A N, D]`, the first anchors of all images, then the second; `targets` `[N, D]`; `prototypes` `[K, D]`;
    /// rows of any length.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit each other.
    pub fn forward(
        &self,
        anchors: &Tensor,
        targets: &Tensor,
        prototypes: &Tensor,
        comm: &dyn Communicator,
    ) -> Result<MsnOutput> {
        let [n, d] = check_shape("targets", targets, [-1, -1])?;
        let [rows, _] = check_shape("anchors", anchors, [-1, d])?;
        let [k, _] = check_shape("prototypes", prototypes, [-1, d])?;
        if n == 0 || rows == 0 || rows % n != 0 {
            return Err(Error::Shape {
                name: "anchors".to_owned(),
                expected: format!("a multiple of the {n} rows of targets"),
                found: format!("{:?}", anchors.size()),
            });
        }
        let prototypes = prototypes.l2_normalize().tr(); // [D, K]
        let logits = anchors.l2_normalize().matmul(&prototypes) / self.config.temperature; // [A N, K]
        let log_p = logits.log_softmax(1, Kind::Float);
        let assigned = self.assign(&targets.l2_normalize().matmul(&prototypes), comm)?; // [N, K]
        let assigned = assigned.repeat([rows / n, 1]); // [A N, K]
        let cross_entropy = -(assigned * &log_p).sum_dim_intlist(1, false, None).mean(None);
        let mean = log_p.exp().mean_dim(0, false, None); // [K]
        let mean = comm.all_reduce(&mean)? / comm.world_size() as f64;
        // A prototype that nobody resembles adds 0 to the entropy, as in the limit.
        let mean_entropy = -(&mean * mean.clamp_min(f64::from(f32::MIN_POSITIVE)).log()).sum(Kind::Float);
        let lacking = (k as f64).ln() - &mean_entropy;
        let loss = &cross_entropy + lacking * self.config.mean_entropy;
        Ok(MsnOutput { loss, cross_entropy, mean_entropy })
    }

    /// The targets' sharpened and balanced predictions `[N, K]` from their cosines `[N, K]`, without gradient.
    fn assign(&self, cosines: &Tensor, comm: &dyn Communicator) -> Result<Tensor> {
        tch::no_grad(|| {
            let MsnLossConfig { temperature, sharpening, sinkhorn_iterations, .. } = self.config;
            let log_p = (cosines.detach() / (temperature * sharpening)).log_softmax(1, Kind::Float);
            if sinkhorn_iterations == 0 {
                return Ok(log_p.exp());
            }
            let n = log_p.size()[0];
            // Sinkhorn's algorithm on probabilities is that on their logarithms with an epsilon of 1.
            let config = SinkhornConfig { epsilon: 1.0, iterations: sinkhorn_iterations };
            Ok(sinkhorn(&comm.gather(&log_p)?, &config)?.narrow(0, comm.rank() * n, n))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{TwoRanks, waves};
    use selfsup_core::{Device, SingleProcess};

    fn inputs() -> [Tensor; 3] {
        let anchors = waves(&[8, 3], 0.0).set_requires_grad(true);
        [anchors, waves(&[4, 3], 1.0), waves(&[5, 3], 3.0).set_requires_grad(true)]
    }

    fn msn(config: MsnLossConfig) -> MsnLoss {
        MsnLoss::new(config).unwrap()
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // a, t, c = w((8, 3), 0).requires_grad_(), w((4, 3), 1), w((5, 3), 3).requires_grad_()  (w as in swav_loss.rs)
        // for iterations, weight in [(3, 1.), (0, 1.), (3, 0.)]:
        //     loss = lightly.loss.MSNLoss(sinkhorn_iterations=iterations, regularization_weight=weight)
        //     l = loss(a, t, c, target_sharpen_temperature=0.25); l.backward()
        //     print(l.item(), a.grad.flatten().tolist(), c.grad.flatten().tolist())
        #[rustfmt::skip]
        let cases: [(MsnLossConfig, f64, [f32; 24], [f32; 15]); 3] = [
            (
                MsnLossConfig::default(),
                2.4864860,
                [
                    0.0006352, 0.0002909, -0.0001902, 0.2524117, 1.5199741, 2.072669, 0.1708968,
                    -0.0210812, -0.2031443, 0.0004821, 0.0002159, -0.0001518, 0.0434033,
                    0.2194577, 0.2922977, -0.650443, 0.088391, 0.7856534, 1.4523976, 0.6361529,
                    -0.4792845, 0.0608807, 0.2657036, 0.345562,
                ],
                [
                    -0.4729627, -0.2602972, 0.0747901, 0.0561144, -0.4723659, -0.778685,
                    0.3931825, -0.0109805, -0.409979, -0.4599136, -0.2476911, 0.0810246,
                    0.0328949, -0.3963615, -0.6392028,
                ],
            ),
            (
                MsnLossConfig { sinkhorn_iterations: 0, ..Default::default() },
                2.4863806,
                [
                    0.0006352, 0.0002909, -0.0001902, 0.2524218, 1.5200351, 2.072752, 0.1710869,
                    -0.0211046, -0.2033704, 0.0004821, 0.0002159, -0.0001518, 0.0434033,
                    0.2194577, 0.2922977, -0.6503301, 0.0883756, 0.7855169, 1.4524373,
                    0.6361703, -0.4792975, 0.0608807, 0.2657036, 0.345562,
                ],
                [
                    -0.4698074, -0.2585607, 0.0742911, 0.0555811, -0.4678771, -0.7712855,
                    0.3931827, -0.0109804, -0.409979, -0.463334, -0.2495331, 0.0816271,
                    0.0332612, -0.400775, -0.6463205,
                ],
            ),
            (
                MsnLossConfig { mean_entropy: 0.0, ..Default::default() },
                1.9278337,
                [
                    -0.0006215, -0.0002847, 0.0001861, 0.1994142, 1.2008333, 1.6374817,
                    0.2276115, -0.0280773, -0.2705609, -0.0004716, -0.0002112, 0.0001485,
                    -0.044483, -0.224917, -0.299569, -0.5981984, 0.0812913, 0.7225483,
                    1.4516696, 0.635834, -0.4790442, -0.0745074, -0.325175, -0.4229077,
                ],
                [
                    -0.019811, -0.0109031, 0.0031327, 0.0499613, -0.4205704, -0.6933013,
                    -0.101948, 0.0028471, 0.1063032, -0.0951275, -0.0512318, 0.0167589,
                    0.0323794, -0.3901505, -0.6291866,
                ],
            ),
        ];
        for (config, expected, of_anchors, of_prototypes) in cases {
            let [anchors, targets, prototypes] = inputs();
            let loss = msn(config).forward(&anchors, &targets, &prototypes, &SingleProcess).unwrap().loss;
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5);
            loss.backward();
            for (x, expected) in [(&anchors, &of_anchors[..]), (&prototypes, &of_prototypes[..])] {
                let difference = x.grad().reshape([-1]) - Tensor::from_slice(expected);
                assert!(difference.abs().max().scalar().unwrap() < 1e-5);
            }
        }
    }

    #[test]
    fn equals_the_naive_loop() {
        let [anchors, targets, prototypes] = inputs();
        let rows = |x: &Tensor| Vec::<Vec<f64>>::try_from(x.detach().to_kind(Kind::Double)).unwrap();
        let cosine = |a: &[f64], b: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let predict = |z: &[f64]| {
            let e: Vec<f64> = rows(&prototypes).iter().map(|q| (cosine(z, q) / 0.1).exp()).collect();
            let sum: f64 = e.iter().sum();
            e.into_iter().map(|e| e / sum).collect::<Vec<_>>()
        };
        let sharpen = |p: Vec<f64>| {
            let sum: f64 = p.iter().map(|p| p.powi(4)).sum();
            p.into_iter().map(|p| p.powi(4) / sum).collect::<Vec<_>>()
        };
        let mut assigned: Vec<_> = rows(&targets).iter().map(|z| sharpen(predict(z))).collect();
        for _ in 0..3 {
            for k in 0..5 {
                let sum: f64 = assigned.iter().map(|p| p[k]).sum();
                for p in &mut assigned {
                    p[k] /= 5.0 * sum;
                }
            }
            for p in &mut assigned {
                let sum: f64 = p.iter().sum();
                for p in p {
                    *p /= sum;
                }
            }
        }
        let (mut cross_entropy, mut mean) = (0.0, vec![0.0; 5]);
        for (i, z) in rows(&anchors).iter().enumerate() {
            for (k, p) in predict(z).into_iter().enumerate() {
                cross_entropy -= assigned[i % 4][k] * p.ln() / 8.0;
                mean[k] += p / 8.0;
            }
        }
        let entropy: f64 = -mean.iter().map(|p| p * p.ln()).sum::<f64>();
        let output =
            msn(MsnLossConfig::default()).forward(&anchors, &targets, &prototypes, &SingleProcess).unwrap();
        let expected = cross_entropy + 5.0_f64.ln() - entropy;
        assert!((output.loss.scalar().unwrap() - expected).abs() < 1e-5);
        assert!((output.cross_entropy.scalar().unwrap() - cross_entropy).abs() < 1e-5);
        assert!((output.mean_entropy.scalar().unwrap() - entropy).abs() < 1e-5);
    }

    #[test]
    fn embeddings_at_all_prototypes_alike_need_no_more_entropy() {
        // Anchors and targets that lie on one prototype each, of orthogonal ones, with a cold temperature.
        let eye = Tensor::eye(4, (Kind::Float, Device::Cpu));
        let config = MsnLossConfig { temperature: 0.01, ..Default::default() };
        let output = msn(config).forward(&(&eye * 3.0), &eye, &(&eye * 0.2), &SingleProcess).unwrap();
        assert!(output.loss.scalar().unwrap().abs() < 1e-5);
        assert!((output.mean_entropy.scalar().unwrap() - 4.0_f64.ln()).abs() < 1e-5);
        // All on one: the targets are balanced all the same, and the entropy is lacking.
        let same = eye.narrow(0, 0, 1).expand([4, 4], false);
        let config = MsnLossConfig { temperature: 0.01, sinkhorn_iterations: 0, ..Default::default() };
        let output = msn(config).forward(&same, &same, &eye, &SingleProcess).unwrap();
        assert!((output.loss.scalar().unwrap() - 4.0_f64.ln()).abs() < 1e-5);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let [anchors, targets, prototypes] = inputs();
        let msn = msn(MsnLossConfig::default());
        let expected =
            msn.forward(&anchors, &targets, &prototypes, &SingleProcess).unwrap().loss.scalar().unwrap();
        let losses = TwoRanks::play(|comm| {
            let half = |x: &Tensor| x.narrow(0, comm.rank * 2, 2);
            let anchors = Tensor::cat(&[half(&anchors), half(&anchors.narrow(0, 4, 4))], 0);
            msn.forward(&anchors, &half(&targets), &prototypes, comm).unwrap().loss.scalar().unwrap()
        });
        assert!((f64::midpoint(losses[0], losses[1]) - expected).abs() < 1e-5, "{losses:?} {expected}");
    }

    #[test]
    fn a_target_that_is_not_finite_is_named() {
        let [anchors, targets, prototypes] = inputs();
        let loss = msn(MsnLossConfig::default());
        let error = loss.forward(&anchors, &(targets * f64::NAN), &prototypes, &SingleProcess).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let [anchors, targets, prototypes] = inputs();
        let loss = msn(MsnLossConfig::default());
        let refused = |anchors: &Tensor, prototypes: &Tensor| {
            loss.forward(anchors, &targets, prototypes, &SingleProcess).unwrap_err().to_string()
        };
        let error = refused(&anchors.narrow(0, 0, 6), &prototypes);
        assert_eq!(error, "anchors: expected a multiple of the 4 rows of targets, found [6, 3]");
        let error = refused(&anchors, &prototypes.narrow(1, 0, 2));
        assert_eq!(error, "prototypes: expected [_, 3], found [5, 2]");
        let default = MsnLossConfig::default;
        for (config, expected) in [
            (MsnLossConfig { temperature: 0.0, ..default() }, "temperature = 0: a positive number"),
            (MsnLossConfig { sharpening: 1.5, ..default() }, "sharpening = 1.5: above 0 and at most 1"),
            (MsnLossConfig { mean_entropy: -1.0, ..default() }, "mean_entropy = -1: a weight of at least 0"),
        ] {
            assert_eq!(MsnLoss::new(config).unwrap_err().to_string(), expected);
        }
    }
}
