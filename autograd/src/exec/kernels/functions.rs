//! All functions but `+`, `-`, `*` and `/`: for some elements at once, out of line. There is one
//! compiled loop for each function, instruction set and number type, whatever kernels it is a part
//! of.

use super::{steps::Location, vector::Vector};
use crate::op::{
    Real,
    elementwise::MAX_INPUTS,
    pointwise::{Formula, of_numbers},
};

/// A function of `n` numbers of each input: where the results go, the inputs, and `n`.
pub(crate) type Function<T> = unsafe fn(*mut T, [Location<T>; MAX_INPUTS], usize);

/// Computes `F`.
///
/// # Safety
/// `n` numbers of each input can be read and as many results written, both rounded up to whole
/// vectors. The results may take the place of an input, but overlap none otherwise.
#[inline(always)]
pub(super) unsafe fn run<V: Vector, F: Formula>(
    to: *mut V::Elem,
    [a, b, c]: [Location<V::Elem>; MAX_INPUTS],
    n: usize,
) {
    let mut i = 0;
    while i < n {
        // SAFETY: the caller's promise.
        unsafe {
            let x = V::load(a.at(i));
            let y = if F::INPUTS > 1 { V::load(b.at(i)) } else { x };
            let z = if F::INPUTS > 2 { V::load(c.at(i)) } else { x };
            F::of([x, y, z]).store(to.add(i));
        }
        i += V::N;
    }
}

/// Computes `F` number by number, with the code that also serves the definition.
///
/// # Safety
/// As of [`run`].
#[inline(always)]
pub(super) unsafe fn run_scalar<T: Real, F: Formula>(
    to: *mut T,
    [a, b, c]: [Location<T>; MAX_INPUTS],
    n: usize,
) {
    for i in 0..n {
        // SAFETY: the caller's promise.
        unsafe {
            let x = *a.at(i);
            let y = if F::INPUTS > 1 { *b.at(i) } else { x };
            let z = if F::INPUTS > 2 { *c.at(i) } else { x };
            *to.add(i) = of_numbers::<F, T>([x, y, z]);
        }
    }
}
