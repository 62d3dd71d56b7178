//! Functions of whole lines inside fused kernels: reductions, softmax and its kin. What they compute
//! is defined in [`op::softmax`](crate::op::softmax) and [`math::fold`](crate::math::fold).
//!
//! The lines of a block lie one after the other, or transposed beside each other
//! ([`columns`](super::columns)); then one vector instruction works on many lines.
//!
//! So short lines are transposed here, some at a time.
//!
//! The loops over elements are inlined into one function for each instruction set and number type;
//! exponentials and the inner loops of reductions are in the table themselves. What is done once for
//! a line is compiled once for each number type.

use super::{apply, arch::Vectors, fold::join_lanes};
use crate::{
    math::fold::{
        CHUNK, DEPTH, FewPairs, Fold, LANES, Lines, Monoid, join_all, join_array, with_fold,
    },
    op::{lowering::LineFunction, pointwise::Function, softmax::base},
    plan::tiling::MAX_VECTOR_GROUP,
};
use std::{mem::MaybeUninit, slice};

/// The lines of a block, and memory for what comes out.
pub(super) struct LineBlock<'w, T> {
    pub(super) function: LineFunction,
    /// The elements, line after line, or row after row.
    pub(super) x: &'w [T],
    pub(super) lines: Lines,
    /// The elements of a row, if the block is transposed.
    pub(super) columns: Option<usize>,
    /// The label of each line, for the cross-entropy.
    pub(super) labels: &'w [i64],
    /// A result for each element, or scratch memory. Reductions need none.
    pub(super) each: &'w mut [T],
    /// Where the results for each element go, if not there. Only contiguous lines may have it.
    pub(super) out: Option<&'w mut [T]>,
    /// A result for each line.
    pub(super) one: &'w mut [T],
    /// Scratch memory for as many, which reductions do not need either.
    pub(super) max: &'w mut [T],
}

/// Computes the result of each element from what is in `each`, the element itself, and the numbers
/// of its line.
macro_rules! of_elements {
    ($block:ident: |$e:pat_param, $x:pat_param, $one:pat_param, $max:pat_param| $result:expr) => {
        match $block.columns {
            None => {
                let n = $block.lines.n;
                let lines = $block.x.chunks_exact(n);
                let lines = lines.zip($block.each.chunks_exact_mut(n));
                let results = $block.one.iter().zip($block.max.iter());
                let mut out = $block.out.map(|out| out.chunks_exact_mut(n));
                for ((x, each), (&$one, &$max)) in lines.zip(results) {
                    match out.as_mut().and_then(Iterator::next) {
                        Some(out) => {
                            for ((out, &$e), &$x) in out.iter_mut().zip(&*each).zip(x) {
                                *out = $result;
                            }
                        }
                        None => {
                            for (each, &$x) in each.iter_mut().zip(x) {
                                let $e = *each;
                                *each = $result;
                            }
                        }
                    }
                }
            }
            Some(width) => {
                let (one, max) = (&$block.one[..width], &$block.max[..width]);
                let rows = $block.x.chunks_exact(width);
                for (x, each) in rows.zip($block.each.chunks_exact_mut(width)) {
                    for k in 0..width {
                        let ($e, $x, $one, $max) = (each[k], x[k], one[k], max[k]);
                        each[k] = $result;
                    }
                }
            }
        }
    };
}

impl<T: Vectors> LineBlock<'_, T> {
    /// How many lines there are; of columns, how many there is room for.
    #[inline(always)]
    fn count(&self) -> usize {
        self.columns.unwrap_or(self.x.len() / self.lines.n)
    }

    /// Computes `each` or `one`; false if a label is not one of the classes.
    #[inline(always)]
    pub(super) fn run(mut self) -> bool {
        let is_short =
            self.columns.is_none() && self.lines.n <= SHORT && self.count() >= ACROSS / 4;
        if let LineFunction::Fold(fold) = self.function {
            match self.columns.is_none() && self.lines.n <= CHUNK && self.count() > 1 {
                true => {
                    with_fold!(fold, M => fold_together::<M, T>(self.x, self.lines.n, self.one))
                }
                false => self.fold(fold),
            }
            return true;
        }
        if is_short {
            return self.transposed();
        }
        match self.columns {
            None => self.split_lines(),
            Some(width) => self.split_columns(width),
        }
        match self.function {
            LineFunction::Softmax => self.softmax(),
            LineFunction::LogSoftmax => self.log_softmax(),
            LineFunction::LogSumExp => self.logsumexp(),
            _ => return self.cross_entropy(),
        }
        true
    }

    fn fold(&mut self, fold: Fold) {
        if let Some(width) = self.columns {
            return fold_columns(fold, self.x, self.lines, width, self.one);
        }
        let lines = self.x.chunks_exact(self.lines.n).zip(&mut *self.one);
        lines.for_each(|(line, one)| *one = fold_line(fold, line));
    }

    /// The exponentials, each divided by their sum, in which that of the maximum is 1.
    #[inline(always)]
    fn softmax(self) {
        let count = self.count();
        self.one[..count]
            .iter_mut()
            .for_each(|rest| *rest = T::of(1.0) + *rest);
        of_elements!(self: |e, _, sum, _| e / sum);
    }

    /// `ln(1 + rest)` in `one`, for all lines together: one call of the function for many numbers.
    fn log_of_rests(&mut self) {
        let count = self.count();
        apply(Function::Ln1p, self.one, count);
    }

    #[inline(always)]
    fn log_softmax(mut self) {
        self.log_of_rests();
        self.max.iter_mut().for_each(|max| *max = base(*max));
        of_elements!(self: |_, x, log, base| (x - base) - log);
    }

    fn logsumexp(mut self) {
        self.log_of_rests();
        let count = self.count();
        for (k, (one, &max)) in self.one.iter_mut().zip(&*self.max).take(count).enumerate() {
            // of -∞ only: -∞; with an ∞: ∞. What `one` holds is NaN then, as it is if there is a
            // NaN
            let is_infinite = !max.to_f64().is_finite() && {
                let (first, step) = match self.columns {
                    None => (k * self.lines.n, 1),
                    Some(width) => (k, width),
                };
                let mut line = self.x[first..].iter().step_by(step).take(self.lines.n);
                !line.any(|x| x.to_f64().is_nan())
            };
            *one = if is_infinite { max } else { max + *one };
        }
    }

    /// False if a label is not one of the classes.
    fn cross_entropy(mut self) -> bool {
        self.log_of_rests();
        let width = self.columns;
        for (k, &label) in self.labels.iter().enumerate() {
            let class = usize::try_from(label).ok().filter(|&c| c < self.lines.n);
            let Some(class) = class else {
                return false;
            };
            let x = self.x[width.map_or(k * self.lines.n + class, |width| class * width + k)];
            self.one[k] = (base(self.max[k]) - x) + self.one[k];
        }
        true
    }

    /// Short contiguous lines, some at a time beside each other.
    fn transposed(mut self) -> bool {
        let (n, [mut x, mut each]) = (self.lines.n, [[T::default(); SHORT * ACROSS]; 2]);
        let [mut one, mut max] = [[T::default(); MAX_VECTOR_GROUP]; 2];
        for (lines, number) in self.x.chunks(n * ACROSS).zip(0..) {
            let (first, count) = (number * ACROSS, lines.len() / n);
            for (r, row) in x.chunks_exact_mut(ACROSS).take(n).enumerate() {
                let column = lines[r..].iter().step_by(n);
                row[..count]
                    .iter_mut()
                    .zip(column)
                    .for_each(|(to, &x)| *to = x);
            }
            let block = LineBlock {
                x: &x[..n * ACROSS],
                columns: Some(ACROSS),
                labels: self.labels.get(first..first + count).unwrap_or(&[]),
                each: &mut each,
                out: None,
                one: &mut one,
                max: &mut max,
                ..self
            };
            // SAFETY: whoever has this table has asked for its instructions.
            if !unsafe { (T::table().lines)(block) } {
                return false;
            }
            self.one[first..first + count].copy_from_slice(&one[..count]);
            if !self.function.reduces() {
                let to = self.out.as_deref_mut().unwrap_or(&mut *self.each);
                let to = &mut to[first * n..][..lines.len()];
                for (r, row) in each.chunks_exact(ACROSS).take(n).enumerate() {
                    let column = to[r..].iter_mut().step_by(n);
                    column.zip(row).for_each(|(to, &e)| *to = e);
                }
            }
        }
        true
    }

    /// The split of [`op::softmax`](crate::op::softmax) for each line: `max`, the rest in `one`,
    /// exponentials in `each`. The maximum's own exponential, which is 1, is left out of the rest:
    /// beside it a small rest would be rounded away.
    #[inline(always)]
    fn split_lines(&mut self) {
        let n = self.lines.n;
        let lines = self.x.chunks_exact(n).zip(self.each.chunks_exact_mut(n));
        for (row, (line, each)) in lines.enumerate() {
            let (at, max) = first_max(line);
            // a line is short enough for its positions to be numbers of the type
            (self.one[row], self.max[row]) = (T::of(at as f64), max);
            let base = base(self.max[row]);
            each.iter_mut().zip(line).for_each(|(e, &x)| *e = x - base);
        }
        if n <= CHUNK {
            apply(Function::Exp, self.each, self.x.len()); // of all lines together
        }
        let count = self.count();
        for row in 0..count {
            let at = self.one[row].to_f64() as usize;
            let first = self.max[row].to_f64().is_finite().then_some(at);
            let each = &mut self.each[row * n..];
            self.one[row] = if n <= CHUNK {
                sum_without(&mut each[..n], first)
            } else {
                exp_and_sum(each, n, first)
            };
        }
    }

    /// The same for lines beside each other.
    #[inline(always)]
    fn split_columns(&mut self, width: usize) {
        let mut at = [T::default(); MAX_VECTOR_GROUP];
        let (max, at) = (&mut self.max[..width], &mut at[..width]);
        let mut start = 0;
        while start < width {
            // rows are whole narrow strips
            start += match width - start >= WIDE {
                true => first_max_of_columns::<T, WIDE>(self.x, start, (max, at)),
                false => first_max_of_columns::<T, NARROW>(self.x, start, (max, at)),
            };
        }
        let mut bases = [T::default(); MAX_VECTOR_GROUP];
        let bases = &mut bases[..width];
        bases
            .iter_mut()
            .zip(&*max)
            .for_each(|(b, &max)| *b = base(max));
        // some rows at a time: they are in the first-level cache when their exponentials are computed
        let length = (CHUNK / width).max(1) * width;
        for (each, x) in self.each.chunks_mut(length).zip(self.x.chunks(length)) {
            for (each, x) in each.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
                let pairs = each.iter_mut().zip(x).zip(&*bases);
                pairs.for_each(|((e, &x), &base)| *e = x - base);
            }
            apply(Function::Exp, each, x.len());
        }
        let set_first = |each: &mut [T], to: f64| {
            for k in (0..width).filter(|&k| max[k].to_f64().is_finite()) {
                each[at[k].to_f64() as usize * width + k] = T::of(to);
            }
        };
        set_first(self.each, 0.0);
        let each = &self.each[..self.x.len()];
        fold_columns(Fold::Sum, each, self.lines, width, self.one);
        set_first(self.each, 1.0);
    }
}

/// Contiguous lines up to this length are short,
const SHORT: usize = 32;
/// and so many are transposed together: whole vector groups of `SHORT` elements each.
const ACROSS: usize = 32;
const _: () = assert!((SHORT * ACROSS).is_multiple_of(MAX_VECTOR_GROUP));
/// The columns whose maxima are searched together: as many as have room in registers, or what each
/// row is a multiple of.
const WIDE: usize = 16;
const NARROW: usize = 8;

/// As [`first_max`], of each line of a strip of `N` columns; how many these are. Positions are
/// numbers of the same type, so that one comparison serves both.
#[inline(always)]
fn first_max_of_columns<T: Vectors, const N: usize>(
    x: &[T],
    start: usize,
    (to_max, to_at): (&mut [T], &mut [T]),
) -> usize {
    let (mut max, mut at) = ([T::of(f64::NEG_INFINITY); N], [T::default(); N]);
    let (mut row, one) = (T::default(), T::of(1.0));
    for x in x.chunks_exact(to_max.len()) {
        let x = &x[start..start + N];
        for k in 0..N {
            let is_more = x[k] > max[k];
            max[k] = if is_more { x[k] } else { max[k] };
            at[k] = if is_more { row } else { at[k] };
        }
        row = row + one;
    }
    to_max[start..start + N].copy_from_slice(&max);
    to_at[start..start + N].copy_from_slice(&at);
    N
}

/// The first of the largest elements of a line, which may have NaN: where it is, and the element;
/// -∞ if there is none above that.
#[inline(always)]
fn first_max<T: Vectors>(line: &[T]) -> (usize, T) {
    let (mut lanes, lowest) = ([T::of(f64::NEG_INFINITY); LANES], T::of(f64::NEG_INFINITY));
    let rows = line.chunks_exact(LANES);
    let rest = rows.remainder();
    for row in rows {
        for k in 0..LANES {
            lanes[k] = if row[k] > lanes[k] { row[k] } else { lanes[k] };
        }
    }
    let largest = |max: T, &x: &T| if x > max { x } else { max };
    let max = lanes.iter().chain(rest).fold(lowest, largest);
    let mut start = 0;
    for row in line.chunks_exact(LANES) {
        // without a branch, so that it is done by vectors
        let is_there = row.iter().fold(false, |is, &x| is | (x == max));
        if is_there {
            break;
        }
        start += LANES;
    }
    match line[start..].iter().position(|x| *x == max) {
        Some(k) => (start + k, line[start + k]), // the element itself: -0 equals +0
        None => (0, max),
    }
}

/// Reduces contiguous lines of one chunk, some at a time: the lanes of each, and then the lanes of all
/// lines together, one half with the other until one is left of each line. So whole vectors are joined
/// with those that begin `width` elements later; what does not belong to the same line is not looked
/// at any more.
#[inline(always)]
fn fold_together<M: Monoid, T: Vectors>(x: &[T], n: usize, one: &mut [T]) {
    const TOGETHER: usize = 16 * LANES;
    let mut buffers = [[M::identity(); TOGETHER + LANES]; 2];
    // a short line is its own lanes
    let lanes = n.min(LANES);
    let many = TOGETHER / lanes;
    for (lines, one) in x.chunks(many * n).zip(one.chunks_mut(many)) {
        let [mut from, mut to] = buffers.each_mut();
        let count = lines.len() / n * lanes;
        let mut width = lanes.next_power_of_two();
        if n <= LANES {
            from[..count].copy_from_slice(lines);
        } else {
            let to = from.as_chunks_mut::<LANES>().0;
            lines
                .chunks_exact(n)
                .zip(to)
                .for_each(|(line, lanes)| lanes_of::<M, T>(line, lanes));
        }
        if width > lanes {
            width /= 2; // the second half is shorter
            for line in from[..count].chunks_exact_mut(n) {
                let (low, high) = line.split_at_mut(width);
                join_all::<M, T>(low, high);
            }
        }
        while width > 1 {
            width /= 2;
            let halves = from[..count].iter().zip(&from[width..]);
            for (to, (&a, &b)) in to.iter_mut().zip(halves) {
                *to = M::join(a, b);
            }
            (from, to) = (to, from);
        }
        for (one, &all) in one.iter_mut().zip(from.iter().step_by(lanes)) {
            *one = M::join(M::identity(), all); // a sum is never -0
        }
    }
}

/// The lanes of a contiguous line of one chunk.
#[inline(always)]
fn lanes_of<M: Monoid, T: Vectors>(line: &[T], lanes: &mut [T; LANES]) {
    let (rows, rest) = line.as_chunks::<LANES>();
    let mut all = [M::identity(); LANES];
    for row in rows {
        for k in 0..LANES {
            all[k] = M::join(all[k], row[k]);
        }
    }
    join_all::<M, T>(&mut all, rest);
    *lanes = all;
}

/// Reduces a contiguous line.
fn fold_line<T: Vectors>(fold: Fold, line: &[T]) -> T {
    if line.len() <= CHUNK {
        return fold_chunk(fold, line);
    }
    let mut pairs = FewPairs::default();
    for chunk in line.chunks(CHUNK) {
        pairs.push(fold, fold_chunk(fold, chunk));
    }
    pairs.take(fold)
}

/// Reduces a chunk of a contiguous line.
fn fold_chunk<T: Vectors>(fold: Fold, chunk: &[T]) -> T {
    let mut lanes = [fold.identity(); LANES];
    // SAFETY: whoever has this table has asked for its instructions.
    unsafe { (T::table().fold_rows[fold as usize])(&mut lanes, 0, chunk) };
    with_fold!(fold, M => join_array::<M, T>(&mut lanes))
}

/// The sum of a chunk, without one of its elements, which is 1 afterwards.
fn sum_without<T: Vectors>(chunk: &mut [T], first: Option<usize>) -> T {
    let Some(first) = first else {
        return fold_line(Fold::Sum, chunk);
    };
    chunk[first] = T::default();
    let sum = fold_line(Fold::Sum, chunk);
    chunk[first] = T::of(1.0);
    sum
}

/// Exponentials of a long line, and their sum without one of them, chunk by chunk: each is in the
/// first-level cache while both are computed. `each` may be longer than the line.
fn exp_and_sum<T: Vectors>(each: &mut [T], n: usize, first: Option<usize>) -> T {
    let mut pairs = FewPairs::default();
    for start in (0..n).step_by(CHUNK) {
        let length = CHUNK.min(n - start);
        apply(Function::Exp, &mut each[start..], length);
        let first = first.and_then(|first| first.checked_sub(start));
        let sum = sum_without(
            &mut each[start..start + length],
            first.filter(|&k| k < length),
        );
        pairs.push(Fold::Sum, sum);
    }
    pairs.take(Fold::Sum)
}

/// Reduces lines beside each other: `width` of them, whose elements are rows.
fn fold_columns<T: Vectors>(fold: Fold, x: &[T], lines: Lines, width: usize, one: &mut [T]) {
    // contiguous lines are transposed some at a time; strided ones have at most half as many lanes
    const MOST: usize = LANES / 2 * MAX_VECTOR_GROUP;
    const _: () = assert!(LANES * ACROSS <= MOST);
    let (mut memory, all) = (
        [const { MaybeUninit::uninit() }; MOST],
        lines.lanes() * width,
    );
    let lanes = filled(&mut memory[..all], fold.identity());
    if x.len() > all * DEPTH {
        return fold_columns_by_chunks(fold, x, lanes, width, one);
    }
    // SAFETY: whoever has this table has asked for its instructions.
    unsafe { (T::table().fold_rows[fold as usize])(lanes, 0, x) };
    join_lanes(fold, lanes, width);
    one[..width].copy_from_slice(&lanes[..width]);
}

/// Memory with this number everywhere.
fn filled<T: Copy>(memory: &mut [MaybeUninit<T>], with: T) -> &mut [T] {
    for number in &mut *memory {
        number.write(with);
    }
    // SAFETY: all numbers were written just now.
    unsafe { &mut *(std::ptr::from_mut(memory) as *mut [T]) }
}

/// The same of several chunks.
fn fold_columns_by_chunks<T: Vectors>(
    fold: Fold,
    x: &[T],
    lanes: &mut [T],
    width: usize,
    one: &mut [T],
) {
    // as in `FewPairs`: entry `k` is there if bit `k` of the number of chunks is set. Lines in a
    // block are much shorter than 2¹⁶ chunks
    const LEVELS: usize = 16;
    let mut groups = [[T::default(); MAX_VECTOR_GROUP]; LEVELS];
    let chunks = x.chunks(lanes.len() * DEPTH);
    let count = chunks.len();
    for (number, chunk) in chunks.enumerate() {
        lanes.fill(fold.identity());
        // SAFETY: whoever has this table has asked for its instructions.
        unsafe { (T::table().fold_rows[fold as usize])(lanes, 0, chunk) };
        join_lanes(fold, lanes, width);
        let mut level = 0;
        while number >> level & 1 == 1 {
            fold.join_before(&groups[level][..width], &mut lanes[..width]);
            level += 1;
        }
        groups[level][..width].copy_from_slice(&lanes[..width]);
    }
    let mut left = (0..LEVELS).filter(|level| count >> level & 1 == 1);
    let one = &mut one[..width];
    match left.next() {
        Some(level) => one.copy_from_slice(&groups[level][..width]),
        None => one.fill(fold.identity()),
    }
    left.for_each(|level| fold.join_before(&groups[level][..width], one));
}

/// Scratch memory as a slice of `n` elements.
///
/// # Safety
/// It has as many, and nobody else uses it.
pub(super) unsafe fn memory<'w, T>(start: *mut T, n: usize) -> &'w mut [T] {
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts_mut(start, n) }
}
