//! Where fetched files lie, and how two processes keep out of each other's way.

use std::env;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::progress::say;

/// The root of the cache: `SELFSUP_CACHE`, else `selfsup` in `XDG_CACHE_HOME`, else `~/.cache/selfsup`.
///
/// # Errors
/// [`Error::NoCacheDir`] when none of them is set.
pub fn cache_dir() -> Result<PathBuf> {
    let folder = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let root = folder("SELFSUP_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|cache| cache.join("selfsup")))
        .or_else(|| folder("HOME").or_else(|| folder("USERPROFILE")).map(|home| home.join(".cache/selfsup")))
        .ok_or(Error::NoCacheDir)?;
    std::path::absolute(&root).map_err(Error::io("find", &root))
}

/// Held while something in the cache is being changed; released when dropped or when the process dies.
pub(crate) struct Lock {
    file: File,
}

/// By name, as a program that another thread is just starting holds a copy of the file until it runs.
impl Drop for Lock {
    fn drop(&mut self) {
        // Where that fails, closing the file does it.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Waits until no other process holds the lock of that name.
    pub(crate) fn acquire(cache: &Path, name: &str) -> Result<Self> {
        let folder = cache.join("locks");
        make_folder(&folder)?;
        let path = folder.join(format!("{}.lock", name.replace('/', "-")));
        let file = File::options().create(true).append(true).open(&path).map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say(&format!("another process is fetching {name}: waiting for it"));
                file.lock().map_err(Error::io("lock", &path))?;
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", &path)(source)),
        }
        Ok(Self { file })
    }
}

/// Makes a folder and those above it.
pub(crate) fn make_folder(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(Error::io("create the folder", path))
}
