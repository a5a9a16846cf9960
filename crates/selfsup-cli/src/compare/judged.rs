//! What the evaluation of a run has left, and which runs are of one method.

use crate::digest;
use crate::finetune::{self, FinetuneRecipe};
use crate::full::Answers;
use crate::origin::{self, Origin};
use crate::pretrain::recipe_of;
use crate::recipe::Whose;
use anyhow::{Context, Result, bail, ensure};
use selfsup::train::checkpoint::{Checkpoints, Pointer, verify};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A run as `eval --suite full` left it.
pub struct Judged {
    /// The name of its folder.
    pub name: String,
    /// Method, encoder, size and step, as a reader knows them.
    pub about: String,
    /// The recipe without its seed; none for features from elsewhere, which no two folders have in common.
    pub recipe: Option<Value>,
    /// What was judged, on what.
    pub origin: Origin,
    /// What its probes said of every test sample.
    pub answers: Answers,
}

impl Judged {
    /// Reads what is in a folder.
    ///
    /// # Errors
    /// When it was not judged by the full suite, or has trained further since.
    pub fn read(folder: &Path) -> Result<Self> {
        let config = std::fs::read_to_string(folder.join("config.toml"));
        let finetuned = config.is_ok_and(|text| finetune::made(&text));
        let path = folder.join("report.json");
        let again = || format!("{}: {}", path.display(), origin::again(folder));
        let text = std::fs::read_to_string(&path).with_context(again)?;
        let report: Value = serde_json::from_str(&text).with_context(again)?;
        ensure!(
            report["scores"].is_object(),
            "{}: of samples without classes; selfsup compare takes runs and features whose samples have some",
            path.display()
        );
        let origin = Origin::deserialize(&report["origin"]).map_err(|_| {
            anyhow::anyhow!("{}: is of another version; {}", path.display(), origin::again(folder))
        })?;
        let answers = Answers::read(folder, &origin)?;
        let of_this_run = if finetuned { of_this_finetuning } else { of_this_run };
        let recipe = origin.recipe.is_some().then(|| of_this_run(folder, &path, &origin)).transpose()?;
        let name = std::path::absolute(folder)?;
        let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let facts = &report["run"];
        let word = |key: &str| facts[key].as_str().map(str::to_owned);
        let about = match (word("method"), word("encoder")) {
            (Some(method), Some(encoder)) => {
                let whose = if origin.weights == Whose::Teacher { ", the teacher's weights" } else { "" };
                format!(
                    "{method}, {encoder}, {} parameters, step {}{whose}",
                    facts["parameters"], facts["step"]
                )
            }
            _ if finetuned => {
                let (method, labels) = (report["method"].as_str().unwrap_or_default(), &report["labels"]);
                format!("{method}, {labels} labels, step {}", report["steps"])
            }
            _ => name.clone(),
        };
        Ok(Judged { name, about, recipe, origin, answers })
    }
}

/// The method of the run in a folder, when report.json is of its last checkpoint and of its config.toml.
fn of_this_run(folder: &Path, path: &Path, origin: &Origin) -> Result<Value> {
    let recipe = recipe_of(folder)?;
    let step = last_step(folder)?.or(origin.step);
    let parts = [origin.train.clone(), origin.test.clone()];
    // A config.toml does not say whose weights were judged.
    let run = Origin { step, weights: origin.weights, ..Origin::of_run(&recipe, 0, parts)? };
    origin.check_same(path, &run, "the run's last checkpoint and config.toml", folder)?;
    origin::method(&recipe)
}

/// The same of a run of fine-tuning.
fn of_this_finetuning(folder: &Path, path: &Path, origin: &Origin) -> Result<Value> {
    let recipe = FinetuneRecipe::of_run(folder)?;
    let method = recipe.method_beside_others()?;
    let run = Origin {
        step: last_step(folder)?.or(origin.step),
        recipe: Some(digest::of_value(&method)),
        seed: Some(recipe.train.seed),
        draw: recipe.draw(),
        ..origin.clone()
    };
    origin.check_same(path, &run, "the run's last checkpoint and config.toml", folder)?;
    Ok(method)
}

/// The optimizer steps of a run's last checkpoint; none of one that was put away without its weights, of which the report is all there is.
fn last_step(folder: &Path) -> Result<Option<u64>> {
    let last = Checkpoints::new(folder).find(Pointer::Last)?;
    Ok(last.map(|last| verify(&last)).transpose()?.map(|state| state.step))
}

/// What each run's method is called: runs of one name differ in their seed alone.
///
/// # Errors
/// When two runs of a method have the same seed: they are one training, and say nothing of others.
pub fn methods(runs: &[Judged], names: &[String]) -> Result<Vec<String>> {
    let same = |a: &Judged, b: &Judged| {
        let (a, b) = (&a.origin, &b.origin);
        a.recipe.is_some() && a.recipe == b.recipe && a.step == b.step && a.weights == b.weights
    };
    for (i, run) in runs.iter().enumerate() {
        let repeated = |other: &Judged| {
            let (a, b) = (&other.origin, &run.origin);
            same(other, run) && a.seed == b.seed && a.draw == b.draw
        };
        if let Some(j) = (0..i).find(|&j| repeated(&runs[j])) {
            let (seed, first) = (run.origin.seed.unwrap_or_default(), &names[j]);
            bail!(
                "{}: is the same recipe at the same step with the same train.seed = {seed} as {first}; name each training once, and \
                 train with other seeds for a mean over them",
                names[i]
            );
        }
    }
    let name = |i: usize| {
        let run = &runs[i];
        let Some(recipe) = &run.recipe else { return names[i].clone() };
        // What tells it from the other methods that a reader would call the same.
        let alike = runs.iter().filter(|other| other.about == run.about);
        let others: Vec<&Value> = alike.filter_map(|other| other.recipe.as_ref()).collect();
        let pointer = |path: &str| format!("/{}", path.replace('.', "/"));
        let mut paths: Vec<String> =
            others.iter().flat_map(|other| origin::fields(other)).map(|(path, _)| path).collect();
        paths.sort();
        paths.dedup();
        paths.retain(|path| {
            let own = recipe.pointer(&pointer(path));
            others.iter().any(|other| other.pointer(&pointer(path)) != own)
        });
        let shown = paths.iter().map(|path| {
            let value = recipe.pointer(&pointer(path)).map_or_else(|| "unset".to_owned(), Value::to_string);
            format!(", {path} = {value}")
        });
        format!("{}{}", run.about, shown.collect::<String>())
    };
    Ok((0..runs.len()).map(name).collect())
}

/// The runs' names, with a number where two are called alike.
pub fn distinct(runs: &[Judged]) -> Vec<String> {
    let count = |name: &str| runs.iter().filter(|run| run.name == name).count();
    let name = |(i, run): (usize, &Judged)| {
        if count(&run.name) > 1 { format!("{} ({})", run.name, i + 1) } else { run.name.clone() }
    };
    runs.iter().enumerate().map(name).collect()
}
