//! The objectives that recipes know by name.
//!
//! A new method is a row of the table below.

use anyhow::{Result, bail};
use selfsup::core::{Encoder, ImageViews, Objective, Tensor, TokenBatch, TokenEncoder, nn};
use selfsup::objectives::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, SimClr, SimClrConfig, Vocabulary,
};
use serde::{Deserialize, Serialize};

/// Makes of a table of methods: the config that a recipe holds, what a reader is told of each, and the functions that
/// build them. In a row stand the `kind` of the recipe (the variant's name in kebab case), the config, the objective,
/// its name, what it does, and its paper.
macro_rules! methods {
    (
        images { $($image:ident($image_config:ty) => $image_objective:ty, $($image_text:literal),+;)* }
        text { $($text:ident($text_config:ty) => $text_objective:ty, $($text_text:literal),+;)* }
    ) => {
        /// `[objective]`: the field `kind` tells which, the others are the method's own.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind", rename_all = "kebab-case")]
        pub enum ObjectiveConfig {
            $(#[allow(missing_docs)] $image($image_config),)*
            $(#[allow(missing_docs)] $text($text_config),)*
        }

        /// The methods, a row for each.
        pub const METHODS: &[Method] = &[
            $(Method::new(Modality::Images, [$($image_text),+]),)*
            $(Method::new(Modality::Text, [$($text_text),+]),)*
        ];

        impl ObjectiveConfig {
            /// Its row of [`METHODS`].
            pub fn method(&self) -> &'static Method {
                match self {
                    $(ObjectiveConfig::$image(_) => &const { Method::new(Modality::Images, [$($image_text),+]) },)*
                    $(ObjectiveConfig::$text(_) => &const { Method::new(Modality::Text, [$($text_text),+]) },)*
                }
            }

            /// Makes an objective on images for an encoder of `dim` features.
            ///
            /// # Errors
            /// When a field cannot work, or the objective learns from something else.
            pub fn on_images(&self, path: nn::Path, dim: i64) -> Result<ImageObjective> {
                Ok(match self {
                    $(ObjectiveConfig::$image(config) => {
                        Box::new(<$image_objective>::new(path, dim, config).map_err(inside)?)
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
        Simclr(SimClrConfig) => SimClr,
            "simclr", "SimCLR", "two views of an image against the views of all others",
            "Chen et al., \"A simple framework for contrastive learning of visual representations\", 2020";
    }
    text {
        MaskedLanguageModelling(MaskedLanguageModellingConfig) => MaskedLanguageModelling,
            "masked-language-modelling", "BERT", "predict hidden tokens from the rest",
            "Devlin et al., \"BERT: pre-training of deep bidirectional transformers\", 2019";
    }
}

/// What a reader is told of a method.
#[derive(Debug)]
pub struct Method {
    /// The `kind` in a recipe.
    pub kind: &'static str,
    /// Its name, as in `SimCLR`.
    pub name: &'static str,
    /// What it does, in a few words.
    pub about: &'static str,
    /// Authors, title and year of its paper.
    pub paper: &'static str,
    /// What it learns from.
    pub modality: Modality,
}

/// An objective on views of images, with any image encoder.
pub type ImageObjective = Box<dyn Objective<dyn Encoder, Batch = ImageViews>>;
/// An objective on sequences of tokens, with any text encoder.
pub type TextObjective = Box<dyn Objective<dyn TokenEncoder, Batch = TokenBatch>>;

/// What a recipe learns from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modality {
    /// Images.
    Images,
    /// Text.
    Text,
}

impl Method {
    const fn new(modality: Modality, [kind, name, about, paper]: [&'static str; 4]) -> Self {
        Method { kind, name, about, paper, modality }
    }
}

impl ObjectiveConfig {
    /// What it learns from.
    pub fn modality(&self) -> Modality {
        self.method().modality
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
