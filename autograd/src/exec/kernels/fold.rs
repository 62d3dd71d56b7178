//! Reductions inside of fused kernels that are complete when all parts of the kernel are: the state
//! of one on its way through a part. Elements come from steps, a span at a time, or in
//! blocks of rows; they are joined in the canonical order ([`math::fold`](crate::math::fold)).
//!
//! A chunk is the work of one part, so it has one state at a time. The results of chunks go to
//! memory of the whole kernel; [`join_chunks`] joins them when all parts are done. Lines of one
//! chunk need none of that: their results go where they belong.

use super::{arch::Vectors, lines::LineBlock, vector::Vector};
use crate::{
    math::{
        Wide,
        fold::{CHUNK, FewPairs, Fold, LANES, Lines, Monoid, Pairs, join_array, with_fold},
    },
    op::lowering::LineFunction,
    plan::kernel::Reduction,
};
use std::cell::Cell;

/// Joins rows of elements to as many accumulators as a row has; the first element belongs to this
/// column.
pub(crate) type FoldRows<T> = unsafe fn(accumulators: &mut [T], column: usize, x: &[T]);

/// A reduction on its way.
pub(crate) struct FoldState<T> {
    fold: Fold,
    rows: FoldRows<T>,
    /// The current chunk, by lanes.
    lanes: [T; LANES],
    /// The chunks before it, of a line that a block has whole.
    chunks: FewPairs<T>,
    /// The results of all chunks, of which others may be written by other threads.
    results: *mut T,
}

impl<T: Vectors> FoldState<T> {
    pub(super) fn new(fold: Fold, results: *mut T) -> FoldState<T> {
        let lanes = [fold.identity(); LANES];
        FoldState {
            fold,
            rows: T::table().fold_rows[fold as usize],
            lanes,
            chunks: FewPairs::default(),
            results,
        }
    }

    /// Takes `n` elements of a contiguous line, the first of which is at position `at` of a chunk.
    ///
    /// # Safety
    /// They can be read.
    pub(super) unsafe fn take(&mut self, x: *const T, n: usize, at: usize) {
        // SAFETY: the caller's promise.
        let x = unsafe { std::slice::from_raw_parts(x, n) };
        // SAFETY: whoever has this function has asked for its instructions.
        unsafe { (self.rows)(&mut self.lanes, at % LANES, x) }
    }

    /// Whether elements are added, which the interpreter does itself.
    #[inline(always)]
    pub(super) fn is_sum(&self) -> bool {
        self.fold == Fold::Sum
    }

    /// The lanes of the current chunk, from that of the element at this position on.
    #[inline(always)]
    pub(super) fn lanes_at(&mut self, position: usize) -> *mut T {
        self.lanes.as_mut_ptr().wrapping_add(position % LANES)
    }

    /// The current chunk, which was taken from steps, is complete.
    pub(super) fn end_chunk(&mut self, chunk: usize) {
        let all = self.take_lanes();
        // SAFETY: there is a result for each chunk; blocks are chunks.
        unsafe { self.results.add(chunk).write(all) }
    }

    /// A chunk of the block's only line, which was taken from steps, is complete.
    pub(super) fn end_chunk_of_line(&mut self) {
        let chunk = self.take_lanes();
        self.chunks.push(self.fold, chunk);
    }

    /// The result of the block's only line, of `n` elements.
    pub(super) fn end_line(&mut self, n: usize) -> T {
        if !n.is_multiple_of(CHUNK) {
            self.end_chunk_of_line();
        }
        self.chunks.take(self.fold)
    }

    /// The current chunk joined; the next one can begin.
    fn take_lanes(&mut self) -> T {
        let all = with_fold!(self.fold, M => join_array::<M, T>(&mut self.lanes));
        self.lanes.fill(self.fold.identity());
        all
    }

    /// Takes whole chunks of contiguous lines. How many elements these are.
    fn take_chunks(&mut self, block: &[T], start: usize, lines: Lines) -> usize {
        let (mut done, chunk) = (0, CHUNK.min(lines.n));
        while done < block.len() {
            let (at, left) = ((start + done) % lines.n, block.len() - done);
            if !at.is_multiple_of(chunk) {
                break;
            }
            // all of many short lines, or what there is of a long one
            let n = match left.min(lines.n - at) {
                _ if chunk == lines.n => left / chunk * chunk,
                n if n < chunk && at + n == lines.n => n, // its last chunk
                n => n / chunk * chunk,
            };
            if n == 0 {
                break;
            }
            let first = lines.chunk_of(start + done);
            self.take_lines(&block[done..done + n], chunk.min(n), first);
            done += n;
        }
        done
    }

    /// Takes lines of `n` elements, each of which is all of a chunk; the number of the first chunk.
    fn take_lines(&mut self, block: &[T], n: usize, first: usize) {
        let count = block.len() / n;
        let block = LineBlock {
            function: LineFunction::Fold(self.fold),
            x: block,
            lines: Lines { n, inner: 1 },
            columns: None,
            labels: &[],
            each: &mut [],
            out: None,
            // SAFETY: there is a result for each chunk, and no other thread works on these.
            one: unsafe { std::slice::from_raw_parts_mut(self.results.add(first), count) },
            max: &mut [],
        };
        // SAFETY: whoever has this table has asked for its instructions.
        unsafe { (T::table().lines)(block) };
    }

    /// Takes the elements of a block, `start` and following, row after row.
    pub(super) fn take_rows(&mut self, block: &[T], start: usize, lines: Lines) {
        let done = match lines.inner {
            1 => self.take_chunks(block, start, lines),
            _ => 0,
        };
        self.take_parts(&block[done..], start + done, lines);
    }

    /// Takes rows of several lines, or a part of a chunk.
    fn take_parts(&mut self, block: &[T], start: usize, lines: Lines) {
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
            // SAFETY: whoever has this function has asked for its instructions.
            unsafe { (self.rows)(lanes, at_chunk % width, part) };
            if width != lines.inner && part.len() == left {
                join_lanes(self.fold, lanes, lines.inner);
                results.copy_from_slice(&self.lanes[..lines.inner]);
            }
            done += part.len();
        }
    }
}

/// Rows of more elements than this are wide,
const MANY: usize = 4 * LANES;
/// and so many of them are joined together.
const TOGETHER: usize = 8;

/// See [`FoldRows`]. There is one call of [`columns`], since it is inlined: what there is to do is cut
/// into parts of rows and numbers of whole rows.
#[inline(always)]
pub(super) fn rows<M: Monoid, V: Vector<Elem: Vectors>>(
    accumulators: &mut [V::Elem],
    mut column: usize,
    mut x: &[V::Elem],
) {
    let (width, mut lanes) = (accumulators.len(), [M::identity(); LANES]);
    // of wide rows some at a time: so many streams are read ahead
    let most = if width > MANY { TOGETHER } else { usize::MAX };
    while !x.is_empty() {
        let is_narrow = column == 0 && width < LANES && x.len() >= LANES;
        let (to, count) = if is_narrow {
            // always `LANES` accumulators, whole vectors of them: what lies after a row goes to those
            // that are not there. The last row begins `LANES` elements before the end, or earlier
            lanes[..width].copy_from_slice(accumulators);
            (&mut lanes[..], (x.len() - LANES) / width + 1)
        } else if column > 0 || x.len() < width {
            let part = (width - column).min(x.len());
            (&mut accumulators[column..column + part], 1)
        } else {
            (&mut *accumulators, most.min(x.len() / width))
        };
        let done = if is_narrow { width } else { to.len() } * count;
        // SAFETY: these are rows, or a part of one.
        unsafe { columns::<M, V>(to, x.as_ptr(), count, width) };
        if is_narrow {
            accumulators.copy_from_slice(&lanes[..width]);
        }
        (column, x) = (0, &x[done..]);
    }
}

/// Joins `count` rows, `stride` apart, to as many accumulators. Some columns at a time are in
/// registers of the processor while all rows are joined to them.
///
/// # Safety
/// The rows can be read.
#[inline(always)]
unsafe fn columns<M: Monoid, V: Vector<Elem: Vectors>>(
    accumulators: &mut [V::Elem],
    x: *const V::Elem,
    count: usize,
    stride: usize,
) {
    let (to, width) = (accumulators.as_mut_ptr(), accumulators.len());
    let mut done = 0;
    // SAFETY: what is loaded and stored are columns; the caller's promise.
    unsafe {
        while done + 4 * V::N <= width {
            let mut all = Wide::<V>::load(to.add(done));
            let mut from = x.add(done);
            for _ in 0..count {
                let [a, b, c, d] = Wide::<V>::load(from).0;
                let [e, f, g, h] = all.0;
                all = Wide([M::join(e, a), M::join(f, b), M::join(g, c), M::join(h, d)]);
                from = from.wrapping_add(stride);
            }
            all.store(to.add(done));
            done += 4 * V::N;
        }
        // the lanes of a contiguous line are two vectors of 16
        while done + 2 * V::N <= width {
            let mut all = [V::load(to.add(done)), V::load(to.add(done + V::N))];
            let mut from = x.add(done);
            for _ in 0..count {
                let [a, b] = [V::load(from), V::load(from.add(V::N))];
                all = [M::join(all[0], a), M::join(all[1], b)];
                from = from.wrapping_add(stride);
            }
            all[0].store(to.add(done));
            all[1].store(to.add(done + V::N));
            done += 2 * V::N;
        }
        while done + V::N <= width {
            let mut all = V::load(to.add(done));
            for row in 0..count {
                all = M::join(all, V::load(x.add(row * stride + done)));
            }
            all.store(to.add(done));
            done += V::N;
        }
        for (column, to) in accumulators.iter_mut().enumerate().skip(done) {
            for row in 0..count {
                *to = M::join(*to, *x.add(row * stride + column));
            }
        }
    }
}

/// [`Fold::join_lanes`], by vectors.
pub(super) fn join_lanes<T: Vectors>(fold: Fold, lanes: &mut [T], inner: usize) {
    let rows = T::table().fold_rows[fold as usize];
    let mut width = lanes.len();
    while width > inner {
        width /= 2;
        let (low, high) = lanes[..2 * width].split_at_mut(width);
        // SAFETY: whoever has this function has asked for its instructions.
        unsafe { rows(low, 0, high) };
    }
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
