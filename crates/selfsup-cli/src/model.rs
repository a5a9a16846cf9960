//! The encoder and the objective of a recipe, in one parameter store.

use crate::network::ImageNetwork;
use crate::recipe::{Recipe, Weights};
use crate::text;
use anyhow::{Context, Result};
use selfsup::core::state::named_variables;
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
    /// Which weights of a checkpoint are taken.
    weights: Weights,
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
        Ok(Model { store, encoder, objective, weights: recipe.weights.clone() })
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
        Ok(Model { store, encoder: Box::new(encoder), objective, weights: recipe.weights.clone() })
    }
}

impl<E: ?Sized, B> Model<E, B> {
    /// Takes the values of a checkpoint.
    ///
    /// # Errors
    /// When a variable is missing, extra, or of another shape; nothing has changed then.
    pub fn load(&self, checkpoint: &Path) -> Result<()> {
        self.weights
            .load(checkpoint, named_variables(&self.store, ""))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::Modality;
    use crate::recipe::SHIPPED;
    use selfsup::core::{Kind, Step, Tensor};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// A batch of `n` images in all views of a recipe: pixels from 0 to 1, normalised.
    fn batch(recipe: &Recipe, n: i64, channels: i64) -> ImageViews {
        let kinds = recipe.views().kinds.into_iter().flat_map(|kind| vec![kind.view; kind.count]);
        let views = kinds.map(|view| {
            let shape = [n, channels, view.size as i64, view.size as i64];
            let i = Tensor::arange(shape.iter().product::<i64>(), (Kind::Float, Device::Cpu));
            let pixels = ((i * 0.37).sin() / 2.0 + 0.5).reshape(shape);
            let each = |of: &[f32]| -> Tensor {
                let values: Vec<f32> = of.iter().copied().cycle().take(channels as usize).collect();
                Tensor::from_slice(&values).reshape([channels, 1, 1])
            };
            (pixels - each(&view.mean)) / each(&view.std)
        });
        let indices = Tensor::arange(n, (Kind::Int64, Device::Cpu));
        ImageViews { views: views.collect(), labels: Some(indices.remainder(3)), indices }
    }

    fn last_view(mut batch: ImageViews, change: impl Fn(&Tensor) -> Tensor) -> ImageViews {
        if let Some(last) = batch.views.last_mut() {
            *last = change(last);
        }
        batch
    }

    #[test]
    fn every_objective_takes_views_of_the_right_shape_and_names_a_wrong_one() {
        const N: i64 = 128; // W-MSE whitens so many at a time
        const CHANNELS: usize = 3;
        let mut failures = Vec::new();
        for (name, _) in SHIPPED {
            let mut recipe = Recipe::read(name, &[]).unwrap();
            if recipe.objective.modality() != Modality::Images {
                continue;
            }
            recipe.data.samples = Some(10_000);
            recipe.encoder = recipe.encoder.for_images(CHANNELS).unwrap();
            let mut model = ImageModel::on_images(&recipe, Device::Cpu).unwrap();
            let right = || batch(&recipe, N, CHANNELS as i64);
            let mut learn = |batch: ImageViews| {
                let loss =
                    || model.objective.loss(model.encoder.as_ref(), &batch, &Step::single(0, 10, 0, 0));
                catch_unwind(AssertUnwindSafe(loss)).map(|loss| loss.err().map(|error| error.to_string()))
            };
            match learn(right()) {
                Ok(None) => {}
                found => failures.push(format!("{name}, right views: {found:?}")),
            }
            let mut wrong = vec![
                ("a channel too many", batch(&recipe, N, CHANNELS as i64 + 1)),
                ("no images", batch(&recipe, 0, CHANNELS as i64)),
                ("a view without channels", last_view(right(), |view| view.select(1, 0))),
            ];
            if right().views.len() > 1 {
                wrong.push((
                    "an image too few in the last view",
                    last_view(right(), |v| v.narrow(0, 1, N - 1)),
                ));
            }
            for (what, batch) in wrong {
                match learn(batch) {
                    Ok(Some(error)) if !error.starts_with("libtorch") => {}
                    found => failures.push(format!("{name}, {what}: {found:?}")),
                }
            }
        }
        assert!(failures.is_empty(), "{}", failures.join("\n"));
    }
}
