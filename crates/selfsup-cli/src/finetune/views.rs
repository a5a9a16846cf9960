//! What is made of an image for fine-tuning: weak views, strong views, and the batches of them.

use super::recipe::FinetuneRecipe;
use super::sets::Sets;
use crate::recipe::{self, SizePhase, ViewKind, inside};
use anyhow::{Result, ensure};
use selfsup::core::Result as CoreResult;
use selfsup::data::augment::{
    Cutout, Interpolation, Padding, Pipeline, PlainConfig, PlainView, RandAugment, RandomCrop, RandomFlip,
    RandomResizedCrop, Transform, View, ViewConfig, Window,
};
use selfsup::data::sampler::Shuffled;
use selfsup::data::{ImageCollate, ImageSet, LabelledWithUnlabelled, Loader, LoaderConfig, Unpack};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Batches of views.
pub type ViewLoader = Loader<ImageCollate<dyn ImageSet>>;
/// Labelled and unlabelled ones side by side.
pub type ViewBatches = LabelledWithUnlabelled<ViewLoader, ViewLoader>;

/// `[views]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ViewsConfig {
    /// The sides of a view, in pixels.
    pub size: usize,
    /// What is subtracted from values between 0 and 1: one number, or one a channel.
    pub mean: Vec<f32>,
    /// What they are then divided by: one number, or one a channel.
    pub std: Vec<f32>,
    /// What a weak view is.
    pub weak: WeakConfig,
    /// What is done to a weak view to make it strong.
    pub strong: StrongConfig,
    /// In which view labelled images are learned from.
    pub labelled: ViewName,
    /// The views of an unlabelled image: the first is labelled, the others are learned from. None for methods that look at
    /// labelled images alone.
    pub unlabelled: Vec<ViewName>,
    /// Smaller views in the first part of a run, for a fraction of the time; none in the recipes, as a classifier of small views is none
    /// of whole images.
    pub schedule: Vec<SizePhase>,
}

impl Default for ViewsConfig {
    fn default() -> Self {
        ViewsConfig {
            size: 32,
            mean: vec![0.5],
            std: vec![0.5],
            weak: WeakConfig::default(),
            strong: StrongConfig::default(),
            labelled: ViewName::Weak,
            unlabelled: vec![ViewName::Weak, ViewName::Strong],
            schedule: Vec::new(),
        }
    }
}

/// A kind of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewName {
    /// A little changed.
    Weak,
    /// Much changed.
    Strong,
}

/// `[views.weak]`: a random window of the image, resized, and a mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WeakConfig {
    /// The smallest and largest area of the window, as a share of the image's.
    pub scale: [f64; 2],
    /// The smallest and largest width of the window over its height.
    pub ratio: [f64; 2],
    /// The window is instead as large as the view and lies at a random place of the image, which has a border of so many
    /// reflected pixels (FixMatch on CIFAR: 4). Images must then be as large as views.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub padding: Option<usize>,
    /// The probability that left and right change places.
    pub flip: f64,
}

impl Default for WeakConfig {
    fn default() -> Self {
        WeakConfig { scale: [0.5, 1.0], ratio: [3.0 / 4.0, 4.0 / 3.0], padding: None, flip: 0.5 }
    }
}

/// `[views.strong]`
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StrongConfig {
    /// Operations of a list.
    pub rand_augment: RandAugment,
    /// A square that is covered.
    pub cutout: Cutout,
}

impl ViewsConfig {
    /// The stretches of equal size of a run of so many epochs: the epoch before which each ends, and the sides of a view.
    ///
    /// # Errors
    /// With the field, when shares do not rise within (0, 1] or a size is zero.
    pub fn stretches(&self, epochs: u64) -> CoreResult<Vec<(u64, usize)>> {
        let kind = ViewKind { count: 1, view: ViewConfig { size: self.size, ..ViewConfig::default() } };
        let views = recipe::ViewsConfig { kinds: vec![kind], schedule: self.schedule.clone() };
        let stretches = views.stretches(epochs)?.into_iter();
        Ok(stretches.map(|(end, kinds)| (end, kinds.first().map_or(self.size, |k| k.view.size))).collect())
    }

    fn all(&self, names: &[ViewName], size: usize, channels: usize) -> CoreResult<Vec<Arc<dyn View>>> {
        names.iter().map(|&name| self.view(name, size, channels)).collect()
    }

    fn view(&self, name: ViewName, size: usize, channels: usize) -> CoreResult<Arc<dyn View>> {
        let size = [size; 2];
        let window = match self.weak.padding {
            Some(padding) => Window::Padded(RandomCrop { size, padding, fill: Padding::Reflect }),
            None => Window::Resized(RandomResizedCrop {
                size,
                scale: self.weak.scale,
                ratio: self.weak.ratio,
                interpolation: Interpolation::Bilinear,
            }),
        };
        let mut steps = vec![Transform::Flip(RandomFlip { horizontal: self.weak.flip, vertical: 0.0 })];
        if name == ViewName::Strong {
            steps.push(Transform::RandAugment(self.strong.rand_augment));
            steps.push(Transform::Cutout(self.strong.cutout));
        }
        let pipeline = Pipeline::new(window, steps, &self.mean, &self.std, channels);
        Ok(Arc::new(pipeline.map_err(|e| inside(e, "views"))?))
    }
}

/// The view in which images are judged: plain, as large as the largest view, normalised alike.
///
/// # Errors
/// With the field that cannot work.
pub fn plain(recipe: &FinetuneRecipe, channels: usize) -> CoreResult<PlainView> {
    let views = &recipe.views;
    let config = PlainConfig {
        size: views.size,
        resize: None,
        interpolation: Interpolation::Bilinear,
        mean: views.mean.clone(),
        std: views.std.clone(),
    };
    PlainView::new(config, channels).map_err(|e| inside(e, "views"))
}

/// What makes the batches of labelled and of unlabelled images numbers for a network: all views are normalised alike.
///
/// # Errors
/// With the field that cannot work.
pub fn unpack(recipe: &FinetuneRecipe, channels: usize) -> CoreResult<Unpack> {
    let views = &recipe.views;
    let names = if views.unlabelled.is_empty() { &[views.labelled][..] } else { &views.unlabelled };
    Unpack::new(&views.all(names, views.size, channels)?, recipe.data.pixels)
}

/// The batches of views of a size.
///
/// # Errors
/// With the field that cannot work.
pub fn batches(recipe: &FinetuneRecipe, sets: &Sets, size: usize) -> Result<ViewBatches> {
    let (train, given) = (&recipe.train, &sets.given);
    ensure!(recipe.labels.batch_size > 0, "labels.batch_size = 0: at least 1");
    let loader = |set: &Arc<dyn ImageSet>, names: &[ViewName], config, section| -> Result<ViewLoader> {
        let views = recipe.views.all(names, size, set.channels())?;
        let collate = ImageCollate { dataset: Arc::clone(set), views, pixels: recipe.data.pixels };
        let sampler = Shuffled { len: set.len() };
        Ok(Loader::new(collate, sampler, config, train.seed).map_err(|e| inside(e, section))?)
    };
    let labelled =
        LoaderConfig { batch_size: recipe.labels.batch_size.min(given.labels.len()), ..train.loader() };
    let labelled = loader(&sets.labelled, &[recipe.views.labelled], labelled, "labels")?;
    let (labels, weights) = (&given.labels, &given.weights);
    if recipe.views.unlabelled.is_empty() {
        // An epoch is as long as if there were unlabelled images beside.
        let per_epoch = sets.unlabelled.len() / train.batch_size.max(1);
        return Ok(LabelledWithUnlabelled::alone(labelled, labels, weights, per_epoch.max(1) as u64)?);
    }
    let unlabelled = loader(&sets.unlabelled, &recipe.views.unlabelled, train.loader(), "train")?;
    Ok(LabelledWithUnlabelled::new(labelled, labels, weights, unlabelled)?)
}
