//! The encoders that recipes know by name.

use anyhow::{Result, bail};
use selfsup::core::{Encoder, nn};
use selfsup::encoders::{
    ConvNet, ConvNetConfig, ResNet, ResNetConfig, TextTransformer, TextTransformerConfig, Vit, VitConfig,
};
use serde::{Deserialize, Serialize};

/// `[encoder]`: the field `kind` tells which network, the others are the network's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum NetworkConfig {
    /// A small convolutional network.
    Convnet(ConvNetConfig),
    /// ResNet-18, -34 or -50.
    Resnet(ResNetConfig),
    /// Vision Transformer.
    Vit(VitConfig),
    /// BERT's encoder.
    TextTransformer(TextTransformerConfig),
}

/// The encoders and what each is, for `selfsup list`.
pub const ENCODERS: [(&str, &str); 4] = [
    ("convnet", "3x3 convolutions with BatchNorm and a global average: for images of 28 to 64 pixels"),
    ("resnet", "ResNet-18, -34, -50 with torchvision's names; stem = \"cifar\" for small images"),
    ("vit", "Vision Transformer with timm's names"),
    ("text-transformer", "BERT's encoder with the names of Hugging Face's transformers"),
];

impl NetworkConfig {
    /// Makes an image network for images of so many channels.
    ///
    /// # Errors
    /// When a field cannot work, or the network is none for images.
    pub fn image_encoder(&self, path: nn::Path, channels: usize) -> Result<Box<dyn Encoder>> {
        let channels_in = channels as i64;
        let built: selfsup::core::Result<Box<dyn Encoder>> = match self.clone() {
            NetworkConfig::Convnet(config) => {
                ConvNet::new(path, &ConvNetConfig { channels_in, ..config }).map(|net| Box::new(net) as _)
            }
            NetworkConfig::Resnet(config) => {
                ResNet::new(path, &ResNetConfig { channels_in, ..config }).map(|net| Box::new(net) as _)
            }
            NetworkConfig::Vit(config) => {
                Vit::new(path, &VitConfig { channels_in, ..config }).map(|net| Box::new(net) as _)
            }
            NetworkConfig::TextTransformer(_) => {
                bail!(
                    "encoder.kind = \"text-transformer\": a network for images, as the objective learns from them"
                )
            }
        };
        Ok(built.map_err(|e| crate::recipe::inside(e, "encoder"))?)
    }

    /// Makes a text network for sequences of these tokens.
    ///
    /// # Errors
    /// When a field cannot work, or the network is none for text.
    pub fn text_encoder(&self, path: nn::Path, tokens: TokenShape) -> Result<TextTransformer> {
        let NetworkConfig::TextTransformer(config) = self.clone() else {
            bail!("encoder.kind: text-transformer is the network for text, from which the objective learns");
        };
        let TokenShape { vocabulary, max_length, pad_id } = tokens;
        let config = TextTransformerConfig { vocabulary, max_length, pad_id, ..config };
        Ok(TextTransformer::new(path, &config).map_err(|e| crate::recipe::inside(e, "encoder"))?)
    }
}

/// What a text network takes, which the data decide.
#[derive(Clone, Copy, Debug)]
pub struct TokenShape {
    /// The number of token ids.
    pub vocabulary: i64,
    /// The tokens of a sequence.
    pub max_length: i64,
    /// The id that fills short sequences.
    pub pad_id: i64,
}
