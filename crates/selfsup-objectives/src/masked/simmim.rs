//! SimMIM: blocks of patches give way to a learned token, and a single linear layer paints them.
//!
//! Xie, Zhang, Cao, Lin, Bao, Yao, Dai and Hu 2022, *SimMIM: A Simple Framework for Masked Image Modeling*,
//! section 3:
//!
//! ```text
//! M = a random r of the blocks of m x m pixels       z = encoder(x with the mask token for the patches of M)
//! y = W z + b for every patch      L = mean over the pixels of M of |y - x|      (equation 1)
//! ```
//!
//! Pixels are predicted as they are, not normalised by patch. The head is the authors' 1 x 1 convolution and
//! pixel shuffle, written as one linear layer on tokens, with the same start. Where a side of the image is no
//! multiple of a block, the blocks at the right and lower edge are cut; the authors refuse such images. The
//! ViT keeps its absolute positions, where theirs has relative ones.
//!
//! The paper trains ViT-B with AdamW (betas 0.9 and 0.999, weight decay 0.05, base rate 1e-4 for a batch of
//! 512, warm-up of 10 epochs; section 4.1 and the authors' recipe) on crops of 0.67 to 1 of the area,
//! mirrored, without changes of colour.

use crate::masked::patches::{MaskedReconstruction, grid, patchify};
use crate::masked::pixel_loss::{MaskedPixelLoss, PixelDistance, PixelTarget};
use crate::views::one_view;
use selfsup_core::layers::{Bias, Linear, normal};
use selfsup_core::{
    Error, ImageViews, Kind, Loss, Mode, Objective, PatchEncoder, Pictures, Result, Site, Step, Tensor, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`SimMim`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimMimConfig {
    /// The share of the blocks that are hidden, rounded up to whole blocks; 0.6 (section 4.1.2).
    pub mask_ratio: f64,
    /// The side of a block in pixels, a multiple of the encoder's patches; 32 (section 4.1.2).
    pub mask_patch_size: i64,
    /// How the distance of a pixel is measured; absolute (section 3.4).
    pub distance: PixelDistance,
}

impl Default for SimMimConfig {
    fn default() -> Self {
        SimMimConfig { mask_ratio: 0.6, mask_patch_size: 32, distance: PixelDistance::Absolute }
    }
}

/// The SimMIM objective: a mask token, a linear head and the loss on hidden pixels.
#[derive(Debug)]
pub struct SimMim {
    mask_token: Tensor,
    head: Linear,
    loss: MaskedPixelLoss,
    mask_ratio: f64,
    /// The side of a block in patches.
    block: i64,
}

impl SimMim {
    /// Makes the mask token and the head for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`] when the share is not between 0 and 1, or a block is not made of whole patches.
    pub fn new<E: PatchEncoder + ?Sized>(site: &Site<E>, config: &SimMimConfig) -> Result<Self> {
        let SimMimConfig { mask_ratio, mask_patch_size, distance } = *config;
        if !(mask_ratio > 0.0 && mask_ratio < 1.0) {
            return Err(Error::config("mask_ratio", mask_ratio, "a share between 0 and 1"));
        }
        let patch = site.encoder.patch_size();
        if mask_patch_size < 1 || mask_patch_size % patch != 0 {
            let expected = format!("a multiple of the encoder's patch_size = {patch}");
            return Err(Error::config("mask_patch_size", mask_patch_size, expected));
        }
        let mask_token = site.path().zeros("mask_token", &[site.dim()]);
        normal(&mask_token, 0.02);
        let values = patch * patch * site.encoder.channels();
        Ok(SimMim {
            mask_token,
            head: Linear::new(site.path() / "head", site.dim(), values, Bias::Yes),
            loss: MaskedPixelLoss { target: PixelTarget::Raw, distance },
            mask_ratio,
            block: mask_patch_size / patch,
        })
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
            let mask = self.mask(images, encoder.patch_size())?;
            let prediction = self.paint(encoder, images, &mask, Mode::Eval)?;
            MaskedReconstruction::new(images, &mask, &prediction, encoder.patch_size())
        })
    }

    /// Which patches are hidden, `[N, T]` Bool: random blocks of each image.
    fn mask(&self, images: &Tensor, patch: i64) -> Result<Tensor> {
        let [rows, columns] = grid(images, patch)?;
        let block = self.block;
        let (down, across) = ((rows + block - 1) / block, (columns + block - 1) / block);
        let blocks = down * across;
        // What rounding leaves above a whole number is one.
        let hidden = (blocks as f64 * self.mask_ratio - 1e-9).ceil() as i64;
        if hidden < 1 || hidden >= blocks {
            return Err(Error::Shape {
                name: "images".to_owned(),
                expected: format!(
                    "so many blocks that mask_ratio = {} hides some and shows some",
                    self.mask_ratio
                ),
                found: format!("{blocks} blocks of {} pixels, {hidden} hidden", block * patch),
            });
        }
        let n = images.size()[0];
        let noise = Tensor::rand([n, blocks], (Kind::Float, images.device()));
        let rank = noise.argsort(1, false).argsort(1, false); // [N, blocks]
        let mask = rank.lt(hidden).reshape([n, down, across]);
        let mask = mask.repeat_interleave_self_int(block, 1, None).repeat_interleave_self_int(block, 2, None);
        Ok(mask.narrow(1, 0, rows).narrow(2, 0, columns).flatten(1, 2))
    }

    /// Predicts all patches where those of `mask` are hidden, `[N, T, P]`.
    fn paint<E: PatchEncoder + ?Sized>(
        &self,
        encoder: &E,
        images: &Tensor,
        mask: &Tensor,
        mode: Mode,
    ) -> Result<Tensor> {
        let z = encoder.tokens_masked(images, mask, &self.mask_token, mode)?; // [N, 1 + T, D]
        Ok(self.head.forward(&z.narrow(1, 1, mask.size()[1])))
    }
}

impl<E: PatchEncoder + ?Sized> Objective<E> for SimMim {
    type Batch = ImageViews;

    fn pictures(&self, encoder: &E, batch: &ImageViews) -> Result<Option<Pictures>> {
        let made = batch.views.first().map(|view| self.reconstruct(encoder, view)).transpose()?;
        Ok(made.map(Pictures::from))
    }

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let images = one_view(batch, encoder.channels(), "SimMIM")?;
        let mask = self.mask(images, encoder.patch_size())?; // [N, T]
        let prediction = self.paint(encoder, images, &mask, Mode::Train)?; // [N, T, P]
        let patches = patchify(images, encoder.patch_size())?; // [N, T, P]
        Ok(Loss::new(self.loss.forward(&prediction, &patches, &mask)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::masked::reference::{assert_sums, batch, built, fill, wave};
    use selfsup_core::{Device, TensorExt, nn};
    use selfsup_encoders::Vit;

    fn config() -> SimMimConfig {
        SimMimConfig { mask_patch_size: 4, ..SimMimConfig::default() }
    }

    fn setup() -> (nn::VarStore, Vit, SimMim) {
        built(|site| SimMim::new(site, &config()).unwrap())
    }

    fn step() -> Step<'static> {
        Step::single(0, 1, 0, 0)
    }

    // from lightly.models.modules import MaskedVisionTransformerTIMM
    // v = vit(); token = torch.nn.Parameter(torch.zeros(1, 1, 12)); head = torch.nn.Linear(12, 32)
    // m = MaskedVisionTransformerTIMM(vit=v, mask_token=token); v.pos_embed.requires_grad_()
    // named = {f"encoder.{n}": p for n, p in v.named_parameters()} | {"objective.mask_token": token,
    //     "objective.head.weight": head.weight, "objective.head.bias": head.bias}
    // fill(named)
    // images = wave(0., [2, 2, 12, 12])
    // mask = torch.tensor([[1, 0, 1, 1, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 1, 1, 1, 1]]).bool()
    // y = head(m.encode(images, mask=torch.cat([torch.zeros(2, 1).bool(), mask], 1))[:, 1:])
    // # the authors' loss, on images
    // w = mask.reshape(2, 3, 3).repeat_interleave(4, 1).repeat_interleave(4, 2)[:, None]
    // l = ((images - utils.unpatchify(y, 4, 2)).abs() * w).sum() / (w.sum() + 1e-5) / 2; l.backward()
    // print(l.item(), sums(y), {n: sums(p.grad) for n, p in named.items()})
    #[test]
    fn equals_the_authors_loss_on_lightlys_encoder_with_gradients() {
        let (store, encoder, simmim) = setup();
        fill(&store);
        let hidden = [[1, 0, 1, 1, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 1, 1, 1, 1_i64]];
        let mask = Tensor::from_slice2(&hidden).to_kind(Kind::Bool);
        let images = wave(0.0, &[2, 2, 12, 12]);
        let prediction = simmim.paint(&encoder, &images, &mask, Mode::Train).unwrap();
        assert_sums("prediction", &prediction, [-18.401_009, -2.544_593]);
        let loss = simmim.loss.forward(&prediction, &patchify(&images, 4).unwrap(), &mask).unwrap();
        assert!((loss.scalar().unwrap() - 0.946_649).abs() < 1e-5);
        loss.backward();
        for (name, expected) in [
            ("encoder.cls_token", [0.0, -0.000_932_0]),
            ("encoder.pos_embed", [0.0, 0.086_585_9]),
            ("encoder.patch_embed.proj.weight", [0.0, 0.000_955_0]),
            ("encoder.blocks.1.mlp.fc2.weight", [0.0, -0.576_659_3]),
            ("objective.mask_token", [0.0, 0.011_477_6]),
            ("objective.head.weight", [-0.081_444_8, -1.646_838_6]),
            ("objective.head.bias", [-0.043_75, -0.042_635_6]),
        ] {
            assert_sums(name, &store.variables()[name].grad(), expected);
        }
    }

    #[test]
    fn equals_a_loop_over_hidden_pixels() {
        let (_store, encoder, simmim) = setup();
        let images = wave(0.0, &[2, 2, 8, 16]);
        let mask = simmim.mask(&images, 4).unwrap();
        let prediction = simmim.paint(&encoder, &images, &mask, Mode::Eval).unwrap();
        let picture = MaskedReconstruction::new(&images, &mask, &prediction, 4).unwrap();
        let (mut sum, mut count) = (0.0, 0.0);
        for n in 0..2 {
            for y in 0..8 {
                for x in (0..16).filter(|&x| picture.mask.double_value(&[n, 0, y, x]) == 1.0) {
                    for c in 0..2 {
                        let at = [n, c, y, x];
                        sum += (picture.prediction.double_value(&at) - images.double_value(&at)).abs();
                        count += 1.0;
                    }
                }
            }
        }
        assert_eq!(count, 2.0 * 5.0 * 32.0, "0.6 of 8 patches, rounded up, in each of two images");
        let loss = simmim.loss.forward(&prediction, &patchify(&images, 4).unwrap(), &mask).unwrap();
        assert!((loss.scalar().unwrap() - sum / count).abs() < 1e-5);
    }

    #[test]
    fn oblong_and_larger_images_are_painted_whole() {
        let (_store, encoder, mut simmim) = setup();
        for (height, width) in [(8, 20), (16, 16)] {
            let images = wave(0.0, &[2, 2, height, width]);
            let picture = simmim.reconstruct(&encoder, &images).unwrap();
            assert_eq!(picture.prediction.size(), images.size());
            assert_eq!(picture.mask.size(), [2, 1, height, width]);
            let shown = picture.mask.logical_not();
            assert_eq!(picture.filled().masked_select(&shown), images.masked_select(&shown));
            assert!(!picture.prediction.requires_grad());
            let loss = simmim.loss(&encoder, &batch(vec![images]), &step()).unwrap();
            assert!(loss.total.scalar().unwrap().is_finite());
        }
    }

    #[test]
    fn blocks_are_hidden_whole_and_cut_at_the_edges() {
        built(|site| {
            let simmim = SimMim::new(site, &SimMimConfig { mask_patch_size: 8, ..config() }).unwrap();
            let images = Tensor::zeros([500, 2, 12, 20], (Kind::Float, Device::Cpu));
            // 2 x 3 blocks of 2 x 2 patches
            let mask = simmim.mask(&images, 4).unwrap().reshape([500, 3, 5]).to_kind(Kind::Int64);
            let corners = |rows: [i64; 2], columns: [i64; 3]| {
                let rows = mask.index_select(1, &Tensor::from_slice(&rows));
                rows.index_select(2, &Tensor::from_slice(&columns))
            };
            assert_eq!(corners([0, 2], [0, 2, 4]), corners([1, 2], [1, 3, 4]));
            let hidden = corners([0, 2], [0, 2, 4]).flatten(1, 2); // [500, 6]
            let four = Tensor::full([500], 4, (Kind::Int64, Device::Cpu)); // 0.6 of 6 blocks, rounded up
            assert_eq!(hidden.sum_dim_intlist([1_i64].as_slice(), false, None), four);
            let share = hidden.to_kind(Kind::Double).mean_dim([0_i64].as_slice(), false, None);
            // 5 standard deviations of a share of 2 / 3 in 500 draws
            let bound = 5.0 * (2.0 / 9.0 / 500.0_f64).sqrt();
            assert!((share - 2.0 / 3.0).abs().max().scalar().unwrap() < bound);
        });
    }

    #[test]
    fn what_is_hidden_does_not_change_the_prediction() {
        let (_store, encoder, simmim) = setup();
        let images = wave(0.0, &[1, 2, 12, 12]);
        let mask = Tensor::arange(9, (Kind::Int64, Device::Cpu)).eq(8).unsqueeze(0);
        let before = simmim.paint(&encoder, &images, &mask, Mode::Eval).unwrap();
        let changed = images.copy();
        let _ = changed.narrow(2, 8, 4).narrow(3, 8, 4).fill_(9.0);
        assert_eq!(simmim.paint(&encoder, &changed, &mask, Mode::Eval).unwrap(), before);
        let _ = changed.narrow(2, 0, 4).narrow(3, 0, 4).fill_(9.0);
        assert_ne!(simmim.paint(&encoder, &changed, &mask, Mode::Eval).unwrap(), before);
    }

    #[test]
    fn gradients_reach_every_parameter() {
        let (store, encoder, mut simmim) = setup();
        let images = wave(0.0, &[3, 2, 12, 12]);
        simmim.loss(&encoder, &batch(vec![images]), &step()).unwrap().total.backward();
        assert_gradients(&store, &[]);
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (_store, encoder, mut simmim) = setup();
        let images = |shape: [i64; 4]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut error =
            |views: Vec<Tensor>| simmim.loss(&encoder, &batch(views), &step()).unwrap_err().to_string();
        let good = [2, 2, 12, 12];
        assert_eq!(error(vec![images(good), images(good)]), "views = 2: one view an image for SimMIM");
        assert_eq!(
            error(vec![images([2, 1, 12, 12])]),
            "view 0: expected [_, 2, _, _], found [2, 1, 12, 12]"
        );
        assert_eq!(
            error(vec![images([0, 2, 12, 12])]),
            "view 0: expected at least one image with pixels, found [0, 2, 12, 12]"
        );
        assert_eq!(
            error(vec![images([2, 2, 10, 12])]),
            "images: expected sides that are multiples of the patch's 4 pixels, found 10 x 12"
        );
        assert_eq!(
            error(vec![images([2, 2, 4, 8])]),
            "images: expected so many blocks that mask_ratio = 0.6 hides some and shows some, \
             found 2 blocks of 4 pixels, 2 hidden"
        );
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        for (config, message) in [
            (SimMimConfig { mask_ratio: 1.0, ..config() }, "mask_ratio = 1: a share between 0 and 1"),
            (
                SimMimConfig { mask_patch_size: 6, ..config() },
                "mask_patch_size = 6: a multiple of the encoder's patch_size = 4",
            ),
            (
                SimMimConfig { mask_patch_size: 0, ..config() },
                "mask_patch_size = 0: a multiple of the encoder's patch_size = 4",
            ),
        ] {
            built(|site| {
                assert_eq!(SimMim::new(site, &config).unwrap_err().to_string(), message);
            });
        }
    }
}
