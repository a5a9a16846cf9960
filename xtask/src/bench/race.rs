//! The time to lightly's quality: lightly's pretraining of the demo's task, and ours by a shorter recipe, one after the
//! other on the same data, both judged by `selfsup eval`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use super::measure::{Bench, Line, cores, number};
use super::rows::Row;
use crate::peers;
use crate::run::{program, stage};

/// Epochs of lightly, those of the demo's recipe.
const THEIR_EPOCHS: f64 = 30.0;
/// Ours: fewer epochs, and the encoder's products in bfloat16.
const OUR_EPOCHS: f64 = 24.0;

/// One side: how long it pretrained, and what came of it.
struct Finish {
    seconds: f64,
    /// Linear, ten labels a class, k-NN.
    scores: [f64; 3],
}

/// Runs both, and says in the line what each reached.
///
/// # Errors
/// When a side fails.
pub fn run(bench: &Bench, row: &'static Row) -> Result<Vec<Line>> {
    let folder = bench.data.join("race");
    let ours = ours(bench, &folder.join("ours"))?;
    let mut line = Line {
        row: row.name,
        shape: format!("{}; ours: {}", row.shape, ours.shown()),
        unit: row.unit,
        peer: None,
        ours: ours.seconds,
        theirs: None,
        ratio: None,
        limit: None,
    };
    if let Some(python) = &bench.peers {
        let theirs = theirs(bench, python, &folder.join("theirs"))?;
        let ratio = theirs.seconds / ours.seconds;
        line.shape = format!("{}; theirs: {}", line.shape, theirs.shown());
        line.peer = row.peers.first().map(|setting| (setting.peer, setting.name));
        line.theirs = Some(theirs.seconds);
        line.ratio = Some([ratio; 3]);
    }
    Ok(vec![line])
}

fn epochs(bench: &Bench, whole: f64) -> String {
    (whole * bench.scale).ceil().to_string()
}

fn ours(bench: &Bench, run: &Path) -> Result<Finish> {
    let mut command = program("release", "selfsup");
    command.args(["pretrain", "simclr-fashion-mnist", "--overwrite", "--run"]).arg(run);
    command.args(["--set", &format!("train.epochs={}", epochs(bench, OUR_EPOCHS))]);
    command.args(["--set", "encoder.precision=bfloat16"]);
    stage("pretraining by ours", &mut command, "the message above says why")?;
    judge(program("release", "selfsup").arg("eval").arg(run))?;
    let report = read(&run.join("report.json"))?;
    Finish::new(&report["run"]["training_seconds"], &report)
}

fn theirs(bench: &Bench, python: &Path, out: &Path) -> Result<Finish> {
    let mut command = peers::script(python, "benches/peers/quality.py");
    command.args(["--method", "simclr", "--epochs", &epochs(bench, THEIR_EPOCHS), "--data"]).arg(&bench.data);
    command.arg("--threads").arg(cores().to_string()).arg("--out").arg(out);
    stage("pretraining by lightly", &mut command, "the message above says why")?;
    judge(program("release", "selfsup").args(["eval", "--features"]).arg(out))?;
    let log = read(&out.join("log.json"))?;
    Finish::new(&log["seconds"], &read(&out.join("report.json"))?)
}

fn judge(command: &mut Command) -> Result<()> {
    stage("evaluating", command, "the message above says what it lacks")
}

fn read(path: &Path) -> Result<Value> {
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

impl Finish {
    fn new(seconds: &Value, report: &Value) -> Result<Finish> {
        let score = |probe: &str| {
            let mean = report["scores"]["trained"][probe]["mean"].as_f64();
            mean.with_context(|| format!("report.json: no scores.trained.{probe}.mean"))
        };
        Ok(Finish {
            seconds: seconds.as_f64().context("the time of pretraining was not noted")?,
            scores: [score("linear")?, score("few10")?, score("knn")?],
        })
    }

    fn shown(&self) -> String {
        let [linear, few, knn] = self.scores.map(|score| format!("{score:.3}"));
        format!("{linear} / {few} / {knn} in {} s", number(self.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_side_is_shown_by_its_scores_and_time_and_needs_them() {
        let report = json!({ "scores": { "trained": {
            "linear": { "mean": 0.8751 }, "few10": { "mean": 0.74 }, "knn": { "mean": 0.82 },
        } } });
        let finish = Finish::new(&json!(67.04), &report).unwrap();
        assert_eq!(finish.shown(), "0.875 / 0.740 / 0.820 in 67.0 s");
        let error = Finish::new(&json!(1.0), &json!({})).err().unwrap().to_string();
        assert_eq!(error, "report.json: no scores.trained.linear.mean");
    }
}
