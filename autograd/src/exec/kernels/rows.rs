//! Functions of whole rows inside fused kernels: sums, softmax and its kin. What they compute is defined in
//! [`op::softmax`](crate::op::softmax) and [`op::reduce`](crate::op::reduce); here exponentials and logarithms are taken
//! of all rows of a block together.

use super::arch::Vectors;
use crate::{
    op::{elementwise::MAX_INPUTS, pointwise::Function, reduce::sum_chunk, softmax::base},
    plan::kernel::{BLOCK, RowOp, STRIDE},
};
use std::slice;

/// The rows of a block, and room for what comes out.
pub(super) struct Rows<'w, T> {
    pub(super) op: RowOp,
    /// The elements, row after row.
    pub(super) x: &'w [T],
    /// The length of a row.
    pub(super) n: usize,
    /// The label of each row, for the cross-entropy.
    pub(super) labels: &'w [i64],
    /// A result for each element, or room that is needed on the way.
    pub(super) each: &'w mut [T],
    /// A result for each row.
    pub(super) one: &'w mut [T],
    pub(super) max: &'w mut [T],
}

/// How much room the results of a block need.
pub(super) const ROOM: usize = STRIDE;

/// Computes `each` or `one`; false if a label is not one of the classes.
#[inline(always)]
pub(super) fn run<T: Vectors>(rows: Rows<'_, T>) -> bool {
    debug_assert!(
        rows.x.len() <= BLOCK
            && rows.each.len() == ROOM
            && rows.one.len() == ROOM
            && rows.max.len() == ROOM
    );
    rows.run()
}

/// A function of the first numbers, in place; there is room for whole vectors of them.
fn apply<T: Vectors>(function: Function, numbers: &mut [T], count: usize) {
    let (table, start) = (T::table(), numbers.as_mut_ptr());
    assert!(count.next_multiple_of(table.group) <= numbers.len());
    // SAFETY: checked just now; a group is whole vectors.
    unsafe { (table.functions[function as usize])(start, [start; MAX_INPUTS], count) }
}

impl<T: Vectors> Rows<'_, T> {
    #[inline(always)]
    fn run(mut self) -> bool {
        let (n, count) = (self.n, self.x.len() / self.n);
        if self.op == RowOp::Sum {
            self.x
                .chunks_exact(n)
                .zip(self.one.iter_mut())
                .for_each(|(line, one)| *one = sum_chunk(line));
            return true;
        }
        self.split();
        if self.op == RowOp::Softmax {
            for (line, &rest) in self.each.chunks_exact_mut(n).zip(&self.one[..count]) {
                let sum = T::of(1.0) + rest;
                line.iter_mut().for_each(|e| *e /= sum);
            }
            return true;
        }
        apply(Function::Ln1p, self.one, count);
        let lines = self
            .x
            .chunks_exact(n)
            .zip(&mut self.one[..count])
            .zip(&self.max[..count]);
        match self.op {
            RowOp::LogSoftmax => {
                for (((line, log), &max), each) in lines.zip(self.each.chunks_exact_mut(n)) {
                    let base = base(max);
                    each.iter_mut()
                        .zip(line)
                        .for_each(|(e, &x)| *e = (x - base) - *log);
                }
            }
            RowOp::LogSumExp => {
                for ((line, one), &max) in lines {
                    let infinite =
                        !max.to_f64().is_finite() && !line.iter().any(|x| x.to_f64().is_nan());
                    *one = if infinite { max } else { max + *one };
                }
            }
            _ => {
                for (((line, one), &max), &label) in lines.zip(self.labels) {
                    let Some(&x) = usize::try_from(label)
                        .ok()
                        .and_then(|label| line.get(label))
                    else {
                        return false;
                    };
                    *one = (base(max) - x) + *one;
                }
            }
        }
        true
    }

    /// The split of [`op::softmax`](crate::op::softmax) for each row: `max`, the rest in `one`, exponentials in `each`.
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

/// A block of scratch memory as a slice.
///
/// # Safety
/// There is room for as many elements, and nobody else uses it.
pub(super) unsafe fn room<'w, T>(block: *mut T) -> &'w mut [T] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(block, ROOM) }
}
