//! Scores to soft assignments in which every prototype gets the same share of the batch: the optimal-transport step
//! of SwAV (Caron et al. 2020, section 3.1 and appendix A.1), by Sinkhorn's algorithm (Cuturi 2013).
//!
//! ```text
//! max_Q  Tr(Q^T C^T Z) + epsilon H(Q)     over  Q 1_B = 1_K / K,  Q^T 1_K = 1_B / B
//! Q* = Diag(u) exp(C^T Z / epsilon) Diag(v)
//! ```
//! Each iteration first scales the prototypes, then the samples, so that after any number of them each sample's
//! assignment sums to 1. The scalings are kept as logarithms, `Q = exp(s + log u + log v)`: in 32 bits no score
//! overflows and no sample loses all its mass, whatever the scores' range.

use crate::finite_matrix;
use selfsup_core::{Error, Result, Tensor};
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
    let (scores, [samples, prototypes]) = finite_matrix("scores", scores)?;
    if !(config.epsilon > 0.0 && config.epsilon.is_finite()) {
        return Err(Error::config("epsilon", config.epsilon, "above 0"));
    }
    if config.iterations == 0 {
        return Err(Error::config("iterations", 0, "at least 1"));
    }
    let s = scores / config.epsilon; // [B, K]
    let mut log_v = s.zeros_like().narrow(1, 0, 1); // [B, 1]
    let mut log_u = log_v.zeros_like();
    for _ in 0..config.iterations {
        log_u = -((&s + &log_v).logsumexp(0, true) + (prototypes as f64).ln()); // [1, K]
        log_v = -((&s + &log_u).logsumexp(1, true) + (samples as f64).ln()); // [B, 1]
    }
    Ok((s + log_u + log_v + (samples as f64).ln()).exp())
}
