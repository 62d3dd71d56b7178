//! What the examples share. They are programs: see the README.

pub mod terminal;

/// The directory with the MNIST files of this repository.
pub const MNIST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data/mnist");
