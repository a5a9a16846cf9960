//! `cargo xtask bench quality`: every method pretrained for the same time and judged in the same way.
//!
//! How many epochs a budget holds is measured once for each recipe. Runs lie in `runs/quality`; what is done is not done
//! again, and a run that was stopped is taken up, so that the table can grow over several sittings.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};

use super::{plot, table};
use crate::run::{cargo, program, root, stage};
use crate::setup;

#[derive(clap::Args)]
pub struct Arguments {
    /// Only the recipes whose names contain this
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// The set to learn from, in place of the recipes' own: a name or a path
    #[arg(long, value_name = "NAME_OR_PATH")]
    data: Option<String>,
    /// The time for pretraining each, in seconds
    #[arg(long, default_value_t = 120)]
    budget: u64,
    /// The seeds of each
    #[arg(long, default_value_t = 3)]
    seeds: u64,
}

/// The epochs by which a recipe's speed is measured: some of each of its stretches.
const TRIAL: u64 = 4;
/// The recipe that stands for SimCLR; it is not named by its method.
const SIMCLR: &str = "simclr-fashion-mnist";
/// Between these stands the table in the page.
const MARKS: [&str; 2] =
    ["<!-- written by cargo xtask bench quality -->", "<!-- end of the quality table -->"];

/// What a finished run came to.
struct Outcome {
    scores: Value,
    health: Value,
    samples_per_second: f64,
    seconds: f64,
    peak_megabytes: f64,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.budget == 0 || arguments.seeds == 0 {
        bail!("--budget and --seeds: at least 1 each");
    }
    setup::run(&setup::Arguments::default())?;
    stage(
        "building the program",
        &mut cargo(&["build", "--release", "-p", "selfsup-cli"]),
        "`cargo xtask doctor` says what this machine lacks",
    )?;
    let methods = listed("methods")?;
    let mut recipes = recipes(&methods, &listed("recipes")?, arguments.only.as_deref())?;
    if arguments.data.is_none() {
        // A recipe without a set of its own is for colour images of the user's.
        recipes.retain(|(recipe, _)| text_of(recipe).is_ok_and(|text| text.contains("\nsource = ")));
    }
    let set = arguments.data.as_deref().unwrap_or("fashion-mnist");
    let set = Path::new(set).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let folder = root().join("runs/quality").join(format!("{set}-{}s", arguments.budget));
    let (mut found, mut failed) = (Vec::new(), Vec::new());
    for (recipe, method) in &recipes {
        match measured(recipe, method, &folder.join(recipe), arguments) {
            Ok(row) => {
                println!("{}", line(&row));
                found.push(row);
                write(&found, &set, &folder, arguments)?;
            }
            Err(error) => {
                eprintln!("    {recipe} is left out: {error:#}");
                failed.push(recipe.as_str());
            }
        }
    }
    if !failed.is_empty() {
        bail!("not measured, as said above: {}", failed.join(", "));
    }
    Ok(())
}

/// All seeds of a recipe, as far as they are not done yet.
fn measured(recipe: &str, method: &Value, folder: &Path, arguments: &Arguments) -> Result<Value> {
    let epochs = epochs(recipe, folder, arguments)?;
    let mut outcomes = Vec::new();
    for seed in 0..arguments.seeds {
        outcomes.push(outcome(recipe, &folder.join(format!("seed-{seed}")), seed, epochs, arguments)?);
    }
    Ok(row(recipe, method, epochs, &outcomes))
}

/// A list that the program prints.
fn listed(what: &str) -> Result<Vec<Value>> {
    let output =
        program("release", "selfsup").args(["list", what, "--json"]).output().context("selfsup list")?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).with_context(|| format!("selfsup list {what} --json printed {text:?}"))
}

/// The recipe of every method on images.
fn recipes(methods: &[Value], recipes: &[Value], only: Option<&str>) -> Result<Vec<(String, Value)>> {
    let shipped = |name: &str| recipes.iter().any(|recipe| recipe["name"] == name);
    let mut chosen = Vec::new();
    for method in methods {
        let name = method["name"].as_str().unwrap_or_default();
        let recipe = if name == "simclr" { SIMCLR } else { name };
        if shipped(recipe) && only.is_none_or(|only| recipe.contains(only)) {
            chosen.push((recipe.to_string(), method.clone()));
        }
    }
    if chosen.is_empty() {
        bail!("--only {}: no recipe of a method on images", only.unwrap_or_default());
    }
    Ok(chosen)
}

/// A shipped recipe as its file has it.
fn text_of(recipe: &str) -> Result<String> {
    let path = root().join("crates/selfsup-cli/recipes").join(format!("{recipe}.toml"));
    fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The epochs that the budget holds. What was measured with another recipe or other data is thrown away.
fn epochs(recipe: &str, folder: &Path, arguments: &Arguments) -> Result<u64> {
    let file = folder.join("epochs.json");
    let data = arguments.data.as_ref().map(|data| fs::canonicalize(data).unwrap_or_else(|_| data.into()));
    let made_with = json!({ "recipe": text_of(recipe)?, "data": data });
    if let Ok(text) = fs::read_to_string(&file) {
        let value: Value = serde_json::from_str(&text).with_context(|| file.display().to_string())?;
        if value["made_with"] == made_with {
            return value["epochs"].as_u64().with_context(|| format!("{}: no epochs", file.display()));
        }
        eprintln!("    {recipe} or its data changed: measuring it anew");
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    let trial = folder.join("trial");
    let mut command = pretrain(recipe, &trial, 0, TRIAL, arguments);
    command.arg("--overwrite");
    stage("measuring the speed", &mut command, "the message above says why")?;
    let epochs = epochs_in(arguments.budget, seconds(&trial)?);
    fs::remove_dir_all(&trial).with_context(|| trial.display().to_string())?;
    let note = json!({ "epochs": epochs, "budget_seconds": arguments.budget, "made_with": made_with });
    fs::write(&file, format!("{note:#}\n")).with_context(|| file.display().to_string())?;
    Ok(epochs)
}

fn epochs_in(budget: u64, trial_seconds: f64) -> u64 {
    ((budget * TRIAL) as f64 / trial_seconds.max(1e-3)).round().max(1.0) as u64
}

/// The seconds of training that a run's log tells.
fn seconds(run: &Path) -> Result<f64> {
    let path = run.join("metrics.jsonl");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let last = text.lines().last().context("the log is empty")?;
    let value: Value = serde_json::from_str(last).with_context(|| path.display().to_string())?;
    value["seconds"].as_f64().with_context(|| format!("{}: no seconds", path.display()))
}

fn pretrain(recipe: &str, run: &Path, seed: u64, epochs: u64, arguments: &Arguments) -> Command {
    let mut command = program("release", "selfsup");
    command.args(["pretrain", recipe, "--run"]).arg(run);
    if let Some(data) = &arguments.data {
        command.args(["--data", data]);
    }
    command.args(["--set", &format!("train.seed={seed}"), "--set", &format!("train.epochs={epochs}")]);
    command
}

/// Pretrains and judges a run, or what is left of it.
fn outcome(recipe: &str, run: &Path, seed: u64, epochs: u64, arguments: &Arguments) -> Result<Outcome> {
    let (report, memory) = (run.join("report.json"), run.join("memory.json"));
    let noted: Value = fs::read_to_string(&memory)
        .ok()
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    if noted["done"] != true {
        let mut command = pretrain(recipe, run, seed, epochs, arguments);
        let begun = fs::read_dir(run.join("checkpoints")).is_ok_and(|mut entries| entries.next().is_some());
        command.arg(if begun { "--resume" } else { "--overwrite" });
        eprintln!("==> pretraining {recipe}, seed {seed}, {epochs} epochs");
        let before = if begun { noted["peak_megabytes"].as_f64().unwrap_or(0.0) } else { 0.0 };
        watched(&mut command, before, &memory)?;
    }
    if !report.is_file() {
        let mut command = program("release", "selfsup");
        command.arg("eval").arg(run);
        stage("evaluating", &mut command, "the message above says what it lacks")?;
    }
    let read = |path: &PathBuf| -> Result<Value> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        serde_json::from_str(&text).with_context(|| path.display().to_string())
    };
    let (report, memory) = (read(&report)?, read(&memory)?);
    Ok(Outcome {
        samples_per_second: report["run"]["samples_per_second"].as_f64().unwrap_or(f64::NAN),
        seconds: report["run"]["training_seconds"].as_f64().unwrap_or(f64::NAN),
        peak_megabytes: memory["peak_megabytes"].as_f64().unwrap_or(f64::NAN),
        scores: report["scores"].clone(),
        health: report["health"].clone(),
    })
}

/// Runs a program and notes the peak of its resident memory in megabytes, as far as the system tells, in `file`: of a run
/// that was taken up, the peak of all its parts.
fn watched(command: &mut Command, before: f64, file: &Path) -> Result<()> {
    let note = |peak: f64, done: bool| {
        let text = format!("{:#}\n", json!({ "peak_megabytes": peak, "done": done }));
        fs::write(file, text).with_context(|| file.display().to_string())
    };
    let began = Instant::now();
    let mut child: Child = command.spawn().context("cannot start selfsup")?;
    let status = PathBuf::from(format!("/proc/{}/status", child.id()));
    let mut peak = before;
    loop {
        if let Some(code) = child.try_wait()? {
            if !code.success() {
                bail!("pretraining failed ({code}); the same command goes on where it stopped");
            }
            eprintln!("    done in {:.0} s", began.elapsed().as_secs_f64());
            return note(peak, true);
        }
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
        let now = kilobytes.unwrap_or(0.0) * 1024.0 / 1e6;
        // Not into a folder that the program has yet to make or to empty.
        if now > 1.02 * peak && file.with_file_name("checkpoints").is_dir() {
            peak = now;
            note(peak, false)?;
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Mean and standard deviation over seeds of a number in the reports.
fn over_seeds(outcomes: &[Outcome], number: impl Fn(&Outcome) -> Option<f64>) -> Value {
    let values: Vec<f64> = outcomes.iter().filter_map(number).collect();
    if values.is_empty() {
        return Value::Null;
    }
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    json!({ "mean": mean, "std": variance.sqrt(), "n": values.len() })
}

/// A row of `docs/quality.json`.
fn row(recipe: &str, method: &Value, epochs: u64, outcomes: &[Outcome]) -> Value {
    let scores = |who: &str| -> Value {
        let probes = ["linear", "few10", "knn"].map(|probe| {
            let mean = |o: &Outcome| o.scores[who][probe]["mean"].as_f64();
            (probe.to_string(), over_seeds(outcomes, mean))
        });
        Value::Object(probes.into_iter().collect::<Map<_, _>>())
    };
    let health = |name: &str| over_seeds(outcomes, |o| o.health["trained"][name].as_f64());
    json!({
        "method": method["name"], "title": method["title"], "family": method["family"], "recipe": recipe,
        "epochs": epochs,
        "scores": { "trained": scores("trained"), "untrained": scores("untrained"), "pixels": scores("pixels") },
        "std": health("std"), "rank_me": health("rank_me"),
        "samples_per_second": over_seeds(outcomes, |o| Some(o.samples_per_second)),
        "seconds": over_seeds(outcomes, |o| Some(o.seconds)),
        "peak_megabytes": over_seeds(outcomes, |o| Some(o.peak_megabytes)),
    })
}

fn percent(score: &Value) -> String {
    match (score["mean"].as_f64(), score["std"].as_f64(), score["n"].as_u64()) {
        (Some(mean), Some(std), Some(n)) if n > 1 => format!("{:.1} ± {:.1}", 100.0 * mean, 100.0 * std),
        (Some(mean), ..) => format!("{:.1}", 100.0 * mean),
        _ => "–".to_string(),
    }
}

fn line(row: &Value) -> String {
    let of =
        |who: &str| ["linear", "few10", "knn"].map(|probe| percent(&row["scores"][who][probe])).join(", ");
    let title = row["title"].as_str().unwrap_or_default();
    format!("{title}: {} (untrained {})", of("trained"), of("untrained"))
}

/// Writes `docs/quality.json`, the plot, and the table of the page. Rows of methods that are not measured now stay.
///
/// A table of another set or budget is not thrown away for this one, which goes to the runs' folder then.
fn write(rows: &[Value], set: &str, folder: &Path, arguments: &Arguments) -> Result<()> {
    let json_path = root().join("docs/quality.json");
    let before: Value = match fs::read_to_string(&json_path) {
        Ok(text) => serde_json::from_str(&text).with_context(|| json_path.display().to_string())?,
        Err(_) => json!({}),
    };
    let same = before["data"] == set && before["budget_seconds"] == arguments.budget;
    if !same && before["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
        let path = folder.join("quality.json");
        let value = json!({ "data": set, "budget_seconds": arguments.budget, "rows": rows });
        fs::write(&path, format!("{value:#}\n")).with_context(|| path.display().to_string())?;
        println!("docs/quality.json is of another set or budget; these rows are in {}", path.display());
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
    let page = table::between(&page, MARKS, &markdown(&all, set, arguments)).with_context(|| {
        format!("{} has no place for the table: the lines {} and {}", page_path.display(), MARKS[0], MARKS[1])
    })?;
    let value = json!({ "data": set, "budget_seconds": arguments.budget, "rows": all });
    fs::write(&json_path, format!("{value:#}\n")).with_context(|| json_path.display().to_string())?;
    fs::write(root().join("docs/quality.svg"), plot::bars(&bars(&all))).context("docs/quality.svg")?;
    fs::write(&page_path, page).with_context(|| page_path.display().to_string())
}

fn markdown(rows: &[Value], set: &str, arguments: &Arguments) -> String {
    let mut text = format!(
        "{set}, {} s of pretraining each; the last epoch, probes on the test part; mean and standard deviation over \
         seeds. In the plot red marks are the same encoders untrained.\n\n![linear probe of every method](quality.svg)\n\n| method | family | linear | ten labels a class | k-NN | untrained (linear, ten, k-NN) | RankMe | \
         images/s | peak MB |\n|---|---|---|---|---|---|---|---|---|\n",
        arguments.budget
    );
    for row in rows {
        let word = |key: &str| row[key].as_str().unwrap_or("–").to_string();
        let mean = |key: &str| row[key]["mean"].as_f64().map_or("–".to_string(), super::measure::number);
        let trained = ["linear", "few10", "knn"].map(|probe| percent(&row["scores"]["trained"][probe]));
        let untrained = ["linear", "few10", "knn"].map(|probe| percent(&row["scores"]["untrained"][probe]));
        // A String takes every line.
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            word("title"),
            word("family"),
            trained.join(" | "),
            untrained.join(", "),
            mean("rank_me"),
            [mean("samples_per_second"), mean("peak_megabytes")].join(" | "),
        );
    }
    if let Some(first) = rows.first() {
        let pixels = ["linear", "few10", "knn"].map(|probe| percent(&first["scores"]["pixels"][probe]));
        let _ = writeln!(text, "| pixels | – | {} | – | – | – | – |", pixels.join(" | "));
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

    fn outcome(linear: f64) -> Outcome {
        Outcome {
            scores: json!({ "trained": { "linear": { "mean": linear } } }),
            health: json!({ "trained": { "rank_me": 10.0 } }),
            samples_per_second: 100.0,
            seconds: 1.0,
            peak_megabytes: 2.0,
        }
    }

    #[test]
    fn a_row_is_the_mean_over_seeds() {
        let method = json!({ "name": "m", "title": "M", "family": "f" });
        let row = row("m", &method, 3, &[outcome(0.8), outcome(0.9)]);
        let linear = &row["scores"]["trained"]["linear"];
        assert!((linear["mean"].as_f64().unwrap() - 0.85).abs() < 1e-12);
        assert!((linear["std"].as_f64().unwrap() - 0.005_f64.sqrt()).abs() < 1e-12);
        assert_eq!((percent(linear).as_str(), &row["scores"]["pixels"]["knn"]), ("85.0 ± 7.1", &Value::Null));
        assert_eq!(percent(&Value::Null), "–");
    }

    #[test]
    fn a_budget_holds_as_many_epochs_as_the_trial_says() {
        assert_eq!(epochs_in(120, 20.0), 24);
        assert_eq!(epochs_in(1, 100.0), 1);
    }

    #[test]
    fn every_method_on_images_has_its_recipe() {
        let methods = [json!({ "name": "simclr" }), json!({ "name": "byol" }), json!({ "name": "text" })];
        let shipped = [json!({ "name": SIMCLR }), json!({ "name": "byol" })];
        let names = |only| -> Vec<String> {
            recipes(&methods, &shipped, only).unwrap().into_iter().map(|(recipe, _)| recipe).collect()
        };
        assert_eq!(
            (names(None), names(Some("byo"))),
            (vec![SIMCLR.into(), "byol".into()], vec!["byol".into()])
        );
        let error = recipes(&methods, &shipped, Some("nobody")).unwrap_err().to_string();
        assert_eq!(error, "--only nobody: no recipe of a method on images");
    }
}
