//! Vision Transformer (Dosovitskiy et al. 2021, *An image is worth 16x16 words*): an image is cut into patches, each
//! becomes a token by a linear map, and a pre-norm Transformer works on them:
//! `z <- z + attention(norm(z))`, `z <- z + mlp(norm(z))`.
//!
//! Parameter names, shapes and initialisation are timm's (`vit_tiny_patch16_224` and its relatives), without the
//! classifier `head`. As there, and unlike the paper, there is no layer between the class token and the classifier.
//! With [`Pooling::Average`] the features are the average of the *normalised* patch tokens: timm's
//! `global_pool="avg", fc_norm=False`, whose parameters are those of the class token's network.
//!
//! Positional embeddings fit images of another size, square or not, by bicubic interpolation with antialiasing to the
//! new grid's size. (Interpolating by a scale factor rounds, and shifts every patch.)

use crate::attention::{gather_tokens, multi_head_attention};
use crate::input::{check_images, check_keep, check_rate, check_sizes, shape};
use crate::pooling::Pooling;
use selfsup_core::layers::{Bias, Conv2d, ConvShape, LayerNorm, Linear, truncated_normal};
use selfsup_core::{Encoder, Error, Kind, Mode, Result, Tensor, TokenEncoder, nn, tch};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// The shape of a [`Vit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// The side of the square images that the positional embeddings are made for; others are interpolated.
    pub image_size: i64,
    /// The side of a patch.
    pub patch_size: i64,
    /// Channels of the images: 1 for grey, 3 for colour.
    pub channels_in: i64,
    /// The number of blocks.
    pub depth: i64,
    /// The size of a token, `D`.
    pub dim: i64,
    /// The number of attention heads; divides `dim`.
    pub heads: i64,
    /// The hidden size of a block's perceptron, as a multiple of `dim`.
    pub mlp_ratio: f64,
    /// How the tokens make one feature vector.
    pub pooling: Pooling,
    /// Stochastic depth (Huang et al. 2016): the probability of leaving out the last block's branches for a sample in
    /// training; it falls to 0 towards the first block.
    pub drop_path: f64,
}

impl VitConfig {
    /// ViT-Ti (Touvron et al. 2021, DeiT, table 1): 12 blocks of 192 with 3 heads.
    pub fn tiny(image_size: i64, patch_size: i64) -> Self {
        VitConfig { image_size, patch_size, dim: 192, heads: 3, ..Self::default() }
    }

    /// ViT-S (Touvron et al. 2021, DeiT, table 1): 12 blocks of 384 with 6 heads.
    pub fn small(image_size: i64, patch_size: i64) -> Self {
        VitConfig { image_size, patch_size, dim: 384, heads: 6, ..Self::default() }
    }

    /// ViT-B (Dosovitskiy et al. 2021, table 1): 12 blocks of 768 with 12 heads.
    pub fn base(image_size: i64, patch_size: i64) -> Self {
        VitConfig { image_size, patch_size, ..Self::default() }
    }
}

/// ViT-B/16 for 224 pixels.
impl Default for VitConfig {
    fn default() -> Self {
        VitConfig {
            image_size: 224,
            patch_size: 16,
            channels_in: 3,
            depth: 12,
            dim: 768,
            heads: 12,
            mlp_ratio: 4.0,
            pooling: Pooling::ClassToken,
            drop_path: 0.0,
        }
    }
}

#[derive(Debug)]
struct Block {
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
    fn new(path: &nn::Path, config: &VitConfig, hidden: i64, drop_path: f64) -> Self {
        let (dim, attention, mlp) = (config.dim, path / "attn", path / "mlp");
        Block {
            norm1: LayerNorm::new(path / "norm1", dim, 1e-6),
            qkv: linear(&attention / "qkv", dim, 3 * dim),
            proj: linear(&attention / "proj", dim, dim),
            norm2: LayerNorm::new(path / "norm2", dim, 1e-6),
            fc1: linear(&mlp / "fc1", dim, hidden),
            fc2: linear(&mlp / "fc2", hidden, dim),
            heads: config.heads,
            drop_path,
        }
    }

    /// `[N, T, D]` to the same shape.
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let qkv = self.qkv.forward(&self.norm1.forward(x)).chunk(3, -1); // 3 of [N, T, D]
        let attended = multi_head_attention([&qkv[0], &qkv[1], &qkv[2]], self.heads, None, 0.0);
        let x = x + self.drop_path(self.proj.forward(&attended), mode);
        let hidden = self.fc1.forward(&self.norm2.forward(&x)).gelu("none"); // [N, T, hidden]
        let branch = self.drop_path(self.fc2.forward(&hidden), mode);
        x + branch
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

fn linear(path: nn::Path, inputs: i64, outputs: i64) -> Linear {
    let linear = Linear::new(path, inputs, outputs, Bias::Yes);
    truncated_normal(&linear.weight, 0.02);
    if let Some(bias) = &linear.bias {
        tch::no_grad(|| drop(bias.shallow_clone().zero_()));
    }
    linear
}

/// A Transformer on the patches of an image, with a class token before them.
#[derive(Debug)]
pub struct Vit {
    config: VitConfig,
    patch_embed: Conv2d,
    cls_token: Tensor,
    pos_embed: Tensor,
    blocks: Vec<Block>,
    norm: LayerNorm,
}

impl Vit {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// [`Error::Config`] when a size is not positive, `patch_size` does not divide `image_size`, `heads` does not
    /// divide `dim`, or `drop_path` is no probability below 1.
    pub fn new<'a>(path: impl Borrow<nn::Path<'a>>, config: &VitConfig) -> Result<Self> {
        let path = path.borrow();
        let VitConfig { image_size, patch_size, channels_in, depth, dim, heads, mlp_ratio, .. } = *config;
        check_sizes(&[
            ("image_size", image_size),
            ("patch_size", patch_size),
            ("channels_in", channels_in),
            ("depth", depth),
            ("dim", dim),
            ("heads", heads),
        ])?;
        if image_size % patch_size != 0 {
            let expected = format!("a multiple of patch_size = {patch_size}");
            return Err(Error::config("image_size", image_size, expected));
        }
        if dim % heads != 0 {
            return Err(Error::config("heads", heads, format!("a divisor of dim = {dim}")));
        }
        let hidden = (dim as f64 * mlp_ratio) as i64;
        if hidden < 1 || !mlp_ratio.is_finite() {
            return Err(Error::config("mlp_ratio", mlp_ratio, "a positive multiple of dim"));
        }
        check_rate("drop_path", config.drop_path)?;

        let options = (Kind::Float, path.device());
        let patches = (image_size / patch_size) * (image_size / patch_size);
        let cls_token = path.add("cls_token", Tensor::randn([1, 1, dim], options) * 1e-6, true);
        let pos_embed = path.add("pos_embed", Tensor::zeros([1, 1 + patches, dim], options), true);
        truncated_normal(&pos_embed, 0.02);
        let cut = ConvShape { kernel: patch_size, stride: patch_size, padding: 0 };
        let patch_embed = Conv2d::new(path / "patch_embed" / "proj", channels_in, dim, cut, Bias::Yes);
        let blocks = (0..depth)
            .map(|i| {
                let drop_path = config.drop_path * i as f64 / (depth - 1).max(1) as f64;
                Block::new(&(path / "blocks" / i), config, hidden, drop_path)
            })
            .collect();
        let norm = LayerNorm::new(path / "norm", dim, 1e-6);
        Ok(Vit { config: config.clone(), patch_embed, cls_token, pos_embed, blocks, norm })
    }

    fn forward(
        &self,
        x: &Tensor,
        keep: Option<&Tensor>,
        mode: Mode,
        visit: &mut dyn FnMut(String, &Tensor),
    ) -> Result<Tensor> {
        let patch = self.config.patch_size;
        let [n, height, width] = check_images(x, self.config.channels_in, &self.patch_embed.weight)?;
        if height % patch != 0 || width % patch != 0 {
            let expected = format!("sides that are multiples of patch_size = {patch}");
            return Err(shape("images", expected, format!("{height} x {width}")));
        }
        let (rows, columns) = (height / patch, width / patch);
        if let Some(keep) = keep {
            check_keep(keep, n, rows * columns)?;
        }
        let (class_position, positions) = self.positions(rows, columns); // [1, 1, D], [1, T, D]
        let mut patches = self.patch_embed.forward(x).flatten(2, 3).transpose(1, 2) + positions; // [N, T, D]
        if let Some(keep) = keep {
            patches = gather_tokens(&patches, keep); // [N, K, D]
        }
        let class = (&self.cls_token + class_position).expand([n, 1, -1], false);
        let mut x = Tensor::cat(&[class, patches], 1); // [N, 1 + T, D]
        visit("patch_embed".to_owned(), &x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, mode);
            visit(format!("blocks.{i}"), &x);
        }
        let x = self.norm.forward(&x);
        visit("norm".to_owned(), &x);
        Ok(x)
    }

    /// The positional embeddings of the class token and of a grid of patches.
    fn positions(&self, rows: i64, columns: i64) -> (Tensor, Tensor) {
        let side = self.config.image_size / self.config.patch_size;
        let class = self.pos_embed.narrow(1, 0, 1);
        let patches = self.pos_embed.narrow(1, 1, side * side);
        if (rows, columns) == (side, side) {
            return (class, patches);
        }
        let grid = patches.reshape([1, side, side, self.config.dim]).permute([0, 3, 1, 2]);
        let grid = grid.internal_upsample_bicubic2d_aa([rows, columns], false, None, None);
        (class, grid.flatten(2, 3).transpose(1, 2))
    }

    fn pool(&self, tokens: &Tensor) -> Tensor {
        match self.config.pooling {
            Pooling::ClassToken => tokens.select(1, 0),
            Pooling::Average => {
                tokens.narrow(1, 1, tokens.size()[1] - 1).mean_dim([1_i64].as_slice(), false, None)
            }
        }
    }
}

impl Encoder for Vit {
    fn dim(&self) -> i64 {
        self.config.dim
    }

    /// # Shapes
    /// `[N, channels_in, H, W]` Float, sides multiples of the patch's, to `[N, D]`.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images have other channels or sides.
    fn encode(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        Ok(self.pool(&self.tokens(x, None, mode)?))
    }

    /// `patch_embed` (class token and patches with their positions), `blocks.0`, `blocks.1`, ..., `norm`,
    /// `[N, 1 + T, D]`, and `features`.
    fn intermediate(&self, x: &Tensor, mode: Mode) -> Result<Vec<(String, Tensor)>> {
        let mut all = Vec::new();
        let tokens = self.forward(x, None, mode, &mut |name, x| all.push((name, x.shallow_clone())))?;
        all.push(("features".to_owned(), self.pool(&tokens)));
        Ok(all)
    }
}

impl TokenEncoder for Vit {
    /// Patches are numbered row by row. Those outside `keep` are left out before the first block, as in MAE.
    ///
    /// # Shapes
    /// `[N, channels_in, H, W]` to `[N, 1 + T, D]`, or `[N, 1 + K, D]` with `keep`; the class token comes first.
    ///
    /// # Errors
    /// [`Error::Shape`] when the images have other channels or sides, or `keep` names a patch that there is not
    /// (checked on the CPU; another device asserts by itself).
    fn tokens(&self, x: &Tensor, keep: Option<&Tensor>, mode: Mode) -> Result<Tensor> {
        self.forward(x, keep, mode, &mut |_, _| ())
    }
}
