//! `selfsup eval`: what a run's encoder is worth, beside the same encoder untrained and the raw input.

use crate::features;
use crate::images::{self, Images};
use crate::judge::{Labels, Seen, Verdict, judge, scores_json, table};
use crate::model::{ImageModel, TextModel};
use crate::objective::Modality;
use crate::pretrain::recipe_of;
use crate::recipe::Recipe;
use crate::text::{self, Texts};
use anyhow::{Context, Result, bail};
use selfsup::core::state::write_whole;
use selfsup::core::{Dataset, Device};
use selfsup::data::augment::PlainView;
use selfsup::train::checkpoint::{Checkpoints, Pointer, verify};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// The names of the three that are compared, as report.json and the table have them.
const TRAINED: &str = "trained";
const UNTRAINED: &str = "untrained";

/// Runs the command: writes report.json and prints it or its table.
///
/// # Errors
/// When the folder holds no run or no checkpoint, or the data cannot be read.
pub fn run(run: &Path, print_json: bool, device: Device) -> Result<()> {
    let recipe = recipe_of(run)?;
    let weights = last_checkpoint(run)?;
    let started = Instant::now();
    let mut judged = match recipe.objective.modality() {
        Modality::Images => on_images(&recipe, &weights, device)?,
        Modality::Text => on_text(&recipe, run, &weights, device)?,
    };
    judged.report.insert("seconds".to_owned(), json!(started.elapsed().as_secs_f64()));
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
        eprintln!(
            "{} written in {:.0} s",
            run.join("report.json").display(),
            started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}

/// The weights of the last checkpoint.
///
/// # Errors
/// When there is none, or it is damaged.
pub fn last_checkpoint(run: &Path) -> Result<PathBuf> {
    let Some(folder) = Checkpoints::new(run).find(Pointer::Last)? else {
        bail!("{}: the run has no checkpoint yet", run.display());
    };
    verify(&folder)?;
    Ok(folder.join("model.safetensors"))
}

/// What the probes found, in order, and report.json.
struct Judged {
    verdicts: Vec<(String, Verdict)>,
    report: Map<String, Value>,
}

fn on_images(recipe: &Recipe, weights: &Path, device: Device) -> Result<Judged> {
    let images = Images::open(&recipe.data)?;
    let labels = Labels::new(images.classes(), images.train.labels(), images.test.labels());
    let plain = |set| -> Result<_> {
        let view = PlainView::new(recipe.plain_view(), images.train.channels())?;
        images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)
    };
    let (train, test) = (plain(&images.train)?, plain(&images.test)?);
    let kinds = recipe.views().kinds;
    let pairs = images::pairs(&images.test, &kinds, recipe.eval.batch_size, recipe.train.loader_threads)?;
    let model = ImageModel::on_images(recipe, device)?;
    let encode = || -> Result<Seen> {
        let encoder = model.encoder.as_ref();
        Ok(Seen {
            train: features::of_images(encoder, &train, device)?,
            test: features::of_images(encoder, &test, device)?,
            views: Some(features::of_pairs(encoder, &pairs, device)?),
        })
    };
    let mut judging = Judging { recipe, labels: labels.as_ref(), verdicts: Vec::new() };
    judging.judge(UNTRAINED, encode)?;
    model.load(weights)?;
    judging.judge(TRAINED, encode)?;
    judging.judge("pixels", || {
        let raw = |set| -> Result<_> {
            let view = PlainView::new(recipe.raw_view(), images.train.channels())?;
            let batches = images::plain(set, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
            features::of_pixels(&batches)
        };
        let views = Some(features::of_pixel_pairs(&pairs)?);
        Ok(Seen { train: raw(&images.train)?, test: raw(&images.test)?, views })
    })?;
    let data = json!({
        "name": images.name, "train": images.train.len(), "test": images.test.len(), "classes": images.classes(),
        "split": if images.held_out { "the test part was set aside here, by a fixed key" } else { "the set's own" },
    });
    Ok(judging.finish(data))
}

fn on_text(recipe: &Recipe, run: &Path, weights: &Path, device: Device) -> Result<Judged> {
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
    let mut judging = Judging { recipe, labels: labels.as_ref(), verdicts: Vec::new() };
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
    let mut judged = judging.finish(data);
    let perplexity = text::perplexity(recipe, &texts, weights, device)?;
    judged.report.insert("perplexity".to_owned(), perplexity);
    Ok(judged)
}

/// Runs the probes on one encoder after the other.
struct Judging<'a> {
    recipe: &'a Recipe,
    labels: Option<&'a Labels>,
    verdicts: Vec<(String, Verdict)>,
}

impl Judging<'_> {
    fn judge(&mut self, name: &str, encode: impl Fn() -> Result<Seen>) -> Result<()> {
        eprintln!("{name}: encoding");
        let seen = encode().with_context(|| format!("features of {name}"))?;
        let say = &mut |stage: &str| eprintln!("{name}: {stage}");
        let verdict = judge(&seen, self.labels, &self.recipe.eval, say)?;
        self.verdicts.push((name.to_owned(), verdict));
        Ok(())
    }

    /// The trained encoder first, then what it is compared with.
    fn finish(mut self, data: Value) -> Judged {
        self.verdicts.swap(0, 1);
        let by_name = |of: &dyn Fn(&Verdict) -> Value| -> Value {
            Value::Object(self.verdicts.iter().map(|(name, verdict)| (name.clone(), of(verdict))).collect())
        };
        let mut report = Map::new();
        report.insert("scores".to_owned(), by_name(&|verdict| scores_json(&verdict.scores)));
        report.insert("health".to_owned(), by_name(&|verdict| json!(verdict.health)));
        report.insert("linear_probe".to_owned(), by_name(&|verdict| json!(verdict.linear)));
        report.insert("data".to_owned(), data);
        report.insert("seed".to_owned(), json!(self.recipe.train.seed));
        report.insert("definitions".to_owned(), definitions(self.recipe));
        Judged { verdicts: self.verdicts, report }
    }
}

/// What each number is.
fn definitions(recipe: &Recipe) -> Value {
    let eval = &recipe.eval;
    json!({
        "linear": "accuracy on the test split of a logistic regression on frozen, standardised features; its regularisation is chosen on a held-out part of the training split",
        "few10": format!(
            "the same with {} labels a class, mean and standard deviation over {} draws of the labelled samples",
            eval.few_label.labels_per_class, eval.few_label.draws
        ),
        "knn": format!(
            "accuracy of the weighted vote of the {} nearest training samples by cosine similarity, temperature {}",
            eval.knn.k, eval.knn.temperature
        ),
        "std": "standard deviation of the test features at unit length, averaged over the features; 1/sqrt(D) when spread evenly",
        "rank_me": "exponential of the entropy of the singular values of the test features (Garrido et al. 2023)",
        "uniformity": "logarithm of the mean Gaussian potential of all pairs of test features at unit length, the lower the more even (Wang and Isola 2020)",
        "alignment": "mean squared distance of the features, at unit length, of two training views of a test image, the lower the nearer (Wang and Isola 2020)",
        "checkpoint": "the last one",
    })
}
