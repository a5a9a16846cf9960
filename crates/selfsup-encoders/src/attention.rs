//! Multi-head attention (Vaswani et al. 2017, section 3.2), `softmax(Q K^T / sqrt(d)) V` for every head, without the
//! linear layers around it: ViT and BERT name those differently.

use selfsup_core::Tensor;

/// `q`, `k`, `v` `[N, T, D]` to `[N, T, D]`; `mask` is true where a query may look, broadcast to `[N, heads, T, T]`.
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
