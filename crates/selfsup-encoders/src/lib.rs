//! Networks and heads with torchvision's and timm's parameter names.

mod attention;
pub mod config;
pub mod convnet;
pub mod heads;
mod input;
pub mod pooling;
#[cfg(test)]
mod reference;
pub mod resnet;
pub mod text_transformer;
pub mod vit;

pub use config::EncoderConfig;
pub use convnet::{ConvNet, ConvNetConfig};
pub use heads::{HeadNorm, MlpHead, MlpHeadConfig};
pub use pooling::Pooling;
pub use resnet::{ResNet, ResNetConfig, Stem};
pub use text_transformer::{TextTransformer, TextTransformerConfig};
pub use vit::{Vit, VitConfig};
