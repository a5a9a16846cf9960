//! `selfsup eval --features` where samples have no one class: several labels each, numbers, or a mark of what is not normal.
//!
//! The folder holds `train.npy` and `test.npy` as for classes, and
//! - `train_targets.npy`, `test_targets.npy` `[N]` or `[N, T]` floats: numbers to predict, by ridge regression;
//! - the same `[N, K]` as whole numbers, 0 and 1: labels that a sample has or not, by a logistic regression each;
//! - or `test_anomalies.npy` `[M]`, 0 and 1: all training samples are normal, and the test samples marked 1 are to be told from the
//!   others. With `train_labels.npy` beside it they are of several classes that are known, and the marked ones of none of them.
//!
//! Or one `features.safetensors` with tensors of these names.
//!
//! | file | holds |
//! |---|---|
//! | `given.rs` | what is in the folder, checked |
//! | `found.rs` | what the probes say, and how it is shown |

mod found;
mod given;

use crate::elsewhere::settings;
use crate::evaluate::TRAINED;
use crate::full::{self, Answers, SuiteChoice};
use crate::judge::{Bars, Seen, health_json, judge};
use crate::origin::{self, Origin};
use crate::recipe::Assignment;
use crate::{columns, definitions, report, sure, warnings};
use anyhow::Result;
use found::{page, table};
use given::Given;
use selfsup::core::state::write_whole;
use serde_json::{Map, Value, json};
use std::path::Path;
use std::time::Instant;

pub use given::lie_in;

/// Runs the command: writes report.json into the folder and prints it or its table.
///
/// # Errors
/// When a file is missing or cannot be read, or the arrays do not belong together; the message names the array.
pub fn run(folder: &Path, set: &[Assignment], suite: SuiteChoice, print_json: bool) -> Result<()> {
    let config = settings(set)?;
    let given = Given::read(folder)?;
    columns::names(folder, given.train.size()[1])?.inspect(|_| columns::note());
    let started = Instant::now();
    let found = given.judge(&config)?;
    let seen = Seen { train: given.train, test: given.test, views: None, layers: Vec::new() };
    let mut bars = Bars::new("features");
    let mut verdict = judge(&seen, None, &config, suite, &mut |stage| bars.show(stage))?;
    let name = std::path::absolute(folder)?;
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let by_name = |value: Value| Value::Object(Map::from_iter([(TRAINED.to_owned(), value)]));
    let mut groups = vec![(found.group.to_owned(), found.measures.clone())];
    groups.extend(verdict.full.take().into_iter().flatten());
    let mut report = json!({
        "health": by_name(health_json(&verdict.health)),
        "outcome": by_name(found.outcome.clone()),
        "suite": full::json(&[(TRAINED.to_owned(), groups)])?,
        "data": {
            "name": name, "train": seen.train.size()[0], "test": seen.test.size()[0], "dim": seen.train.size()[1],
            "split": "as the files have it",
        },
        "definitions": definitions::of_probes(&config, None),
        "seconds": started.elapsed().as_secs_f64(),
    });
    report["definitions"]["suite"] = full::definition();
    report["definitions"]["outcome"] = json!(found.outcome_is);
    report["definitions"]["measurements"] = json!(sure::DEFINITION);
    let known = sure::of_encoder(TRAINED, &verdict, &config)?;
    report["measurements"] = sure::json(&known, &report["definitions"]);
    let samples = [&seen.train, &seen.test].map(|x| x.size()[0] as usize);
    report["origin"] = json!(Origin::of_features(samples, None)?);
    report["definitions"]["origin"] = json!(origin::DEFINITION);
    let text = serde_json::to_string_pretty(&report)?;
    let path = folder.join("report.json");
    // There are no answers by classes here.
    Answers::remove(folder)?;
    write_whole(&path, text.as_bytes())?;
    if suite == SuiteChoice::Full {
        let page = page(folder, &name, &report, &found)?;
        eprintln!("{}", report::write(&page, folder)?.display());
    }
    if print_json {
        println!("{text}");
    } else {
        println!("{}", table(&found.measures));
        eprintln!("{} written in {:.0} s", path.display(), started.elapsed().as_secs_f64());
    }
    for warning in warnings::of(&report) {
        eprintln!("warning: {warning}");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
