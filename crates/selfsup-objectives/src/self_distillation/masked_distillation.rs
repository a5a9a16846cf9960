//! What iBOT and DINOv2 share: DINO on the features of views, and of the hidden patches of the global views a student is
//! to say what a teacher that sees them says. The two differ in their settings.

use crate::clustering::crops::{check_crops, encode_crops};
use crate::momentum::check_momentum;
use crate::self_distillation::block_masks::{BlockMasking, Shares};
use crate::self_distillation::dino::{check_global_views, global_views, last_layer};
use crate::self_distillation::dino_head::{DinoHead, DinoHeadConfig, LastLayer};
use crate::self_distillation::dino_loss::DinoLoss;
use crate::self_distillation::ibot_patch_loss::IbotPatchLoss;
use crate::self_distillation::koleo_loss::KoLeoLoss;
use crate::self_distillation::targets::DinoLossConfig;
use selfsup_core::ema::{Buffers, cosine_momentum};
use selfsup_core::{
    Ema, Error, ImageViews, Judgement, Loss, Mode, PatchEncoder, Result, Site, Step, Tensor, check_shape, tch,
};

/// What decides between iBOT, DINOv2 and others like them.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) method: &'static str,
    pub(crate) global_views: i64,
    pub(crate) head: DinoHeadConfig,
    /// The head of patches; without it, they have that of the features.
    pub(crate) patch_head: Option<DinoHeadConfig>,
    pub(crate) loss: DinoLossConfig,
    pub(crate) patch_loss: DinoLossConfig,
    pub(crate) masking: BlockMasking,
    pub(crate) shares: Shares,
    pub(crate) feature_weight: f64,
    pub(crate) patch_weight: f64,
    pub(crate) koleo_weight: f64,
    pub(crate) momentum: f64,
    pub(crate) frozen_last_layer_epochs: u64,
}

#[derive(Debug)]
pub(crate) struct Heads {
    pub(crate) features: DinoHead,
    patches: Option<DinoHead>,
}

impl Heads {
    fn new(path: &selfsup_core::nn::Path, inputs: i64, settings: &Settings) -> Result<Self> {
        let patches = settings.patch_head.as_ref();
        Ok(Heads {
            features: DinoHead::new(path / "head", inputs, &settings.head)?,
            patches: patches.map(|head| DinoHead::new(path / "patch_head", inputs, head)).transpose()?,
        })
    }

    fn of_patches(&self) -> &DinoHead {
        self.patches.as_ref().unwrap_or(&self.features)
    }
}

#[derive(Debug)]
pub(crate) struct MaskedDistillation<E: ?Sized> {
    pub(crate) heads: Heads,
    /// Stands in the place of hidden patches, `[D]`.
    mask_token: Tensor,
    teacher: Box<E>,
    teacher_heads: Heads,
    pub(crate) ema: Ema,
    loss: DinoLoss,
    patch_loss: IbotPatchLoss,
    settings: Settings,
}

impl<E: PatchEncoder + ?Sized> MaskedDistillation<E> {
    pub(crate) fn new(site: &Site<E>, settings: Settings) -> Result<Self> {
        check_momentum(settings.momentum)?;
        check_global_views(settings.global_views)?;
        settings.masking.check()?;
        for (name, weight) in [
            ("feature_weight", settings.feature_weight),
            ("patch_weight", settings.patch_weight),
            ("koleo_weight", settings.koleo_weight),
        ] {
            if !(weight >= 0.0 && weight.is_finite()) {
                return Err(Error::config(name, weight, "a number from 0 up"));
            }
        }
        // A batch may hide one patch, of which BatchNorm has no statistics.
        let (name, of_patches) = match &settings.patch_head {
            Some(head) => ("patch_head.batch_norm", head),
            None => ("head.batch_norm", &settings.head),
        };
        if of_patches.batch_norm {
            return Err(Error::config(
                name,
                true,
                "false in a head of patches, of which a batch may hide one",
            ));
        }
        let (path, dim) = (site.path(), site.dim());
        let teacher_path = &path / "teacher";
        let with_patch_head = ["head", "patch_head"];
        let heads = if settings.patch_head.is_some() { &with_patch_head[..] } else { &with_patch_head[..1] };
        let patch_outputs = settings.patch_head.as_ref().unwrap_or(&settings.head).output;
        Ok(MaskedDistillation {
            heads: Heads::new(&path, dim, &settings)?,
            mask_token: path.zeros("mask_token", &[dim]),
            teacher: (site.twin)(&teacher_path / "encoder")?,
            teacher_heads: Heads::new(&teacher_path, dim, &settings)?,
            ema: site.tie_teacher(heads, Buffers::Keep)?,
            loss: DinoLoss::new(&path / "loss", settings.head.output, &settings.loss)?,
            patch_loss: IbotPatchLoss::new(&path / "patch_loss", patch_outputs, &settings.patch_loss)?,
            settings,
        })
    }

    pub(crate) fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        let n = check_crops(&batch.views, self.settings.method)?;
        let global = global_views(&batch.views, self.settings.global_views)?;
        let [_, channels, height, width] = check_shape("view 0", &batch.views[0], [-1, -1, -1, -1])?;
        for (i, view) in global.iter().enumerate() {
            check_shape(&format!("view {i}"), view, [n, channels, height, width])?;
        }
        let grid = [height / encoder.patch_size(), width / encoder.patch_size()];
        if grid.contains(&0) {
            return Err(Error::Shape {
                name: "view 0".to_owned(),
                expected: format!("sides of at least a patch's {}", encoder.patch_size()),
                found: format!("{height} x {width}"),
            });
        }
        let mask = self.settings.masking.draw(self.settings.global_views * n, grid, self.settings.shares)?;
        self.loss_with_mask(encoder, batch, &mask.to_device(batch.views[0].device()), step)
    }

    /// The loss of views `[N, C, H, W]` of which the first G are global; `mask` `[G N, T]` hides patches of those.
    pub(crate) fn loss_with_mask(
        &mut self,
        encoder: &E,
        batch: &ImageViews,
        mask: &Tensor,
        step: &Step,
    ) -> Result<Loss> {
        let n = batch.views[0].size()[0];
        let (all, globals) = (batch.views.len() as i64, self.settings.global_views);
        let (global, local) = batch.views.split_at(globals as usize);
        let global = Tensor::cat(global, 0); // [G N, C, H, W]
        let hidden = mask.flatten(0, 1).nonzero().squeeze_dim(1); // [M]
        let last_layer = last_layer(step, self.settings.frozen_last_layer_epochs);

        // A network on patches has no BatchNorm, and evaluation leaves out stochastic depth, as for the authors' teacher.
        let (teacher, teacher_patches) = tch::no_grad(|| -> Result<_> {
            let tokens = self.teacher.tokens(&global, None, Mode::Eval)?; // [G N, 1 + T, D]
            let of = |head: &DinoHead, x: &Tensor| head.forward(x, Mode::Train, LastLayer::Learns);
            let features = of(&self.teacher_heads.features, &self.teacher.pool(&tokens))?; // [G N, K]
            Ok((features, of(self.teacher_heads.of_patches(), &patches(&tokens))?)) // [G N T, K']
        })?;

        let tokens = encoder.tokens_masked(&global, mask, &self.mask_token, Mode::Train)?; // [G N, 1 + T, D]
        let features = encoder.pool(&tokens); // [G N, D]
        let h = if local.is_empty() {
            features.shallow_clone()
        } else {
            Tensor::cat(&[&features, &encode_crops(encoder, local, Mode::Train)?], 0) // [V N, D]
        };
        let student = self.heads.features.forward(&h, Mode::Train, last_layer)?; // [V N, K]
        let student = student.unflatten(0, [all, n]); // [V, N, K]
        let teacher = teacher.unflatten(0, [globals, n]); // [G, N, K]
        let of_features = self.loss.forward(&student, &teacher, step.epoch, step.comm)?;

        let x = patches(&tokens).index_select(0, &hidden); // [M, D]
        let student_patches = self.heads.of_patches().forward(&x, Mode::Train, last_layer)?; // [M, K']
        let seen = teacher_patches.index_select(0, &hidden); // [M, K']
        let of_patches = self.patch_loss.forward(&student_patches, &seen, mask, step.epoch, step.comm)?;

        let Settings { feature_weight, patch_weight, koleo_weight, .. } = self.settings;
        let mut total = &of_features * feature_weight + &of_patches * patch_weight;
        let mut koleo = None;
        if koleo_weight > 0.0 {
            // Two views of one image are not driven apart.
            let views = features.chunk(globals, 0); // G of [N, D]
            let spread = views.iter().map(|view| KoLeoLoss.forward(view)).collect::<Result<Vec<_>>>()?;
            let spread = Tensor::stack(&spread, 0).sum(None);
            total += &spread * koleo_weight;
            koleo = Some(spread);
        }
        self.loss.update_centre(&teacher, step.comm)?;
        self.patch_loss.update_centre(&teacher_patches, step.comm)?;
        let loss = Loss::new(total).with("feature_loss", &of_features).with("patch_loss", &of_patches);
        Ok(match koleo {
            Some(koleo) => loss.with("koleo_loss", &koleo),
            None => loss,
        })
    }

    pub(crate) fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        let h = encoder.encode(batch.first(self.settings.method)?, Mode::Eval)?; // [N, D]
        let logits = self.heads.features.forward(&h, Mode::Eval, LastLayer::Learns)?; // [N, K]
        Ok(Judgement::of_prototypes(&logits))
    }

    pub(crate) fn after_step(&mut self, step: &Step) {
        self.ema.update(cosine_momentum(self.settings.momentum, step.progress()));
    }
}

/// The tokens `[N, 1 + T, D]` of patches, one a row: `[N T, D]`.
fn patches(tokens: &Tensor) -> Tensor {
    tokens.narrow(1, 1, tokens.size()[1] - 1).flatten(0, 1)
}
