//! Self-supervised losses and pretext tasks, one file per method, each to be read beside its paper.
//!
//! A *loss* is a struct with a `forward` on tensors, of use in any training code. An *objective* joins a loss with what
//! the method adds to the encoder (projector, teacher, queue), holds all of it as variables of the one parameter store,
//! and implements [`Objective`](selfsup_core::Objective).
//!
//! | method | loss | objective | takes |
//! |---|---|---|---|
//! | SimCLR | [`NtXent`] | [`SimClr`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | SupCon | [`SupConLoss`] | [`SupCon`] | two or more views with labels, any [`Encoder`](selfsup_core::Encoder) |
//! | SimCLRv2 | [`NtXent`], then [`Distillation`] | [`SimClrV2`], then [`SimClrV2Classifier`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | MoCo v2 | [`InfoNce`] against a [`Queue`] | [`MocoV2`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | DenseCL | [`InfoNce`] of images and of places | [`DenseCl`] | two views, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | PIRL | [`MemoryNce`] | [`Pirl`] | an image and a view to cut up, any [`Encoder`](selfsup_core::Encoder) |
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

pub mod contrastive;
pub mod language;

pub use contrastive::densecl::{DenseCl, DenseClConfig};
pub use contrastive::distillation::{Distillation, DistillationConfig};
pub use contrastive::info_nce::{InfoNce, InfoNceOutput};
pub use contrastive::memory_nce::{Compared, MemoryNce, MemoryNceOutput, Probability};
pub use contrastive::moco_v2::{MocoV2, MocoV2Config};
pub use contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
pub use contrastive::pirl::{Pirl, PirlConfig};
pub use contrastive::queue::Queue;
pub use contrastive::simclr::{SimClr, SimClrConfig};
pub use contrastive::simclr_v2::{SimClrV2, SimClrV2Classifier, SimClrV2Config};
pub use contrastive::supcon::{SupCon, SupConConfig, SupConLoss, SupConOutput};
pub use language::masked_language_modelling::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, MaskedTokens, Vocabulary,
};
