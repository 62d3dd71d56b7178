//! Integers as arguments: axes, sizes, positions and ranges, of any integer type. A `usize` that
//! comes from a shape and a negative number that counts from the end are both taken as they are.

use crate::shape::Shape;
use std::{
    collections::Bound::{self, Excluded, Included, Unbounded},
    ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive},
};

/// An integer: an axis, a position or a size. `usize`, `isize`, `i32`, `i64`, `u32` and `u8`.
///
/// ```
/// let g = autograd::Graph::new();
/// let x = g.input([[1.0, 2.0], [3.0, 4.0]]);
/// let last = x.shape()?.rank() - 1; // usize
/// assert_eq!(x.softmax(last).value()?, x.softmax(-1).value()?);
/// # Ok::<(), autograd::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an integer",
    label = "expected an axis, a position or a size",
    note = "`usize`, `isize`, `i32`, `i64`, `u32` and `u8` are; a list goes to the methods that take several axes"
)]
pub trait Int: Copy {
    /// The integer, or the nearest `isize`: no axis has so many elements.
    fn int(self) -> isize;
}

/// An integer or a list of integers: sizes or axes. `2`, `[2, 3]`, `&[-1, 3]`, a `Vec`, a
/// [`Shape`]; a tuple if the types differ, as in `(batch, -1)`.
///
/// ```
/// let g = autograd::Graph::new();
/// let x = g.input([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
/// let [rows, _] = x.sizes()?; // usize
/// assert_eq!(x.reshape((1, rows, -1)).shape()?[..], [1, 3, 2]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an integer or a list of integers",
    label = "expected sizes or axes",
    note = "`2`, `[2, 3]`, `&[2, 3]`, a `Vec` or a `Shape` are; if the types of the integers differ, use a tuple: `(batch, -1)`"
)]
pub trait Ints {
    /// The integers as a list.
    fn list(&self) -> Vec<isize>;
}

macro_rules! ints {
    ($($T:ty)*) => { $(
        impl Int for $T {
            fn int(self) -> isize {
                // a size beyond `isize` is rejected later as too large, with the shape in the message
                isize::try_from(self).unwrap_or(if self > 0 { isize::MAX } else { isize::MIN })
            }
        }
        impl Ints for $T { fn list(&self) -> Vec<isize> { vec![self.int()] } }
        impl<const N: usize> Ints for [$T; N] { fn list(&self) -> Vec<isize> { self[..].list() } }
        impl Ints for [$T] { fn list(&self) -> Vec<isize> { self.iter().map(|v| v.int()).collect() } }
        impl Ints for Vec<$T> { fn list(&self) -> Vec<isize> { self[..].list() } }
    )* };
}
ints! { i32 i64 isize usize u32 u8 }

macro_rules! tuples {
    ($(($($I:ident)*))*) => { $(
        #[allow(non_snake_case)]
        impl<$($I: Int),*> Ints for ($($I,)*) {
            fn list(&self) -> Vec<isize> {
                let ($($I,)*) = *self;
                vec![$($I.int()),*]
            }
        }
    )* };
}
tuples! { (A) (A B) (A B C) (A B C D) (A B C D E) (A B C D E F) (A B C D E F G) (A B C D E F G H) }

impl Ints for Shape {
    fn list(&self) -> Vec<isize> {
        self[..].list()
    }
}

impl<I: Ints + ?Sized> Ints for &I {
    fn list(&self) -> Vec<isize> {
        (**self).list()
    }
}

/// A range of an axis: `1..3`, `..n`, `2..`, `..`, of any integer type, or `(start, end)` if the
/// types differ: `(n, -1)`. Negative positions count from the end.
///
/// ```
/// let g = autograd::Graph::new();
/// let x = g.input([1.0, 2.0, 3.0, 4.0, 5.0]);
/// let half = x.shape()?.count() / 2; // usize
/// assert_eq!(x.slice(0, half..).value()?.to_f64s(), [3.0, 4.0, 5.0]);
/// assert_eq!(x.slice(0, ..-1).value()?.to_f64s(), [1.0, 2.0, 3.0, 4.0]);
/// assert_eq!(x.slice(0, (half, -1)).value()?.to_f64s(), [3.0, 4.0]);
/// # Ok::<(), autograd::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a range of integers",
    label = "expected a range such as `1..3`",
    note = "if start and end are of different types, as `n` and `-1` are, use a pair: `(n, -1)`; one position is a range, too: `k..=k`"
)]
pub trait IntRange {
    /// Where the range starts and ends.
    fn bounds(self) -> (Bound<isize>, Bound<isize>);
}

macro_rules! ranges {
    ($($Range:ident $range:ident => $start:expr, $end:expr;)*) => { $(
        impl<I: Int> IntRange for $Range<I> {
            fn bounds(self) -> (Bound<isize>, Bound<isize>) {
                let $range = self;
                ($start, $end)
            }
        }
    )* };
}
ranges! {
    Range r => Included(r.start.int()), Excluded(r.end.int());
    RangeFrom r => Included(r.start.int()), Unbounded;
    RangeTo r => Unbounded, Excluded(r.end.int());
    RangeInclusive r => Included(r.start().int()), Included(r.end().int());
    RangeToInclusive r => Unbounded, Included(r.end.int());
}

impl IntRange for RangeFull {
    fn bounds(self) -> (Bound<isize>, Bound<isize>) {
        (Unbounded, Unbounded)
    }
}

impl<A: Int, B: Int> IntRange for (A, B) {
    fn bounds(self) -> (Bound<isize>, Bound<isize>) {
        (Included(self.0.int()), Excluded(self.1.int()))
    }
}

impl<A: Int, B: Int> IntRange for (Bound<A>, Bound<B>) {
    fn bounds(self) -> (Bound<isize>, Bound<isize>) {
        (self.0.map(Int::int), self.1.map(Int::int))
    }
}
