//! The linear probe.

use crate::{Options, Rounds, timed};
use anyhow::{Context, Result};
use selfsup::core::{Features, Tensor};
use selfsup::data::ImageSet;
use selfsup::data::dataset::open_path;
use selfsup::eval::{LinearProbe, LinearProbeConfig};
use serde_json::json;

/// The probe as it is by default on the pixels of 20,000 images of Fashion-MNIST, judged by 10,000 others: its strength is chosen among
/// eleven on a held-out fifth. Work is counted in samples.
///
/// # Errors
/// When the inputs are missing.
pub fn linear(options: &Options) -> Result<Rounds> {
    let splits = open_path(&options.data.join("fashion-mnist"))?;
    let train = pixels(splits.train.as_ref(), options.scaled(20_000, 1))?;
    let test = pixels(splits.test.context("fashion-mnist has no test part")?.as_ref(), 10_000)?;
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
fn pixels(set: &dyn ImageSet, count: usize) -> Result<Features> {
    let mut values = Vec::new();
    for i in 0..count.min(set.len()) {
        values.extend(set.get(i)?.pixels().iter().map(|&byte| f32::from(byte) / 255.0));
    }
    let labels = set.labels().context("fashion-mnist has no labels")?;
    let labels = &labels[..count.min(labels.len())];
    let x = Tensor::from_slice(&values).reshape([labels.len() as i64, -1]);
    Ok(Features::new(x, Tensor::from_slice(labels), set.classes().len() as i64)?)
}
