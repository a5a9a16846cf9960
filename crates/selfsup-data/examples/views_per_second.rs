//! How many augmented views a second this machine makes: two SimCLR views of 32 x 32 colour images, loader and all.
//!
//! `cargo run --release -p selfsup-data --example views_per_second`

use selfsup_core::{Batches, Key, Result};
use selfsup_data::augment::{AugmentedView, GaussianBlur, Scratch, View, ViewConfig, two_views};
use selfsup_data::dataset::ArrayImages;
use selfsup_data::sampler::Shuffled;
use selfsup_data::{Image, ImageCollate, Loader, LoaderConfig, Pixels};
use std::sync::Arc;
use std::time::Instant;

fn main() -> Result<()> {
    let sharp = GaussianBlur { p: 0.0, ..GaussianBlur::default() };
    for (size, stored, blur) in [
        (32, 32, sharp.clone()),
        (32, 32, GaussianBlur::default()),
        (96, 128, GaussianBlur::default()),
        (224, 256, GaussianBlur::default()),
    ] {
        let config = ViewConfig { size, blur, scale: [0.2, 1.0], ..ViewConfig::default() };
        let wave = |i: usize| ((i as f64 * 0.37).sin() * 127.0 + 128.0) as u8;
        let pixels: Vec<u8> = (0..stored * stored * 3).map(wave).collect();

        let view = AugmentedView::new(config.clone(), 3)?;
        let image = Image::new(pixels.clone(), [stored, stored, 3])?;
        let (mut scratch, mut out) = (Scratch::default(), vec![0.0; size * size * 3]);
        let count = 40_000_000 / (size * size * 3) as u64;
        let start = Instant::now();
        for sample in 0..count {
            view.write(&image, &mut Key::new(0).with(sample).rng(), &mut scratch, &mut out)?;
        }
        let alone = count as f64 / start.elapsed().as_secs_f64();

        let images = (100_000_000 / pixels.len()).min(10_000);
        let dataset = Arc::new(ArrayImages::new(pixels.repeat(images), [stored, stored, 3])?);
        let collate = ImageCollate { dataset, views: two_views(&config, 3)?, pixels: Pixels::Float32 };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let loader_config = LoaderConfig { threads, ..LoaderConfig::default() };
        let loader = Loader::new(collate, Shuffled { len: images }, loader_config, 0)?;
        let start = Instant::now();
        let mut views = 0;
        for batch in loader.epoch(0, 0)? {
            views += 2 * batch?.indices.size()[0];
        }
        let together = views as f64 / start.elapsed().as_secs_f64();
        println!(
            "{stored} -> {size} pixels, blur {:.1}: {alone:.0} views/s on one core, {together:.0} from the loader on {threads}",
            config.blur.p
        );
    }
    Ok(())
}
