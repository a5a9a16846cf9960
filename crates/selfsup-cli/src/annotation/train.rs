//! The arms that train a network, by `selfsup finetune`'s own way.

use super::Setting;
use super::cells::Cell;
use super::labels::drawn;
use crate::finetune::{self, Config, Ended, FinetuneRecipe};
use anyhow::{Context, Result, bail};
use selfsup::core::Key;
use selfsup::core::state::write_whole;
use selfsup::data::{ExistingFile, LabelFile, LabelRow};
use selfsup::train::Existing;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Epochs of a rehearsal, over so many batches: its steps are spread over the sizes of views as those of a training are.
const EPOCHS: u64 = 10;
const BATCHES: usize = 2;
/// Labels a class in a rehearsal.
const LABELS: usize = 4;

/// Where a training starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From scratch.
    Scratch,
    /// With the run's encoder.
    Pretrained,
}

/// How a cell ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trained {
    /// With this test accuracy.
    Reached(f64),
    /// By this signal; the cell goes on where it was.
    Interrupted(i32),
}

/// How long the trainings of a method are, so that they keep to the budget; measured once for a ladder.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace(BTreeMap<String, MethodPace>);

/// How long the trainings of one method are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct MethodPace {
    epochs: u64,
    /// None where the epochs were given.
    seconds_per_step: Option<f64>,
}

impl Pace {
    /// What was measured in this folder before.
    ///
    /// # Errors
    /// When its file is broken.
    pub fn open(out: &Path) -> Result<Pace> {
        let path = file(out);
        if !path.is_file() {
            return Ok(Pace::default());
        }
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| format!("{} is broken: remove it", path.display()))
    }

    /// Measures how long a step of a method takes, where that is not known.
    ///
    /// # Errors
    /// Those of a training.
    pub fn measure(&mut self, setting: &Setting, method: &str, start: Start) -> Result<()> {
        if self.0.contains_key(method) {
            return Ok(());
        }
        let (epochs, seconds_per_step) = if let Some(epochs) = setting.arguments.epochs {
            (epochs, None)
        } else {
            let seconds = rehearse(setting, method, start)?;
            let batch = recipe(setting, method, start)?.train.batch_size;
            let per_epoch = (setting.train.len() / batch.max(1)).max(1) as f64;
            let epochs = (setting.arguments.budget / (seconds * per_epoch)).floor().max(1.0) as u64;
            eprintln!("{method}: {:.0} ms a step; {epochs} epochs within the budget", 1e3 * seconds);
            (epochs, Some(seconds))
        };
        self.0.insert(method.to_owned(), MethodPace { epochs, seconds_per_step });
        Ok(write_whole(&file(&setting.arguments.out), serde_json::to_string_pretty(self)?.as_bytes())?)
    }
}

fn file(out: &Path) -> PathBuf {
    out.join("pace.json")
}

/// The seconds of a step, over a few of them.
fn rehearse(setting: &Setting, method: &str, start: Start) -> Result<f64> {
    let mut recipe = recipe(setting, method, start)?;
    recipe.data.limit = Some((BATCHES * recipe.train.batch_size).min(setting.train.len()));
    recipe.data.test_limit = Some(1.max(setting.test.len().min(64)));
    let folder = setting.arguments.out.join("rehearsal");
    let file = folder.with_extension("csv");
    // Of all images, as a class may be missing among the few that are learned from without labels.
    let labelled = (LABELS * setting.classes).min(setting.train.len());
    let labelled = drawn(&setting.train, setting.classes, labelled, Key::new(setting.arguments.seed))?;
    write_labels(setting, &labelled, &file)?;
    recipe.labels.source.clone_from(&recipe.data.source);
    (recipe.labels.file, recipe.labels.per_class) = (Some(file.clone()), None);
    recipe.train.epochs = EPOCHS;
    let config =
        Config { recipe, folder: folder.clone(), device: setting.device, existing: Existing::Overwrite };
    let seconds_per_step = match finetune::train(&config).context("a rehearsal")? {
        Ended::Finished(report) => report.seconds / report.steps.max(1) as f64,
        Ended::Interrupted(signal) => {
            bail!("interrupted by signal {signal} while the time of a step was measured")
        }
    };
    remove(&folder, &file)?;
    Ok(seconds_per_step)
}

/// Writes the labels of some samples as a file.
fn write_labels(setting: &Setting, labelled: &[i64], path: &Path) -> Result<()> {
    let (set, classes) = (&setting.images.train, setting.images.classes());
    let row = |&i: &i64| LabelRow {
        file: set.name(i as usize),
        label: classes[setting.train[i as usize] as usize].clone(),
        ..LabelRow::default()
    };
    let file = LabelFile::new(path, labelled.iter().map(row).collect())?;
    Ok(file.write(path, ExistingFile::Replace)?)
}

/// Removes a training and its file of labels, where they are there.
fn remove(folder: &Path, labels: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    if labels.exists() {
        fs::remove_file(labels).with_context(|| labels.display().to_string())?;
    }
    Ok(())
}

/// The folder of a cell's training.
fn folder_of(out: &Path, cell: &Cell) -> PathBuf {
    out.join("cells").join(cell.name() + ".run")
}

/// Removes what a cell's training has left, once its result is written.
///
/// # Errors
/// When the system refuses.
pub fn clear(out: &Path, cell: &Cell) -> Result<()> {
    let folder = folder_of(out, cell);
    remove(&folder, &folder.with_extension("csv"))
}

/// The method's recipe for the ladder's data, network and views.
fn recipe(setting: &Setting, method: &str, start: Start) -> Result<FinetuneRecipe> {
    let set = setting.set_of(method);
    let mut recipe = FinetuneRecipe::read(method, Some(setting.run()), &set)?;
    if start == Start::Scratch {
        let plain = FinetuneRecipe::read(method, None, &set)?;
        recipe = FinetuneRecipe { encoder: recipe.encoder, views: recipe.views, ..plain };
    }
    recipe.data = setting.recipe.data.clone();
    Ok(recipe)
}

/// Trains a cell on these labels, or goes on with it. What it needed stays until it is [cleared](clear).
///
/// # Errors
/// With the field or file that cannot work, or why the training stopped.
pub fn train(
    setting: &Setting,
    cell: &Cell,
    method: &str,
    start: Start,
    labelled: &[i64],
    pace: &Pace,
) -> Result<Trained> {
    let folder = folder_of(&setting.arguments.out, cell);
    let labels = folder.with_extension("csv");
    write_labels(setting, labelled, &labels)?;
    let mut recipe = recipe(setting, method, start)?;
    recipe.train.epochs = pace.0.get(method).context("the time of a step was not measured")?.epochs;
    recipe.train.seed = cell.seed;
    recipe.labels.file = Some(labels);
    let existing =
        if folder.join("checkpoints/last").is_file() { Existing::Resume } else { Existing::Overwrite };
    let config = Config { recipe, folder, device: setting.device, existing };
    match finetune::train(&config)? {
        Ended::Interrupted(signal) => Ok(Trained::Interrupted(signal)),
        Ended::Finished(report) => {
            let scores =
                report.scores.context("the classifier was not judged: the test samples have no labels")?;
            Ok(Trained::Reached(scores.accuracy))
        }
    }
}
