//! Looking at graphs.

pub(crate) mod text;
