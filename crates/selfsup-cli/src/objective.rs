//! The objectives that recipes know by name.
//!
//! A new method is a variant here and an arm in the function of what it learns from.

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

/// The objectives and what each is, for `selfsup list`.
pub const OBJECTIVES: [(&str, &str); 2] = [
    ("simclr", "SimCLR: two views of an image against the views of all others (Chen et al. 2020)"),
    ("masked-language-modelling", "BERT: predict hidden tokens from the rest (Devlin et al. 2019)"),
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
    /// What it learns from.
    pub fn modality(&self) -> Modality {
        match self {
            ObjectiveConfig::MaskedLanguageModelling(_) => Modality::Text,
            ObjectiveConfig::Simclr(_) => Modality::Images,
        }
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
