//! DINOv2: DINO and iBOT with heads apart, targets balanced by Sinkhorn's algorithm, and features spread by KoLeo.
//!
//! Oquab, Darcet, Moutakanni and others 2023, *DINOv2: Learning Robust Visual Features without Supervision*, section 4:
//!
//! ```text
//! L = L_DINO + L_iBOT + 0.1 sum over global views of L_KoLeo
//! ```
//!
//! with [`DinoLoss`](super::dino_loss::DinoLoss) over all pairs of views,
//! [`IbotPatchLoss`](super::ibot_patch_loss::IbotPatchLoss) on hidden patches, and
//! [`KoLeoLoss`](super::koleo_loss::KoLeoLoss) on the student's features before the head. Exactly half of the global
//! views hide patches, with shares spread evenly from 0.1 to 0.5.
//!
//! As in the authors' code, by the recipe, the rate falls by 0.9 from layer to layer and is a fifth for the patch embedding
//! (`train.layer_decay`, `train.lr_scale`), and gradients are clipped within the encoder and within each head (`train.clip`).
//! They take the teacher's encoder, as `selfsup eval --weights teacher` does.
//!
//! Departures: the teacher's temperature rises epoch by epoch instead of step by step; with
//! [`Centring::Mean`](super::targets::Centring) the centre of patches is that of all patches, as in iBOT; the rate of the last
//! norm falls with the last block's, as in BEiT and MAE.

use crate::self_distillation::block_masks::{BlockMasking, Shares};
use crate::self_distillation::dino_head::DinoHeadConfig;
use crate::self_distillation::masked_distillation::{MaskedDistillation, Settings};
use crate::self_distillation::targets::{Centring, DinoLossConfig};
use selfsup_core::{ImageViews, Judgement, Loss, Objective, PatchEncoder, Result, Site, Step, nn};
use serde::{Deserialize, Serialize};

/// Settings of [`DinoV2`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DinoV2Config {
    /// How many of the first views are global: seen by the teacher, and by the student in part. 2.
    pub global_views: i64,
    /// Which patches of the global views are hidden.
    pub masking: BlockMasking,
    /// Temperatures and centring, of features and patches; by Sinkhorn's algorithm (section 4 of the paper).
    pub loss: DinoLossConfig,
    /// The heads of the features, with 65,536 outputs as in the authors' default (131,072 for the largest network,
    /// section 4).
    pub head: DinoHeadConfig,
    /// Whether features and patches have one head. No: "untying head weights" (section 4).
    pub shared_head: bool,
    /// The head of the patches where it is not shared, alike.
    pub patch_head: DinoHeadConfig,
    /// The weight of the features' loss. 1.
    pub feature_weight: f64,
    /// The weight of the patches' loss. 1.
    pub patch_weight: f64,
    /// The weight of the KoLeo regulariser, summed over the global views. 0.1 (the authors' code).
    pub koleo_weight: f64,
    /// The momentum of the teacher at the start; it rises to 1. 0.992 (the authors' code; 0.994 for the largest
    /// network).
    pub momentum: f64,
    /// The epochs in which the last layer of a head stays as it is. 1 (the authors' code).
    pub frozen_last_layer_epochs: u64,
}

impl Default for DinoV2Config {
    fn default() -> Self {
        // The authors' heads let the last layer's rows learn their length.
        let head = DinoHeadConfig { norm_last_layer: false, ..DinoHeadConfig::default() };
        DinoV2Config {
            global_views: 2,
            masking: BlockMasking::default(),
            loss: DinoLossConfig { centring: Centring::SinkhornKnopp, ..DinoLossConfig::default() },
            head: head.clone(),
            shared_head: false,
            patch_head: head,
            feature_weight: 1.0,
            patch_weight: 1.0,
            koleo_weight: 0.1,
            momentum: 0.992,
            frozen_last_layer_epochs: 1,
        }
    }
}

/// The DINOv2 objective: heads, a token for hidden patches, a teacher, and three losses.
#[derive(Debug)]
pub struct DinoV2<E: ?Sized>(MaskedDistillation<E>);

impl<E: PatchEncoder + ?Sized> DinoV2<E> {
    /// Makes heads, token and teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`](selfsup_core::Error::Config) with the field that cannot work.
    pub fn new(site: &Site<E>, config: &DinoV2Config) -> Result<Self> {
        let config = config.clone();
        let settings = Settings {
            method: "DINOv2",
            global_views: config.global_views,
            head: config.head,
            patch_head: (!config.shared_head).then_some(config.patch_head),
            loss: config.loss.clone(),
            patch_loss: config.loss,
            masking: config.masking,
            shares: Shares::Stratified,
            feature_weight: config.feature_weight,
            patch_weight: config.patch_weight,
            koleo_weight: config.koleo_weight,
            momentum: config.momentum,
            frozen_last_layer_epochs: config.frozen_last_layer_epochs,
        };
        Ok(DinoV2(MaskedDistillation::new(site, settings)?))
    }
}

impl<E: PatchEncoder + ?Sized> Objective<E> for DinoV2<E> {
    type Batch = ImageViews;

    fn loss(&mut self, encoder: &E, batch: &ImageViews, step: &Step) -> Result<Loss> {
        self.0.loss(encoder, batch, step)
    }

    fn after_step(&mut self, _store: &nn::VarStore, step: &Step) -> Result<()> {
        self.0.after_step(step);
        Ok(())
    }

    fn judge(&self, encoder: &E, batch: &ImageViews) -> Result<Judgement> {
        self.0.judge(encoder, batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clustering::tiny::{batch, descend, fill};
    use crate::self_distillation::targets::TeacherTemperature;
    use crate::self_distillation::tiny::{Patches, assert_near, hidden};
    use selfsup_core::{Device, Tensor, TensorExt};

    fn config() -> DinoV2Config {
        let teacher_temperature = TeacherTemperature { start: 0.05, end: 0.05, warmup_epochs: 0 };
        let head = |output| DinoHeadConfig { hidden: 5, bottleneck: 3, output, ..Default::default() };
        DinoV2Config {
            loss: DinoLossConfig { teacher_temperature, ..DinoV2Config::default().loss },
            head: head(6),
            patch_head: head(7),
            momentum: 0.9,
            frozen_last_layer_epochs: 0,
            ..Default::default()
        }
    }

    fn built(config: &DinoV2Config) -> Result<(nn::VarStore, Patches, DinoV2<Patches>)> {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Patches::new(store.root() / Site::<Patches>::ENCODER);
        let twin = |path: nn::Path| Ok(Box::new(Patches::new(path)));
        let objective = DinoV2::new(&Site::new(&store, &encoder, 6, twin), config)?;
        fill(&store);
        objective.0.ema.copy();
        Ok((store, encoder, objective))
    }

    // As in `ibot`, with a head of 7 outputs for patches, and
    //     q = sinkhorn_knopp(tc, 0.05).view(2, 3, 6); lp = torch.log_softmax(sc / 0.1, -1)
    //     l1 = sum(-(q[a] * lp[b]).sum(-1).mean() for a in range(2) for b in range(3) if a != b) / 4
    //     q = sinkhorn_knopp(tp[mask.flatten()], 0.05)  # as in `targets`
    //     l3 = 0.1 * sum(lightly.loss.KoLeoLoss()(c) for c in st[:, 0].chunk(2))
    //     (l1 + l2 + l3).backward(); print(l1 + l2 + l3)
    // print(enc.weight, token, tenc.weight, tphead.last_layer.weight_v)
    #[test]
    fn five_steps_equal_the_authors_algorithm() {
        let (store, encoder, mut objective) = built(&config()).unwrap();
        let mut values = Vec::new();
        for step in 0..5_u32 {
            let at = Step::single(u64::from(step), 10, 0, 0);
            let batch = batch(3, &[4, 4, 2], f64::from(step));
            let loss = objective.0.loss_with_mask(&encoder, &batch, &hidden(6), &at).unwrap().total;
            loss.backward();
            values.push(loss.detach());
            descend(&store, 0.2);
            objective.after_step(&store, &at).unwrap();
        }
        let v = store.variables();
        assert_near(&Tensor::stack(&values, 0), &[6.0263038, 9.1687908, 7.3567591, 8.5879431, 9.1902962]);
        assert_near(
            &v["encoder.weight"],
            &[
                -0.1417164, 0.525464, 0.9359803, 0.8765546, 0.2722618, -0.4344692, -0.8796948, -0.9365997,
                -0.5425184, 0.1031182, 0.6760345, 0.9468875, 0.9889118, 0.5152272, -0.2432784, -0.9112738,
            ],
        );
        assert_near(&v["objective.mask_token"], &[0.9318072, 0.5571213, -0.0617501, -0.661618]);
        assert_near(
            &v["objective.teacher.encoder.weight"],
            &[
                -0.0532835, 0.6007691, 0.97434, 0.8806449, 0.3141709, -0.3747769, -0.8727452, -0.9667972,
                -0.5998389, 0.0471855, 0.6636258, 0.970911, 0.9080561, 0.3812921, -0.3372119, -0.9013117,
            ],
        );
        assert_near(
            &v["objective.teacher.patch_head.last_layer.weight_v"],
            &[
                0.4158018, -0.2922744, -0.8396024, -1.0207572, -0.6977085, -0.066471, 0.5874528, 0.9684901,
                0.9143388, 0.3904656, -0.2821851, -0.8498906, -1.0174196, -0.6908205, -0.0468771, 0.6018343,
                0.971302, 0.9078832, 0.3794732, -0.3000126, -0.8559863,
            ],
        );
    }

    #[test]
    fn gradients_reach_the_student_and_the_token_and_not_the_teacher() {
        let (store, encoder, mut objective) = built(&config()).unwrap();
        let step = Step::single(0, 4, 0, 0);
        objective.loss(&encoder, &batch(4, &[8, 8, 2], 0.0), &step).unwrap().total.backward();
        for (name, x) in store.variables() {
            if name.starts_with("objective.teacher") || name.ends_with("weight_g") || name.ends_with("centre")
            {
                assert!(!x.requires_grad() && !x.grad().defined(), "{name}");
                continue;
            }
            let gradient = x.grad();
            assert!(gradient.defined() && gradient.isfinite().all().scalar().unwrap() == 1.0, "{name}");
            assert!(gradient.abs().max().scalar().unwrap() > 1e-7, "{name}");
        }
    }

    #[test]
    fn the_order_of_the_images_does_not_matter() {
        let order = Tensor::from_slice(&[2_i64, 0, 1]);
        let both = Tensor::from_slice(&[2_i64, 0, 1, 5, 3, 4]);
        let value = |shuffle: bool| {
            let (_store, encoder, mut objective) = built(&config()).unwrap();
            let (mut batch, mut mask) = (batch(3, &[4, 4, 2], 0.0), hidden(6));
            if shuffle {
                batch.views = batch.views.iter().map(|view| view.index_select(0, &order)).collect();
                mask = mask.index_select(0, &both);
            }
            let step = Step::single(0, 4, 0, 0);
            objective.0.loss_with_mask(&encoder, &batch, &mask, &step).unwrap().total.scalar().unwrap()
        };
        assert!((value(false) - value(true)).abs() < 1e-4);
    }

    #[test]
    fn rejects_views_and_settings_that_do_not_fit() {
        let (_store, encoder, mut objective) = built(&config()).unwrap();
        let mut refused = |n: i64, sizes: &[i64]| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(n, sizes, 0.0), &step).unwrap_err().to_string()
        };
        assert_eq!(refused(3, &[4]), "views = 1: at least two views an image for DINOv2");
        let error = refused(1, &[4, 4]);
        assert!(error.contains("at least 2 samples, so that each has a neighbour"), "{error}");
        let error = built(&DinoV2Config { koleo_weight: -0.1, ..config() }).map(|_| ()).unwrap_err();
        assert_eq!(error.to_string(), "koleo_weight = -0.1: a number from 0 up");
    }
}
