//! SHA-256 digests of files and folders, and the check of a set's files against them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::set::{Item, Set};

/// The size and SHA-256 of each file of a folder, by its path with `/` between the names.
pub(crate) type Files = BTreeMap<String, FileDigest>;

/// What is known of one file.
#[derive(Debug, Clone)]
pub(crate) struct FileDigest {
    pub(crate) size: u64,
    pub(crate) sha256: String,
}

/// Digests what passes through it.
#[derive(Default)]
pub(crate) struct Hasher {
    state: Sha256,
    size: u64,
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
        self.size += bytes.len() as u64;
    }

    pub(crate) fn finish(self) -> FileDigest {
        FileDigest { size: self.size, sha256: hex(&self.state.finalize()) }
    }
}

/// The SHA-256 of some bytes in hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The paths of all files below a folder, with their sizes.
fn list_folder(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.map_err(|error| Error::io("read", folder)(error.into()))?;
        if !entry.file_type().is_file() {
            continue;
        }
        let size = entry.metadata().map_err(|error| Error::io("read", entry.path())(error.into()))?.len();
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let names: Vec<_> = path.iter().map(|name| name.to_string_lossy()).collect();
        files.push((names.join("/"), size));
    }
    Ok(files)
}

/// Digests those files of a folder that belong to a set.
pub(crate) fn digest_folder(set: &Set, folder: &Path) -> Result<Files> {
    let mut listed = list_folder(folder)?;
    listed.retain(|(path, _)| {
        set.parts.iter().flat_map(|part| part.items).any(|item| item.holds(path).is_some())
    });
    let total = listed.iter().map(|(_, size)| size).sum();
    let mut progress = Progress::new(format!("checking {}", set.name), 0, Some(total));
    let mut files = Files::new();
    let mut buffer = vec![0; 1 << 16];
    for (path, _) in listed {
        let on_disk = folder.join(&path);
        let mut file = File::open(&on_disk).map_err(Error::io("open", &on_disk))?;
        let mut hasher = Hasher::default();
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    hasher.update(&buffer[..count]);
                    progress.add(count as u64);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", &on_disk)(error)),
            }
        }
        files.insert(path, hasher.finish());
    }
    progress.finish();
    Ok(files)
}

/// Checks that `files` holds each of `items` with the recorded digest. A text is checked where there is one:
/// no source brings it.
///
/// # Errors
/// [`Error::MissingMember`] naming `place`, or [`Error::Checksum`].
pub(crate) fn check(items: &[Item], files: &Files, place: &str) -> Result<()> {
    for item in items {
        let mut listing = String::new();
        let mut last = None;
        for (path, digest) in files {
            if let Some(rest) = item.holds(path) {
                // Writing to a String does not fail.
                let _ = writeln!(listing, "{}  {rest}", digest.sha256);
                last = Some(digest);
            }
        }
        let Some(last) = last else {
            if matches!(item, Item::Text { .. }) {
                continue;
            }
            return Err(Error::MissingMember { wanted: item.label(), place: place.to_string() });
        };
        let (found, expected) = match item {
            Item::File { sha256, .. } => (last.sha256.clone(), sha256.map(str::to_string)),
            Item::Folder { sha256: expected, .. } => {
                (sha256(listing.as_bytes()), expected.map(str::to_string))
            }
            Item::Text { text, .. } => (last.sha256.clone(), Some(sha256(text.as_bytes()))),
        };
        match expected {
            Some(expected) if expected != found => {
                return Err(Error::Checksum { file: item.label(), expected, found });
            }
            _ => {}
        }
    }
    Ok(())
}
