//! What a reader of a report sees of a run: views, maps of features, nearest neighbours.
//! - `method`: what the method itself does with test images
//! - `saliency`: what of an image its features come from, and whether the maps can be trusted
//! - `members`: what clusters hold, and what a feature would be taken for
//! - `paint`: maps and pixels as pictures

pub mod members;
pub mod method;
mod paint;
pub mod saliency;

use crate::features;
use crate::images::{self, Images};
use crate::model::{ImageModel, TextModel};
use crate::recipe::{EvalConfig, Recipe};
use crate::report::{Cluster, EPOCHS, Map, Maps, Query, Saliency, Sample, Shown, View, ViewRow, tsne};
use crate::text::{self, Texts};
use anyhow::{Context, Result};
use image::RgbImage;
use members::MembersFound;
use method::OfMethod;
use saliency::SaliencyFound;
use selfsup::core::tensor::to_array2;
use selfsup::core::{Device, Features, Key, Kind, Tensor};
use selfsup::data::{Image, ImageSet};
use selfsup::eval::{map_2d, nearest_neighbours};
use selfsup::numerics::Pca;
use selfsup::train::loggers::Progress;
use serde::Deserialize;
use std::path::Path;

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

/// What of report.json is drawn here.
#[derive(Debug, Default, Deserialize)]
pub struct Found {
    /// Of the method.
    #[serde(flatten)]
    pub method: method::Found,
    /// The sanity check of the maps; none where it was not asked for.
    #[serde(default)]
    saliency: Option<SaliencyFound>,
    /// Clusters and inverted features; none where they were not asked for.
    #[serde(default)]
    members: Option<MembersFound>,
}

/// What is drawn from a model and its data.
#[derive(Default)]
pub struct Insight {
    /// Images and their views; none for text.
    pub views: Vec<ViewRow>,
    /// What the method does with test images; nothing for text.
    pub method: OfMethod,
    /// Maps of test features.
    pub maps: Option<Maps>,
    /// Test samples and those nearest to them.
    pub neighbours: Vec<Query>,
    /// What of test images their features come from; none for text.
    pub saliency: Option<Saliency>,
    /// What clusters hold; none for text.
    pub clusters: Vec<Cluster>,
    /// Test images and the training images nearest to them; none for text.
    pub inversion: Vec<Query>,
}

/// Looks at a run on images.
///
/// # Errors
/// When the data cannot be read, or the checkpoint does not fit.
pub fn of_images(recipe: &Recipe, weights: &Path, found: &Found, device: Device) -> Result<Insight> {
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
    let saliency = found.saliency.as_ref();
    let saliency = saliency
        .map(|found| saliency::show(recipe, model.encoder.as_ref(), &images.test, found, device))
        .transpose()
        .context("what the encoder looks at")?;
    let test = |i: i64| gallery.sample(i);
    let (mut clusters, mut inversion) = (Vec::new(), Vec::new());
    if let Some(found) = &found.members {
        let (counts, labels) = ([images.train.len(), images.test.len()], images.train.labels());
        let train = |i: i64| {
            let class = labels.as_ref().and_then(|labels| gallery.class(labels[i as usize]));
            Ok(Sample { shown: Shown::Image(picture(&images.train.get(i as usize)?)?), class })
        };
        clusters = found.clusters(counts[1], &test)?;
        inversion = found.inversion(counts, &train, &test)?;
    }
    Ok(Insight {
        views: views(recipe, images.train.as_ref())?,
        method: method::of_images(recipe, &model, &images, &found.method, &test, device)?,
        maps: gallery.maps()?,
        neighbours: gallery.neighbours()?,
        saliency,
        clusters,
        inversion,
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
    let show = |i: usize| Ok(Shown::Text(excerpt(&texts.test.documents[i].text)));
    let (labels, classes) = (texts.test.labels(), texts.test.classes.clone());
    let gallery = Gallery { trained, untrained, labels, classes, show: &show, config: &recipe.eval };
    Ok(Insight { maps: gallery.maps()?, neighbours: gallery.neighbours()?, ..Insight::default() })
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
        images::evenly(self.len(), count).into_iter().map(|i| i as i64).collect()
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
        let class = self.labels.as_ref().and_then(|labels| self.class(labels[i as usize]));
        Ok(Sample { shown: (self.show)(i as usize)?, class })
    }

    fn class(&self, label: i64) -> Option<String> {
        self.classes.get(label as usize).cloned()
    }
}

fn unlabelled(x: &Tensor) -> Result<Features> {
    let labels = Tensor::zeros([x.size()[0]], (Kind::Int64, Device::Cpu));
    Ok(Features::new(x.shallow_clone(), labels, 1)?)
}

/// Some training images with views as training draws them.
fn views(recipe: &Recipe, set: &dyn ImageSet) -> Result<Vec<ViewRow>> {
    let views = images::augmented(&recipe.views().kinds, set.channels())?;
    let mut rows = Vec::new();
    for i in images::evenly(set.len(), SHOWN_IMAGES) {
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

/// The beginning of a text, on one line.
pub fn excerpt(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(EXCERPT).collect()
}

/// An image as a reader sees it.
///
/// # Errors
/// An image whose pixels do not fill it.
pub fn picture(image: &Image) -> Result<RgbImage> {
    let colour = image.to_colour();
    let (width, height) = (colour.width() as u32, colour.height() as u32);
    RgbImage::from_raw(width, height, colour.pixels().to_vec()).context("an image's pixels do not fill it")
}
