//! Datasets, mini-batches, file formats and data augmentation.

mod array_file;
mod augment;
#[cfg(feature = "csv")]
mod columns;
mod dataset;
#[cfg(feature = "digits")]
mod digits;
mod file_dataset;
#[cfg(feature = "csv")]
mod frame;
mod idx;
mod mnist;
mod npy;
pub mod order;
mod source;
#[cfg(feature = "csv")]
mod table;
#[cfg(feature = "csv")]
mod target;

pub use array_file::ArrayFile;
pub use augment::random_shift;
#[cfg(feature = "csv")]
pub use columns::{Categories, Column, ColumnKind, ColumnOptions, Columns, Encoded, Missing};
pub use dataset::{Batches, Dataset};
#[cfg(feature = "digits")]
pub use digits::digits;
pub use file_dataset::FileDataset;
#[cfg(feature = "csv")]
pub use frame::{Cell, Frame};
pub use idx::{Idx, read_idx};
pub use mnist::read_mnist;
pub use npy::read_npy;
pub(crate) use source::checked_batch;
pub use source::{Batch, Source, Subset, batches, split};
#[cfg(feature = "csv")]
pub use table::{Targets, read_csv, read_csv_as};
#[cfg(feature = "csv")]
pub use target::{Target, TargetKind, Task};
