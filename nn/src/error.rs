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
    /// A step of a training that could not be done; no parameter was changed by it.
    Step {
        /// Counted from 1.
        epoch: usize,
        /// Counted from 1 in the epoch.
        step: usize,
        /// What went wrong.
        error: autograd::Error,
    },
}

impl Error {
    pub(crate) fn file(path: &Path, message: impl fmt::Display) -> Error {
        Error::File {
            path: path.display().to_string(),
            message: message.to_string(),
        }
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
            Error::Step { epoch, step, error } => write!(f, "epoch {epoch}, step {step}: {error}"),
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

/// Room for so many elements; an error if there is no memory for them.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>> {
    let mut room = Vec::new();
    room.try_reserve_exact(count)
        .map_err(|_| Error::invalid(format!("there is no memory for {count} numbers")))?;
    Ok(room)
}

/// Runs code of a user (a module, a loss) and turns a panic into an error.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|cause| {
        let said = cause
            .downcast_ref::<&str>()
            .copied()
            .or(cause.downcast_ref::<String>().map(String::as_str));
        Error::invalid(format!(
            "the model or the loss panicked: {}",
            said.unwrap_or("(no message)")
        ))
    })
}
