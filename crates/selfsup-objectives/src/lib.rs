//! Self-supervised losses and pretext tasks, one file per method, each to be read beside its paper.
//!
//! A *loss* is a struct with a `forward` on tensors, of use in any training code. An *objective* joins a loss with what
//! the method adds to the encoder (projector, teacher, queue), holds all of it as variables of the one parameter store,
//! and implements [`Objective`](selfsup_core::Objective).
//!
//! | method | loss | objective | takes |
//! |---|---|---|---|
//! | SimCLR | [`NtXent`] | [`SimClr`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | SwAV | [`SwavLoss`] | [`Swav`] | two or more views of any size, any [`Encoder`](selfsup_core::Encoder) |
//! | DINO | [`DinoLoss`] | [`Dino`] | two or more views of any size, any [`Encoder`](selfsup_core::Encoder) |
//! | iBOT | [`DinoLoss`], [`IbotPatchLoss`] | [`Ibot`] | two or more views of any size, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
//! | DINOv2 | [`DinoLoss`], [`IbotPatchLoss`], [`KoLeoLoss`] | [`DinoV2`] | two or more views of any size, any [`PatchEncoder`](selfsup_core::PatchEncoder) |
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

pub mod clustering;
pub mod contrastive;
pub mod language;
pub mod self_distillation;

pub use clustering::swav::{Swav, SwavConfig};
pub use clustering::swav_loss::{SwavLoss, SwavLossConfig, SwavOutput};
pub use contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
pub use contrastive::simclr::{SimClr, SimClrConfig};
pub use language::masked_language_modelling::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, MaskedTokens, Vocabulary,
};
pub use self_distillation::block_masks::BlockMasking;
pub use self_distillation::dino::{Dino, DinoConfig};
pub use self_distillation::dino_head::{DinoHead, DinoHeadConfig, LastLayer};
pub use self_distillation::dino_loss::DinoLoss;
pub use self_distillation::dinov2::{DinoV2, DinoV2Config};
pub use self_distillation::ibot::{Ibot, IbotConfig};
pub use self_distillation::ibot_patch_loss::IbotPatchLoss;
pub use self_distillation::koleo_loss::KoLeoLoss;
pub use self_distillation::targets::{Centring, DinoLossConfig, TeacherTemperature};
