//! What can go wrong, and what the reader of the message can do about it.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a set could not be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no set of that name.
    #[error("no data set is named {name:?}; there are: {known}")]
    UnknownSet {
        /// The name that was asked for.
        name: String,
        /// Every name there is, separated by commas.
        known: String,
    },
    /// No place for the cache is known.
    #[error("no folder for the cache is known: set SELFSUP_CACHE (or HOME) to a folder that can be written")]
    NoCacheDir,
    /// The file system said no.
    #[error("cannot {doing} {}: {cause}", path.display())]
    Io {
        /// What was being done, such as `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system answered.
        cause: io::Error,
    },
    /// A program that a source needs is not on this machine.
    #[error("{program} is not installed: {advice}")]
    MissingProgram {
        /// Its name.
        program: String,
        /// How to get it.
        advice: &'static str,
    },
    /// A program ended with an error.
    #[error("`{command}` failed ({status}): {output}")]
    Program {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A server did not give the file.
    #[error("{address}: {reason}")]
    Web {
        /// The address that was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// An archive or a download looks hostile or broken, and nothing of it was kept.
    #[error("{archive} is refused: {reason}")]
    Refused {
        /// The archive or address.
        archive: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A source lacks a file that the set needs.
    #[error("{wanted} is not in {place}: another version of the package is no substitute")]
    MissingMember {
        /// The file or folder that was looked for.
        wanted: String,
        /// The archive or folder that was searched.
        place: String,
    },
    /// A file is not the one that was recorded.
    #[error(
        "{file} has the SHA-256 {found} where {expected} was recorded: it is another version, or it was damaged"
    )]
    Checksum {
        /// The file or folder, by its name in the set.
        file: String,
        /// The recorded digest.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// Every source of a part failed.
    #[error("{set} could not be had from any of its sources:{}", list(attempts))]
    NoSource {
        /// The set's name.
        set: String,
        /// Each source in the order of trying, with its error.
        attempts: Vec<(String, Error)>,
    },
}

impl Error {
    /// For `map_err`: names what was done to which path.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io { doing, path, cause }
    }

    /// A refused archive or address.
    pub(crate) fn refused(archive: impl Display, reason: impl Display) -> Self {
        Self::Refused { archive: archive.to_string(), reason: reason.to_string() }
    }
}

fn list(attempts: &[(String, Error)]) -> String {
    attempts.iter().fold(String::new(), |list, (source, error)| list + &format!("\n  - {source}: {error}"))
}
