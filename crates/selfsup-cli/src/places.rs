//! Where a command writes: what cannot be written, or would be lost, is refused before anything is computed.

use anyhow::{Result, ensure};
use std::path::{Path, PathBuf};

/// Refuses a file to be written whose folder is not there.
///
/// # Errors
/// With the folder.
pub fn check_folder_of(file: &Path) -> Result<()> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "--out {}: there is no folder {}", file.display(), folder.display());
    Ok(())
}

/// Refuses files to be written of which one is there, unless they may be replaced.
///
/// # Errors
/// With the first that is.
pub fn check_free(files: &[PathBuf], overwrite: bool) -> Result<()> {
    for file in files {
        ensure!(
            overwrite || file.symlink_metadata().is_err(),
            "{} is there already; name another, or add --overwrite",
            file.display()
        );
    }
    Ok(())
}

/// The places of files in a folder to be written, after a check that it is no file and that they are free.
///
/// # Errors
/// With the folder, or the first file that is there.
pub fn free_in(folder: &Path, names: &[&str], overwrite: bool) -> Result<Vec<PathBuf>> {
    ensure!(
        !folder.exists() || folder.is_dir(),
        "{}: is a file where a folder is to be; name another with --out",
        folder.display()
    );
    let files: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    check_free(&files, overwrite)?;
    Ok(files)
}

/// Refuses a folder that holds a run or features that were judged, whose report would be lost.
///
/// # Errors
/// With the folder.
pub fn check_no_report(folder: &Path) -> Result<()> {
    let theirs = ["config.toml", "report.json"].iter().any(|name| folder.join(name).exists());
    ensure!(!theirs, "{}: holds a report that would be lost; name another with --out", folder.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_unless_it_may_be_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.csv");
        assert_eq!(free_in(folder.path(), &["x.csv"], false).unwrap(), std::slice::from_ref(&file));
        std::fs::write(&file, "mine").unwrap();
        let refused = free_in(folder.path(), &["y.csv", "x.csv"], false).unwrap_err().to_string();
        assert!(refused.ends_with("x.csv is there already; name another, or add --overwrite"), "{refused}");
        assert!(free_in(folder.path(), &["x.csv"], true).is_ok());
        let refused = free_in(&file, &["y.csv"], true).unwrap_err().to_string();
        assert!(refused.contains("x.csv: is a file where a folder is to be"), "{refused}");
    }

    #[test]
    fn a_file_needs_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            check_folder_of(&folder.path().join("x.csv")).is_ok() && check_folder_of(Path::new("x")).is_ok()
        );
        let refused = check_folder_of(&folder.path().join("no/x.csv")).unwrap_err().to_string();
        assert!(refused.contains("there is no folder ") && refused.ends_with("no"), "{refused}");
    }
}
