//! The objectives that recipes know by name.
//!
//! A new method is a row and a variant here, and an arm in the function of what it learns from.

use anyhow::{Result, bail};
use selfsup::core::{Encoder, ImageViews, Objective, Tensor, TokenBatch, TokenEncoder, nn};
use selfsup::objectives::{
    MaskedLanguageModelling, MaskedLanguageModellingConfig, SimClr, SimClrConfig, Vocabulary,
};
use serde::{Deserialize, Serialize};

/// `[objective]`: the field `kind` tells which, the others are the method's own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum ObjectiveConfig {
    /// SimCLR.
    Simclr(SimClrConfig),
    /// BERT's masked language modelling.
    MaskedLanguageModelling(MaskedLanguageModellingConfig),
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

/// The methods, a row for each.
pub const METHODS: [Method; 2] = [
    Method {
        kind: "simclr",
        name: "SimCLR",
        about: "two views of an image against the views of all others",
        paper: "Chen et al., \"A simple framework for contrastive learning of visual representations\", 2020",
        modality: Modality::Images,
    },
    Method {
        kind: "masked-language-modelling",
        name: "BERT",
        about: "predict hidden tokens from the rest",
        paper: "Devlin et al., \"BERT: pre-training of deep bidirectional transformers\", 2019",
        modality: Modality::Text,
    },
];

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

impl ObjectiveConfig {
    /// Its row of [`METHODS`].
    pub fn method(&self) -> &'static Method {
        match self {
            ObjectiveConfig::Simclr(_) => &METHODS[0],
            ObjectiveConfig::MaskedLanguageModelling(_) => &METHODS[1],
        }
    }

    /// What it learns from.
    pub fn modality(&self) -> Modality {
        self.method().modality
    }

    /// Makes an objective on images for an encoder of `dim` features.
    ///
    /// # Errors
    /// When a field cannot work, or the objective learns from something else.
    pub fn on_images(&self, path: nn::Path, dim: i64) -> Result<ImageObjective> {
        Ok(match self {
            ObjectiveConfig::Simclr(config) => Box::new(SimClr::new(path, dim, config).map_err(inside)?),
            ObjectiveConfig::MaskedLanguageModelling(_) => {
                bail!("objective.kind: one that learns from images")
            }
        })
    }

    /// Makes an objective on text for an encoder with the token embedding `embedding` `[V, D]`.
    ///
    /// # Errors
    /// When a field cannot work, or the objective learns from something else.
    pub fn on_text(
        &self,
        path: nn::Path,
        embedding: &Tensor,
        vocabulary: Vocabulary,
    ) -> Result<TextObjective> {
        Ok(match self {
            ObjectiveConfig::MaskedLanguageModelling(config) => Box::new(
                MaskedLanguageModelling::new(path, embedding, vocabulary, config.clone()).map_err(inside)?,
            ),
            ObjectiveConfig::Simclr(_) => bail!("objective.kind: one that learns from text"),
        })
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
        for method in &METHODS {
            let text = format!("kind = \"{}\"", method.kind);
            let config: ObjectiveConfig = toml::from_str(&text).unwrap();
            assert_eq!(config.method().kind, method.kind);
        }
    }
}
