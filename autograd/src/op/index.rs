//! Indexing by integer positions, and its transposes, which add at positions.
//!
//! A negative position counts from the end. A position out of range is an error when the value is
//! computed.

use super::{Dependency, Internal, Op, Parts, Rule, compensated::Accumulate, inputs, layout::MOVE};
use crate::{
    error::OpError,
    ints::Int,
    movement::{Word, with_word, words},
    piece::Piece,
    pool::Block,
    shape::Shape,
    tensor::{DType, Number, Tensor, Type, reserve, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::ops::Range;

/// How many positions are checked at once, before they are used.
const BLOCK: usize = 1024;

/// Checks the positions `range` of an index along an axis of size `n`, at most [`BLOCK`] of them,
/// and counts negative ones from the front.
fn positions<'b>(
    index: &[i64],
    range: Range<usize>,
    n: usize,
    block: &'b mut [usize; BLOCK],
) -> Result<&'b [usize], OpError> {
    let block = &mut block[..range.len()];
    let mut is_valid = true;
    for (to, &p) in block.iter_mut().zip(&index[range.clone()]) {
        *to = from_front(p, n);
        is_valid &= *to < n;
    }
    match is_valid {
        true => Ok(block),
        false => Err(first_invalid(index, n)),
    }
}

/// A position counted from the front; at least `n` if it is out of range.
#[inline(always)]
fn from_front(p: i64, n: usize) -> usize {
    // a negative number becomes one that is too large, unless it counts from the end
    let p = (p as u64).wrapping_add(if p < 0 { n as u64 } else { 0 });
    usize::try_from(p).unwrap_or(usize::MAX)
}

/// So many positions are looked at before they are used: in most of an index none counts from the
/// end.
const TOGETHER: usize = 16;

/// Whether all positions count from the front, and are in range.
#[inline(always)]
fn are_plain(index: &[i64], n: usize) -> bool {
    index
        .iter()
        .fold(true, |are, &p| are & ((p as u64) < n as u64))
}

/// The error for the first position that is out of range.
#[cold]
fn first_invalid(index: &[i64], n: usize) -> OpError {
    let found = index.iter().position(|&p| from_front(p, n) >= n);
    let (k, p) = found.map_or((0, 0), |k| (k, index[k]));
    OpError::new(format!(
        "index {p} (element {k}) is out of range for an axis of size {n}"
    ))
}

/// Checks all positions: without elements to move, an index can be wrong all the same.
fn check_all(index: &[i64], n: usize) -> Result<(), OpError> {
    match index.iter().all(|&p| from_front(p, n) < n) {
        true => Ok(()),
        false => Err(first_invalid(index, n)),
    }
}

/// Class labels, all checked. Unlike positions, a negative label is an error and does not count
/// from the end.
pub(crate) fn labels(labels: TensorView<'_>, classes: usize) -> Result<&[i64], OpError> {
    let labels = labels.slice::<i64>()?;
    match labels
        .iter()
        .enumerate()
        .find(|(_, l)| !(0..classes as i64).contains(l))
    {
        None => Ok(labels),
        Some((k, bad)) => {
            let last = classes as i64 - 1;
            Err(OpError::new(format!(
                "label {bad} (element {k}) is not one of the {classes} classes 0 to {last}"
            )))
        }
    }
}

fn expect_index(index: &Type) -> Result<(), OpError> {
    if index.dtype == DType::I64 {
        return Ok(());
    }
    Err(
        OpError::new(format!("the index is {}, not i64", index.dtype))
            .hint("convert it with .cast(DType::I64)"),
    )
}

/// Whole slices along an axis: `out[.., j.., ..] = x[.., index[j..], ..]`
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Take {
    axis: usize,
}

impl Op for Take {
    const NAME: &'static str = "take";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x, index] = inputs::<2>(x)?;
        expect_index(index)?;
        let dims = [
            &x.shape[..self.axis],
            &index.shape,
            &x.shape[self.axis + 1..],
        ]
        .concat();
        Ok(Type::new(x.dtype, Shape::new(&dims)?))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        Parts::elements(x[0].shape[self.axis + 1..].iter().product(), MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (_, n, inner) = x[0].shape.around(self.axis);
        let index = x[1].slice::<i64>()?;
        with_word!(out.dtype(), W => {
            let (first, out) = out.words::<W>();
            take_rows(words::<W>(x[0]), (n, inner), index, first, out)
        })
    }

    /// The cotangents of equal positions add up.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[x, index] = r.x else { return None };
        Some(r.ct.graph().apply(
            IndexAdd {
                axis: self.axis,
                size: x.known_shape()[self.axis],
            },
            &[r.ct, index],
        ))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Moved
    }
}

/// Copies whole rows of `inner` elements: the output is one row for each position, for each block of
/// `n` rows of the input.
fn take_rows<W: Word>(
    x: &[W],
    (n, inner): (usize, usize),
    index: &[i64],
    mut first: usize,
    mut out: &mut [W],
) -> Result<(), OpError> {
    if out.is_empty() {
        return check_all(index, n);
    }
    let (mut block, mut known) = ([0; BLOCK], 0..0);
    while !out.is_empty() {
        let (o, k) = (first / inner / index.len(), first / inner % index.len());
        let rows = (index.len() - k).min(out.len() / inner).min(BLOCK);
        let (to, rest) = out.split_at_mut(rows * inner);
        let from = &x[o * n * inner..][..n * inner];
        if inner == 1 {
            if n == 0 || !gather_row(from, (n, 1), &index[k..k + rows], to, 0) {
                return Err(first_invalid(index, n));
            }
            (first, out) = (first + to.len(), rest);
            continue;
        }
        // those of a short index are the same ones for each block
        if known != (k..k + rows) {
            positions(index, k..k + rows, n, &mut block)?;
            known = k..k + rows;
        }
        let positions = &block[..rows];
        to.chunks_exact_mut(inner)
            .zip(positions)
            .for_each(|(to, &p)| to.copy_from_slice(&from[p * inner..][..inner]));
        (first, out) = (first + to.len(), rest);
    }
    Ok(())
}

const NO_MEMORY: &str = "not enough memory for the sums";

/// What adding an element at a position costs, in light steps.
const ADD: usize = 50;

/// Adds rows of `inner` elements to those of the output, in order: the row of each position of the
/// index, for each block of `n` rows of the output. The output begins and ends with whole rows.
fn add_rows<T: Accumulate>(
    src: &[T],
    (n, inner): (usize, usize),
    index: &[i64],
    first: usize,
    mut out: &mut [T],
) -> Result<(), OpError> {
    if out.is_empty() {
        return check_all(index, n);
    }
    let mut row = first / inner;
    let mut order = Order::default();
    while !out.is_empty() {
        let (o, k) = (row / n, row % n);
        let rows = k..n.min(k + out.len() / inner);
        let (to, rest) = out.split_at_mut(rows.len() * inner);
        let src = &src[o * index.len() * inner..][..index.len() * inner];
        if order.rows != rows {
            order = Order::new(index, rows.clone(), n)?;
        }
        for (k, to) in to.chunks_exact_mut(inner).enumerate() {
            order.add_up(k, src, to);
        }
        (row, out) = (row + rows.len(), rest);
    }
    Ok(())
}

/// Which positions of an index lead to each of some rows, in order.
#[derive(Default)]
struct Order {
    rows: Range<usize>,
    /// Where those of each row begin, and where the last ones end.
    starts: Vec<usize>,
    order: Vec<usize>,
}

impl Order {
    /// By counting.
    fn new(index: &[i64], rows: Range<usize>, n: usize) -> Result<Order, OpError> {
        let mut starts = reserve(rows.len() + 2)?;
        starts.resize(rows.len() + 2, 0usize);
        each_position(index, n, |_, p| {
            if rows.contains(&p) {
                starts[p - rows.start + 2] += 1;
            }
        })?;
        (2..starts.len()).for_each(|k| starts[k] += starts[k - 1]);
        let count = starts[starts.len() - 1];
        let mut order = reserve(count)?;
        order.resize(count, 0);
        each_position(index, n, |k, p| {
            if rows.contains(&p) {
                let next = &mut starts[p - rows.start + 1];
                order[*next] = k;
                *next += 1;
            }
        })?;
        Ok(Order {
            rows,
            starts,
            order,
        })
    }

    /// The sum of all that leads to row `k`.
    fn add_up<T: Accumulate>(&self, k: usize, src: &[T], out: &mut [T]) {
        const COLUMNS: usize = 64;
        let inner = out.len();
        let from = &self.order[self.starts[k]..self.starts[k + 1]];
        if from.is_empty() {
            return out.fill(T::default());
        }
        for (block, out) in out.chunks_mut(COLUMNS).enumerate() {
            let mut sums = [T::Sum::default(); COLUMNS];
            let sums = &mut sums[..out.len()];
            for k in from {
                let src = &src[k * inner + block * COLUMNS..][..out.len()];
                sums.iter_mut()
                    .zip(src)
                    .for_each(|(sum, &x)| T::accumulate(sum, x));
            }
            out.iter_mut()
                .zip(sums)
                .for_each(|(out, sum)| *out = T::total(*sum));
        }
    }
}

/// Calls `f` with each place of an index and its position.
fn each_position(index: &[i64], n: usize, mut f: impl FnMut(usize, usize)) -> Result<(), OpError> {
    let mut block = [0; BLOCK];
    for first in (0..index.len()).step_by(BLOCK) {
        let range = first..index.len().min(first + BLOCK);
        let block = positions(index, range, n, &mut block)?;
        block.iter().enumerate().for_each(|(k, &p)| f(first + k, p));
    }
    Ok(())
}

/// The transpose of [`Take`]: slices added at positions of an axis of this size.
#[derive(Clone, PartialEq, Debug)]
struct IndexAdd {
    axis: usize,
    size: usize,
}

impl Op for IndexAdd {
    const NAME: &'static str = "index_add";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [src, index] = inputs::<2>(x)?;
        expect_index(index)?;
        let middle = src.shape.get(self.axis..self.axis + index.shape.rank());
        if middle != Some(&index.shape[..]) {
            let message = format!(
                "from axis {} on, the shape {} does not match the index shape {}",
                self.axis, src.shape, index.shape
            );
            return Err(OpError::new(message));
        }
        let after = &src.shape[self.axis + index.shape.rank()..];
        Ok(Type::new(
            src.dtype,
            Shape::new(&[&src.shape[..self.axis], &[self.size], after].concat())?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        let after = self.axis + x[1].shape.rank();
        Parts::elements(x[0].shape[after..].iter().product(), ADD).costly()
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        /// Rows from this length on are added up one after the other.
        const LONG: usize = 8;
        let (_, n, inner) = out.shape.around(self.axis);
        let index = x[1].slice::<i64>()?;
        with_dtype!(out.dtype(), float T => {
            let x = x[0].slice::<T>()?;
            if inner < LONG {
                let (own, each) = (index.len(), Each::Row);
                return Scattered { x, index, each, own, inner, n }.add_range(out);
            }
            let (first, out) = out.range::<T>()?;
            add_rows(x, (n, inner), index, first, out)
        }, else super::expect_float(x[0].dtype()))
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(
            r.ct.graph()
                .apply(Take { axis: self.axis }, &[r.ct, r.x[1]]),
        )
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Scattered
    }
}

/// Single elements along an axis: `out[i, j, k] = x[i, index[i, j, k], k]` for axis 1 of 3.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Gather {
    axis: usize,
}

/// Checks the shapes of gather: equal except along the axis.
fn expect_aligned(x: &Shape, index: &Type, axis: usize) -> Result<(), OpError> {
    expect_index(index)?;
    let fits = x.rank() == index.shape.rank()
        && (0..x.rank()).all(|k| k == axis || x[k] == index.shape[k]);
    if fits {
        return Ok(());
    }
    Err(OpError::new(format!(
        "the index {} and {x} must have equal sizes except along axis {axis}",
        index.shape
    )))
}

/// Copies one element for each position from `first` on. Blocks of the index have `own` rows of
/// `inner` positions, those of `x` have `n` rows.
fn gather_range<W: Word>(
    x: &[W],
    (n, own, inner): (usize, usize, usize),
    index: &[i64],
    mut first: usize,
    mut out: &mut [W],
) -> Result<(), OpError> {
    let mut are_valid = n > 0 || out.is_empty();
    while are_valid && !out.is_empty() {
        let (o, at) = (first / (own * inner), first % (own * inner));
        let x = &x[o * n * inner..][..n * inner];
        // whole rows, or a part of one
        let (rows, columns) = match at % inner {
            0 if out.len() >= inner => ((own - at / inner).min(out.len() / inner), 0..inner),
            column => (1, column..inner.min(column + out.len())),
        };
        let (to, rest) = out.split_at_mut(rows * columns.len());
        let index = &index[first..first + to.len()];
        if inner == 1 {
            are_valid &= gather_row(x, (n, 1), index, to, 0);
        } else {
            let rows = to
                .chunks_mut(columns.len())
                .zip(index.chunks(columns.len()));
            for (to, index) in rows {
                are_valid &= gather_row(&x[columns.start..], (n, inner), index, to, 1);
            }
        }
        (first, out) = (first + to.len(), rest);
    }
    match are_valid {
        true => Ok(()),
        false => Err(first_invalid(index, n)),
    }
}

/// Copies one element for each position, from columns that are `next` apart. Whether all positions
/// are valid; there must be at least one row.
#[inline(always)]
fn gather_row<W: Word>(
    x: &[W],
    (n, inner): (usize, usize),
    index: &[i64],
    to: &mut [W],
    next: usize,
) -> bool {
    let (mut are_valid, mut column) = (true, 0);
    for (to, index) in to.chunks_mut(TOGETHER).zip(index.chunks(TOGETHER)) {
        if are_plain(index, n) {
            for (to, &p) in to.iter_mut().zip(index) {
                *to = x[p as usize * inner + column];
                column += next;
            }
            continue;
        }
        for (to, &p) in to.iter_mut().zip(index) {
            let p = from_front(p, n);
            are_valid &= p < n;
            *to = x[if p < n { p } else { 0 } * inner + column];
            column += next;
        }
    }
    are_valid
}

impl Op for Gather {
    const NAME: &'static str = "gather";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x, index] = inputs::<2>(x)?;
        expect_aligned(&x.shape, index, self.axis)?;
        Ok(Type::new(x.dtype, index.shape))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(1, ADD)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (n, index) = (x[0].shape[self.axis], x[1].slice::<i64>()?);
        let (_, own, inner) = x[1].shape.around(self.axis);
        with_word!(out.dtype(), W => {
            let (first, out) = out.words::<W>();
            gather_range(words::<W>(x[0]), (n, own, inner), index, first, out)
        })
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[x, index] = r.x else { return None };
        Some(r.ct.graph().apply(
            Scatter {
                axis: self.axis,
                size: x.known_shape()[self.axis],
            },
            &[r.ct, index],
        ))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Moved
    }
}

/// The transpose of [`Gather`]: elements added at positions of an axis of this size.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Scatter {
    axis: usize,
    size: usize,
}

impl Scatter {
    /// Whether threads get columns of their own, rather than positions of their own, for which each
    /// has to look at all of the index.
    fn is_cut_between_columns(&self, shape: &Shape) -> bool {
        shape[self.axis + 1..].iter().product::<usize>() >= 64
    }
}

/// Bytes that stay in the second-level cache.
const NEAR: usize = 1 << 18;

/// What a position of an index is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Each {
    /// An element.
    Element,
    /// A row, in all blocks.
    Row,
}

/// Elements to be added at positions: blocks of `own` rows of `inner`, of which each element goes
/// to a row of the same block of the output, which has `n`.
struct Scattered<'a, T> {
    x: &'a [T],
    index: &'a [i64],
    each: Each,
    own: usize,
    inner: usize,
    n: usize,
}

impl<T: Accumulate> Scattered<'_, T> {
    /// Adds up some columns of the output, a few at a time.
    fn add_columns(&self, mut out: Piece<'_>) -> Result<(), OpError> {
        // more than fits the second-level cache, but less is worse: rows of a few elements each
        let few = (2 * NEAR / size_of::<T::Sum>() / self.n.max(1)).clamp(32, 64);
        let mut block_of_sums = Block::blank(T::TERMS * self.n * few).ok_or(NO_MEMORY)?;
        let all_sums = T::sums(block_of_sums.elements_mut());
        for block in out.blocks.clone() {
            for column in out.columns.clone().step_by(few) {
                let columns = column..out.columns.end.min(column + few);
                let (width, skipped) = (columns.len(), column - out.columns.start);
                let sums = &mut all_sums[..self.n * width];
                sums.fill(T::Sum::default());
                self.add(block, 0..self.n, columns, sums)?;
                for (k, sums) in sums.chunks_exact(width).enumerate() {
                    T::totals(sums, &mut out.row(block, k)?[skipped..skipped + width]);
                }
            }
        }
        Ok(())
    }

    /// Adds up a range of the output: whole rows.
    fn add_range(&self, mut out: Piece<'_>) -> Result<(), OpError> {
        let (first, mut out) = out.range::<T>()?;
        if out.is_empty() {
            return check_all(self.index, self.n);
        }
        let mut row = first / self.inner;
        let most = (self.n * self.inner).min(out.len());
        let mut block_of_sums = Block::blank(T::TERMS * most).ok_or(NO_MEMORY)?;
        let all_sums = T::sums(block_of_sums.elements_mut());
        while !out.is_empty() {
            let (block, k) = (row / self.n, row % self.n);
            let rows = k..self.n.min(k + out.len() / self.inner);
            let (to, rest) = out.split_at_mut(rows.len() * self.inner);
            let sums = &mut all_sums[..to.len()];
            sums.fill(T::Sum::default());
            self.add(block, rows.clone(), 0..self.inner, sums)?;
            T::totals(sums, to);
            (row, out) = (row + rows.len(), rest);
        }
        Ok(())
    }

    /// Adds what goes to some rows and columns of a block, in order.
    fn add(
        &self,
        block: usize,
        rows: Range<usize>,
        columns: Range<usize>,
        sums: &mut [T::Sum],
    ) -> Result<(), OpError> {
        let size = self.own * self.inner;
        let x = &self.x[block * size..][..size];
        let index = match self.each {
            Each::Element => &self.index[block * size..][..size],
            Each::Row => self.index,
        };
        let are_valid = if self.inner > 1 {
            self.add_rows((index, x), rows, columns, sums)
        } else if size_of_val(sums) <= 2 * NEAR {
            let add = |row: usize, x| T::accumulate(&mut sums[row], x);
            self.each((index, x), &rows, add)
        } else {
            self.add_in_buckets((index, x), &rows, sums)?
        };
        match are_valid {
            true => Ok(()),
            false => Err(first_invalid(self.index, self.n)),
        }
    }

    /// Adds to rows of several elements. Whether all positions are valid.
    fn add_rows(
        &self,
        (index, x): (&[i64], &[T]),
        rows: Range<usize>,
        columns: Range<usize>,
        sums: &mut [T::Sum],
    ) -> bool {
        let (mut are_valid, width) = (true, columns.len());
        let mut row = |p: i64| {
            let p = from_front(p, self.n);
            are_valid &= p < self.n;
            let row = p.wrapping_sub(rows.start);
            (row < rows.len()).then_some(row)
        };
        for k in 0..self.own {
            let range = k * self.inner + columns.start..k * self.inner + columns.end;
            let x = &x[range.clone()];
            match self.each {
                Each::Row => {
                    if let Some(row) = row(index[k]) {
                        let sums = sums[row * width..][..width].iter_mut();
                        sums.zip(x).for_each(|(sum, &x)| T::accumulate(sum, x));
                    }
                }
                Each::Element => {
                    for (column, (&x, &p)) in x.iter().zip(&index[range]).enumerate() {
                        if let Some(row) = row(p) {
                            T::accumulate(&mut sums[row * width + column], x);
                        }
                    }
                }
            }
        }
        are_valid
    }

    /// Adds to rows of one element, of which there are more than fit the second-level cache: terms
    /// are first brought together by place, in their order, so that those of one bucket go to sums
    /// that do.
    fn add_in_buckets(
        &self,
        (index, x): (&[i64], &[T]),
        rows: &Range<usize>,
        sums: &mut [T::Sum],
    ) -> Result<bool, OpError> {
        /// More terms are taken one batch after the other.
        const BATCH: usize = 1 << 20;
        const MAX_BUCKETS: usize = 256;
        let size = (NEAR / size_of::<T::Sum>()).max(sums.len().div_ceil(MAX_BUCKETS));
        let shift = size.next_power_of_two().trailing_zeros();
        let (mut ends, mut are_valid) = (vec![0; (sums.len() >> shift) + 1], true);
        let count = x.len().min(BATCH);
        let mut sorted = reserve(count)?;
        sorted.resize(count, (0, T::default()));
        for batch in index.chunks(BATCH).zip(x.chunks(BATCH)) {
            ends.fill(0);
            are_valid &= self.each(batch, rows, |row, _| ends[row >> shift] += 1);
            let mut next = 0;
            let starts = |end: &mut usize| (*end, next) = (next, next + *end);
            ends.iter_mut().for_each(starts);
            self.each(batch, rows, |row, x| {
                let end = &mut ends[row >> shift];
                sorted[*end] = ((row & ((1 << shift) - 1)) as u32, x);
                *end += 1;
            });
            let mut start = 0;
            for (sums, &end) in sums.chunks_mut(1 << shift).zip(&ends) {
                for &(row, x) in &sorted[start..end] {
                    T::accumulate(&mut sums[row as usize], x);
                }
                start = end;
            }
        }
        Ok(are_valid)
    }

    /// Calls `f` for elements that go to some rows of one element each: with the place within these
    /// rows, and the element. Whether all positions are valid.
    #[inline(always)]
    fn each(
        &self,
        (index, x): (&[i64], &[T]),
        rows: &Range<usize>,
        mut f: impl FnMut(usize, T),
    ) -> bool {
        let mut are_valid = true;
        for (&p, &x) in index.iter().zip(x) {
            let p = from_front(p, self.n);
            are_valid &= p < self.n;
            let row = p.wrapping_sub(rows.start);
            if row < rows.len() {
                f(row, x);
            }
        }
        are_valid
    }
}

impl Op for Scatter {
    const NAME: &'static str = "scatter_add";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [src, index] = inputs::<2>(x)?;
        super::expect_float(src.dtype)?;
        expect_aligned(&src.shape, index, self.axis)?;
        if src.shape != index.shape {
            return Err(OpError::new(format!(
                "the source {} and the index {} must have equal shapes",
                src.shape, index.shape
            )));
        }
        Ok(Type::new(
            src.dtype,
            src.shape.resized(self.axis, self.size)?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        if out.shape.count() == 0 {
            return check_all(x[1].slice()?, self.size);
        }
        let out = match self.is_cut_between_columns(x[0].shape) {
            true => Piece::of_lines(out, self.axis),
            false => Piece::whole(out),
        };
        self.piece(x, out, Internal(()))
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        match self.is_cut_between_columns(&x[0].shape) {
            true => Parts::lines(self.axis, ADD),
            false => Parts::elements(x[0].shape[self.axis + 1..].iter().product(), ADD).costly(),
        }
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let index = x[1].slice::<i64>()?;
        let (_, own, inner) = x[1].shape.around(self.axis);
        let by_columns = self.is_cut_between_columns(x[0].shape);
        with_dtype!(out.dtype(), float T => {
            let (x, each, n) = (x[0].slice::<T>()?, Each::Element, self.size);
            let source = Scattered { x, index, each, own, inner, n };
            match by_columns {
                true => source.add_columns(out),
                false => source.add_range(out),
            }
        }, else super::expect_float(x[0].dtype()))
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(
            r.ct.graph()
                .apply(Gather { axis: self.axis }, &[r.ct, r.x[1]]),
        )
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Scattered
    }
}

/// 1 at the label, 0 elsewhere, in a new last axis.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct OneHot {
    classes: usize,
    dtype: DType,
}

impl Op for OneHot {
    const NAME: &'static str = "one_hot";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [labels] = inputs::<1>(x)?;
        expect_index(labels)?;
        Ok(Type::new(
            self.dtype,
            Shape::new(&[&labels.shape, &[self.classes][..]].concat())?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        labels(x[0], self.classes)?; // also where there are no classes
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(self.classes, MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (classes, all) = (self.classes.max(1), x[0].slice::<i64>()?);
        let one = Tensor::number(Number::Int(1), self.dtype);
        with_word!(self.dtype, W => {
            let one = words::<W>(one.as_view())[0];
            let (first, out) = out.words::<W>();
            out.fill(W::default());
            for (line, &label) in out.chunks_exact_mut(classes).zip(&all[first / classes..]) {
                let at = usize::try_from(label).ok().and_then(|k| line.get_mut(k));
                *at.ok_or("a label is not one of the classes")? = one;
            }
            Ok(())
        })
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::None
    }
}

impl<'g> Var<'g> {
    /// Slices along an axis, selected by an i64 tensor of any shape, whose axes replace that axis
    /// (NumPy's `take`; PyTorch's `index_select` and embeddings). The cotangents of a slice that is
    /// selected twice add up.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let table = g.input([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    /// let rows = table.take(g.constant([2, 0, 2]), 0);
    /// assert_eq!(rows.value()?.to_f64s(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
    /// let counts = rows.sum().backward()?;
    /// let counts = counts.get(table).map(|d| d.to_f64s());
    /// assert_eq!(counts, Some(vec![1.0, 1.0, 0.0, 0.0, 2.0, 2.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "index_select")]
    #[doc(alias = "embedding")]
    pub fn take(self, index: Var<'g>, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(Take::NAME, |shape| {
            Ok(self.graph().apply(
                Take {
                    axis: shape.axis(axis)?,
                },
                &[self, index],
            ))
        })
    }

    /// One element for each element of an i64 tensor, which has the same sizes except along the
    /// axis: `out[i][j] = self[i][index[i][j]]` for axis 1 (PyTorch's `gather`, NumPy's
    /// `take_along_axis`).
    #[track_caller]
    #[doc(alias = "take_along_axis")]
    #[doc(alias = "take_along_dim")]
    pub fn gather(self, axis: impl Int, index: Var<'g>) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(Gather::NAME, |shape| {
            Ok(self.graph().apply(
                Gather {
                    axis: shape.axis(axis)?,
                },
                &[self, index],
            ))
        })
    }

    /// A copy of `self` with the elements of `source` added at the positions of `index` along an
    /// axis: the transpose of [`gather`](Var::gather). `index` and `source` have equal shapes.
    /// Terms at one position are added in order with compensated summation, as in
    /// [`cumsum`](Var::cumsum), so rounding errors do not accumulate.
    #[track_caller]
    #[doc(alias = "index_add")]
    #[doc(alias = "segment_sum")]
    pub fn scatter_add(self, axis: impl Int, index: Var<'g>, source: Var<'g>) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(Scatter::NAME, |shape| {
            let axis = shape.axis(axis)?;
            Ok(self
                + self.graph().apply(
                    Scatter {
                        axis,
                        size: shape[axis],
                    },
                    &[source, index],
                ))
        })
    }

    /// One-hot encoding: 1 at each label and 0 elsewhere. Labels `[..]` (i64) give `[.., classes]`
    /// of this dtype. A label outside `0..classes` is an error when the value is computed.
    #[track_caller]
    pub fn one_hot(self, classes: usize, dtype: DType) -> Var<'g> {
        self.apply(OneHot { classes, dtype })
    }
}
