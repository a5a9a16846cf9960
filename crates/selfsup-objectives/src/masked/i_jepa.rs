//! I-JEPA: from a block of an image's patches, the features of other blocks are predicted, as a moving
//! average of the encoder sees them.
//!
//! Assran, Duval, Misra, Bojanowski, Vincent, Rabbat, LeCun and Ballas 2023, *Self-Supervised Learning from
//! Images with a Joint-Embedding Predictive Architecture*, section 3:
//!
//! ```text
//! s_y = layer norm of teacher(all patches)          s_x = encoder(patches of the context)
//! s^_i = predictor(s_x, a mask token with its position for every patch of target block i)       i = 1 .. M
//! L = mean over blocks, patches and features of smooth-L1(s^, s_y)
//! teacher <- m teacher + (1 - m) encoder
//! ```
//!
//! The momentum `m` rises linearly to 1. The distance is the authors' code's (the paper writes squares), as
//! is the norm on the teacher's tokens. The predictor starts from N(0, 0.02^2) with the outputs of the
//! branches of block l divided by sqrt(2 l); its positions are fixed sines and cosines of the grid at hand,
//! so that images may be oblong and of any size that the encoder takes. How masks are drawn, and where that
//! departs from the authors' code, stands at [`block_masks`](crate::masked::block_masks).
//!
//! The paper's ViT has no class token. Here it has one, which attends with the patches and is neither given
//! to the predictor nor predicted: average pooling is what makes features of this method.
//!
//! The paper trains with AdamW (rate 1e-3 for a batch of 2048 after a warm-up of 15 epochs, weight decay from
//! 0.04 up to 0.4, which is the schedule's `final_weight_decay`) on crops of 0.3 to 1 of the area, without
//! mirrors and changes of colour (appendix A.1).

use crate::masked::block_masks::{BlockMasksConfig, Blocks};
use crate::masked::patches::grid;
use crate::masked::token_decoder::{TokenDecoder, TokenDecoderConfig, weights};
use crate::momentum::check_momentum;
use crate::views::one_view;
use selfsup_core::ema::Buffers;
use selfsup_core::transformer::gather_tokens;
use selfsup_core::{
    Ema, ImageViews, Loss, Mode, Objective, PatchEncoder, Result, Site, Step, Tensor, check_shape, nn, tch,
};
use serde::{Deserialize, Serialize};

/// Settings of [`IJepa`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IJepaConfig {
    /// How the blocks are drawn.
    pub masks: BlockMasksConfig,
    /// The teacher's momentum at the start; 0.996 (appendix A.1). It rises to 1.
    pub momentum: f64,
    /// The predictor; 384 wide, with the encoder's number of heads, 6 blocks for a ViT-B/16 and 12 for larger
    /// ones (appendix A.1).
    pub predictor: TokenDecoderConfig,
}

impl Default for IJepaConfig {
    fn default() -> Self {
        IJepaConfig {
            masks: BlockMasksConfig::default(),
            momentum: 0.996,
            predictor: TokenDecoderConfig { dim: 384, depth: 6, heads: 12, mlp_ratio: 4.0 },
        }
    }
}

/// The I-JEPA objective: a teacher, a predictor and the masks.
#[derive(Debug)]
pub struct IJepa<E: ?Sized> {
    teacher: Box<E>,
    ema: Ema,
    predictor: TokenDecoder,
    masks: BlockMasksConfig,
    momentum: f64,
}

impl<E: PatchEncoder + ?Sized> IJepa<E> {
    /// Makes the teacher and the predictor for the site's encoder.
    ///
    /// # Errors
    /// [`selfsup_core::Error::Config`] with the field that cannot work.
    pub fn new(site: &Site<E>, config: &IJepaConfig) -> Result<Self> {
        let IJepaConfig { masks, momentum, predictor } = config;
        masks.check()?;
        check_momentum(*momentum)?;
        let path = site.path() / "predictor";
        let predictor = TokenDecoder::new(&path, site.dim(), site.dim(), predictor, "predictor")?;
        let blocks = site.name("predictor.blocks.");
        for (name, weight) in weights(site.store, &blocks) {
            if name.ends_with("attn.proj.weight") || name.ends_with("mlp.fc2.weight") {
                let block = name.strip_prefix(&blocks).and_then(|rest| rest.split('.').next());
                let block: f64 = block.and_then(|number| number.parse().ok()).unwrap_or(0.0);
                tch::no_grad(|| drop(weight.shallow_clone().g_div_scalar_((2.0 * (block + 1.0)).sqrt())));
            }
        }
        let teacher = (site.twin)(site.path() / "teacher" / "encoder")?;
        let ema = site.tie_teacher(&[], Buffers::Copy)?;
        Ok(IJepa { teacher, ema, predictor, masks: masks.clone(), momentum: *momentum })
    }

    /// What the teacher says of all patches, each of mean 0 and variance 1, `[N, T, D]`.
    fn targets(&self, images: &Tensor, t: i64) -> Result<Tensor> {
        tch::no_grad(|| {
            let h = self.teacher.tokens(images, None, Mode::Eval)?.narrow(1, 1, t); // [N, T, D]
            Ok(h.layer_norm([self.teacher.dim()], None::<&Tensor>, None::<&Tensor>, 1e-5, true))
        })
    }

    /// What the predictor says of the blocks' patches, `[N M, S, D]`.
    fn predict(&self, encoder: &E, images: &Tensor, blocks: &Blocks, mode: Mode) -> Result<Tensor> {
        let Blocks { context, targets } = blocks;
        let [n, m, s] = check_shape("targets", targets, [-1, -1, -1])?;
        let kept = context.size()[1];
        let z = encoder.tokens(images, Some(context), mode)?.narrow(1, 1, kept); // [N, K, D]
        let positions =
            self.predictor.positions(grid(images, encoder.patch_size())?).expand([n, -1, -1], false);
        let seen = self.predictor.embed(&z) + gather_tokens(&positions, context); // [N, K, d]
        let asked = gather_tokens(&positions, &targets.flatten(1, 2)).reshape([n * m, s, -1]); // [N M, S, d]
        let asked = asked + self.predictor.hidden(n * m, s);
        // Every block is predicted for itself: blocks of an image do not see each other.
        let seen = seen.unsqueeze(1).expand([n, m, kept, -1], false).flatten(0, 1); // [N M, K, d]
        let decoded = self.predictor.decode(&Tensor::cat(&[seen, asked], 1), mode); // [N M, K + S, D]
        Ok(decoded.narrow(1, kept, s))
    }

    /// The loss for given blocks, and the teacher's tokens `[N, T, D]`.
    fn compare(&self, encoder: &E, images: &Tensor, blocks: &Blocks) -> Result<(Tensor, Tensor)> {
        let [rows, columns] = grid(images, encoder.patch_size())?;
        let all = self.targets(images, rows * columns)?; // [N, T, D]
        let wanted = gather_tokens(&all, &blocks.targets.flatten(1, 2)); // [N, M S, D]
        let predicted = self.predict(encoder, images, blocks, Mode::Train)?; // [N M, S, D]
        let loss = predicted.smooth_l1_loss(&wanted.view_as(&predicted), tch::Reduction::Mean, 1.0);
        Ok((loss, all))
    }
}

impl<E: PatchEncoder + ?Sized> Objective<E> for IJepa<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, _step: &Step) -> Result<Loss> {
        let images = one_view(batch, encoder.channels(), "I-JEPA")?;
        let grid = grid(images, encoder.patch_size())?;
        let blocks = self.masks.draw(images.size()[0], grid, images.device())?;
        let (loss, targets) = self.compare(encoder, images, &blocks)?;
        // Near 0 when all patches of all images have the same features.
        let spread = targets.flatten(0, 1).std_dim([0_i64].as_slice(), false, false).mean(None);
        Ok(Loss::new(loss).with("target_std", &spread))
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.ema.update(self.momentum + step.progress() * (1.0 - self.momentum));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::assert_gradients;
    use crate::masked::reference::{assert_sums, batch, built, fill, wave};
    use selfsup_core::{Device, Kind, TensorExt};
    use selfsup_encoders::Vit;

    type Method = IJepa<dyn PatchEncoder>;

    fn config() -> IJepaConfig {
        let predictor = TokenDecoderConfig { dim: 8, depth: 2, heads: 2, mlp_ratio: 4.0 };
        let masks = BlockMasksConfig { min_context: 1, ..BlockMasksConfig::default() };
        IJepaConfig { masks, predictor, momentum: 0.9 }
    }

    fn setup() -> (nn::VarStore, Vit, Method) {
        built(|site| IJepa::new(site, &config()).unwrap())
    }

    fn blocks() -> Blocks {
        Blocks {
            context: Tensor::from_slice2(&[[0_i64, 3, 6, 7], [2, 5, 7, 8]]),
            targets: Tensor::from_slice(&[1_i64, 2, 4, 5, 0, 1, 3, 4]).reshape([2, 2, 2]),
        }
    }

    // from lightly.models.modules import MaskedVisionTransformerTIMM
    // from lightly.models.modules.ijepa_timm import IJEPAPredictorTIMM
    // v, t = vit(), vit()
    // m, mt = MaskedVisionTransformerTIMM(vit=v), MaskedVisionTransformerTIMM(vit=t)
    // v.pos_embed.requires_grad_()
    // p = IJEPAPredictorTIMM(num_patches=9, depth=2, mlp_dim=12, predictor_embed_dim=8, num_heads=2)
    // def rename(n):
    //     n = n.replace("predictor_embed", "embed").replace("predictor_proj", "output")
    //     return n.replace("decoder.", "")
    // named = {f"encoder.{n}": x for n, x in v.named_parameters()}
    // named |= {f"objective.predictor.{rename(n)}": x for n, x in p.named_parameters()
    //     if "pos_embed" not in n}
    // fill(named); fill({f"objective.teacher.encoder.{n}": x for n, x in t.named_parameters()})
    // images = wave(0., [2, 2, 12, 12])
    // context = torch.tensor([[0, 3, 6, 7], [2, 5, 7, 8]])
    // targets = [torch.tensor([[1, 2], [0, 1]]), torch.tensor([[4, 5], [3, 4]])]
    // keep = torch.cat([torch.zeros(2, 1, dtype=torch.long), context + 1], 1)
    // for step in range(5):
    //     with torch.no_grad():
    //         h = utils.apply_masks(F.layer_norm(mt.encode(images)[:, 1:], (12,)), targets)
    //     z = p(m.encode(images, idx_keep=keep)[:, 1:], context, targets)
    //     l = F.smooth_l1_loss(z, h)
    //     for x in named.values(): x.grad = None
    //     l.backward(); print(l.item())
    //     if step == 0: print({n: sums(x.grad) for n, x in named.items()})
    //     with torch.no_grad():
    //         for x in named.values(): x -= 0.1 * x.grad
    //         momentum = 0.9 + step * (1 - 0.9) / 5
    //         for q, k in zip(v.parameters(), t.parameters()): k.mul_(momentum).add_((1 - momentum) * q)
    // print({n: sums(x) for n, x in t.named_parameters()})
    #[test]
    fn five_steps_equal_lightlys_in_loss_gradients_and_teacher() {
        let (store, encoder, mut jepa) = setup();
        fill(&store);
        let images = wave(0.0, &[2, 2, 12, 12]);
        let losses = [0.526_556, 0.499_026, 0.479_207, 0.464_229, 0.452_263];
        for (step, expected) in (0..5).zip(losses) {
            let (loss, _) = jepa.compare(&encoder, &images, &blocks()).unwrap();
            assert!((loss.scalar().unwrap() - expected).abs() < 1e-5, "step {step}: {loss}");
            loss.backward();
            let variables = store.variables();
            if step == 0 {
                for (name, expected) in [
                    ("encoder.cls_token", [0.0, -0.000_006_9]),
                    ("encoder.pos_embed", [0.0, 0.001_736_2]),
                    ("encoder.patch_embed.proj.weight", [0.0, 0.004_360_6]),
                    ("encoder.blocks.1.mlp.fc2.weight", [0.0, -0.001_572_0]),
                    ("encoder.norm.bias", [-0.001_734_5, -0.007_644_3]),
                    ("objective.predictor.embed.weight", [0.0, 0.006_045_1]),
                    ("objective.predictor.mask_token", [0.0, 0.046_264_5]),
                    ("objective.predictor.blocks.1.attn.proj.weight", [0.0, 0.206_257_9]),
                    ("objective.predictor.output.weight", [-0.012_342_7, 0.669_768_1]),
                ] {
                    assert_sums(name, &variables[name].grad(), expected);
                }
            }
            tch::no_grad(|| {
                for mut x in store.trainable_variables() {
                    let update = x.grad() * 0.1;
                    let _ = x.g_sub_(&update);
                    x.zero_grad();
                }
            });
            jepa.after_step(&store, &Step::single(step, 5, 0, 0)).unwrap();
        }
        for (name, expected) in [
            ("pos_embed", [-0.317_465_7, 4.360_197_7]),
            ("patch_embed.proj.weight", [-0.055_636_7, 20.494_715_2]),
            ("blocks.1.mlp.fc2.bias", [-0.271_021_5, 0.377_073_0]),
        ] {
            assert_sums(name, &store.variables()[&format!("objective.teacher.encoder.{name}")], expected);
        }
    }

    #[test]
    fn equals_a_loop_over_blocks() {
        let (_store, encoder, jepa) = setup();
        let images = wave(0.0, &[2, 2, 12, 12]);
        let Blocks { context, targets } = blocks();
        let all = jepa.teacher.tokens(&images, None, Mode::Eval).unwrap().narrow(1, 1, 9);
        let (mut sum, mut count) = (0.0, 0.0);
        for n in 0..2 {
            for block in 0..2 {
                let one = Blocks {
                    context: context.narrow(0, n, 1),
                    targets: targets.narrow(0, n, 1).narrow(1, block, 1),
                };
                let predicted = jepa.predict(&encoder, &images.narrow(0, n, 1), &one, Mode::Eval).unwrap();
                for patch in 0..2 {
                    let h: Vec<f64> = (0..12)
                        .map(|d| all.double_value(&[n, one.targets.int64_value(&[0, 0, patch]), d]))
                        .collect();
                    let mean = h.iter().sum::<f64>() / 12.0;
                    let variance = h.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 12.0;
                    for (d, h) in (0..).zip(h) {
                        let wanted = (h - mean) / (variance + 1e-5).sqrt();
                        let off = (predicted.double_value(&[0, patch, d]) - wanted).abs();
                        sum += if off < 1.0 { 0.5 * off * off } else { off - 0.5 };
                        count += 1.0;
                    }
                }
            }
        }
        let (loss, _) = jepa.compare(&encoder, &images, &blocks()).unwrap();
        assert!((loss.scalar().unwrap() - sum / count).abs() < 1e-5);
    }

    #[test]
    fn a_block_is_predicted_from_the_context_and_its_place_alone() {
        let (_store, encoder, jepa) = setup();
        let images = wave(0.0, &[2, 2, 12, 12]);
        let before = jepa.predict(&encoder, &images, &blocks(), Mode::Eval).unwrap();
        let changed = images.copy();
        // Patch 4 of image 0, one of its targets.
        let _ = changed.narrow(0, 0, 1).narrow(2, 4, 4).narrow(3, 4, 4).fill_(9.0);
        assert_eq!(jepa.predict(&encoder, &changed, &blocks(), Mode::Eval).unwrap(), before);
        let Blocks { context, targets } = blocks();
        let swapped = Blocks { context: context.flip([1]), targets: targets.flip([1]) };
        let after = jepa.predict(&encoder, &images, &swapped, Mode::Eval).unwrap();
        let difference = after.unflatten(0, [2, 2]).flip([1]).flatten(0, 1) - before;
        assert!(difference.abs().max().scalar().unwrap() < 1e-5);
    }

    #[test]
    fn gradients_reach_every_parameter_and_none_of_the_teacher() {
        let (store, encoder, mut jepa) = setup();
        let images = wave(0.0, &[4, 2, 12, 12]);
        let loss = jepa.loss(&encoder, &batch(vec![images]), &Step::single(0, 1, 0, 0)).unwrap();
        assert_eq!(loss.parts[0].0, "target_std");
        assert!(loss.parts[0].1.scalar().unwrap() > 0.1);
        loss.total.backward();
        assert_gradients(&store, &[]);
        let variables = store.variables();
        let teacher: Vec<_> = variables.iter().filter(|(name, _)| name.contains("teacher")).collect();
        assert!(!teacher.is_empty());
        for (name, x) in teacher {
            let student = &variables[name.strip_prefix("objective.teacher.").unwrap()];
            assert!(!x.requires_grad() && !x.grad().defined(), "{name}");
            assert!(x == student && x.data_ptr() != student.data_ptr(), "{name}");
        }
    }

    #[test]
    fn momentum_rises_linearly_to_one() {
        let (store, _encoder, mut jepa) = setup();
        let name = "encoder.norm.bias";
        let teacher = &store.variables()[&format!("objective.teacher.{name}")];
        tch::no_grad(|| drop(store.variables()[name].shallow_clone().fill_(1.0)));
        jepa.after_step(&store, &Step::single(50, 100, 0, 0)).unwrap(); // momentum 0.95
        assert!((teacher.double_value(&[0]) - 0.05).abs() < 1e-6);
        jepa.after_step(&store, &Step::single(100, 100, 0, 0)).unwrap();
        assert!((teacher.double_value(&[0]) - 0.05).abs() < 1e-6);
    }

    #[test]
    fn oblong_and_larger_images_have_a_loss() {
        let (_store, encoder, mut jepa) = setup();
        for (height, width) in [(12, 32), (20, 20)] {
            let images = wave(0.0, &[2, 2, height, width]);
            let loss = jepa.loss(&encoder, &batch(vec![images]), &Step::single(0, 1, 0, 0)).unwrap();
            assert!(loss.total.scalar().unwrap().is_finite());
        }
    }

    #[test]
    fn the_predictor_starts_with_quieter_deep_branches() {
        let predictor = TokenDecoderConfig { dim: 64, depth: 4, heads: 2, mlp_ratio: 4.0 };
        let config = IJepaConfig { predictor, ..config() };
        let check = |store: &nn::VarStore, prefix: &str| {
            for (block, layer) in [(0, "mlp.fc2"), (3, "mlp.fc2"), (3, "attn.proj")] {
                let weight = &store.variables()[&format!("{prefix}{block}.{layer}.weight")];
                let expected = 0.02 / (2.0 * f64::from(block + 1)).sqrt();
                let found = weight.std(true).scalar().unwrap();
                // More than 5 standard deviations of that of 4096 draws.
                assert!((found / expected - 1.0).abs() < 0.06, "{block}.{layer}: {found}");
            }
        };
        built(|site| {
            IJepa::new(site, &config).unwrap();
            check(site.store, "objective.predictor.blocks.");
        });
        // As a part of a combination.
        built(|site| {
            IJepa::new(&site.part("x").unwrap(), &config).unwrap();
            check(site.store, "objective.x.predictor.blocks.");
        });
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let (_store, encoder, mut jepa) = setup();
        let images = |shape: [i64; 4]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
        let mut error = |views: Vec<Tensor>| {
            jepa.loss(&encoder, &batch(views), &Step::single(0, 1, 0, 0)).unwrap_err().to_string()
        };
        let good = [2, 2, 12, 12];
        assert_eq!(error(vec![images(good), images(good)]), "views = 2: one view an image for I-JEPA");
        assert_eq!(
            error(vec![images([2, 3, 12, 12])]),
            "view 0: expected [_, 2, _, _], found [2, 3, 12, 12]"
        );
        assert_eq!(
            error(vec![images([0, 2, 12, 12])]),
            "view 0: expected at least one image with pixels, found [0, 2, 12, 12]"
        );
        assert_eq!(
            error(vec![images([2, 2, 12, 10])]),
            "images: expected sides that are multiples of the patch's 4 pixels, found 12 x 10"
        );
        assert_eq!(
            error(vec![images([2, 2, 4, 4])]),
            "masks.min_context = 1: at most 0, what the blocks leave of 1 x 1 patches for the context"
        );
    }

    #[test]
    fn refuses_settings_that_cannot_work() {
        let error = |config: IJepaConfig| {
            built(|site| IJepa::new(site, &config).map(|_| ()).unwrap_err().to_string()).2
        };
        assert_eq!(error(IJepaConfig { momentum: 1.5, ..config() }), "momentum = 1.5: from 0 to 1");
        let predictor = TokenDecoderConfig { dim: 10, ..config().predictor };
        assert_eq!(
            error(IJepaConfig { predictor, ..config() }),
            "predictor.dim = 10: a positive multiple of 4, for sines and cosines of rows and columns"
        );
        let masks = BlockMasksConfig { targets: 0, ..config().masks };
        assert_eq!(error(IJepaConfig { masks, ..config() }), "masks.targets = 0: at least 1");
    }
}
