//! A piece of an op's output: what one of several threads writes. Beside [`view`](crate::view),
//! which has the outputs that are written as a whole.
//!
//! A piece is made of rows. It hands out one at a time, and all of them are its own, so an op that
//! writes pieces is safe code: whatever it does, it writes no element of another piece.

#![allow(unsafe_code)] // rows of several pieces lie between each other

use crate::{
    error::OpError,
    movement::Word,
    shape::Shape,
    tensor::{DType, Element},
    view::TensorViewMut,
};
use std::{marker::PhantomData, ops::Range, slice};

/// Some columns of some blocks of an output that is seen as `[blocks, n, inner]`. A piece of
/// adjacent elements is a single row: there `blocks` and `n` are 1, and the columns are the
/// elements.
pub struct Piece<'a> {
    /// The whole output's.
    pub(crate) shape: &'a Shape,
    dtype: DType,
    at: *mut u8,
    pub(crate) blocks: Range<usize>,
    pub(crate) n: usize,
    inner: usize,
    pub(crate) columns: Range<usize>,
    output: PhantomData<&'a mut u8>,
}

impl<'a> Piece<'a> {
    /// All of an output, as one row.
    pub(crate) fn whole(out: TensorViewMut<'a>) -> Piece<'a> {
        let (shape, dtype, count) = (out.shape, out.dtype(), out.shape.count());
        // SAFETY: the view is of all elements and is consumed.
        unsafe { Piece::new(out.start(), dtype, shape, (0..1, 1, count), 0..count) }
    }

    /// All of an output, by the lines along an axis.
    pub(crate) fn of_lines(out: TensorViewMut<'a>, axis: usize) -> Piece<'a> {
        let (shape, dtype) = (out.shape, out.dtype());
        let (blocks, n, inner) = shape.around(axis);
        // SAFETY: as above.
        unsafe { Piece::new(out.start(), dtype, shape, (0..blocks, n, inner), 0..inner) }
    }

    /// # Safety
    /// `at` is the first element of an output of this type, all of which can be written. Nobody
    /// else reads or writes the elements of the piece while it lives. Its elements are booleans, or
    /// any bytes are a number.
    pub(crate) unsafe fn new(
        at: *mut u8,
        dtype: DType,
        shape: &'a Shape,
        (blocks, n, inner): (Range<usize>, usize, usize),
        columns: Range<usize>,
    ) -> Piece<'a> {
        let inside = blocks.start <= blocks.end && columns.start <= columns.end;
        let last = blocks.end.checked_mul(n).and_then(|r| r.checked_mul(inner));
        let inside = inside && columns.end <= inner;
        assert!(inside && last.is_some_and(|last| last <= shape.count()));
        Piece {
            shape,
            dtype,
            at,
            blocks,
            n,
            inner,
            columns,
            output: PhantomData,
        }
    }

    pub(crate) fn dtype(&self) -> DType {
        self.dtype
    }

    /// The number of elements of a whole line's neighbours: those at the same place of it.
    pub(crate) fn inner(&self) -> usize {
        self.inner
    }

    /// The elements at place `k` of the lines of a block, of which this piece has its columns.
    pub(crate) fn row<T: Element>(&mut self, block: usize, k: usize) -> Result<&mut [T], OpError> {
        assert!(self.blocks.contains(&block) && k < self.n);
        let first = (block * self.n + k) * self.inner + self.columns.start;
        // SAFETY: a row of this piece: within the output, as `new` has checked.
        unsafe { self.elements(first, self.columns.len()) }
    }

    /// A block, of which this piece must have all columns.
    pub(crate) fn block<T: Element>(&mut self, block: usize) -> Result<&mut [T], OpError> {
        assert!(self.blocks.contains(&block) && self.columns.len() == self.inner);
        let size = self.n * self.inner;
        // SAFETY: all rows of a block, which follow each other.
        unsafe { self.elements(block * size, size) }
    }

    /// Of a piece of adjacent elements, the first one's position and all of them.
    pub(crate) fn range<T: Element>(&mut self) -> Result<(usize, &mut [T]), OpError> {
        assert!(self.blocks == (0..1) && self.n == 1);
        Ok((self.columns.start, self.row(0, 0)?))
    }

    /// As [`range`](Piece::range), as words of the elements' size, for those that move elements
    /// whatever their type.
    pub(crate) fn words<W: Word>(&mut self) -> (usize, &mut [W]) {
        assert!(self.blocks == (0..1) && self.n == 1 && size_of::<W>() == self.dtype.size());
        // SAFETY: the elements of the piece, as of `row`. All words are elements: those of one byte
        // are booleans.
        let all = unsafe {
            let first = self.at.cast::<W>().add(self.columns.start);
            slice::from_raw_parts_mut(first, self.columns.len())
        };
        (self.columns.start, all)
    }

    /// The same as bytes.
    ///
    /// # Safety
    /// What is written there are elements of this type.
    pub(crate) unsafe fn bytes(&mut self) -> (usize, &mut [u8]) {
        assert!(self.blocks == (0..1) && self.n == 1);
        let (first, size) = (self.columns.start, self.dtype.size());
        // SAFETY: as above; the caller's promise.
        let all = unsafe {
            slice::from_raw_parts_mut(self.at.add(first * size), self.columns.len() * size)
        };
        (first, all)
    }

    /// # Safety
    /// They are elements of this piece.
    unsafe fn elements<T: Element>(
        &mut self,
        first: usize,
        count: usize,
    ) -> Result<&mut [T], OpError> {
        if self.dtype != T::DTYPE {
            let message = format!("the output is {}, written as {}", self.dtype, T::DTYPE);
            return Err(OpError::new(message));
        }
        // SAFETY: the caller's promise, and that of `new`.
        Ok(unsafe { slice::from_raw_parts_mut(self.at.cast::<T>().add(first), count) })
    }

    /// Sets all of its elements to 0 or `false`.
    pub(crate) fn clear(&mut self) {
        let size = self.dtype.size();
        for row in self.blocks.start * self.n..self.blocks.end * self.n {
            let first = (row * self.inner + self.columns.start) * size;
            // SAFETY: as of `row`; zeros are elements of every type.
            unsafe { self.at.add(first).write_bytes(0, self.columns.len() * size) }
        }
    }
}
