//! The encoders that recipes know by name.

use crate::projected::{Projected, ProjectedConfig};
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::{
    Encoder, ImageViews, Judgement, Loss, MapEncoder, Objective, PatchEncoder, Pictures, PixelEncoder,
    Precision, Result as CoreResult, Site, Step, nn,
};
use selfsup::encoders::{
    ConvNet, ConvNetConfig, PixelTransformer, PixelTransformerConfig, Pooling, ResNet, ResNetConfig,
    TextTransformer, TextTransformerConfig, Vit, VitConfig,
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
    /// Image GPT's Transformer on pixels.
    PixelTransformer(PixelTransformerConfig),
    /// BERT's encoder.
    TextTransformer(TextTransformerConfig),
    /// Any of these for images, with the first layers of a projector on it.
    Projected(ProjectedConfig),
}

/// The encoders and what each is, for `selfsup list`.
pub const ENCODERS: [(&str, &str); 6] = [
    ("convnet", "3x3 convolutions with BatchNorm and a global average: for images of 28 to 64 pixels"),
    ("resnet", "ResNet-18, -34, -50 with torchvision's names; stem = \"cifar\" for small images"),
    ("vit", "Vision Transformer with timm's names"),
    ("pixel-transformer", "image GPT's causal Transformer on pixels: for images of 14 to 32 pixels"),
    ("text-transformer", "BERT's encoder with the names of Hugging Face's transformers"),
    (
        "projected",
        "one of these for images and the first layers of a projector, which SimCLRv2 fine-tunes from",
    ),
];

impl NetworkConfig {
    /// The `kind` of a recipe.
    pub fn name(&self) -> &'static str {
        match self {
            NetworkConfig::Convnet(_) => ENCODERS[0].0,
            NetworkConfig::Resnet(_) => ENCODERS[1].0,
            NetworkConfig::Vit(_) => ENCODERS[2].0,
            NetworkConfig::PixelTransformer(_) => ENCODERS[3].0,
            NetworkConfig::TextTransformer(_) => ENCODERS[4].0,
            NetworkConfig::Projected(_) => ENCODERS[5].0,
        }
    }

    /// In what the network computes while it is trained.
    pub fn precision(&self) -> Precision {
        match self {
            NetworkConfig::Convnet(config) => config.precision,
            NetworkConfig::Resnet(config) => config.precision,
            NetworkConfig::Vit(config) => config.precision,
            NetworkConfig::PixelTransformer(_) | NetworkConfig::TextTransformer(_) => Precision::Float32,
            NetworkConfig::Projected(config) => config.network.precision(),
        }
    }

    /// What the features are made of, in a network on patches.
    pub fn pooling(&self) -> Option<Pooling> {
        match self {
            NetworkConfig::Vit(config) => Some(config.pooling),
            NetworkConfig::Projected(config) => config.network.pooling(),
            _ => None,
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
            NetworkConfig::PixelTransformer(config) => {
                NetworkConfig::PixelTransformer(PixelTransformerConfig { channels_in, ..config })
            }
            NetworkConfig::Projected(config) => {
                let network = Box::new(config.network.for_images(channels)?);
                NetworkConfig::Projected(ProjectedConfig { network, ..config })
            }
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
    pub fn image_encoder(&self, path: nn::Path) -> Result<Box<dyn ImageNetwork>> {
        if matches!(self, NetworkConfig::TextTransformer(_)) {
            bail!(NOT_FOR_IMAGES);
        }
        Ok(self.image_network(path)?)
    }

    /// The same network as a teacher has it: without stochastic depth, which the authors of DINO, iBOT and DINOv2 leave out of it.
    /// A teacher may still run in training mode, in which BatchNorm normalises a batch by itself.
    fn of_teacher(&self) -> Self {
        match self.clone() {
            NetworkConfig::Vit(config) => NetworkConfig::Vit(VitConfig { drop_path: 0.0, ..config }),
            NetworkConfig::Projected(config) => {
                let network = Box::new(config.network.of_teacher());
                NetworkConfig::Projected(ProjectedConfig { network, ..config })
            }
            other => other,
        }
    }

    /// Layers of a projector stand on features: what an objective asks of maps and patches says nothing to them.
    fn without_projector(&self) -> Result<()> {
        ensure!(
            !matches!(self, NetworkConfig::Projected(_)),
            "encoder.kind = \"projected\": the network below it alone, as the objective looks at its maps or patches, on which the \
             projector's layers do not stand"
        );
        Ok(())
    }

    fn image_network(&self, path: nn::Path) -> CoreResult<Box<dyn ImageNetwork>> {
        self.network(path).map_err(|e| crate::recipe::inside(e, "encoder"))
    }

    /// The same, with fields as they are called in here.
    ///
    /// # Errors
    /// As [`image_encoder`](NetworkConfig::image_encoder).
    pub fn network(&self, path: nn::Path) -> CoreResult<Box<dyn ImageNetwork>> {
        match self {
            NetworkConfig::Convnet(config) => ConvNet::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::Resnet(config) => ResNet::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::Vit(config) => Vit::new(path, config).map(|net| Box::new(net) as _),
            NetworkConfig::PixelTransformer(config) => {
                PixelTransformer::new(path, config).map(|net| Box::new(net) as _)
            }
            NetworkConfig::Projected(config) => Projected::new(&path, config).map(|net| Box::new(net) as _),
            NetworkConfig::TextTransformer(_) => Err(selfsup::core::Error::Other(NOT_FOR_IMAGES.to_owned())),
        }
    }

    /// The site of an objective on images: the network that this describes stands in `store`, and it learns from so many
    /// samples.
    pub fn site<'a>(
        &'a self,
        store: &'a nn::VarStore,
        encoder: &'a (dyn ImageNetwork + 'static),
        samples: usize,
    ) -> Site<'a, dyn ImageNetwork> {
        Site::new(store, encoder, samples as i64, |path| self.of_teacher().image_network(path))
    }

    /// The same site for an objective that needs a map of features.
    ///
    /// # Errors
    /// When the network has none.
    pub fn map_site<'a>(&'a self, site: &Site<'a, dyn ImageNetwork>) -> Result<Site<'a, dyn MapEncoder>> {
        self.without_projector()?;
        let encoder = site.encoder.as_map().context(NO_MAP)?;
        Ok(Site::new(site.store, encoder, site.samples, |path| {
            Ok(match self.of_teacher() {
                NetworkConfig::Convnet(config) => Box::new(ConvNet::new(path, &config)?),
                NetworkConfig::Resnet(config) => Box::new(ResNet::new(path, &config)?),
                NetworkConfig::Vit(config) => Box::new(Vit::new(path, &config)?),
                NetworkConfig::PixelTransformer(_)
                | NetworkConfig::TextTransformer(_)
                | NetworkConfig::Projected(_) => {
                    return Err(selfsup::core::Error::Other(NO_MAP.to_owned()));
                }
            })
        })
        .at_the_place_of(site))
    }

    /// The same site for an objective that needs patches.
    ///
    /// # Errors
    /// When the network does not work on patches.
    pub fn patch_site<'a>(&'a self, site: &Site<'a, dyn ImageNetwork>) -> Result<Site<'a, dyn PatchEncoder>> {
        let no_patches = || {
            format!(
                "encoder.kind = {:?}: vit, as the objective hides or predicts patches of an image",
                self.name()
            )
        };
        self.without_projector()?;
        let encoder = site.encoder.as_patches().with_context(no_patches)?;
        Ok(Site::new(site.store, encoder, site.samples, move |path| match self.of_teacher() {
            NetworkConfig::Vit(config) => Ok(Box::new(Vit::new(path, &config)?)),
            _ => Err(selfsup::core::Error::Other(no_patches())),
        })
        .at_the_place_of(site))
    }

    /// The same site for an objective that predicts pixels one by one.
    ///
    /// # Errors
    /// When the network does not read them so.
    pub fn pixel_site<'a>(&'a self, site: &Site<'a, dyn ImageNetwork>) -> Result<Site<'a, dyn PixelEncoder>> {
        let no_pixels = || {
            format!(
                "encoder.kind = {:?}: pixel-transformer, as the objective predicts pixels one by one",
                self.name()
            )
        };
        let encoder = site.encoder.as_pixels().with_context(no_pixels)?;
        Ok(Site::new(site.store, encoder, site.samples, move |path| match self {
            NetworkConfig::PixelTransformer(config) => Ok(Box::new(PixelTransformer::new(path, config)?)),
            _ => Err(selfsup::core::Error::Other(no_pixels())),
        })
        .at_the_place_of(site))
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

/// A network for images, and what more it is.
pub trait ImageNetwork: Encoder {
    /// As a network with a map of features.
    fn as_map(&self) -> Option<&(dyn MapEncoder + 'static)>;

    /// As a network on patches.
    fn as_patches(&self) -> Option<&(dyn PatchEncoder + 'static)>;

    /// As a network that reads pixels one by one.
    fn as_pixels(&self) -> Option<&(dyn PixelEncoder + 'static)> {
        None
    }
}

macro_rules! image_network {
    ($network:ty, $patches:expr) => {
        impl ImageNetwork for $network {
            fn as_map(&self) -> Option<&(dyn MapEncoder + 'static)> {
                Some(self)
            }

            fn as_patches(&self) -> Option<&(dyn PatchEncoder + 'static)> {
                let patches: fn(&$network) -> Option<&(dyn PatchEncoder + 'static)> = $patches;
                patches(self)
            }
        }
    };
}

image_network!(ConvNet, |_| None);
image_network!(ResNet, |_| None);
image_network!(Vit, |network| Some(network));

impl ImageNetwork for PixelTransformer {
    fn as_map(&self) -> Option<&(dyn MapEncoder + 'static)> {
        None
    }

    fn as_patches(&self) -> Option<&(dyn PatchEncoder + 'static)> {
        None
    }

    fn as_pixels(&self) -> Option<&(dyn PixelEncoder + 'static)> {
        Some(self)
    }
}

/// An objective that needs a map, for any network: one without a map was refused when it was built.
pub struct OnMaps<O>(pub O);

/// An objective that needs patches, likewise.
pub struct OnPatches<O>(pub O);

/// An objective that predicts pixels one by one, likewise.
pub struct OnPixels<O>(pub O);

macro_rules! on {
    ($wrapper:ident, $encoder:ident, $cast:ident, $missing:expr) => {
        impl<O: Objective<dyn $encoder, Batch = ImageViews>> Objective<dyn ImageNetwork> for $wrapper<O> {
            type Batch = ImageViews;

            fn loss(
                &mut self,
                encoder: &(dyn ImageNetwork + 'static),
                batch: &ImageViews,
                step: &Step,
            ) -> CoreResult<Loss> {
                let encoder =
                    encoder.$cast().ok_or_else(|| selfsup::core::Error::Other($missing.to_owned()))?;
                self.0.loss(encoder, batch, step)
            }

            fn after_step(&mut self, store: &nn::VarStore, step: &Step) -> CoreResult<()> {
                self.0.after_step(store, step)
            }

            fn judge(
                &self,
                encoder: &(dyn ImageNetwork + 'static),
                batch: &ImageViews,
            ) -> CoreResult<Judgement> {
                let encoder =
                    encoder.$cast().ok_or_else(|| selfsup::core::Error::Other($missing.to_owned()))?;
                self.0.judge(encoder, batch)
            }

            fn pictures(
                &self,
                encoder: &(dyn ImageNetwork + 'static),
                batch: &ImageViews,
            ) -> CoreResult<Option<Pictures>> {
                let encoder =
                    encoder.$cast().ok_or_else(|| selfsup::core::Error::Other($missing.to_owned()))?;
                self.0.pictures(encoder, batch)
            }
        }
    };
}

on!(OnMaps, MapEncoder, as_map, NO_MAP);
on!(OnPatches, PatchEncoder, as_patches, "the network has no patches");
on!(OnPixels, PixelEncoder, as_pixels, "the network does not read pixels one by one");

const NO_MAP: &str =
    "encoder.kind: a network with a map of features, as the objective looks at places of an image";
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

#[cfg(test)]
mod tests {
    use super::*;
    use selfsup::core::{Device, Kind, Mode, Tensor, tch};

    #[test]
    fn a_teacher_has_no_stochastic_depth_wherever_it_is_built() {
        let vit = VitConfig { image_size: 8, patch_size: 4, channels_in: 1, ..VitConfig::default() };
        let vit = VitConfig { dim: 12, depth: 3, heads: 3, drop_path: 0.5, ..vit };
        let config = NetworkConfig::Vit(vit);
        let store = nn::VarStore::new(Device::Cpu);
        let encoder = config.image_encoder(store.root() / "encoder").unwrap();
        let site = config.site(&store, encoder.as_ref(), 10);
        let x = (Tensor::arange(16 * 64, (Kind::Float, Device::Cpu)) * 0.7).sin().view([16, 1, 8, 8]);
        let steady = |encode: &dyn Fn() -> CoreResult<Tensor>| {
            tch::manual_seed(0);
            encode().unwrap() == encode().unwrap()
        };
        assert!(!steady(&|| encoder.encode(&x, Mode::Train)), "the student has it");
        let teacher = (site.twin)(store.root() / "teacher").unwrap();
        assert!(steady(&|| teacher.encode(&x, Mode::Train)));
        let teacher = (config.map_site(&site).unwrap().twin)(store.root() / "of_maps").unwrap();
        assert!(steady(&|| teacher.encode(&x, Mode::Train)));
        let teacher = (config.patch_site(&site).unwrap().twin)(store.root() / "of_patches").unwrap();
        assert!(steady(&|| teacher.encode(&x, Mode::Train)));
    }
}
