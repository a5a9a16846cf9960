//! `metrics.jsonl`: one JSON object a line, in the order of steps.

use selfsup_core::state::write_whole;
use selfsup_core::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The numbers of a logged step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs done, with the part of the running one.
    pub epoch: f64,
    /// The learning rate of the step.
    pub lr: f64,
    /// Samples a second since the last line; 0 where nothing was timed.
    pub samples_per_second: f64,
    /// Seconds since the program began to train.
    pub seconds: f64,
    /// `loss`, its parts, `gradient_norm`: means over the steps since the last line. And what the monitor measured.
    #[serde(flatten)]
    pub values: serde_json::Map<String, Value>,
}

/// The open file.
#[derive(Debug)]
pub struct MetricsFile {
    path: PathBuf,
    file: File,
}

impl MetricsFile {
    /// Opens `metrics.jsonl` in `run` and drops the lines after `step`, which a run that goes on from there writes again.
    ///
    /// # Errors
    /// When the system refuses, or a line other than the last, which a crash may have cut short, is no such object.
    pub fn open(run: &Path, step: u64) -> Result<Self> {
        let path = run.join("metrics.jsonl");
        if path.exists() {
            let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
            let mut kept = String::new();
            let mut lines = text.lines().enumerate().peekable();
            while let Some((i, line)) = lines.next() {
                match parse(&path, i, line) {
                    Ok(metrics) if metrics.step <= step => {
                        kept.push_str(line);
                        kept.push('\n');
                    }
                    Ok(_) => {}
                    // A line that a crash cut short is the last one and comes after every checkpoint.
                    Err(_) if lines.peek().is_none() => {}
                    Err(e) => return Err(e),
                }
            }
            if kept.len() != text.len() {
                write_whole(&path, kept.as_bytes())?;
            }
        }
        let file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        Ok(MetricsFile { path, file })
    }

    /// Appends a line.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&mut self, metrics: &Metrics) -> Result<()> {
        let mut line = serde_json::to_string(metrics).map_err(|e| Error::Other(format!("metrics: {e}")))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))
    }
}

/// Reads the lines of `metrics.jsonl` in `run`; none when there is no such file.
///
/// # Errors
/// When a line is no metrics object; the message gives its number.
pub fn read_metrics(run: &Path) -> Result<Vec<Metrics>> {
    let path = run.join("metrics.jsonl");
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(&path).map_err(Error::io(&path))?;
    text.lines().enumerate().map(|(i, line)| parse(&path, i, line)).collect()
}

fn parse(path: &Path, i: usize, line: &str) -> Result<Metrics> {
    serde_json::from_str(line).map_err(|e| Error::data(path, format!("line {}: {e}", i + 1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(step: u64) -> Metrics {
        let values = serde_json::Map::from_iter([("loss".to_owned(), Value::from(0.1 + 0.2))]);
        Metrics { step, epoch: 0.5, lr: 0.1, samples_per_second: 0.0, seconds: 1.0, values }
    }

    #[test]
    fn lines_come_back_and_those_after_the_resumed_step_are_dropped() {
        let run = tempfile::tempdir().unwrap();
        let mut file = MetricsFile::open(run.path(), 0).unwrap();
        for step in [10, 20, 30] {
            file.write(&metrics(step)).unwrap();
        }
        assert_eq!(read_metrics(run.path()).unwrap().len(), 3);
        let cut = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap() + "{\"step\": 3";
        fs::write(run.path().join("metrics.jsonl"), cut).unwrap();
        assert!(read_metrics(run.path()).unwrap_err().to_string().contains("line 4"));
        MetricsFile::open(run.path(), 20).unwrap().write(&metrics(30)).unwrap();
        assert_eq!(read_metrics(run.path()).unwrap(), [metrics(10), metrics(20), metrics(30)]);
    }

    #[test]
    fn a_bad_line_before_others_is_named_and_nothing_is_dropped() {
        let run = tempfile::tempdir().unwrap();
        let path = run.path().join("metrics.jsonl");
        let line = |step| serde_json::to_string(&metrics(step)).unwrap();
        let text = format!("{}\nnonsense\n{}\n", line(10), line(20));
        fs::write(&path, &text).unwrap();
        let error = MetricsFile::open(run.path(), 20).unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: line 2"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}
