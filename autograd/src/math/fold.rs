//! Reductions of floats: which there are ([`Fold`]), and the canonical order in which their
//! elements are joined. The shape alone determines the order. `eval`, the planner and the kernels
//! all follow this file, so that neither threads nor instruction sets change a bit.
//!
//! Elements are seen as `[outer, n, inner]`, of which the middle axis is reduced ([`Lines`]). A
//! *row* is `inner` elements. Rows are dealt to `L` lanes, row `r` to lane `r % L`, where `L` is the
//! largest power of two with `L·inner ≤ LANES`, or 1: lanes are independent of each other, and so
//! `L·inner` elements that lie side by side are joined by the same vector instructions. A lane
//! begins with the identity and takes [`DEPTH`] rows in order; these `DEPTH·L` rows are a *chunk*.
//! The lanes of a chunk are joined as a balanced tree, and chunks are joined pairwise ([`Pairs`]).
//!
//! Example: a contiguous line (`inner` 1) has 32 lanes and chunks of 1,024 elements; lines that are
//! 4 elements apart have 8 lanes, chunks of 256 rows, and again 32 elements side by side; lines that
//! are 100 apart have one lane and chunks of 32 rows.
//!
//! The rounding error of a sum grows with the logarithm of the length (Higham, Accuracy and
//! Stability of Numerical Algorithms, section 4.2). A sum begins with +0, so that none is -0, not
//! even that of one element.

use super::{Float, Lanes};

/// A reduction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Fold {
    /// The sum
    Sum,
    /// The product
    Prod,
    /// The largest; NaN if any is
    Max,
    /// The smallest; NaN if any is
    Min,
}

/// The number of reductions.
pub(crate) const FOLDS: usize = 4;

/// What a reduction does with two of its elements, in the order in which they lie.
pub(crate) trait Monoid {
    /// Joined with any element, it changes nothing, but -0 to +0 in a sum.
    fn identity<T: Float>() -> T;
    fn join<L: Lanes>(a: L, b: L) -> L;
}

pub(crate) struct Sum;
pub(crate) struct Prod;
pub(crate) struct Max;
pub(crate) struct Min;

macro_rules! monoids {
    ($($M:ident: $identity:expr, |$a:ident, $b:ident| $join:expr;)*) => { $(
        impl Monoid for $M {
            #[inline(always)]
            fn identity<T: Float>() -> T {
                T::nearest($identity)
            }
            #[inline(always)]
            fn join<L: Lanes>($a: L, $b: L) -> L {
                $join
            }
        }
    )* };
}
monoids! {
    Sum: 0.0, |a, b| a + b;
    Prod: 1.0, |a, b| a * b;
    Max: f64::NEG_INFINITY, |a, b| a.maximum(b);
    Min: f64::INFINITY, |a, b| a.minimum(b);
}

/// Compiles an expression for each reduction, with `$M` as its [`Monoid`], and picks one.
macro_rules! with_fold {
    ($fold:expr, $M:ident => $do:expr) => {
        match $fold {
            $crate::math::fold::Fold::Sum => {
                type $M = $crate::math::fold::Sum;
                $do
            }
            $crate::math::fold::Fold::Prod => {
                type $M = $crate::math::fold::Prod;
                $do
            }
            $crate::math::fold::Fold::Max => {
                type $M = $crate::math::fold::Max;
                $do
            }
            $crate::math::fold::Fold::Min => {
                type $M = $crate::math::fold::Min;
                $do
            }
        }
    };
}
pub(crate) use with_fold;

impl Fold {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Fold::Sum => "sum",
            Fold::Prod => "prod",
            Fold::Max => "max",
            Fold::Min => "min",
        }
    }

    /// Joined with any element, it changes nothing.
    pub(crate) fn identity<T: Float>(self) -> T {
        with_fold!(self, M => M::identity())
    }

    /// Joins two elements.
    pub(crate) fn join<T: Float>(self, a: T, b: T) -> T {
        with_fold!(self, M => M::join(a, b))
    }

    /// Joins elements with as many others that come after them, or with fewer.
    pub(crate) fn join_all<T: Float>(self, to: &mut [T], from: &[T]) {
        with_fold!(self, M => join_all::<M, T>(to, from));
    }

    /// Joins elements with as many others that come before them.
    pub(crate) fn join_before<T: Float>(self, before: &[T], to: &mut [T]) {
        with_fold!(self, M => {
            for (to, &before) in to.iter_mut().zip(before) {
                *to = M::join(before, *to);
            }
        });
    }

    /// Joins the lanes of a chunk, rows of `inner` elements, into the first one, as a balanced tree:
    /// the two halves with each other, until one is left.
    pub(crate) fn join_lanes<T: Float>(self, lanes: &mut [T], inner: usize) {
        let mut width = lanes.len();
        while width > inner {
            width /= 2;
            let (low, high) = lanes[..2 * width].split_at_mut(width);
            self.join_all(low, high);
        }
    }
}

/// The elements of a chunk that are joined side by side: no more than this many, if a row is no
/// longer.
pub(crate) const LANES: usize = 32;
/// The number of elements that a lane of a chunk takes in sequence.
pub(crate) const DEPTH: usize = 32;
/// The number of elements of a chunk of a contiguous line.
pub(crate) const CHUNK: usize = LANES * DEPTH;

/// Elements as `[outer, n, inner]`, of which the middle axis is reduced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lines {
    /// The elements of a line,
    pub(crate) n: usize,
    /// and how far they are apart.
    pub(crate) inner: usize,
}

impl Lines {
    /// The number of lanes of a chunk; no more than a line needs, since empty ones change nothing.
    pub(crate) fn lanes(self) -> usize {
        match LANES / self.inner.max(1) {
            0 => 1,
            lanes => self.n.next_power_of_two().min(1 << lanes.ilog2()),
        }
    }

    /// The number of elements that are joined side by side: those of all lanes.
    pub(crate) fn width(self) -> usize {
        self.lanes().saturating_mul(self.inner)
    }

    /// The number of elements of a chunk.
    pub(crate) fn chunk(self) -> usize {
        self.width().saturating_mul(DEPTH)
    }

    /// How many chunks a line has.
    pub(crate) fn chunks(self) -> usize {
        self.n.div_ceil(DEPTH * self.lanes())
    }
}

/// Reduces each line in the canonical order.
pub(crate) fn fold_lines<T: Float>(fold: Fold, x: &[T], lines: Lines, out: &mut [T]) {
    fold_by(fold, x, lines.n, lines.inner, lines.lanes(), out);
}

/// Reduces lines, with this number of lanes.
fn fold_by<T: Float>(fold: Fold, x: &[T], n: usize, inner: usize, lanes: usize, out: &mut [T]) {
    if n == 0 || inner == 0 {
        return out.fill(fold.identity());
    }
    let width = lanes * inner;
    let mut lanes = vec![fold.identity(); width];
    let mut pairs = Pairs(Vec::new());
    let join = |a: &mut Vec<T>, b: Vec<T>| fold.join_all(a, &b);
    for (out, x) in out.chunks_exact_mut(inner).zip(x.chunks_exact(n * inner)) {
        for chunk in x.chunks(width * DEPTH) {
            lanes.fill(fold.identity());
            chunk
                .chunks(width)
                .for_each(|row| fold.join_all(&mut lanes, row));
            fold.join_lanes(&mut lanes, inner);
            pairs.push(lanes[..inner].to_vec(), &join);
        }
        if let Some(all) = pairs.finish(&join) {
            out.copy_from_slice(&all);
        }
    }
}

/// Reduces one line, whose elements were gathered, in the canonical order of lines like this.
pub(crate) fn fold_gathered<T: Float>(fold: Fold, line: &[T], lines: Lines) -> T {
    let mut out = [fold.identity()];
    fold_by(fold, line, line.len(), 1, lines.lanes(), &mut out);
    out[0]
}

/// The lanes of a chunk of a contiguous line joined.
#[inline(always)]
pub(crate) fn join_array<M: Monoid, T: Float>(lanes: &mut [T; LANES]) -> T {
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            lanes[k] = M::join(lanes[k], lanes[k + width]);
        }
    }
    lanes[0]
}

/// Joins elements with as many others, or with more.
#[inline(always)]
pub(crate) fn join_all<M: Monoid, T: Float>(to: &mut [T], from: &[T]) {
    for (to, &from) in to.iter_mut().zip(from) {
        *to = M::join(*to, from);
    }
}

/// Joins parts pairwise, one part at a time: neighbours first, then neighbouring groups of equal
/// size; what remains is joined from the end. A stack of groups of ever smaller size, each with its
/// size as a power of two.
pub(crate) struct Pairs<A>(pub(crate) Vec<(u32, A)>);

impl<A> Pairs<A> {
    pub(crate) fn push(&mut self, part: A, join: &impl Fn(&mut A, A)) {
        self.0.push((0, part));
        while let [.., (a, _), (b, _)] = self.0[..]
            && a == b
        {
            self.join(join);
        }
    }

    /// All parts joined. Resets the stack.
    pub(crate) fn finish(&mut self, join: &impl Fn(&mut A, A)) -> Option<A> {
        while self.0.len() > 1 {
            self.join(join);
        }
        self.0.pop().map(|(_, all)| all)
    }

    fn join(&mut self, join: &impl Fn(&mut A, A)) {
        if let Some((_, right)) = self.0.pop()
            && let Some((level, left)) = self.0.last_mut()
        {
            join(left, right);
            *level += 1;
        }
    }
}

/// [`Pairs`] of numbers, without memory from the heap: entry `k` is a group of `2ᵏ` parts, there if
/// bit `k` of the number of parts is set.
pub(crate) struct FewPairs<T> {
    groups: [T; usize::BITS as usize],
    parts: usize,
}

impl<T: Float> Default for FewPairs<T> {
    fn default() -> Self {
        FewPairs {
            groups: [T::default(); usize::BITS as usize],
            parts: 0,
        }
    }
}

impl<T: Float> FewPairs<T> {
    pub(crate) fn push(&mut self, fold: Fold, part: T) {
        let (mut level, mut all) = (0, part);
        while self.parts >> level & 1 == 1 {
            all = fold.join(self.groups[level], all);
            level += 1;
        }
        self.groups[level] = all;
        self.parts += 1;
    }

    /// All parts joined. Resets the groups.
    pub(crate) fn take(&mut self, fold: Fold) -> T {
        let (mut all, mut left) = (None, std::mem::take(&mut self.parts));
        while left > 0 {
            let group = self.groups[left.trailing_zeros() as usize];
            all = Some(all.map_or(group, |rest| fold.join(group, rest)));
            left &= left - 1;
        }
        all.unwrap_or(fold.identity())
    }
}
