//! Layers.

pub(crate) mod activation;
pub(crate) mod dropout;
pub(crate) mod embedding;
pub(crate) mod linear;
pub(crate) mod mlp;
pub(crate) mod norm;
pub(crate) mod normalize;
mod number_type;
pub(crate) mod sequential;
pub(crate) mod shape;
