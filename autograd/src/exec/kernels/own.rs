//! Users' elementwise ops inside of kernels: their formula, in a loop that was compiled where they
//! are.

use super::arch::Vectors;
use crate::op::{DynOp, Lowering, elementwise::MAX_INPUTS, lowering::Scalar};
use std::{cell::Cell, slice};

/// The formula of an op, for one element of each input.
pub(super) fn of_one<T: Vectors>(op: &dyn DynOp, x: [T; MAX_INPUTS]) -> T {
    let (x, out) = (x.map(|x| [Cell::new(x)]), [Cell::new(T::default())]);
    apply(op, x.each_ref().map(|x| &x[..]), &out);
    out[0].get()
}

/// The formula of an op, for `n` elements of each input.
///
/// # Safety
/// They can be read, and as many results written. The results may take the place of an input, but
/// overlap none otherwise. Nobody else writes the inputs meanwhile, or uses the results.
pub(super) unsafe fn of_many<T: Vectors>(
    op: &dyn DynOp,
    to: *mut T,
    x: [*const T; MAX_INPUTS],
    n: usize,
) {
    // SAFETY: the caller's promise; cells may be the same as others.
    let (x, out) = unsafe {
        let x = x.map(|x| slice::from_raw_parts(x.cast::<Cell<T>>(), n));
        (x, slice::from_raw_parts(to.cast::<Cell<T>>(), n))
    };
    apply(op, x, out);
}

fn apply<T: Vectors>(op: &dyn DynOp, x: [&[Cell<T>]; MAX_INPUTS], out: &[Cell<T>]) {
    // the planner has asked the same, so that there is no other answer
    if let Lowering::Elementwise(Scalar::Own(own)) = op.lowering() {
        T::own_loop(own, x, out);
    }
}
