//! The cells of a ladder: one arm with one draw of so many labels. Each is a file, there in whole or not at all, so that a
//! ladder can be stopped and goes on with what is missing.

use super::arm::Arm;
use anyhow::{Context, Result, bail, ensure};
use selfsup::core::state::write_whole;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cell {
    /// Which way of using labels.
    pub arm: Arm,
    /// How many labels.
    pub labels: usize,
    /// Which labels.
    pub draw: u64,
    /// What the training depends on.
    pub seed: u64,
}

impl Cell {
    /// What its files are called.
    pub fn name(&self) -> String {
        format!("{}-labels{}-draw{}-seed{}", self.arm.key(), self.labels, self.draw, self.seed)
    }
}

/// What came out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Which way of using labels.
    pub arm: Arm,
    /// How many labels were wanted.
    pub labels: usize,
    /// How many were given: more, where a proposal went on until every class was seen.
    pub given: usize,
    /// Which labels.
    pub draw: u64,
    /// What the training depended on.
    pub seed: u64,
    /// The share of the test samples that is classified rightly, at the end.
    pub accuracy: f64,
    /// How long it took.
    pub seconds: f64,
}

/// The folder that the cells lie in.
#[derive(Debug)]
pub struct Cells {
    folder: PathBuf,
}

impl Cells {
    /// Makes the folder, or opens it with what is there of the same ladder: `plan` tells what all cells share.
    ///
    /// # Errors
    /// When it holds another ladder, or something else.
    pub fn open(out: &Path, plan: &Value) -> Result<Cells> {
        let path = out.join("plan.json");
        if path.is_file() {
            let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let found: Value =
                serde_json::from_str(&text).with_context(|| format!("{} is broken", path.display()))?;
            if let Some(difference) = difference(&found, plan) {
                bail!("{} holds another ladder: {difference}; name another folder with --out", out.display());
            }
        } else {
            let empty = !out.exists() || out.is_dir() && fs::read_dir(out)?.next().is_none();
            ensure!(empty, "--out {}: a new or empty folder, or one with a ladder", out.display());
        }
        let folder = out.join("cells");
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        if !path.is_file() {
            write_whole(&path, serde_json::to_string_pretty(plan)?.as_bytes())?;
        }
        Ok(Cells { folder })
    }

    /// What came out of a cell; none where it is not done.
    ///
    /// # Errors
    /// When its file is broken.
    pub fn read(&self, cell: &Cell) -> Result<Option<Measured>> {
        let path = self.path(cell);
        if !path.is_file() {
            return Ok(None);
        }
        let broken = || format!("{} is broken: remove it, and it is measured again", path.display());
        let text = fs::read_to_string(&path).with_context(broken)?;
        Ok(Some(serde_json::from_str(&text).with_context(broken)?))
    }

    /// Keeps what came out.
    ///
    /// # Errors
    /// When the folder cannot be written to.
    pub fn write(&self, cell: &Cell, measured: &Measured) -> Result<()> {
        Ok(write_whole(&self.path(cell), serde_json::to_string_pretty(measured)?.as_bytes())?)
    }

    fn path(&self, cell: &Cell) -> PathBuf {
        self.folder.join(cell.name() + ".json")
    }
}

/// The first field in which two plans differ.
fn difference(found: &Value, wanted: &Value) -> Option<String> {
    let (Value::Object(found), Value::Object(wanted)) = (found, wanted) else {
        return (found != wanted).then(|| "its plan is of another form".to_owned());
    };
    let keys = found.keys().chain(wanted.keys());
    let differs = keys.into_iter().find(|key| found.get(*key) != wanted.get(*key))?;
    let of = |plan: &serde_json::Map<String, Value>| {
        plan.get(differs).map_or("nothing".to_owned(), Value::to_string)
    };
    if differs == DIGEST {
        return Some(match (found.get(DIGEST), wanted.get(DIGEST)) {
            (Some(found), Some(wanted)) => changed(found, wanted),
            _ => "it is of an earlier version, which did not write down what its data were".to_owned(),
        });
    }
    Some(format!("its {differs} is {}, not {}", of(found), of(wanted)))
}

/// The field of a plan that holds checksums.
const DIGEST: &str = "digest";

/// What checksums stand for, where they differ.
fn changed(found: &Value, wanted: &Value) -> String {
    let parts = [
        ("/train/names", "the names of the training images"),
        ("/train/labels", "the labels of the training images"),
        ("/train/pixels", "the pixels of the training images"),
        ("/test/names", "the names of the test images"),
        ("/test/labels", "the labels of the test images"),
        ("/test/pixels", "the pixels of the test images"),
        ("/checkpoint", "the checkpoint of the run"),
    ];
    let differing: Vec<&str> = parts
        .into_iter()
        .filter(|(place, _)| found.pointer(place) != wanted.pointer(place))
        .map(|(_, name)| name)
        .collect();
    format!("since it was begun there changed: {}", differing.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cell() -> Cell {
        Cell { arm: Arm::SslLinear, labels: 40, draw: 1, seed: 7 }
    }

    fn measured() -> Measured {
        Measured {
            arm: Arm::SslLinear,
            labels: 40,
            given: 40,
            draw: 1,
            seed: 7,
            accuracy: 0.71,
            seconds: 0.2,
        }
    }

    #[test]
    fn a_cell_is_kept_and_found_again() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("new");
        let cells = Cells::open(&out, &json!({ "data": "x" })).unwrap();
        assert_eq!(cells.read(&cell()).unwrap(), None);
        cells.write(&cell(), &measured()).unwrap();
        assert!(out.join("cells/ssl-linear-labels40-draw1-seed7.json").is_file());
        let again = Cells::open(&out, &json!({ "data": "x" })).unwrap();
        assert_eq!(again.read(&cell()).unwrap(), Some(measured()));
        assert_eq!(again.read(&Cell { draw: 2, ..cell() }).unwrap(), None);
        fs::write(out.join("cells/ssl-linear-labels40-draw1-seed7.json"), "{").unwrap();
        assert!(again.read(&cell()).unwrap_err().to_string().contains("is broken: remove it"));
    }

    #[test]
    fn data_that_changed_are_named() {
        let plan = |labels: &str, checkpoint: &str| {
            let part = |labels: &str| json!({ "names": "a", "labels": labels, "pixels": "b" });
            json!({ "digest": { "train": part(labels), "test": part("c"), "checkpoint": checkpoint } })
        };
        assert_eq!(difference(&plan("c", "d"), &plan("c", "d")), None);
        assert_eq!(
            difference(&plan("c", "d"), &plan("x", "y")).unwrap(),
            "since it was begun there changed: the labels of the training images, the checkpoint of the run"
        );
        let early = difference(&json!({}), &plan("c", "d")).unwrap();
        assert!(early.starts_with("it is of an earlier version"), "{early}");
    }

    #[test]
    fn another_ladder_and_other_files_are_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let out = place.path().join("ladder");
        Cells::open(&out, &json!({ "data": "x", "seed": 1 })).unwrap();
        let refusal = Cells::open(&out, &json!({ "data": "y", "seed": 1 })).unwrap_err().to_string();
        assert!(refusal.contains("holds another ladder: its data is \"x\", not \"y\""), "{refusal}");
        let refusal = Cells::open(place.path(), &json!({})).unwrap_err().to_string();
        assert!(refusal.contains("a new or empty folder, or one with a ladder"), "{refusal}");
        assert!(!place.path().join("cells").exists());
    }
}
