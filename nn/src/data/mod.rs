//! Data: datasets in memory, batches, and files.

mod dataset;
mod idx;
mod mnist;

pub use dataset::{Batches, Dataset};
pub use idx::{Idx, read_idx};
pub use mnist::mnist_folder;
