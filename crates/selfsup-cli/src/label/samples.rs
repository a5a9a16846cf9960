//! A run's encoder, and the set that it looks at.

use super::arguments::TAUGHT;
use crate::evaluate::last_checkpoint;
use crate::finetune::encoder_of;
use crate::model::ImageModel;
use crate::objective::Modality;
use crate::recipe::{Recipe, ViewKind, Weights, Whose};
use crate::{digest, features, images, label_table};
use anyhow::{Context, Result, ensure};
use image::RgbImage;
use selfsup::core::{Device, ImageViews, Kind, Mode, Tensor};
use selfsup::data::dataset::Subset;
use selfsup::data::{ImageCollate, ImageSet, LabelFile, Loader};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The samples to be labelled, and how a run sees them.
pub struct Samples {
    /// What the set is called.
    pub name: String,
    /// The samples.
    pub set: Arc<dyn ImageSet>,
    run: PathBuf,
    recipe: Recipe,
    weights: PathBuf,
    device: Device,
}

impl Samples {
    /// Opens the run's recipe and the data; no image is read.
    ///
    /// # Errors
    /// When the folder holds no run of images with a checkpoint, or the data cannot be opened.
    pub fn open(run: &Path, whose: Whose, data: &str, device: Device) -> Result<Samples> {
        let mut recipe = encoder_of(run)?;
        ensure!(
            matches!(recipe.objective.modality(), Modality::Images),
            "{}: the run is of texts; selfsup label takes runs of images",
            run.display()
        );
        let weights = last_checkpoint(run)?.weights;
        recipe.weights = recipe.weights.of(whose, &weights)?;
        let channels = recipe.data.channels()?;
        let splits = crate::data::open_images(data)?;
        let set = images::with_channels(splits.train, Some(channels))?;
        Ok(Samples { name: splits.name, set, run: run.to_owned(), recipe, weights, device })
    }

    /// The classes that the run tells apart itself, where it was fine-tuned.
    pub fn own_classes(&self) -> Option<&[String]> {
        match &self.recipe.weights {
            Weights::Averaged { classes } => Some(classes),
            Weights::Trained | Weights::Teacher { .. } => None,
        }
    }

    /// The labels that a fine-tuned run has learned from; none where the labelled images are not among these samples, by their
    /// names and pixels.
    ///
    /// # Errors
    /// When a file of the run is broken, or an image cannot be read.
    pub fn taught(&self) -> Result<Option<LabelFile>> {
        let path = self.run.join(TAUGHT);
        if self.own_classes().is_none() || !path.is_file() {
            return Ok(None);
        }
        let labels = label_table::read(&path)?;
        let places: HashMap<String, usize> = (0..self.set.len()).map(|i| (self.set.name(i), i)).collect();
        let at: Option<Vec<usize>> = labels.rows().iter().map(|row| places.get(&row.file).copied()).collect();
        let Some(at) = at else { return Ok(None) };
        let state = self.weights.with_file_name("state.json");
        let text = std::fs::read_to_string(&state).with_context(|| state.display().to_string())?;
        let state: Value = serde_json::from_str(&text).with_context(|| state.display().to_string())?;
        let learned = &state["fingerprint"]["samples"]["labelled"];
        let found = digest::of_images(images::part(&self.set, at)?.as_ref())?;
        let same = ["names", "pixels"].iter().all(|what| found[what] == learned[what]);
        Ok(same.then_some(labels))
    }

    /// Loads the encoder.
    ///
    /// # Errors
    /// When the checkpoint does not fit the recipe.
    pub fn model(&self) -> Result<ImageModel> {
        let model = ImageModel::on_images(&self.recipe, self.device)?;
        model.load(&self.weights)?;
        Ok(model)
    }

    /// The features of all samples, `[N, D]` Float.
    ///
    /// # Errors
    /// Those of reading and of the encoder.
    pub fn features(&self, model: &ImageModel) -> Result<Tensor> {
        let view = images::plain_view(&self.recipe, self.set.channels())?;
        let batches = images::plain(&self.set, view, self.batch_size(), self.threads())?;
        features::of_images(model.encoder.as_ref(), &batches, self.device)
    }

    /// The features of `count` augmented views of some samples, `[M, count, D]` Float.
    ///
    /// # Errors
    /// Those of reading and of the encoder.
    pub fn view_features(&self, model: &ImageModel, indices: &[usize], count: usize) -> Result<Tensor> {
        let some: Arc<dyn ImageSet> = Arc::new(Subset::new(Arc::clone(&self.set), indices.to_vec())?);
        features::encode_all(&self.views(&some, count)?, |batch| self.encode_views(model, batch))
    }

    /// What `predict` makes of the features of `count` augmented views of a batch, `[n, count, D]`, for all samples; it hears
    /// the number of the batch's first sample too.
    ///
    /// # Errors
    /// Those of reading, of the encoder and of `predict`.
    pub fn over_views(
        &self,
        model: &ImageModel,
        count: usize,
        mut predict: impl FnMut(i64, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let mut first = 0;
        features::encode_all(&self.views(&self.set, count)?, |batch| {
            let rows = predict(first, &self.encode_views(model, batch)?)?;
            first += rows.size()[0];
            Ok(rows)
        })
    }

    fn encode_views(&self, model: &ImageModel, batch: &ImageViews) -> Result<Tensor> {
        let encode = |view: &Tensor| -> Result<Tensor> {
            let rows = model.encoder.encode(&view.to_device(self.device), Mode::Eval)?;
            Ok(rows.to_device(Device::Cpu).to_kind(Kind::Float))
        };
        Ok(Tensor::stack(&batch.views.iter().map(encode).collect::<Result<Vec<_>>>()?, 1))
    }

    /// Views as training saw them, drawn by the sample's place.
    fn views(&self, set: &Arc<dyn ImageSet>, count: usize) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
        let kind = ViewKind { count, ..self.recipe.pair() };
        images::all_views(set, kind, self.batch_size(), self.threads())
    }

    fn batch_size(&self) -> usize {
        self.recipe.eval.batch_size
    }

    fn threads(&self) -> usize {
        self.recipe.train.loader_threads
    }

    /// A sample's name.
    pub fn name_of(&self, index: usize) -> String {
        self.set.name(index)
    }

    /// A sample's picture.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn picture(&self, index: usize) -> Result<RgbImage> {
        let colour = self.set.get(index)?.to_colour();
        let (width, height) = (colour.width() as u32, colour.height() as u32);
        RgbImage::from_raw(width, height, colour.pixels().to_vec())
            .context("an image's pixels do not fill it")
    }
}
