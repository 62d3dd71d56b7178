//! Differentiation: from a graph to a larger graph.

pub(crate) mod check;
pub(crate) mod checkpoint;
mod custom;
mod forward;
pub(crate) mod functional;
pub(crate) mod gradients;
pub(crate) mod jacobian;
mod pieces;
pub(crate) mod reverse;
#[cfg(feature = "sparse")]
pub(crate) mod sparse;
