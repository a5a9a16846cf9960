//! What a reader of a report sees of a run: views, maps of features, and nearest neighbours.

use crate::features;
use crate::images::{self, Images};
use crate::model::{ImageModel, TextModel};
use crate::recipe::{EvalConfig, Recipe};
use crate::report::{EPOCHS, Map, Maps, Query, Sample, Shown, View, ViewRow, tsne};
use crate::text::{self, Texts};
use anyhow::{Context, Result};
use image::RgbImage;
use selfsup::core::tensor::to_array2;
use selfsup::core::{Batches, Device, Features, Key, Kind, PictureScale, Pictures, Tensor, tch};
use selfsup::data::dataset::Subset;
use selfsup::data::{Image, ImageSet};
use selfsup::eval::{map_2d, nearest_neighbours};
use selfsup::numerics::Pca;
use selfsup::train::loggers::Progress;
use std::path::Path;
use std::sync::Arc;

/// The images whose views are shown.
const SHOWN_IMAGES: usize = 6;
/// The views of each, at least.
const SHOWN_VIEWS: usize = 6;
/// The neighbours of each query.
const NEIGHBOURS: i64 = 8;
/// The principal components that t-SNE begins from, as in van der Maaten 2014.
const COMPONENTS: i64 = 50;
/// The characters of a text that are shown.
const EXCERPT: usize = 160;

/// What is drawn from a model and its data.
pub struct Insight {
    /// Images and their views; none for text.
    pub views: Vec<ViewRow>,
    /// Test images and what the method makes of them; none where there is nothing to look at.
    pub made: Vec<ViewRow>,
    /// Maps of test features.
    pub maps: Option<Maps>,
    /// Test samples and those nearest to them.
    pub neighbours: Vec<Query>,
}

/// Looks at a run on images.
///
/// # Errors
/// When the data cannot be read, or the checkpoint does not fit.
pub fn of_images(recipe: &Recipe, weights: &Path, device: Device) -> Result<Insight> {
    let images = Images::open(&recipe.data)?;
    let view = images::plain_view(recipe, images.train.channels())?;
    let test = images::plain(&images.test, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
    let model = ImageModel::on_images(recipe, device)?;
    let untrained = features::of_images(model.encoder.as_ref(), &test, device)?;
    model.load(weights)?;
    let trained = features::of_images(model.encoder.as_ref(), &test, device)?;
    let show = |i: usize| Ok(Shown::Image(picture(&images.test.get(i)?)?));
    let labels = images.test.labels();
    let gallery =
        Gallery { trained, untrained, labels, classes: images.classes(), show: &show, config: &recipe.eval };
    Ok(Insight {
        views: views(recipe, images.train.as_ref())?,
        made: made(recipe, &model, &images, device)?,
        maps: gallery.maps()?,
        neighbours: gallery.neighbours()?,
    })
}

/// Looks at a run on text.
///
/// # Errors
/// When the data cannot be read, or the checkpoint does not fit.
pub fn of_text(recipe: &Recipe, run: &Path, weights: &Path, device: Device) -> Result<Insight> {
    let settings = recipe.text.clone().unwrap_or_default();
    let texts = Texts::open(&recipe.data, &settings, Some(&run.join("tokenizer.json")))?;
    let batches = text::plain(&texts.test_sequences, recipe.eval.batch_size)?;
    let model = TextModel::on_text(recipe, &texts.tokenizer, device)?;
    let (documents, count) = (texts.test_sequences.documents(), texts.test.documents.len());
    let encode = || features::of_documents(model.encoder.as_ref(), &batches, documents, count, device);
    let untrained = encode()?;
    model.load(weights)?;
    let trained = encode()?;
    let show = |i: usize| {
        let words: Vec<&str> = texts.test.documents[i].text.split_whitespace().collect();
        Ok(Shown::Text(words.join(" ").chars().take(EXCERPT).collect()))
    };
    let (labels, classes) = (texts.test.labels(), texts.test.classes.clone());
    let gallery = Gallery { trained, untrained, labels, classes, show: &show, config: &recipe.eval };
    Ok(Insight {
        views: Vec::new(),
        made: Vec::new(),
        maps: gallery.maps()?,
        neighbours: gallery.neighbours()?,
    })
}

/// The test samples, before and after training.
struct Gallery<'a> {
    trained: Tensor,   // [N, D]
    untrained: Tensor, // [N, D]
    labels: Option<Vec<i64>>,
    classes: Vec<String>,
    show: &'a dyn Fn(usize) -> Result<Shown>,
    config: &'a EvalConfig,
}

impl Gallery<'_> {
    fn len(&self) -> usize {
        self.trained.size()[0] as usize
    }

    /// At most `count` samples, evenly taken.
    fn some(&self, count: usize) -> Vec<i64> {
        let count = count.min(self.len());
        (0..count).map(|i| (i * self.len() / count) as i64).collect()
    }

    /// PCA and t-SNE of both encoders; none of fewer than three samples.
    fn maps(&self) -> Result<Option<Maps>> {
        let chosen = self.some(self.config.map_points);
        if chosen.len() < 3 {
            return Ok(None);
        }
        let rows = Tensor::from_slice(&chosen);
        let (mut plain, mut curved) = (Vec::new(), Vec::new());
        for (name, x) in [("trained", &self.trained), ("untrained", &self.untrained)] {
            let x = x.index_select(0, &rows);
            let components = COMPONENTS.min(x.size()[1]).min(x.size()[0] - 1).max(2);
            let components = to_array2(&Pca::fit(&x, components)?.transform(&x)?)?;
            let (n, dim) = components.dim();
            let values: Vec<f32> = components.iter().copied().collect();
            let name_of_map = format!("t-SNE, {name}");
            let mut bar = Progress::new(&name_of_map, EPOCHS as u64, 0, n as u64);
            let points = tsne(&values, n, dim, |epochs| bar.update(epochs as u64, ""))?;
            bar.finish();
            curved.push(Map { name: name_of_map, points });
            let plane = to_array2(&map_2d(&unlabelled(&x)?)?)?;
            let points = plane.rows().into_iter().map(|row| [row[0], row[1]]).collect();
            plain.push(Map { name: format!("PCA, {name}"), points });
        }
        plain.extend(curved);
        let labels = self
            .labels
            .as_ref()
            .map_or_else(Vec::new, |labels| chosen.iter().map(|&i| labels[i as usize] as usize).collect());
        Ok(Some(Maps { maps: plain, labels, classes: self.classes.clone() }))
    }

    /// The samples nearest to some, in the features of the trained encoder.
    fn neighbours(&self) -> Result<Vec<Query>> {
        let k = (NEIGHBOURS + 1).min(self.trained.size()[0]);
        if k < 2 {
            return Ok(Vec::new());
        }
        let all = unlabelled(&self.trained)?;
        let found = nearest_neighbours(&all, &self.some(self.config.queries), &all, k)?;
        found
            .iter()
            .map(|found| {
                let others = found.neighbours.iter().filter(|&&i| i != found.query);
                let nearest =
                    others.take(NEIGHBOURS as usize).map(|&i| self.sample(i)).collect::<Result<_>>();
                Ok(Query { query: self.sample(found.query)?, nearest: nearest? })
            })
            .collect()
    }

    fn sample(&self, i: i64) -> Result<Sample> {
        let label = self.labels.as_ref().map(|labels| labels[i as usize] as usize);
        let class = label.and_then(|label| self.classes.get(label).cloned());
        Ok(Sample { shown: (self.show)(i as usize)?, class })
    }
}

fn unlabelled(x: &Tensor) -> Result<Features> {
    let labels = Tensor::zeros([x.size()[0]], (Kind::Int64, Device::Cpu));
    Ok(Features::new(x.shallow_clone(), labels, 1)?)
}

/// Some training images with views as training draws them.
fn views(recipe: &Recipe, set: &dyn ImageSet) -> Result<Vec<ViewRow>> {
    let views = images::augmented(&recipe.views().kinds, set.channels())?;
    let count = SHOWN_IMAGES.min(set.len());
    let mut rows = Vec::new();
    for i in (0..count).map(|i| i * set.len() / count) {
        let image = set.get(i)?;
        let mut rng = Key::new(recipe.train.seed).with(i as u64).rng();
        let mut row = ViewRow { image: picture(&image)?, views: Vec::new() };
        while row.views.len() < SHOWN_VIEWS && !views.is_empty() {
            for view in &views {
                let params = view.draw(image.height(), image.width(), &mut rng);
                let shown = view.show(&image, &params)?.to_image()?;
                row.views.push(View { image: picture(&shown)?, caption: params.describe() });
            }
        }
        rows.push(row);
    }
    Ok(rows)
}

/// Some test images with what the method makes of them.
fn made(recipe: &Recipe, model: &ImageModel, images: &Images, device: Device) -> Result<Vec<ViewRow>> {
    let set = &images.test;
    let count = SHOWN_IMAGES.min(set.len());
    let some = Subset::new(Arc::clone(set), (0..count).map(|i| i * set.len() / count.max(1)).collect())?;
    let view = images::plain_view(recipe, set.channels())?;
    let batches = images::plain(&(Arc::new(some) as Arc<dyn ImageSet>), view, count.max(1), 1)?;
    let Some(batch) = batches.epoch(0, 0)?.next().transpose()? else { return Ok(Vec::new()) };
    Key::new(recipe.train.seed).seed_torch();
    let batch = batch.to_device(device);
    let found = tch::no_grad(|| model.objective.pictures(model.encoder.as_ref(), &batch))?;
    let Some(Pictures { scale, columns }) = found else { return Ok(Vec::new()) };
    let plain = recipe.plain_view();
    let pixels = |x: &Tensor| match scale {
        PictureScale::Pixels => x.shallow_clone(),
        PictureScale::Views => {
            let each = |values: &[f32]| Tensor::from_slice(values).view([1, -1, 1, 1]).to_device(x.device());
            x * each(&plain.std) + each(&plain.mean)
        }
    };
    let columns: Vec<_> = columns.iter().map(|(caption, x)| (*caption, pixels(x))).collect();
    let mut rows = Vec::new();
    for i in 0..count as i64 {
        let mut shown = columns.iter().map(|(caption, x)| -> Result<View> {
            Ok(View { image: pixels_to_picture(&x.get(i))?, caption: (*caption).to_owned() })
        });
        let Some(first) = shown.next() else { break };
        rows.push(ViewRow { image: first?.image, views: shown.collect::<Result<_>>()? });
    }
    Ok(rows)
}

/// `[C, H, W]` from 0 to 1 as a picture.
fn pixels_to_picture(x: &Tensor) -> Result<RgbImage> {
    let x = x.to_device(Device::Cpu).nan_to_num(0.0, 1.0, 0.0).clamp(0.0, 1.0);
    let size = x.size();
    let bytes = (x.expand([3, size[1], size[2]], false) * 255.0).round().to_kind(Kind::Uint8);
    let bytes = Vec::<u8>::try_from(bytes.permute([1, 2, 0]).contiguous().view(-1))?;
    RgbImage::from_raw(size[2] as u32, size[1] as u32, bytes).context("an image's pixels do not fill it")
}

fn picture(image: &Image) -> Result<RgbImage> {
    let colour = image.to_colour();
    let (width, height) = (colour.width() as u32, colour.height() as u32);
    RgbImage::from_raw(width, height, colour.pixels().to_vec()).context("an image's pixels do not fill it")
}
