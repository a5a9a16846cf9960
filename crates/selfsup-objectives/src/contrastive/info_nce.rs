//! InfoNCE: every query is to find its own key among others.
//!
//! Van den Oord, Li and Vinyals 2018, *Representation Learning with Contrastive Predictive Coding*, equation 4, with
//! cosine similarity as in He et al. 2020 (MoCo), equation 1:
//!
//! ```text
//! L = mean over i of  -log exp(q_i . k_i / tau) / ( exp(q_i . k_i / tau) + sum_{k-} exp(q_i . k- / tau) )
//! ```
//!
//! The negatives k- are those of a queue (MoCo v2) or the keys of the other samples in the batch (MoCo v3, NNCLR).
//! NT-Xent differs: there the other queries are negatives too.

use selfsup_core::{Communicator, Error, Kind, Result, Tensor, TensorExt, check_shape};

/// The InfoNCE loss.
#[derive(Clone, Debug)]
pub struct InfoNce {
    temperature: f64,
}

/// What a batch comes to.
#[derive(Debug)]
pub struct InfoNceOutput {
    /// The mean loss, a scalar with gradient.
    pub loss: Tensor,
    /// The share of queries whose own key is the nearest, a scalar without gradient.
    pub accuracy: Tensor,
}

impl InfoNce {
    /// Makes the loss.
    ///
    /// # Errors
    /// [`Error::Config`] when the temperature is not a positive number.
    pub fn new(temperature: f64) -> Result<Self> {
        if !(temperature > 0.0 && temperature.is_finite()) {
            return Err(Error::config("temperature", temperature, "a positive number"));
        }
        Ok(InfoNce { temperature })
    }

    /// Queries against their own keys and the same negatives for all.
    ///
    /// # Shapes
    /// `queries`, `keys`: `[N, D]`, row i of both from sample i, of any length; `negatives` `[K, D]` of unit length.
    ///
    /// # Errors
    /// [`Error::Shape`] when they do not fit each other.
    pub fn against(&self, queries: &Tensor, keys: &Tensor, negatives: &Tensor) -> Result<InfoNceOutput> {
        let [n, d] = check_shape("queries", queries, [-1, -1])?;
        check_shape("keys", keys, [n, d])?;
        check_shape("negatives", negatives, [-1, d])?;
        // With a queue, [N, K] is by far the largest of all: it is made once, and not joined with the positives.
        let q = queries.l2_normalize() / self.temperature; // [N, D]
        let positive = (&q * keys.l2_normalize()).sum_dim_intlist(1, false, None); // [N]
        let negative = q.matmul(&negatives.tr()); // [N, K]
        let all = negative.logsumexp(1, false).logaddexp(&positive); // [N]
        // A tie goes to the own key.
        let missed = negative.detach().gt_tensor(&positive.detach().unsqueeze(1)).any_dim(1, false); // [N]
        Ok(InfoNceOutput {
            loss: (all - positive).mean(None),
            accuracy: missed.logical_not().to_kind(Kind::Float).mean(None),
        })
    }

    /// Queries against the keys of all samples of all ranks.
    ///
    /// # Shapes
    /// `queries`, `keys`: `[N, D]`, row i of both from sample i, of any length.
    ///
    /// # Errors
    /// [`Error::Shape`] when the two differ or no negative is left (one sample on one rank).
    pub fn across(&self, queries: &Tensor, keys: &Tensor, comm: &dyn Communicator) -> Result<InfoNceOutput> {
        let [n, d] = check_shape("queries", queries, [-1, -1])?;
        check_shape("keys", keys, [n, d])?;
        if n * comm.world_size() < 2 {
            return Err(Error::Shape {
                name: "queries".to_owned(),
                expected: "at least 2 samples, so that there are negatives".to_owned(),
                found: format!("{:?}", queries.size()),
            });
        }
        let keys = comm.gather(&keys.l2_normalize())?; // [M, D], M samples on all ranks
        let own = Tensor::arange(n, (Kind::Int64, queries.device())) + comm.rank() * n; // [N]
        let logits = (queries.l2_normalize() / self.temperature).matmul(&keys.tr()); // [N, M]
        let nearest = logits.detach().argmax(1, false).eq_tensor(&own); // [N]
        Ok(InfoNceOutput {
            loss: logits.cross_entropy_for_logits(&own),
            accuracy: nearest.to_kind(Kind::Float).mean(None),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contrastive::pixels::{assert_near, waves};
    use crate::contrastive::queue::Queue;
    use crate::fixtures::assert_two_ranks_equal_one;
    use proptest::prelude::*;
    use selfsup_core::tensor::to_array2;
    use selfsup_core::{Device, SingleProcess, nn};

    fn learned(n: i64, d: i64, shift: f64) -> Tensor {
        waves(n, d, shift, 0.7).set_requires_grad(true)
    }

    #[test]
    fn equals_lightly_against_a_queue_over_five_steps() {
        // def wave(n, d, s, rate=0.7): return torch.sin(torch.arange(float(n * d)) * rate + s).reshape(n, d)
        // l = lightly.loss.NTXentLoss(temperature=0.2, memory_bank_size=(8, 3))
        // l.memory_bank.bank = F.normalize(wave(8, 3, 1., 0.3), dim=1)
        // for s in range(5):
        //     q, k = wave(4, 3, 0. + s).requires_grad_(), wave(4, 3, 0.4 + s)
        //     v = l(q, k); v.backward(); print(v.item(), q.grad)
        // print(l.memory_bank.bank)
        let store = nn::VarStore::new(Device::Cpu);
        let queue = Queue::new(store.root(), 8, 3).unwrap();
        queue.vectors.shallow_clone().copy_(&waves(8, 3, 1.0, 0.3).l2_normalize());
        let loss = InfoNce::new(0.2).unwrap();
        for (s, expected) in
            [1.315_993_7, 1.188_055_3, 1.223_090_4, 1.031_675_5, 1.134_912_8].into_iter().enumerate()
        {
            let (q, k) = (learned(4, 3, s as f64), waves(4, 3, 0.4 + s as f64, 0.7).l2_normalize());
            let l = loss.against(&q, &k, &queue.vectors.copy()).unwrap().loss;
            queue.push(&k).unwrap();
            l.backward();
            assert!((l.scalar().unwrap() - expected).abs() < 1e-5, "step {s}");
            if s == 0 {
                assert_near(
                    &q.grad(),
                    &[
                        0.063367531,
                        -0.046129316,
                        0.030156096,
                        0.068805896,
                        0.27166405,
                        0.42874959,
                        0.090291642,
                        0.034172297,
                        -0.17784663,
                        0.059239186,
                        -0.048173085,
                        0.031020068,
                    ],
                );
            }
        }
        assert_near(
            &queue.vectors,
            &[
                -0.67652458,
                -0.6581915,
                -0.33030054,
                0.16626242,
                0.61341172,
                0.77206403,
                0.79619688,
                0.13492715,
                -0.58980095,
                -0.68287563,
                -0.65624529,
                -0.32097203,
                -0.19444054,
                -0.62262458,
                -0.75797862,
                -0.77013606,
                -0.090696856,
                0.63139892,
                0.69842237,
                0.65098059,
                0.29737258,
                -0.20553233,
                -0.62608469,
                -0.75217974,
            ],
        );
    }

    #[test]
    fn equals_pytorch_across_the_batch_forward_and_backward() {
        // q, k = wave(4, 3, 0.).requires_grad_(), wave(4, 3, 0.4).requires_grad_()
        // v = F.cross_entropy(F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / 0.2, torch.arange(4)); v.backward()
        let (q, k) = (learned(4, 3, 0.0), learned(4, 3, 0.4));
        let l = InfoNce::new(0.2).unwrap().across(&q, &k, &SingleProcess).unwrap().loss;
        l.backward();
        assert!((l.scalar().unwrap() - 0.372_914_55).abs() < 1e-5);
        assert_near(
            &q.grad(),
            &[
                0.0048636943,
                0.0022275853,
                -0.0014562383,
                0.017722357,
                0.10672065,
                0.14552654,
                0.0050204955,
                -0.00061931019,
                -0.0059678443,
                -0.0055038757,
                -0.0024653203,
                0.0017327234,
            ],
        );
        assert_near(
            &k.grad(),
            &[
                0.036689509,
                0.009006137,
                -0.022913139,
                -0.04834798,
                -0.056002203,
                -0.037317693,
                -0.0010095467,
                0.00057244068,
                0.001885199,
                0.031346016,
                0.0074345628,
                -0.019973326,
            ],
        );
    }

    #[test]
    fn vectors_without_information_cost_the_logarithm_of_the_choices() {
        let z = Tensor::ones([6, 3], (Kind::Float, Device::Cpu));
        let loss = InfoNce::new(0.1).unwrap();
        let against = loss.against(&z, &z, &z.l2_normalize().repeat([5, 1])).unwrap().loss;
        assert!((against.scalar().unwrap() - 31_f64.ln()).abs() < 1e-5);
        let across = loss.across(&z, &z, &SingleProcess).unwrap().loss;
        assert!((across.scalar().unwrap() - 6_f64.ln()).abs() < 1e-5);
    }

    #[test]
    fn the_own_key_wins_a_tie() {
        let (q, loss) = (Tensor::eye(3, (Kind::Float, Device::Cpu)), InfoNce::new(0.2).unwrap());
        let accuracy = |k: &Tensor, negatives: &Tensor| {
            loss.against(&q, k, negatives).unwrap().accuracy.scalar().unwrap()
        };
        assert_eq!(accuracy(&q, &q), 1.0);
        // The first and the third query have a negative as near as their key, the second a nearer one.
        let k = q.index_select(0, &Tensor::from_slice(&[0_i64, 2, 1]));
        assert!((accuracy(&k, &q.narrow(0, 0, 2)) - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn two_ranks_equal_one_with_the_whole_batch() {
        assert_two_ranks_equal_one(&|q, k, comm| InfoNce::new(0.2).unwrap().across(q, k, comm).unwrap().loss);
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let loss = InfoNce::new(0.2).unwrap();
        let (z, one) = (waves(4, 3, 0.0, 0.7), waves(1, 3, 0.0, 0.7));
        let error = loss.across(&one, &one, &SingleProcess).unwrap_err().to_string();
        assert_eq!(error, "queries: expected at least 2 samples, so that there are negatives, found [1, 3]");
        let error = loss.across(&z, &one, &SingleProcess).unwrap_err().to_string();
        assert_eq!(error, "keys: expected [4, 3], found [1, 3]");
        let error = loss.against(&z, &z, &waves(5, 2, 0.0, 0.7)).unwrap_err().to_string();
        assert_eq!(error, "negatives: expected [_, 3], found [5, 2]");
        for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = InfoNce::new(temperature).unwrap_err().to_string();
            assert!(error.starts_with("temperature = ") && error.ends_with("a positive number"), "{error}");
        }
    }

    /// Equation 1 of MoCo, term by term in f64: `others(i)` are the negatives of query i.
    fn naive(q: &Tensor, k: &Tensor, t: f64, others: impl Fn(usize) -> Vec<Vec<f32>>) -> f64 {
        let (q, k) = (to_array2(q).unwrap(), to_array2(k).unwrap());
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
        let e = |a: &[f32], b: &[f32]| (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() / t).exp();
        let mut sum = 0.0;
        for i in 0..q.nrows() {
            let (a, b) = (q.row(i).to_vec(), k.row(i).to_vec());
            let negatives: f64 = others(i).iter().map(|x| e(&a, x)).sum();
            sum -= (e(&a, &b) / (e(&a, &b) + negatives)).ln();
        }
        sum / q.nrows() as f64
    }

    proptest! {
        #[test]
        fn equals_the_naive_loop_whatever_the_lengths(
            values in prop::collection::vec(-1.0_f32..1.0, 3 * 5 * 3), t in 0.05..2.0_f64, scale in 0.1..10.0_f64,
        ) {
            prop_assume!(values.chunks(3).all(|row| row.iter().map(|x| x * x).sum::<f32>() > 0.01));
            let x = Tensor::from_slice(&values).reshape([3, 5, 3]);
            let (q, k, negatives) = (x.get(0), x.get(1), x.get(2).l2_normalize());
            let rows = |x: &Tensor, leave: Option<usize>| -> Vec<Vec<f32>> {
                let x = to_array2(x).unwrap();
                (0..5).filter(|&j| Some(j) != leave).map(|j| x.row(j).to_vec()).collect()
            };
            let loss = InfoNce::new(t).unwrap();
            let scaled = &q * scale;
            let found = loss.against(&scaled, &k, &negatives).unwrap().loss.scalar().unwrap();
            let expected = naive(&q, &k, t, |_| rows(&negatives, None));
            prop_assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
            let found = loss.across(&scaled, &k, &SingleProcess).unwrap().loss.scalar().unwrap();
            let expected = naive(&q, &k, t, |i| rows(&k, Some(i)));
            prop_assert!((found - expected).abs() < 1e-4 * expected.abs().max(1.0), "{found} {expected}");
        }
    }
}
