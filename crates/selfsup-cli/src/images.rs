//! A recipe's images: opened, split, limited, and made into views.

use crate::digest;
use crate::origin::Part;
use crate::recipe::{DataConfig, Recipe, ViewKind, inside};
use anyhow::{Result, bail};
use rand::seq::SliceRandom;
use selfsup::core::{Batches, Dataset, Error, Key, Result as CoreResult, Tensor};
use selfsup::data::augment::{AugmentedView, PlainView, View};
use selfsup::data::dataset::{DecodedImages, Subset};
use selfsup::data::sampler::{Sequential, Shuffled, ShuffledShards};
use selfsup::data::{Image, ImageCollate, ImageSet, Loader, LoaderConfig, Pixels, Unpack};
use selfsup::train::loggers::Progress;
use std::sync::Arc;

/// The images of a recipe.
pub struct Images {
    /// The set's name.
    pub name: String,
    /// What is learned from.
    pub train: Arc<dyn ImageSet>,
    /// What is judged by.
    pub test: Arc<dyn ImageSet>,
    /// Both parts before they were made grey or colour: what tells sets apart.
    pub as_stored: [Arc<dyn ImageSet>; 2],
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
        let mut train = limited(train, "limit", config.limit)?;
        let mut test = limited(test, "test_limit", config.test_limit)?;
        if config.decoded {
            (train, test) = (decoded(train)?, decoded(test)?);
        }
        let as_stored = [Arc::clone(&train), Arc::clone(&test)];
        let train = with_channels(train, config.channels)?;
        let test = with_channels(test, Some(train.channels()))?;
        Ok(Images { name: splits.name, train, test, as_stored, held_out })
    }

    /// What the training and the test part are told by.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn parts(&self) -> Result<[Part; 2]> {
        let part = |set: &Arc<dyn ImageSet>| -> Result<Part> {
            Ok(Part::new(set.len(), set.labels().as_deref(), Some(digest::of_images(set.as_ref())?)))
        };
        let [train, test] = &self.as_stored;
        Ok([part(train)?, part(test)?])
    }

    /// The names of the classes; none when the set has no labels.
    pub fn classes(&self) -> Vec<String> {
        self.train.classes()
    }
}

/// The set with its pixels in a file of the cache.
///
/// # Errors
/// When an image cannot be read, or the file not written.
pub fn decoded(set: Arc<dyn ImageSet>) -> Result<Arc<dyn ImageSet>> {
    let folder = selfsup::fetch::cache_dir()?.join("decoded");
    let mut progress = Progress::new("decoding", set.len() as u64, 0, 1);
    let mut any = false;
    let set = DecodedImages::open(set, &folder, &mut |done| {
        any = true;
        progress.update(done as u64, "");
    })?;
    if any {
        progress.finish();
    }
    Ok(set)
}

/// The share of `set` that is to be learned from, and that which is to be judged by, both in the set's order. The split
/// depends on nothing but the number of samples, so that it is the same for every run.
fn hold_out(set: &Arc<dyn ImageSet>, share: f64) -> Result<(Arc<dyn ImageSet>, Arc<dyn ImageSet>)> {
    let (train, test) = held_out_of(set.len(), share)?;
    Ok((part(set, train)?, part(set, test)?))
}

/// The samples at some positions of a set.
///
/// # Errors
/// When one lies outside.
pub fn part(set: &Arc<dyn ImageSet>, indices: Vec<usize>) -> Result<Arc<dyn ImageSet>> {
    Ok(Arc::new(Subset::new(Arc::clone(set), indices)?))
}

/// The positions of `n` samples that are learned from, and those that are judged by.
///
/// # Errors
/// When one of the two would be empty.
pub fn held_out_of(n: usize, share: f64) -> Result<(Vec<usize>, Vec<usize>)> {
    let count = (n as f64 * share).round() as usize;
    if !(share > 0.0 && share < 1.0) || count == 0 || count == n {
        bail!("data.held_out = {share}: a share that leaves some of the {n} images in both parts");
    }
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(&mut Key::new(0).rng());
    let mut test = order.split_off(n - count);
    order.sort_unstable();
    test.sort_unstable();
    Ok((order, test))
}

/// The first `limit` samples. Of a set that lies sorted by class, which the first would not stand for, every so manyth.
///
/// # Errors
/// When the limit is 0.
pub fn limited(set: Arc<dyn ImageSet>, field: &str, limit: Option<usize>) -> Result<Arc<dyn ImageSet>> {
    let n = set.len();
    let Some(limit) = limit.filter(|&limit| limit < n) else { return Ok(set) };
    if limit == 0 {
        bail!("data.{field} = 0: at least 1 sample");
    }
    let sorted = set.labels().is_some_and(|labels| labels.is_sorted());
    let indices = if sorted { evenly(n, limit) } else { (0..limit).collect() };
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

    fn shards(&self) -> Vec<usize> {
        self.set.shards()
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
            .map_err(|e| inside(e, &format!("views.kinds.{i}")))?;
        views.extend(std::iter::repeat_n(view, kind.count));
    }
    Ok(views)
}

/// The views of kinds, as a loader takes them.
fn drawn(kinds: &[ViewKind], channels: usize) -> Result<Vec<Arc<dyn View>>> {
    Ok(augmented(kinds, channels)?.into_iter().map(|view| Arc::new(view) as Arc<dyn View>).collect())
}

/// What makes the batches of [`training`] numbers for a network.
///
/// # Errors
/// With the field that cannot work.
pub fn unpack(kinds: &[ViewKind], channels: usize, pixels: Pixels) -> Result<Unpack> {
    Ok(Unpack::new(&drawn(kinds, channels)?, pixels)?)
}

/// The loader of augmented views for training.
///
/// # Errors
/// With the field that cannot work.
pub fn training(
    set: &Arc<dyn ImageSet>,
    kinds: &[ViewKind],
    config: LoaderConfig,
    shuffle_buffer: usize,
    seed: u64,
    pixels: Pixels,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let views = drawn(kinds, set.channels())?;
    let (shards, collate) = (set.shards(), ImageCollate { dataset: Arc::clone(set), views, pixels });
    let loader = if shards.is_empty() {
        Loader::new(collate, Shuffled { len: set.len() }, config, seed)
    } else {
        Loader::new(collate, ShuffledShards { shards, buffer: shuffle_buffer }, config, seed)
    };
    Ok(loader.map_err(|e| inside(e, "train"))?)
}

/// The loader of the views of a kind of some images, evenly taken, for measuring how near they are.
///
/// # Errors
/// With the field that cannot work.
pub fn pairs(
    set: &Arc<dyn ImageSet>,
    kind: ViewKind,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    const IMAGES: usize = 2048;
    all_views(&some(set, IMAGES)?, kind, batch_size, threads)
}

/// The loader of the views of a kind, in the set's order.
///
/// # Errors
/// With the field that cannot work.
pub fn all_views(
    set: &Arc<dyn ImageSet>,
    kind: ViewKind,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    in_order(Arc::clone(set), drawn(&[kind], set.channels())?, batch_size, threads)
}

/// At most `count` images of a set, evenly taken.
///
/// # Errors
/// None: the positions are those of the set.
pub fn some(set: &Arc<dyn ImageSet>, count: usize) -> Result<Arc<dyn ImageSet>> {
    Ok(Arc::new(Subset::new(Arc::clone(set), evenly(set.len(), count))?))
}

/// At most `count` positions of `len`, evenly taken, ascending.
pub fn evenly(len: usize, count: usize) -> Vec<usize> {
    let count = len.min(count);
    (0..count).map(|i| i * len / count).collect()
}

/// As [`evenly`], to index with: `[count]` Int64.
pub fn evenly_indices(len: usize, count: usize) -> Tensor {
    Tensor::from_slice(&evenly(len, count).into_iter().map(|i| i as i64).collect::<Vec<_>>())
}

/// The view in which a recipe's images are judged.
///
/// # Errors
/// With the field of the recipe that cannot work.
pub fn plain_view(recipe: &Recipe, channels: usize) -> Result<PlainView> {
    PlainView::new(recipe.plain_view(), channels).map_err(|error| {
        let section = match &error {
            Error::Config { field, .. } if field == "channels" => "data",
            Error::Config { field, .. } if field == "resize" => "eval",
            Error::Config { field, .. } if field == "size" && recipe.eval.size.is_some() => "eval",
            _ => "views.kinds.0",
        };
        inside(error, section).into()
    })
}

/// The loader of plain views, in the set's order, for evaluation.
///
/// # Errors
/// When the batch size is zero or the threads cannot be started.
pub fn plain(
    set: &Arc<dyn ImageSet>,
    view: PlainView,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    in_order(Arc::clone(set), vec![Arc::new(view)], batch_size, threads)
}

pub fn in_order(
    dataset: Arc<dyn ImageSet>,
    views: Vec<Arc<dyn View>>,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let config = LoaderConfig { batch_size, drop_last: false, threads, prefetch: 2 };
    let len = dataset.len();
    let collate = ImageCollate { dataset, views, pixels: Pixels::Float32 };
    Ok(Loader::new(collate, Sequential { len }, config, 0).map_err(|e| inside(e, "eval"))?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::{of_pixel_pairs, of_pixels};
    use selfsup::data::dataset::ArrayImages;

    #[test]
    fn raw_pairs_lie_in_the_space_of_raw_views() {
        let text = r#"
            encoder = { kind = "convnet" }
            objective = { kind = "simclr" }
            [[views.kinds]]
            size = 4
            scale = [1.0, 1.0]
            ratio = [1.0, 1.0]
            flip = 0.0
            jitter = { p = 0.0 }
            grayscale = 0.0
            blur = { p = 0.0 }
            mean = [0.25]
            std = [0.5]"#;
        let recipe = Recipe::parse(text, &[]).unwrap();
        let pixels = (0..48).map(|i| i * 5).collect();
        let set: Arc<dyn ImageSet> = Arc::new(ArrayImages::new(pixels, [4, 4, 1]).unwrap());
        let view = PlainView::new(recipe.raw_view(), 1).unwrap();
        let raw = of_pixels(&plain(&set, view, 2, 1).unwrap()).unwrap();
        let (least, most) = (raw.min().double_value(&[]), raw.max().double_value(&[]));
        assert!(least.abs() < 1e-6 && (most - 235.0 / 255.0).abs() < 1e-6, "{least} to {most}");
        for x in of_pixel_pairs(&pairs(&set, recipe.raw_pair(), 2, 1).unwrap()).unwrap() {
            assert!(x.allclose(&raw, 0.0, 1e-5, false));
        }
    }

    #[test]
    fn raw_views_show_the_part_that_plain_views_show() {
        let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }\nviews.kinds = [{ size = 28 }]";
        let recipe = |eval: &str| Recipe::parse(&format!("{text}\n[eval]\n{eval}"), &[]).unwrap();
        let raw = recipe("size = 20\nresize = 24").raw_view();
        assert_eq!((raw.size, raw.resize), (28, Some(34)));
        PlainView::new(raw, 1).unwrap();
        assert_eq!(recipe("resize = 32").raw_view().resize, Some(32));
        assert_eq!(recipe("").raw_view().resize, None);
    }

    #[test]
    fn images_in_grey_and_in_colour_are_told_to_be_the_same() {
        let folder = tempfile::tempdir().unwrap();
        for (class, red) in [("a", 10), ("b", 200)] {
            std::fs::create_dir(folder.path().join(class)).unwrap();
            for i in 0..5_u8 {
                let image = image::RgbImage::from_pixel(4, 4, image::Rgb([red, i, 90]));
                image.save(folder.path().join(class).join(format!("{i}.png"))).unwrap();
            }
        }
        let source = Some(folder.path().to_string_lossy().into_owned());
        let open = |channels| {
            Images::open(&DataConfig { source: source.clone(), channels, ..Default::default() }).unwrap()
        };
        let (colour, grey) = (open(None), open(Some(1)));
        assert_eq!((colour.train.channels(), grey.train.channels(), grey.test.channels()), (3, 1, 1));
        assert_eq!(colour.parts().unwrap(), grey.parts().unwrap());
        let [train, test] = grey.parts().unwrap();
        assert!((train.samples, test.samples) == (8, 2) && !train.is_like(&test));
    }

    #[test]
    fn a_limit_of_nothing_is_named_as_the_recipe_has_it() {
        let set: Arc<dyn ImageSet> = Arc::new(ArrayImages::new(vec![0; 12], [2, 2, 1]).unwrap());
        let refused = limited(set, "test_limit", Some(0)).err().map(|e| e.to_string());
        assert_eq!(refused.as_deref(), Some("data.test_limit = 0: at least 1 sample"));
    }
}
