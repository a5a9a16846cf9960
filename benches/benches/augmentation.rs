//! Two SimCLR views of an image from memory, on all cores; the rate is in views.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use selfsup::core::{Key, Result};
use selfsup::data::augment::{GaussianBlur, ViewConfig, two_views};
use selfsup::data::{Collate, ImageCollate, Pixels};
use selfsup_benches::texture;
use std::sync::Arc;

const IMAGES: usize = 512;

fn views(c: &mut Criterion, name: &str, shape: [usize; 3], config: &ViewConfig) -> Result<()> {
    let dataset = Arc::new(texture(IMAGES, shape)?);
    let collate = ImageCollate { dataset, views: two_views(config, shape[2])?, pixels: Pixels::Float32 };
    let indices: Vec<usize> = (0..IMAGES).collect();
    let [height, width, channels] = shape;
    let id = BenchmarkId::new(name, format!("{height}x{width}x{channels}-to-{0}x{0}", config.size));
    let mut group = c.benchmark_group("two_views");
    group.throughput(Throughput::Elements(2 * IMAGES as u64));
    group.bench_function(id, |b| {
        b.iter(|| collate.collate(&indices, Key::new(0)).expect("views of a texture"));
    });
    group.finish();
    Ok(())
}

fn bench(c: &mut Criterion) {
    let sharp = ViewConfig {
        size: 32,
        scale: [0.2, 1.0],
        blur: GaussianBlur { p: 0.0, ..GaussianBlur::default() },
        ..ViewConfig::default()
    };
    let blurred = ViewConfig { blur: GaussianBlur { p: 0.5, ..GaussianBlur::default() }, ..sharp.clone() };
    let small = ViewConfig { size: 20, ..blurred.clone() };
    let all = [
        ("colour", [32, 32, 3], &sharp),
        ("colour_blur", [32, 32, 3], &blurred),
        ("grey_blur", [28, 28, 1], &small),
    ];
    for (name, shape, config) in all {
        views(c, name, shape, config).expect("a valid configuration");
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
