//! MAE: the encoder sees a quarter of an image's patches, and a small decoder paints the others.
//!
//! He, Chen, Xie, Li, Dollár and Girshick 2022, *Masked Autoencoders Are Scalable Vision Learners*, section
//! 3:
//!
//! ```text
//! keep = a random (1 - r) of the T patches        z = encoder(x_keep)        no mask tokens in the encoder
//! y = decoder(z and a mask token for every hidden patch, each with its position)
//! L = mean over hidden patches of |y_t - x_t|^2,  x_t of mean 0 and variance 1
//! ```
//!
//! The decoder is thrown away after training. It starts from Xavier's uniform distribution, and its positions
//! are fixed, as in the authors' code; these are computed for the grid at hand, so that images may be oblong
//! and of any size that the encoder takes. The encoder keeps its own start and its own positions: those of the
//! authors are `positions = "sine-cosine"` and `weights = "xavier"` of the ViT. The class token goes through
//! encoder and decoder, as there, and is not predicted from.
//!
//! The paper trains with AdamW (betas 0.9 and 0.95, weight decay 0.05, base rate 1.5e-4 for a batch of 256,
//! warm-up of 40 epochs; appendix A.1) on crops of 0.2 to 1 of the area, mirrored, without changes of colour.

use crate::masked::patches::{MaskedReconstruction, grid, patchify};
use crate::masked::pixel_loss::{MaskedPixelLoss, PixelDistance, PixelTarget};
use crate::masked::token_decoder::{TokenDecoder, TokenDecoderConfig, weights};
use crate::views::one_view;
use selfsup_core::layers::xavier_uniform;
use selfsup_core::transformer::gather_tokens;
use selfsup_core::{
    Error, ImageViews, Kind, Loss, Mode, Objective, PatchEncoder, Pictures, Result, Site, Step, Tensor,
    check_shape, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`Mae`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MaeConfig {
    /// The share of the patches that are hidden; 0.75 (section 3, figure 5).
    pub mask_ratio: f64,
    /// What is predicted of a patch; its normalised pixels (section 3, table 1d).
    pub target: PixelTarget,
    /// The decoder; 8 blocks of 512 (section 4.1, table 1), with 16 heads in the authors' code.
    pub decoder: TokenDecoderConfig,
}

impl Default for MaeConfig {
    fn default() -> Self {
        MaeConfig {
            mask_ratio: 0.75,
            target: PixelTarget::Normalized,
            decoder: TokenDecoderConfig { dim: 512, depth: 8, heads: 16, mlp_ratio: 4.0 },
        }
    }
}

/// The MAE objective: a decoder and the loss on hidden pixels.
#[derive(Debug)]
pub struct Mae {
    decoder: TokenDecoder,
    loss: MaskedPixelLoss,
    mask_ratio: f64,
}

impl Mae {
    /// Makes the decoder for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the share is not between 0 and 1, a size of the decoder cannot work, or patches
    /// of one value are to be normalised.
    pub fn new<E: PatchEncoder + ?Sized>(site: &Site<E>, config: &MaeConfig) -> Result<Self> {
        let MaeConfig { mask_ratio, target, ref decoder } = *config;
        if !(mask_ratio > 0.0 && mask_ratio < 1.0) {
            return Err(Error::config("mask_ratio", mask_ratio, "a share between 0 and 1"));
        }
        let patch = site.encoder.patch_size();
        let values = patch * patch * site.encoder.channels();
        if target == PixelTarget::Normalized && values < 2 {
            return Err(Error::config(
                "target",
                "normalized",
                "raw, as a patch of one value has no deviation",
            ));
        }
        let path = site.path() / "decoder";
        let decoder = TokenDecoder::new(&path, site.dim(), values, decoder, "decoder")?;
        for (_, weight) in weights(site.store, &site.name("decoder.")) {
            xavier_uniform(&weight);
        }
        let loss = MaskedPixelLoss { target, distance: PixelDistance::Squared };
        Ok(Mae { decoder, loss, mask_ratio })
    }

    /// Hides patches of images as in training and predicts them, to be looked at.
    ///
    /// # Shapes
    /// `[N, C, H, W]` to the same.
    ///
    /// # Errors
    /// As [`Objective::loss`].
    pub fn reconstruct<E: PatchEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
    ) -> Result<MaskedReconstruction> {
        tch::no_grad(|| {
            let (order, kept) = self.shuffle(images, encoder.patch_size())?;
            let Painted { prediction, patches, mask } =
                self.paint(encoder, images, &order, kept, Mode::Eval)?;
            let pixels = self.loss.pixels(&prediction, &patches);
            MaskedReconstruction::new(images, &mask, &pixels, encoder.patch_size())
        })
    }

    /// A random order of each image's patches `[N, T]`, and how many of the first are kept.
    fn shuffle(&self, images: &Tensor, patch: i64) -> Result<(Tensor, i64)> {
        let [rows, columns] = grid(images, patch)?;
        let t = rows * columns;
        // What rounding leaves below a whole number is one: 100 patches at 0.9 keep 10, not 9.
        let kept = (t as f64 * (1.0 - self.mask_ratio) + 1e-9).floor() as i64;
        if kept < 1 || kept >= t {
            return Err(Error::Shape {
                name: "images".to_owned(),
                expected: format!(
                    "so many patches that mask_ratio = {} hides some and keeps some",
                    self.mask_ratio
                ),
                found: format!("{t} patches, {kept} kept"),
            });
        }
        let noise = Tensor::rand([images.size()[0], t], (Kind::Float, images.device()));
        Ok((noise.argsort(1, false), kept))
    }

    /// Predicts all patches from the first `kept` of `order`.
    fn paint<E: PatchEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
        order: &Tensor,
        kept: i64,
        mode: Mode,
    ) -> Result<Painted> {
        let patch = encoder.patch_size();
        let patches = patchify(images, patch)?; // [N, T, P]
        let [n, t] = check_shape("order", order, [-1, -1])?;
        let keep = order.narrow(1, 0, kept); // [N, K]
        let restore = order.argsort(1, false); // [N, T], where in the order a patch stands
        let z = encoder.tokens(images, Some(&keep), mode)?; // [N, 1 + K, D]
        let z = self.decoder.embed(&z); // [N, 1 + K, d]
        let (class, seen) = (z.narrow(1, 0, 1), z.narrow(1, 1, kept));
        let all = Tensor::cat(&[seen, self.decoder.hidden(n, t - kept)], 1); // [N, T, d], in the order
        let all = gather_tokens(&all, &restore) + self.decoder.positions(grid(images, patch)?);
        let decoded = self.decoder.decode(&Tensor::cat(&[class, all], 1), mode); // [N, 1 + T, P]
        Ok(Painted { prediction: decoded.narrow(1, 1, t), patches, mask: restore.ge(kept) })
    }
}

/// What the decoder says `[N, T, P]`, what is true `[N, T, P]`, and what was hidden `[N, T]`.
struct Painted {
    prediction: Tensor,
    patches: Tensor,
    mask: Tensor,
}

impl<E: PatchEncoder + ?Sized> Objective<E> for Mae {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let images = one_view(batch, encoder.channels(), "MAE")?;
        let (order, kept) = self.shuffle(images, encoder.patch_size())?;
        let Painted { prediction, patches, mask } = self.paint(encoder, images, &order, kept, Mode::Train)?;
        Ok(Loss::new(self.loss.forward(&prediction, &patches, &mask)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::masked::reference::{assert_sums, batch, built, fill, wave};
    use selfsup_core::{Device, TensorExt, TokenEncoder, nn};
    use selfsup_encoders::Vit;

    fn config() -> MaeConfig {
        let decoder = TokenDecoderConfig { dim: 8, depth: 1, heads: 2, mlp_ratio: 4.0 };
        MaeConfig { decoder, ..MaeConfig::default() }
    }

    fn setup() -> (nn::VarStore, Vit, Mae) {
        built(|site| Mae::new(site, &config()).unwrap())
    }

    fn step() -> Step<'static> {
        Step::single(0, 1, 0, 0)
    }

    // from lightly.models.modules import MaskedVisionTransformerTIMM
    // from lightly.models.modules import masked_vision_transformer_decoder_timm as decoder
    // v = vit(); m = MaskedVisionTransformerTIMM(vit=v); v.pos_embed.requires_grad_()
    // d = decoder.MaskedVisionTransformerDecoderTIMM(num_patches=9, embed_dim=8, depth=1, num_heads=2)
    // embed, output = torch.nn.Linear(12, 8), torch.nn.Linear(8, 32)
    // named = {f"encoder.{n}": p for n, p in v.named_parameters()}
    // for prefix, part in [("", d), ("embed.", embed), ("output.", output)]:
    //     named |= {f"objective.decoder.{prefix}{n}": p for n, p in part.named_parameters()
    //         if n != "pos_embed"}
    // fill(named)
    // images = wave(0., [2, 2, 12, 12])
    // order = torch.tensor([[4, 0, 7, 8, 2, 1, 6, 5, 3], [5, 8, 1, 0, 2, 3, 4, 6, 7]])
    // keep = torch.cat([torch.zeros(2, 1, dtype=torch.long), order[:, :2] + 1], 1)
    // hidden = order[:, 2:] + 1
    // x = utils.repeat_token(d.mask_token, (2, 10))
    // x = utils.set_at_index(x, keep, embed(m.encode(images, idx_keep=keep)))
    // y = output(utils.get_at_index(d(x), hidden))
    // target = utils.normalize_mean_var(utils.get_at_index(utils.patchify(images, 4), hidden - 1))
    // l = torch.nn.functional.mse_loss(y, target); l.backward()
    // print(l.item(), sums(output(d(x))[:, 1:]), {n: sums(p.grad) for n, p in named.items()})
    #[test]
    fn equals_lightlys_with_gradients() {
        let (store, encoder, mae) = setup();
        fill(&store);
        let order = Tensor::from_slice2(&[[4_i64, 0, 7, 8, 2, 1, 6, 5, 3], [5, 8, 1, 0, 2, 3, 4, 6, 7]]);
        let painted = mae.paint(&encoder, &wave(0.0, &[2, 2, 12, 12]), &order, 2, Mode::Train).unwrap();
        let Painted { prediction, patches, mask } = painted;
        assert_sums("prediction", &prediction, [-15.631_761, 6.981_165]);
        let loss = mae.loss.forward(&prediction, &patches, &mask).unwrap();
        assert!((loss.scalar().unwrap() - 1.181_807).abs() < 1e-5);
        loss.backward();
        for (name, expected) in [
            ("encoder.cls_token", [0.0, 0.001_615_6]),
            ("encoder.pos_embed", [0.0, 0.013_083_1]),
            ("encoder.patch_embed.proj.weight", [0.0, -0.002_040_8]),
            ("encoder.blocks.0.attn.qkv.weight", [-0.000_621_6, 0.002_460_4]),
            ("encoder.norm.weight", [0.004_899_8, -0.001_042_9]),
            ("objective.decoder.embed.weight", [0.0, -0.019_005_5]),
            ("objective.decoder.mask_token", [0.0, -0.002_533_9]),
            ("objective.decoder.blocks.0.mlp.fc1.weight", [0.150_502_1, -0.728_695_5]),
            ("objective.decoder.output.bias", [-0.069_159_4, -0.304_956_8]),
        ] {
            assert_sums(name, &store.variables()[name].grad(), expected);
        }
    }

    #[test]
    fn only_hidden_patches_count_and_only_kept_ones_are_seen() {
        let (_store, encoder, mae) = setup();
        let order = Tensor::from_slice2(&[[4_i64, 0, 7, 8, 2, 1, 6, 5, 3]]);
        let images = wave(0.0, &[1, 2, 12, 12]);
        let before = mae.paint(&encoder, &images, &order, 2, Mode::Eval).unwrap();
        let hidden = before.mask.get(0).to_kind(Kind::Int64);
        assert_eq!(Vec::<i64>::try_from(hidden).unwrap(), [0, 1, 1, 1, 0, 1, 1, 1, 1]);
        // The last patch is hidden: what stands there does not change what is predicted.
        let changed = images.copy();
        let _ = changed.narrow(2, 8, 4).narrow(3, 8, 4).fill_(9.0);
        let after = mae.paint(&encoder, &changed, &order, 2, Mode::Eval).unwrap();
        assert_eq!(before.prediction, after.prediction);
        let _ = changed.narrow(2, 0, 4).narrow(3, 0, 4).fill_(9.0);
        let seen = mae.paint(&encoder, &changed, &order, 2, Mode::Eval).unwrap();
        assert_ne!(before.prediction, seen.prediction);
    }

    #[test]
    fn the_order_of_the_kept_patches_does_not_matter() {
        let (_store, encoder, mae) = setup();
        let images = wave(0.0, &[1, 2, 12, 12]);
        let paint = |order: [i64; 9]| {
            let order = Tensor::from_slice2(&[order]);
            mae.paint(&encoder, &images, &order, 3, Mode::Eval).unwrap().prediction
        };
        let difference = paint([4, 0, 7, 8, 2, 1, 6, 5, 3]) - paint([7, 4, 0, 1, 2, 3, 5, 6, 8]);
        assert!(difference.abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn the_mask_is_random_and_hides_three_quarters() {
        let (_store, _encoder, mae) = setup();
        let images = Tensor::zeros([4000, 2, 16, 8], (Kind::Float, Device::Cpu));
        let (order, kept) = mae.shuffle(&images, 4).unwrap();
        assert_eq!((order.size(), kept), (vec![4000, 8], 2));
        let kept =
            order.narrow(1, 0, 2).flatten(0, 1).bincount::<Tensor>(None, 8).to_kind(Kind::Double) / 4000.0;
        // 5 standard deviations of a share of 0.25 in 4000 draws
        assert!((kept - 0.25).abs().max().scalar().unwrap() < 5.0 * (0.25 * 0.75 / 4000.0_f64).sqrt());
        let mae = Mae { mask_ratio: 0.9, ..mae };
        let images = Tensor::zeros([1, 2, 40, 40], (Kind::Float, Device::Cpu));
        assert_eq!(mae.shuffle(&images, 4).unwrap().1, 10);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut mae) = setup();
        let images = wave(0.0, &[3, 2, 12, 12]);
        mae.loss(&encoder, &batch(vec![images]), &step()).unwrap().total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn oblong_and_larger_images_are_painted_whole() {
        let (_store, encoder, mut mae) = setup();
        for (height, width) in [(8, 20), (16, 16)] {
            let images = wave(0.0, &[2, 2, height, width]);
            let picture = mae.reconstruct(&encoder, &images).unwrap();
            assert_eq!(picture.prediction.size(), images.size());
            assert_eq!(picture.input, images);
            let shown = picture.mask.logical_not();
            let kept = (height * width / 16) / 4;
            assert_eq!(i64::try_from(shown.sum(Kind::Int64)).unwrap(), 2 * kept * 16);
            assert_eq!(picture.filled().masked_select(&shown), images.masked_select(&shown));
            assert!(!picture.prediction.requires_grad());
            let loss = mae.loss(&encoder, &batch(vec![images]), &step()).unwrap();
            assert!(loss.total.scalar().unwrap().is_finite());
        }
    }

    #[test]
    fn the_decoder_starts_from_xaviers_distribution() {
        let check = |store: &nn::VarStore, prefix: &str| {
            let weights = weights(store, prefix);
            assert_eq!(weights.len(), 6); // embed, four of the block, output
            for (name, weight) in weights {
                let bound = (6.0 / (weight.size()[0] + weight.size()[1]) as f64).sqrt();
                let largest = weight.abs().max().scalar().unwrap();
                assert!(largest <= bound && largest > 0.8 * bound, "{name}: {largest} of {bound}");
            }
        };
        let (store, ..) = setup();
        check(&store, "objective.decoder.");
        // As a part of a combination.
        let (store, ..) = built(|site| Mae::new(&site.part("x").unwrap(), &config()).unwrap());
        check(&store, "objective.x.decoder.");
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (_store, encoder, mut mae) = setup();
        let images = |shape: [i64; 4]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut error =
            |views: Vec<Tensor>| mae.loss(&encoder, &batch(views), &step()).unwrap_err().to_string();
        let good = [2, 2, 12, 12];
        assert_eq!(error(vec![images(good), images(good)]), "views = 2: one view an image for MAE");
        assert_eq!(
            error(vec![images([2, 3, 12, 12])]),
            "view 0: expected [_, 2, _, _], found [2, 3, 12, 12]"
        );
        assert_eq!(
            error(vec![images([2, 2, 12, 10])]),
            "images: expected sides that are multiples of the patch's 4 pixels, found 12 x 10"
        );
        assert_eq!(
            error(vec![images([0, 2, 12, 12])]),
            "view 0: expected at least one image with pixels, found [0, 2, 12, 12]"
        );
        assert_eq!(
            error(vec![images([2, 2, 4, 8])]),
            "images: expected so many patches that mask_ratio = 0.75 hides some and keeps some, \
             found 2 patches, 0 kept"
        );
        assert!(encoder.tokens(&images(good), None, Mode::Eval).is_ok());
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        for mask_ratio in [0.0, 1.0, -0.5, f64::NAN] {
            built(|site| {
                let error = Mae::new(site, &MaeConfig { mask_ratio, ..config() }).unwrap_err().to_string();
                assert_eq!(error, format!("mask_ratio = {mask_ratio}: a share between 0 and 1"));
            });
        }
        built(|site| {
            let decoder = TokenDecoderConfig { heads: 3, ..config().decoder };
            let error = Mae::new(site, &MaeConfig { decoder, ..config() }).unwrap_err().to_string();
            assert_eq!(error, "decoder.heads = 3: a divisor of dim = 8");
        });
    }
}
