use std::path::{Path, PathBuf};

/// The result of every fallible function of the selfsup libraries.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, with the file, field or argument that is to blame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor has another shape or kind than the function takes.
    #[error("{name}: expected {expected}, found {found}")]
    Shape {
        /// The argument's name.
        name: String,
        /// The shape or kind that would be right.
        expected: String,
        /// The shape or kind that came.
        found: String,
    },
    /// A configuration holds a value that cannot work.
    #[error("{field} = {value}: {expected}")]
    Config {
        /// The field, dotted from the top of the configuration.
        field: String,
        /// The value that was given.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A data file or folder cannot be used.
    #[error("{}: {problem}", path.display())]
    Data {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it and what would be right.
        problem: String,
    },
    /// A checkpoint or weight file does not fit the program that reads it.
    #[error("{}: {problem}", path.display())]
    State {
        /// The safetensors file.
        path: PathBuf,
        /// Which tensor differs, and how.
        problem: String,
    },
    /// A number stopped being finite.
    #[error("{what} is not finite: {detail}")]
    NonFinite {
        /// The quantity: loss, gradient or a parameter's name.
        what: String,
        /// Where it happened.
        detail: String,
    },
    /// The operating system refused a file operation.
    #[error("{}: {cause}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(tch::TchError),
    /// Anything else, in words that name the cause.
    #[error("{0}")]
    Other(String),
}

// The messages above hold what caused them, so that a chain of causes says nothing twice.
impl From<tch::TchError> for Error {
    fn from(cause: tch::TchError) -> Self {
        Error::Torch(cause)
    }
}

impl Error {
    /// A [`Error::Config`] for `field`.
    pub fn config(field: impl Into<String>, value: impl ToString, expected: impl Into<String>) -> Self {
        Error::Config { field: field.into(), value: value.to_string(), expected: expected.into() }
    }

    /// A [`Error::Data`] for `path`.
    pub fn data(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::Data { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// A [`Error::State`] for `path`.
    pub fn state(path: impl AsRef<Path>, problem: impl Into<String>) -> Self {
        Error::State { path: path.as_ref().to_owned(), problem: problem.into() }
    }

    /// Wraps an I/O error with the path it happened at: `read(p).map_err(Error::io(p))`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |cause| Error::Io { path, cause }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn a_chain_of_causes_says_nothing_twice() {
        let refused = || std::io::Error::other("no such file");
        for (error, message) in [
            (Error::io("few.csv")(refused()), "few.csv: no such file"),
            (Error::from(tch::TchError::Torch("bad".to_owned())), "libtorch: Internal torch error: bad"),
        ] {
            assert_eq!(error.to_string(), message);
            assert!(error.source().is_none(), "{error}");
        }
    }
}
