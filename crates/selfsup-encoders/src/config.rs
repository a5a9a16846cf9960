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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stem;
    use crate::reference::images;
    use selfsup_core::{Device, Mode};

    #[test]
    fn a_recipe_names_a_network_and_what_differs_from_its_default() {
        let config: EncoderConfig =
            serde_json::from_str(r#"{"kind": "resnet", "depth": 18, "stem": "cifar"}"#).unwrap();
        let expected = ResNetConfig { depth: 18, stem: Stem::Cifar, ..ResNetConfig::default() };
        assert_eq!(config, EncoderConfig::ResNet(expected));
        for kind in ["convnet", "resnet", "vit"] {
            let config: EncoderConfig = serde_json::from_str(&format!(r#"{{"kind": "{kind}"}}"#)).unwrap();
            let written = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<EncoderConfig>(&written).unwrap(), config);
        }
    }

    #[test]
    fn a_recipe_with_unknown_names_is_refused() {
        let error = |text| serde_json::from_str::<EncoderConfig>(text).unwrap_err().to_string();
        assert!(error(r#"{"kind": "renset"}"#).contains("expected one of `convnet`, `resnet`, `vit`"));
        assert!(error(r#"{"kind": "vit", "patch": 8}"#).contains("unknown field `patch`"));
    }

    #[test]
    fn builds_what_it_names_for_the_channels_of_the_data() {
        let store = nn::VarStore::new(Device::Cpu);
        let mut config = EncoderConfig::ConvNet(ConvNetConfig::default());
        *config.channels_in() = 1;
        let encoder = config.build(store.root() / "encoder").unwrap();
        assert_eq!(encoder.encode(&images([2, 1, 28, 28]), Mode::Eval).unwrap().size(), [2, encoder.dim()]);
        assert!(store.variables().contains_key("encoder.blocks.0.conv.weight"));
    }
}
