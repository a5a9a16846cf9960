//! Views of images; work is counted in views, in `decode-224` in images.

use crate::{Options, Round, Rounds, timed};
use anyhow::Result;
use selfsup::core::Batches;
use selfsup::data::augment::{GaussianBlur, View, ViewConfig, multi_crop};
use selfsup::data::dataset::{ImageFolder, Subset, open_path};
use selfsup::data::sampler::Sequential;
use selfsup::data::{Image, ImageCollate, ImageSet, Loader, LoaderConfig, Pixels};
use std::sync::Arc;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn view(size: usize, scale: [f64; 2], blur: f64) -> ViewConfig {
    let blur = GaussianBlur { p: blur, ..GaussianBlur::default() };
    ViewConfig { size, scale, blur, mean: MEAN.to_vec(), std: STD.to_vec(), ..ViewConfig::default() }
}

/// A pass over a fixed number of images, through the loader.
///
/// # Errors
/// When the inputs are missing.
pub fn row(row: &str, options: &Options) -> Result<Rounds> {
    let photos =
        || -> Result<Arc<dyn ImageSet>> { Ok(Arc::new(ImageFolder::flat(&options.data.join("photos"))?)) };
    // Rounds of two to four seconds.
    let (set, images, batch_size, kinds): (Arc<dyn ImageSet>, _, _, _) = match row {
        "views-32" | "views-32-blur" => {
            let set = open_path(&options.data.join("images32.npy"))?.train;
            let blur = if row == "views-32" { 0.0 } else { 0.5 };
            (set, 81_920, 256, vec![(view(32, [0.2, 1.0], blur), 2)])
        }
        "views-224" => (photos()?, 768, 16, vec![(view(224, [0.08, 1.0], 0.5), 2)]),
        "multi-crop" => {
            let kinds = vec![(view(224, [0.25, 1.0], 0.5), 2), (view(96, [0.05, 0.25], 0.5), 6)];
            (photos()?, 512, 16, kinds)
        }
        _ => return Ok(decode(photos()?, options)),
    };
    let images = options.scaled(images, batch_size);
    let views = multi_crop(&kinds, set.channels())?;
    let work = (images * views.len()) as f64;
    let loader = loader(&set, views, images, batch_size, options.threads)?;
    let mut epoch = 0;
    let mut round = move || -> Result<Round> {
        epoch += 1;
        timed(work, || {
            for batch in loader.epoch(epoch, 0)? {
                batch?;
            }
            Ok(())
        })
    };
    round()?;
    Ok(Box::new(round))
}

/// The images of a set over and over, on all threads.
fn loader(
    set: &Arc<dyn ImageSet>,
    views: Vec<Arc<dyn View>>,
    images: usize,
    batch_size: usize,
    threads: usize,
) -> Result<Loader<ImageCollate<dyn ImageSet>>> {
    let indices = (0..images).map(|i| i % set.len()).collect();
    let dataset: Arc<dyn ImageSet> = Arc::new(Subset::new(Arc::clone(set), indices)?);
    let config = LoaderConfig { batch_size, threads, ..LoaderConfig::default() };
    Ok(Loader::new(
        ImageCollate { dataset, views, pixels: Pixels::Float32 },
        Sequential { len: images },
        config,
        0,
    )?)
}

/// Whole images from their files, and nothing more.
fn decode(set: Arc<dyn ImageSet>, options: &Options) -> Rounds {
    let images = options.scaled(1024, 1);
    let threads = options.threads;
    Box::new(move || {
        timed(images as f64, || {
            std::thread::scope(|scope| {
                let workers: Vec<_> = (0..threads)
                    .map(|t| {
                        let set = &set;
                        scope.spawn(move || -> Result<()> {
                            for i in (t..images).step_by(threads) {
                                let _: Image = set.get(i % set.len())?;
                            }
                            Ok(())
                        })
                    })
                    .collect();
                workers
                    .into_iter()
                    .try_for_each(|w| w.join().unwrap_or_else(|_| anyhow::bail!("a thread died")))
            })
        })
    })
}
