//! NT-Xent, the normalised temperature-scaled cross-entropy of SimCLR.
//!
//! Chen, Kornblith, Norouzi and Hinton 2020, *A Simple Framework for Contrastive Learning of Visual Representations*,
//! equation 1. For the 2N views of N samples, with z of unit length and (i, j) the two views of one sample,
//!
//! ```text
//! l(i, j) = -log exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau),     L = mean of l over all 2N views
//! ```
//!
//! Only the view itself leaves the denominator, not the positive. All rows are one matrix product and one
//! cross-entropy, the diagonal at minus infinity.

use selfsup_core::{Communicator, Error, Kind, Result, Tensor, TensorExt, check_shape};
use serde::{Deserialize, Serialize};

/// Settings of [`NtXent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtXentConfig {
    /// The temperature tau. 0.1 on ImageNet (section 6.1 of the paper), 0.5 on CIFAR-10 (appendix B.9).
    pub temperature: f64,
}

impl Default for NtXentConfig {
    fn default() -> Self {
        NtXentConfig { temperature: 0.1 }
    }
}

/// The NT-Xent loss.
#[derive(Clone, Debug)]
pub struct NtXent {
    temperature: f64,
}

impl NtXent {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is not a positive number.
    pub fn new(config: NtXentConfig) -> Result<Self> {
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::config("temperature", config.temperature, "a positive number"));
        }
        Ok(NtXent { temperature: config.temperature })
    }

    /// The mean loss of this rank's views, with the views of all ranks as negatives.
    ///
    /// # Shapes
    /// `z0`, `z1`: `[N, D]`, row i of both from sample i, of any length. Returns a scalar.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or no negative is left (one sample on one rank).
    pub fn forward(&self, z0: &Tensor, z1: &Tensor, comm: &dyn Communicator) -> Result<Tensor> {
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
        let queries = Tensor::cat(&[z0, z1], 0); // [2N, D]
        let sample = Tensor::arange(n, (Kind::Int64, queries.device())) + comm.rank() * n; // [N]
        let itself = Tensor::cat(&[&sample, &(&sample + all)], 0); // [2N], columns of the queries themselves
        let positive = Tensor::cat(&[&(&sample + all), &sample], 0); // [2N]

        let logits = (queries / self.temperature).matmul(&keys.transpose(0, 1)); // [2N, 2M]
        let logits = logits.scatter_value(1, &itself.unsqueeze(1), f64::NEG_INFINITY);
        Ok(logits.cross_entropy_for_logits(&positive))
    }

    /// The loss of embeddings that carry no information, `log(2N - 1)`: a run that stays there has not begun to learn.
    pub fn chance(samples: i64) -> f64 {
        ((2 * samples - 1) as f64).ln()
    }
}

/// The share of views whose positive is their nearest neighbour among all other views: the accuracy of the
/// classification that the loss poses.
///
/// # Shapes
/// `z0`, `z1`: `[N, D]`. Returns a scalar in `[0, 1]` without gradient.
///
/// # Errors
/// [`Error::Shape`] when the two differ.
pub fn contrastive_accuracy(z0: &Tensor, z1: &Tensor) -> Result<Tensor> {
    let [n, d] = check_shape("z0", z0, [-1, -1])?;
    check_shape("z1", z1, [n, d])?;
    Ok(selfsup_core::tch::no_grad(|| {
        let z = Tensor::cat(&[z0, z1], 0).l2_normalize(); // [2N, D]
        let similarity = z.matmul(&z.transpose(0, 1)).fill_diagonal_(f64::NEG_INFINITY, false); // [2N, 2N]
        let sample = Tensor::arange(n, (Kind::Int64, z.device()));
        let positive = Tensor::cat(&[&(&sample + n), &sample], 0);
        similarity.argmax(1, false).eq_tensor(&positive).to_kind(Kind::Float).mean(None)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use selfsup_core::Device;
    use selfsup_core::SingleProcess;
    use selfsup_core::tensor::with_slice;
    use std::sync::Mutex;

    fn waves(n: i64, d: i64, shift: f64) -> Tensor {
        let x = Tensor::arange(n * d, (Kind::Float, Device::Cpu)) * 0.37 + shift;
        x.sin().reshape([n, d]).set_requires_grad(true)
    }

    fn loss(z0: &Tensor, z1: &Tensor, temperature: f64) -> Tensor {
        NtXent::new(NtXentConfig { temperature }).unwrap().forward(z0, z1, &SingleProcess).unwrap()
    }

    /// Equation 1, term by term in f64.
    fn naive(z: &[Vec<f64>], n: usize, temperature: f64) -> f64 {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
        let cosine = |i: usize, k: usize| dot(&z[i], &z[k]) / (dot(&z[i], &z[i]) * dot(&z[k], &z[k])).sqrt();
        let mut total = 0.0;
        for i in 0..2 * n {
            let j = (i + n) % (2 * n);
            let others = (0..2 * n).filter(|&k| k != i);
            let denominator: f64 = others.map(|k| (cosine(i, k) / temperature).exp()).sum();
            total -= ((cosine(i, j) / temperature).exp() / denominator).ln();
        }
        total / (2 * n) as f64
    }

    #[test]
    fn equals_lightly_forward_and_backward() {
        // def f(s): return torch.sin(torch.arange(12.) * 0.37 + s).reshape(4, 3).requires_grad_()
        // z0, z1 = f(0.), f(1.); l = lightly.loss.NTXentLoss(temperature=t)(z0, z1); l.backward()
        // print(l.item(), z0.grad.flatten().tolist(), z1.grad.flatten().tolist())
        let (z0, z1) = (waves(4, 3, 0.0), waves(4, 3, 1.0));
        let l = loss(&z0, &z1, 0.1);
        assert!((l.scalar().unwrap() - 4.793_043_6).abs() < 1e-5);
        l.backward();
        let expected0: [f32; 12] = [
            -0.665_573_66,
            -0.277_212_92,
            0.148_667_34,
            -0.422_065_5,
            -0.009_926_21,
            0.403_556_47,
            -1.055_012_9,
            0.754_949_33,
            2.462_731_6,
            0.734_959_6,
            0.222_860_74,
            -0.319_400_85,
        ];
        let expected1: [f32; 12] = [
            0.663_518_49,
            0.033_964_99,
            -0.600_185_28,
            0.255_211,
            -0.126_591_53,
            -0.491_260_2,
            -2.884_408,
            -1.047_369_5,
            0.931_424_14,
            -0.098_856_99,
            -0.000_322_45,
            0.098_255_69,
        ];
        for (z, expected) in [(&z0, &expected0), (&z1, &expected1)] {
            let difference =
                (z.grad().reshape([-1]) - Tensor::from_slice(expected)).abs().max().scalar().unwrap();
            assert!(difference < 1e-5, "{difference}");
        }
        let l = loss(&waves(4, 3, 0.0), &waves(4, 3, 1.0), 0.5);
        assert!((l.scalar().unwrap() - 1.836_023_1).abs() < 1e-5);
    }

    #[test]
    fn embeddings_without_information_cost_the_chance_value() {
        let z = Tensor::ones([16, 8], (Kind::Float, Device::Cpu));
        assert!((loss(&z, &z, 0.1).scalar().unwrap() - NtXent::chance(16)).abs() < 1e-5);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        /// Plays one of two ranks, knowing both views of the whole batch.
        struct TwoRanks {
            rank: i64,
            whole: [Mutex<Tensor>; 2],
        }
        impl Communicator for TwoRanks {
            fn rank(&self) -> i64 {
                self.rank
            }
            fn world_size(&self) -> i64 {
                2
            }
            fn gather(&self, x: &Tensor) -> Result<Tensor> {
                let whole = self.whole.iter().map(|view| view.lock().unwrap().l2_normalize());
                let holds_mine = |whole: &Tensor| {
                    (whole.narrow(0, self.rank * 4, 4) - x).abs().max().scalar().unwrap() < 1e-6
                };
                Ok(whole.into_iter().find(holds_mine).expect("one of the two views"))
            }
            fn all_reduce(&self, _x: &Tensor) -> Result<Tensor> {
                unreachable!("NT-Xent reduces nothing")
            }
        }

        let (z0, z1) = (waves(8, 3, 0.0), waves(8, 3, 1.0));
        let whole = loss(&z0, &z1, 0.2);
        whole.backward();
        let (g0, g1) = (z0.grad().copy(), z1.grad().copy());
        let (w0, w1) = (waves(8, 3, 0.0), waves(8, 3, 1.0));
        let nt_xent = NtXent::new(NtXentConfig { temperature: 0.2 }).unwrap();
        let mut sum = Tensor::from(0.0_f32);
        for rank in 0..2 {
            let comm = TwoRanks { rank, whole: [w0.shallow_clone().into(), w1.shallow_clone().into()] };
            sum += nt_xent.forward(&w0.narrow(0, rank * 4, 4), &w1.narrow(0, rank * 4, 4), &comm).unwrap();
        }
        let mean = sum / 2.0;
        mean.backward();
        assert!((mean.scalar().unwrap() - whole.scalar().unwrap()).abs() < 1e-5);
        assert!((w0.grad() - g0).abs().max().scalar().unwrap() < 1e-5);
        assert!((w1.grad() - g1).abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn accuracy_counts_positives_that_are_nearest() {
        let z0 = Tensor::from_slice2(&[[1.0_f32, 0.0], [0.0, 1.0], [-1.0, 0.1]]);
        let z1 = Tensor::from_slice2(&[[0.9_f32, 0.1], [0.9, 0.2], [-1.0, 0.0]]);
        // View 1 of sample 1 and both of its partners' neighbours: of the six views, those of sample 2 agree, view 0 of
        // sample 0 agrees, view 1 of sample 0 is nearer to view 1 of sample 1, and sample 1 agrees in no view but 0.
        let naive = {
            let z = Tensor::cat(&[&z0, &z1], 0).l2_normalize();
            let mut hits = 0;
            for i in 0..6_i64 {
                let similarity = |k: i64| (z.get(i) * z.get(k)).sum(None).scalar().unwrap();
                let best =
                    (0..6).filter(|&k| k != i).max_by(|&a, &b| similarity(a).total_cmp(&similarity(b)));
                hits += i64::from(best == Some((i + 3) % 6));
            }
            hits as f64 / 6.0
        };
        let found = contrastive_accuracy(&z0, &z1).unwrap().scalar().unwrap();
        assert!((found - naive).abs() < 1e-6 && found > 0.0 && found < 1.0, "{found} {naive}");
    }

    #[test]
    fn rejects_a_batch_of_one_unequal_views_and_a_bad_temperature() {
        let nt_xent = NtXent::new(NtXentConfig::default()).unwrap();
        let error = nt_xent.forward(&waves(1, 3, 0.0), &waves(1, 3, 0.0), &SingleProcess).unwrap_err();
        assert!(error.to_string().contains("at least 2 samples"), "{error}");
        let error = nt_xent.forward(&waves(4, 3, 0.0), &waves(3, 3, 0.0), &SingleProcess).unwrap_err();
        assert_eq!(error.to_string(), "z1: expected [4, 3], found [3, 3]");
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = NtXent::new(NtXentConfig { temperature }).unwrap_err();
            assert!(error.to_string().starts_with("temperature = "), "{error}");
        }
    }

    proptest! {
        #[test]
        fn equals_the_naive_loop_and_ignores_order_scale_and_the_order_of_views(
            values in prop::collection::vec(-1.0_f32..1.0, 2 * 5 * 3), temperature in 0.05..2.0_f64,
        ) {
            let norm = |v: &[f32]| v.iter().map(|x| x * x).sum::<f32>().sqrt();
            prop_assume!(values.chunks(3).all(|row| norm(row) > 0.1));
            let z = Tensor::from_slice(&values).reshape([10, 3]);
            let (z0, z1) = (z.narrow(0, 0, 5), z.narrow(0, 5, 5));
            let l = loss(&z0, &z1, temperature).scalar().unwrap();
            let rows: Vec<Vec<f64>> = with_slice(&z, |s: &[f32]| {
                s.chunks(3).map(|row| row.iter().map(|&v| f64::from(v)).collect()).collect()
            }).unwrap();
            prop_assert!((l - naive(&rows, 5, temperature)).abs() < 1e-4 * l.abs().max(1.0));
            let order = Tensor::from_slice(&[3_i64, 1, 4, 0, 2]);
            let permuted = loss(&z0.index_select(0, &order), &z1.index_select(0, &order), temperature);
            prop_assert!((permuted.scalar().unwrap() - l).abs() < 1e-4 * l.abs().max(1.0));
            let scaled = loss(&(&z0 * 7.0), &(&z1 * 0.3), temperature);
            prop_assert!((scaled.scalar().unwrap() - l).abs() < 1e-4 * l.abs().max(1.0));
            let swapped = loss(&z1, &z0, temperature);
            prop_assert!((swapped.scalar().unwrap() - l).abs() < 1e-4 * l.abs().max(1.0));
        }
    }
}
