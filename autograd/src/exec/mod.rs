//! Running: from a plan to values.

mod crew;
pub(crate) mod fetch;
pub(crate) mod function;
pub(crate) mod gemm;
pub(crate) mod kernels;
pub(crate) mod memory;
pub(crate) mod reference;
pub(crate) mod run;
mod stage;
