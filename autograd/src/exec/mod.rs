//! Running: from a plan to values.

pub(crate) mod fetch;
pub(crate) mod gemm;
mod pool;
pub(crate) mod reference;
pub(crate) mod run;
