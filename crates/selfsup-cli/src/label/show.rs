//! The report's data.

use super::given::Given;
use super::judged::Judged;
use super::samples::Samples;
use super::trust::{HeldOut, Labels};
use crate::report::{Adequacy, LabelReport, Tally, Trusted};
use anyhow::{Context, Result};
use selfsup::labels::Calibration;
use selfsup::numerics::ClusterCounts;
use serde_json::{Value, json};
use std::collections::HashSet;

/// The most and the least trusted that are shown, of each.
const SHOWN: usize = 24;

/// The points of the curve of accuracy against coverage, at most.
const POINTS: usize = 200;

/// Accuracies of which the coverage is told.
const ASKED: [f64; 4] = [0.99, 0.95, 0.9, 0.8];

/// Where labels come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From labels that were given.
    Given,
    /// From the classifier of a fine-tuned run.
    Run,
    /// From the features alone.
    Clusters,
}

/// All that is known of the labels.
pub struct Known<'a> {
    /// The labels.
    pub labels: &'a Labels,
    /// What a person gave, or a run has learned from; none of clusters.
    pub given: Option<&'a Given>,
    /// Where they come from.
    pub origin: Origin,
    /// What is to be known of them beside what held-out labels say.
    pub remarks: Vec<&'static str>,
    /// How right they are; none where the truth is not known.
    pub judged: Option<&'a Judged>,
    /// How many clusters were suggested; none where that was not asked.
    pub counts: Option<&'a ClusterCounts>,
    /// The true classes and their names, where they are known.
    pub truth: Option<(&'a [i64], &'a [String])>,
}

impl Known<'_> {
    fn seen(&self) -> HashSet<usize> {
        self.given.map(Given::seen).unwrap_or_default()
    }

    fn counting(&self) -> usize {
        self.labels.weights.iter().filter(|weight| **weight > 0.0).count()
    }

    /// One sentence that says what came out.
    pub fn outcome(&self) -> String {
        let n = self.labels.labels.len();
        if self.origin == Origin::Clusters {
            let clusters = self.labels.classes.len();
            let purity = self.judged.map_or_else(String::new, |judged| {
                format!(
                    "; {:.1} % of the samples are of the class that most of their cluster are of",
                    100.0 * judged.accuracy
                )
            });
            return format!("{n} samples fall into {clusters} clusters{purity}.");
        }
        let judged = self.judged.map_or_else(String::new, |judged| {
            let kept = judged.kept_accuracy.map_or_else(String::new, |accuracy| {
                format!("; of those that nobody gave {:.1} % are right", 100.0 * accuracy)
            });
            format!("{kept}, and {:.1} % would be if all were kept", 100.0 * judged.accuracy)
        });
        let given = self.given.map_or(0, |given| given.indices.len());
        let from = match (self.origin, given) {
            (Origin::Run, 0) => "By the run's own classifier".to_owned(),
            (Origin::Run, _) => format!("By the run's own classifier, beside {given} labels that were given"),
            _ => format!("From {given} labels that were given"),
        };
        format!("{from}, {} of {n} samples have a label that counts{judged}.", self.counting())
    }

    /// What is to be known before anything is believed.
    pub fn remarks(&self) -> Vec<String> {
        let held_out = self.labels.held_out.as_ref();
        let of_held_out = held_out.and_then(HeldOut::remark);
        of_held_out.iter().chain(&self.remarks).map(|remark| format!("Note: {remark}.")).collect()
    }

    fn facts(&self, data: &str) -> Vec<(String, String)> {
        let mut facts = vec![
            ("Data", format!("{data}: {} samples", self.labels.labels.len())),
            ("Method", self.labels.how.clone()),
        ];
        if let Some(held_out) = &self.labels.held_out {
            let calibration = &held_out.calibration;
            let said = format!(
                "{:.1} % of the given labels are predicted rightly by models that had not seen them",
                100.0 * calibration.accuracy
            );
            facts.push(("Held out", said));
            facts.push(("Temperature", format!("{:.3}", held_out.temperature())));
        }
        let mut reached_at = Vec::new();
        if let Some(judged) = self.judged {
            facts.push(("Judged by", format!("{} true labels that were not given", judged.samples)));
            facts.push(("Area under the risk-coverage curve", format!("{:.4}", judged.coverage.aurc)));
            for (accuracy, coverage) in reached(judged) {
                let coverage =
                    coverage.map_or_else(|| "not reached".to_owned(), |c| format!("{:.1} %", 100.0 * c));
                reached_at.push((format!("Coverage at {:.0} % accuracy", 100.0 * accuracy), coverage));
            }
        }
        if let Some(counts) = self.counts {
            facts.push(("Clusters", format!("{}, as most criteria suggest", counts.suggested)));
        }
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).chain(reached_at).collect()
    }

    /// The data of the page.
    ///
    /// # Errors
    /// When a picture cannot be read.
    pub fn report(&self, samples: &Samples) -> Result<LabelReport> {
        let labels = self.labels;
        let seen = self.seen();
        let mut order: Vec<usize> = (0..labels.labels.len()).filter(|i| !seen.contains(i)).collect();
        order.sort_by(|&a, &b| labels.trust(b).total_cmp(&labels.trust(a)));
        let show = |indices: &mut dyn Iterator<Item = &usize>| -> Result<Vec<Trusted>> {
            indices.take(SHOWN).map(|&index| self.trusted(index, samples)).collect()
        };
        let adequacy = |found: &Calibration| {
            let samples = found.curve.iter().map(|point| point.count).sum();
            let curve =
                found.curve.iter().map(|point| [point.confidence.clamp(0.0, 1.0), point.accuracy]).collect();
            Adequacy { samples, ece: found.ece, curve }
        };
        let mut calibration = Vec::new();
        if let Some(held_out) = &labels.held_out {
            calibration
                .push(("labels that were given, each held out".to_owned(), adequacy(&held_out.calibration)));
        }
        if let Some(found) = self.judged.and_then(|judged| judged.calibration.as_ref()) {
            calibration.push(("true labels that were not given".to_owned(), adequacy(found)));
        }
        Ok(LabelReport {
            title: samples.name.clone(),
            outcome: self.outcome(),
            facts: self.facts(&samples.name),
            remarks: self.remarks(),
            reasons: labels
                .by_reason()
                .into_iter()
                .map(|(reason, count)| (reason.to_owned(), count))
                .collect(),
            coverage: self.judged.map(coverage).unwrap_or_default(),
            calibration,
            classes: self.tallies(&seen),
            least: show(&mut order.iter().rev())?,
            most: show(&mut order.iter())?,
        })
    }

    fn trusted(&self, index: usize, samples: &Samples) -> Result<Trusted> {
        let labels = self.labels;
        let name = samples.name_of(index);
        let sure = labels.probability[index].unwrap_or(labels.weights[index]);
        // A cluster's name is no class that could be right.
        let truth = self.truth.filter(|_| labels.probabilities.is_some());
        Ok(Trusted {
            image: samples.picture(index).with_context(|| name.clone())?,
            name,
            label: labels.class(index).to_owned(),
            truth: truth.map(|(truth, classes)| classes[truth[index] as usize].clone()),
            remark: format!("{:.0} %: {}", 100.0 * sure, labels.reasons[index]),
        })
    }

    fn tallies(&self, seen: &HashSet<usize>) -> Vec<Tally> {
        let labels = self.labels;
        let mut tallies: Vec<Tally> =
            labels.classes.iter().map(|name| Tally { name: name.clone(), ..Tally::default() }).collect();
        for (index, (&label, &weight)) in labels.labels.iter().zip(&labels.weights).enumerate() {
            let tally = &mut tallies[label as usize];
            if weight > 0.0 {
                *(if seen.contains(&index) { &mut tally.given } else { &mut tally.kept }) += 1;
            }
        }
        if let Some(judged) = self.judged.filter(|_| labels.probabilities.is_some()) {
            for tally in &mut tallies {
                if let Some((_, found)) = judged.classes.iter().find(|(name, _)| *name == tally.name) {
                    (tally.precision, tally.recall) = (found.precision, found.recall);
                }
            }
        }
        tallies
    }

    /// The numbers of the report.
    pub fn json(&self, data: &str) -> Value {
        let labels = self.labels;
        let tallies = self.tallies(&self.seen()).into_iter().map(|tally| {
            json!({"class": tally.name, "given": tally.given, "kept": tally.kept, "precision": tally.precision, "recall": tally.recall})
        });
        let reasons =
            labels.by_reason().into_iter().map(|(reason, count)| json!({"reason": reason, "count": count}));
        let held_out = labels.held_out.as_ref().map(|held_out| {
            // JSON has no infinity: none stands for scores that say nothing.
            let temperature = Some(held_out.temperature()).filter(|temperature| temperature.is_finite());
            json!({"temperature": temperature, "calibration": held_out.calibration})
        });
        let judged = self.judged.map(|judged| {
            let reached = reached(judged)
                .map(|(accuracy, coverage)| json!({"accuracy": accuracy, "coverage": coverage}));
            json!({
                "samples": judged.samples,
                "accuracy": judged.accuracy,
                "kept": judged.kept,
                "kept_accuracy": judged.kept_accuracy,
                "aurc": judged.coverage.aurc,
                "excess_aurc": judged.coverage.excess_aurc,
                "coverage_at_accuracy": reached.collect::<Vec<_>>(),
                "coverage": coverage(judged),
                "calibration": judged.calibration,
            })
        });
        json!({
            "data": data,
            "samples": labels.labels.len(),
            "method": labels.how,
            "given": self.given.map(|given| given.indices.len()),
            "kept": self.counting(),
            "reasons": reasons.collect::<Vec<_>>(),
            "classes": tallies.collect::<Vec<_>>(),
            "held_out": held_out,
            "judged": judged,
            "clusters": self.counts,
        })
    }
}

/// The coverage at which labels are as accurate as asked.
fn reached(judged: &Judged) -> impl Iterator<Item = (f64, Option<f64>)> {
    ASKED
        .into_iter()
        .map(|accuracy| (accuracy, judged.coverage.at_accuracy(accuracy).map(|point| point.coverage)))
}

/// The curve in few points, the last of all samples.
fn coverage(judged: &Judged) -> Vec<[f64; 2]> {
    let curve = &judged.coverage.curve;
    let step = curve.len().div_ceil(POINTS).max(1);
    let mut points: Vec<[f64; 2]> =
        curve.iter().rev().step_by(step).map(|point| [point.coverage, point.accuracy]).collect();
    points.reverse();
    points
}
