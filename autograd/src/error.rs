//! Errors: what went wrong, in which op, with which inputs, in which layer and on which line of the user's program.
//!
//! An [`OpError`] is what an op says about itself; the graph, which knows where the op stood, makes an [`Error`] of it.
//! Errors stick to the `Var` that could not be made and to all that is computed from it.

use crate::tensor::Type;
use std::{any::Any, convert::Infallible, fmt, panic::Location, sync::Arc};

/// The result of asking for a value.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an op cannot be done, in the op's own words: a message and, where there is an obvious way out, a hint.
///
/// ```
/// use autograd::OpError;
/// let e = OpError::new("wants a matrix, got 3 axes").hint("reshape it first");
/// let short: OpError = "wants a matrix".into();
/// # let _ = (e, short);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl OpError {
    /// An error with this message; it should name axes and sizes, not the op (the graph adds the op's name).
    #[cold]
    pub fn new(message: impl Into<String>) -> OpError {
        OpError {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds the one thing to try.
    #[cold]
    pub fn hint(mut self, hint: impl Into<String>) -> OpError {
        self.hint = Some(hint.into());
        self
    }

    /// Turns it into an [`Error`] that stands in no graph.
    #[track_caller]
    pub(crate) fn at_caller(self, op: &'static str) -> Error {
        self.at(op, Location::caller())
    }

    /// As [`at_caller`](OpError::at_caller), from within closures, which have no caller to tell.
    pub(crate) fn at(self, op: &'static str, location: &'static Location<'static>) -> Error {
        Error::new(
            op,
            self,
            Place {
                location: Some(location),
                ..Place::default()
            },
        )
    }
}

impl From<String> for OpError {
    fn from(message: String) -> OpError {
        OpError::new(message)
    }
}

impl From<&str> for OpError {
    fn from(message: &str) -> OpError {
        OpError::new(message)
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OpError {}

/// Where an error happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    pub inputs: Vec<Type>,
    pub scope: String,
    pub made_at: Option<&'static Location<'static>>,
    pub location: Option<&'static Location<'static>>,
}

/// An error with all that helps to find its cause. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    op: &'static str,
    what: OpError,
    place: Place,
}

impl Error {
    #[cold]
    pub(crate) fn new(op: &'static str, what: OpError, place: Place) -> Error {
        Error(Arc::new(Inner { op, what, place }))
    }

    /// The operation that could not be done, such as `matmul`.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.what.message
    }

    /// The one thing to try, where there is one.
    pub fn hint(&self) -> Option<&str> {
        self.0.what.hint.as_deref()
    }

    /// The scope path in which it happened, such as `mlp.1.linear`; empty outside all scopes.
    pub fn scope(&self) -> &str {
        &self.0.place.scope
    }

    /// The line of the program that asked for the operation.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.place.location
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Inner { op, what, place } = &*self.0;
        write!(f, "{op}: {}", what.message)?;
        if !place.inputs.is_empty() {
            let inputs: Vec<String> = place.inputs.iter().map(Type::to_string).collect();
            write!(f, "\n  inputs: {}", inputs.join(", "))?;
        }
        if !place.scope.is_empty() {
            write!(f, "\n  in: {}", place.scope)?;
            if let Some(made) = place.made_at {
                write!(f, " (made at {made})")?;
            }
        }
        if let Some(location) = place.location {
            write!(f, "\n  at: {location}")?;
        }
        if let Some(hint) = &what.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

// `main() -> Result<(), Error>` prints errors with Debug: let it read like Display.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

impl From<Infallible> for Error {
    fn from(never: Infallible) -> Error {
        match never {}
    }
}

/// Runs code of a user (a custom op, a closure) and turns a panic into an error.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, OpError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(panicked)
}

/// What a panic says.
#[cold]
fn panicked(cause: Box<dyn Any + Send>) -> OpError {
    let said = match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(said), _) => said,
        (_, Some(said)) => said.as_str(),
        _ => "(no message)",
    };
    OpError::new(format!("panicked: {said}"))
}
