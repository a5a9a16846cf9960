//! The objectives that recipes know by name.
//!
//! A new method is a row of the table below.

use crate::network::{ImageNetwork, NetworkConfig, OnMaps, OnPatches, OnPixels};
use anyhow::{Result, bail};
use selfsup::core::{ImageViews, Objective, PatchEncoder, Site, Tensor, TokenBatch, TokenEncoder, nn};
use selfsup::labels;
use selfsup::objectives::{self, Vocabulary};
use serde::{Deserialize, Serialize};

/// Makes of a table of methods: the config that a recipe holds, what a reader is told of each, and the functions that
/// build them. The groups tell what the encoder must be: any network for images, one with a map, one with patches, one
/// that reads pixels, what the parts of a combination ask, or one for text. In a row stand the variant (in kebab case the
/// `kind` of the recipe), the config, the objective, the kind, the family, its name, what it does, and its paper.
macro_rules! methods {
    (
        images { $($image:ident($image_config:ty) => $image_objective:ty, $($image_text:literal),+;)* }
        maps { $($map:ident($map_config:ty) => $map_objective:ty, $($map_text:literal),+;)* }
        patches { $($patch:ident($patch_config:ty) => $patch_objective:ty, $($patch_text:literal),+;)* }
        pixels { $($pixel:ident($pixel_config:ty) => $pixel_objective:ty, $($pixel_text:literal),+;)* }
        combinations { $($combination:ident($combination_config:ty), $($combination_text:literal),+;)* }
        text { $($text:ident($text_config:ty) => $text_objective:ty, $($text_text:literal),+;)* }
    ) => {
        /// `[objective]`: the field `kind` tells which, the others are the method's own.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum ObjectiveConfig {
            $(#[allow(missing_docs)] $image($image_config),)*
            $(#[allow(missing_docs)] $map($map_config),)*
            $(#[allow(missing_docs)] $patch($patch_config),)*
            $(#[allow(missing_docs)] $pixel($pixel_config),)*
            $(#[allow(missing_docs)] $combination($combination_config),)*
            $(#[allow(missing_docs)] $text($text_config),)*
        }

        /// The methods, a row for each.
        pub const METHODS: &[Method] = &[
            $(Method::new(Needs::Images, [$($image_text),+]),)*
            $(Method::new(Needs::Maps, [$($map_text),+]),)*
            $(Method::new(Needs::Patches, [$($patch_text),+]),)*
            $(Method::new(Needs::Pixels, [$($pixel_text),+]),)*
            $(Method::new(Needs::Parts, [$($combination_text),+]),)*
            $(Method::new(Needs::Text, [$($text_text),+]),)*
        ];

        impl ObjectiveConfig {
            /// Its row of [`METHODS`].
            pub fn method(&self) -> &'static Method {
                match self {
                    $(ObjectiveConfig::$image(_) => &const { Method::new(Needs::Images, [$($image_text),+]) },)*
                    $(ObjectiveConfig::$map(_) => &const { Method::new(Needs::Maps, [$($map_text),+]) },)*
                    $(ObjectiveConfig::$patch(_) => &const { Method::new(Needs::Patches, [$($patch_text),+]) },)*
                    $(ObjectiveConfig::$pixel(_) => &const { Method::new(Needs::Pixels, [$($pixel_text),+]) },)*
                    $(ObjectiveConfig::$combination(_) => {
                        &const { Method::new(Needs::Parts, [$($combination_text),+]) }
                    })*
                    $(ObjectiveConfig::$text(_) => &const { Method::new(Needs::Text, [$($text_text),+]) },)*
                }
            }

            /// Makes an objective on images for the network of a site, which `config` describes.
            ///
            /// # Errors
            /// When a field cannot work, the network is not what the objective needs, or the objective learns from
            /// something else.
            pub fn on_images(
                &self,
                site: &Site<dyn ImageNetwork>,
                config: &NetworkConfig,
            ) -> Result<ImageObjective> {
                self.on_images_in(site, config, "objective")
            }

            /// The same for the section of a recipe that holds this.
            ///
            /// # Errors
            /// As [`on_images`](ObjectiveConfig::on_images).
            pub fn on_images_in(
                &self,
                site: &Site<dyn ImageNetwork>,
                config: &NetworkConfig,
                section: &str,
            ) -> Result<ImageObjective> {
                let inside = |e| crate::recipe::inside(e, section);
                Ok(match self {
                    $(ObjectiveConfig::$image(own) => {
                        Box::new(<$image_objective>::new(site, own).map_err(inside)?)
                    })*
                    $(ObjectiveConfig::$map(own) => {
                        let site = config.map_site(site)?;
                        Box::new(OnMaps(<$map_objective>::new(&site, own).map_err(inside)?))
                    })*
                    $(ObjectiveConfig::$patch(own) => {
                        let site = config.patch_site(site)?;
                        Box::new(OnPatches(<$patch_objective>::new(&site, own).map_err(inside)?))
                    })*
                    $(ObjectiveConfig::$pixel(own) => {
                        let site = config.pixel_site(site)?;
                        Box::new(OnPixels(<$pixel_objective>::new(&site, own).map_err(inside)?))
                    })*
                    $(ObjectiveConfig::$combination(own) => Box::new(own.on_images(site, config, section)?),)*
                    _ => bail!("{section}.kind: one that learns from images"),
                })
            }

            /// Makes an objective on text for an encoder with the token embedding `embedding` `[V, D]`.
            ///
            /// # Errors
            /// When a field cannot work, or the objective learns from something else.
            pub fn on_text(&self, path: nn::Path, embedding: &Tensor, vocabulary: Vocabulary) -> Result<TextObjective> {
                Ok(match self {
                    $(ObjectiveConfig::$text(config) => {
                        Box::new(<$text_objective>::new(path, embedding, vocabulary, config.clone()).map_err(inside)?)
                    })*
                    _ => bail!("objective.kind: one that learns from text"),
                })
            }
        }
    };
}

methods! {
    images {
        Simclr(objectives::SimClrConfig) => objectives::SimClr,
            "simclr", "contrastive", "SimCLR", "two views of an image against the views of all others",
            "Chen et al., \"A simple framework for contrastive learning of visual representations\", 2020";
        MocoV2(objectives::MocoV2Config) => objectives::MocoV2<dyn ImageNetwork>,
            "moco-v2", "contrastive", "MoCo v2", "a view against a queue of keys that a slow teacher made",
            "Chen et al., \"Improved baselines with momentum contrastive learning\", 2020";
        Dcl(objectives::DclConfig) => objectives::Dcl,
            "dcl", "contrastive", "DCL", "two views against all others, the pair itself not among them",
            "Yeh et al., \"Decoupled contrastive learning\", 2022";
        Nnclr(objectives::NnclrConfig) => objectives::Nnclr,
            "nnclr", "contrastive", "NNCLR", "a view against the nearest neighbours of the others' other views",
            "Dwibedi et al., \"With a little help from my friends: nearest-neighbor contrastive learning\", 2021";
        MocoV3(objectives::MocoV3Config) => objectives::MocoV3<dyn ImageNetwork>,
            "moco-v3", "contrastive", "MoCo v3", "a view against the keys that a slow teacher made of the batch",
            "Chen et al., \"An empirical study of training self-supervised vision transformers\", 2021";
        Supcon(objectives::SupConConfig) => objectives::SupCon,
            "supcon", "contrastive", "SupCon", "the views of a class against the views of all others, from labels",
            "Khosla et al., \"Supervised contrastive learning\", 2020";
        SimclrV2(objectives::SimClrV2Config) => objectives::SimClrV2,
            "simclr-v2", "contrastive", "SimCLRv2", "SimCLR with a projector whose first layer is kept for fine-tuning",
            "Chen et al., \"Big self-supervised models are strong semi-supervised learners\", 2020";
        Pirl(objectives::PirlConfig) => objectives::Pirl,
            "pirl", "contrastive", "PIRL", "an image and its jigsaw puzzle against a memory of all images",
            "Misra and van der Maaten, \"Self-supervised learning of pretext-invariant representations\", 2020";
        Byol(objectives::ByolConfig) => objectives::Byol<dyn ImageNetwork>,
            "byol", "non-contrastive", "BYOL", "predict what a slowly moving teacher makes of the other view",
            "Grill et al., \"Bootstrap your own latent: a new approach to self-supervised learning\", 2020";
        Vicreg(objectives::VicRegConfig) => objectives::VicReg,
            "vicreg", "non-contrastive", "VICReg", "views agree, and features vary and differ from each other",
            "Bardes et al., \"VICReg: variance-invariance-covariance regularization for self-supervised learning\", 2022";
        BarlowTwins(objectives::BarlowTwinsConfig) => objectives::BarlowTwins,
            "barlow-twins", "non-contrastive", "Barlow Twins", "features correlate over two views, each with itself alone",
            "Zbontar et al., \"Barlow twins: self-supervised learning via redundancy reduction\", 2021";
        Simsiam(objectives::SimSiamConfig) => objectives::SimSiam,
            "simsiam", "non-contrastive", "SimSiam", "predict the other view, which stands still meanwhile",
            "Chen and He, \"Exploring simple siamese representation learning\", 2021";
        Tico(objectives::TiCoConfig) => objectives::TiCo<dyn ImageNetwork>,
            "tico", "non-contrastive", "TiCo", "views agree, away from the directions of embeddings so far",
            "Zhu et al., \"TiCo: transformation invariance and covariance contrast\", 2022";
        Lejepa(objectives::LeJepaConfig) => objectives::LeJepa,
            "lejepa", "non-contrastive", "LeJEPA", "views agree, and embeddings are spread like a Gaussian",
            "Balestriero and LeCun, \"LeJEPA: provable and scalable self-supervised learning without the heuristics\", 2025";
        WMse(objectives::WMseConfig) => objectives::WMse,
            "w-mse", "non-contrastive", "W-MSE", "views agree after the embeddings of a batch are whitened",
            "Ermolov et al., \"Whitening for self-supervised representation learning\", 2021";
        Swav(objectives::SwavConfig) => objectives::Swav,
            "swav", "clustering", "SwAV", "from a view predict the balanced cluster of another view",
            "Caron et al., \"Unsupervised learning of visual features by contrasting cluster assignments\", 2020";
        DeepclusterV2(objectives::DeepClusterV2Config) => objectives::DeepClusterV2,
            "deepcluster-v2", "clustering", "DeepCluster v2", "classify views by the clusters of the epoch before",
            "Caron et al., \"Unsupervised learning of visual features by contrasting cluster assignments\", 2020";
        Dino(objectives::DinoConfig) => objectives::Dino<dyn ImageNetwork>,
            "dino", "self-distillation", "DINO", "say of every view what a moving average says of another large view",
            "Caron et al., \"Emerging properties in self-supervised vision transformers\", 2021";
        Rotation(crate::pretext::PretextConfig<labels::RotationConfig>) => crate::pretext::Pretext<labels::Rotation>,
            "rotation", "pretext", "Rotation", "tell by how many quarter turns an image was turned",
            "Gidaris et al., \"Unsupervised representation learning by predicting image rotations\", 2018";
        Jigsaw(crate::pretext::PretextConfig<labels::JigsawConfig>) => crate::pretext::Pretext<labels::Jigsaw>,
            "jigsaw", "pretext", "Jigsaw", "tell in which order the tiles of an image were shuffled",
            "Noroozi and Favaro, \"Unsupervised learning of visual representations by solving jigsaw puzzles\", 2016";
        ContextPrediction(crate::pretext::PretextConfig<labels::RelativePositionConfig>)
            => crate::pretext::Pretext<labels::RelativePosition>,
            "context-prediction", "pretext", "Context prediction", "tell where a tile lies from its neighbour",
            "Doersch et al., \"Unsupervised visual representation learning by context prediction\", 2015";
        Supervised(objectives::SupervisedConfig) => objectives::Supervised,
            "supervised", "supervised", "supervised", "classify the labels of the set: what the others are measured against",
            "Szegedy et al., \"Rethinking the Inception architecture for computer vision\", 2016 (label smoothing)";
    }
    maps {
        Densecl(objectives::DenseClConfig) => objectives::DenseCl<dyn selfsup::core::MapEncoder>,
            "densecl", "contrastive", "DenseCL", "every place of an image against places of others, beside whole images",
            "Wang et al., \"Dense contrastive learning for self-supervised visual pre-training\", 2021";
        Denoising(objectives::DenoisingConfig) => objectives::Denoising,
            "denoising", "generative", "denoising autoencoder", "make the clean image of a corrupted one",
            "Vincent et al., \"Extracting and composing robust features with denoising autoencoders\", 2008";
        Colorization(objectives::ColorizationConfig) => objectives::Colorization,
            "colorization", "generative", "colorization", "predict the colours of an image from how light it is",
            "Zhang et al., \"Colorful image colorization\", 2016";
        Inpainting(objectives::InpaintingConfig) => objectives::Inpainting,
            "inpainting", "generative", "context encoder", "make a hidden region of an image from what is around it",
            "Pathak et al., \"Context encoders: feature learning by inpainting\", 2016";
    }
    patches {
        Msn(objectives::MsnConfig) => objectives::Msn<dyn PatchEncoder>,
            "msn", "clustering", "MSN", "from an image with patches left out predict the prototypes of the whole",
            "Assran et al., \"Masked siamese networks for label-efficient learning\", 2022";
        Ibot(objectives::IbotConfig) => objectives::Ibot<dyn PatchEncoder>,
            "ibot", "self-distillation", "iBOT", "DINO, and of hidden patches what a moving average says that sees them",
            "Zhou et al., \"iBOT: image BERT pre-training with online tokenizer\", 2022";
        Dinov2(objectives::DinoV2Config) => objectives::DinoV2<dyn PatchEncoder>,
            "dinov2", "self-distillation", "DINOv2", "iBOT with balanced targets, two heads, and features spread apart",
            "Oquab et al., \"DINOv2: learning robust visual features without supervision\", 2023";
        Mae(objectives::MaeConfig) => objectives::Mae,
            "mae", "masked", "MAE", "paint the patches of an image that the encoder does not see",
            "He et al., \"Masked autoencoders are scalable vision learners\", 2022";
        Simmim(objectives::SimMimConfig) => objectives::SimMim,
            "simmim", "masked", "SimMIM", "paint masked blocks of an image with one linear layer",
            "Xie et al., \"SimMIM: a simple framework for masked image modeling\", 2022";
        IJepa(objectives::IJepaConfig) => objectives::IJepa<dyn PatchEncoder>,
            "i-jepa", "masked", "I-JEPA", "predict what a moving average of the encoder sees in blocks of an image",
            "Assran et al., \"Self-supervised learning from images with a joint-embedding predictive architecture\", 2023";
    }
    pixels {
        ImageGpt(objectives::ImageGptConfig) => objectives::ImageGpt,
            "image-gpt", "generative", "image GPT", "predict every pixel from those before it",
            "Chen, Radford et al., \"Generative pretraining from pixels\", 2020";
    }
    combinations {
        Combined(crate::combined::CombinedConfig),
            "combined", "combination", "Combined", "a weighted sum of several objectives on one encoder",
            "Doersch and Zisserman, \"Multi-task self-supervised visual learning\", 2017";
    }
    text {
        MaskedLanguageModelling(objectives::MaskedLanguageModellingConfig) => objectives::MaskedLanguageModelling,
            "masked-language-modelling", "masked", "BERT", "predict hidden tokens from the rest",
            "Devlin et al., \"BERT: pre-training of deep bidirectional transformers\", 2019";
    }
}

/// What a reader is told of a method.
#[derive(Debug)]
pub struct Method {
    /// The `kind` in a recipe.
    pub kind: &'static str,
    /// The family of methods that it belongs to.
    pub family: &'static str,
    /// Its name, as in `SimCLR`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Authors, title and year of its paper.
    pub paper: &'static str,
    /// What its encoder must be.
    pub needs: Needs,
}

/// An objective on views of images.
pub type ImageObjective = Box<dyn Objective<dyn ImageNetwork, Batch = ImageViews>>;
/// An objective on sequences of tokens, with any text encoder.
pub type TextObjective = Box<dyn Objective<dyn TokenEncoder, Batch = TokenBatch>>;

/// What a method asks of the encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Any network for images.
    Images,
    /// A network for images that has a map of features.
    Maps,
    /// A network for images that works on patches.
    Patches,
    /// A network for images that reads them pixel by pixel.
    Pixels,
    /// What each of its parts asks.
    Parts,
    /// A network for text.
    Text,
}

impl Needs {
    /// In the words of a list.
    pub fn describe(self) -> &'static str {
        match self {
            Needs::Images => "any network for images",
            Needs::Maps => "a network for images with a map of features",
            Needs::Patches => "a network for images that works on patches (vit)",
            Needs::Pixels => "a network for images that reads them pixel by pixel (pixel-transformer)",
            Needs::Parts => "a network for images that its parts can work with",
            Needs::Text => "a network for text",
        }
    }
}

/// What a recipe learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// Images.
    Images,
    /// Text.
    Text,
}

impl Method {
    const fn new(needs: Needs, [kind, family, name, about, paper]: [&'static str; 5]) -> Self {
        Method { kind, family, name, about, paper, needs }
    }

    /// What a list of methods tells a program.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "name": self.kind, "title": self.name, "family": self.family, "about": self.about, "paper": self.paper,
            "needs": self.needs.describe(),
        })
    }
}

impl ObjectiveConfig {
    /// What it learns from.
    pub fn modality(&self) -> Modality {
        match self.method().needs {
            Needs::Images | Needs::Maps | Needs::Patches | Needs::Pixels | Needs::Parts => Modality::Images,
            Needs::Text => Modality::Text,
        }
    }
}

fn inside(error: selfsup::core::Error) -> selfsup::core::Error {
    crate::recipe::inside(error, "objective")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_of_the_objective_that_it_names() {
        for method in METHODS {
            let text = format!("kind = \"{}\"", method.kind);
            let config: ObjectiveConfig = toml::from_str(&text).unwrap();
            assert_eq!(config.method().kind, method.kind);
        }
    }
}
