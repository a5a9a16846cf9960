//! The loss of SwAV: from every view predict to which prototypes another view of the same image was assigned.
//!
//! Caron, Misra, Mairal, Goyal, Bojanowski and Joulin 2020, *Unsupervised Learning of Visual Features by Contrasting
//! Cluster Assignments*, equations 1 to 5, and 6 for more than two views. With the scores s = z^T C of V views of N
//! images, of which the first two assign,
//!
//! ```text
//! p_v = softmax(s_v / tau)        q_i = Sinkhorn(s_i, epsilon)  over the batch (and a queue)
//! L = 1/2 sum_{i in {1, 2}} 1/(V - 1) sum_{v != i}  - mean_n sum_k q_i[n, k] log p_v[n, k]
//! ```
//! q has no gradient, and is computed over the images of all ranks.

use selfsup_core::{Communicator, Error, Kind, Result, Tensor, check_shape, tch};
use selfsup_numerics::{SinkhornConfig, sinkhorn};
use serde::{Deserialize, Serialize};

/// Settings of [`SwavLoss`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwavLossConfig {
    /// The temperature tau of the predictions. 0.1 (appendix A.1 of the paper).
    pub temperature: f64,
    /// How scores become assignments: epsilon 0.05, 3 iterations (appendix A.1).
    pub sinkhorn: SinkhornConfig,
}

impl Default for SwavLossConfig {
    fn default() -> Self {
        SwavLossConfig { temperature: 0.1, sinkhorn: SinkhornConfig::default() }
    }
}

/// The SwAV loss.
#[derive(Clone, Debug)]
pub struct SwavLoss {
    config: SwavLossConfig,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct SwavOutput {
    /// The mean loss, a scalar with gradient.
    pub loss: Tensor,
    /// The share of images whose two assigning views are assigned to the same prototype before all others, a scalar.
    pub agreement: Tensor,
}

impl SwavLoss {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature, epsilon or the iterations are not positive.
    pub fn new(config: SwavLossConfig) -> Result<Self> {
        if !(config.temperature > 0.0 && config.temperature.is_finite()) {
            return Err(Error::config("temperature", config.temperature, "a positive number"));
        }
        let SinkhornConfig { epsilon, iterations } = config.sinkhorn;
        if !(epsilon > 0.0 && epsilon.is_finite()) {
            return Err(Error::config("sinkhorn.epsilon", epsilon, "a positive number"));
        }
        if iterations == 0 {
            return Err(Error::config("sinkhorn.iterations", 0, "at least 1"));
        }
        Ok(SwavLoss { config })
    }

    /// The mean loss of this rank's images.
    ///
    /// # Shapes
    /// `scores`: for every view `[N, K]`, the dot products of embeddings of length 1 with the prototypes; `queued`
    /// `[2, L, K]`, scores of former embeddings of the two assigning views, the same on all ranks.
    ///
    /// # Errors
    /// [`Error::Config`] when there are fewer than two views, [`Error::Shape`] when they or the queue differ in shape.
    pub fn forward(
        &self,
        scores: &[Tensor],
        queued: Option<&Tensor>,
        comm: &dyn Communicator,
    ) -> Result<SwavOutput> {
        let [first, _, ..] = scores else {
            return Err(Error::config("views", scores.len(), "at least two views an image"));
        };
        let [n, k] = check_shape("scores of view 0", first, [-1, -1])?;
        for (v, scores) in scores.iter().enumerate() {
            check_shape(&format!("scores of view {v}"), scores, [n, k])?;
        }
        if let Some(queued) = queued {
            check_shape("queued scores", queued, [2, -1, k])?;
        }
        let mut assigned = Vec::new();
        for (i, scores) in (0_i64..).zip(&scores[..2]) {
            assigned.push(self.assign(scores, queued.map(|q| q.get(i)), comm)?); // [N, K]
        }
        let mut loss = Tensor::zeros([0_i64; 0], (Kind::Float, first.device()));
        for (v, scores) in scores.iter().enumerate() {
            let log_p = (scores / self.config.temperature).log_softmax(1, Kind::Float); // [N, K]
            for q in assigned.iter().enumerate().filter(|(i, _)| *i != v).map(|(_, q)| q) {
                loss -= (q * &log_p).sum_dim_intlist(1, false, None).mean(None);
            }
        }
        let best = |q: &Tensor| q.argmax(1, false);
        let agreement = best(&assigned[0]).eq_tensor(&best(&assigned[1])).to_kind(Kind::Float).mean(None);
        Ok(SwavOutput { loss: loss / (2 * (scores.len() - 1)) as f64, agreement })
    }

    /// The balanced assignments of this rank's images, `[N, K]`, without gradient.
    fn assign(&self, scores: &Tensor, queued: Option<Tensor>, comm: &dyn Communicator) -> Result<Tensor> {
        tch::no_grad(|| {
            let n = scores.size()[0];
            let mut all = vec![comm.gather(&scores.detach())?]; // [W N, K]
            all.extend(queued);
            Ok(sinkhorn(&Tensor::cat(&all, 0), &self.config.sinkhorn)?.narrow(0, comm.rank() * n, n))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{TwoRanks, waves};
    use selfsup_core::{Device, SingleProcess, TensorExt};

    fn scores(views: usize, n: i64) -> Vec<Tensor> {
        (0..views).map(|v| waves(&[n, 3], v as f64).set_requires_grad(true)).collect()
    }

    fn queue() -> Tensor {
        Tensor::stack(&[waves(&[5, 3], 7.0), waves(&[5, 3], 8.0)], 0)
    }

    fn swav() -> SwavLoss {
        SwavLoss::new(SwavLossConfig::default()).unwrap()
    }

    #[test]
    fn equals_lightly_forward_and_backward_without_and_with_a_queue() {
        // w = lambda shape, s: torch.sin(torch.arange(float(prod(shape)), dtype=torch.float64) * 0.7 + s).float().reshape(shape)
        // s = [w((4, 3), k).requires_grad_() for k in range(3)]; queue = [w((5, 3), 7 + k) for k in range(2)]
        // l = lightly.loss.SwaVLoss()(s[:2], s[2:], queue or None); l.backward()
        // print(l.item(), [x.grad.flatten().tolist() for x in s])
        #[rustfmt::skip]
        let without: [[f32; 12]; 3] = [
            [-0.106013, -0.3677714, 0.4737844, -0.0031627, 0.0031594, 3.3e-06,
             0.050455, 0.0166484, -0.0671034, -0.1322692, -0.3641156, 0.4963848],
            [0.1100253, 0.1831404, -0.2931657, -0.000578, 0.0005546, 2.34e-05,
             -0.099124, -0.2348717, 0.3339958, 0.1210041, 0.1432003, -0.2642044],
            [1.1339335, -0.6886207, -0.4453128, -0.9559687, 0.049229, 0.9067397,
             -0.0990946, -0.210604, 0.3096986, 1.1084499, -0.7190927, -0.3893571],
        ];
        #[rustfmt::skip]
        let with: [[f32; 12]; 3] = [
            [-0.0049184, -0.5847312, 0.5896496, -0.0031549, 0.0031517, 3.2e-06,
             0.050455, 0.0166484, -0.0671034, -0.0061812, -0.5842315, 0.5904127],
            [0.1100252, 0.4910876, -0.601113, -0.000928, 0.0009045, 2.34e-05,
             -0.1398965, -0.0012311, 0.1411276, 0.1210041, 0.4818076, -0.6028117],
            [1.235028, -0.5976332, -0.6373948, -0.9563109, 0.0495712, 0.9067397,
             -0.1398672, 0.0230367, 0.1168305, 1.2345378, -0.6006013, -0.6339366],
        ];
        for (queued, expected, gradients) in
            [(None, 3.058_162_2, without), (Some(queue()), 3.439_984_1, with)]
        {
            let scores = scores(3, 4);
            let loss = swav().forward(&scores, queued.as_ref(), &SingleProcess).unwrap().loss;
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5);
            loss.backward();
            for (scores, gradient) in scores.iter().zip(gradients) {
                let difference = scores.grad().reshape([-1]) - Tensor::from_slice(&gradient);
                assert!(difference.abs().max().scalar().unwrap() < 1e-5);
            }
        }
    }

    #[test]
    fn equals_the_naive_loop() {
        let (views, n, k) = (4, 5, 3);
        let scores = scores(views, n);
        let found = swav().forward(&scores, None, &SingleProcess).unwrap().loss.scalar().unwrap();
        let at = |v: usize, i: usize, j: usize| scores[v].double_value(&[i as i64, j as i64]);
        let mut expected = 0.0;
        for assigning in 0..2 {
            let mut q = vec![vec![0.0; k]; n as usize];
            for (i, row) in q.iter_mut().enumerate() {
                row.iter_mut().enumerate().for_each(|(j, q)| *q = (at(assigning, i, j) / 0.05).exp());
            }
            for _ in 0..3 {
                for j in 0..k {
                    let sum: f64 = q.iter().map(|row| row[j]).sum();
                    for row in &mut q {
                        row[j] /= sum * k as f64;
                    }
                }
                for row in &mut q {
                    let sum: f64 = row.iter().sum();
                    for q in row {
                        *q /= sum * n as f64;
                    }
                }
            }
            for view in (0..views).filter(|&v| v != assigning) {
                for (i, row) in q.iter().enumerate() {
                    let sum: f64 = (0..k).map(|j| (at(view, i, j) / 0.1).exp()).sum();
                    for (j, q) in row.iter().enumerate() {
                        // The rows of q sum to 1 / n, which makes the mean over images.
                        expected -= q * (at(view, i, j) / 0.1 - sum.ln()) / (2 * (views - 1)) as f64;
                    }
                }
            }
        }
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }

    #[test]
    fn scores_without_information_cost_the_entropy_of_chance() {
        let same = [(); 3].map(|()| Tensor::ones([6, 8], (Kind::Float, Device::Cpu)));
        let output = swav().forward(&same, None, &SingleProcess).unwrap();
        assert!((output.loss.scalar().unwrap() - 8.0_f64.ln()).abs() < 1e-5);
        assert_eq!(output.agreement.scalar().unwrap(), 1.0);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        let whole = scores(3, 4);
        let expected = swav().forward(&whole, Some(&queue()), &SingleProcess).unwrap().loss;
        let losses = TwoRanks::play(|comm| {
            let mine: Vec<_> = whole.iter().map(|s| s.narrow(0, comm.rank * 2, 2)).collect();
            swav().forward(&mine, Some(&queue()), comm).unwrap().loss.scalar().unwrap()
        });
        assert!((losses[0] + losses[1] - 2.0 * expected.scalar().unwrap()).abs() < 1e-5, "{losses:?}");
    }

    #[test]
    fn a_score_that_is_not_finite_is_named() {
        let mut scores = scores(2, 4);
        scores[0] = &scores[0] * f64::NAN;
        let error = swav().forward(&scores, None, &SingleProcess).unwrap_err();
        assert!(matches!(error, Error::NonFinite { .. }), "{error}");
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let refused = |scores: &[Tensor], queued: Option<&Tensor>| {
            swav().forward(scores, queued, &SingleProcess).unwrap_err().to_string()
        };
        assert_eq!(refused(&scores(1, 4), None), "views = 1: at least two views an image");
        let mut unequal = scores(3, 4);
        unequal[2] = unequal[2].narrow(0, 0, 3);
        assert_eq!(refused(&unequal, None), "scores of view 2: expected [4, 3], found [3, 3]");
        let narrow = queue().narrow(2, 0, 2);
        let error = refused(&scores(2, 4), Some(&narrow));
        assert_eq!(error, "queued scores: expected [2, _, 3], found [2, 5, 2]");
        let config = SwavLossConfig { temperature: 0.0, ..SwavLossConfig::default() };
        assert_eq!(SwavLoss::new(config).unwrap_err().to_string(), "temperature = 0: a positive number");
        let sinkhorn = SinkhornConfig { epsilon: 0.05, iterations: 0 };
        let config = SwavLossConfig { sinkhorn, ..SwavLossConfig::default() };
        assert_eq!(SwavLoss::new(config).unwrap_err().to_string(), "sinkhorn.iterations = 0: at least 1");
    }
}
