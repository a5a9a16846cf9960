//! Self-supervised losses and pretext tasks, one file per method, each to be read beside its paper.
//!
//! A *loss* is a struct with a `forward` on tensors, of use in any training code. An *objective* joins a loss with what
//! the method adds to the encoder (projector, teacher, queue), holds all of it as variables of the one parameter store,
//! and implements [`Objective`](selfsup_core::Objective).
//!
//! | method | loss | objective | takes |
//! |---|---|---|---|
//! | SimCLR | [`NtXent`] | [`SimClr`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | MoCo v2 | [`InfoNce`] against a [`Queue`] | [`MocoV2`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | DCL, DCLW | [`DecoupledContrastive`] | [`Dcl`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | NNCLR | [`InfoNce`] across the batch, on neighbours from a [`Queue`] | [`Nnclr`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | MoCo v3 | [`InfoNce`] across the batch | [`MocoV3`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | SwAV | [`SwavLoss`] | [`Swav`] | two or more views of any size, any [`Encoder`](selfsup_core::Encoder) |
//! | MAE | [`MaskedPixelLoss`] | [`Mae`] | one view, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | SimMIM | [`MaskedPixelLoss`] | [`SimMim`] | one view, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | I-JEPA | smooth-L1 on the teacher's tokens | [`IJepa`] | one view, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | SupCon | [`SupConLoss`] | [`SupCon`] | two or more views with labels, any [`Encoder`](selfsup_core::Encoder) |
//! | BYOL | [`ByolLoss`] | [`Byol`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | VICReg | [`VicRegLoss`] | [`VicReg`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | Barlow Twins | [`BarlowTwinsLoss`] | [`BarlowTwins`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | SimSiam | [`NegativeCosine`] | [`SimSiam`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | TiCo | [`TiCoLoss`] | [`TiCo`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | LeJEPA | [`SigReg`] and the distance of the views | [`LeJepa`] | two or more views, crops of any sizes, any [`Encoder`](selfsup_core::Encoder) |
//! | W-MSE | [`WMseLoss`] | [`WMse`] | two or more views, any [`Encoder`](selfsup_core::Encoder) |
//! | denoising autoencoder | mean squared error | [`Denoising`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | colorization | rebalanced cross-entropy, or squared error | [`Colorization`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) for colour images |
//! | context encoder | squared error on the hidden region | [`Inpainting`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | image GPT | cross-entropy on the next pixel | [`ImageGpt`] | one view, any [`PixelEncoder`](selfsup_core::PixelEncoder) |
//! | rotation, jigsaw, relative position | cross-entropy of labels made from the images | [`PredictLabels`] | tiles that a labeler made, any [`Encoder`](selfsup_core::Encoder) |
//! | several at once | weighted sum | [`Combined`] | what its parts take |
//! | SimCLRv2 | [`NtXent`], then [`Distillation`] | [`SimClrV2`], then [`SimClrV2Classifier`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | DenseCL | [`InfoNce`] of images and of places | [`DenseCl`] | two views, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | PIRL | [`MemoryNce`] | [`Pirl`] | an image and a view to cut up, any [`Encoder`](selfsup_core::Encoder) |
//! | DINO | [`DinoLoss`] | [`Dino`] | two or more views of any size, any [`Encoder`](selfsup_core::Encoder) |
//! | DeepCluster v2 | cross-entropy on clusters | [`DeepClusterV2`] | two or more views of any size, any [`Encoder`](selfsup_core::Encoder) |
//! | MSN | [`MsnLoss`] | [`Msn`] | two or more views of any size, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | iBOT | [`DinoLoss`], [`IbotPatchLoss`] | [`Ibot`] | two or more views of any size, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | DINOv2 | [`DinoLoss`], [`IbotPatchLoss`], [`KoLeoLoss`] | [`DinoV2`] | two or more views of any size, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | pseudo-label, FixMatch, FlexMatch, FreeMatch, SoftMatch | cross-entropy on labels and on those of a labeler | [`PseudoLabelling`] | labelled and unlabelled images, any [`Encoder`](selfsup_core::Encoder) |
//! | MixMatch | cross-entropy and squared error on mixed images | [`MixMatch`] | labelled and unlabelled images, any [`Encoder`](selfsup_core::Encoder) |
//! | mean teacher | squared distance to the averaged weights' predictions | [`MeanTeacher`] | labelled and unlabelled images, any [`Encoder`](selfsup_core::Encoder) |
//! | distillation | cross-entropy under a fine-tuned classifier's probabilities ([`Distillation`]) | [`DistilledClassifier`] | labelled and unlabelled images, any [`Encoder`](selfsup_core::Encoder) |
//! | few labels alone | cross-entropy on labels | [`LabelledOnly`] | labelled images, any [`Encoder`](selfsup_core::Encoder) |
//! | supervised | cross-entropy on labels | [`Supervised`] | one or more views with labels, any [`Encoder`](selfsup_core::Encoder) |
//! | BERT | cross-entropy on masked tokens | [`MaskedLanguageModelling`] | text, any [`TokenEncoder`](selfsup_core::TokenEncoder) |
//!
//! # Example
//! ```
//! use selfsup_core::{Device, Kind, SingleProcess, Tensor};
//! use selfsup_objectives::{NtXent, NtXentConfig};
//!
//! let loss = NtXent::new(NtXentConfig { temperature: 0.5 })?;
//! let z0 = Tensor::randn([8, 128], (Kind::Float, Device::Cpu)).set_requires_grad(true);
//! let z1 = Tensor::randn([8, 128], (Kind::Float, Device::Cpu));
//! loss.forward(&z0, &z1, &SingleProcess)?.backward();
//! assert_eq!(z0.grad().size(), [8, 128]);
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! An objective takes the encoders that it can work with, and no others. MAE hides patches; a Vision Transformer has some:
//! ```
//! use selfsup_core::{ImageViews, Objective};
//! use selfsup_encoders::Vit;
//! use selfsup_objectives::Mae;
//!
//! fn learns<E>(_: impl Objective<E, Batch = ImageViews>) {}
//! fn try_out(mae: Mae) {
//!     learns::<Vit>(mae);
//! }
//! ```
//! a convolutional network has none, and this does not compile:
//! ```compile_fail,E0277
//! # use selfsup_core::{ImageViews, Objective};
//! use selfsup_encoders::ConvNet;
//! # use selfsup_objectives::Mae;
//! #
//! # fn learns<E>(_: impl Objective<E, Batch = ImageViews>) {}
//! fn try_out(mae: Mae) {
//!     learns::<ConvNet>(mae);
//! }
//! ```

pub mod clustering;
pub mod combined;
pub mod contrastive;
#[cfg(test)]
mod fixtures;
pub mod generative;
pub mod language;
pub mod masked;
mod momentum;
pub mod non_contrastive;
pub mod pretext;
pub mod self_distillation;
pub mod semi_supervised;
pub mod supervised;
mod views;

pub use clustering::deepcluster_v2::{DeepClusterV2, DeepClusterV2Config};
pub use clustering::msn::{Msn, MsnConfig};
pub use clustering::msn_loss::{MsnLoss, MsnLossConfig, MsnOutput};
pub use clustering::swav::{Swav, SwavConfig};
pub use clustering::swav_loss::{SwavLoss, SwavLossConfig, SwavOutput};
pub use combined::{Combined, Part};
pub use contrastive::dcl::{Dcl, DclConfig, DecoupledContrastive, DecoupledContrastiveOutput, PairWeights};
pub use contrastive::densecl::{DenseCl, DenseClConfig};
pub use contrastive::distillation::{Distillation, DistillationConfig};
pub use contrastive::info_nce::{InfoNce, InfoNceOutput};
pub use contrastive::memory_nce::{Compared, MemoryNce, MemoryNceOutput, Probability};
pub use contrastive::moco_v2::{MocoV2, MocoV2Config};
pub use contrastive::moco_v3::{MocoV3, MocoV3Config, PatchProjection};
pub use contrastive::nnclr::{Nnclr, NnclrConfig};
pub use contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
pub use contrastive::pirl::{Pirl, PirlConfig};
pub use contrastive::queue::Queue;
pub use contrastive::simclr::{SimClr, SimClrConfig};
pub use contrastive::simclr_v2::{SimClrV2, SimClrV2Classifier, SimClrV2Config};
pub use contrastive::supcon::{SupCon, SupConConfig, SupConLoss, SupConOutput};
pub use generative::colorization::{Colorization, ColorizationConfig, ColourPrior, ColourTarget};
pub use generative::decoder::{ConvDecoder, ConvDecoderConfig};
pub use generative::denoising::{Corruption, Denoising, DenoisingConfig};
pub use generative::image_gpt::{ImageGpt, ImageGptConfig, Palette};
pub use generative::inpainting::{Inpainting, InpaintingConfig, Region};
pub use generative::pixels::{Normalization, Reconstruction};
pub use language::masked_language_modelling::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, MaskedTokens, Vocabulary,
};
pub use masked::block_masks::BlockMasksConfig;
pub use masked::i_jepa::{IJepa, IJepaConfig};
pub use masked::mae::{Mae, MaeConfig};
pub use masked::patches::{MaskedReconstruction, patchify, unpatchify};
pub use masked::pixel_loss::{MaskedPixelLoss, PixelDistance, PixelTarget};
pub use masked::simmim::{SimMim, SimMimConfig};
pub use masked::token_decoder::TokenDecoderConfig;
pub use non_contrastive::barlow_twins::{
    BarlowTwins, BarlowTwinsConfig, BarlowTwinsLoss, BarlowTwinsLossConfig, BarlowTwinsOutput,
};
pub use non_contrastive::byol::{Byol, ByolConfig, ByolLoss};
pub use non_contrastive::lejepa::{LeJepa, LeJepaConfig};
pub use non_contrastive::sig_reg::{SigReg, SigRegConfig};
pub use non_contrastive::simsiam::{NegativeCosine, SimSiam, SimSiamConfig};
pub use non_contrastive::tico::{TiCo, TiCoConfig, TiCoLoss, TiCoLossConfig, TiCoOutput};
pub use non_contrastive::vicreg::{VicReg, VicRegConfig, VicRegLoss, VicRegLossConfig, VicRegOutput};
pub use non_contrastive::w_mse::{WMse, WMseConfig, WMseLoss, WMseLossConfig};
pub use pretext::predict_labels::{PredictLabels, PredictLabelsConfig};
pub use self_distillation::block_masks::BlockMasking;
pub use self_distillation::dino::{Dino, DinoConfig};
pub use self_distillation::dino_head::{DinoHead, DinoHeadConfig, LastLayer};
pub use self_distillation::dino_loss::DinoLoss;
pub use self_distillation::dinov2::{DinoV2, DinoV2Config};
pub use self_distillation::ibot::{Ibot, IbotConfig};
pub use self_distillation::ibot_patch_loss::IbotPatchLoss;
pub use self_distillation::koleo_loss::KoLeoLoss;
pub use self_distillation::targets::{Centring, DinoLossConfig, TeacherTemperature};
pub use semi_supervised::SemiSupervised;
pub use semi_supervised::classifier::{Classifier, average_momentum};
pub use semi_supervised::curriculum::Curriculum;
pub use semi_supervised::distilled_classifier::{DistilledClassifier, DistilledClassifierConfig, Teacher};
pub use semi_supervised::labeler::{StepLabeler, one_view};
pub use semi_supervised::labelled_only::{LabelledOnly, LabelledOnlyConfig};
pub use semi_supervised::mean_teacher::{MeanTeacher, MeanTeacherConfig};
pub use semi_supervised::mix_match::{MixMatch, MixMatchTrainingConfig};
pub use semi_supervised::mixing::{Mix, Mixing, MixingKind, Nearer};
pub use semi_supervised::pseudo_labelling::{PseudoLabelling, PseudoLabellingConfig, PseudoTarget};
pub use semi_supervised::ramp::{Ramp, RampShape};
pub use supervised::{Supervised, SupervisedConfig};
