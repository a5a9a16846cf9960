//! Networks and heads with torchvision's and timm's parameter names.
//!
//! An [`Encoder`](selfsup_core::Encoder) makes one feature vector of each input; a
//! [`TokenEncoder`](selfsup_core::TokenEncoder) also gives one vector per patch or word, and can be shown some of them
//! only.
//!
//! | network | takes | features | parameter names of |
//! |---|---|---|---|
//! | [`ConvNet`] | images of 28 to 64 pixels | 256 | this crate |
//! | [`ResNet`] 18, 34, 50 | images; [`Stem::Cifar`] for small ones | 512, 512, 2048 | torchvision |
//! | [`Vit`] tiny, small, base | images, tokens are patches | 192, 384, 768 | timm |
//! | [`PixelTransformer`] | images of 14 to 32 pixels, tokens are pixels | 512 | this crate |
//! | [`TextTransformer`] | token ids | 768 | Hugging Face's `BertModel` |
//! | [`MlpHead`] | features | as asked | a `torch.nn.Sequential` |
//!
//! Every network has a config with documented public fields, a `new(path, &config)` that checks it and makes the
//! parameters under `path`, and names its activations on the way
//! ([`intermediate`](selfsup_core::Encoder::intermediate)). What does not fit is an error that names the argument, not a
//! panic. A new network is drawn from libtorch's generator: seed it first with
//! [`Key::seed_torch`](selfsup_core::Key::seed_torch).
//!
//! # Example
//! ```
//! use selfsup_core::{Device, Encoder, Key, Kind, Mode, Tensor, TokenEncoder, nn};
//! use selfsup_encoders::{ResNet, ResNetConfig, Stem, Vit, VitConfig};
//!
//! Key::new(0).seed_torch();
//! let store = nn::VarStore::new(Device::Cpu);
//! let config = ResNetConfig { depth: 18, stem: Stem::Cifar, ..ResNetConfig::default() };
//! let resnet = ResNet::new(store.root() / "encoder", &config)?;
//! let images = Tensor::randn([4, 3, 32, 32], (Kind::Float, Device::Cpu));
//! assert_eq!(resnet.encode(&images, Mode::Train)?.size(), [4, resnet.dim()]);
//!
//! // A masked autoencoder shows its encoder a quarter of the 8 x 8 patches.
//! let config = VitConfig { depth: 2, ..VitConfig::tiny(32, 4) };
//! let vit = Vit::new(store.root() / "vit", &config)?;
//! let keep = Tensor::rand([4, 64], (Kind::Float, Device::Cpu)).argsort(1, false).narrow(1, 0, 16);
//! assert_eq!(vit.tokens(&images, Some(&keep), Mode::Train)?.size(), [4, 1 + 16, 192]);
//!
//! let error = resnet.encode(&images.narrow(1, 0, 1), Mode::Eval).unwrap_err();
//! assert_eq!(error.to_string(), "images: expected [_, 3, _, _], found [4, 1, 32, 32]");
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//!
//! # Weights from elsewhere and for elsewhere
//! Below the path of a network stand torchvision's and timm's own names. So weights are loaded by leaving out the
//! classifier, and exported by leaving out the path:
//! ```no_run
//! use selfsup_core::{Device, nn, state};
//! use selfsup_encoders::{ResNet, ResNetConfig};
//! use std::path::Path;
//!
//! let store = nn::VarStore::new(Device::Cpu);
//! let resnet = ResNet::new(store.root() / "encoder", &ResNetConfig::default())?;
//! let variables = state::named_variables(&store, "encoder"); // conv1.weight, bn1.weight, ...
//! // In Python: safetensors.torch.save_file(torchvision.models.resnet18(...).state_dict(), "resnet18.safetensors")
//! state::load(Path::new("resnet18.safetensors"), &variables, state::Extra::Skip(&["fc."]))?;
//! // In Python: model.fc = torch.nn.Identity(); model.load_state_dict(load_file("ours.safetensors"), strict=True)
//! state::save(Path::new("ours.safetensors"), &variables)?;
//! # Ok::<(), selfsup_core::Error>(())
//! ```
//! The classifier is `fc.` in torchvision, `head.` in timm (there `model.reset_classifier(0)` removes it); of
//! a `BertModel` skip `pooler.`.
//!
//! # Speed
//! The convolutional networks go on in the memory layout that their input has, without a copy. On a CPU channels-last
//! is mostly the faster one, also with one channel: hand over images as a permuted view of an `[N, H, W, C]` buffer.
//! The allocator matters as much there, and it is the program's choice: link jemalloc under `malloc`'s name.

pub mod convnet;
pub mod heads;
mod input;
pub mod pixel_transformer;
pub mod pooling;
#[cfg(test)]
mod reference;
pub mod resnet;
pub mod text_transformer;
pub mod vit;

pub use convnet::{ConvNet, ConvNetConfig};
pub use heads::{HeadNorm, MlpHead, MlpHeadConfig};
pub use pixel_transformer::{PixelTransformer, PixelTransformerConfig};
pub use pooling::Pooling;
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use text_transformer::{TextTransformer, TextTransformerConfig};
pub use vit::{Positions, Vit, VitConfig, Weights};
