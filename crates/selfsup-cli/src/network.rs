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
    /// The `kind` of a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            NetworkConfig::Convnet(_) => ENCODERS[0].0,
            NetworkConfig::Resnet(_) => ENCODERS[1].0,
            NetworkConfig::Vit(_) => ENCODERS[2].0,
            NetworkConfig::TextTransformer(_) => ENCODERS[3].0,
        }
    }

    /// The same network for images of so many channels.
    ///
    /// # Errors
    /// When the network is none for images.
    pub fn for_images(&self, channels: usize) -> Result<Self> {
        let channels_in = channels as i64;
        Ok(match self.clone() {
            NetworkConfig::Convnet(config) => NetworkConfig::Convnet(ConvNetConfig { channels_in, ..config }),
            NetworkConfig::Resnet(config) => NetworkConfig::Resnet(ResNetConfig { channels_in, ..config }),
            NetworkConfig::Vit(config) => NetworkConfig::Vit(VitConfig { channels_in, ..config }),
            NetworkConfig::TextTransformer(_) => bail!(NOT_FOR_IMAGES),
        })
    }

    /// The same network for sequences of these tokens.
    ///
    /// # Errors
    /// When the network is none for text.
    pub fn for_text(&self, tokens: TokenShape) -> Result<Self> {
        let NetworkConfig::TextTransformer(config) = self.clone() else { bail!(NOT_FOR_TEXT) };
        let TokenShape { vocabulary, max_length, pad_id } = tokens;
        Ok(NetworkConfig::TextTransformer(TextTransformerConfig { vocabulary, max_length, pad_id, ..config }))
    }

    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// When a field cannot work, or the network is none for images.
    pub fn image_encoder(&self, path: nn::Path) -> Result<Box<dyn Encoder>> {
        let built: selfsup::core::Result<Box<dyn Encoder>> = match self {
            NetworkConfig::Convnet(config) => ConvNet::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::Resnet(config) => ResNet::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::Vit(config) => Vit::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::TextTransformer(_) => bail!(NOT_FOR_IMAGES),
        };
        Ok(built.map_err(|e| crate::recipe::inside(e, "encoder"))?)
    }

    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// When a field cannot work, or the network is none for text.
    pub fn text_encoder(&self, path: nn::Path) -> Result<TextTransformer> {
        let NetworkConfig::TextTransformer(config) = self else { bail!(NOT_FOR_TEXT) };
        Ok(TextTransformer::new(path, config).map_err(|e| crate::recipe::inside(e, "encoder"))?)
    }
}

const NOT_FOR_IMAGES: &str =
    "encoder.kind = \"text-transformer\": a network for images, as the objective learns from them";
const NOT_FOR_TEXT: &str =
    "encoder.kind: text-transformer is the network for text, from which the objective learns";

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
