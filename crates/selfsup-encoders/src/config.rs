//! An image encoder as a recipe names it.

use crate::{ConvNet, ConvNetConfig, ResNet, ResNetConfig, Vit, VitConfig};
use selfsup_core::{Encoder, Result, nn};
use serde::{Deserialize, Serialize};
use std::borrow::Borrow;

/// Any image encoder of this crate. In a file the field `kind` tells which; the others are the network's own:
/// `kind = "resnet"`, `depth = 50`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum EncoderConfig {
    /// A [`ConvNet`].
    ConvNet(ConvNetConfig),
    /// A [`ResNet`].
    ResNet(ResNetConfig),
    /// A [`Vit`].
    Vit(VitConfig),
}

impl EncoderConfig {
    /// Makes the network's parameters under `path`.
    ///
    /// # Errors
    /// As the network's own `new`.
    pub fn build<'a>(&self, path: impl Borrow<nn::Path<'a>>) -> Result<Box<dyn Encoder>> {
        Ok(match self {
            EncoderConfig::ConvNet(config) => Box::new(ConvNet::new(path, config)?),
            EncoderConfig::ResNet(config) => Box::new(ResNet::new(path, config)?),
            EncoderConfig::Vit(config) => Box::new(Vit::new(path, config)?),
        })
    }

    /// The channels of the images that the network takes, to be set to those of the data.
    pub fn channels_in(&mut self) -> &mut i64 {
        match self {
            EncoderConfig::ConvNet(config) => &mut config.channels_in,
            EncoderConfig::ResNet(config) => &mut config.channels_in,
            EncoderConfig::Vit(config) => &mut config.channels_in,
        }
    }
}
