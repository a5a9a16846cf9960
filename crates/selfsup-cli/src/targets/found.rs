//! What the probes say of targets, for report.json, a terminal and a page.

use super::given::{Asked, Given};
use crate::evaluate::TRAINED;
use crate::full;
use crate::recipe::EvalConfig;
use crate::report::{self, Cell, Column, ReportData, Row, Scores, SuiteGroup, SuiteMeasure};
use crate::warnings;
use anyhow::Result;
use selfsup::core::{Features, Tensor};
use selfsup::eval::{
    Measurement, MultiLabelProbe, MultiLabelled, OutlierConfig, RegressionConfig, RegressionProbe,
    RegressionSet, outliers,
};
use serde_json::{Value, json};
use std::path::Path;

/// Draws of the intervals.
const RESAMPLES: usize = 1000;

/// What was found.
pub struct Found {
    /// The key of the measures.
    pub group: &'static str,
    /// What the section of the page is called.
    pub title: &'static str,
    /// How to read its figure.
    pub reading: &'static str,
    /// The numbers.
    pub measures: Vec<Measurement>,
    /// All of it, for report.json.
    pub outcome: Value,
    /// What that is.
    pub outcome_is: &'static str,
}

impl Given {
    /// Asks the probes.
    ///
    /// # Errors
    /// Those of the probes.
    pub fn judge(&self, config: &EvalConfig) -> Result<Found> {
        match &self.asked {
            Asked::Numbers([train, test]) => {
                let asked = RegressionConfig {
                    held_out: config.linear.held_out,
                    seed: config.linear.seed,
                    resamples: RESAMPLES,
                    ..Default::default()
                };
                let (train, test) =
                    (RegressionSet::new(&self.train, train)?, RegressionSet::new(&self.test, test)?);
                let found = RegressionProbe::new(asked)?.run(&train, &test)?;
                Ok(Found {
                    group: "regression",
                    title: "Numbers predicted from the features",
                    reading: "R2 in per cent: 100 is perfect, 0 as good as the mean of the test targets, below 0 worse than that.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "ridge regression on frozen, standardised features, its penalty chosen on a held-out part of the training \
                                 samples: r2 with its interval, and for each target r2_of_targets and rmse, the latter in the target's unit",
                })
            }
            Asked::Labels([train, test]) => {
                let (train, test) =
                    (MultiLabelled::new(&self.train, train)?, MultiLabelled::new(&self.test, test)?);
                let found = MultiLabelProbe::new(config.linear.clone(), RESAMPLES)?.run(&train, &test)?;
                Ok(Found {
                    group: "multi_label",
                    title: "Labels, any number a sample",
                    reading: "Shares in per cent, the longer the better. A label that is drawn at random has an average precision of its own share \
                              among the samples.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "a logistic regression for each label on frozen, standardised features, one strength for all, chosen on a held-out \
                                 part of the training samples; average_precision of each label, none for one without a positive test sample",
                })
            }
            Asked::Anomalies { marks, classes: (labels, count) } => {
                let of = |wanted: bool| -> Tensor {
                    let rows: Vec<i64> =
                        (0..).zip(marks).filter(|(_, m)| **m == wanted).map(|(i, _)| i).collect();
                    self.test.index_select(0, &Tensor::from_slice(&rows))
                };
                let normal = Features::new(self.train.shallow_clone(), Tensor::from_slice(labels), *count)?;
                let asked =
                    OutlierConfig { resamples: RESAMPLES, seed: config.linear.seed, ..Default::default() };
                let found = outliers(&normal, &of(false), &of(true), &asked)?;
                Ok(Found {
                    group: "anomalies",
                    title: "What is not normal",
                    reading: "How surely a sample that is not normal is less familiar than one that is, in per cent: 50 is chance. Of FPR95 the shorter \
                              is the better.",
                    measures: found.measurements("test"),
                    outcome: json!(found),
                    outcome_is: "test samples that are not normal told from those that are by how familiar they are to the training samples, which are \
                                 all normal; of training samples of several classes by each class, and by the energy of a probe on them",
                })
            }
        }
    }
}

/// The measures with their intervals, as lines.
pub fn table(measures: &[Measurement]) -> String {
    let mut lines = vec![format!("{:<26}{:>28}", "measure [95 % interval]", "features")];
    for m in measures {
        let text = match m.interval {
            Some(i) => format!("{:.4} [{:.4}, {:.4}]", m.value, i.low, i.high),
            None => format!("{:.4}", m.value),
        };
        lines.push(format!("{:<26}{text:>28}", m.name));
    }
    lines.join("\n")
}

/// The page: what was asked, and what needs no targets.
///
/// # Errors
/// When report.json is not as it was written here.
pub fn page(folder: &Path, name: &str, report: &Value, found: &Found) -> Result<ReportData> {
    let measured: full::Found = serde_json::from_value(json!({ "features": report["suite"][TRAINED] }))?;
    let values = |m: &Measurement| (m.value, m.interval.map(|i| [i.low, i.high]));
    let columns =
        found.measures.iter().map(|m| Column { name: report::readable(&m.name), explanation: String::new() });
    let cells = found.measures.iter().map(|m| Some(Cell::of_interval(values(m))));
    let data = &report["data"];
    Ok(ReportData {
        kind: "Report of features".to_owned(),
        title: name.to_owned(),
        facts: vec![
            ("Data".to_owned(), format!("{} training and {} test samples", data["train"], data["test"])),
            ("Features".to_owned(), data["dim"].to_string()),
        ],
        command: format!("selfsup eval --suite full --features {}", folder.display()),
        warnings: warnings::of(report),
        suite_title: full::TITLE,
        suite: std::iter::once(SuiteGroup {
            title: found.title.to_owned(),
            reading: found.reading.to_owned(),
            encoders: vec!["features".to_owned()],
            measures: found
                .measures
                .iter()
                .map(|m| SuiteMeasure {
                    name: m.name.clone(),
                    definition: m.definition.clone(),
                    values: vec![Some(values(m))],
                })
                .collect(),
            figure: Some(Scores {
                columns: columns.collect(),
                rows: vec![Row { name: "features".to_owned(), cells: cells.collect() }],
            }),
            ..Default::default()
        })
        .chain(full::sections(&measured, &["features"]))
        .collect(),
        ..Default::default()
    })
}
