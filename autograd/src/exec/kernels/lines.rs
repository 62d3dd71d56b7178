//! Functions of whole lines inside fused kernels: sums, softmax and its kin. What they compute is
//! defined in [`op::softmax`](crate::op::softmax) and [`math::sum`](crate::math::sum); here
//! exponentials and logarithms are taken of all lines of a block together.

use super::arch::Vectors;
use crate::{
    math::sum::sum_chunk,
    op::{elementwise::MAX_INPUTS, lowering::LineFunction, pointwise::Function, softmax::base},
    plan::size::BLOCK,
};
use std::slice;

/// The lines of a block, and memory for what comes out.
pub(super) struct LineBlock<'w, T> {
    pub(super) function: LineFunction,
    /// The elements, line after line.
    pub(super) x: &'w [T],
    /// The length of a line.
    pub(super) n: usize,
    /// The label of each line, for the cross-entropy.
    pub(super) labels: &'w [i64],
    /// A result for each element, or scratch memory.
    pub(super) each: &'w mut [T],
    /// A result for each line.
    pub(super) one: &'w mut [T],
    pub(super) max: &'w mut [T],
}

/// Computes `each` or `one`; false if a label is not one of the classes.
#[inline(always)]
pub(super) fn run<T: Vectors>(lines: LineBlock<'_, T>) -> bool {
    debug_assert!(lines.x.len() <= BLOCK && lines.x.len() <= lines.each.len());
    lines.run()
}

/// A function of the first numbers, in place, rounded up to whole vectors.
fn apply<T: Vectors>(function: Function, numbers: &mut [T], count: usize) {
    let (table, start) = (T::table(), numbers.as_mut_ptr());
    assert!(count.next_multiple_of(table.group) <= numbers.len());
    // SAFETY: checked just now; a group is whole vectors.
    unsafe { (table.functions[function as usize])(start, [start; MAX_INPUTS], count) }
}

impl<T: Vectors> LineBlock<'_, T> {
    #[inline(always)]
    fn run(mut self) -> bool {
        if self.function == LineFunction::Sum {
            // a short line is one chunk of the canonical order
            let lines = self.x.chunks_exact(self.n).zip(self.one);
            lines.for_each(|(line, one)| *one = sum_chunk(line));
            return true;
        }
        self.split();
        match self.function {
            LineFunction::Softmax => self.softmax(),
            LineFunction::LogSoftmax => self.log_softmax(),
            LineFunction::LogSumExp => self.logsumexp(),
            _ => return self.cross_entropy(),
        }
        true
    }

    /// The exponentials, each divided by their sum, in which that of the maximum is 1.
    #[inline(always)]
    fn softmax(self) {
        let count = self.x.len() / self.n; // `each` may be longer
        let lines = self.each.chunks_exact_mut(self.n).zip(&self.one[..count]);
        for (line, &rest) in lines {
            let sum = T::of(1.0) + rest;
            line.iter_mut().for_each(|e| *e /= sum);
        }
    }

    /// `ln(1 + rest)` in `one`, for all lines together: one call of the function for many numbers.
    #[inline(always)]
    fn log_of_sums(&mut self) {
        let count = self.x.len() / self.n;
        apply(Function::Ln1p, self.one, count);
    }

    #[inline(always)]
    fn log_softmax(mut self) {
        self.log_of_sums();
        let lines = self
            .x
            .chunks_exact(self.n)
            .zip(self.each.chunks_exact_mut(self.n));
        for (((line, each), &log), &max) in lines.zip(&*self.one).zip(&*self.max) {
            let base = base(max);
            let pairs = each.iter_mut().zip(line);
            pairs.for_each(|(e, &x)| *e = (x - base) - log);
        }
    }

    #[inline(always)]
    fn logsumexp(mut self) {
        self.log_of_sums();
        let lines = self.x.chunks_exact(self.n).zip(self.one);
        for ((line, one), &max) in lines.zip(&*self.max) {
            // of -∞ only: -∞; with an ∞: ∞. What `one` holds is NaN then, as it is if there is a
            // NaN
            let infinite = !max.to_f64().is_finite() && !line.iter().any(|x| x.to_f64().is_nan());
            *one = if infinite { max } else { max + *one };
        }
    }

    /// False if a label is not one of the classes.
    #[inline(always)]
    fn cross_entropy(mut self) -> bool {
        self.log_of_sums();
        let lines = self.x.chunks_exact(self.n).zip(self.one);
        for (((line, one), &max), &label) in lines.zip(&*self.max).zip(self.labels) {
            let class = usize::try_from(label).ok();
            let Some(&x) = class.and_then(|class| line.get(class)) else {
                return false;
            };
            *one = (base(max) - x) + *one;
        }
        true
    }

    /// The split of [`op::softmax`](crate::op::softmax) for each line: `max`, the rest in `one`,
    /// exponentials in `each`.
    #[inline(always)]
    fn split(&mut self) {
        let (n, mut at) = (self.n, [0u16; BLOCK]);
        for (row, (line, each)) in self
            .x
            .chunks_exact(n)
            .zip(self.each.chunks_exact_mut(n))
            .enumerate()
        {
            let (mut first, mut max) = (0, T::of(f64::NEG_INFINITY));
            for (k, &x) in line.iter().enumerate() {
                if x > max {
                    (first, max) = (k, x);
                }
            }
            (at[row], self.max[row]) = (first as u16, max);
            let base = base(max);
            each.iter_mut().zip(line).for_each(|(e, &x)| *e = x - base);
        }
        apply(Function::Exp, self.each, self.x.len());
        let count = self.x.len() / n;
        for (row, each) in self.each.chunks_exact_mut(n).take(count).enumerate() {
            // the maximum's own exponential, which is 1, is left out of the sum: beside it a small
            // rest would be rounded away
            let (first, finite) = (at[row] as usize, self.max[row].to_f64().is_finite());
            if finite {
                each[first] = T::default();
            }
            self.one[row] = sum_chunk(each);
            if finite {
                each[first] = T::of(1.0);
            }
        }
    }
}

/// Scratch memory as a slice of `n` elements.
///
/// # Safety
/// It has as many, and nobody else uses it.
pub(super) unsafe fn memory<'w, T>(start: *mut T, n: usize) -> &'w mut [T] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(start, n) }
}
