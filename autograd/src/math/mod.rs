//! SIMD math: the scalar functions behind the elementwise ops, written once for a scalar and for a
//! vector of lanes, so that the definition and the kernels of every instruction set round alike.

mod arithmetic;
mod constants;
mod error_function;
mod exponential;
pub(crate) mod fold;
mod lanes;
mod logarithm;
mod trigonometric;

pub(crate) use constants::Float;
pub use lanes::Lanes;
pub(crate) use lanes::{GELU_CUBE, GELU_TWICE, Mask, TANH_HALF, Wide};
