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
use steps::Location;

/// A function of the first `n` numbers of a slice, in place, with the bits that it has in fused
/// kernels. The numbers up to the next multiple of a vector group are overwritten as well, and must
/// be there.
pub(crate) fn apply<T: Vectors>(function: Function, x: &mut [T], n: usize) {
    let (table, start) = (T::table(), x.as_mut_ptr());
    assert!(n.next_multiple_of(table.group) <= x.len());
    // SAFETY: checked just now; a group is whole vectors. The table is for this processor.
    unsafe { table.functions[function as usize](start, [Location::block(start); 3], n) }
}
