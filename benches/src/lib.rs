//! Benchmarks of the selfsup workspace; run them with `cargo xtask bench`.
//!
//! Every bench links this crate for its allocator, so that what is measured is what the `selfsup` program does: libtorch
//! takes every activation from `malloc`, and jemalloc with these settings keeps the pages that glibc would give back.

#[cfg(unix)]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc reads its settings from this symbol before `main`.
#[cfg(unix)]
#[unsafe(export_name = "malloc_conf")]
#[used]
static SETTINGS: &[u8; 47] = b"dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always\0";

use selfsup::core::{Device, Kind, Result, Tensor};
use selfsup::data::dataset::ArrayImages;

/// `n` images of a fixed texture, so that runs compare.
///
/// # Errors
/// When the shape is no image's.
pub fn texture(n: usize, [height, width, channels]: [usize; 3]) -> Result<ArrayImages> {
    let value = |i: usize| ((i as f64 * 0.37).sin() * 60.0 + (i as f64 * 0.011).sin() * 60.0 + 128.0) as u8;
    ArrayImages::new((0..n * height * width * channels).map(value).collect(), [height, width, channels])
}

/// `[n, d]` numbers from a standard normal distribution.
pub fn normal(n: i64, d: i64) -> Tensor {
    Tensor::randn([n, d], (Kind::Float, Device::Cpu))
}
