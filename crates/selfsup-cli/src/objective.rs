//! The objectives that recipes know by name.
//!
//! A new method is a row of the table below.

use crate::network::{ImageNetwork, NetworkConfig, OnMaps, OnPatches};
use anyhow::{Result, bail};
use selfsup::core::{ImageViews, Objective, PatchEncoder, Site, Tensor, TokenBatch, TokenEncoder, nn};
use selfsup::objectives::{self, Vocabulary};
use serde::{Deserialize, Serialize};

/// Makes of a table of methods: the config that a recipe holds, what a reader is told of each, and the functions that
/// build them. The groups tell what the encoder must be: any network for images, one with a map, one with patches, or
/// one for text. In a row stand the variant (in kebab case the `kind` of the recipe), the config, the objective, the
/// kind, the family, its name, what it does, and its paper.
macro_rules! methods {
    (
        images { $($image:ident($image_config:ty) => $image_objective:ty, $($image_text:literal),+;)* }
        maps { $($map:ident($map_config:ty) => $map_objective:ty, $($map_text:literal),+;)* }
        patches { $($patch:ident($patch_config:ty) => $patch_objective:ty, $($patch_text:literal),+;)* }
        text { $($text:ident($text_config:ty) => $text_objective:ty, $($text_text:literal),+;)* }
    ) => {
        /// `[objective]`: the field `kind` tells which, the others are the method's own.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum ObjectiveConfig {
            $(#[allow(missing_docs)] $image($image_config),)*
            $(#[allow(missing_docs)] $map($map_config),)*
            $(#[allow(missing_docs)] $patch($patch_config),)*
            $(#[allow(missing_docs)] $text($text_config),)*
        }

        /// The methods, a row for each.
        pub const METHODS: &[Method] = &[
            $(Method::new(Needs::Images, [$($image_text),+]),)*
            $(Method::new(Needs::Maps, [$($map_text),+]),)*
            $(Method::new(Needs::Patches, [$($patch_text),+]),)*
            $(Method::new(Needs::Text, [$($text_text),+]),)*
        ];

        impl ObjectiveConfig {
            /// Its row of [`METHODS`].
            pub fn method(&self) -> &'static Method {
                match self {
                    $(ObjectiveConfig::$image(_) => &const { Method::new(Needs::Images, [$($image_text),+]) },)*
                    $(ObjectiveConfig::$map(_) => &const { Method::new(Needs::Maps, [$($map_text),+]) },)*
                    $(ObjectiveConfig::$patch(_) => &const { Method::new(Needs::Patches, [$($patch_text),+]) },)*
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
                    _ => bail!("objective.kind: one that learns from images"),
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
        Swav(objectives::SwavConfig) => objectives::Swav,
            "swav", "clustering", "SwAV", "from a view predict the balanced cluster of another view",
            "Caron et al., \"Unsupervised learning of visual features by contrasting cluster assignments\", 2020";
        Dino(objectives::DinoConfig) => objectives::Dino<dyn ImageNetwork>,
            "dino", "self-distillation", "DINO", "say of every view what a moving average says of another large view",
            "Caron et al., \"Emerging properties in self-supervised vision transformers\", 2021";
    }
    maps {
    }
    patches {
        Ibot(objectives::IbotConfig) => objectives::Ibot<dyn PatchEncoder>,
            "ibot", "self-distillation", "iBOT", "DINO, and of hidden patches what a moving average says that sees them",
            "Zhou et al., \"iBOT: image BERT pre-training with online tokenizer\", 2022";
        Dinov2(objectives::DinoV2Config) => objectives::DinoV2<dyn PatchEncoder>,
            "dinov2", "self-distillation", "DINOv2", "iBOT with balanced targets, two heads, and features spread apart",
            "Oquab et al., \"DINOv2: learning robust visual features without supervision\", 2023";
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
            Needs::Images | Needs::Maps | Needs::Patches => Modality::Images,
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
