//! `selfsup report`: from the files of a run to the page that shows it.

use crate::evaluate::{Last, RunFacts, last_checkpoint};
use crate::full;
use crate::insight::method::OfMethod;
use crate::insight::{self, Insight};
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::{Recipe, Whose};
use crate::report::robustness;
use crate::report::{self, Cell, Column, Confusion, Curve, Perplexity, ReportData, Row, Scores};
use crate::{warnings, watch};
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::{Device, Score};
use selfsup::eval::Measurement;
use selfsup::train::loggers::{Metrics, read_metrics};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What the command is told.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run's folder.
    #[arg(required = true)]
    run: Option<PathBuf>,
    #[command(flatten)]
    machine: crate::Machine,
    #[command(subcommand)]
    other: Option<Other>,
}

/// Reports on something else than a run.
#[derive(Debug, clap::Subcommand)]
enum Other {
    /// Measure accuracy against the number of labels, and say how many labels a run saves.
    Annotation(crate::annotation::Arguments),
}

/// Runs the command.
///
/// # Errors
/// Those of the report that is asked for.
pub fn run(arguments: &Arguments) -> Result<ExitCode> {
    match (&arguments.other, &arguments.run) {
        (Some(Other::Annotation(arguments)), _) => crate::annotation::run(arguments),
        (None, Some(run)) => of_run(run, arguments.machine.choose()?).map(|()| ExitCode::SUCCESS),
        (None, None) => bail!("name a run's folder"),
    }
}

/// Writes report.html and plots/ into the run's folder and prints the page's path.
///
/// # Errors
/// As [`of`].
pub fn of_run(run: &Path, device: Device) -> Result<()> {
    let command = format!("selfsup pretrain {} --run NEW_FOLDER", run.join("config.toml").display());
    of(run, run, command, device)
}

/// Writes report.html and plots/ into the folder `place`, where report.json of the run lies and the recipe that it was judged by, and prints
/// the page's path; `command` makes it again.
///
/// # Errors
/// When the folder holds no run, no checkpoint or no evaluation, or the data cannot be read.
pub fn of(run: &Path, place: &Path, command: String, device: Device) -> Result<()> {
    let mut recipe = recipe_of(place)?;
    let Last { weights, step } = last_checkpoint(run)?;
    let report = read_report(place)?;
    let found = Found::of(&report, place)?;
    // The page shows the encoder that was judged.
    recipe.weights = recipe.weights.of(found.run.weights, &weights)?;
    ensure!(
        found.run.step == step,
        "{} is of step {}, but the last checkpoint is of step {step}: run selfsup eval {}",
        place.join("report.json").display(),
        found.run.step,
        run.display()
    );
    let metrics = read_metrics(run)?;
    let mut warnings = warnings::of(&report);
    warnings.extend(watch::first_standstill(&metrics, recipe.train.epochs));
    let Insight { views, method, maps, neighbours, saliency, clusters, inversion } =
        match recipe.objective.modality() {
            Modality::Images => insight::of_images(&recipe, &weights, &found.insight, device)?,
            Modality::Text => insight::of_text(&recipe, run, &weights, device)?,
        };
    let OfMethod { made, made_by_parts, task, prototypes, attention } = method;
    let robustness = robustness::shown(&found.suite, || crate::robustness::examples(&recipe))?;
    let method = recipe.objective.method();
    let data = ReportData {
        kind: String::new(),
        title: place.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        method: method.name.to_owned(),
        paper: method.paper.to_owned(),
        facts: facts(&recipe, &found, &environment(run)?),
        command,
        warnings,
        scores: found.scores(),
        suite_title: full::TITLE,
        suite: full::sections(&found.suite, &["trained", "untrained", "pixels", "bag-of-words"]),
        robustness,
        views,
        made,
        task,
        prototypes,
        attention,
        saliency,
        clusters,
        inversion,
        curves: curves(&metrics, found.run.model.dim),
        maps,
        neighbours,
        confusion: found.confusion(),
        perplexity: found.perplexity.map(|p| Perplexity { model: p.model, unigram: p.unigram }),
        galleries: made_by_parts,
        layers: Vec::new(),
    };
    println!("{}", report::write(&data, place)?.display());
    Ok(())
}

/// What of report.json the page shows.
#[derive(Deserialize)]
struct Found {
    run: RunFacts,
    scores: BTreeMap<String, BTreeMap<String, Score>>,
    linear_probe: BTreeMap<String, Option<ProbeFound>>,
    data: DataFound,
    #[serde(flatten)]
    insight: insight::Found,
    #[serde(default)]
    perplexity: Option<PerplexityFound>,
    #[serde(default)]
    suite: full::Found,
    /// How sure the numbers are, by their places.
    #[serde(default)]
    measurements: BTreeMap<String, Measurement>,
}

#[derive(Clone, Copy, Deserialize)]
struct PerplexityFound {
    model: f64,
    unigram: f64,
}

#[derive(Deserialize)]
struct ProbeFound {
    confusion: selfsup::eval::Confusion,
}

#[derive(Deserialize)]
struct DataFound {
    name: String,
    train: usize,
    test: usize,
    classes: Vec<String>,
    split: String,
}

impl Found {
    fn of(report: &Value, run: &Path) -> Result<Self> {
        Found::deserialize(report).with_context(|| broken(run))
    }

    /// The trained encoder first; none without labels.
    fn scores(&self) -> Option<Scores> {
        let trained = self.scores.get("trained").filter(|scores| !scores.is_empty())?;
        let known = [("linear", "linear probe"), ("few", "few-label probe"), ("knn", "nearest neighbours")];
        let mut columns: Vec<(&str, Column)> = Vec::new();
        for (prefix, name) in known {
            for key in trained.keys().filter(|key| key.starts_with(prefix)) {
                let explanation = self.insight.method.definitions.get(key).cloned().unwrap_or_default();
                columns.push((key, Column { name: name.to_owned(), explanation }));
            }
        }
        let rows = ["trained", "untrained", "pixels", "bag-of-words"].into_iter().filter_map(|encoder| {
            let scores = self.scores.get(encoder)?;
            let cell = |key: &str| {
                let interval = self.measurements.get(&format!("/scores/{encoder}/{key}"));
                Some(Cell::of(scores.get(key)?, interval.and_then(|found| found.interval)))
            };
            let cells = columns.iter().map(|(key, _)| cell(key)).collect();
            Some(Row { name: encoder.to_owned(), cells })
        });
        Some(Scores {
            rows: rows.collect(),
            columns: columns.into_iter().map(|(_, column)| column).collect(),
        })
    }

    fn confusion(&self) -> Option<Confusion> {
        let probe = self.linear_probe.get("trained")?.as_ref()?;
        let (counts, classes) = (probe.confusion.counts.clone(), self.data.classes.clone());
        Some(Confusion { by: "the linear probe".to_owned(), counts, classes })
    }
}

fn broken(run: &Path) -> String {
    let path = run.join("report.json");
    format!("{} is missing or broken: run selfsup eval {}", path.display(), run.display())
}

fn read_report(run: &Path) -> Result<Value> {
    let text = std::fs::read_to_string(run.join("report.json")).with_context(|| broken(run))?;
    serde_json::from_str(&text).with_context(|| broken(run))
}

fn environment(run: &Path) -> Result<BTreeMap<String, Value>> {
    let path = run.join("env.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// What the head of the page tells.
fn facts(recipe: &Recipe, found: &Found, environment: &BTreeMap<String, Value>) -> Vec<(String, String)> {
    let DataFound { name, train, test, split, .. } = &found.data;
    let of = |key: &str| match environment.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "unknown".to_owned(),
    };
    let RunFacts { step, encoder, model, seed, training_seconds, samples_per_second, .. } = &found.run;
    let mut facts = vec![
        ("Data", format!("{name}: {train} training and {test} test samples; {split}")),
        ("Encoder", format!("{encoder}, {} features, {} parameters", model.dim, model.parameters)),
        (
            "Training",
            format!(
                "{} epochs of {} samples a batch, {step} steps",
                recipe.train.epochs,
                recipe.train.batch_size as u64 * recipe.train.accumulate
            ),
        ),
        ("Time", format!("{training_seconds:.0} s in all, with what is measured and stored on the way")),
        ("Seed", seed.to_string()),
        (
            "Machine",
            format!(
                "{}, {}, {} threads on {} cores, libtorch {}",
                of("device").to_lowercase(),
                of("system"),
                of("threads"),
                of("cores"),
                of("libtorch")
            ),
        ),
    ];
    if let Some(rate) = samples_per_second.filter(|_| *training_seconds > 0.0) {
        let samples = step * recipe.train.batch_size as u64 * recipe.train.accumulate;
        let whole = samples as f64 / training_seconds;
        let said = format!("{whole:.0} samples/s over that time; the mean of the logged rates is {rate:.0}");
        facts.insert(4, ("Rate", said));
    }
    if found.run.weights == Whose::Teacher {
        facts.insert(2, ("Weights", "the teacher's".to_owned()));
    }
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What was measured in every logged step.
fn curves(metrics: &[Metrics], dim: usize) -> Vec<Curve> {
    let of = |name: &str| -> Vec<[f64; 2]> {
        let point = |m: &Metrics| Some([m.step as f64, m.values.get(name)?.as_f64().unwrap_or(f64::NAN)]);
        metrics.iter().filter_map(point).collect()
    };
    let rate = metrics.iter().map(|m| [m.step as f64, m.lr]).collect();
    let mut curves = vec![Curve::loss(of("loss")), Curve::learning_rate(rate)];
    curves.push(Curve::feature_std(of("feature_std"), dim));
    curves.push(Curve::rank_me(of("rank_me")));
    curves.retain(|curve| !curve.points.is_empty());
    curves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(step: u64, seconds: f64) -> Metrics {
        let values = serde_json::Map::from_iter([("loss".to_owned(), Value::from(1.5))]);
        Metrics { step, epoch: 0.0, lr: 0.1, samples_per_second: 0.0, seconds, values }
    }

    #[test]
    fn every_column_has_the_explanation_of_its_own_probe() {
        let scores = serde_json::json!({"linear": {"mean": 0.9, "std": 0.0, "n": 1}, "few7": {"mean": 0.5, "std": 0.1, "n": 20}});
        let found: Found = serde_json::from_value(serde_json::json!({
            "run": {"step": 3, "method": "simclr", "encoder": "convnet", "dim": 2, "parameters": 1,
                "objective_parameters": 1, "seed": 0, "training_seconds": 1.0, "samples_per_second": null},
            "scores": {"trained": scores}, "linear_probe": {},
            "data": {"name": "x", "train": 14, "test": 2, "classes": ["a", "b"], "split": "own"},
            "definitions": {"linear": "all labels", "few7": "7 labels a class"},
        }))
        .unwrap();
        let explained: Vec<_> = found.scores().unwrap().columns.into_iter().map(|c| c.explanation).collect();
        assert_eq!(explained, ["all labels", "7 labels a class"]);
    }

    #[test]
    fn shows_only_what_was_measured() {
        let names: Vec<_> = curves(&[logged(1, 0.0)], 4).into_iter().map(|curve| curve.name).collect();
        assert_eq!(names, ["Loss", "Learning rate"]);
    }
}
