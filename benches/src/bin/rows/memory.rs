//! How much memory a program takes at most.

use crate::{Options, Rounds, inputs, timed};
use anyhow::{Context, Result};
use selfsup::core::Batches;
use selfsup::data::augment::{ViewConfig, two_views};
use selfsup::data::dataset::open_path;
use selfsup::data::sampler::Shuffled;
use selfsup::data::{ImageCollate, Loader, LoaderConfig};
use serde_json::json;

/// The peak of resident memory of this process, in bytes (Linux).
///
/// # Errors
/// Where /proc does not tell.
pub fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("memory is read from /proc")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("/proc/self/status has no VmHWM")?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kilobytes * 1024)
}

/// The loader on an array file of 2,000 images of 32x32, or 10 or 100 times as many; work is counted in images.
///
/// # Errors
/// When the array cannot be made.
pub fn loader(row: &str, options: &Options) -> Result<Rounds> {
    let times: u64 = row.trim_start_matches("loader-memory-").trim_end_matches('x').parse()?;
    let count = 2000 * times;
    let path = options.data.join(format!("{row}.npy"));
    if !path.exists() {
        let values = (0..count * 32 * 32 * 3).map(|i| ((i * 2_654_435_761) >> 7) as u8);
        inputs::write_npy(&path, &[count, 32, 32, 3], values)?;
    }
    let dataset = open_path(&path)?.train;
    let views = two_views(&ViewConfig { size: 32, ..ViewConfig::default() }, 3)?;
    let config = LoaderConfig { threads: options.threads, ..LoaderConfig::default() };
    let loader = Loader::new(ImageCollate { dataset, views }, Shuffled { len: count as usize }, config, 0)?;
    Ok(Box::new(move || {
        let mut round = timed(count as f64, || {
            for batch in loader.epoch(0, 0)? {
                batch?;
            }
            Ok(())
        })?;
        round.more.insert("peak_bytes".to_owned(), json!(peak()?));
        Ok(round)
    }))
}
