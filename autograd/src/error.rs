//! Errors: what is wrong, in which op, with which inputs, in which layer and on which line of the
//! user's program.
//!
//! An [`OpError`] is what an op reports. The graph adds the node's inputs, scope and source line
//! and makes an [`Error`] of it. The error is stored in the `Var` of the failed operation and in
//! all `Var`s computed from it.

use crate::{lines, tensor::Type};
use std::{any::Any, convert::Infallible, fmt, panic::Location, sync::Arc};

/// The result of computing a value.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an op cannot be computed: a message and, where the fix is obvious, a hint.
///
/// ```
/// use autograd::OpError;
/// let e = OpError::new("expected a matrix, got 3 axes").hint("reshape it first");
/// let short: OpError = "expected a matrix".into();
/// # let _ = (e, short);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpError {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl OpError {
    /// An error with this message; it should name axes and sizes, not the op (the graph adds the
    /// op's name).
    #[cold]
    pub fn new(message: impl Into<String>) -> OpError {
        OpError {
            message: message.into(),
            hint: None,
        }
    }

    /// Adds a hint: the most likely fix.
    #[cold]
    pub fn hint(mut self, hint: impl Into<String>) -> OpError {
        self.hint = Some(hint.into());
        self
    }

    /// Turns it into an [`Error`] that belongs to no graph.
    #[track_caller]
    pub(crate) fn at_caller(self, op: &'static str) -> Error {
        self.at(op, Location::caller())
    }

    /// As [`at_caller`](OpError::at_caller), for closures, which do not see the caller.
    pub(crate) fn at(self, op: &'static str, location: &'static Location<'static>) -> Error {
        Error::new(
            op,
            self,
            Place {
                location: Some(lines::or_entry(location)),
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

/// An error with what helps to find its cause. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    op: &'static str,
    cause: OpError,
    place: Place,
}

impl Error {
    #[cold]
    pub(crate) fn new(op: &'static str, cause: OpError, place: Place) -> Error {
        Error(Arc::new(Inner { op, cause, place }))
    }

    /// The operation that failed, such as `matmul`.
    pub fn op(&self) -> &'static str {
        self.0.op
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.0.cause.message
    }

    /// The most likely fix, if there is an obvious one.
    pub fn hint(&self) -> Option<&str> {
        self.0.cause.hint.as_deref()
    }

    /// The scope path in which it happened, such as `mlp.1.linear`; empty outside of all scopes.
    pub fn scope(&self) -> &str {
        &self.0.place.scope
    }

    /// The source line of the operation.
    pub fn location(&self) -> Option<&'static Location<'static>> {
        self.0.place.location
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Inner { op, cause, place } = &*self.0;
        match *op {
            "fail" => write!(f, "{}", cause.message)?, // of a function without a name
            op => write!(f, "{op}: {}", cause.message)?,
        }
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
        if let Some(hint) = &cause.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

// `main() -> Result<(), Error>` prints errors with Debug: make it the same as Display.
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

/// Runs user code (a custom op, a closure) and turns a panic into an error.
pub(crate) fn catch<T>(f: impl FnOnce() -> T) -> Result<T, OpError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(f)).map_err(panicked)
}

/// The message of a panic.
#[cold]
fn panicked(cause: Box<dyn Any + Send>) -> OpError {
    let message = match (cause.downcast_ref::<&str>(), cause.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message.as_str(),
        _ => "(no message)",
    };
    OpError::new(format!("panicked: {message}"))
}
