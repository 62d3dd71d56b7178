//! Sorting along an axis. The order has no gradient. Sorted values are gathered by it, so the
//! gradient of each value goes to the element it came from.

use super::{Dependency, Internal, Op, Parts, Rule, inputs};
use crate::{
    error::OpError,
    ints::Int,
    piece::Piece,
    tensor::{DType, Element, Type, reserve, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::ops::Range;

/// The positions along an axis in ascending or descending order of their elements, or the first few
/// of them; a stable sort. NaN counts as larger than everything.
#[derive(Clone, PartialEq, Debug)]
struct ArgSort {
    axis: usize,
    descending: bool,
    /// How many positions are wanted; all if `None`.
    first: Option<usize>,
}

/// Maps elements to unsigned integers in the same order, of as many bits.
trait Ranked: Element {
    fn rank(self) -> u64;
}

macro_rules! ranked_float {
    ($($T:ident $Bits:ident)*) => { $(
        impl Ranked for $T {
            /// The bits of positive floats, read as integers, are in the order of the floats; those
            /// of negative floats are in the opposite order. Both zeros are equal. All NaN are
            /// equal and the largest.
            #[inline(always)]
            fn rank(self) -> u64 {
                const SIGN: $Bits = 1 << ($Bits::BITS - 1);
                let bits = (self + 0.0).to_bits();
                let rank = if bits >= SIGN { !bits } else { bits | SIGN };
                (if self.is_nan() { $Bits::MAX } else { rank }).into()
            }
        }
    )* };
}
ranked_float! { f32 u32 f64 u64 }

impl Ranked for i64 {
    #[inline(always)]
    fn rank(self) -> u64 {
        self as u64 ^ 1 << 63
    }
}

impl Ranked for bool {
    #[inline(always)]
    fn rank(self) -> u64 {
        self.into()
    }
}

/// What sorting an element costs, in light steps.
const SORT: usize = 400;

impl Op for ArgSort {
    const NAME: &'static str = "argsort";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let shape = inputs::<1>(x)?[0].shape;
        let size = self.first.unwrap_or(shape[self.axis]);
        Ok(Type::new(DType::I64, shape.resized(self.axis, size)?))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::of_lines(out, self.axis), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::lines(self.axis, SORT)
    }

    fn piece(&self, x: &[TensorView<'_>], mut out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (_, n, inner) = x[0].shape.around(self.axis);
        if out.blocks.is_empty() {
            return Ok(()); // the lines of an empty tensor can have any length
        }
        let flip = if self.descending { u64::MAX } else { 0 };
        let at_once = columns_at_once(n, inner);
        let mut ranks = reserve(n * at_once)?;
        ranks.resize(n * at_once, 0u64);
        let mut sorter = Sorter::default();
        for block in out.blocks.clone() {
            for column in out.columns.clone().step_by(at_once) {
                let columns = column..out.columns.end.min(column + at_once);
                with_dtype!(x[0].dtype(), T => {
                    let x = &x[0].slice::<T>()?[block * n * inner..][..n * inner];
                    rank_lines(x, inner, columns.clone(), flip, &mut ranks);
                });
                for (ranks, column) in ranks.chunks_exact(n).zip(columns) {
                    let order = sorter.order(ranks, out.n)?;
                    let skipped = column - out.columns.start;
                    if inner == 1 {
                        let to = out.block::<i64>(block)?;
                        to.iter_mut().zip(order).for_each(|(to, p)| *to = p as i64);
                        continue;
                    }
                    for (k, p) in order.enumerate() {
                        out.row::<i64>(block, k)?[skipped] = p as i64;
                    }
                }
            }
        }
        Ok(())
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::None
    }
}

/// How many lines are read together, so that elements beside each other are: a cache line of them,
/// or as many as stay in the second-level cache.
fn columns_at_once(n: usize, inner: usize) -> usize {
    const MAX_COLUMNS: usize = 16;
    const MAX_RANKS: usize = 1 << 15;
    (MAX_RANKS / n.max(1))
        .clamp(1, MAX_COLUMNS)
        .min(inner.max(1))
}

/// The ranks of some lines of a block, one line after the other.
fn rank_lines<T: Ranked>(
    x: &[T],
    inner: usize,
    columns: Range<usize>,
    flip: u64,
    ranks: &mut [u64],
) {
    // complementing all bits reverses the order
    let n = x.len() / inner;
    if inner == 1 {
        let pairs = ranks.iter_mut().zip(x);
        return pairs.for_each(|(rank, x)| *rank = x.rank() ^ flip);
    }
    for (k, row) in x.chunks_exact(inner).enumerate() {
        for (c, x) in row[columns.clone()].iter().enumerate() {
            ranks[c * n + k] = x.rank() ^ flip;
        }
    }
}

/// Finds the order of ranks. It keeps its memory from line to line.
#[derive(Default)]
struct Sorter {
    /// The bits of a rank that differ, or the highest 32 of them, above the position.
    keys: Vec<u64>,
    spare: Vec<u64>,
    /// Whether the last pass wrote there.
    is_in_spare: bool,
    /// How often each digit occurs, by pass.
    counts: Vec<u32>,
    /// Ranks with their positions, where only the first few are wanted.
    candidates: Vec<(u64, usize)>,
}

impl Sorter {
    /// The positions of the first `count` ranks, in ascending order; equal ones in their order.
    fn order(
        &mut self,
        ranks: &[u64],
        count: usize,
    ) -> Result<impl Iterator<Item = usize>, OpError> {
        // below that, what stays outside does not pay for the selection
        const WORTH: usize = 4;
        let is_few = count < ranks.len() / WORTH || ranks.len() > u32::MAX as usize;
        match is_few {
            true => {
                self.keys.clear();
                self.select(ranks, count);
            }
            false => {
                self.candidates.clear();
                self.sort(ranks)?;
            }
        }
        let selected = self.candidates.iter().map(|&(_, position)| position);
        let sorted = self.keys.iter().map(|&key| key as u32 as usize);
        Ok(selected.chain(sorted).take(count))
    }

    /// Keeps candidates: a rank must be below the last one of the best `count` so far.
    fn select(&mut self, ranks: &[u64], count: usize) {
        let (most, mut limit) = (4 * count + 64, None);
        self.candidates.clear();
        for (block, ranks) in ranks.chunks(SCAN).enumerate() {
            if limit.is_some_and(|limit| ranks.iter().all(|&rank| rank >= limit)) {
                continue;
            }
            let is_below = |rank: u64| limit.is_none_or(|limit| rank < limit);
            let below = ranks
                .iter()
                .enumerate()
                .filter(|(_, rank)| is_below(**rank));
            self.candidates
                .extend(below.map(|(k, &rank)| (rank, block * SCAN + k)));
            if self.candidates.len() >= most {
                // an equal one that comes later stands behind
                limit = self.keep(count);
            }
        }
        self.keep(count);
        self.candidates.sort_unstable();
    }

    /// Drops all candidates but the best ones; the rank of the last of these.
    fn keep(&mut self, count: usize) -> Option<u64> {
        let last = count
            .checked_sub(1)
            .filter(|&k| k < self.candidates.len())?;
        let (_, &mut (limit, _), _) = self.candidates.select_nth_unstable(last);
        self.candidates.truncate(count);
        Some(limit)
    }

    /// Sorts all.
    fn sort(&mut self, ranks: &[u64]) -> Result<(), OpError> {
        let first = ranks.first().copied().unwrap_or(0);
        let differing = ranks.iter().fold(0, |bits, rank| bits | rank ^ first);
        // the bits that differ, or the highest 32 of them
        let width = u64::BITS - differing.leading_zeros();
        let (shift, kept) = (width.saturating_sub(u32::BITS), width.min(u32::BITS));
        let mask = u64::MAX >> (u64::BITS - kept.max(1));
        self.keys.clear();
        self.keys
            .try_reserve(ranks.len())
            .map_err(|_| "not enough memory to sort")?;
        let key = |(position, rank): (usize, &u64)| (rank >> shift & mask) << 32 | position as u64;
        self.keys.extend(ranks.iter().enumerate().map(key));
        match ranks.len() {
            0..100 => self.keys.sort_unstable(), // the positions are different
            // the counters stay in the first-level cache
            100..0x4000 => self.radix::<8>(kept)?,
            _ => self.radix::<11>(kept)?,
        }
        if shift > 0 {
            self.sort_ties(ranks);
        }
        Ok(())
    }

    /// Sorts by some bits above the positions, in digits of `DIGIT` bits, beginning with the lowest
    /// ones; each pass keeps the order of the one before.
    fn radix<const DIGIT: u32>(&mut self, bits: u32) -> Result<(), OpError> {
        let (n, size) = (self.keys.len(), 1usize << DIGIT);
        let passes = bits.div_ceil(DIGIT) as usize;
        self.spare.clear();
        self.spare
            .try_reserve(n)
            .map_err(|_| "not enough memory to sort")?;
        self.spare.resize(n, 0);
        self.counts.clear();
        self.counts.resize(passes * size, 0);
        let (mut from, mut to) = (&mut self.keys[..], &mut self.spare[..]);
        let digit =
            |key: u64, pass: usize| (key >> (32 + pass as u32 * DIGIT)) as usize & (size - 1);
        for &key in &*from {
            for (pass, counts) in self.counts.chunks_exact_mut(size).enumerate() {
                counts[digit(key, pass)] += 1;
            }
        }
        for (pass, counts) in self.counts.chunks_exact_mut(size).enumerate() {
            if counts[digit(from[0], pass)] as usize == n {
                continue; // they do not differ here
            }
            let mut next = 0;
            for count in counts.iter_mut() {
                (*count, next) = (next, next + *count);
            }
            for &key in &*from {
                let at = &mut counts[digit(key, pass)];
                to[*at as usize] = key;
                *at += 1;
            }
            std::mem::swap(&mut from, &mut to);
            self.is_in_spare = !self.is_in_spare;
        }
        if std::mem::take(&mut self.is_in_spare) {
            std::mem::swap(&mut self.keys, &mut self.spare);
        }
        Ok(())
    }

    /// Puts in order what is equal as far as the keys tell.
    fn sort_ties(&mut self, ranks: &[u64]) {
        let run = |a: &u64, b: &u64| a >> 32 == b >> 32;
        for run in self.keys.chunk_by_mut(run).filter(|run| run.len() > 1) {
            let position = |key: u64| key as u32 as usize;
            run.sort_unstable_by_key(|&key| (ranks[position(key)], key));
        }
    }
}

/// How many ranks are looked at together for candidates.
const SCAN: usize = 32;

impl<'g> Var<'g> {
    /// The positions along an axis in ascending order of their elements, as i64. Stable; NaN comes
    /// last. No gradient.
    #[track_caller]
    pub fn argsort(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(ArgSort::NAME, |shape| {
            Ok(self.apply(ArgSort {
                axis: shape.axis(axis)?,
                descending: false,
                first: None,
            }))
        })
    }

    /// The elements along an axis in ascending order, NaN last. The gradient of each goes to the
    /// element it came from.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([3.0, 1.0, 2.0]);
    /// let y = x.sort(0);
    /// assert_eq!(y.value()?.to_f64s(), [1.0, 2.0, 3.0]);
    /// let d = (y * g.constant([10.0, 20.0, 30.0])).sum().backward()?;
    /// assert_eq!(d.get(x).map(|d| d.to_f64s()), Some(vec![30.0, 10.0, 20.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn sort(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("sort", |_| Ok(self.gather(axis, self.argsort(axis))))
    }

    /// The `k` largest elements along an axis in descending order, and their positions (i64). NaN
    /// counts as the largest; ties are ordered by position. The gradient goes to the selected
    /// elements.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (values, positions) = g.input([3.0, 1.0, 4.0, 1.0, 5.0]).topk(2, 0);
    /// let (values, positions) = g.run((values, positions))?;
    /// assert_eq!((values.to_f64s(), positions.to_f64s()), (vec![5.0, 4.0], vec![4.0, 2.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "top_k")]
    pub fn topk(self, k: usize, axis: impl Int) -> (Var<'g>, Var<'g>) {
        let axis = axis.int();
        let positions = self.with_shape("topk", |shape| {
            let at = shape.axis(axis)?;
            match shape[at] {
                n if k > n => Err(OpError::new(format!(
                    "expected at least {k} elements along axis {axis} of {shape}, got {n}"
                ))),
                _ => Ok(self.apply(ArgSort {
                    axis: at,
                    descending: true,
                    first: Some(k),
                })),
            }
        });
        let values = if positions.error().is_some() {
            positions
        } else {
            self.gather(axis, positions)
        };
        (values, positions)
    }
}
