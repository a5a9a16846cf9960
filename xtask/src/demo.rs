//! `cargo xtask demo`: from images to a report of what was learned, with the program as a user runs it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::run::{cargo, program, root, stage};
use crate::setup;

const RECIPE: &str = "simclr-fashion-mnist";

/// What makes the run a matter of seconds: it shows that everything works, and nothing about quality.
const SMOKE: &[&str] = &["train.epochs=1", "data.limit=1024", "data.test_limit=1000"];

/// In the run's folder once pretraining has ended, so that a second run skips it.
const PRETRAINED: &str = ".pretrained";

#[derive(clap::Args)]
pub struct Arguments {
    /// A run of seconds that shows that every step works
    #[arg(long)]
    smoke: bool,
    /// The seed of the run
    #[arg(long)]
    seed: Option<u64>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    setup::run(&setup::Arguments::default())?;
    stage(
        "building the program",
        &mut cargo(&["build", "--release", "-p", "selfsup-cli"]),
        "`cargo xtask doctor` says what this machine lacks",
    )?;
    eprintln!("==> fetching Fashion-MNIST");
    let images = selfsup_fetch::fetch(selfsup_fetch::find("fashion-mnist")?)?;
    eprintln!("    data: {}", images.display());

    let began = Instant::now();
    let kind = if arguments.smoke { "-smoke" } else { "" };
    let seed = arguments.seed.map_or(String::new(), |seed| format!("-seed{seed}"));
    let run = format!("runs/demo{kind}{seed}");
    let folder = root().join(&run);
    if folder.join(PRETRAINED).is_file() {
        eprintln!("==> pretraining is done already (delete {run} to repeat it)");
    } else {
        let mut pretrain = selfsup(&["pretrain", RECIPE, "--run", &run]);
        if has_entries(&folder.join("checkpoints")) {
            pretrain.arg("--resume");
        } else if has_entries(&folder) {
            // Stopped before there was anything to go on from.
            pretrain.arg("--overwrite");
        }
        for setting in SMOKE.iter().filter(|_| arguments.smoke) {
            pretrain.args(["--set", setting]);
        }
        if let Some(seed) = arguments.seed {
            pretrain.args(["--set", &format!("train.seed={seed}")]);
        }
        stage("pretraining", &mut pretrain, "the same command goes on where it stopped")?;
        fs::write(folder.join(PRETRAINED), "").with_context(|| format!("writing to {run}"))?;
    }
    let (scores, page) = (folder.join("report.json"), folder.join("report.html"));
    let advice = "the message above says what it lacks; the same command goes on from here";
    if !scores.is_file() {
        stage("evaluating", &mut selfsup(&["eval", &run]), advice)?;
    }
    if !page.is_file() {
        stage("writing the report", &mut selfsup(&["report", &run]), advice)?;
    }
    println!("\n{}", table(&scores)?);
    println!("report: {}", page.display());
    println!("pretraining, evaluation and report took {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}

fn has_entries(folder: &Path) -> bool {
    fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
}

fn selfsup(arguments: &[&str]) -> Command {
    let mut command = program("release", "selfsup");
    command.args(arguments);
    command
}

/// The scores of a report, as lines of text.
fn table(report: &Path) -> Result<String> {
    let text = fs::read_to_string(report).with_context(|| format!("reading {}", report.display()))?;
    let report: Value =
        serde_json::from_str(&text).with_context(|| format!("reading {}", report.display()))?;
    let mut lines =
        vec![format!("{:<22}{:>16}{:>16}{:>16}", "features", "linear", "10 labels/class", "k-NN")];
    for (key, name) in [("trained", "pretrained"), ("untrained", "untrained encoder"), ("pixels", "pixels")] {
        let cells = ["linear", "few10", "knn"].map(|probe| {
            let score = &report["scores"][key][probe];
            match (score["mean"].as_f64(), score["std"].as_f64(), score["n"].as_u64()) {
                (Some(mean), Some(std), Some(n)) if n > 1 => format!("{mean:.3} ± {std:.3}"),
                (Some(mean), ..) => format!("{mean:.3}"),
                _ => "-".to_string(),
            }
        });
        lines.push(format!("{name:<22}{:>16}{:>16}{:>16}", cells[0], cells[1], cells[2]));
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_shows_what_the_report_holds_and_a_dash_for_the_rest() {
        let path = std::env::temp_dir().join(format!("selfsup-report-{}.json", std::process::id()));
        let report = r#"{ "scores": { "trained": {
            "linear": { "mean": 0.871, "std": 0.0, "n": 1 },
            "few10": { "mean": 0.7412, "std": 0.0104, "n": 5 } } } }"#;
        fs::write(&path, report).unwrap();
        let table = table(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 4);
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(cells, ["pretrained", "0.871", "0.741", "±", "0.010", "-"]);
    }

    #[test]
    fn a_missing_report_is_named() {
        let message = format!("{:#}", table(Path::new("/nowhere/report.json")).unwrap_err());
        assert!(message.contains("/nowhere/report.json"), "{message}");
    }
}
