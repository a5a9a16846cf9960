//! The table of all methods: `docs/quality.json`, `docs/quality.svg` and its place in `docs/methods.md`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::entrant::{Entrant, IMAGES, Outcome};
use super::{Length, Setting, foretold};
use crate::bench::{measure, plot, table};
use crate::run::root;

/// Between these stands the table in the page.
const MARKS: [&str; 2] =
    ["<!-- written by cargo xtask bench quality -->", "<!-- end of the quality table -->"];
/// The probes of a row.
pub const PROBES: [&str; 3] = ["linear", "few10", "knn"];

/// Mean and standard deviation over seeds of a number in the reports.
fn over_seeds(outcomes: &[Outcome], number: impl Fn(&Outcome) -> Option<f64>) -> Value {
    let values: Vec<f64> = outcomes.iter().filter_map(number).filter(|value| value.is_finite()).collect();
    if values.is_empty() {
        return Value::Null;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    json!({ "mean": mean, "std": variance.sqrt(), "n": values.len() })
}

/// A row of `docs/quality.json`.
pub fn row(entrant: &Entrant, outcomes: &[Outcome]) -> Value {
    let scores = |who: &str| -> Value {
        let probes = PROBES.map(|probe| {
            let mean = |o: &Outcome| o.scores[who][probe]["mean"].as_f64();
            (probe.to_string(), over_seeds(outcomes, mean))
        });
        Value::Object(probes.into_iter().collect::<Map<_, _>>())
    };
    let mut row = json!({
        "method": entrant.name, "title": entrant.title, "family": entrant.family,
        "encoder": outcomes.iter().find_map(|o| o.encoder.as_deref()),
        "epochs": over_seeds(outcomes, |o| Some(o.epochs)),
        "scores": { "trained": scores("trained"), "untrained": scores("untrained"), "pixels": scores("pixels") },
        "samples_per_second": over_seeds(outcomes, |o| Some(o.samples_per_second)),
        "seconds": over_seeds(outcomes, |o| Some(o.seconds)),
        "peak_megabytes": over_seeds(outcomes, |o| Some(o.peak_megabytes)),
    });
    for name in foretold::keys() {
        row[name] = over_seeds(outcomes, |o| o.health["trained"][name].as_f64());
    }
    row
}

fn percent(score: &Value) -> String {
    match (score["mean"].as_f64(), score["std"].as_f64(), score["n"].as_u64()) {
        (Some(mean), Some(std), Some(n)) if n > 1 => format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * std),
        (Some(mean), ..) => format!("{:.1}", 100.0 * mean),
        _ => "–".to_string(),
    }
}

fn probes(row: &Value, who: &str) -> [String; 3] {
    PROBES.map(|probe| percent(&row["scores"][who][probe]))
}

/// A row in a line of text.
pub fn line(row: &Value) -> String {
    let title = row["title"].as_str().unwrap_or_default();
    let (trained, untrained) = (probes(row, "trained").join(", "), probes(row, "untrained").join(", "));
    format!("{title}: {trained} (untrained {untrained})")
}

/// Writes `docs/quality.json`, the plot, and the table of the page. Rows of methods that are not measured now stay.
///
/// A table of another set or budget is not thrown away for this one, which goes to the runs' folder then.
pub fn write(rows: &[Value], setting: &Setting) -> Result<()> {
    let json_path = root().join("docs/quality.json");
    let before: Value = match fs::read_to_string(&json_path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| json_path.display().to_string())?,
        Err(_) => json!({}),
    };
    let head = head(setting);
    let keys = ["data", "budget_seconds", "steps", "images", "threads"];
    let same = keys.iter().all(|key| before[*key] == head[*key]);
    let with = |rows: &[Value]| {
        let mut value = head.clone();
        value["rows"] = json!(rows);
        value["foretold"] = foretold::of(rows);
        value
    };
    if !same && before["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
        let path = setting.folder.join("quality.json");
        let value = with(rows);
        fs::write(&path, format!("{value:#}\n")).with_context(|| path.display().to_string())?;
        println!(
            "docs/quality.json is of another set, budget or number of threads; these rows are in {}",
            path.display()
        );
        return Ok(());
    }
    let mut all: BTreeMap<String, Value> = BTreeMap::new();
    let old = before["rows"].as_array().filter(|_| same);
    for row in old.into_iter().flatten().chain(rows) {
        all.insert(row["method"].as_str().unwrap_or_default().to_string(), row.clone());
    }
    let mut all: Vec<Value> = all.into_values().collect();
    let linear = |row: &Value| row["scores"]["trained"]["linear"]["mean"].as_f64().unwrap_or(0.0);
    all.sort_by(|a, b| linear(b).total_cmp(&linear(a)));
    let page_path = root().join("docs/methods.md");
    let page = fs::read_to_string(&page_path).with_context(|| page_path.display().to_string())?;
    let value = with(&all);
    let text = markdown(&all, setting) + &foretold::markdown(&value["foretold"]);
    let page = table::between(&page, MARKS, &text).with_context(|| {
        format!("{} has no place for the table: the lines {} and {}", page_path.display(), MARKS[0], MARKS[1])
    })?;
    fs::write(root().join("docs/quality.svg"), plot::bars(&bars(&all))).context("docs/quality.svg")?;
    fs::write(&json_path, format!("{value:#}\n")).with_context(|| json_path.display().to_string())?;
    fs::write(&page_path, page).with_context(|| page_path.display().to_string())
}

/// What all rows of a table have in common.
fn head(setting: &Setting) -> Value {
    let mut head = json!({ "data": setting.set, "threads": setting.threads });
    match setting.length {
        Length::Seconds(seconds) => head["budget_seconds"] = json!(seconds),
        Length::Steps(steps) => head["steps"] = json!(steps),
    }
    if setting.images != IMAGES {
        head["images"] = json!(setting.images);
    }
    head
}

fn markdown(rows: &[Value], setting: &Setting) -> String {
    let threads = match setting.threads {
        1 => "one thread".to_owned(),
        threads => format!("{threads} threads"),
    };
    let length = match setting.length {
        Length::Seconds(seconds) => format!("{seconds} s"),
        Length::Steps(steps) => format!("{steps} steps"),
    };
    let images = match setting.images {
        IMAGES => "10,000".to_owned(),
        images => images.to_string(),
    };
    let mut text = format!(
        "{}, the first {images} training images, {length} of pretraining on {threads} each; the last epoch, probes on the test part; mean and standard deviation \
         over seeds. In the plot red marks are the same encoders untrained.\n\n![linear probe of every method](quality.svg)\n\n\
         | method | family | linear | ten labels a class | k-NN | untrained (linear, ten, k-NN) | RankMe | epochs | \
         images/s | peak MB |\n|---|---|---|---|---|---|---|---|---|---|\n",
        setting.set
    );
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or("–").to_string();
        let mean = |key: &str| row[key]["mean"].as_f64().map_or("–".to_string(), measure::number);
        // A String takes every line.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} |",
            word("title"),
            word("family"),
            probes(row, "trained").join(" | "),
            probes(row, "untrained").join(", "),
            ["rank_me", "epochs", "samples_per_second", "peak_megabytes"].map(mean).join(" | "),
        );
    }
    if let Some(pixels) = rows.iter().find(|row| !row["scores"]["pixels"]["linear"].is_null()) {
        let _ =
            writeln!(text, "| pixels | – | {} | – | – | – | – | – |", probes(pixels, "pixels").join(" | "));
    }
    text + &worse_than_untrained(rows) + &beside_lightly(rows)
}

/// Features that spread over fewer dimensions have collapsed.
const COLLAPSED: f64 = 2.0;

/// What is wrong with a method's features, if anything is.
pub fn illness(row: &Value) -> Option<String> {
    match row["rank_me"]["mean"].as_f64() {
        None => return Some("has features that are not finite".to_owned()),
        Some(rank) if rank < COLLAPSED => {
            return Some(format!("collapsed: RankMe {rank:.2}, below {COLLAPSED}"));
        }
        Some(_) => {}
    }
    let above = |probe: &str| {
        let mean = |who: &str| row["scores"][who][probe]["mean"].as_f64();
        matches!((mean("trained"), mean("untrained")), (Some(a), Some(b)) if a > b)
    };
    let learned = PROBES.into_iter().any(above);
    (!learned).then(|| format!("has no probe above its untrained encoder's: {}", line(row)))
}

/// Names what a method should never be: below its own untrained encoder, or collapsed.
fn worse_than_untrained(rows: &[Value]) -> String {
    let mut found = Vec::new();
    for row in rows {
        let title = row["title"].as_str().unwrap_or_default();
        for (probe, name) in PROBES.into_iter().zip(["linear", "ten labels", "k-NN"]) {
            let mean = |who: &str| row["scores"][who][probe]["mean"].as_f64();
            if let (Some(trained), Some(untrained)) = (mean("trained"), mean("untrained"))
                && trained < untrained
            {
                found.push(format!("{title} ({name})"));
            }
        }
        if row["rank_me"]["mean"].as_f64().is_some_and(|rank| rank < COLLAPSED) {
            found.push(format!("{title} (collapsed)"));
        }
    }
    match found.as_slice() {
        [] => "\nNo method is below its untrained encoder, and none has collapsed.\n".to_owned(),
        found => format!("\nBelow the untrained encoder: {}.\n", found.join(", ")),
    }
}

/// Ours beside lightly's, as far as both were measured.
fn beside_lightly(rows: &[Value]) -> String {
    let mut text = String::new();
    for theirs in rows {
        let Some(name) = theirs["method"].as_str().and_then(|name| name.strip_prefix("lightly-")) else {
            continue;
        };
        let Some(ours) = rows.iter().find(|row| row["method"] == name) else { continue };
        if text.is_empty() {
            text.push_str(
                "\nOurs minus lightly's, in points; ± is the spread of the difference, from both sides' seeds.\n\n\
                 | method | linear | ten labels a class | k-NN | images/s |\n|---|---|---|---|---|\n",
            );
        }
        let differences = PROBES.map(|probe| {
            let of = |row: &Value, key: &str| row["scores"]["trained"][probe][key].as_f64();
            let both = |key: &str| Some((of(ours, key)?, of(theirs, key)?));
            match (both("mean"), both("std")) {
                (Some((a, b)), Some((s, t))) => {
                    format!("{:+.1} ± {:.1}", 100.0 * (a - b), 100.0 * s.hypot(t))
                }
                _ => "–".to_owned(),
            }
        });
        let rate = |row: &Value| row["samples_per_second"]["mean"].as_f64().unwrap_or(f64::NAN);
        let _ = writeln!(
            text,
            "| {} | {} | {:.1}x |",
            ours["title"].as_str().unwrap_or(name),
            differences.join(" | "),
            rate(ours) / rate(theirs)
        );
    }
    text
}

/// The linear probes as bars with intervals.
fn bars(rows: &[Value]) -> Vec<plot::Bar> {
    let bar = |row: &Value| {
        let linear = &row["scores"]["trained"]["linear"];
        Some(plot::Bar {
            name: row["title"].as_str()?.to_string(),
            value: linear["mean"].as_f64()?,
            spread: linear["std"].as_f64().unwrap_or(0.0),
            mark: row["scores"]["untrained"]["linear"]["mean"].as_f64(),
        })
    };
    rows.iter().filter_map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::quality::entrant;

    fn outcome(linear: f64) -> Outcome {
        Outcome {
            scores: json!({ "trained": { "linear": { "mean": linear } } }),
            health: json!({ "trained": { "rank_me": 10.0 } }),
            encoder: Some("convnet".to_owned()),
            epochs: 3.0,
            samples_per_second: 100.0,
            seconds: 1.0,
            peak_megabytes: 2.0,
        }
    }

    fn rows() -> Vec<Value> {
        let methods = [json!({ "name": "byol", "title": "BYOL", "family": "f" })];
        let ours = entrant::ours(&methods, &[json!({ "name": "byol" })], &[]);
        let theirs = entrant::peers(&methods, &[]);
        vec![row(&ours[0], &[outcome(0.8), outcome(0.9)]), row(&theirs[0], &[outcome(0.7), outcome(0.7)])]
    }

    #[test]
    fn collapse_and_probes_none_of_which_is_above_the_untrained_encoders_are_illnesses() {
        let row = |rank: f64, trained: [f64; 3]| {
            let probes = |means: [f64; 3]| json!({ "linear": { "mean": means[0] }, "few10": { "mean": means[1] }, "knn": { "mean": means[2] } });
            json!({
                "title": "T", "method": "t", "rank_me": { "mean": rank },
                "scores": { "trained": probes(trained), "untrained": probes([0.6; 3]) },
            })
        };
        assert_eq!(illness(&row(30.0, [0.5, 0.59, 0.61])), None);
        assert_eq!(illness(&row(1.2, [0.9; 3])).unwrap(), "collapsed: RankMe 1.20, below 2");
        let low = illness(&row(30.0, [0.58, 0.6, 0.59])).unwrap();
        assert!(low.starts_with("has no probe above its untrained encoder's: T: 58.0"), "{low}");
        let mut silent = row(30.0, [0.9; 3]);
        silent["scores"] = json!({});
        assert!(illness(&silent).unwrap().starts_with("has no probe"), "without scores nothing is shown");
        silent["rank_me"] = Value::Null;
        assert_eq!(illness(&silent).unwrap(), "has features that are not finite");
    }

    #[test]
    fn a_row_is_the_mean_over_seeds() {
        let row = &rows()[0];
        let linear = &row["scores"]["trained"]["linear"];
        assert!((linear["mean"].as_f64().unwrap() - 0.85).abs() < 1e-12);
        assert!((linear["std"].as_f64().unwrap() - 0.005_f64.sqrt()).abs() < 1e-12);
        assert_eq!((percent(linear).as_str(), &row["scores"]["pixels"]["knn"]), ("85.0 ± 7.1", &Value::Null));
        assert_eq!(
            (&row["encoder"], &row["rank_me"]["mean"], &row["lidar"]),
            (&json!("convnet"), &json!(10.0), &Value::Null)
        );
        assert_eq!(percent(&Value::Null), "–");
        assert_eq!(line(row), "BYOL: 85.0 ± 7.1, –, – (untrained –, –, –)");
    }

    #[test]
    fn what_learned_nothing_is_named() {
        let row = |trained: f64, rank: f64| {
            json!({
                "title": "M", "rank_me": { "mean": rank },
                "scores": {
                    "trained": { "linear": { "mean": trained }, "knn": { "mean": 0.9 } },
                    "untrained": { "linear": { "mean": 0.7 }, "knn": { "mean": 0.8 } },
                },
            })
        };
        let fine = "\nNo method is below its untrained encoder, and none has collapsed.\n";
        assert_eq!(worse_than_untrained(&[row(0.8, 30.0)]), fine);
        let found = worse_than_untrained(&[row(0.6, 1.5)]);
        assert_eq!(found, "\nBelow the untrained encoder: M (linear), M (collapsed).\n");
    }

    #[test]
    fn ours_stands_beside_lightlys_with_the_spread_of_both() {
        let text = beside_lightly(&rows());
        assert!(text.ends_with("| BYOL | +15.0 ± 7.1 | – | – | 1.0x |\n"), "{text}");
        assert_eq!(beside_lightly(&rows()[..1]), "");
    }
}
