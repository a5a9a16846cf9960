//! Self-supervised losses and pretext tasks, one file per method, each to be read beside its paper.
//!
//! A *loss* is a struct with a `forward` on tensors, of use in any training code. An *objective* joins a loss with what
//! the method adds to the encoder (projector, teacher, queue), holds all of it as variables of the one parameter store,
//! and implements [`Objective`](selfsup_core::Objective).
//!
//! | method | loss | objective | takes |
//! |---|---|---|---|
//! | SimCLR | [`NtXent`] | [`SimClr`] | two views, any [`Encoder`](selfsup_core::Encoder) |
//! | denoising autoencoder | mean squared error | [`Denoising`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | colorization | rebalanced cross-entropy, or squared error | [`Colorization`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) for colour images |
//! | context encoder | squared error on the hidden region | [`Inpainting`] | one view, any [`MapEncoder`](selfsup_core::MapEncoder) |
//! | image GPT | cross-entropy on the next pixel | [`ImageGpt`] | one view, any [`PixelEncoder`](selfsup_core::PixelEncoder) |
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
pub mod generative;
pub mod language;

pub use contrastive::nt_xent::{NtXent, NtXentConfig, NtXentOutput};
pub use contrastive::simclr::{SimClr, SimClrConfig};
pub use generative::colorization::{Colorization, ColorizationConfig, ColourPrior, ColourTarget};
pub use generative::decoder::{ConvDecoder, ConvDecoderConfig};
pub use generative::denoising::{Corruption, Denoising, DenoisingConfig};
pub use generative::image_gpt::{ImageGpt, ImageGptConfig, Palette};
pub use generative::inpainting::{Inpainting, InpaintingConfig, Region};
pub use generative::lab::{SoftEncoding, gamut, lab_to_rgb, rgb_to_lab};
pub use generative::pixels::{Normalization, Reconstruction};
pub use language::masked_language_modelling::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, MaskedTokens, Vocabulary,
};
