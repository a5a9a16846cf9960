//! A Transformer that is narrower than the encoder, between the encoder's tokens and what is predicted of the
//! hidden ones: MAE's decoder (He et al. 2022, section 3) and I-JEPA's predictor (Assran et al. 2023, section
//! 3) are of the same parts, with fixed two-dimensional sine-cosine positions.

use selfsup_core::layers::{LayerNorm, Linear, normal};
use selfsup_core::transformer::{Block, BlockShape, linear, sine_cosine_positions};
use selfsup_core::{Error, Mode, Result, Tensor, nn};
use serde::{Deserialize, Serialize};

/// The shape of a decoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenDecoderConfig {
    /// The size of its tokens; a multiple of 4, for the positions.
    pub dim: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The number of attention heads; divides `dim`.
    pub heads: i64,
    /// The hidden size of a block's perceptron, as a multiple of `dim`.
    pub mlp_ratio: f64,
}

/// A linear layer to narrower tokens, a token for what is hidden, blocks, a norm, and a linear layer to the
/// prediction.
#[derive(Debug)]
pub(crate) struct TokenDecoder {
    embed: Linear,
    mask_token: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
    output: Linear,
    dim: i64,
}

impl TokenDecoder {
    /// Makes the parameters under `path`: linear layers and the mask token from N(0, 0.02^2), which the
    /// methods change where their papers start otherwise. `field` is what the decoder is called in the
    /// objective's config.
    pub(crate) fn new(
        path: &nn::Path,
        inputs: i64,
        outputs: i64,
        config: &TokenDecoderConfig,
        field: &str,
    ) -> Result<Self> {
        let TokenDecoderConfig { dim, depth, heads, mlp_ratio } = *config;
        let inside = |name: &str, value: i64, expected: &str| {
            Err(Error::config(format!("{field}.{name}"), value, expected))
        };
        if dim < 1 || dim % 4 != 0 {
            return inside("dim", dim, "a positive multiple of 4, for sines and cosines of rows and columns");
        }
        if depth < 1 {
            return inside("depth", depth, "at least one block");
        }
        if heads < 1 {
            return inside("heads", heads, "at least one head");
        }
        let shape = BlockShape { dim, heads, mlp_ratio, drop_path: 0.0 };
        let mask_token = path.zeros("mask_token", &[dim]);
        normal(&mask_token, 0.02);
        let blocks = (0..depth).map(|i| Block::new(path / "blocks" / i, shape)).collect::<Result<_>>();
        let blocks = blocks.map_err(|error| match error {
            Error::Config { field: inner, value, expected } => {
                Error::Config { field: format!("{field}.{inner}"), value, expected }
            }
            other => other,
        })?;
        Ok(TokenDecoder {
            embed: linear(path / "embed", inputs, dim, normal),
            mask_token,
            blocks,
            norm: LayerNorm::new(path / "norm", dim, 1e-6),
            output: linear(path / "output", dim, outputs, normal),
            dim,
        })
    }

    /// The encoder's tokens `[N, K, D]` as the decoder's `[N, K, d]`.
    pub(crate) fn embed(&self, tokens: &Tensor) -> Tensor {
        self.embed.forward(tokens)
    }

    /// The token that stands for `count` hidden ones of `n` images, `[N, count, d]`.
    pub(crate) fn hidden(&self, n: i64, count: i64) -> Tensor {
        self.mask_token.expand([n, count, -1], false)
    }

    /// The positions of a grid, `[1, T, d]`.
    pub(crate) fn positions(&self, grid: [i64; 2]) -> Tensor {
        sine_cosine_positions(grid, self.dim, self.mask_token.device()).unsqueeze(0)
    }

    /// From embedded tokens with their positions `[N, T, d]` to predictions `[N, T, outputs]`.
    pub(crate) fn decode(&self, tokens: &Tensor, mode: Mode) -> Tensor {
        let mut x = tokens.shallow_clone();
        for block in &self.blocks {
            x = block.forward(&x, None, mode);
        }
        self.output.forward(&self.norm.forward(&x))
    }
}

/// The parameters under `prefix` with more than one dimension, in the order of their names: the weights of
/// linear layers.
pub(crate) fn weights(store: &nn::VarStore, prefix: &str) -> Vec<(String, Tensor)> {
    let mut all: Vec<_> = store.variables().into_iter().collect();
    all.retain(|(name, x)| name.starts_with(prefix) && x.dim() > 1);
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup_core::Device;

    #[test]
    fn refuses_shapes_that_do_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        let good = TokenDecoderConfig { dim: 8, depth: 1, heads: 2, mlp_ratio: 4.0 };
        for (config, message) in [
            (
                TokenDecoderConfig { dim: 6, ..good },
                "decoder.dim = 6: a positive multiple of 4, for sines and cosines of rows and columns",
            ),
            (TokenDecoderConfig { depth: 0, ..good }, "decoder.depth = 0: at least one block"),
            (TokenDecoderConfig { heads: 0, ..good }, "decoder.heads = 0: at least one head"),
            (TokenDecoderConfig { heads: 3, ..good }, "decoder.heads = 3: a divisor of dim = 8"),
        ] {
            let error = TokenDecoder::new(&store.root(), 4, 4, &config, "decoder").unwrap_err();
            assert_eq!(error.to_string(), message);
        }
    }
}
