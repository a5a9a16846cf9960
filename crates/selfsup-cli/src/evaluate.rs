//! `selfsup eval`: what a run's encoder is worth, beside the same encoder untrained and the raw input.

use crate::features;
use crate::images::{self, Images};
use crate::judge::{Bars, Labels, Seen, Verdict, check, few_labels, judge, scores_json, table};
use crate::model::{ImageModel, TextModel};
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::{EvalConfig, Recipe};
use crate::text::{self, Texts};
use anyhow::{Context, Result, bail};
use selfsup::core::state::write_whole;
use selfsup::core::{Batches, Dataset, Device, ImageViews, Key, TensorExt, tch};
use selfsup::data::augment::PlainView;
use selfsup::train::checkpoint::{Checkpoints, Pointer, verify};
use selfsup::train::loggers::{Metrics, read_metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The names of the three that are compared, as report.json and the table have them.
pub const TRAINED: &str = "trained";
const UNTRAINED: &str = "untrained";

/// What the trained encoder is judged beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rivals {
    /// The same encoder untrained, and the raw input.
    All,
    /// Nothing.
    None,
}

/// Runs the command: writes report.json and prints it or its table.
///
/// # Errors
/// When the folder holds no run or no checkpoint, or the data cannot be read.
pub fn run(run: &Path, rivals: Rivals, print_json: bool, device: Device) -> Result<()> {
    let recipe = recipe_of(run)?;
    check(&recipe)?;
    let Last { weights, step } = last_checkpoint(run)?;
    let metrics = read_metrics(run)?;
    let started = Instant::now();
    let mut judged = match recipe.objective.modality() {
        Modality::Images => on_images(&recipe, &weights, rivals, device)?,
        Modality::Text => on_text(&recipe, run, &weights, rivals, device)?,
    };
    judged.report.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
    let facts = RunFacts::new(&recipe, step, judged.model, &metrics);
    judged.report.insert("run".to_owned(), json!(facts));
    let report = Value::Object(std::mem::take(&mut judged.report));
    let text = serde_json::to_string_pretty(&report)?;
    write_whole(&run.join("report.json"), text.as_bytes())?;
    if print_json {
        println!("{text}");
    } else {
        let verdicts: Vec<_> =
            judged.verdicts.iter().map(|(name, verdict)| (name.as_str(), verdict)).collect();
        println!("{}", table(&verdicts));
        if let Some(perplexity) = report.get("perplexity") {
            println!(
                "held-out masked perplexity {:.1}, unigram {:.1}",
                perplexity["model"].as_f64().unwrap_or(f64::NAN),
                perplexity["unigram"].as_f64().unwrap_or(f64::NAN)
            );
        }
        if let Some(task) = report.get("task").and_then(Value::as_object) {
            let number =
                |(name, x): (&String, &Value)| format!("{name} {:.4}", x.as_f64().unwrap_or(f64::NAN));
            println!("on the test images: {}", task.iter().map(number).collect::<Vec<_>>().join(", "));
        }
        eprintln!(
            "{} written in {:.0} s",
            run.join("report.json").display(),
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// A run's last checkpoint.
#[derive(Debug)]
pub struct Last {
    /// Its weights.
    pub weights: PathBuf,
    /// The optimizer steps that made them.
    pub step: u64,
}

/// The last checkpoint, found whole.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn last_checkpoint(run: &Path) -> Result<Last> {
    let Some(folder) = Checkpoints::new(run).find(Pointer::Last)? else {
        bail!("{}: the run has no checkpoint yet", run.display());
    };
    let step = verify(&folder)?.step;
    Ok(Last { weights: folder.join("model.safetensors"), step })
}

/// What report.json tells of the run under `run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The optimizer steps of the checkpoint that is judged.
    pub step: u64,
    /// The objective's `kind`.
    pub method: String,
    /// The encoder's `kind`.
    pub encoder: String,
    /// How large the networks are.
    #[serde(flatten)]
    pub model: ModelFacts,
    /// What every random draw depended on.
    pub seed: u64,
    /// How long it was trained.
    pub training_seconds: f64,
    /// How fast; none where nothing was timed.
    pub samples_per_second: Option<f64>,
}

/// The sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelFacts {
    /// The encoder's features.
    pub dim: usize,
    /// The encoder's trainable numbers.
    pub parameters: usize,
    /// The objective's trainable numbers.
    pub objective_parameters: usize,
}

impl ModelFacts {
    fn new(dim: i64, (parameters, objective_parameters): (usize, usize)) -> Self {
        ModelFacts { dim: dim as usize, parameters, objective_parameters }
    }
}

impl RunFacts {
    fn new(recipe: &Recipe, step: u64, model: ModelFacts, metrics: &[Metrics]) -> Self {
        // What was logged after the checkpoint is lost with it.
        let metrics: Vec<_> = metrics.iter().filter(|m| m.step <= step).collect();
        let rates: Vec<f64> =
            metrics.iter().map(|m| m.samples_per_second).filter(|rate| *rate > 0.0).collect();
        RunFacts {
            step,
            method: recipe.objective.method().kind.to_owned(),
            encoder: recipe.encoder.name().to_owned(),
            model,
            seed: recipe.train.seed,
            training_seconds: training_seconds(&metrics),
            samples_per_second: (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64),
        }
    }
}

/// The clock begins anew whenever a run is resumed.
fn training_seconds(metrics: &[&Metrics]) -> f64 {
    let (total, last) = metrics.iter().fold((0.0, 0.0), |(total, last), m| {
        if m.seconds < last { (total + last, m.seconds) } else { (total, m.seconds) }
    });
    total + last
}

/// What the probes found, in order, and report.json.
struct Judged {
    verdicts: Vec<(String, Verdict)>,
    report: Map<String, Value>,
    model: ModelFacts,
}

fn on_images(recipe: &Recipe, weights: &Path, rivals: Rivals, device: Device) -> Result<Judged> {
    let images = Images::open(&recipe.data)?;
    let labels = Labels::new(images.classes(), images.train.labels(), images.test.labels());
    let plain = |set| -> Result<_> {
        let view = images::plain_view(recipe, images.train.channels())?;
        images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)
    };
    let (train, test) = (plain(&images.train)?, plain(&images.test)?);
    let seed = recipe.train.seed;
    let pairs = |kind| images::pairs(&images.test, kind, recipe.eval.batch_size, recipe.train.loader_threads);
    let views = pairs(recipe.pair())?;
    let model = ImageModel::on_images(recipe, device)?;
    let encode = || -> Result<Seen> {
        let encoder = model.encoder.as_ref();
        Ok(Seen {
            train: features::of_images(encoder, &train, device)?,
            test: features::of_images(encoder, &test, device)?,
            views: Some(features::of_pairs(encoder, &views, device)?),
        })
    };
    let mut judging = Judging { recipe, labels: labels.as_ref(), rivals, verdicts: Vec::new() };
    judging.judge(UNTRAINED, encode)?;
    model.load(weights)?;
    judging.judge(TRAINED, encode)?;
    let task = task(&model, &test, seed, device).context("the pretext task on the test images")?;
    judging.judge("pixels", || {
        let raw = |set| -> Result<_> {
            let view = PlainView::new(recipe.raw_view(), images.train.channels())?;
            let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
            features::of_pixels(&batches)
        };
        let views = Some(features::of_pixel_pairs(&pairs(recipe.raw_pair())?)?);
        Ok(Seen { train: raw(&images.train)?, test: raw(&images.test)?, views })
    })?;
    let data = json!({
        "name": images.name, "train": images.train.len(), "test": images.test.len(), "classes": images.classes(),
        "split": if images.held_out { "the test part was set aside here, by a fixed key" } else { "the set's own" },
    });
    let mut judged = judging.finish(data, ModelFacts::new(model.encoder.dim(), model.parameters()));
    if !task.is_empty() {
        judged.report.insert("task".to_owned(), Value::Object(task));
    }
    Ok(judged)
}

/// How well the objective's own task is solved on images that were not learned from; nothing for a method without such
/// a number.
fn task(
    model: &ImageModel,
    test: &dyn Batches<Batch = ImageViews>,
    seed: u64,
    device: Device,
) -> Result<Map<String, Value>> {
    Key::new(seed).with(TASK_DRAWS).seed_torch();
    let (mut sums, mut samples) = (Vec::<(String, f64)>::new(), 0.0);
    for batch in test.epoch(0, 0)? {
        let batch = batch?.to_device(device);
        let numbers = tch::no_grad(|| model.objective.judge(model.encoder.as_ref(), &batch))?;
        if numbers.is_empty() {
            break;
        }
        let n = batch.indices.size()[0] as f64;
        samples += n;
        for (name, x) in numbers {
            let value = x.scalar()? * n;
            match sums.iter_mut().find(|(known, _)| *known == name) {
                Some((_, sum)) => *sum += value,
                None => sums.push((name.into_owned(), value)),
            }
        }
    }
    Ok(sums.into_iter().map(|(name, sum)| (name, json!(sum / samples))).collect())
}

/// Tells the draws of the pretext task in evaluation from other draws of the same seed.
const TASK_DRAWS: u64 = 0x7461_736b;

fn on_text(recipe: &Recipe, run: &Path, weights: &Path, rivals: Rivals, device: Device) -> Result<Judged> {
    let settings = recipe.text.clone().unwrap_or_default();
    let texts = Texts::open(&recipe.data, &settings, Some(&run.join("tokenizer.json")))?;
    let labels = Labels::new(texts.train.classes.clone(), texts.train.labels(), texts.test.labels());
    let (train, test) = (&texts.train_sequences, &texts.test_sequences);
    let (train_batches, test_batches) =
        (text::plain(train, recipe.eval.batch_size)?, text::plain(test, recipe.eval.batch_size)?);
    let (train_count, test_count) = (texts.train.documents.len(), texts.test.documents.len());
    let model = TextModel::on_text(recipe, &texts.tokenizer, device)?;
    let encode = || -> Result<Seen> {
        let encoder = model.encoder.as_ref();
        Ok(Seen {
            train: features::of_documents(encoder, &train_batches, train.documents(), train_count, device)?,
            test: features::of_documents(encoder, &test_batches, test.documents(), test_count, device)?,
            views: None,
        })
    };
    let mut judging = Judging { recipe, labels: labels.as_ref(), rivals, verdicts: Vec::new() };
    judging.judge(UNTRAINED, encode)?;
    model.load(weights)?;
    judging.judge(TRAINED, encode)?;
    let vocabulary = texts.tokenizer.vocab_size() as i64;
    judging.judge("bag-of-words", || {
        Ok(Seen {
            train: features::bag_of_words(&train_batches, train.documents(), train_count, vocabulary)?,
            test: features::bag_of_words(&test_batches, test.documents(), test_count, vocabulary)?,
            views: None,
        })
    })?;
    let data = json!({
        "name": texts.name, "train": train_count, "test": test_count, "classes": texts.train.classes,
        "sequences": [train.len(), test.len()], "tokens": vocabulary,
        "split": "whole documents were set aside here, by a fixed key",
    });
    let mut judged = judging.finish(data, ModelFacts::new(model.encoder.dim(), model.parameters()));
    let perplexity = text::perplexity(recipe, &texts, weights, device)?;
    judged.report.insert("perplexity".to_owned(), perplexity);
    Ok(judged)
}

/// Runs the probes on one encoder after the other.
struct Judging<'a> {
    recipe: &'a Recipe,
    labels: Option<&'a Labels>,
    rivals: Rivals,
    verdicts: Vec<(String, Verdict)>,
}

impl Judging<'_> {
    fn judge(&mut self, name: &str, encode: impl Fn() -> Result<Seen>) -> Result<()> {
        if name != TRAINED && self.rivals == Rivals::None {
            return Ok(());
        }
        eprintln!("{name}: encoding");
        let seen = encode().with_context(|| format!("features of {name}"))?;
        let mut bars = Bars::new(name);
        let verdict = judge(&seen, self.labels, &self.recipe.eval, &mut |stage| bars.show(stage))?;
        self.verdicts.push((name.to_owned(), verdict));
        Ok(())
    }

    /// The trained encoder first, then what it is compared with.
    fn finish(mut self, data: Value, model: ModelFacts) -> Judged {
        self.verdicts.sort_by_key(|(name, _)| name != TRAINED);
        let by_name = |of: &dyn Fn(&Verdict) -> Value| -> Value {
            Value::Object(self.verdicts.iter().map(|(name, verdict)| (name.clone(), of(verdict))).collect())
        };
        let mut report = Map::new();
        report.insert("scores".to_owned(), by_name(&|verdict| scores_json(&verdict.scores)));
        report.insert("health".to_owned(), by_name(&|verdict| json!(verdict.health)));
        report.insert("linear_probe".to_owned(), by_name(&|verdict| json!(verdict.linear)));
        report.insert("data".to_owned(), data);
        report.insert("seed".to_owned(), json!(self.recipe.train.seed));
        let mut definitions = definitions(&self.recipe.eval, self.labels);
        for (name, text) in OF_A_RUN {
            definitions[name] = json!(text);
        }
        report.insert("definitions".to_owned(), definitions);
        Judged { verdicts: self.verdicts, report, model }
    }
}

/// What the numbers are that only a run has.
const OF_A_RUN: [(&str, &str); 3] = [
    (
        "alignment",
        "mean squared distance of the features, at unit length, of two training views of a test image, the lower the nearer (Wang and Isola 2020)",
    ),
    ("checkpoint", "the last one, after run.step optimizer steps"),
    (
        "task",
        "how well the trained networks solve the pretext task itself on the test images; pretext_chance is what guessing reaches",
    ),
];

/// What each number of health and probes is, under the key of the number.
pub fn definitions(eval: &EvalConfig, labels: Option<&Labels>) -> Value {
    let mut all = json!({
        "std": "standard deviation of the test features at unit length, averaged over the features; 1/sqrt(D) when spread evenly",
        "rank_me": "exponential of the entropy of the singular values of the test features (Garrido et al. 2023)",
        "uniformity": "logarithm of the mean Gaussian potential of all pairs of test features at unit length, the lower the more even (Wang and Isola 2020)",
    });
    let Some(labels) = labels else { return all };
    all["linear"] = json!(
        "accuracy on the test split of a logistic regression on frozen, standardised features; its regularisation is chosen on a held-out part of the training split"
    );
    all["knn"] = json!(format!(
        "accuracy of the weighted vote of the {} nearest training samples by cosine similarity, temperature {}",
        eval.knn.k.min(labels.train.size()[0]),
        eval.knn.temperature
    ));
    let (asked, few) = (eval.few_label.labels_per_class, few_labels(&eval.few_label, labels.smallest));
    let cut = if few.labels_per_class < asked {
        format!(" ({asked} were asked for; the smallest class of the training split has no more)")
    } else {
        String::new()
    };
    all[few.name()] = json!(format!(
        "the same with {} labels a class{cut}, mean and standard deviation over {} draws of the labelled samples",
        few.labels_per_class, few.draws
    ));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(step: u64, seconds: f64, samples_per_second: f64) -> Metrics {
        Metrics { step, epoch: 0.0, lr: 0.1, samples_per_second, seconds, values: Map::new() }
    }

    #[test]
    fn counts_the_time_of_every_part_of_a_resumed_run_up_to_the_checkpoint() {
        let text = "encoder = { kind = \"convnet\" }\nobjective = { kind = \"simclr\" }";
        let recipe = Recipe::parse(text, &[]).unwrap();
        let metrics = [
            logged(1, 2.0, 0.0),
            logged(2, 4.0, 10.0),
            logged(3, 1.0, 20.0),
            logged(4, 3.0, 30.0),
            logged(5, 9.0, 99.0),
        ];
        let facts = RunFacts::new(&recipe, 4, ModelFacts::new(3, (2, 1)), &metrics);
        assert!((facts.training_seconds - 7.0).abs() < 1e-12);
        assert_eq!((facts.samples_per_second, facts.step), (Some(20.0), 4));
        assert_eq!((facts.method.as_str(), facts.encoder.as_str()), ("simclr", "convnet"));
        assert_eq!(RunFacts::new(&recipe, 0, ModelFacts::new(3, (2, 1)), &metrics).samples_per_second, None);
    }

    #[test]
    fn defines_the_few_label_probe_that_was_run() {
        let labels = |n: i64| {
            let train = (0..2 * n).map(|i| i % 2).collect();
            Labels::new(vec!["a".into(), "b".into()], Some(train), Some(vec![0]))
        };
        let cut = definitions(&EvalConfig::default(), labels(7).as_ref());
        assert!(cut.get("few10").is_none());
        let text = cut["few7"].as_str().unwrap();
        assert!(
            text.starts_with("the same with 7 labels a class (10 were asked for; the smallest class"),
            "{text}"
        );
        let whole = definitions(&EvalConfig::default(), labels(20).as_ref());
        assert!(whole["few10"].as_str().unwrap().starts_with("the same with 10 labels a class, mean"));
        assert!(definitions(&EvalConfig::default(), None).get("linear").is_none());
    }
}
