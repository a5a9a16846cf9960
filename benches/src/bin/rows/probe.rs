//! The linear probe.

use crate::inputs::matrix;
use crate::{Options, Rounds, timed};
use anyhow::{Context, Result};
use selfsup::core::{Features, Tensor};
use selfsup::data::ImageSet;
use selfsup::data::dataset::open_path;
use selfsup::eval::{LinearProbe, LinearProbeConfig};
use serde_json::json;

/// On the pixels of 20,000 images of Fashion-MNIST, judged by 10,000 others.
///
/// # Errors
/// When the inputs are missing.
pub fn of_pixels(options: &Options) -> Result<Rounds> {
    let splits = open_path(&options.data.join("fashion-mnist"))?;
    let train = pixels(splits.train.as_ref(), options.scaled(20_000, 1))?;
    let test = pixels(splits.test.context("fashion-mnist has no test part")?.as_ref(), 10_000)?;
    rounds(train, test)
}

/// On 512 features of 50,000 images of Fashion-MNIST, judged by those of 10,000 others.
///
/// # Errors
/// When the inputs are missing.
pub fn of_features(options: &Options) -> Result<Rounds> {
    let splits = open_path(&options.data.join("fashion-mnist"))?;
    let labels = splits.train.labels().context("fashion-mnist has no labels")?;
    let labels = Tensor::from_slice(&labels);
    let x = matrix(&options.data.join("features.npy"))?;
    let classes = splits.train.classes().len() as i64;
    let part = |from: i64, count: i64| {
        Features::new(x.narrow(0, from, count), labels.narrow(0, from, count), classes)
    };
    rounds(part(0, options.scaled(50_000, 1) as i64)?, part(50_000, 10_000)?)
}

/// The probe as it is by default: its strength is chosen among eleven on a held-out fifth. Work is counted in samples.
fn rounds(train: Features, test: Features) -> Result<Rounds> {
    let probe = LinearProbe::new(LinearProbeConfig::default())?;
    Ok(Box::new(move || {
        let mut accuracy = 0.0;
        let mut round = timed(train.len() as f64, || {
            accuracy = probe.run(&train, &test)?.accuracy;
            Ok(())
        })?;
        round.more.insert("accuracy".to_owned(), json!(accuracy));
        Ok(round)
    }))
}

/// The first images of a set as rows of numbers from 0 to 1, with their labels.
///
/// # Errors
/// When the set has no labels or an image cannot be read.
pub fn pixels(set: &dyn ImageSet, count: usize) -> Result<Features> {
    let mut values = Vec::new();
    for i in 0..count.min(set.len()) {
        values.extend(set.get(i)?.pixels().iter().map(|&byte| f32::from(byte) / 255.0));
    }
    let labels = set.labels().context("fashion-mnist has no labels")?;
    let labels = &labels[..count.min(labels.len())];
    let x = Tensor::from_slice(&values).reshape([labels.len() as i64, -1]);
    Ok(Features::new(x, Tensor::from_slice(labels), set.classes().len() as i64)?)
}
