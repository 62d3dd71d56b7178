//! Users' elementwise ops inside of kernels: their formula, in a loop that was compiled with their
//! crate.

use super::arch::Vectors;
use crate::{
    op::{DynOp, Lowering, elementwise::MAX_INPUTS, lowering::Scalar},
    plan::tiling::MAX_VECTOR_GROUP,
};
use std::slice;

/// The formula of an op, for one element of each input.
pub(super) fn of_one<T: Vectors>(op: &dyn DynOp, x: [T; MAX_INPUTS]) -> T {
    let mut out = [T::default()];
    apply(op, x.each_ref().map(slice::from_ref), &mut out);
    out[0]
}

/// The formula of an op, for `n` elements of each input.
///
/// # Safety
/// They can be read, and as many results written, at most [`MAX_VECTOR_GROUP`]. The results may
/// take the place of an input, but overlap none otherwise. Nobody else uses the memory of the
/// results.
pub(super) unsafe fn of_many<T: Vectors>(
    op: &dyn DynOp,
    to: *mut T,
    x: [*const T; MAX_INPUTS],
    n: usize,
) {
    // copied, because the user's loop gets slices, which must not overlap
    let mut copies = [[T::default(); MAX_VECTOR_GROUP]; MAX_INPUTS];
    for (copy, x) in copies.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        copy[..n].copy_from_slice(unsafe { slice::from_raw_parts(x, n) });
    }
    // SAFETY: the caller's promise.
    let out = unsafe { slice::from_raw_parts_mut(to, n) };
    apply(op, copies.each_ref().map(|copy| &copy[..n]), out);
}

fn apply<T: Vectors>(op: &dyn DynOp, x: [&[T]; MAX_INPUTS], out: &mut [T]) {
    // the planner has asked the same, so that there is no other answer
    if let Lowering::Elementwise(Scalar::Custom(custom)) = op.lowering() {
        T::custom_loop(custom, x, out);
    }
}
