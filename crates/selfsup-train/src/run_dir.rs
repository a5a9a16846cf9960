//! The folder of a run: who may write to it, and what stands in it from the start.
//!
//! ```text
//! runs/NAME/ config.toml  env.json  metrics.jsonl  events.out.tfevents.*  train.log  checkpoints/  replay/
//! ```

use selfsup_core::state::write_whole;
use selfsup_core::{Error, Result};
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What a run leaves in its folder, and what starting over removes; anything else is the user's.
const OURS: [&str; 11] = [
    "config.toml",
    "env.json",
    "metrics.jsonl",
    "train.log",
    "checkpoints",
    "replay",
    "exported",
    "report.json",
    "report.html",
    "plots",
    "tokenizer.json",
];

/// What to do with a folder that holds a run already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it.
    Refuse,
    /// Go on with that run.
    Resume,
    /// Remove that run and start over.
    Overwrite,
}

/// The folder of a run, held by one process at a time.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Opens the folder for writing, makes it where it is missing, and locks it until the value is dropped.
    ///
    /// # Errors
    /// When another process writes to it, when it is not empty and `existing` refuses, when there is nothing to resume,
    /// or when the system refuses.
    pub fn open(path: &Path, existing: Existing) -> Result<Self> {
        let used =
            fs::read_dir(path).map(|mut entries| entries.any(|e| e.is_ok_and(|e| e.file_name() != ".lock")));
        let used = match used {
            Ok(used) => used,
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
        let run = RunDir { path: path.to_owned(), _lock: lock };
        if existing == Existing::Overwrite {
            run.clear()?;
        }
        Ok(run)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what the run was started with.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn describe(&self, config: &str, environment: &Value) -> Result<()> {
        let json =
            serde_json::to_vec_pretty(environment).map_err(|e| Error::Other(format!("env.json: {e}")))?;
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
            if !OURS.contains(&name.as_str()) && !name.starts_with("events.out.tfevents.") {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(Error::io(&path))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_used_folder_is_refused_unless_told_otherwise() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("runs/a");
        RunDir::open(&path, Existing::Refuse).unwrap().describe("seed = 1", &json!({})).unwrap();
        let error = RunDir::open(&path, Existing::Refuse).unwrap_err().to_string();
        assert!(error.contains("runs/a: is not empty; resume"), "{error}");
        RunDir::open(&path, Existing::Resume).unwrap();
        assert!(path.join("config.toml").exists());
        fs::write(path.join("notes.txt"), "the user's").unwrap();
        RunDir::open(&path, Existing::Overwrite).unwrap();
        assert!(!path.join("config.toml").exists() && path.join("notes.txt").exists());
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
}
