//! iBOT: DINO, and of patches that are hidden from the student what the teacher says that sees them.
//!
//! Zhou, Wei, Wang, Shen, Xie, Yuille and Kong 2022, *iBOT: Image BERT Pre-Training with Online Tokenizer*, algorithm 1.
//! With [`DinoLoss`](super::dino_loss::DinoLoss) on the features of all views and
//! [`IbotPatchLoss`](super::ibot_patch_loss::IbotPatchLoss) on the hidden patches of the global views,
//!
//! ```text
//! L = lambda_1 L_[CLS] + lambda_2 L_MIM
//! ```
//!
//! The student sees its global views with blocks of patches replaced by a token that learns; its local views, and all
//! that the teacher sees, are whole. The centre of patches is the mean of all patches, hidden or not. The head is one for
//! features and patches. The features are those that the encoder's pooling makes, the class token in the paper. As in DINO each
//! parameter's gradient is clipped apart, and the paper takes the teacher's encoder (`selfsup eval --weights teacher`).

use crate::self_distillation::block_masks::{BlockMasking, Shares};
use crate::self_distillation::dino_head::DinoHeadConfig;
use crate::self_distillation::masked_distillation::{MaskedDistillation, Settings};
use crate::self_distillation::targets::DinoLossConfig;
use selfsup_core::{ImageViews, Judgement, Loss, Objective, PatchEncoder, Result, Site, Step, nn};
use serde::{Deserialize, Serialize};

/// Settings of [`Ibot`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IbotConfig {
    /// How many of the first views are global: seen by the teacher, and by the student in part. 2 (section 3.3 of the
    /// paper).
    pub global_views: i64,
    /// Which patches of the global views are hidden.
    pub masking: BlockMasking,
    /// Temperatures and centring of the features.
    pub loss: DinoLossConfig,
    /// Temperatures and centring of the patches; those of the features in the paper (section 3.3).
    pub patch_loss: DinoLossConfig,
    /// The heads of student and teacher, with 8192 outputs (section 3.3).
    pub head: DinoHeadConfig,
    /// Whether features and patches have one head. Yes (section 3.3).
    pub shared_head: bool,
    /// The head of the patches where it is not shared.
    pub patch_head: DinoHeadConfig,
    /// The weight of the features' loss, `lambda_1`. 1 (section 3.3).
    pub feature_weight: f64,
    /// The weight of the patches' loss, `lambda_2`. 1 (section 3.3).
    pub patch_weight: f64,
    /// The momentum of the teacher at the start; it rises to 1. 0.996, as in DINO.
    pub momentum: f64,
    /// The epochs in which the last layer of a head stays as it is. 1, as in DINO.
    pub frozen_last_layer_epochs: u64,
}

impl Default for IbotConfig {
    fn default() -> Self {
        let head = DinoHeadConfig { output: 8192, ..DinoHeadConfig::default() };
        IbotConfig {
            global_views: 2,
            masking: BlockMasking::default(),
            loss: DinoLossConfig::default(),
            patch_loss: DinoLossConfig::default(),
            head: head.clone(),
            shared_head: true,
            patch_head: head,
            feature_weight: 1.0,
            patch_weight: 1.0,
            momentum: 0.996,
            frozen_last_layer_epochs: 1,
        }
    }
}

/// The iBOT objective: a head, a token for hidden patches, a teacher, and both losses with their centres.
#[derive(Debug)]
pub struct Ibot<E: ?Sized>(MaskedDistillation<E>);

impl<E: PatchEncoder + ?Sized> Ibot<E> {
    /// Makes head, token and teacher for the site's encoder.
    ///
    /// # Errors
    /// [`Error::Config`](selfsup_core::Error::Config) with the field that cannot work.
    pub fn new(site: &Site<E>, config: &IbotConfig) -> Result<Self> {
        let config = config.clone();
        let settings = Settings {
            method: "iBOT",
            global_views: config.global_views,
            head: config.head,
            patch_head: (!config.shared_head).then_some(config.patch_head),
            loss: config.loss,
            patch_loss: config.patch_loss,
            masking: config.masking,
            shares: Shares::Independent,
            feature_weight: config.feature_weight,
            patch_weight: config.patch_weight,
            koleo_weight: 0.0,
            momentum: config.momentum,
            frozen_last_layer_epochs: config.frozen_last_layer_epochs,
        };
        Ok(Ibot(MaskedDistillation::new(site, settings)?))
    }
}

impl<E: PatchEncoder + ?Sized> Objective<E> for Ibot<E> {
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
    use crate::self_distillation::dino_head::LastLayer;
    use crate::self_distillation::targets::TeacherTemperature;
    use crate::self_distillation::tiny::{Patches, assert_near, hidden};
    use selfsup_core::{Device, Encoder, Mode, Tensor, TensorExt};

    fn config() -> IbotConfig {
        let teacher_temperature = TeacherTemperature { start: 0.05, end: 0.05, warmup_epochs: 0 };
        let loss = DinoLossConfig { teacher_temperature, ..Default::default() };
        let head = DinoHeadConfig { hidden: 5, bottleneck: 3, output: 6, ..Default::default() };
        IbotConfig {
            loss: loss.clone(),
            patch_loss: loss,
            head: head.clone(),
            patch_head: head,
            momentum: 0.9,
            frozen_last_layer_epochs: 0,
            ..Default::default()
        }
    }

    fn built(config: &IbotConfig) -> Result<(nn::VarStore, Patches, Ibot<Patches>)> {
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = Patches::new(store.root() / Site::<Patches>::ENCODER);
        let twin = |path: nn::Path| Ok(Box::new(Patches::new(path)));
        let objective = Ibot::new(&Site::new(&store, &encoder, 6, twin), config)?;
        fill(&store);
        objective.0.ema.copy();
        Ok((store, encoder, objective))
    }

    // enc, head = Patches(), DINOProjectionHead(4, 5, 3, 6); token  # filled as `fill` does
    // tenc, thead = copies; dino = DINOLoss(output_dim=6); pc = torch.zeros(6)
    // mask = torch.tensor([[(i * 3 + t * 2) % 5 < 2 for t in range(4)] for i in range(6)])
    // for step in range(5):
    //     views = [wave([3, 1, z, z], k + step) for k, z in enumerate([4, 4, 2])]; g = torch.cat(views[:2])
    //     with torch.no_grad():
    //         tt = tenc(g); tc = thead(tt[:, 0]).view(2, 3, 6); tp = thead(tt[:, 1:].reshape(-1, 4))
    //     st = enc(g, mask, token); local = enc(views[2])[:, 0]
    //     sc = head(torch.cat([st[:, 0], local])).view(3, 3, 6); sp = head(st[:, 1:][mask])
    //     l1 = dino(list(tc), list(sc), teacher_temp=0.05)
    //     w = (1 / mask.sum(1, keepdim=True).clamp(min=1)).expand(-1, 4)[mask]
    //     q = torch.softmax((tp[mask.flatten()] - pc) / 0.05, -1)
    //     l2 = (-(q * torch.log_softmax(sp / 0.1, -1)).sum(-1) * w).sum() / 6
    //     pc = pc * 0.9 + tp.mean(0) * 0.1
    //     (l1 + l2).backward(); print(l1 + l2)
    //     for p in enc, head, token: p -= 0.2 * p.grad
    //     m = 1 - (1 - 0.9) * (math.cos(math.pi * step / 10) + 1) / 2
    //     for p, t in (enc, tenc), (head, thead): t = m * t + (1 - m) * p
    // print(enc.weight, token, tenc.weight, thead.last_layer.weight_v, dino.center, pc)
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
        assert_near(&Tensor::stack(&values, 0), &[3.222441, 4.3429561, 4.0723639, 2.176003, 1.6634034]);
        assert_near(
            &v["encoder.weight"],
            &[
                0.0377441, 0.6914296, 0.9431452, 0.8089084, 0.3245427, -0.3319526, -0.8697467, -0.9755171,
                -0.6866259, -0.0065833, 0.701585, 1.0556012, 0.7823708, 0.2683548, -0.3008979, -0.7874775,
            ],
        );
        assert_near(&v["objective.mask_token"], &[0.9219235, 0.5788413, -0.0384627, -0.6397596]);
        assert_near(
            &v["objective.teacher.encoder.weight"],
            &[
                0.0119846, 0.6567396, 0.9705477, 0.8471388, 0.3311061, -0.3471228, -0.8723679, -0.9796495,
                -0.6496363, 0.008805, 0.6707118, 1.0090866, 0.8309264, 0.303831, -0.3451599, -0.8514366,
            ],
        );
        assert_near(
            &v["objective.teacher.head.last_layer.weight_v"],
            &[
                0.938612, 0.9168807, 0.6858985, 0.0219507, -0.6200243, -0.9842393, -0.9383572, -0.2771368,
                0.317282, 0.8896807, 0.9570261, 0.6657797, 0.006709, -0.6345703, -0.9864095, -0.942951,
                -0.2171863, 0.3062419,
            ],
        );
        assert_near(
            &v["objective.loss.centre"],
            &[0.0405681, -0.1757043, 0.1428468, 0.0455432, -0.173989, 0.1531151],
        );
        assert_near(
            &v["objective.patch_loss.centre"],
            &[0.0028766, -0.0854263, 0.093046, 0.0084846, -0.0844198, 0.1017542],
        );
    }

    #[test]
    fn gradients_reach_the_student_and_the_token_and_not_the_teacher() {
        let masking = BlockMasking { probability: 1.0, ratio: [0.5, 0.5], ..Default::default() };
        let config = IbotConfig { shared_head: false, masking, ..config() };
        let (store, encoder, mut objective) = built(&config).unwrap();
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
    fn without_hidden_patches_it_is_dino() {
        let none = BlockMasking { probability: 0.0, ..Default::default() };
        let (_store, encoder, mut objective) = built(&IbotConfig { masking: none, ..config() }).unwrap();
        let (batch, step) = (batch(3, &[4, 4, 2], 0.0), Step::single(0, 4, 0, 0));
        let loss = objective.loss(&encoder, &batch, &step).unwrap();
        let part = |name| loss.parts.iter().find(|(part, _)| *part == name).unwrap().1.scalar().unwrap();
        assert_eq!(part("patch_loss"), 0.0);
        let (store, dino_encoder) = {
            let store = nn::VarStore::new(Device::Cpu);
            let encoder = Patches::new(store.root() / Site::<Patches>::ENCODER);
            (store, encoder)
        };
        let twin = |path: nn::Path| Ok(Box::new(Patches::new(path)));
        let IbotConfig { loss: loss_config, head, .. } = config();
        let dino_config = crate::DinoConfig { loss: loss_config, head, ..Default::default() };
        let mut dino = crate::Dino::new(&Site::new(&store, &dino_encoder, 6, twin), &dino_config).unwrap();
        fill(&store);
        for (name, x) in store.variables() {
            if let Some(student) = name.strip_prefix("objective.teacher.").filter(|n| !n.ends_with("_g")) {
                let student = if student.starts_with("encoder") {
                    student.to_owned()
                } else {
                    format!("objective.{student}")
                };
                selfsup_core::tch::no_grad(|| x.shallow_clone().copy_(&store.variables()[&student]));
            }
        }
        let expected = dino.loss(&dino_encoder, &batch, &step).unwrap().total.scalar().unwrap();
        assert!((loss.total.scalar().unwrap() - expected).abs() < 1e-5);
    }

    #[test]
    fn judging_tells_what_the_head_of_the_features_says_of_whole_images() {
        let (_store, encoder, objective) = built(&config()).unwrap();
        let batch = batch(3, &[4, 4], 0.0);
        let judged = objective.judge(&encoder, &batch).unwrap();
        let h = encoder.encode(&batch.views[0], Mode::Eval).unwrap();
        let said = objective.0.heads.features.forward(&h, Mode::Eval, LastLayer::Learns).unwrap();
        assert_eq!(judged.prototypes[0].scores, said.detach());
    }

    #[test]
    fn rejects_views_and_settings_that_do_not_fit() {
        let (_store, encoder, mut objective) = built(&config()).unwrap();
        let mut refused = |sizes: &[i64]| {
            let step = Step::single(0, 1, 0, 0);
            objective.loss(&encoder, &batch(3, sizes, 0.0), &step).unwrap_err().to_string()
        };
        assert_eq!(refused(&[4]), "views = 1: at least two views an image for iBOT");
        assert_eq!(refused(&[4, 2]), "view 1: expected [3, 1, 4, 4], found [3, 1, 2, 2]");
        assert_eq!(refused(&[1, 1]), "view 0: expected sides of at least a patch's 2, found 1 x 1");
        let new = |config: IbotConfig| built(&config).map(|_| ()).unwrap_err().to_string();
        let error = new(IbotConfig { patch_weight: -1.0, ..config() });
        assert_eq!(error, "patch_weight = -1: a number from 0 up");
        let masking = BlockMasking { probability: -1.0, ..Default::default() };
        assert_eq!(new(IbotConfig { masking, ..config() }), "masking.probability = -1: from 0 to 1");
        let head = DinoHeadConfig { batch_norm: true, ..config().head };
        let expected = "batch_norm = true: false in a head of patches, of which a batch may hide one";
        let error = new(IbotConfig { head: head.clone(), shared_head: true, ..config() });
        assert_eq!(error, format!("head.{expected}"));
        let error = new(IbotConfig { patch_head: head.clone(), shared_head: false, ..config() });
        assert_eq!(error, format!("patch_head.{expected}"));
        // Features come in whole batches.
        assert!(built(&IbotConfig { head, shared_head: false, ..config() }).is_ok());
    }
}
