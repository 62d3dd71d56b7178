//! Kernels: plain Rust over vectors, compiled for several instruction sets ([`arch`]), one of which
//! is picked at run time.

#![allow(unsafe_code)] // vectors in memory, and instructions that not every processor has

mod arch;
mod booleans;
mod caches;
mod columns;
mod custom;
mod fold;
mod functions;
pub(crate) mod fused;
mod lines;
mod matvec;
mod pack;
pub(crate) mod scalar;
mod steps;
pub(crate) mod tile;
mod vector;

use crate::op::pointwise::Function;
pub(crate) use arch::Vectors;

/// A function of one number, of each number of an array, with the bits that it has in fused
/// kernels.
pub(crate) fn apply<T: Vectors, const N: usize>(function: Function, x: &mut [T; N]) {
    const { assert!(N.is_multiple_of(crate::plan::tiling::MAX_VECTOR_GROUP)) }
    let (to, from) = (x.as_mut_ptr(), x.as_ptr());
    // SAFETY: the numbers are whole vectors, since those have a power of two of them; the table is
    // for this processor.
    unsafe { T::table().functions[function as usize](to, [from; 3], N) }
}
