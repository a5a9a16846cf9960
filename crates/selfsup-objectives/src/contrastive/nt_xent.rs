//! NT-Xent, the normalised temperature-scaled cross-entropy of SimCLR.
//!
//! Chen, Kornblith, Norouzi and Hinton 2020, *A Simple Framework for Contrastive Learning of Visual Representations*,
//! equation 1. For the 2N views of N samples, with z of unit length and (i, j) the two views of one sample,
//!
//! ```text
//! l(i, j) = -log exp(z_i . z_j / tau) / sum_{k != i} exp(z_i . z_k / tau),     L = mean of l over all 2N views
//! ```
//!
//! Only the view itself leaves the denominator, not the positive.
//!
//! Two ways lead to the same numbers. Across ranks all rows are one matrix product and one cross-entropy, the diagonal
//! at minus infinity. On one rank `e_ik = exp(z_i . z_k / tau)` is symmetric, and so is its part of the gradient:
//!
//! ```text
//! r_i = sum_{k != i} e_ik        dL/dz_i = ( sum_{k != i} e_ik (1/r_i + 1/r_k) z_k  -  2 z_j ) / (2N tau)
//! ```
//!
//! Half of the matrix is computed, in panels that fit the cache, and serves both passes: a little over half of the
//! arithmetic of the plain way, and no matrix of logits.

use selfsup_core::{Communicator, Device, Error, Kind, Result, Tensor, TensorExt, check_shape, tch};
use serde::{Deserialize, Serialize};

/// Settings of [`NtXent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NtXentConfig {
    /// The temperature tau. 0.1 on ImageNet, 0.5 on CIFAR-10 (appendix B.9 of the paper).
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

/// What a batch comes to.
#[derive(Debug)]
pub struct NtXentOutput {
    /// The mean loss, a scalar with gradient (once: it cannot be differentiated twice).
    pub loss: Tensor,
    /// The share of views whose positive is their nearest neighbour among all other views, a scalar without gradient:
    /// the accuracy of the classification that the loss poses.
    pub accuracy: Tensor,
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
        Ok(self.compare(z0, z1, comm, Wanted::Loss)?.0)
    }

    /// As [`forward`](NtXent::forward), with the accuracy that comes out on the way.
    ///
    /// # Shapes
    /// `z0`, `z1`: `[N, D]`.
    ///
    /// # Errors
    /// As [`forward`](NtXent::forward).
    pub fn forward_with_accuracy(
        &self,
        z0: &Tensor,
        z1: &Tensor,
        comm: &dyn Communicator,
    ) -> Result<NtXentOutput> {
        let (loss, accuracy) = self.compare(z0, z1, comm, Wanted::LossAndAccuracy)?;
        Ok(NtXentOutput { loss, accuracy })
    }

    /// The loss, and the accuracy or nothing that is defined.
    fn compare(
        &self,
        z0: &Tensor,
        z1: &Tensor,
        comm: &dyn Communicator,
        wanted: Wanted,
    ) -> Result<(Tensor, Tensor)> {
        let [n, d] = check_shape("z0", z0, [-1, -1])?;
        check_shape("z1", z1, [n, d])?;
        if n * comm.world_size() < 2 {
            return Err(Error::Shape {
                name: "z0".to_owned(),
                expected: "at least 2 samples, so that there are negatives".to_owned(),
                found: format!("{:?}", z0.size()),
            });
        }
        if comm.world_size() == 1 && self.temperature >= COLDEST {
            Ok(self.symmetric(&Tensor::cat(&[z0, z1], 0), wanted))
        } else {
            self.gathered(z0.l2_normalize(), z1.l2_normalize(), comm)
        }
    }

    /// One rank: half of the matrix, and the gradient by the formula above. `x` `[2N, D]` of any length.
    fn symmetric(&self, x: &Tensor, wanted: Wanted) -> (Tensor, Tensor) {
        let rows = x.size()[0];
        let (loss, accuracy, gradient) = tch::no_grad(|| {
            let raw = x.detach().to_kind(Kind::Float);
            let length = raw.norm_scalaropt_dim(2.0, [1], true).clamp_min(SHORTEST); // [2N, 1]
            let panels = Panels::new(raw / &length, self.temperature);
            let Sums { all, largest, positives } = panels.sums(wanted);
            let loss = all.log().mean(None) - positives.log().mean(None);
            let nearest = largest.view([2, -1]).le_tensor(&positives); // [2, N]
            let gradient = x.requires_grad().then(|| {
                let z = panels.z.shallow_clone();
                let pull = panels.pull(&all.reciprocal()) - z.roll(rows / 2, 0) * 2.0; // [2N, D]
                // What would change the length does not change z.
                let along = (&z * &pull).sum_dim_intlist(1, true, None); // [2N, 1]
                (pull - z * along) / (length * (rows as f64 * self.temperature))
            });
            (loss, nearest.to_kind(Kind::Float).mean(None), gradient)
        });
        let loss = match gradient {
            // The value of the loss, and on its way back the gradient that is known already.
            Some(gradient) => {
                let carrier = (x * gradient).sum(Kind::Float);
                &carrier + (loss - carrier.detach())
            }
            None => loss,
        };
        (loss, accuracy)
    }

    /// Any number of ranks: this rank's views against those of all. `z0`, `z1` `[N, D]` of unit length.
    fn gathered(&self, z0: Tensor, z1: Tensor, comm: &dyn Communicator) -> Result<(Tensor, Tensor)> {
        let n = z0.size()[0];
        let all = n * comm.world_size();
        let keys = Tensor::cat(&[comm.gather(&z0)?, comm.gather(&z1)?], 0); // [2M, D], M samples on all ranks
        let queries = Tensor::cat(&[z0, z1], 0); // [2N, D]
        let sample = Tensor::arange(n, (Kind::Int64, queries.device())) + comm.rank() * n; // [N]
        let itself = Tensor::cat(&[&sample, &(&sample + all)], 0); // [2N], columns of the queries themselves
        let positive = Tensor::cat(&[&(&sample + all), &sample], 0); // [2N]

        let logits = (queries / self.temperature).matmul(&keys.transpose(0, 1)); // [2N, 2M]
        let logits = logits.scatter_value(1, &itself.unsqueeze(1), f64::NEG_INFINITY);
        let nearest = logits.detach().argmax(1, false).eq_tensor(&positive); // [2N]
        Ok((logits.cross_entropy_for_logits(&positive), nearest.to_kind(Kind::Float).mean(None)))
    }

    /// The loss of embeddings that carry no information, `log(2N - 1)`: a run that stays there has not begun to learn.
    pub fn chance(samples: i64) -> f64 {
        ((2 * samples - 1) as f64).ln()
    }
}

/// What is to be made of a batch.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Loss,
    LossAndAccuracy,
}

/// The lowest temperature at which `exp(1 / tau)`, summed over any batch, is a 32-bit number.
const COLDEST: f64 = 1.0 / 64.0;

/// Vectors shorter than this are divided by it instead of their length, as PyTorch's `F.normalize` does.
const SHORTEST: f64 = 1e-12;

/// Rows of a panel on a CPU, where its operators then find it in the cache.
const PANEL: i64 = 256;

/// The upper triangle of `e_ik = exp(z_i . z_k / tau)` with zeros on its diagonal, cut into panels: each holds some rows,
/// and of them the columns from the first row's index on.
struct Panels {
    z: Tensor, // [2N, D]
    panels: Vec<Panel>,
}

struct Panel {
    /// The first of its rows, and how many there are.
    rows: (i64, i64),
    /// `[rows, 2N - first]`
    all: Tensor,
    /// The columns right of the square on the diagonal: what the other half of the matrix has below that square.
    right: Tensor,
}

/// What the loss needs of the rows of the whole matrix.
struct Sums {
    /// The sum of a row, `[2N]`.
    all: Tensor,
    /// The largest entry of a row, `[2N]`.
    largest: Tensor,
    /// The entry of a sample's two views, `[N]`.
    positives: Tensor,
}

impl Panels {
    fn new(z: Tensor, temperature: f64) -> Self {
        let total = z.size()[0];
        let height = if z.device() == Device::Cpu { PANEL } else { total };
        let scaled = &z / temperature;
        let panel = |first: i64| {
            let count = height.min(total - first);
            let all = scaled.narrow(0, first, count).matmul(&z.narrow(0, first, total - first).tr()).exp_();
            let _ = all.diagonal(0, 0, 1).zero_();
            let right = all.narrow(1, count, total - first - count);
            Panel { rows: (first, count), all, right }
        };
        let panels = (0..total).step_by(height as usize).map(panel).collect();
        Panels { z, panels }
    }

    /// The largest entries are only looked for when the accuracy is wanted.
    fn sums(&self, wanted: Wanted) -> Sums {
        let total = self.z.size()[0];
        let n = total / 2;
        let (mut positives, options) = (Vec::new(), (Kind::Float, self.z.device()));
        let (all, largest) = (Tensor::zeros([total], options), Tensor::zeros([total], options));
        for panel in &self.panels {
            let (first, count) = panel.rows;
            let below = (first + count, total - first - count);
            let of = |x: &Tensor, (first, count): (i64, i64)| x.narrow(0, first, count);
            let _ = of(&all, panel.rows).g_add_(&panel.all.sum_dim_intlist(1, false, None));
            let _ = of(&all, below).g_add_(&panel.right.sum_dim_intlist(0, false, None));
            if wanted == Wanted::LossAndAccuracy {
                let mut most = of(&largest, panel.rows);
                most.copy_(&most.maximum(&panel.all.amax(1, false)));
                if below.1 > 0 {
                    let mut most = of(&largest, below);
                    most.copy_(&most.maximum(&panel.right.amax(0, false)));
                }
            }
            if first < n {
                positives.push(panel.all.diagonal(n, 0, 1));
            }
        }
        Sums { all, largest, positives: Tensor::cat(&positives, 0) }
    }

    /// `sum_k e_ik (w_i + w_k) z_k` of every row, `[2N, D]`, for weights `w` `[2N]`. Uses up the panels.
    fn pull(self, weights: &Tensor) -> Tensor {
        let total = self.z.size()[0];
        let pulled = self.z.zeros_like();
        for Panel { rows: (first, count), all, right } in self.panels {
            let below = total - first - count;
            let weight =
                weights.narrow(0, first, count).unsqueeze(1) + weights.narrow(0, first, total - first);
            let mut all = all;
            let _ = all.g_mul_(&weight); // and with it `right`, which is a part of it
            let _ = pulled.narrow(0, first, count).addmm_(&all, &self.z.narrow(0, first, total - first));
            let _ =
                pulled.narrow(0, first + count, below).addmm_(&right.tr(), &self.z.narrow(0, first, count));
        }
        pulled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_two_ranks_equal_one;
    use proptest::prelude::*;
    use selfsup_core::Device;
    use selfsup_core::SingleProcess;
    use selfsup_core::tensor::with_slice;

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
    fn is_the_cross_entropy_of_the_labels_of_view_identity() {
        use selfsup_core::PretextLabeler;
        use selfsup_labels::{ViewIdentity, ViewIdentityConfig};
        let (z0, z1) = (waves(5, 3, 0.0), waves(5, 3, 1.0));
        let labeler = ViewIdentity::new(&ViewIdentityConfig { samples: 5 }).unwrap();
        let views = Tensor::zeros([10, 1, 2, 2], (Kind::Float, Device::Cpu));
        let labels = labeler.label(&views).unwrap().labels;
        let z = Tensor::cat(&[&z0, &z1], 0).l2_normalize();
        let itself = Tensor::eye(10, (Kind::Bool, Device::Cpu));
        let logits = (z.matmul(&z.tr()) / 0.2).masked_fill(&itself, f64::NEG_INFINITY);
        let nt_xent = NtXent::new(NtXentConfig { temperature: 0.2 }).unwrap();
        let found = nt_xent.forward_with_accuracy(&z0, &z1, &SingleProcess).unwrap();
        let expected = logits.cross_entropy_for_logits(&labels);
        assert!((found.loss.scalar().unwrap() - expected.scalar().unwrap()).abs() < 1e-5);
        let right = logits.argmax(1, false).eq_tensor(&labels).to_kind(Kind::Float).mean(None);
        assert!((found.accuracy.scalar().unwrap() - right.scalar().unwrap()).abs() < 1e-6);
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
        assert_two_ranks_equal_one(&|z0, z1, comm| {
            NtXent::new(NtXentConfig { temperature: 0.2 }).unwrap().forward(z0, z1, comm).unwrap()
        });
    }

    #[test]
    fn both_ways_agree_over_several_panels() {
        let n = PANEL + 37; // 2n is no multiple of a panel, and the first partner lies within one
        let way = |symmetric: bool| {
            let (z0, z1) = (waves(n, 8, 0.0), waves(n, 8, 0.1));
            let nt_xent = NtXent { temperature: 0.2 };
            let (loss, accuracy) = if symmetric {
                nt_xent.symmetric(&Tensor::cat(&[&z0, &z1], 0), Wanted::LossAndAccuracy)
            } else {
                nt_xent.gathered(z0.l2_normalize(), z1.l2_normalize(), &SingleProcess).unwrap()
            };
            (&loss * 3.0).backward();
            [loss, accuracy, z0.grad(), z1.grad()]
        };
        for (found, expected) in way(true).iter().zip(way(false)) {
            let difference = (found - &expected).abs().max().scalar().unwrap();
            assert!(difference <= 1e-4 * expected.abs().max().scalar().unwrap(), "{difference}");
        }
    }

    #[test]
    fn embeddings_without_a_gradient_have_a_loss_all_the_same() {
        let z = |shift| waves(6, 4, shift).detach();
        let (here, there) = (loss(&z(0.0), &z(1.0), 0.3), loss(&waves(6, 4, 0.0), &waves(6, 4, 1.0), 0.3));
        assert!(!here.requires_grad() && (here - there).abs().scalar().unwrap() < 1e-6);
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
        // The colder loss goes the way of many ranks.
        for temperature in [0.5, COLDEST / 2.0] {
            let nt_xent = NtXent::new(NtXentConfig { temperature }).unwrap();
            let found = nt_xent.forward_with_accuracy(&z0, &z1, &SingleProcess).unwrap().accuracy;
            let found = found.scalar().unwrap();
            assert!((found - naive).abs() < 1e-6 && found > 0.0 && found < 1.0, "{found} {naive}");
        }
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
