//! How much memory a program takes at most.

use crate::{Options, Rounds, inputs, timed};
use anyhow::{Context, Result};
use selfsup::core::Batches;
use selfsup::data::augment::{ViewConfig, two_views};
use selfsup::data::dataset::open_path;
use selfsup::data::sampler::{Shuffled, ShuffledShards};
use selfsup::data::{ImageCollate, Loader, LoaderConfig, Pixels};
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

/// The pages that the system has given to this process so far (Linux).
fn faults() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("page faults are read from /proc")?;
    // Behind the program's name, which may hold anything, the eighth field is the minor faults'.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).context("/proc/self/stat has no name")?;
    Ok(fields.split_whitespace().nth(7).context("/proc/self/stat ends too early")?.parse()?)
}

/// The loader when it has run for a while: work is counted in images, and the pages that a batch needed beside it.
///
/// # Errors
/// As [`loader`].
pub fn steady(options: &Options) -> Result<Rounds> {
    let mut epoch = loader("loader-memory-10x", options)?;
    epoch()?;
    Ok(Box::new(move || {
        let before = faults()?;
        let mut round = epoch()?;
        let batches = (round.work / LoaderConfig::default().batch_size as f64).floor();
        round.more.insert("faults".to_owned(), json!((faults()? - before) as f64 / batches));
        Ok(round)
    }))
}

/// The loader on an array file or on shards of 2,000 images of 32x32, or 10 or 100 times as many; work is counted in
/// images.
///
/// # Errors
/// When the file or the shards cannot be made.
pub fn loader(row: &str, options: &Options) -> Result<Rounds> {
    let (name, times) = row.rsplit_once('-').context("a row's name ends in how many times")?;
    let count = 2000 * times.trim_end_matches('x').parse::<u64>()?;
    let sharded = name == "loader-memory-shards";
    let path = options.data.join(if sharded { row.to_owned() } else { format!("{row}.npy") });
    let pixel = |i: u64| ((i * 2_654_435_761) >> 7) as u8;
    if !path.exists() {
        if sharded {
            inputs::write_shards(&path, count, 32, pixel)?;
        } else {
            inputs::write_npy(&path, &[count, 32, 32, 3], (0..count * 32 * 32 * 3).map(pixel))?;
        }
    }
    let dataset = open_path(&path)?.train;
    let views = two_views(&ViewConfig { size: 32, ..ViewConfig::default() }, 3)?;
    let config = LoaderConfig { threads: options.threads, ..LoaderConfig::default() };
    let (shards, collate) = (dataset.shards(), ImageCollate { dataset, views, pixels: Pixels::Float32 });
    let loader = if sharded {
        Loader::new(collate, ShuffledShards { shards, buffer: 1000 }, config, 0)?
    } else {
        Loader::new(collate, Shuffled { len: count as usize }, config, 0)?
    };
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
