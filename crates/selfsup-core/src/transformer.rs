//! Attention, and the pre-norm block of Vision Transformers. They live here because encoders are made of them, and so are
//! the decoders and predictors that objectives own.

use crate::layers::{Bias, LayerNorm, Linear, normal, xavier_uniform};
use crate::{Device, Error, Kind, Mode, Result, Tensor, nn, tch};
use std::borrow::Borrow;

/// The shape of a [`Block`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockShape {
    /// The size of a token, `D`.
    pub dim: i64,
    /// The number of attention heads; divides `dim`.
    pub heads: i64,
    /// The hidden size of the perceptron, as a multiple of `dim`.
    pub mlp_ratio: f64,
    /// Stochastic depth (Huang et al. 2016): the probability of leaving out a branch for a sample in training.
    pub drop_path: f64,
}

/// A pre-norm block, `z <- z + attention(norm(z))`, `z <- z + mlp(norm(z))`, with the parameter names and the
/// initialisation of timm's `Block`.
#[derive(Debug)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: i64,
    drop_path: f64,
}

impl Block {
    /// Makes the block's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when `heads` does not divide `dim`, or the perceptron would have no unit.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, shape: BlockShape) -> Result<Self> {
        let path = path.borrow();
        let BlockShape { dim, heads, mlp_ratio, drop_path } = shape;
        let hidden = check_block(dim, heads, mlp_ratio)?;
        let (attention, mlp) = (path / "attn", path / "mlp");
        Ok(Block {
            norm1: LayerNorm::new(path / "norm1", dim, 1e-6),
            qkv: linear(&attention / "qkv", dim, 3 * dim, normal),
            proj: linear(&attention / "proj", dim, dim, normal),
            norm2: LayerNorm::new(path / "norm2", dim, 1e-6),
            fc1: linear(&mlp / "fc1", dim, hidden, normal),
            fc2: linear(&mlp / "fc2", hidden, dim, normal),
            heads,
            drop_path,
        })
    }

    /// Draws the weights anew from Xavier's uniform distribution, as MAE's authors do.
    pub fn start_xavier(&self) {
        for layer in [&self.qkv, &self.proj, &self.fc1, &self.fc2] {
            xavier_uniform(&layer.weight);
        }
    }

    /// Applies the block; `mask` is true where a token may look, broadcast to `[N, heads, T, T]`, and without it all look
    /// at all.
    ///
    /// # Shapes
    /// `[N, T, D]` to the same.
    pub fn forward(&self, x: &Tensor, mask: Option<&Tensor>, mode: Mode) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x)).chunk(3, -1); // 3 of [N, T, D]
        let attended = multi_head_attention([&qkv[0], &qkv[1], &qkv[2]], self.heads, mask, 0.0);
        let x = x + self.drop_path(self.proj.forward(&attended), mode);
        let hidden = self.fc1.forward(&self.norm2.forward(&x)).gelu("none"); // [N, T, hidden]
        let branch = self.drop_path(self.fc2.forward(&hidden), mode);
        x + branch
    }

    /// What the block's attention sees of its input.
    ///
    /// # Shapes
    /// `[N, T, D]` to the same.
    pub fn normalized(&self, x: &Tensor) -> Tensor {
        self.norm1.forward(x)
    }

    /// Where the block's tokens look: probabilities, a row for each query.
    ///
    /// # Shapes
    /// `[N, T, D]` to `[N, heads, T, T]`.
    pub fn attention(&self, x: &Tensor) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x)).chunk(3, -1); // 3 of [N, T, D]
        let split = |x: &Tensor| x.unflatten(2, [self.heads, -1]).transpose(1, 2); // [N, heads, T, D / heads]
        let (q, k) = (split(&qkv[0]), split(&qkv[1]));
        let scale = 1.0 / (q.size()[3] as f64).sqrt();
        (q.matmul(&k.transpose(2, 3)) * scale).softmax(-1, x.kind())
    }

    /// Zeroes the branch of some samples, and scales the others so that its mean stays.
    fn drop_path(&self, branch: Tensor, mode: Mode) -> Tensor {
        if self.drop_path == 0.0 || !mode.is_train() {
            return branch;
        }
        let kept = 1.0 - self.drop_path;
        let mut mask = branch.new_empty([branch.size()[0], 1, 1], (branch.kind(), branch.device()));
        branch * (mask.bernoulli_float_(kept) / kept)
    }
}

/// Checks the sizes of a block, which are positive, and returns the hidden size of its perceptron.
///
/// # Errors
/// [`Error::Config`] with the field.
pub fn check_block(dim: i64, heads: i64, mlp_ratio: f64) -> Result<i64> {
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
pub fn linear(path: nn::Path, inputs: i64, outputs: i64, draw: fn(&Tensor, f64)) -> Linear {
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
pub fn multi_head_attention(
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
pub fn gather_tokens(x: &Tensor, keep: &Tensor) -> Tensor {
    let index = keep.unsqueeze(-1).expand([-1, -1, x.size()[2]], false);
    x.gather(1, &index, false)
}

/// Fixed positions of a grid of patches (Vaswani et al. 2017, section 3.5, for two dimensions as in Chen et
/// al. 2021, MoCo v3): a quarter of the values are sines of the column, a quarter cosines of it, then the
/// same of the row, with the frequencies `10000^(-4 k / dim)`. `dim` is a multiple of 4.
///
/// # Shapes
/// `[rows * columns, dim]` Float, row by row.
pub fn sine_cosine_positions([rows, columns]: [i64; 2], dim: i64, device: Device) -> Tensor {
    let double = (Kind::Double, Device::Cpu);
    let quarter = dim / 4;
    let exponents = Tensor::arange(quarter, double) * (-(10_000_f64.ln()) / quarter as f64);
    let frequencies = exponents.exp(); // [d / 4]
    let waves = |places: Tensor| {
        let angles = places.reshape([-1, 1]) * &frequencies; // [T, d / 4]
        Tensor::cat(&[angles.sin(), angles.cos()], 1) // [T, d / 2]
    };
    let across = Tensor::arange(columns, double).unsqueeze(0).expand([rows, columns], false);
    let down = Tensor::arange(rows, double).unsqueeze(1).expand([rows, columns], false);
    Tensor::cat(&[waves(across), waves(down)], 1).to_kind(Kind::Float).to_device(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TensorExt;

    fn block(drop_path: f64) -> (nn::VarStore, Block) {
        let store = nn::VarStore::new(Device::Cpu);
        let shape = BlockShape { dim: 24, heads: 3, mlp_ratio: 4.0, drop_path };
        let block = Block::new(store.root(), shape).unwrap();
        (store, block)
    }

    fn wave(shape: &[i64]) -> Tensor {
        (Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu)) * 0.7).sin().reshape(shape)
    }

    #[test]
    fn drop_path_leaves_out_whole_branches_and_keeps_the_mean() {
        let n = 4000;
        let (_store, block) = block(0.3);
        let branch = block.drop_path(wave(&[1, 5, 24]).expand([n, -1, -1], true), Mode::Train);
        let dropped = branch.abs().amax([1_i64, 2].as_slice(), false).eq(0.0); // [N]
        let rate = dropped.to_kind(Kind::Double).mean(None).scalar().unwrap();
        assert!((rate - 0.3).abs() < 5.0 * (0.3 * 0.7 / n as f64).sqrt(), "{rate}");
        let scaled = wave(&[5, 24]) / 0.7;
        let first = i64::try_from(dropped.logical_not().to_kind(Kind::Int64).argmax(0, false)).unwrap();
        assert!((branch.get(first) - scaled).abs().max().scalar().unwrap() < 1e-6);
        let branch = wave(&[2, 5, 24]);
        assert_eq!(block.drop_path(branch.shallow_clone(), Mode::Eval), branch);
    }

    #[test]
    fn a_token_sees_only_what_the_mask_allows() {
        let (_store, block) = block(0.0);
        let causal = Tensor::ones([5, 5], (Kind::Float, Device::Cpu)).tril(0).to_kind(Kind::Bool);
        let x = wave(&[1, 5, 24]);
        let changed = Tensor::cat(&[x.narrow(1, 0, 3), x.narrow(1, 3, 2) + 1.0], 1);
        let [before, after] = [&x, &changed].map(|x| block.forward(x, Some(&causal), Mode::Eval));
        assert_eq!(before.narrow(1, 0, 3), after.narrow(1, 0, 3));
        assert_ne!(before.narrow(1, 3, 2), after.narrow(1, 3, 2));
    }

    // p = torch.tensor(utils.get_2d_sine_cosine_positional_embedding(8, 3, cls_token=False))
    // print(p[5], p.sum(), (p * (torch.arange(72) * 0.7).sin().reshape(9, 8)).sum())
    #[test]
    fn positions_are_those_of_the_reference() {
        let positions = sine_cosine_positions([3, 3], 8, Device::Cpu);
        assert_eq!(positions.size(), [9, 8]);
        let expected = Tensor::from_slice(&[
            0.909297_f32,
            0.019999,
            -0.416147,
            0.9998,
            0.841471,
            0.01,
            0.540302,
            0.99995,
        ]);
        assert!((positions.get(5) - expected).abs().max().scalar().unwrap() < 1e-5);
        for (x, expected) in [(&positions, 35.428_034), (&(&positions * wave(&[9, 8])), -1.013_518)] {
            assert!((x.sum(Kind::Double).scalar().unwrap() - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn positions_of_an_oblong_grid_are_part_of_those_of_a_square_one() {
        let (square, oblong) =
            (sine_cosine_positions([4, 4], 12, Device::Cpu), sine_cosine_positions([2, 4], 12, Device::Cpu));
        assert_eq!(square.narrow(0, 0, 8), oblong);
    }

    #[test]
    fn refuses_heads_that_do_not_divide() {
        let store = nn::VarStore::new(Device::Cpu);
        let shape = BlockShape { dim: 24, heads: 5, mlp_ratio: 4.0, drop_path: 0.0 };
        let error = Block::new(store.root(), shape).unwrap_err().to_string();
        assert_eq!(error, "heads = 5: a divisor of dim = 24");
    }
}
