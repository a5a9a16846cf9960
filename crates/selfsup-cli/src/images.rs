//! A recipe's images: opened, split, limited, and made into views.

use crate::recipe::{DataConfig, ViewKind};
use anyhow::{Result, bail};
use rand::seq::SliceRandom;
use selfsup::core::{Batches, Dataset, Key, Result as CoreResult};
use selfsup::data::augment::{AugmentedView, PlainView, View};
use selfsup::data::dataset::Subset;
use selfsup::data::sampler::{Sequential, Shuffled};
use selfsup::data::{Image, ImageCollate, ImageSet, Loader, LoaderConfig};
use std::sync::Arc;

/// The images of a recipe.
pub struct Images {
    /// The set's name.
    pub name: String,
    /// What is learned from.
    pub train: Arc<dyn ImageSet>,
    /// What is judged by.
    pub test: Arc<dyn ImageSet>,
    /// Whether the test part was split off here, because the set has none.
    pub held_out: bool,
}

impl Images {
    /// Opens the set, and splits off a test part where it has none.
    ///
    /// # Errors
    /// When the set cannot be opened, or a part would be empty.
    pub fn open(config: &DataConfig) -> Result<Self> {
        let splits = crate::data::open_images(config.source()?)?;
        let held_out = splits.test.is_none();
        let (train, test) = match splits.test {
            Some(test) => (splits.train, test),
            None => hold_out(&splits.train, config.held_out)?,
        };
        let train = with_channels(limited(train, config.limit)?, config.channels)?;
        let test = with_channels(limited(test, config.test_limit)?, Some(train.channels()))?;
        Ok(Images { name: splits.name, train, test, held_out })
    }

    /// The names of the classes; none when the set has no labels.
    pub fn classes(&self) -> Vec<String> {
        self.train.classes()
    }
}

/// The share of `set` that is to be learned from, and that which is to be judged by, both in the set's order. The split
/// depends on nothing but the number of samples, so that it is the same for every run.
fn hold_out(set: &Arc<dyn ImageSet>, share: f64) -> Result<(Arc<dyn ImageSet>, Arc<dyn ImageSet>)> {
    let n = set.len();
    let count = (n as f64 * share).round() as usize;
    if !(share > 0.0 && share < 1.0) || count == 0 || count == n {
        bail!("data.held_out = {share}: a share that leaves some of the {n} images in both parts");
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut Key::new(0).rng());
    let mut test = order.split_off(n - count);
    order.sort_unstable();
    test.sort_unstable();
    let part =
        |indices| -> Result<Arc<dyn ImageSet>> { Ok(Arc::new(Subset::new(Arc::clone(set), indices)?)) };
    Ok((part(order)?, part(test)?))
}

/// The first `limit` samples. Of a set that lies sorted by class, which the first would not stand for, every so manyth.
fn limited(set: Arc<dyn ImageSet>, limit: Option<usize>) -> Result<Arc<dyn ImageSet>> {
    let n = set.len();
    let Some(limit) = limit.filter(|&limit| limit < n) else { return Ok(set) };
    if limit == 0 {
        bail!("data.limit = 0: at least 1 sample");
    }
    let sorted = set.labels().is_some_and(|labels| labels.is_sorted());
    let indices = (0..limit).map(|i| if sorted { i * n / limit } else { i }).collect();
    Ok(Arc::new(Subset::new(set, indices)?))
}

/// The set in grey or in colour.
///
/// # Errors
/// When the channels are neither 1 nor 3.
pub fn with_channels(set: Arc<dyn ImageSet>, channels: Option<usize>) -> Result<Arc<dyn ImageSet>> {
    match channels {
        Some(channels) if channels != 1 && channels != 3 => {
            bail!("data.channels = {channels}: 1 (grey) or 3 (colour)")
        }
        Some(channels) if channels != set.channels() => Ok(Arc::new(Recoloured { set, channels })),
        _ => Ok(set),
    }
}

/// Another set's images in grey or in colour.
struct Recoloured {
    set: Arc<dyn ImageSet>,
    channels: usize,
}

impl Dataset for Recoloured {
    type Item = Image;

    fn len(&self) -> usize {
        self.set.len()
    }

    fn get(&self, index: usize) -> CoreResult<Image> {
        let image = self.set.get(index)?;
        Ok(if self.channels == 1 { image.to_grey() } else { image.to_colour() })
    }
}

impl ImageSet for Recoloured {
    fn channels(&self) -> usize {
        self.channels
    }

    fn labels(&self) -> Option<Vec<i64>> {
        self.set.labels()
    }

    fn classes(&self) -> Vec<String> {
        self.set.classes()
    }

    fn name(&self, index: usize) -> String {
        self.set.name(index)
    }
}

/// The checked views of kinds.
///
/// # Errors
/// With the field that cannot work.
pub fn augmented(kinds: &[ViewKind], channels: usize) -> Result<Vec<AugmentedView>> {
    let mut views = Vec::new();
    for (i, kind) in kinds.iter().enumerate() {
        let view = AugmentedView::new(kind.view.clone(), channels)
            .map_err(|e| crate::recipe::inside(e, &format!("views.kinds.{i}")))?;
        views.extend(std::iter::repeat_n(view, kind.count));
    }
    Ok(views)
}

/// The loader of augmented views for training.
///
/// # Errors
/// With the field that cannot work.
pub fn training(
    set: &Arc<dyn ImageSet>,
    kinds: &[ViewKind],
    config: LoaderConfig,
    seed: u64,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let views = augmented(kinds, set.channels())?;
    let views = views.into_iter().map(|view| Arc::new(view) as Arc<dyn View>).collect();
    let collate = ImageCollate { dataset: Arc::clone(set), views };
    Ok(Loader::new(collate, Shuffled { len: set.len() }, config, seed)
        .map_err(|e| crate::recipe::inside(e, "train"))?)
}

/// The loader of two views of the first kind of some images, evenly taken, for measuring how near they are.
///
/// # Errors
/// With the field that cannot work.
pub fn pairs(
    set: &Arc<dyn ImageSet>,
    kinds: &[ViewKind],
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    const IMAGES: usize = 2048;
    let count = set.len().min(IMAGES);
    let some = Subset::new(Arc::clone(set), (0..count).map(|i| i * set.len() / count).collect())?;
    let kind = ViewKind { count: 2, ..kinds.first().cloned().unwrap_or_default() };
    let config = LoaderConfig { batch_size, drop_last: false, threads, prefetch: 2 };
    let some: Arc<dyn ImageSet> = Arc::new(some);
    training(&some, &[kind], config, 0)
}

/// The loader of plain views, in the set's order, for evaluation.
///
/// # Errors
/// When a size is zero or the threads cannot be started.
pub fn plain(
    set: &Arc<dyn ImageSet>,
    view: PlainView,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let collate = ImageCollate { dataset: Arc::clone(set), views: vec![Arc::new(view)] };
    let config = LoaderConfig { batch_size, drop_last: false, threads, prefetch: 2 };
    Ok(Loader::new(collate, Sequential { len: set.len() }, config, 0)?)
}

/// Batches of a run whose views change size: each stretch of epochs has batches of its own, and how many an epoch has
/// is the same in all. What an epoch holds still depends on its number alone.
pub struct Stretches<B> {
    /// The epoch before which a stretch ends, and its batches.
    pub stretches: Vec<(u64, B)>,
}

impl<B: Batches> Batches for Stretches<B> {
    type Batch = B::Batch;

    fn batches_per_epoch(&self) -> u64 {
        self.stretches.first().map_or(0, |(_, batches)| batches.batches_per_epoch())
    }

    fn epoch(
        &self,
        epoch: u64,
        skip: u64,
    ) -> CoreResult<Box<dyn Iterator<Item = CoreResult<B::Batch>> + '_>> {
        let stretch = self.stretches.iter().find(|(end, _)| epoch < *end).or(self.stretches.last());
        match stretch {
            Some((_, batches)) => batches.epoch(epoch, skip),
            None => Ok(Box::new(std::iter::empty())),
        }
    }
}
