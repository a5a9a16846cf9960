//! What a ladder says: annotation.json, a table in the terminal, and the page.

use super::Setting;
use super::arm::Arm;
use super::cells::Measured;
use super::ladder::{self, Needs, Rungs};
use crate::report::annotation::{AnnotationData, ArmRow, RungCell};
use crate::report::{Along, Chart, Line, Point};
use anyhow::Result;
use serde_json::{Value, json};

/// The cells of a ladder, put together.
pub struct Told<'a> {
    setting: &'a Setting<'a>,
    cells: Vec<Measured>,
    arms: Vec<Rungs>,
    target: Option<f64>,
    reference: Arm,
}

impl<'a> Told<'a> {
    /// Puts cells together; the accuracy that is aimed at is that of the first arm with all labels.
    pub fn new(setting: &'a Setting<'a>, cells: Vec<Measured>) -> Self {
        let reference = Arm::ALL[0];
        let all = cells.iter().filter(|cell| cell.arm == reference && cell.labels == setting.train.len());
        let (sum, n) = all.fold((0.0, 0.0), |(sum, n), cell| (sum + cell.accuracy, n + 1.0));
        let target = (n > 0.0).then(|| sum / n);
        let arms = ladder::ladder(&cells, target);
        Told { setting, cells, arms, target, reference }
    }

    /// How many labels each arm saves.
    pub fn sentence(&self) -> String {
        ladder::sentence(&self.arms, self.target, self.reference, self.setting.train.len())
    }

    /// annotation.json.
    ///
    /// # Errors
    /// None: all is plain data.
    pub fn json(&self) -> Result<Value> {
        let arms = self.arms.iter().map(|rungs| -> Result<Value> {
            let mut value = serde_json::to_value(rungs)?;
            value["name"] = json!(rungs.arm.name());
            value["about"] = json!(rungs.arm.about());
            Ok(value)
        });
        Ok(json!({
            "sentence": self.sentence(),
            "target": { "arm": self.reference, "labels": self.setting.train.len(), "accuracy": self.target },
            "arms": arms.collect::<Result<Vec<_>>>()?,
            "plan": self.setting.plan(),
            "command": self.setting.command(),
            "cells": self.cells,
        }))
    }

    /// Accuracies in per cent, an arm a line.
    pub fn table(&self) -> String {
        let head: String = self.setting.counts.iter().map(|count| format!("{count:>14}")).collect();
        let mut lines = vec![format!("{:<40}{head}", "labels")];
        for rungs in &self.arms {
            let cells = self.setting.counts.iter().map(|&count| {
                let rung = rungs.rungs.iter().find(|rung| rung.labels == count);
                format!("{:>14}", rung.map_or_else(|| "-".to_owned(), |rung| cell(&rung.accuracy)))
            });
            lines.push(format!("{:<40}{}", rungs.arm.name(), cells.collect::<String>()));
        }
        lines.join("\n")
    }

    /// What the page shows.
    pub fn page(&self) -> AnnotationData {
        let setting = self.setting;
        let lines = self.arms.iter().map(|rungs| Line {
            name: rungs.arm.name().to_owned(),
            points: rungs
                .rungs
                .iter()
                .map(|rung| {
                    let (mean, std) = (100.0 * rung.accuracy.mean, 100.0 * rung.accuracy.std);
                    let interval = (rung.accuracy.n > 1).then_some([mean - std, mean + std]);
                    Point { x: rung.given, y: mean, interval }
                })
                .collect(),
        });
        let reference = self.target.map(|target| {
            // There is room for few words beside the line.
            let words = format!("supervised, all {}", setting.train.len());
            (words, 100.0 * target)
        });
        let rows = self.arms.iter().map(|rungs| ArmRow {
            name: rungs.arm.name().to_owned(),
            about: rungs.arm.about().to_owned(),
            cells: setting
                .counts
                .iter()
                .map(|&count| {
                    let rung = rungs.rungs.iter().find(|rung| rung.labels == count)?;
                    Some(RungCell {
                        accuracy: cell(&rung.accuracy),
                        given: rung.given,
                        seconds: rung.seconds,
                    })
                })
                .collect(),
            needs: match rungs.needs {
                Needs::Unknown => "–".to_owned(),
                Needs::AtMost(n) => format!("≤ {n:.0}"),
                Needs::About(n) => format!("{n:.0}"),
                Needs::NotReachedWith(n) => format!("> {n:.0}"),
            },
        });
        let facts = [
            (
                "Data",
                format!(
                    "{}: {} samples that may be labelled, {} to judge by",
                    setting.arguments.data,
                    setting.train.len(),
                    setting.test.len()
                ),
            ),
            ("Features", format!("{}, step {}", setting.run().display(), setting.step)),
            ("Draws", format!("{}, each with a seed of its own", setting.arguments.draws)),
        ];
        AnnotationData {
            title: setting.arguments.data.clone(),
            outcome: self.sentence(),
            facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            command: setting.command(),
            chart: Chart {
                name: "Test accuracy against labels".into(),
                along: Along { name: "labels".into(), factors: true },
                up: "test accuracy in per cent".into(),
                lines: lines.collect(),
                reference,
            },
            counts: setting.counts.clone(),
            rows: rows.collect(),
        }
    }
}

fn cell(score: &selfsup::core::Score) -> String {
    let (mean, std) = (100.0 * score.mean, 100.0 * score.std);
    if score.n > 1 { format!("{mean:.1} ± {std:.1}") } else { format!("{mean:.1}") }
}
