//! Datasets, mini-batches, file formats and data augmentation.

mod augment;
#[cfg(feature = "csv")]
mod columns;
mod dataset;
#[cfg(feature = "digits")]
mod digits;
#[cfg(feature = "csv")]
mod frame;
mod idx;
mod mnist;
pub mod order;
mod source;
#[cfg(any(feature = "csv", feature = "npy"))]
mod table;
#[cfg(feature = "csv")]
mod target;

pub use augment::random_shift;
#[cfg(feature = "csv")]
pub use columns::{Categories, Column, ColumnKind, ColumnOptions, Columns, Encoded, Missing};
pub use dataset::{Batches, Dataset};
#[cfg(feature = "digits")]
pub use digits::digits;
#[cfg(feature = "csv")]
pub use frame::{Cell, Frame};
pub use idx::{Idx, read_idx};
pub use mnist::read_mnist;
pub(crate) use source::checked_batch;
pub use source::{Batch, Source, Subset, batches, split};
#[cfg(feature = "npy")]
pub use table::read_npy;
#[cfg(feature = "csv")]
pub use table::{Targets, read_csv, read_csv_as};
#[cfg(feature = "csv")]
pub use target::{Target, TargetKind, Task};
