//! The transcendental functions, and others of many instructions: of many numbers in one go, out of line. There is one
//! compiled loop for each function, instruction set and number type, whatever kernels it is a part of.

use super::{steps::Register, vector::Vector};
use crate::op::elementwise::{Formula, MAX_INPUTS};
use std::ops::Range;

/// A function of registers' elements in a range, written to a register: the output, the inputs, the range.
pub(crate) type Function<T> = unsafe fn(Register<T>, [Register<T>; MAX_INPUTS], Range<usize>);

/// Computes `F` of the elements in a range, and of those that fill the last vector.
///
/// # Safety
/// The registers are good for them. The output may be one of the inputs, but overlaps none otherwise.
#[inline(always)]
pub(super) unsafe fn run<V: Vector, F: Formula>(
    to: Register<V::Elem>,
    [a, b, c]: [Register<V::Elem>; MAX_INPUTS],
    range: Range<usize>,
) {
    let mut i = range.start;
    while i < range.end {
        // SAFETY: the caller's promise.
        unsafe {
            let x = V::load(a.at(i));
            let y = if F::INPUTS > 1 { V::load(b.at(i)) } else { x };
            let z = if F::INPUTS > 2 { V::load(c.at(i)) } else { x };
            F::of([x, y, z]).store(to.at(i));
        }
        i += V::N;
    }
}
