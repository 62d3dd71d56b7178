//! Inspection of programs, plans and gradients.

mod anomaly;
pub(crate) mod gradients;
pub(crate) mod picture;
pub(crate) mod plan;
pub(crate) mod profile;
pub(crate) mod saved;
#[cfg(feature = "svg")]
mod svg;
mod text;
