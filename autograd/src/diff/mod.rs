//! Differentiation: appends derivatives to a graph.

pub(crate) mod check;
pub(crate) mod checkpoint;
mod custom;
mod forward;
pub(crate) mod functional;
pub(crate) mod gradients;
pub(crate) mod jacobian;
pub(crate) mod reverse;
mod slices;
#[cfg(feature = "sparse")]
pub(crate) mod sparse;
