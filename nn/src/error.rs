//! What can go wrong outside of graphs: files and settings.

use std::{fmt, path::Path};

/// The result of reading data, saving, loading or training.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of training or of reading and writing files. It reads as one clear message.
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// An operation on tensors.
    Graph(autograd::Error),
    /// A file that cannot be read or written, or does not hold what it should.
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// A setting or data that make no sense.
    Invalid(String),
}

impl Error {
    pub(crate) fn file(path: &Path, message: impl fmt::Display) -> Error {
        Error::File { path: path.display().to_string(), message: message.to_string() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Error {
        Error::Invalid(message.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Error::Graph(e) => e.fmt(f),
            Error::File { path, message } => write!(f, "{path}: {message}"),
            Error::Invalid(message) => f.write_str(message),
        }
    }
}

// `main() -> Result<(), Error>` prints errors with Debug: let it read like Display.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<autograd::Error> for Error {
    fn from(e: autograd::Error) -> Error {
        Error::Graph(e)
    }
}
