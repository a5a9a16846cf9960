//! The network of image GPT (Chen, Radford et al. 2020, *Generative Pretraining from Pixels*, section 2.2):
//! an image is a sequence of pixels, row by row, each one of a palette's colours, and a causal Transformer
//! reads it:
//!
//! ```text
//! n_l = norm(h_l)        a_l = h_l + attention(n_l)        h_{l+1} = a_l + mlp(norm(a_l))
//! ```
//!
//! The sequence begins with a learned start token and leaves out the last pixel, so that what stands at a
//! pixel is known from those before it. Its features are the average of n_l over the sequence (section 2.4),
//! of a block in the middle: the last blocks are busy with the next pixel, not with the image.
//!
//! The palette is a variable that does not learn by gradient: a grid at first, for an objective to fit to the
//! data. Attention costs the square of the number of pixels: images of 14 to 32 pixels a side.
//!
//! Colours and the start token begin at a standard deviation of 0.02, positions at 0.01, and what attention
//! adds to a block's input is scaled by 1/sqrt(number of blocks), as in the authors' code. Departures from it:
//! the norms take the mean out and have a bias, where theirs only divide by the root of the mean square; GELU
//! is exact, theirs x sigmoid(1.702 x); the linear layers have biases; and their weights begin at 0.02, where
//! theirs of attention begin at 1/sqrt(D).

use crate::input::{check_images, check_sizes, check_tokens};
use selfsup_core::layers::{Embedding, LayerNorm, normal};
use selfsup_core::transformer::{Block, BlockShape, check_block};
use selfsup_core::{Encoder, Error, Kind, Mode, PixelEncoder, Result, Tensor, check_shape, nn, tch};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`PixelTransformer`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PixelTransformerConfig {
    /// The side of the square images.
    pub image_size: i64,
    /// Channels of the images: 1 for grey, 3 for colour.
    pub channels_in: i64,
    /// The colours of the palette.
    pub colours: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The size of a token, `D`.
    pub dim: i64,
    /// The number of attention heads; divides `dim`.
    pub heads: i64,
    /// The hidden size of a block's perceptron, as a multiple of `dim`.
    pub mlp_ratio: f64,
    /// The block whose normalised input is the features, from 0; `depth` stands for the output.
    pub feature_block: i64,
}

/// iGPT-S (section 3.3): 24 blocks of 512 on 32 x 32 pixels of 512 colours.
impl Default for PixelTransformerConfig {
    fn default() -> Self {
        PixelTransformerConfig {
            image_size: 32,
            channels_in: 3,
            colours: 512,
            depth: 24,
            dim: 512,
            heads: 8,
            mlp_ratio: 4.0,
            feature_block: 12,
        }
    }
}

/// A causal Transformer on the pixels of an image, with GPT-2's names for the embeddings: `wte`, `wpe`,
/// `ln_f`.
#[derive(Debug)]
pub struct PixelTransformer {
    config: PixelTransformerConfig,
    palette: Tensor,
    tokens: Embedding,
    positions: Tensor,
    start: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl PixelTransformer {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, `heads` does not divide `dim`, or there is no such
    /// `feature_block`.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, config: &PixelTransformerConfig) -> Result<Self> {
        let path = path.borrow();
        let PixelTransformerConfig { image_size, channels_in, colours, depth, dim, heads, mlp_ratio, .. } =
            *config;
        check_sizes(&[
            ("image_size", image_size),
            ("channels_in", channels_in),
            ("colours", colours),
            ("depth", depth),
            ("dim", dim),
            ("heads", heads),
        ])?;
        check_block(dim, heads, mlp_ratio)?;
        if !(0..=depth).contains(&config.feature_block) {
            return Err(Error::config(
                "feature_block",
                config.feature_block,
                format!("0 to depth = {depth}"),
            ));
        }
        let options = (Kind::Float, path.device());
        let tokens = Embedding::new(path / "wte", colours, dim);
        normal(&tokens.weight, 0.02);
        let small =
            |name: &str, std: f64, shape: &[i64]| path.add(name, Tensor::randn(shape, options) * std, true);
        let block = |i: i64| -> Result<Block> {
            let path = path / "h" / i;
            let block = Block::new(&path, BlockShape { dim, heads, mlp_ratio, drop_path: 0.0 })?;
            if let Some(mut weight) = (path / "attn" / "proj").get("weight") {
                tch::no_grad(|| drop(weight.g_div_scalar_((depth as f64).sqrt())));
            }
            Ok(block)
        };
        Ok(PixelTransformer {
            palette: path.add("palette", grid(colours, channels_in).to_device(path.device()), false),
            tokens,
            positions: small("wpe", 0.01, &[image_size * image_size, dim]),
            start: small("sos", 0.02, &[dim]),
            blocks: (0..depth).map(block).collect::<Result<_>>()?,
            norm: LayerNorm::new(path / "ln_f", dim, 1e-5),
            config: config.clone(),
        })
    }

    /// What stands before the blocks, `[N, T, D]`, and what each may see, `[T, T]`.
    fn embed(&self, tokens: &Tensor) -> Result<(Tensor, Tensor)> {
        let length = self.config.image_size * self.config.image_size;
        let [n, t] = check_tokens(tokens, self.config.colours, length, &self.positions)?;
        let before = self.tokens.forward(&tokens.narrow(1, 0, t - 1)); // [N, T - 1, D]
        let start = self.start.expand([n, 1, -1], false);
        let x = Tensor::cat(&[start, before], 1) + self.positions.narrow(0, 0, t);
        let causal = Tensor::ones([t, t], (Kind::Bool, x.device())).tril(0);
        Ok((x, causal))
    }

    /// The features of every place, `[N, T, D]`.
    fn middle(&self, images: &Tensor, mode: Mode) -> Result<Tensor> {
        let (mut x, causal) = self.embed(&self.quantize(images)?)?;
        let (before, after) = self.blocks.split_at(self.config.feature_block as usize);
        for block in before {
            x = block.forward(&x, Some(&causal), mode);
        }
        Ok(after.first().map_or_else(|| self.norm.forward(&x), |block| block.normalized(&x)))
    }
}

/// Colours at equal distances, from two standard deviations below to two above what is the mean of normalised
/// pixels.
fn grid(colours: i64, channels: i64) -> Tensor {
    let side = (1..=colours).find(|side| side.saturating_pow(channels as u32) >= colours).unwrap_or(colours);
    let level = |digit: i64| -2.0 + 4.0 * digit as f32 / (side - 1).max(1) as f32;
    let colour = |k: i64| {
        (0..channels).scan(k, move |rest, _| {
            let digit = *rest % side;
            *rest /= side;
            Some(level(digit))
        })
    };
    Tensor::from_slice(&(0..colours).flat_map(colour).collect::<Vec<_>>()).view([colours, channels])
}

impl Encoder for PixelTransformer {
    fn dim(&self) -> i64 {
        self.config.dim
    }

    /// # Shapes
    /// `[N, channels_in, S, S]` Float to `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images have other channels or another size.
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.middle(x, mode)?.mean_dim([1_i64].as_slice(), false, None))
    }
}

impl PixelEncoder for PixelTransformer {
    fn palette(&self) -> &Tensor {
        &self.palette
    }

    fn quantize(&self, images: &Tensor) -> Result<Tensor> {
        let PixelTransformerConfig { image_size, channels_in, .. } = self.config;
        let [n, _, _] = check_images(images, channels_in, &self.positions)?;
        check_shape("images", images, [n, channels_in, image_size, image_size])?;
        let pixels = images.permute([0, 2, 3, 1]).reshape([-1, channels_in]); // [N * T, C]
        // |x - p|^2 without |x|^2, which is the same for all colours.
        let squares = self.palette.square().sum_dim_intlist([1_i64].as_slice(), false, None); // [K]
        let distances = squares - pixels.matmul(&self.palette.tr()) * 2.0; // [N * T, K]
        Ok(distances.argmin(1, false).view([n, -1]))
    }

    fn before_each(&self, tokens: &Tensor, mode: Mode) -> Result<Tensor> {
        let (mut x, causal) = self.embed(tokens)?;
        for block in &self.blocks {
            x = block.forward(&x, Some(&causal), mode);
        }
        Ok(self.norm.forward(&x))
    }

    fn set_palette(&self, palette: &Tensor) -> Result<()> {
        check_shape("palette", palette, [self.config.colours, self.config.channels_in])?;
        tch::no_grad(|| self.palette.shallow_clone().copy_(palette));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{assert_ends, difference, fill, images, wave};
    use selfsup_core::{Device, TensorExt};

    fn small() -> PixelTransformerConfig {
        PixelTransformerConfig {
            image_size: 4,
            channels_in: 2,
            colours: 9,
            depth: 2,
            dim: 24,
            heads: 3,
            mlp_ratio: 4.0,
            feature_block: 1,
        }
    }

    fn built(config: &PixelTransformerConfig) -> (nn::VarStore, PixelTransformer) {
        let store = nn::VarStore::new(Device::Cpu);
        let network = PixelTransformer::new(store.root(), config).unwrap();
        fill(&store);
        (store, network)
    }

    // class Net(torch.nn.Module):
    //     def __init__(s):
    //         super().__init__(); s.wpe, s.sos = (torch.nn.Parameter(torch.empty(*n)) for n in ((16, 24), (24,)))
    //         s.wte, s.ln_f = torch.nn.Embedding(9, 24), torch.nn.LayerNorm(24)
    //         s.h = torch.nn.ModuleList(timm.models.vision_transformer.Block(24, 3, qkv_bias=True,
    //             norm_layer=functools.partial(torch.nn.LayerNorm, eps=1e-6)) for _ in range(2))
    //         s.register_buffer("palette", torch.empty(9, 2))
    //     def sequence(s, x):
    //         t = torch.cdist(x.flatten(2).transpose(1, 2), s.palette).argmin(2)
    //         return torch.cat([s.sos.expand(len(x), 1, -1), s.wte(t)[:, :-1]], 1) + s.wpe
    // m = fill(Net()); x = wave(1000, [2, 2, 4, 4]); mask = torch.ones(16, 16).tril().bool(); h = m.sequence(x)
    // f = m.h[0](h, attn_mask=mask); print(ends(m.h[1].norm1(f).mean(1)), ends(m.ln_f(m.h[1](f, attn_mask=mask))))
    #[test]
    fn equals_timms_blocks_with_a_causal_mask() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 4, 4]);
        assert_ends(
            &network.encode(&x, Mode::Eval).unwrap(),
            [0.935731, 0.609482, 0.148432, -1.083062, -1.067609, 0.214669, 1.140253, 1.749741],
        );
        let tokens = network.quantize(&x).unwrap();
        assert_ends(
            &network.before_each(&tokens, Mode::Eval).unwrap(),
            [-1.577227, 1.860886, -1.345573, -1.470385, -0.992468, -1.065845, 1.614023, 1.320631],
        );
    }

    #[test]
    fn a_pixel_is_the_nearest_colour_of_the_palette() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 4, 4]);
        let tokens = network.quantize(&x).unwrap();
        for (n, place) in (0..2).flat_map(|n| (0..16_i64).map(move |place| (n, place))) {
            let distance = |k: i64| -> f64 {
                let at = |c: i64| {
                    x.double_value(&[n, c, place / 4, place % 4]) - network.palette.double_value(&[k, c])
                };
                at(0).powi(2) + at(1).powi(2)
            };
            let nearest = (0..9).min_by(|&a, &b| distance(a).total_cmp(&distance(b))).unwrap();
            assert_eq!(tokens.int64_value(&[n, place]), nearest);
        }
        let mine = wave(7, &[9, 2]);
        network.set_palette(&mine).unwrap();
        let tokens =
            network.quantize(&mine.narrow(0, 0, 1).view([1, 2, 1, 1]).expand([1, 2, 4, 4], false)).unwrap();
        assert_eq!(tokens, Tensor::zeros([1, 16], (Kind::Int64, Device::Cpu)));
        let error = network.set_palette(&mine.narrow(0, 0, 8)).unwrap_err().to_string();
        assert_eq!(error, "palette: expected [9, 2], found [8, 2]");
    }

    #[test]
    fn what_stands_at_a_pixel_does_not_know_it_nor_those_after_it() {
        let (_store, network) = built(&small());
        let tokens = network.quantize(&images([1, 2, 4, 4])).unwrap();
        let changed = tokens.copy();
        changed.narrow(1, 6, 10).copy_(&(tokens.narrow(1, 6, 10) + 1).remainder(9));
        let [a, b] = [&tokens, &changed].map(|x| network.before_each(x, Mode::Eval).unwrap());
        assert!(difference(&a.narrow(1, 0, 7), &b.narrow(1, 0, 7)) < 1e-6);
        assert!(difference(&a.narrow(1, 7, 9), &b.narrow(1, 7, 9)) > 1e-3);
    }

    #[test]
    fn starts_with_a_grid_of_colours() {
        let levels = Vec::<f32>::try_from(grid(5, 1).view([-1])).unwrap();
        assert_eq!(levels, [-2.0, -1.0, 0.0, 1.0, 2.0]);
        let cube = grid(27, 3);
        assert_eq!(cube.size(), [27, 3]);
        assert_eq!(cube.unique_dim(0, true, false, false).0.size(), [27, 3]);
        assert_eq!(Vec::<f32>::try_from(cube.get(26)).unwrap(), [2.0; 3]);
    }

    #[test]
    fn starts_with_quiet_positions_and_branches() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = PixelTransformerConfig { image_size: 8, dim: 64, heads: 2, depth: 4, ..small() };
        let _network = PixelTransformer::new(store.root(), &config).unwrap();
        for (name, expected) in [
            ("wpe", 0.01),
            ("h.0.attn.proj.weight", 0.01),
            ("h.3.attn.proj.weight", 0.01),
            ("h.3.attn.qkv.weight", 0.02),
            ("h.3.mlp.fc2.weight", 0.02),
        ] {
            // 5 standard deviations of that of 4096 draws are 0.055 of it.
            let found = store.variables()[name].std(true).scalar().unwrap();
            assert!((found / expected - 1.0).abs() < 0.06, "{name}: {found}");
        }
    }

    #[test]
    fn gradients_reach_all_parameters() {
        let (store, network) = built(&small());
        let tokens = network.quantize(&images([2, 2, 4, 4])).unwrap();
        crate::reference::assert_gradients(&store, &network.before_each(&tokens, Mode::Train).unwrap());
        assert!(!network.palette.requires_grad());
    }

    #[test]
    fn rejects_what_does_not_fit() {
        let (store, network) = built(&small());
        let error = network.encode(&images([2, 2, 4, 5]), Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "images: expected [2, 2, 4, 4], found [2, 2, 4, 5]");
        let error = network.encode(&images([2, 3, 4, 4]), Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "images: expected [_, 2, _, _], found [2, 3, 4, 4]");
        let tokens = Tensor::full([1, 16], 9, (Kind::Int64, Device::Cpu));
        let error = network.before_each(&tokens, Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "tokens: expected indices in 0..9, found 9..=9");
        for (config, message) in [
            (PixelTransformerConfig { feature_block: 3, ..small() }, "feature_block = 3: 0 to depth = 2"),
            (PixelTransformerConfig { heads: 5, ..small() }, "heads = 5: a divisor of dim = 24"),
            (PixelTransformerConfig { colours: 0, ..small() }, "colours = 0: a size of at least 1"),
        ] {
            assert_eq!(PixelTransformer::new(store.root(), &config).unwrap_err().to_string(), message);
        }
        let last = PixelTransformerConfig { feature_block: 2, ..small() };
        let (_store, network) = built(&last);
        let mean = network.encode(&images([1, 2, 4, 4]), Mode::Eval).unwrap().mean(None);
        assert!(mean.scalar().unwrap().is_finite());
    }
}
