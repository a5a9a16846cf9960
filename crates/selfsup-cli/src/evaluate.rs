//! `selfsup eval`: what a run's encoder is worth, beside the same encoder untrained and the raw input.

use crate::asked::Asked;
use crate::attention;
use crate::attentive;
use crate::definitions;
use crate::digest;
use crate::features;
use crate::full::{self, Answers, SuiteChoice};
use crate::images::{self, Images};
use crate::insight::{members, saliency};
use crate::judge::{Bars, Labels, Seen, Verdict, check, health_json, judge, scores_json, table};
use crate::layers;
use crate::model::{ImageModel, TextModel};
use crate::objective::Modality;
use crate::origin::{self, Origin, Part};
use crate::recipe::{Recipe, Whose};
use crate::robustness::Robustness;
use crate::sure::{self, Known};
use crate::task::{self, Said};
use crate::text::{self, Texts};
use crate::{warnings, watch};
use anyhow::{Context, Result, bail};
use selfsup::core::state::write_whole;
use selfsup::core::{Dataset, Device};
use selfsup::data::augment::PlainView;
use selfsup::data::text::Corpus;
use selfsup::eval::Stage;
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
/// When the folder holds no run or no checkpoint, or none of a teacher that is asked for, the data cannot be read, or the report has no
/// place; all that before anything is written.
pub fn run(asked: &Asked, device: Device) -> Result<()> {
    let Asked { run, rivals, suite, print_json, .. } = asked;
    let (run, rivals, suite) = (run.as_path(), *rivals, *suite);
    let mut recipe = asked.recipe()?;
    let place = asked.place()?;
    check(&recipe)?;
    let Last { weights, step } = last_checkpoint(run)?;
    recipe.weights = recipe.weights.of(asked.whose, &weights)?;
    let metrics = read_metrics(run)?;
    let started = Instant::now();
    let mut judged = match recipe.objective.modality() {
        Modality::Images => {
            let images = Images::open(&recipe.data)?;
            let changed = if asked.data.is_none() { changed_since(&weights, &images)? } else { None };
            if let Some(note) = changed {
                eprintln!("note: {note}");
            }
            on_images(&recipe, &images, &weights, rivals, suite, device)?
        }
        Modality::Text => on_text(&recipe, run, &weights, rivals, suite, device)?,
    };
    judged.report.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
    let facts = RunFacts::new(&recipe, step, judged.model, &metrics);
    judged.report.insert("run".to_owned(), json!(facts));
    let origin = Origin::of_run(&recipe, step, judged.parts.clone())?;
    judged.report.insert("origin".to_owned(), json!(origin));
    judged.report["definitions"]["measurements"] = json!(sure::DEFINITION);
    let measured = sure::json(&judged.known, &judged.report["definitions"]);
    judged.report.insert("measurements".to_owned(), measured);
    let report = Value::Object(std::mem::take(&mut judged.report));
    let text = serde_json::to_string_pretty(&report)?;
    asked.begin(&recipe)?;
    Answers::remove(place)?;
    write_whole(&place.join("report.json"), text.as_bytes())?;
    let trained = judged.verdicts.iter().find(|(name, _)| name == TRAINED);
    if let (SuiteChoice::Full, Some(answers)) = (suite, trained.and_then(|(_, v)| v.answers.as_ref())) {
        answers.write(place, &origin)?;
    }
    if *print_json {
        println!("{text}");
    } else {
        let verdicts: Vec<_> =
            judged.verdicts.iter().map(|(name, verdict)| (name.as_str(), verdict)).collect();
        println!("{}", table(&verdicts));
        if !judged.full.is_empty() {
            println!("\n{}", full::table(&judged.full));
        }
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
            place.join("report.json").display(),
            started.elapsed().as_secs_f64()
        );
    }
    for warning in
        warnings::of(&report).into_iter().chain(watch::first_standstill(&metrics, recipe.train.epochs))
    {
        eprintln!("warning: {warning}");
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

/// What is to be said where the training images are no longer those that the run has learned from.
fn changed_since(weights: &Path, images: &Images) -> Result<Option<String>> {
    let path = weights.with_file_name("state.json");
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let state: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let learned = &state["fingerprint"]["samples"];
    // Checkpoints of an earlier version hold no digest.
    let same = learned["digest"].is_null()
        || (learned["train"] == json!(images.train.len())
            && learned["digest"] == digest::of_images(images.train.as_ref())?);
    Ok((!same).then(|| {
        let count = match (&learned["train"], images.train.len()) {
            (then, now) if *then == json!(now) => String::new(),
            (then, now) => format!(", {then} then and {now} now"),
        };
        format!(
            "{}: the training images, their names or labels are others than those that the run has learned from{count}; probes are \
             fitted to these",
            images.name
        )
    }))
}

/// What report.json tells of the run under `run`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunFacts {
    /// The optimizer steps of the checkpoint that is judged.
    pub step: u64,
    /// Whose encoder in it.
    #[serde(default)]
    pub weights: Whose,
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
            weights: recipe.weights.whose(),
            method: recipe.objective.method().kind.to_owned(),
            encoder: recipe.encoder.name().to_owned(),
            model,
            seed: recipe.train.seed,
            training_seconds: training_seconds(&metrics),
            samples_per_second: (!rates.is_empty()).then(|| rates.iter().sum::<f64>() / rates.len() as f64),
        }
    }
}

/// The seconds of a run's training; the clock begins anew whenever a run is resumed.
pub fn training_seconds(metrics: &[&Metrics]) -> f64 {
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
    parts: [Part; 2],
    /// Numbers of the report with how sure they are.
    known: Vec<Known>,
    full: Vec<(String, full::Groups)>,
}

impl Judged {
    /// Puts what the objective says into the report, and what its numbers mean among the definitions.
    fn say(&mut self, said: &Said) -> Result<()> {
        let mut insert = |key: &str, value| self.report.insert(key.to_owned(), value);
        if !said.numbers.is_empty() {
            let numbers = said.numbers.iter().map(|(name, value, _)| (name.clone(), json!(value)));
            insert("task", Value::Object(numbers.collect()));
        }
        if !said.answers.is_empty() {
            insert("answers", serde_json::to_value(&said.answers)?);
        }
        if !said.prototypes.is_empty() {
            insert("prototypes", serde_json::to_value(&said.prototypes)?);
        }
        for (name, _, reading) in &said.numbers {
            self.report["definitions"][name] = json!(reading);
        }
        Ok(())
    }
}

fn on_images(
    recipe: &Recipe,
    images: &Images,
    weights: &Path,
    rivals: Rivals,
    suite: SuiteChoice,
    device: Device,
) -> Result<Judged> {
    let labels = Labels::new(images.classes(), images.train.labels(), images.test.labels());
    let plain = |set| -> Result<_> {
        let view = images::plain_view(recipe, images.train.channels())?;
        images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)
    };
    let (train, test) = (plain(&images.train)?, plain(&images.test)?);
    let some = plain(&images::some(&images.test, layers::IMAGES)?)?;
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
            layers: match suite {
                SuiteChoice::Full => features::layers(encoder, &some, device)?,
                SuiteChoice::Probes => Vec::new(),
            },
        })
    };
    let mut judging =
        Judging { recipe, labels: labels.as_ref(), rivals, suite, verdicts: Vec::new(), known: Vec::new() };
    let mut robust = Robustness::open(recipe, images, labels.as_ref(), suite, device)?;
    // What takes more than features.
    let mut further = |seen: &Seen, verdict: &mut Verdict, progress: &mut dyn FnMut(Stage)| -> Result<()> {
        let (Some(full), Some(labels)) = (&mut verdict.full, &labels) else { return Ok(()) };
        if let (Some(robust), Some(linear)) = (&mut robust, &verdict.linear) {
            let groups =
                robust.measure(model.encoder.as_ref(), seen, linear, progress).context("robustness")?;
            full.extend(groups);
        }
        let attentive = attentive::measure(recipe, &model, images, labels, device, progress);
        full.extend(attentive.context("attentive probe")?.map(|found| ("attentive".to_owned(), found)));
        Ok(())
    };
    judging.judge_and(UNTRAINED, encode, &mut further)?;
    model.load(weights)?;
    let seen = judging.judge_and(TRAINED, encode, &mut further)?;
    let said = task::of_images(&model, &test, seed, device).context("the pretext task on the test images")?;
    let attention = attention::measure(recipe, &model, &images.test, device).context("attention")?;
    let mut insight = Map::new();
    if let (SuiteChoice::Full, Some(seen)) = (suite, seen) {
        eprintln!("{TRAINED}: what the encoder looks at");
        let found = saliency::measure(recipe, model.encoder.as_ref(), &images.test, device)
            .context("what the encoder looks at")?;
        insight.insert("saliency".to_owned(), serde_json::to_value(found)?);
        let found = members::measure(&seen, images.classes().len(), recipe.eval.queries, seed)?;
        insight.insert("members".to_owned(), serde_json::to_value(found)?);
    }
    judging.judge("pixels", || {
        let raw = |set| -> Result<_> {
            let view = PlainView::new(recipe.raw_view(), images.train.channels())?;
            let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
            features::of_pixels(&batches)
        };
        let views = Some(features::of_pixel_pairs(&pairs(recipe.raw_pair())?)?);
        Ok(Seen { train: raw(&images.train)?, test: raw(&images.test)?, views, layers: Vec::new() })
    })?;
    let data = json!({
        "name": images.name, "train": images.train.len(), "test": images.test.len(), "classes": images.classes(),
        "split": if images.held_out { "the test part was set aside here, by a fixed key" } else { "the set's own" },
    });
    let facts = ModelFacts::new(model.encoder.dim(), model.parameters());
    let mut judged = judging.finish(data, facts, images.parts()?)?;
    judged.say(&said)?;
    judged.known.extend(sure::of_task(&said, images.test.len(), seed)?);
    if let Some(attention) = attention {
        judged.known.extend(sure::of_attention(&attention));
        judged.report.insert("attention".to_owned(), serde_json::to_value(attention)?);
    }
    judged.report.extend(insight);
    Ok(judged)
}

fn on_text(
    recipe: &Recipe,
    run: &Path,
    weights: &Path,
    rivals: Rivals,
    suite: SuiteChoice,
    device: Device,
) -> Result<Judged> {
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
            layers: Vec::new(),
        })
    };
    let mut judging =
        Judging { recipe, labels: labels.as_ref(), rivals, suite, verdicts: Vec::new(), known: Vec::new() };
    judging.judge(UNTRAINED, encode)?;
    model.load(weights)?;
    judging.judge(TRAINED, encode)?;
    let vocabulary = texts.tokenizer.vocab_size() as i64;
    judging.judge("bag-of-words", || {
        Ok(Seen {
            train: features::bag_of_words(&train_batches, train.documents(), train_count, vocabulary)?,
            test: features::bag_of_words(&test_batches, test.documents(), test_count, vocabulary)?,
            views: None,
            layers: Vec::new(),
        })
    })?;
    let data = json!({
        "name": texts.name, "train": train_count, "test": test_count, "classes": texts.train.classes,
        "sequences": [train.len(), test.len()], "tokens": vocabulary,
        "split": "whole documents were set aside here, by a fixed key",
    });
    let part = |corpus: &Corpus| {
        let content = digest::of_texts(corpus);
        Part::new(corpus.documents.len(), corpus.labels().as_deref(), Some(content))
    };
    let facts = ModelFacts::new(model.encoder.dim(), model.parameters());
    let mut judged = judging.finish(data, facts, [part(&texts.train), part(&texts.test)])?;
    let perplexity = text::perplexity(recipe, &texts, weights, device)?;
    judged.report.insert("perplexity".to_owned(), perplexity);
    Ok(judged)
}

/// What else is asked of an encoder.
type Further<'a> = dyn FnMut(&Seen, &mut Verdict, &mut dyn FnMut(Stage)) -> Result<()> + 'a;

/// Runs the probes on one encoder after the other.
struct Judging<'a> {
    recipe: &'a Recipe,
    labels: Option<&'a Labels>,
    rivals: Rivals,
    suite: SuiteChoice,
    verdicts: Vec<(String, Verdict)>,
    known: Vec<Known>,
}

impl Judging<'_> {
    /// Returns what the probes were shown; nothing of a rival that is left out.
    fn judge(&mut self, name: &str, encode: impl Fn() -> Result<Seen>) -> Result<Option<Seen>> {
        self.judge_and(name, encode, &mut |_, _, _| Ok(()))
    }

    /// As `judge`; `further` adds what it asks to the verdict.
    fn judge_and(
        &mut self,
        name: &str,
        encode: impl Fn() -> Result<Seen>,
        further: &mut Further,
    ) -> Result<Option<Seen>> {
        if name != TRAINED && self.rivals == Rivals::None {
            return Ok(None);
        }
        eprintln!("{name}: encoding");
        let seen = encode().with_context(|| format!("features of {name}"))?;
        let mut bars = Bars::new(name);
        let mut verdict =
            judge(&seen, self.labels, &self.recipe.eval, self.suite, &mut |stage| bars.show(stage))?;
        further(&seen, &mut verdict, &mut |stage| bars.show(stage))?;
        self.known.extend(sure::of_encoder(name, &verdict, &self.recipe.eval)?);
        self.verdicts.push((name.to_owned(), verdict));
        Ok(Some(seen))
    }

    /// The trained encoder first, then what it is compared with.
    fn finish(mut self, data: Value, model: ModelFacts, parts: [Part; 2]) -> Result<Judged> {
        self.verdicts.sort_by_key(|(name, _)| name != TRAINED);
        let by_name = |of: &dyn Fn(&Verdict) -> Value| -> Value {
            Value::Object(self.verdicts.iter().map(|(name, verdict)| (name.clone(), of(verdict))).collect())
        };
        let mut report = Map::new();
        report.insert("scores".to_owned(), by_name(&|verdict| scores_json(&verdict.scores)));
        report.insert("health".to_owned(), by_name(&|verdict| health_json(&verdict.health)));
        report.insert("linear_probe".to_owned(), by_name(&|verdict| json!(verdict.linear)));
        report.insert("data".to_owned(), data);
        report.insert("seed".to_owned(), json!(self.recipe.train.seed));
        let mut definitions = definitions::of_a_run(&self.recipe.eval, self.labels);
        let full = full::of_verdicts(&mut self.verdicts);
        if !full.is_empty() {
            report.insert("suite".to_owned(), full::json(&full)?);
            definitions["suite"] = full::definition();
        }
        definitions["origin"] = json!(origin::DEFINITION);
        report.insert("definitions".to_owned(), definitions);
        Ok(Judged { verdicts: self.verdicts, report, model, parts, known: self.known, full })
    }
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
}
