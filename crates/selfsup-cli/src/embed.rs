//! `selfsup embed`: features of any data for other programs.

use crate::evaluate::last_checkpoint;
use crate::features;
use crate::finetune::encoder_of;
use crate::images;
use crate::model::{ImageModel, TextModel};
use crate::objective::Modality;
use crate::places;
use crate::recipe::{Recipe, Whose};
use crate::text;
use anyhow::{Context, Result, bail};
use ndarray::Array2;
use selfsup::core::state::write_whole;
use selfsup::core::tensor::to_array2;
use selfsup::core::{Device, Tensor};
use selfsup::data::text::{TokenSequences, Tokenizer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Runs the command: writes the features of all samples of `data`, in order, with the samples' names.
///
/// # Errors
/// When the folder holds no run or no checkpoint, or none of a teacher that is asked for, the data cannot be read or do not fit the
/// encoder, or `out` ends in neither `.npy` nor `.csv`, or is there already and is to stay.
pub fn run(run: &Path, whose: Whose, data: &str, out: &Path, overwrite: bool, device: Device) -> Result<()> {
    let write: fn(&Array2<f32>, &[String], &Path) -> Result<()> =
        match out.extension().and_then(|e| e.to_str()) {
            Some("npy") => write_npy,
            Some("csv") => write_csv,
            _ => bail!("--out {}: a file that ends in .npy or .csv", out.display()),
        };
    places::check_folder_of(out)?;
    let names = names_beside(out);
    let written = [Some(out.to_owned()), Some(names).filter(|_| out.extension().is_some_and(|e| e == "npy"))];
    places::check_free(&written.into_iter().flatten().collect::<Vec<_>>(), overwrite)?;
    let mut recipe = encoder_of(run)?;
    let weights = last_checkpoint(run)?.weights;
    recipe.weights = recipe.weights.of(whose, &weights)?;
    let (features, names) = match recipe.objective.modality() {
        Modality::Images => of_images(&recipe, &weights, data, device)?,
        Modality::Text => of_text(&recipe, run, &weights, data, device)?,
    };
    write(&to_array2(&features)?, &names, out)?;
    eprintln!("{} samples, {} features each: {}", names.len(), features.size()[1], out.display());
    Ok(())
}

fn of_images(recipe: &Recipe, weights: &Path, data: &str, device: Device) -> Result<(Tensor, Vec<String>)> {
    let channels = recipe.data.channels()?;
    let model = ImageModel::on_images(recipe, device)?;
    model.load(weights)?;
    let splits = crate::data::open_images(data)?;
    let (mut all, mut names) = (Vec::new(), Vec::new());
    // The parts may have samples of one name.
    let parts = match splits.test {
        Some(test) => vec![("train/", splits.train), ("test/", test)],
        None => vec![("", splits.train)],
    };
    for (part, set) in parts {
        let set = images::with_channels(set, Some(channels))?;
        let view = images::plain_view(recipe, channels)?;
        let batches = images::plain(&set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
        all.push(features::of_images(model.encoder.as_ref(), &batches, device)?);
        names.extend((0..set.len()).map(|i| part.to_owned() + &set.name(i)));
    }
    Ok((Tensor::cat(&all, 0), names))
}

fn of_text(
    recipe: &Recipe,
    run: &Path,
    weights: &Path,
    data: &str,
    device: Device,
) -> Result<(Tensor, Vec<String>)> {
    let settings = recipe.text.clone().unwrap_or_default();
    let tokenizer = Tokenizer::open(&run.join("tokenizer.json"))?;
    let model = TextModel::on_text(recipe, &tokenizer, device)?;
    model.load(weights)?;
    let corpus = crate::data::open_texts(data)?;
    let sequences = Arc::new(TokenSequences::new(&tokenizer, &corpus, settings.length)?);
    let batches = text::plain(&sequences, recipe.eval.batch_size)?;
    let count = corpus.documents.len();
    let all = features::of_documents(model.encoder.as_ref(), &batches, sequences.documents(), count, device)?;
    Ok((all, corpus.documents.into_iter().map(|document| document.name).collect()))
}

/// `[N, D]` little-endian floats in NumPy's format, and one name a line in `OUT.names.txt`.
fn write_npy(features: &Array2<f32>, names: &[String], out: &Path) -> Result<()> {
    use npyz::WriterBuilder as _;
    let mut bytes = Vec::new();
    let shape = [features.nrows() as u64, features.ncols() as u64];
    let mut writer = npyz::WriteOptions::new().default_dtype().shape(&shape).writer(&mut bytes).begin_nd()?;
    writer.extend(features.iter().copied())?;
    writer.finish()?;
    write_whole(out, &bytes).with_context(|| format!("cannot write {}", out.display()))?;
    let lines: String = names.iter().map(|name| name.replace(['\n', '\r'], " ") + "\n").collect();
    Ok(write_whole(&names_beside(out), lines.as_bytes())?)
}

/// Where the names of `features.npy` go.
fn names_beside(out: &Path) -> PathBuf {
    out.with_extension("names.txt")
}

/// A line for each sample: its name, then its features.
fn write_csv(features: &Array2<f32>, names: &[String], out: &Path) -> Result<()> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let heads = (0..features.ncols()).map(|i| format!("feature_{i}"));
    writer.write_record(std::iter::once("name".to_owned()).chain(heads))?;
    for (name, row) in names.iter().zip(features.rows()) {
        let values = row.iter().map(ToString::to_string);
        writer.write_record(std::iter::once(name.clone()).chain(values))?;
    }
    Ok(write_whole(out, &writer.into_inner()?)?)
}
