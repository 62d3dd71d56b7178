//! Reductions inside of fused kernels that are complete when all parts of the kernel are: the state
//! of one on its way through a part. Elements come from steps, a vector group at a time, or in
//! blocks of rows; they are joined in the canonical order ([`math::fold`](crate::math::fold)).
//!
//! A chunk is the work of one part, so it has one state at a time. The results of chunks go to
//! memory of the whole kernel; [`join_chunks`] joins them when all parts are done. Lines of one
//! chunk need none of that: their results go where they belong.

use super::{
    arch::{Table, Vectors},
    vector::Vector,
};
use crate::{
    math::{
        Wide,
        fold::{Fold, LANES, Lines, Monoid, Pairs, join_all, join_array, with_fold},
    },
    plan::{kernel::Reduction, tiling::MAX_VECTOR_GROUP},
};
use std::cell::Cell;

/// Joins rows of elements to as many accumulators as a row has; the first element belongs to this
/// column.
pub(crate) type FoldRows<T> = unsafe fn(accumulators: &mut [T], column: usize, x: &[T]);

/// A reduction on its way.
pub(crate) struct FoldState<T> {
    fold: Fold,
    /// The current chunk, by lanes.
    lanes: [T; LANES],
    /// The results of all chunks, of which others may be written by other threads.
    results: *mut T,
}

impl<T: Vectors> FoldState<T> {
    pub(super) fn new(fold: Fold, results: *mut T) -> FoldState<T> {
        let lanes = [fold.identity(); LANES];
        FoldState {
            fold,
            lanes,
            results,
        }
    }

    /// Takes a vector group, from position `i` of a block on, of which `valid` elements count.
    ///
    /// # Safety
    /// The vectors' instructions are there.
    #[inline(always)]
    pub(super) unsafe fn take_group<V: Vector<Elem = T>>(
        &mut self,
        low: Wide<V>,
        high: Wide<V>,
        i: usize,
        valid: usize,
    ) {
        // SAFETY: there are `LANES` lanes; groups begin at multiples of their length, and have at
        // most as many elements as the array.
        unsafe {
            if valid == 2 * Wide::<V>::N {
                let lanes = self.lanes.as_mut_ptr();
                with_fold!(self.fold, M => join_to_lanes::<M, V>([low, high], lanes, i));
            } else {
                let mut all = [T::default(); MAX_VECTOR_GROUP];
                low.store(all.as_mut_ptr());
                high.store(all.as_mut_ptr().add(Wide::<V>::N));
                self.take(&all[..valid], i);
            }
        }
    }

    /// Takes elements from position `at` of a chunk on.
    #[inline(never)]
    fn take(&mut self, elements: &[T], at: usize) {
        for (k, &x) in elements.iter().enumerate() {
            let lane = &mut self.lanes[(at + k) % LANES];
            *lane = with_fold!(self.fold, M => M::join(*lane, x));
        }
    }

    /// The current chunk, which was taken from steps, is complete.
    pub(super) fn end_chunk(&mut self, chunk: usize) {
        let lanes = std::mem::replace(&mut self.lanes, [self.fold.identity(); LANES]);
        let all = with_fold!(self.fold, M => join_array::<M, T>(lanes));
        // SAFETY: there is a result for each chunk; blocks are chunks.
        unsafe { self.results.add(chunk).write(all) }
    }

    /// Takes the elements of a block, `start` and following, row after row.
    pub(super) fn take_rows(&mut self, table: &Table<T>, block: &[T], start: usize, lines: Lines) {
        let (of_lines, chunk, width) = (lines.n * lines.inner, lines.chunk(), lines.width());
        let mut done = 0;
        while done < block.len() {
            let (outer, at) = ((start + done) / of_lines, (start + done) % of_lines);
            let (number, at_chunk) = (at / chunk, at % chunk);
            let left = chunk.min(of_lines - number * chunk) - at_chunk;
            let part = &block[done..(done + left).min(block.len())];
            let first = (outer * lines.chunks() + number) * lines.inner;
            // SAFETY: there is a row of results for each chunk, and no other thread works on these
            // columns of this chunk.
            let results =
                unsafe { std::slice::from_raw_parts_mut(self.results.add(first), lines.inner) };
            let lanes = if width == lines.inner {
                &mut *results // there is one lane
            } else {
                &mut self.lanes[..width]
            };
            // a chunk begins: all lanes of it, or as much of a long row as this block has
            if width != lines.inner && at_chunk == 0 {
                lanes.fill(self.fold.identity());
            } else if width == lines.inner && at_chunk < width {
                lanes[at_chunk..width.min(at_chunk + part.len())].fill(self.fold.identity());
            }
            // SAFETY: whoever has this table has asked for its instructions.
            unsafe { (table.fold_rows[self.fold as usize])(lanes, at_chunk % width, part) };
            if width != lines.inner && part.len() == left {
                self.fold.join_lanes(lanes, lines.inner);
                results.copy_from_slice(&self.lanes[..lines.inner]);
            }
            done += part.len();
        }
    }
}

/// Joins eight vectors to the lanes of a chunk: element `at + i` goes to lane `(at + i) % LANES`.
/// Vectors that go to the same lanes are joined in order. `at` is a multiple of the elements of
/// eight vectors.
///
/// # Safety
/// `LANES` elements can be read and written there.
#[inline(always)]
unsafe fn join_to_lanes<M: Monoid, V: Vector>(
    [low, high]: [Wide<V>; 2],
    lanes: *mut V::Elem,
    at: usize,
) {
    let [a, b, c, d] = low.0;
    let [e, f, g, h] = high.0;
    let (all, of_lanes) = ([a, b, c, d, e, f, g, h], LANES / V::N);
    for place in 0..of_lanes.min(all.len()) {
        // SAFETY: the place is among the lanes; the caller's promise.
        unsafe {
            let to = lanes.add((at + place * V::N) % LANES);
            let mut joined = V::load(to);
            let mut k = place;
            while k < all.len() {
                joined = M::join(joined, all[k]);
                k += of_lanes;
            }
            joined.store(to);
        }
    }
}

/// See [`FoldRows`].
#[inline(always)]
pub(super) fn rows<M: Monoid, T: Vectors>(accumulators: &mut [T], column: usize, x: &[T]) {
    let width = accumulators.len();
    let to_row = if column == 0 { 0 } else { width - column };
    let (head, x) = x.split_at(to_row.min(x.len()));
    join_all::<M, T>(&mut accumulators[column..], head);
    let rest = if width <= LANES {
        few_columns::<M, T>(accumulators, x)
    } else {
        many_columns::<M, T>(accumulators, x)
    };
    let whole = rest.chunks_exact(width);
    let last = whole.remainder();
    for row in whole {
        join_all::<M, T>(accumulators, row);
    }
    join_all::<M, T>(accumulators, last);
}

/// Rows that are no longer than the lanes of a chunk; what is left of them. The accumulators stay in
/// registers. There are always `LANES` of them, so that the compiler knows their number: what lies
/// after a row goes to those that are not there.
#[inline(always)]
fn few_columns<'x, M: Monoid, T: Vectors>(accumulators: &mut [T], mut x: &'x [T]) -> &'x [T] {
    let width = accumulators.len();
    let mut lanes = [M::identity(); LANES];
    lanes[..width].copy_from_slice(accumulators);
    while let Some((row, _)) = x.split_first_chunk::<LANES>() {
        for k in 0..LANES {
            lanes[k] = M::join(lanes[k], row[k]);
        }
        x = &x[width..];
    }
    accumulators.copy_from_slice(&lanes[..width]);
    x
}

/// Longer rows, four at a time, so that accumulators are loaded and stored once for four; what is
/// left of them.
#[inline(always)]
fn many_columns<'x, M: Monoid, T: Vectors>(accumulators: &mut [T], mut x: &'x [T]) -> &'x [T] {
    let width = accumulators.len();
    while x.len() >= 4 * width {
        let (rows, rest) = x.split_at(4 * width);
        let (a, b) = rows.split_at(2 * width);
        let ((a, b), (c, d)) = (a.split_at(width), b.split_at(width));
        let pairs = a.iter().zip(b).zip(c.iter().zip(d));
        for (to, ((&a, &b), (&c, &d))) in accumulators.iter_mut().zip(pairs) {
            *to = M::join(M::join(M::join(M::join(*to, a), b), c), d);
        }
        x = rest;
    }
    x
}

/// Joins the results of the chunks of all lines into those of the lines.
pub(super) fn join_chunks<T: Vectors>(of: &Reduction, chunks: &mut [T], out: &mut [T]) {
    let inner = of.lines.inner;
    let lines = chunks.chunks_exact_mut(of.lines.chunks() * inner);
    for (out, chunks) in out.chunks_exact_mut(inner).zip(lines) {
        join_rows_in_pairs(of.fold, chunks, inner);
        out.copy_from_slice(&chunks[..inner]);
    }
}

/// Joins rows in pairs; the result is left in the first one.
fn join_rows_in_pairs<T: Vectors>(fold: Fold, rows: &mut [T], inner: usize) {
    let count = rows.len() / inner;
    let rows = Cell::from_mut(rows).as_slice_of_cells();
    let row = |k: usize| &rows[k * inner..][..inner];
    let join = |into: &mut usize, from: usize| {
        let pairs = row(*into).iter().zip(row(from));
        with_fold!(fold, M => pairs.for_each(|(a, b)| a.set(M::join(a.get(), b.get()))));
    };
    let mut pairs = Pairs(Vec::new());
    (0..count).for_each(|row| pairs.push(row, &join));
    pairs.finish(&join);
}
