//! The error type of the crate.

use std::{fmt, path::Path};

/// The result type of the crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error in training, or in reading or writing files.
#[derive(Clone)]
#[non_exhaustive]
pub enum Error {
    /// An error of a tensor operation.
    Graph(autograd::Error),
    /// A file that cannot be read or written, or has unexpected contents.
    File {
        /// The path of the file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// An invalid setting or invalid data.
    Invalid(String),
    /// A training step that failed. It changed no parameter.
    Step {
        /// The epoch, counted from 1.
        epoch: usize,
        /// The step within the epoch, counted from 1.
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

// `main() -> Result<(), Error>` prints errors with `Debug`, which must be readable for users.
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

/// An empty vector with this capacity; an error if there is not enough memory.
pub(crate) fn reserve<T>(count: usize) -> Result<Vec<T>> {
    let mut elements = Vec::new();
    elements
        .try_reserve_exact(count)
        .map_err(|_| Error::invalid(format!("not enough memory for {count} elements")))?;
    Ok(elements)
}

/// Calls user code and turns a panic into an error, which says `what` panicked: "the loss".
pub(crate) fn catch<T>(what: &str, f: impl FnOnce() -> T) -> Result<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .copied()
            .or(panic.downcast_ref::<String>().map(String::as_str));
        Error::invalid(format!(
            "{what} panicked: {}",
            message.unwrap_or("(no message)")
        ))
    })
}
