//! Reductions along lines that no kernel does: of integers and booleans, and the positions of
//! extremes. A line at a time, or some lines beside each other, row by row. All results are exact, so
//! their order is free: the loops have lanes, of which the compiler makes vectors.

use super::{Parts, layout::MOVE};
use crate::{
    error::OpError,
    math::fold::Lines,
    piece::Piece,
    shape::Axes,
    tensor::{Element, Type},
    view::TensorView,
};
use std::{hint::select_unpredictable, ops::Range};

/// How many lines beside each other are reduced at once.
const COLUMNS: usize = 256;

/// A reduction of lines.
pub(super) trait LineFold<T> {
    type Out: Element;
    /// Of one line.
    fn line(&mut self, x: &[T]) -> Self::Out;
    /// Of lines beside each other, at most [`COLUMNS`]: one for each place of `out`.
    fn columns(&mut self, rows: Rows<'_, T>, out: &mut [Self::Out]);
}

/// Some lines beside each other: the same columns of all rows.
#[derive(Clone)]
pub(super) struct Rows<'a, T> {
    x: &'a [T],
    inner: usize,
    columns: Range<usize>,
}

impl<'a, T> Rows<'a, T> {
    fn iter(&self) -> impl Iterator<Item = &'a [T]> {
        let columns = self.columns.clone();
        let rows = self.x.chunks_exact(self.inner);
        rows.map(move |row| &row[columns.clone()])
    }
}

/// Where a reduction of a tensor by [`reduce_lines`] may be cut; floats are reduced elsewhere.
pub(super) fn parts_of_lines(x: &Type) -> Parts {
    match x.dtype.is_float() {
        true => Parts::WHOLE,
        false => Parts::elements(1, MOVE),
    }
}

/// Reduces some lines along axes that follow each other.
pub(super) fn reduce_lines<T: Element, F: LineFold<T>>(
    fold: &mut F,
    x: TensorView<'_>,
    axes: Axes,
    mut out: Piece<'_>,
) -> Result<(), OpError> {
    let Lines { n, inner } = lines(x, axes);
    let x = x.slice::<T>()?;
    let (mut first, mut out) = out.range::<F::Out>()?;
    while !out.is_empty() {
        let (block, column) = (first / inner, first % inner);
        let count = (inner - column).min(out.len()).min(COLUMNS);
        let (to, rest) = out.split_at_mut(count);
        let x = &x[block * n * inner..][..n * inner];
        if inner == 1 {
            to[0] = fold.line(x);
        } else {
            let columns = column..column + count;
            fold.columns(Rows { x, inner, columns }, to);
        }
        (first, out) = (first + count, rest);
    }
    Ok(())
}

fn lines(x: TensorView<'_>, axes: Axes) -> Lines {
    let (shape, n) = (x.shape, axes.count(x.shape));
    match shape.count() {
        // all lines are empty, whatever the axes
        0 => Lines { n: 0, inner: 1 },
        _ => {
            let end = (0..shape.rank()).rev().find(|&k| axes.has(k));
            let inner = end.map_or(1, |last| shape[last + 1..].iter().product());
            Lines { n, inner }
        }
    }
}

/// The sum of integers, or the number of booleans that are true. It is exact, so it fails only if
/// the sum itself does not fit, not for an intermediate one.
pub(super) struct IntegerSum {
    pub(super) fits: bool,
}

/// The halves of so many integers can be added in 64 bits.
const MANY: usize = 1 << 20;

/// Adds the halves of integers, each in 64 bits.
#[inline(always)]
fn add_halves((low, high): (&mut u64, &mut i64), x: i64) {
    *low += u64::from(x as u32);
    *high += x >> 32;
}

fn joined((low, high): (u64, i64)) -> i128 {
    (i128::from(high) << 32) + i128::from(low)
}

impl IntegerSum {
    fn rounded(&mut self, sum: i128) -> i64 {
        let fitting = i64::try_from(sum);
        self.fits &= fitting.is_ok();
        fitting.unwrap_or(0)
    }

    fn sum_columns<T: Copy + Into<i64>>(&mut self, rows: &Rows<'_, T>, out: &mut [i64]) {
        let n = out.len();
        let (mut low, mut high, mut sums) = ([0; COLUMNS], [0; COLUMNS], [0; COLUMNS]);
        let (low, high, sums) = (&mut low[..n], &mut high[..n], &mut sums[..n]);
        let mut left = rows.x.len() / rows.inner;
        for row in rows.iter() {
            let row = &row[..n]; // for the compiler: no checks in the loop
            for k in 0..n {
                add_halves((&mut low[k], &mut high[k]), row[k].into());
            }
            left -= 1;
            if left.is_multiple_of(MANY) {
                for k in 0..n {
                    sums[k] += joined((low[k], high[k]));
                    (low[k], high[k]) = (0, 0);
                }
            }
        }
        let all = out.iter_mut().zip(sums);
        all.for_each(|(out, sum)| *out = self.rounded(*sum));
    }
}

impl LineFold<i64> for IntegerSum {
    type Out = i64;

    fn line(&mut self, x: &[i64]) -> i64 {
        let sum = |x: &[i64]| {
            let (mut low, mut high) = (0, 0);
            x.iter().for_each(|&x| add_halves((&mut low, &mut high), x));
            joined((low, high))
        };
        self.rounded(x.chunks(MANY).map(sum).sum())
    }

    fn columns(&mut self, rows: Rows<'_, i64>, out: &mut [i64]) {
        self.sum_columns(&rows, out);
    }
}

impl LineFold<bool> for IntegerSum {
    type Out = i64;

    fn line(&mut self, x: &[bool]) -> i64 {
        const LANES: usize = 32;
        // so few that the lanes, which are bytes, do not overflow
        let count = |x: &[bool]| {
            let (mut lanes, rows) = ([0u8; LANES], x.chunks_exact(LANES));
            let rest = rows.remainder().iter().filter(|x| **x).count();
            for row in rows {
                for k in 0..LANES {
                    lanes[k] += u8::from(row[k]);
                }
            }
            rest + lanes.iter().map(|&n| usize::from(n)).sum::<usize>()
        };
        let most = usize::from(u8::MAX) * LANES;
        x.chunks(most).map(count).sum::<usize>() as i64
    }

    fn columns(&mut self, rows: Rows<'_, bool>, out: &mut [i64]) {
        self.sum_columns(&rows, out);
    }
}

/// The largest integer, or, if they are flipped, the smallest one. There must be one.
pub(super) struct Largest {
    pub(super) flip: bool,
}

impl LineFold<i64> for Largest {
    type Out = i64;

    fn line(&mut self, x: &[i64]) -> i64 {
        let flipped = x.iter().map(|x| x.flipped(self.flip));
        flipped.fold(i64::MIN, i64::max).flipped(self.flip)
    }

    fn columns(&mut self, rows: Rows<'_, i64>, out: &mut [i64]) {
        let flip = self.flip;
        out.fill(i64::MIN);
        for row in rows.iter() {
            let pairs = out.iter_mut().zip(row);
            pairs.for_each(|(max, x)| *max = x.flipped(flip).max(*max));
        }
        out.iter_mut().for_each(|max| *max = max.flipped(flip));
    }
}

/// Whether all booleans are true, or any.
pub(super) struct Holds {
    pub(super) all: bool,
}

impl LineFold<bool> for Holds {
    type Out = bool;

    fn line(&mut self, x: &[bool]) -> bool {
        // whether there is one that decides: checked for many at once
        let all = self.all;
        let is_among = |x: &[bool]| x.iter().fold(false, |is, &x| is | (x != all));
        x.chunks(1024).any(is_among) != all
    }

    fn columns(&mut self, rows: Rows<'_, bool>, out: &mut [bool]) {
        let all = self.all;
        out.fill(all);
        for row in rows.iter() {
            let pairs = out.iter_mut().zip(row);
            match all {
                true => pairs.for_each(|(out, &x)| *out &= x),
                false => pairs.for_each(|(out, &x)| *out |= x),
            }
        }
    }
}

/// Elements whose order can be reversed: then the smallest one is the largest.
pub(super) trait Flipped: Element {
    fn flipped(self, flip: bool) -> Self;
}

macro_rules! flipped {
    ($($T:ident |$x:ident, $flip:ident| $flipped:expr;)*) => { $(
        impl Flipped for $T {
            #[inline(always)]
            fn flipped(self, $flip: bool) -> $T {
                let $x = self;
                $flipped
            }
        }
    )* };
}
flipped! {
    f32 |x, flip| f32::from_bits(x.to_bits() ^ u32::from(flip) << 31);
    f64 |x, flip| f64::from_bits(x.to_bits() ^ u64::from(flip) << 63);
    i64 |x, flip| x ^ -i64::from(flip);
}

/// The position of the first NaN, or of the first of the largest elements, or, if they are flipped,
/// of the smallest ones. There must be one.
pub(super) struct FirstLargest {
    pub(super) flip: bool,
}

/// The elements that are compared at once.
const LANES: usize = 16;

impl FirstLargest {
    /// The largest of some elements; none if there is a NaN.
    fn largest<T: Flipped>(&self, x: &[T]) -> Option<T> {
        let flip = self.flip;
        let (mut lanes, mut is_nan) = ([x[0].flipped(flip); LANES], [false; LANES]);
        let rows = x.chunks_exact(LANES);
        let rest = rows.remainder();
        for row in rows {
            for k in 0..LANES {
                let x = row[k].flipped(flip);
                is_nan[k] |= is_nan_of(x);
                lanes[k] = if x > lanes[k] { x } else { lanes[k] };
            }
        }
        for (k, x) in rest.iter().enumerate() {
            let x = x.flipped(flip);
            is_nan[k] |= is_nan_of(x);
            lanes[k] = if x > lanes[k] { x } else { lanes[k] };
        }
        let largest = |max: T, &x: &T| if x > max { x } else { max };
        let is_nan = is_nan.iter().fold(false, |is, &one| is | one);
        (!is_nan).then(|| lanes.iter().fold(lanes[0], largest))
    }
}

/// Whether an element differs from itself.
#[inline(always)]
#[allow(clippy::eq_op)]
fn is_nan_of<T: Element>(x: T) -> bool {
    x != x
}

impl<T: Flipped> LineFold<T> for FirstLargest {
    type Out = i64;

    fn line(&mut self, x: &[T]) -> i64 {
        /// A block stays in the first-level cache until its largest element is found again.
        const BLOCK: usize = 1024;
        let flip = self.flip;
        let (mut max, mut start) = (x[0].flipped(flip), 0);
        if !T::DTYPE.is_float() {
            // there are no vectors of these that all processors compare
            for (k, x) in x.iter().enumerate() {
                let x = x.flipped(flip);
                (max, start) = if x > max { (x, k) } else { (max, start) };
            }
            return start as i64;
        }
        for (k, block) in x.chunks(BLOCK).enumerate() {
            let Some(of_block) = self.largest(block) else {
                let first = block.iter().position(|&x| is_nan_of(x));
                return (k * BLOCK + first.unwrap_or(0)) as i64;
            };
            if of_block > max {
                (max, start) = (of_block, k * BLOCK);
            }
        }
        for row in x[start..].chunks_exact(LANES) {
            // without a branch, so that it is done by vectors
            if row
                .iter()
                .fold(false, |is, x| is | (x.flipped(flip) == max))
            {
                break;
            }
            start += LANES;
        }
        let rest = x[start..].iter().position(|x| x.flipped(flip) == max);
        (start + rest.unwrap_or(0)) as i64
    }

    fn columns(&mut self, rows: Rows<'_, T>, out: &mut [i64]) {
        let (n, flip) = (out.len(), self.flip);
        let mut max = [T::default(); COLUMNS];
        let max = &mut max[..n];
        for (number, row) in rows.iter().enumerate() {
            if number == 0 {
                let pairs = max.iter_mut().zip(row);
                pairs.for_each(|(max, x)| *max = x.flipped(flip));
                out.fill(0);
            }
            let row = &row[..n];
            for k in 0..n {
                let x = row[k].flipped(flip);
                // true if one of them is NaN, but the first NaN stays
                #[allow(clippy::neg_cmp_op_on_partial_ord)]
                let is_more = !(x <= max[k]) & !is_nan_of(max[k]);
                max[k] = select_unpredictable(is_more, x, max[k]);
                out[k] = select_unpredictable(is_more, number as i64, out[k]);
            }
        }
    }
}
