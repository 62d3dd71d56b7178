//! Blocks of strided lines. The elements of a line are far apart, so a block has some lines beside
//! each other, transposed: row `r` of the block has element `r` of each line. A row has as many
//! elements as go through a step at once, so that steps take a row at a time, and what functions of
//! lines need is side by side.
//!
//! Example: the softmax over the first axis of `[1000, 300]` with rows of 64: the first block has
//! columns 0 to 63 of all rows, the last one columns 256 to 299, and 20 that are not there.

use crate::{
    math::fold::Lines, movement, plan::tiling::MAX_VECTOR_GROUP, shape::Walk, tensor::Element,
};

/// The lines of a block.
#[derive(Clone, Copy)]
pub(super) struct Columns {
    pub(super) lines: Lines,
    /// The first line, counted as the elements of the reduced tensor are,
    pub(super) first: usize,
    /// how many there are,
    pub(super) count: usize,
    /// and the elements of a row of the block.
    pub(super) width: usize,
}

impl Columns {
    /// Calls `f` with each run of elements that lie side by side, row after row: where it is in the
    /// block, where in the tensor, and its length.
    #[inline(always)]
    fn runs(&self, mut f: impl FnMut(usize, usize, usize)) {
        let Lines { n, inner } = self.lines;
        let mut column = 0;
        while column < self.count {
            let line = self.first + column;
            let (outer, at) = (line / inner, line % inner);
            let length = (inner - at).min(self.count - column);
            for row in 0..n {
                let element = (outer * n + row) * inner + at;
                f(row * self.width + column, element, length);
            }
            column += length;
        }
    }

    /// Copies the lines from a tensor with all elements into a block.
    #[inline(always)]
    pub(super) fn gather<A: Copy, T: Copy>(
        &self,
        from: &[A],
        to: &mut [T],
        f: impl Fn(A) -> T + Copy,
    ) {
        self.runs(|at, element, n| {
            self.ask_for(from.as_ptr(), element, n);
            let pairs = to[at..at + n].iter_mut().zip(&from[element..element + n]);
            pairs.for_each(|(to, &from)| *to = f(from));
        });
    }

    /// Copies the lines from where a walk over a tensor says.
    pub(super) fn gather_strided<T: Element>(&self, from: &[T], walk: &Walk, to: &mut [T]) {
        self.runs(|at, element, n| {
            movement::copy_elements(from, walk, element, &mut to[at..at + n])
        });
    }

    /// Asks for the elements that come some rows after these: the processor does not foresee them,
    /// since they are in other pages.
    #[inline(always)]
    fn ask_for<A>(&self, start: *const A, element: usize, n: usize) {
        const ROWS: usize = 8;
        const LINE: usize = 64;
        #[cfg(target_arch = "x86_64")]
        for k in (0..n).step_by(LINE / size_of::<A>()) {
            use std::arch::x86_64::*;
            let at = start.wrapping_add(element + ROWS * self.lines.inner + k);
            // SAFETY: every processor has it, and it reads nothing.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
        }
    }

    /// Copies one number for each line from where a walk says that is the same in all of a line.
    pub(super) fn gather_numbers<T: Element>(&self, from: &[T], walk: &Walk, to: &mut [T]) {
        let first_row = Columns {
            lines: Lines { n: 1, ..self.lines },
            ..*self
        };
        let Lines { n, inner } = self.lines;
        first_row.runs(|at, line, count| {
            let element = line / inner * n * inner + line % inner;
            movement::copy_elements(from, walk, element, &mut to[at..at + count]);
        });
    }

    /// The same of booleans.
    pub(super) fn gather_booleans<T: Copy>(
        &self,
        from: &[bool],
        walk: &Walk,
        to: &mut [T],
        f: impl Fn(bool) -> T,
    ) {
        let mut booleans = [false; MAX_VECTOR_GROUP];
        self.runs(|at, element, n| {
            movement::copy_elements(from, walk, element, &mut booleans[..n]);
            let pairs = to[at..at + n].iter_mut().zip(&booleans);
            pairs.for_each(|(to, &from)| *to = f(from));
        });
    }

    /// Copies the lines from a block to a tensor.
    ///
    /// # Safety
    /// It has all elements, and nobody else writes those of these lines.
    #[inline(always)]
    pub(super) unsafe fn scatter<T: Copy, A>(
        &self,
        from: &[T],
        to: *mut A,
        f: impl Fn(T) -> A + Copy,
    ) {
        self.runs(|at, element, n| {
            self.ask_for(to, element, n);
            for (k, &from) in from[at..at + n].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { to.wrapping_add(element + k).write(f(from)) };
            }
        });
    }

    /// Sets the columns of a block that are not there.
    pub(super) fn fill_rest<T: Copy>(&self, block: &mut [T], with: T) {
        if self.count < self.width {
            for row in block.chunks_exact_mut(self.width) {
                row[self.count..].fill(with);
            }
        }
    }
}
