//! Layers, one a file.

pub(crate) mod activation;
pub(crate) mod dropout;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod sequential;
