//! Vision Transformer (Dosovitskiy et al. 2021, *An image is worth 16x16 words*): an image is cut into patches, each
//! becomes a token by a linear map, and a pre-norm Transformer works on them:
//! `z <- z + attention(norm(z))`, `z <- z + mlp(norm(z))`.
//!
//! Parameter names, shapes and initialisation are timm's (`vit_tiny_patch16_224` and its relatives), without the
//! classifier `head`. As there, and unlike the paper, there is no layer between the class token and the classifier.
//! With [`Pooling::Average`] the features are the average of the *normalised* patch tokens: timm's
//! `global_pool="avg", fc_norm=False`, whose parameters are those of the class token's network.
//!
//! [`Positions::SineCosine`] and [`Weights::Xavier`] are the start of MAE (He et al. 2022, appendix A.1 and the authors' code): a network
//! that knows from its first step where a patch lies.
//!
//! Positional embeddings fit images of another size, square or not, by bicubic interpolation with antialiasing to the
//! new grid's size. (Interpolating by a scale factor rounds, and shifts every patch.)

use crate::input::{check_images, check_keep, check_rate, check_sizes, shape};
use crate::pooling::Pooling;
use selfsup_core::layers::{Bias, Conv2d, ConvShape, LayerNorm, normal, xavier_uniform};
use selfsup_core::transformer::{Block, BlockShape, check_block, gather_tokens, sine_cosine_positions};
use selfsup_core::{
    Encoder, Error, Kind, MapEncoder, Mode, PatchEncoder, Precision, Result, Tensor, TokenEncoder,
    check_kind, check_shape, nn,
};
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
    /// How a token is told where it lies.
    pub positions: Positions,
    /// What the weights start from.
    pub weights: Weights,
    /// In what it computes while it is trained.
    pub precision: Precision,
}

/// How a token is told where in the image it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// By an embedding that is learned from N(0, 0.02^2), as in the paper.
    Learned,
    /// By fixed sines and cosines of its row and column; the class token by nothing. `dim` is a multiple of 4.
    SineCosine,
}

/// What the weights of a network start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Weights {
    /// N(0, 0.02^2) in the blocks, a convolution's uniform distribution where patches are cut: timm's.
    Normal,
    /// The uniform distribution of Glorot and Bengio 2010 in all of them, with a class token from N(0, 0.02^2).
    Xavier,
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
            positions: Positions::Learned,
            weights: Weights::Normal,
            precision: Precision::Float32,
        }
    }
}

/// What the blocks do not see of an image.
enum Hidden<'a> {
    /// They see all patches.
    None,
    /// They see the patches at `keep` `[N, K]`.
    LeftOut { keep: &'a Tensor },
    /// `token` `[D]` stands for the patches where `mask` `[N, T]` is true.
    Replaced { mask: &'a Tensor, token: &'a Tensor },
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
        check_block(dim, heads, mlp_ratio)?;
        check_rate("drop_path", config.drop_path)?;
        if config.positions == Positions::SineCosine && dim % 4 != 0 {
            return Err(Error::config(
                "dim",
                dim,
                "a multiple of 4, for sines and cosines of rows and columns",
            ));
        }

        let options = (Kind::Float, path.device());
        let side = image_size / patch_size;
        let patches = side * side;
        let cls_token = path.add("cls_token", Tensor::randn([1, 1, dim], options) * 1e-6, true);
        let learned = config.positions == Positions::Learned;
        let pos_embed = path.add("pos_embed", Tensor::zeros([1, 1 + patches, dim], options), learned);
        if learned {
            normal(&pos_embed, 0.02);
        } else {
            pos_embed.narrow(1, 1, patches).copy_(&sine_cosine_positions([side, side], dim, path.device()));
        }
        let cut = ConvShape { kernel: patch_size, stride: patch_size, padding: 0 };
        let patch_embed = Conv2d::new(path / "patch_embed" / "proj", channels_in, dim, cut, Bias::Yes);
        let blocks = (0..depth)
            .map(|i| {
                let drop_path = config.drop_path * i as f64 / (depth - 1).max(1) as f64;
                Block::new(path / "blocks" / i, BlockShape { dim, heads, mlp_ratio, drop_path })
            })
            .collect::<Result<Vec<_>>>()?;
        if config.weights == Weights::Xavier {
            normal(&cls_token, 0.02);
            xavier_uniform(&patch_embed.weight);
            blocks.iter().for_each(Block::start_xavier);
        }
        let norm = LayerNorm::new(path / "norm", dim, 1e-6);
        Ok(Vit { config: config.clone(), patch_embed, cls_token, pos_embed, blocks, norm })
    }

    /// The class token and the patches that are kept, with their positions: what the first block sees, `[N, 1 + T, D]`.
    fn embed(&self, x: &Tensor, hidden: &Hidden) -> Result<Tensor> {
        let [n, rows, columns] = self.grid(x)?;
        match hidden {
            Hidden::LeftOut { keep } => check_keep(keep, n, rows * columns)?,
            Hidden::Replaced { mask, token } => {
                check_shape("mask", mask, [n, rows * columns])?;
                check_kind("mask", mask, Kind::Bool)?;
                check_shape("token", token, [self.config.dim])?;
            }
            Hidden::None => {}
        }
        let (class_position, positions) = self.positions(rows, columns); // [1, 1, D], [1, T, D]
        let mut patches = self.patch_embed.forward(x).flatten(2, 3).transpose(1, 2); // [N, T, D]
        if let Hidden::Replaced { mask, token } = hidden {
            patches = patches.where_self(&mask.logical_not().unsqueeze(-1), token);
        }
        let mut patches = patches + positions; // in 32 bits, whatever the patches are in
        if let Hidden::LeftOut { keep } = hidden {
            patches = gather_tokens(&patches, keep); // [N, K, D]
        }
        let class = (&self.cls_token + class_position).expand([n, 1, -1], false);
        Ok(Tensor::cat(&[class, patches], 1))
    }

    /// The number of images, and of the rows and columns of their patches.
    fn grid(&self, x: &Tensor) -> Result<[i64; 3]> {
        let patch = self.config.patch_size;
        let [n, height, width] = check_images(x, self.config.channels_in, &self.patch_embed.weight)?;
        if height % patch != 0 || width % patch != 0 {
            let expected = format!("sides that are multiples of patch_size = {patch}");
            return Err(shape("images", expected, format!("{height} x {width}")));
        }
        Ok([n, height / patch, width / patch])
    }

    fn forward(
        &self,
        x: &Tensor,
        hidden: &Hidden,
        mode: Mode,
        visit: &mut dyn FnMut(String, &Tensor),
    ) -> Result<Tensor> {
        let _lowered = self.config.precision.lower(x.device(), mode);
        let mut x = self.embed(x, hidden)?; // [N, 1 + T, D]
        visit("patch_embed".to_owned(), &x);
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, None, mode);
            visit(format!("blocks.{i}"), &x);
        }
        let x = self.norm.forward(&x).to_kind(Kind::Float);
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
        let tokens =
            self.forward(x, &Hidden::None, mode, &mut |name, x| all.push((name, x.shallow_clone())))?;
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
        let hidden = keep.map_or(Hidden::None, |keep| Hidden::LeftOut { keep });
        self.forward(x, &hidden, mode, &mut |_, _| ())
    }
}

impl MapEncoder for Vit {
    fn map_dim(&self) -> i64 {
        self.config.dim
    }

    fn channels(&self) -> i64 {
        self.config.channels_in
    }

    /// The map is that of the patches' tokens, after the last norm.
    fn map(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let [_, rows, columns] = self.grid(x)?;
        let tokens = self.tokens(x, None, mode)?; // [N, 1 + T, D]
        let map = tokens.narrow(1, 1, rows * columns).transpose(1, 2).unflatten(2, [rows, columns]);
        Ok((map, self.pool(&tokens)))
    }
}

impl PatchEncoder for Vit {
    fn patch_size(&self) -> i64 {
        self.config.patch_size
    }

    /// As in SimMIM and iBOT: the token stands for a patch's embedding before positions are added.
    fn tokens_masked(&self, x: &Tensor, mask: &Tensor, token: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward(x, &Hidden::Replaced { mask, token }, mode, &mut |_, _| ())
    }

    fn pool(&self, tokens: &Tensor) -> Tensor {
        match self.config.pooling {
            Pooling::ClassToken => tokens.select(1, 0),
            Pooling::Average => {
                tokens.narrow(1, 1, tokens.size()[1] - 1).mean_dim([1_i64].as_slice(), false, None)
            }
        }
    }

    fn each_attention(&self, x: &Tensor, see: &mut dyn FnMut(Tensor)) -> Result<()> {
        let mut x = self.embed(x, &Hidden::None)?;
        for block in &self.blocks {
            see(block.attention(&x));
            x = block.forward(&x, None, Mode::Eval);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::{
        assert_ends, assert_gradients, difference, fill, fingerprint, images, parameters, wave,
    };
    use selfsup_core::{Device, TensorExt};

    // V = timm.models.vision_transformer.VisionTransformer
    // def vit(**kw): return fill(V(img_size=24, patch_size=8, in_chans=2, embed_dim=24, depth=2, num_heads=3,
    //     num_classes=0, dynamic_img_size=True, **kw))
    fn small() -> VitConfig {
        let (dim, heads) = (24, 3);
        VitConfig {
            image_size: 24,
            patch_size: 8,
            channels_in: 2,
            depth: 2,
            dim,
            heads,
            ..VitConfig::default()
        }
    }

    fn built(config: &VitConfig) -> (nn::VarStore, Vit) {
        let store = nn::VarStore::new(Device::Cpu);
        let network = Vit::new(store.root(), config).unwrap();
        fill(&store);
        (store, network)
    }

    // for name in ["tiny", "small", "base"]:
    //     m = timm.create_model(f"vit_{name}_patch16_224", num_classes=0)
    //     print(fingerprint(m), sum(p.numel() for p in m.parameters()))
    #[test]
    fn has_timms_names_and_shapes() {
        for (config, names, count) in [
            (VitConfig::tiny(224, 16), 0xfc4c_2155_4ac7_568a, 5_524_416),
            (VitConfig::small(224, 16), 0x5d09_f9bb_a091_c78a, 21_665_664),
            (VitConfig::base(224, 16), 0xecec_5dc6_1cd6_a102, 85_798_656),
        ] {
            let store = nn::VarStore::new(Device::Cpu);
            Vit::new(store.root(), &config).unwrap();
            assert_eq!((fingerprint(&store), parameters(&store)), (names, count), "{config:?}");
        }
    }

    // a, b = vit(), vit(global_pool="avg", fc_norm=False)
    // for size in [24, 24], [16, 40]:
    //     x = wave(1000, [2, 2] + size); print(ends(a(x)), ends(b(x)))
    #[test]
    fn equals_timm_for_images_of_its_own_and_another_shape() {
        let class = built(&small()).1;
        let average = built(&VitConfig { pooling: Pooling::Average, ..small() }).1;
        for (height, width, for_class, for_average) in [
            (
                24,
                24,
                [-0.475306, 1.042752, -0.322162, -1.434231, -1.882086, -0.332007, 1.121142, 0.367809],
                [-0.563936, 0.488563, -0.636102, -1.082273, 0.093966, 0.928908, 0.15744, -0.737695],
            ),
            (
                16,
                40,
                [0.900046, 0.479079, 0.304828, -0.785627, -0.331377, -1.108999, 1.122901, 2.203401],
                [1.54361, -0.161977, -0.686853, -1.16787, 0.243404, -0.428284, 0.630394, 0.90663],
            ),
        ] {
            let x = images([2, 2, height, width]);
            assert_ends(&class.encode(&x, Mode::Eval).unwrap(), for_class);
            assert_ends(&average.encode(&x, Mode::Eval).unwrap(), for_average);
        }
    }

    // m = vit(); x = wave(1000, [2, 2, 24, 24]); print(ends(m.forward_features(x)))
    // keep = torch.tensor([[7, 0, 3], [1, 2, 8]])
    // z = m.patch_embed(x).reshape(2, 9, 24) + m.pos_embed[:, 1:]
    // z = z.gather(1, keep[:, :, None].expand(-1, -1, 24))
    // z = torch.cat([(m.cls_token + m.pos_embed[:, :1]).expand(2, -1, -1), z], 1)
    // print(ends(m.norm(m.blocks(z))))
    #[test]
    fn tokens_equal_timms_with_all_and_with_some_patches() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 24, 24]);
        let all = network.tokens(&x, None, Mode::Eval).unwrap();
        assert_eq!(all.size(), [2, 10, 24]);
        assert_ends(
            &all,
            [-0.475306, 1.042752, -0.322162, -1.434231, -0.630361, 1.556092, 1.157056, -0.606136],
        );
        let keep = Tensor::from_slice2(&[[7_i64, 0, 3], [1, 2, 8]]);
        let some = network.tokens(&x, Some(&keep), Mode::Eval).unwrap();
        assert_eq!(some.size(), [2, 4, 24]);
        assert_ends(
            &some,
            [-1.113906, 2.003554, -0.597613, -1.219414, -0.991934, 1.334346, 0.793886, -1.242551],
        );
    }

    #[test]
    fn the_order_of_the_kept_patches_does_not_matter_to_the_class_token() {
        let (_store, network) = built(&small());
        let x = images([1, 2, 24, 24]);
        let order = Tensor::from_slice2(&[[3_i64, 8, 1, 0, 6, 2, 7, 5, 4]]);
        let all = network.tokens(&x, None, Mode::Eval).unwrap();
        let shuffled = network.tokens(&x, Some(&order), Mode::Eval).unwrap();
        assert!(difference(&shuffled.select(1, 0), &all.select(1, 0)) < 1e-5);
        assert!(difference(&shuffled.select(1, 2), &all.select(1, 9)) < 1e-5);
    }

    #[test]
    fn starts_as_timm_does() {
        let store = nn::VarStore::new(Device::Cpu);
        Vit::new(store.root(), &VitConfig::tiny(32, 4)).unwrap();
        let all = store.variables();
        // timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4): blocks[0].attn.qkv.weight.std() = 0.0200,
        // pos_embed.std() = 0.0199; a convolution's uniform weights have 1 / sqrt(3 * 3 * 4 * 4).
        for (name, expected, tolerance) in [
            ("blocks.0.attn.qkv.weight", 0.02, 2e-4),
            ("pos_embed", 0.02, 7e-4),
            ("cls_token", 1e-6, 3e-7),
            ("patch_embed.proj.weight", 0.083_333, 2e-3),
            ("blocks.3.mlp.fc1.bias", 0.0, 1e-9),
        ] {
            assert!((all[name].std(false).scalar().unwrap() - expected).abs() < tolerance, "{name}");
        }
        assert!(all["patch_embed.proj.bias"].abs().max().scalar().unwrap() > 0.0);
    }

    // from lightly.models.modules import MaskedVisionTransformerTIMM
    // m = MaskedVisionTransformerTIMM(vit=VisionTransformer(img_size=32, patch_size=4, embed_dim=192, depth=12,
    //     num_heads=3, num_classes=0)).vit
    // for n in ["blocks.0.attn.qkv.weight", "blocks.3.mlp.fc1.weight", "patch_embed.proj.weight"]:
    //     w = m.get_parameter(n); print(n, w.std().item(), w.abs().max().item())
    // print(m.pos_embed.requires_grad, m.pos_embed[0, [0, 1, 10, 64]].sum(1))
    #[test]
    fn starts_as_maes_encoder_does() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = VitConfig {
            positions: Positions::SineCosine,
            weights: Weights::Xavier,
            ..VitConfig::tiny(32, 4)
        };
        Vit::new(store.root(), &config).unwrap();
        let all = store.variables();
        for (name, deviation, largest) in [
            ("blocks.0.attn.qkv.weight", 0.051_014, 0.088_388),
            ("blocks.3.mlp.fc1.weight", 0.045_667, 0.079_057),
            ("patch_embed.proj.weight", 0.091_117, 0.158_104),
        ] {
            let found = all[name].std(false).scalar().unwrap();
            assert!((found / deviation - 1.0).abs() < 0.02, "{name}: {found}");
            let found = all[name].abs().max().scalar().unwrap();
            assert!((found / largest - 1.0).abs() < 0.002, "{name}: {found}");
        }
        assert!((all["cls_token"].std(false).scalar().unwrap() - 0.02).abs() < 5e-3);
        let positions = &all["pos_embed"];
        assert!(!positions.requires_grad());
        for (i, expected) in [(0, 0.0), (1, 96.0), (10, 103.732_6), (64, 86.091_9)] {
            let found = positions.get(0).get(i).sum(Kind::Double).scalar().unwrap();
            assert!((found - expected).abs() < 1e-3, "{i}: {found}");
        }
    }

    #[test]
    fn refuses_sines_and_cosines_of_a_size_that_they_do_not_divide() {
        let store = nn::VarStore::new(Device::Cpu);
        let config = VitConfig { dim: 18, positions: Positions::SineCosine, ..small() };
        let error = Vit::new(store.root(), &config).unwrap_err().to_string();
        assert_eq!(error, "dim = 18: a multiple of 4, for sines and cosines of rows and columns");
    }

    #[test]
    fn names_its_intermediate_features() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 24, 24]);
        let all = network.intermediate(&x, Mode::Eval).unwrap();
        let names: Vec<_> = all.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["patch_embed", "blocks.0", "blocks.1", "norm", "features"]);
        assert!(all[..4].iter().all(|(_, tokens)| tokens.size() == [2, 10, 24]));
        assert_eq!(all[4].1, network.encode(&x, Mode::Eval).unwrap());
    }

    #[test]
    fn drop_path_rises_to_the_last_block() {
        let (_store, network) = built(&VitConfig { drop_path: 0.3, ..small() });
        let x = images([64, 2, 24, 24]);
        let modes = [Mode::Train, Mode::Eval];
        let [train, eval] = modes.map(|mode| network.intermediate(&x, mode).unwrap());
        let same = |i: usize| difference(&train[i].1, &eval[i].1) < 1e-6;
        // The first block drops nothing, the second does for some of 64 samples.
        assert!(same(0) && same(1) && !same(2), "{} {} {}", same(0), same(1), same(2));
    }

    #[test]
    fn a_hidden_patch_is_its_token_at_its_place() {
        let (_store, network) = built(&small());
        let (x, token) = (images([2, 2, 24, 24]), wave(5, &[24]));
        let mask = Tensor::zeros([2, 9], (Kind::Bool, Device::Cpu));
        let plain = network.tokens(&x, None, Mode::Eval).unwrap();
        assert_eq!(network.tokens_masked(&x, &mask, &token, Mode::Eval).unwrap(), plain);
        // With every patch hidden nothing of the image is seen.
        let all = network.tokens_masked(&x, &mask.logical_not(), &token, Mode::Eval).unwrap();
        assert!(difference(&all.get(0), &all.get(1)) < 1e-6 && difference(&all, &plain) > 1e-3);
        let error = network.tokens_masked(&x, &mask.narrow(1, 0, 4), &token, Mode::Eval).unwrap_err();
        assert_eq!(error.to_string(), "mask: expected [2, 9], found [2, 4]");
    }

    #[test]
    fn a_map_holds_the_patches_and_attention_sums_to_one() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 16, 32]);
        let (map, features) = network.map(&x, Mode::Eval).unwrap();
        let tokens = network.tokens(&x, None, Mode::Eval).unwrap();
        assert_eq!(map.size(), [2, 24, 2, 4]);
        assert_eq!(map.select(2, 1).select(2, 3), tokens.select(1, 8));
        assert_eq!(features, network.encode(&x, Mode::Eval).unwrap());
        let mut blocks = Vec::new();
        network.each_attention(&x, &mut |attention| blocks.push(attention)).unwrap();
        for attention in &blocks {
            assert_eq!(attention.size(), [2, 3, 9, 9]);
            let sums = attention.sum_dim_intlist([3_i64].as_slice(), false, None);
            assert!(difference(&sums, &Tensor::ones([2, 3, 9], (Kind::Float, Device::Cpu))) < 1e-5);
        }
        assert_eq!(blocks.len(), 2);
        assert!(difference(&blocks[0], &blocks[1]) > 1e-3, "every block looks in its own way");
        assert_eq!(network.attention(&x).unwrap(), blocks[1]);
    }

    #[test]
    fn gradients_reach_all_parameters() {
        for pooling in [Pooling::ClassToken, Pooling::Average] {
            let (store, network) = built(&VitConfig { pooling, ..small() });
            assert_gradients(&store, &network.encode(&images([2, 2, 16, 32]), Mode::Train).unwrap());
        }
    }

    #[test]
    fn rejects_images_and_indices_that_do_not_fit() {
        let (_store, network) = built(&small());
        let x = images([2, 2, 24, 24]);
        let error = network.encode(&images([2, 2, 24, 20]), Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "images: expected sides that are multiples of patch_size = 8, found 24 x 20");
        let error = network.encode(&images([2, 3, 24, 24]), Mode::Eval).unwrap_err().to_string();
        assert_eq!(error, "images: expected [_, 2, _, _], found [2, 3, 24, 24]");
        let error = |keep: Tensor| network.tokens(&x, Some(&keep), Mode::Eval).unwrap_err().to_string();
        assert_eq!(
            error(Tensor::from_slice2(&[[0_i64, 9], [1, 2]])),
            "keep: expected indices in 0..9, found 0..=9"
        );
        assert_eq!(error(Tensor::from_slice2(&[[0_i64, 1]])), "keep: expected [2, _], found [1, 2]");
        assert!(error(Tensor::from_slice2(&[[0_f32], [1.0]])).contains("kind Int64"));
        assert!(error(Tensor::zeros([2, 0], (Kind::Int64, Device::Cpu))).contains("at least one token"));
    }

    #[test]
    fn rejects_sizes_that_do_not_fit() {
        let store = nn::VarStore::new(Device::Cpu);
        for (config, message) in [
            (VitConfig { image_size: 30, ..small() }, "image_size = 30: a multiple of patch_size = 8"),
            (VitConfig { heads: 5, ..small() }, "heads = 5: a divisor of dim = 24"),
            (VitConfig { depth: 0, ..small() }, "depth = 0: a size of at least 1"),
            (VitConfig { mlp_ratio: 0.0, ..small() }, "mlp_ratio = 0: a positive multiple of dim"),
            (VitConfig { drop_path: 1.0, ..small() }, "drop_path = 1: a probability in [0, 1)"),
        ] {
            assert_eq!(Vit::new(store.root(), &config).unwrap_err().to_string(), message);
        }
    }
}
