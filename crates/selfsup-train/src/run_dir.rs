//! The folder of a run: who may write to it, and what stands in it from the start.
//!
//! ```text
//! runs/NAME/ config.toml  env.json  metrics.jsonl  events.out.tfevents.*  train.log  checkpoints/  replay/
//! ```

use crate::loggers::EVENTS;
use selfsup_core::state::{WRITING, write_whole};
use selfsup_core::{Error, Result};
use serde_json::{Map, Value};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a run leaves in its folder, and what starting over removes; anything else is the user's.
const OURS: [&str; 13] = [
    "config.toml",
    "env.json",
    "metrics.jsonl",
    "train.log",
    "checkpoints",
    "replay",
    "exported",
    "report.json",
    "report.html",
    "answers.json",
    "plots",
    "tokenizer.json",
    "labels.csv",
];

/// Folders of probes of the run, known by the first of their files. Data of the user's may well lie under such a name: of what is in
/// them, these files alone are ours.
const PROBES: [(&str, [&str; 3]); 2] = [
    ("segmentation", ["dense.json", "report.html", "plots"]),
    ("detection", ["dense.json", "report.html", "plots"]),
];

/// What to do with a folder that holds a run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Go on with that run.
    Resume,
    /// Remove that run and start over. What is no run of ours is refused all the same.
    Overwrite,
}

/// The folder of a run, held by one process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    lock: File,
}

/// The lock is given up by name: a program that another thread is just starting holds a copy of every open file until it runs.
impl Drop for RunDir {
    fn drop(&mut self) {
        // Where that fails, closing the file does it.
        let _ = self.lock.unlock();
    }
}

impl RunDir {
    /// Opens the folder for writing, makes it where it is missing, and locks it until the value is dropped.
    ///
    /// # Errors
    /// When another process writes to it, when it is not empty and `existing` refuses, when there is nothing to resume,
    /// or when the system refuses.
    pub fn open(path: &Path, existing: Existing) -> Result<Self> {
        let used = match fs::read_dir(path) {
            Ok(mut entries) => {
                entries.any(|e| e.is_ok_and(|e| !is_scratch(&e.file_name().to_string_lossy())))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => false,
            Err(e) => return Err(Error::io(path)(e)),
        };
        match existing {
            Existing::Refuse if used => {
                return Err(Error::data(
                    path,
                    "is not empty; resume the run in it, overwrite it, or name another folder",
                ));
            }
            Existing::Overwrite if used && !began_here(path) => {
                return Err(Error::data(
                    path,
                    "holds something other than a run (env.json does not name selfsup); remove it by hand, \
                     or name another folder",
                ));
            }
            Existing::Resume if !path.join("config.toml").is_file() => {
                return Err(Error::data(path, "holds no run to resume: config.toml is missing"));
            }
            _ => fs::create_dir_all(path).map_err(Error::io(path))?,
        }
        let lock_path = path.join(".lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(Error::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::data(path, "another process is writing to this run"));
            }
            Err(TryLockError::Error(e)) => return Err(Error::io(&lock_path)(e)),
        }
        let run = RunDir { path: path.to_owned(), lock };
        if existing == Existing::Overwrite {
            run.clear()?;
        }
        Ok(run)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what the run was started with. `env.json` comes first and names selfsup, its version unless
    /// `environment` says more: by that a folder is known as a run, which may be overwritten.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn describe(&self, config: &str, environment: &Map<String, Value>) -> Result<()> {
        let mut environment = environment.clone();
        environment.entry("selfsup").or_insert_with(|| env!("CARGO_PKG_VERSION").into());
        let json =
            serde_json::to_vec_pretty(&environment).map_err(|e| Error::Other(format!("env.json: {e}")))?;
        write_whole(&self.path.join("env.json"), &json)?;
        write_whole(&self.path.join("config.toml"), config.as_bytes())
    }

    /// Adds a line to `train.log`.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn log(&self, line: &str) -> Result<()> {
        let path = self.path.join("train.log");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(&path))?;
        writeln!(file, "{line}").map_err(Error::io(&path))
    }

    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path))? {
            let path = entry.map_err(Error::io(&self.path))?.path();
            let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            let ours = OURS.contains(&name.as_str()) || name.starts_with(EVENTS) || name.starts_with(WRITING);
            if ours {
                remove(&path)?;
            }
        }
        for (name, files) in PROBES {
            let folder = self.path.join(name);
            // One that is linked to lies elsewhere.
            if folder.is_symlink() || !folder.join(files[0]).is_file() {
                continue;
            }
            for file in files.map(|file| folder.join(file)).iter().filter(|file| file.exists()) {
                remove(file)?;
            }
            let mut left = fs::read_dir(&folder).map_err(Error::io(&folder))?;
            if left.next().is_none() {
                fs::remove_dir(&folder).map_err(Error::io(&folder))?;
            }
        }
        Ok(())
    }
}

/// Removes a file, or a folder with all that is in it; of a link the link alone.
fn remove(path: &Path) -> Result<()> {
    let is_folder = path.is_dir() && !path.is_symlink();
    let removed = if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.map_err(Error::io(path))
}

/// Whether a file is the lock, or one that a killed program was writing.
fn is_scratch(name: &str) -> bool {
    name == ".lock" || name.starts_with(WRITING)
}

/// Whether the folder holds a run, as its `env.json` tells.
fn began_here(path: &Path) -> bool {
    let environment = fs::read(path.join("env.json")).ok();
    environment
        .and_then(|text| serde_json::from_slice::<Value>(&text).ok())
        .is_some_and(|environment| environment.get("selfsup").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_folder_is_refused_unless_told_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs/a");
        RunDir::open(&path, Existing::Refuse).unwrap().describe("seed = 1", &Map::new()).unwrap();
        let error = RunDir::open(&path, Existing::Refuse).unwrap_err().to_string();
        assert!(error.contains("runs/a: is not empty; resume"), "{error}");
        RunDir::open(&path, Existing::Resume).unwrap();
        assert!(path.join("config.toml").exists());
        fs::write(path.join("notes.txt"), "the user's").unwrap();
        RunDir::open(&path, Existing::Overwrite).unwrap();
        assert!(!path.join("config.toml").exists() && path.join("notes.txt").exists());
    }

    #[test]
    fn what_was_found_of_a_run_goes_with_it_and_what_the_user_put_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        RunDir::open(root.path(), Existing::Refuse).unwrap().describe("", &Map::new()).unwrap();
        for folder in ["segmentation/plots", "detection/masks", "boxes"] {
            fs::create_dir_all(at(folder)).unwrap();
        }
        for file in [
            "report.json",
            "answers.json",
            "segmentation/dense.json",
            "segmentation/report.html",
            "segmentation/plots/miou.png",
            "detection/masks/0.png",
            "detection/report.html",
            "boxes/dense.json",
        ] {
            fs::write(at(file), "{}").unwrap();
        }
        RunDir::open(root.path(), Existing::Overwrite).unwrap();
        for gone in ["report.json", "answers.json", "segmentation"] {
            assert!(!at(gone).exists(), "{gone}");
        }
        // No probe wrote this folder, and that one is called as the user liked.
        for kept in ["detection/masks/0.png", "detection/report.html", "boxes/dense.json"] {
            assert!(at(kept).exists(), "{kept}");
        }
        // A probe wrote into this one, where the user's masks lie.
        fs::write(at("detection/dense.json"), "{}").unwrap();
        fs::write(at("env.json"), r#"{"selfsup": "1"}"#).unwrap();
        RunDir::open(root.path(), Existing::Overwrite).unwrap();
        assert!(at("detection/masks/0.png").exists());
        assert!(!at("detection/dense.json").exists() && !at("detection/report.html").exists());
    }

    #[test]
    fn a_folder_of_something_else_is_never_cleared() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("checkpoints")).unwrap();
        fs::write(root.path().join("config.toml"), "of another program").unwrap();
        let refusal = || RunDir::open(root.path(), Existing::Overwrite).unwrap_err().to_string();
        for environment in [None, Some("{"), Some(r#"{"python": "3.12"}"#)] {
            if let Some(text) = environment {
                fs::write(root.path().join("env.json"), text).unwrap();
            }
            assert!(refusal().contains("holds something other than a run"), "{}", refusal());
        }
        assert!(root.path().join("checkpoints").exists() && root.path().join("config.toml").exists());
        assert!(!root.path().join(".lock").exists());
    }

    #[test]
    fn what_a_kill_left_before_the_first_file_may_be_overwritten() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(".lock"), "").unwrap();
        fs::write(root.path().join(".writing-env"), "{").unwrap();
        RunDir::open(root.path(), Existing::Overwrite).unwrap();
        assert!(!root.path().join(".writing-env").exists());
        RunDir::open(root.path(), Existing::Refuse).unwrap();
    }

    #[test]
    fn nothing_to_resume_and_a_file_in_the_way_are_named() {
        let root = tempfile::tempdir().unwrap();
        let error = RunDir::open(&root.path().join("none"), Existing::Resume).unwrap_err().to_string();
        assert!(error.contains("none: holds no run to resume"), "{error}");
        assert!(!root.path().join("none").exists());
        let file = root.path().join("file");
        fs::write(&file, "").unwrap();
        let error = RunDir::open(&file, Existing::Refuse).unwrap_err().to_string();
        assert!(error.contains("file: "), "{error}");
    }

    #[test]
    fn a_second_writer_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let held = RunDir::open(root.path(), Existing::Refuse).unwrap();
        let error = RunDir::open(root.path(), Existing::Overwrite).unwrap_err().to_string();
        assert!(error.contains("another process is writing"), "{error}");
        drop(held);
        RunDir::open(root.path(), Existing::Refuse).unwrap();
    }

    #[test]
    fn a_copy_of_the_file_in_a_program_that_is_being_started_keeps_no_lock() {
        let root = tempfile::tempdir().unwrap();
        let held = RunDir::open(root.path(), Existing::Refuse).unwrap();
        let copy = held.lock.try_clone().unwrap();
        drop(held);
        RunDir::open(root.path(), Existing::Refuse).unwrap();
        drop(copy);
    }
}
