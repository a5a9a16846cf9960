//! Scores to soft assignments in which every prototype gets the same share of the batch: the optimal-transport step
//! of SwAV (Caron et al. 2020, section 3.1 and appendix A.1), by Sinkhorn's algorithm (Cuturi 2013).
//!
//! ```text
//! max_Q  Tr(Q^T C^T Z) + epsilon H(Q)     over  Q 1_B = 1_K / K,  Q^T 1_K = 1_B / B
//! Q* = Diag(u) exp(C^T Z / epsilon) Diag(v)
//! ```
//! Each iteration first scales the prototypes, then the samples, so that after any number of them each sample's
//! assignment sums to 1. Where the range of the scores allows it in 32 bits, `exp(s)` is made once and each iteration is
//! two products of it with a vector; else the scalings are kept as logarithms, `Q = exp(s + log u + log v)`, so that no
//! score overflows and no sample loses all its mass.

use crate::matrix_with_range;
use selfsup_core::{Error, Kind, Result, Tensor};
use serde::{Deserialize, Serialize};

/// The regularisation and length of Sinkhorn's algorithm.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SinkhornConfig {
    /// The entropy's weight; the smaller, the harder the assignment. SwAV: 0.05.
    pub epsilon: f64,
    /// Rounds of scaling. SwAV: 3.
    pub iterations: usize,
}

impl Default for SinkhornConfig {
    fn default() -> Self {
        SinkhornConfig { epsilon: 0.05, iterations: 3 }
    }
}

/// Balanced soft assignments of samples to prototypes, without gradient. With many ranks, gather the scores first:
/// the balance is one of the whole batch.
///
/// # Shapes
/// `scores` `[B, K]`, a sample a row, to `[B, K]` Float, whose rows sum to 1.
///
/// # Errors
/// When the scores are no matrix or not finite, epsilon is not above 0, or there is no iteration.
pub fn sinkhorn(scores: &Tensor, config: &SinkhornConfig) -> Result<Tensor> {
    let (scores, [samples, prototypes], [least, most]) = matrix_with_range("scores", scores)?;
    if !(config.epsilon > 0.0 && config.epsilon.is_finite()) {
        return Err(Error::config("epsilon", config.epsilon, "above 0"));
    }
    if config.iterations == 0 {
        return Err(Error::config("iterations", 0, "at least 1"));
    }
    let by = 1.0 / config.epsilon;
    if (most - least) * by <= RANGE {
        let number = |x: f64| Tensor::from(x as f32).to_device(scores.device());
        let mut q = number(-most * by).addcmul(&scores, &number(by)).exp_(); // exp(s - max s), [B, K]
        let mut v = Tensor::ones([samples, 1], (Kind::Float, q.device())); // [B, 1]
        let mut u = Tensor::new();
        for _ in 0..config.iterations {
            u = (q.tr().matmul(&v) * prototypes as f64).reciprocal(); // [K, 1]
            v = (q.matmul(&u) * samples as f64).reciprocal(); // [B, 1]
        }
        return Ok(q.g_mul_(&u.tr()).g_mul_(&(v * samples as f64)));
    }
    let s = scores * by; // [B, K]
    let mut log_v = s.zeros_like().narrow(1, 0, 1); // [B, 1]
    let mut log_u = log_v.zeros_like();
    for _ in 0..config.iterations {
        log_u = -((&s + &log_v).logsumexp(0, true) + (prototypes as f64).ln()); // [1, K]
        log_v = -((&s + &log_u).logsumexp(1, true) + (samples as f64).ln()); // [B, 1]
    }
    Ok((s + log_u + log_v + (samples as f64).ln()).exp())
}

/// The largest range of `s` for which exponentials, and the scalings that undo them, keep far from 32 bits' limits: the
/// scalings reach `exp(range)`, products with them `exp(2 range)`. Cosines at SwAV's epsilon have at most 40.
const RANGE: f64 = 41.0;

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    /// sin(0.37 i^1.5), row by row.
    fn formula(n: i64, d: i64) -> Tensor {
        ((Tensor::arange(n * d, (Kind::Double, Device::Cpu)).pow_tensor_scalar(1.5) * 0.37).sin())
            .reshape([n, d])
    }

    /// The algorithm box of SwAV's appendix in 64 bits: Q is scaled itself, prototypes first.
    fn naive(scores: &[Vec<f64>], epsilon: f64, iterations: usize) -> Vec<Vec<f64>> {
        let (b, k) = (scores.len(), scores[0].len());
        let mut q: Vec<Vec<f64>> =
            scores.iter().map(|row| row.iter().map(|s| (s / epsilon).exp()).collect()).collect();
        for _ in 0..iterations {
            for j in 0..k {
                let sum: f64 = q.iter().map(|row| row[j]).sum();
                for row in &mut q {
                    row[j] /= sum * k as f64;
                }
            }
            for row in &mut q {
                let sum: f64 = row.iter().sum();
                for v in row {
                    *v /= sum * b as f64;
                }
            }
        }
        q.into_iter().map(|row| row.into_iter().map(|v| v * b as f64).collect()).collect()
    }

    #[test]
    fn agrees_with_a_loop_in_64_bits() {
        let scores = formula(17, 6);
        let rows = Vec::<Vec<f64>>::try_from(&scores).unwrap();
        for (epsilon, iterations) in [(0.05, 3), (0.0501, 3), (0.0499, 3), (0.5, 1), (0.02, 20)] {
            let found = sinkhorn(&scores, &SinkhornConfig { epsilon, iterations }).unwrap();
            assert_eq!(found.kind(), Kind::Float);
            let found = Vec::<Vec<f64>>::try_from(found).unwrap();
            for (f, e) in found.iter().flatten().zip(naive(&rows, epsilon, iterations).iter().flatten()) {
                assert!((f - e).abs() < 1e-5, "{f} {e} at epsilon {epsilon}");
            }
        }
    }

    #[test]
    fn gives_the_values_of_the_published_form() {
        // s = torch.sin(torch.arange(12.).double() ** 1.5 * 0.37).reshape(4, 3)
        // Q = torch.exp(s / 0.5).T; Q /= Q.sum(); K, B = Q.shape
        // for _ in range(3):
        //     Q /= Q.sum(1, keepdim=True); Q /= K; Q /= Q.sum(0, keepdim=True); Q /= B
        // print((Q * B).T)
        let expected = [
            [0.2237, 0.4420, 0.3343],
            [0.8210, 0.1728, 0.0062],
            [0.0493, 0.6199, 0.3308],
            [0.1832, 0.1117, 0.7050],
        ];
        let found = sinkhorn(&formula(4, 3), &SinkhornConfig { epsilon: 0.5, iterations: 3 }).unwrap();
        let difference = (found - Tensor::from_slice2(&expected)).abs().max();
        assert!(f64::try_from(difference).unwrap() < 1e-4);
    }

    #[test]
    fn samples_sum_to_one_and_prototypes_share_alike() {
        let found = sinkhorn(&formula(32, 4), &SinkhornConfig { epsilon: 0.1, iterations: 200 }).unwrap();
        let samples = found.sum_dim_intlist(1, false, None) - 1.0;
        let prototypes = found.sum_dim_intlist(0, false, None) - 8.0;
        assert!(f64::try_from(samples.abs().max()).unwrap() < 1e-5);
        assert!(f64::try_from(prototypes.abs().max()).unwrap() < 1e-2);
    }

    #[test]
    fn stays_finite_for_scores_of_any_range() {
        let found = sinkhorn(&(formula(16, 5) * 1e4), &SinkhornConfig::default()).unwrap();
        assert!(bool::try_from(found.isfinite().all()).unwrap());
        let samples = found.sum_dim_intlist(1, false, None) - 1.0;
        assert!(f64::try_from(samples.abs().max()).unwrap() < 0.1);
    }

    #[test]
    fn rejects_bad_configurations_and_scores() {
        let scores = formula(2, 2);
        let error =
            sinkhorn(&scores, &SinkhornConfig { epsilon: 0.0, iterations: 3 }).unwrap_err().to_string();
        assert_eq!(error, "epsilon = 0: above 0");
        let error =
            sinkhorn(&scores, &SinkhornConfig { epsilon: 0.1, iterations: 0 }).unwrap_err().to_string();
        assert_eq!(error, "iterations = 0: at least 1");
        let error = sinkhorn(&(scores / 0.0), &SinkhornConfig::default()).unwrap_err().to_string();
        assert!(error.starts_with("scores is not finite"), "{error}");
    }
}
