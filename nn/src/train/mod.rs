//! Training: the loop, what it measures, and how it shows where it is.

pub(crate) mod evaluate;
pub(crate) mod history;
pub(crate) mod progress;
pub(crate) mod trainer;
