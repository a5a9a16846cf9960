//! What the Transformers for images and text share. Their blocks differ in order and in names, so each has its own.

use selfsup_core::layers::{Bias, Linear};
use selfsup_core::{Error, Result, Tensor, nn, tch};

/// Checks the sizes of a block, which are positive, and returns the hidden size of its perceptron.
pub(crate) fn check_block(dim: i64, heads: i64, mlp_ratio: f64) -> Result<i64> {
    if dim % heads != 0 {
        return Err(Error::config("heads", heads, format!("a divisor of dim = {dim}")));
    }
    let hidden = (dim as f64 * mlp_ratio) as i64;
    if hidden < 1 || !mlp_ratio.is_finite() {
        return Err(Error::config("mlp_ratio", mlp_ratio, "a positive multiple of dim"));
    }
    Ok(hidden)
}

/// A linear layer as Transformers start it: weights from a distribution with a standard deviation of 0.02, bias 0.
pub(crate) fn linear(path: nn::Path, inputs: i64, outputs: i64, draw: fn(&Tensor, f64)) -> Linear {
    let linear = Linear::new(path, inputs, outputs, Bias::Yes);
    draw(&linear.weight, 0.02);
    if let Some(bias) = &linear.bias {
        tch::no_grad(|| drop(bias.shallow_clone().zero_()));
    }
    linear
}

/// Multi-head attention (Vaswani et al. 2017, section 3.2), `softmax(Q K^T / sqrt(d)) V` for every head, without the
/// linear layers around it. `q`, `k`, `v` `[N, T, D]` to `[N, T, D]`; `mask` is true where a query may look, broadcast
/// to `[N, heads, T, T]`.
pub(crate) fn multi_head_attention(
    [q, k, v]: [&Tensor; 3],
    heads: i64,
    mask: Option<&Tensor>,
    dropout: f64,
) -> Tensor {
    let split = |x: &Tensor| x.unflatten(2, [heads, -1]).transpose(1, 2); // [N, heads, T, D / heads]
    let y = Tensor::scaled_dot_product_attention(
        &split(q),
        &split(k),
        &split(v),
        mask,
        dropout,
        false,
        None,
        false,
    );
    y.transpose(1, 2).flatten(2, 3)
}

/// The tokens `[N, T, D]` at `keep` `[N, K]`: `[N, K, D]`.
pub(crate) fn gather_tokens(x: &Tensor, keep: &Tensor) -> Tensor {
    let index = keep.unsqueeze(-1).expand([-1, -1, x.size()[2]], false);
    x.gather(1, &index, false)
}
