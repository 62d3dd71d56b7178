//! Data: datasets in memory, batches, and files.

mod augment;
mod dataset;
#[cfg(feature = "digits")]
mod digits;
mod idx;
mod mnist;

pub use augment::shift_images;
pub use dataset::{Batches, Dataset};
#[cfg(feature = "digits")]
pub use digits::digits;
pub use idx::{Idx, read_idx};
pub use mnist::mnist_folder;
