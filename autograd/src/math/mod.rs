//! SIMD math: the scalar functions behind the elementwise ops, written once for a scalar and for a
//! vector of lanes, so that the definition and the kernels of every instruction set round alike.

pub(crate) mod fold;
mod lanes;
mod single;

pub use lanes::Lanes;
pub(crate) use lanes::{Float, GELU_CUBE, GELU_TWICE, Mask, TANH_HALF, Wide};
