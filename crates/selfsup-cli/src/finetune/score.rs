//! What a fine-tuned classifier reaches, and report.json.

use super::recipe::FinetuneRecipe;
use super::sets::Sets;
use crate::full::Answers;
use crate::network::ImageNetwork;
use crate::origin::{Origin, Part};
use crate::recipe::Whose;
use crate::{digest, images};
use anyhow::Result;
use selfsup::core::state::write_whole;
use selfsup::core::{Batches, Device, Logits, Tensor, tch};
use selfsup::data::ImageSet;
use selfsup::data::augment::PlainView;
use selfsup::eval::{Interval, LEVEL};
use selfsup::labels::{CalibrationConfig, LabelledProbabilities, calibration};
use selfsup::objectives::SemiSupervised;
use selfsup::train::loggers::{Metrics, Progress, read_metrics};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The points of the curve of pseudo-labels.
const POINTS: usize = 50;

/// What a classifier reaches on images that nothing was learned from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The images.
    pub test: usize,
    /// The share that is classified rightly.
    pub accuracy: f64,
    /// How sure that is.
    #[serde(default)]
    pub interval: Option<Interval>,
    /// The same for each class; none for a class that no test image has.
    pub per_class: Map<String, Value>,
    /// Expected calibration error in 15 bins of equal width.
    pub ece: f64,
}

/// The probe of a fine-tuned run, as answers.json and `selfsup compare --probe` call it.
pub const CLASSIFIER: &str = "classifier";

/// Judges the averaged weights on the test images, and says what each was taken for; none where the set has none with labels.
///
/// # Errors
/// When an image cannot be read.
pub fn on_test(
    objective: &dyn SemiSupervised<dyn ImageNetwork>,
    sets: &Sets,
    view: PlainView,
    recipe: &FinetuneRecipe,
    device: Device,
) -> Result<Option<(Scores, Answers)>> {
    let Some((test, labels)) = sets.test.as_ref().and_then(|test| Some((test, test.labels()?))) else {
        return Ok(None);
    };
    let batches = images::plain(test, view, recipe.eval.batch_size, recipe.train.loader_threads)?;
    let (mut all, mut progress) = (Vec::new(), Progress::new("judging", batches.batches_per_epoch(), 0, 0));
    for (done, batch) in (1..).zip(batches.epoch(0, 0)?) {
        let images = batch?.first("judging")?.to_device(device);
        all.push(tch::no_grad(|| objective.classify(&images))?.to_device(Device::Cpu));
        progress.update(done, "");
    }
    progress.finish();
    let probabilities = Logits::new(&Tensor::cat(&all, 0))?.softmax(1.0)?; // [M, C]
    let predicted = Vec::<i64>::try_from(probabilities.tensor().argmax(1, false))?;
    let mut counts = vec![(0_u64, 0_u64); sets.given.classes.len()];
    for (&label, &predicted) in labels.iter().zip(&predicted) {
        if let Some((right, all)) = counts.get_mut(label as usize) {
            *right += u64::from(label == predicted);
            *all += 1;
        }
    }
    let share = |(right, all): (u64, u64)| (all > 0).then(|| right as f64 / all as f64);
    let per_class = sets.given.classes.iter().zip(counts);
    let per_class = per_class.map(|(class, count)| (class.clone(), json!(share(count)))).collect();
    let judged = LabelledProbabilities::new(&Tensor::from_slice(&labels), probabilities)?;
    let found = calibration(&judged, &CalibrationConfig::default())?;
    let right = labels.iter().zip(&predicted).filter(|(label, predicted)| label == predicted).count();
    let scores = Scores {
        test: labels.len(),
        accuracy: found.accuracy,
        interval: Interval::wilson(right as u64, labels.len() as u64, LEVEL)?,
        per_class,
        ece: found.ece,
    };
    let predictions = BTreeMap::from([(CLASSIFIER.to_owned(), predicted)]);
    Ok(Some((scores, Answers { labels, predictions })))
}

/// How many images had a pseudo-label that counted, and how many of these were right, in a part of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PseudoLabelled {
    /// The epochs done at its end.
    pub epoch: f64,
    /// The share of the unlabelled images of a batch whose label counted.
    pub coverage: f64,
    /// The share of these labels that were right; none where the truth is not known, or no label counted.
    pub accuracy: Option<f64>,
}

/// What report.json of a fine-tuning holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The method's `kind`.
    pub method: String,
    /// The run whose encoder it began with.
    pub from: Option<PathBuf>,
    /// The set's name.
    pub data: String,
    /// The images without labels.
    pub unlabelled: usize,
    /// The labels.
    pub labels: usize,
    /// The labels of each class.
    pub labels_per_class: Map<String, Value>,
    /// Which of the set's own labels they are; none where they come from a file.
    pub draw: Option<u64>,
    /// What every random draw depended on.
    pub seed: u64,
    /// The optimizer steps.
    pub steps: u64,
    /// How long it was trained.
    pub seconds: f64,
    /// What the averaged weights of the last epoch reach on the test images.
    pub scores: Option<Scores>,
    /// Where these come from.
    pub split: String,
    /// The pseudo-labels of the last epoch.
    pub pseudo_labels: Option<PseudoLabelled>,
    /// The same over the run.
    pub pseudo_label_curve: Vec<PseudoLabelled>,
    /// Where all that comes from.
    #[serde(default)]
    pub origin: Option<Origin>,
    /// What each number is.
    pub definitions: Value,
}

impl Report {
    /// Puts together what a run reached and what its log tells.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn new(recipe: &FinetuneRecipe, sets: &Sets, scores: Option<Scores>, run: &Path) -> Result<Self> {
        let metrics = read_metrics(run)?;
        let steps = metrics.last().map_or(0, |last| last.step);
        let last = metrics.last().map_or(0.0, |last| (last.epoch - 1.0).floor());
        let of_last: Vec<&Metrics> = metrics.iter().filter(|m| m.epoch > last).collect();
        let every = metrics.len().div_ceil(POINTS).max(1);
        let lines: Vec<&Metrics> = metrics.iter().collect();
        let split = match (&sets.test, sets.held_out) {
            (None, _) => "the set has no test images with labels of these classes",
            (_, true) => "the test part was set aside here, by a fixed key",
            (_, false) => "the set's own",
        };
        let per_class = sets.given.classes.iter().zip(sets.given.per_class());
        Ok(Report {
            method: recipe.method.method().kind.to_owned(),
            from: recipe.from.clone(),
            data: sets.name.clone(),
            unlabelled: sets.unlabelled.len(),
            labels: sets.given.labels.len(),
            labels_per_class: per_class.map(|(class, count)| (class.clone(), json!(count))).collect(),
            draw: recipe.draw(),
            seed: recipe.train.seed,
            steps,
            seconds: crate::evaluate::training_seconds(&lines),
            scores,
            split: split.to_owned(),
            pseudo_labels: pseudo_labelled(&of_last),
            pseudo_label_curve: lines.chunks(every).filter_map(pseudo_labelled).collect(),
            origin: Some(origin(recipe, sets, steps)?),
            definitions: definitions(),
        })
    }

    /// Writes report.json.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn write(&self, run: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        Ok(write_whole(&run.join("report.json"), text.as_bytes())?)
    }

    /// A few lines for a person.
    pub fn summary(&self) -> String {
        let from = self.from.as_ref().map_or("scratch".to_owned(), |run| run.display().to_string());
        let mut lines = vec![format!(
            "{} with {} labels and {} images, from {from}: {} steps in {:.0} s",
            self.method, self.labels, self.unlabelled, self.steps, self.seconds
        )];
        match &self.scores {
            Some(scores) => {
                let sure = scores.interval.map(|i| format!(" [{:.4}, {:.4}]", i.low, i.high));
                lines.push(format!(
                    "accuracy {:.4}{} on {} test images, calibration error {:.4}",
                    scores.accuracy,
                    sure.unwrap_or_default(),
                    scores.test,
                    scores.ece
                ));
                for (class, share) in &scores.per_class {
                    let share = share.as_f64().map_or_else(|| "-".to_owned(), |x| format!("{x:.4}"));
                    lines.push(format!("  {class:<20} {share}"));
                }
            }
            None => lines.push(format!("not judged: {}", self.split)),
        }
        if let Some(found) = &self.pseudo_labels {
            let right = found.accuracy.map_or_else(String::new, |x| format!(", {x:.4} of these rightly"));
            lines.push(format!("in the last epoch {:.4} of the images were labelled{right}", found.coverage));
        }
        lines.join("\n")
    }
}

/// What a fine-tuned run was judged on. Which of the set's own labels it had is a draw, like its seed.
fn origin(recipe: &FinetuneRecipe, sets: &Sets, steps: u64) -> Result<Origin> {
    let part = |set: &Arc<dyn ImageSet>| -> Result<Part> {
        Ok(Part::new(set.len(), set.labels().as_deref(), Some(digest::of_images(set.as_ref())?)))
    };
    let nothing = || Ok(Part::new(0, None, None));
    Ok(Origin {
        step: Some(steps),
        recipe: Some(digest::of_value(&recipe.method_beside_others()?)),
        seed: Some(recipe.train.seed),
        draw: recipe.draw(),
        weights: Whose::Trained,
        train: part(&sets.unlabelled)?,
        test: sets.test.as_ref().map_or_else(nothing, part)?,
    })
}

/// The means over some lines of the log; none where there are no pseudo-labels.
fn pseudo_labelled(lines: &[&Metrics]) -> Option<PseudoLabelled> {
    let values = |name: &str| -> Option<f64> {
        let found: Vec<f64> = lines.iter().filter_map(|m| m.values.get(name)?.as_f64()).collect();
        (!found.is_empty()).then(|| found.iter().sum::<f64>() / found.len() as f64)
    };
    let coverage = values("coverage")?;
    let accuracy = values("covered_and_right").filter(|_| coverage > 0.0).map(|right| right / coverage);
    Some(PseudoLabelled { epoch: lines.last()?.epoch, coverage, accuracy })
}

fn definitions() -> Value {
    json!({
        "scores": "of the moving average of the weights after the last epoch, on plain views of the test images",
        "accuracy": "the share of the test images that are classified rightly",
        "interval": "of the accuracy: Wilson's at 95 %, for other test images; other labels and seeds move it further",
        "per_class": "the same among the test images of each class",
        "ece": "expected calibration error: how far confidence and accuracy differ, on average over 15 bins of equal width (Guo et al. 2017)",
        "coverage": "the share of the unlabelled images of a batch whose pseudo-label counts, averaged over batches",
        "pseudo_labels.accuracy": "the share of these pseudo-labels that are right, by the set's own labels, which are not learned from",
        "seconds": "of training, without judging",
        "origin": crate::origin::DEFINITION,
    })
}
