//! The encoder and the objective of a recipe, in one parameter store.

use crate::network::ImageNetwork;
use crate::recipe::Recipe;
use crate::text;
use anyhow::{Context, Result};
use selfsup::core::state::{Extra, load, named_variables};
use selfsup::core::{Device, ImageViews, Key, Objective, TokenBatch, TokenEncoder, nn};
use selfsup::data::text::Tokenizer;
use std::path::Path;

/// An encoder under `encoder`, an objective under `objective`, and the store that holds the variables of both.
pub struct Model<E: ?Sized, B> {
    /// All variables.
    pub store: nn::VarStore,
    /// What learns.
    pub encoder: Box<E>,
    /// What it learns by.
    pub objective: Box<dyn Objective<E, Batch = B>>,
}

/// A model on images.
pub type ImageModel = Model<dyn ImageNetwork, ImageViews>;
/// A model on text.
pub type TextModel = Model<dyn TokenEncoder, TokenBatch>;

impl ImageModel {
    /// Builds the model with the values that its seed gives.
    ///
    /// # Errors
    /// With the recipe's field that cannot work.
    pub fn on_images(recipe: &Recipe, device: Device) -> Result<Self> {
        let store = seeded(recipe, device);
        let encoder = recipe.encoder.image_encoder(store.root() / "encoder")?;
        let site = recipe.encoder.site(&store, encoder.as_ref(), recipe.data.samples()?);
        let objective = recipe.objective.on_images(&site, &recipe.encoder)?;
        drop(site);
        Ok(Model { store, encoder, objective })
    }
}

impl TextModel {
    /// Builds the model for a tokenizer's tokens, with the values that its seed gives.
    ///
    /// # Errors
    /// With the recipe's field that cannot work.
    pub fn on_text(recipe: &Recipe, tokenizer: &Tokenizer, device: Device) -> Result<Self> {
        let store = seeded(recipe, device);
        let encoder = recipe.encoder.text_encoder(store.root() / "encoder")?;
        let embedding = &encoder.word_embeddings.weight;
        let vocabulary = text::vocabulary(tokenizer);
        let objective = recipe.objective.on_text(store.root() / "objective", embedding, vocabulary)?;
        Ok(Model { store, encoder: Box::new(encoder), objective })
    }
}

impl<E: ?Sized, B> Model<E, B> {
    /// Takes the values of a checkpoint.
    ///
    /// # Errors
    /// When a variable is missing, extra, or of another shape; nothing has changed then.
    pub fn load(&self, weights: &Path) -> Result<()> {
        load(weights, &named_variables(&self.store, ""), Extra::Refuse)
            .context("the checkpoint is of another encoder or objective than config.toml says")
    }

    /// The numbers of trainable parameters of the encoder and of the objective.
    pub fn parameters(&self) -> (usize, usize) {
        crate::training::sizes(&self.store)
    }
}

fn seeded(recipe: &Recipe, device: Device) -> nn::VarStore {
    Key::new(recipe.train.seed).seed_torch();
    nn::VarStore::new(device)
}
