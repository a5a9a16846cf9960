//! `selfsup report`: from the files of a run to the page that shows it.

use crate::evaluate::last_checkpoint;
use crate::insight::{self, Insight};
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::Recipe;
use crate::report::{self, Cell, Column, Confusion, Curve, Perplexity, ReportData, Row, Scores};
use anyhow::{Context, Result};
use selfsup::core::{Device, Score};
use selfsup::train::loggers::{Metrics, read_metrics};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Runs the command: writes report.html and plots/ into the run's folder and prints the page's path.
///
/// # Errors
/// When the folder holds no run, no checkpoint or no evaluation, or the data cannot be read.
pub fn run(run: &Path, device: Device) -> Result<()> {
    let recipe = recipe_of(run)?;
    let weights = last_checkpoint(run)?;
    let found = Found::read(run)?;
    let metrics = read_metrics(run)?;
    let Insight { dim, parameters, views, maps, neighbours } = match recipe.objective.modality() {
        Modality::Images => insight::of_images(&recipe, &weights, device)?,
        Modality::Text => insight::of_text(&recipe, run, &weights, device)?,
    };
    let method = recipe.objective.method();
    let data = ReportData {
        title: run.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        method: method.name.to_owned(),
        paper: method.paper.to_owned(),
        facts: facts(&recipe, &found, &metrics, [dim, parameters], &environment(run)?),
        command: format!("selfsup pretrain {} --run NEW_FOLDER", run.join("config.toml").display()),
        scores: found.scores(),
        views,
        curves: curves(&metrics, dim),
        maps,
        neighbours,
        confusion: found.confusion(),
        perplexity: found.perplexity.map(|p| Perplexity { model: p.model, unigram: p.unigram }),
    };
    println!("{}", report::write(&data, run)?.display());
    Ok(())
}

/// What of report.json the page shows.
#[derive(Deserialize)]
struct Found {
    scores: BTreeMap<String, BTreeMap<String, Score>>,
    linear_probe: BTreeMap<String, Option<ProbeFound>>,
    data: DataFound,
    definitions: BTreeMap<String, String>,
    #[serde(default)]
    perplexity: Option<PerplexityFound>,
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
    fn read(run: &Path) -> Result<Self> {
        let path = run.join("report.json");
        let hint = || format!("{} is missing or broken: run selfsup eval {}", path.display(), run.display());
        let text = std::fs::read_to_string(&path).with_context(hint)?;
        serde_json::from_str(&text).with_context(hint)
    }

    /// The trained encoder first; none without labels.
    fn scores(&self) -> Option<Scores> {
        let trained = self.scores.get("trained").filter(|scores| !scores.is_empty())?;
        let known = [("linear", "linear probe"), ("few", "few-label probe"), ("knn", "nearest neighbours")];
        let mut columns: Vec<(&str, Column)> = Vec::new();
        for (prefix, name) in known {
            for key in trained.keys().filter(|key| key.starts_with(prefix)) {
                let explanation = self.definitions.get(key).cloned().unwrap_or_default();
                columns.push((key, Column { name: name.to_owned(), explanation }));
            }
        }
        let cell = |score: &Score| Cell { mean: score.mean, std: score.std, n: score.n };
        let rows = ["trained", "untrained", "pixels", "bag-of-words"].into_iter().filter_map(|encoder| {
            let scores = self.scores.get(encoder)?;
            let cells = columns.iter().map(|(key, _)| scores.get(*key).map(cell)).collect();
            Some(Row { name: encoder.to_owned(), cells })
        });
        Some(Scores {
            rows: rows.collect(),
            columns: columns.into_iter().map(|(_, column)| column).collect(),
        })
    }

    fn confusion(&self) -> Option<Confusion> {
        let probe = self.linear_probe.get("trained")?.as_ref()?;
        Some(Confusion { counts: probe.confusion.counts.clone(), classes: self.data.classes.clone() })
    }
}

fn environment(run: &Path) -> Result<BTreeMap<String, Value>> {
    let path = run.join("env.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// What the head of the page tells.
fn facts(
    recipe: &Recipe,
    found: &Found,
    metrics: &[Metrics],
    [dim, parameters]: [usize; 2],
    environment: &BTreeMap<String, Value>,
) -> Vec<(String, String)> {
    let DataFound { name, train, test, split, .. } = &found.data;
    let of = |key: &str| match environment.get(key) {
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
        None => "unknown".to_owned(),
    };
    let steps = metrics.last().map_or(0, |last| last.step);
    let rates = metrics.iter().map(|m| m.samples_per_second).filter(|rate| *rate > 0.0);
    let (sum, count) = rates.fold((0.0, 0.0), |(sum, count), rate| (sum + rate, count + 1.0));
    let mut facts = vec![
        ("Data", format!("{name}: {train} training and {test} test samples; {split}")),
        ("Encoder", format!("{}, {dim} features, {parameters} parameters", recipe.encoder.name())),
        (
            "Training",
            format!(
                "{} epochs of {} samples a batch, {steps} steps",
                recipe.train.epochs,
                recipe.train.batch_size as u64 * recipe.train.accumulate
            ),
        ),
        ("Time", format!("{:.0} s", training_seconds(metrics))),
        ("Seed", recipe.train.seed.to_string()),
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
    if count > 0.0 {
        facts.insert(4, ("Rate", format!("{:.0} samples/s", sum / count)));
    }
    facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The clock begins anew whenever a run is resumed.
fn training_seconds(metrics: &[Metrics]) -> f64 {
    let (total, last) = metrics.iter().fold((0.0, 0.0), |(total, last), m| {
        if m.seconds < last { (total + last, m.seconds) } else { (total, m.seconds) }
    });
    total + last
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
    fn counts_the_time_of_every_part_of_a_resumed_run() {
        let metrics = [logged(1, 2.0), logged(2, 4.0), logged(3, 1.0), logged(4, 3.0)];
        assert!((training_seconds(&metrics) - 7.0).abs() < 1e-12);
    }

    #[test]
    fn shows_only_what_was_measured() {
        let names: Vec<_> = curves(&[logged(1, 0.0)], 4).into_iter().map(|curve| curve.name).collect();
        assert_eq!(names, ["Loss", "Learning rate"]);
    }
}
