//! The canonical order of sums. The length of a line and whether it is contiguous determine which
//! additions are made, and in which order. `eval`, the planner and the kernels all follow this
//! file, so that neither threads nor instruction sets change a bit.
//!
//! A contiguous line is cut into chunks of [`SUM_CHUNK`] elements. Element `i` of a chunk goes to
//! lane `i % SUM_LANES`, and the lanes are added as a balanced tree: additions in different lanes
//! are independent. A strided line is cut into chunks of [`SUM_DEPTH`] elements, each added in
//! order: there, different lines can be added in parallel. The sums of the chunks are added
//! pairwise ([`Pairs`]).
//!
//! Lanes and chunks start with +0, so that no sum is -0, not even that of one element. The rounding
//! error grows with the logarithm of the length (Higham, Accuracy and Stability of Numerical
//! Algorithms, section 4.2).

use std::ops::Add;

/// A type with addition.
pub(crate) trait Addable: Copy + Default + Add<Output = Self> {}
impl<T: Copy + Default + Add<Output = T>> Addable for T {}

/// The number of lanes of a chunk.
pub(crate) const SUM_LANES: usize = 32;
/// The number of elements that are added in sequence, in a lane or in a chunk of a strided line.
pub(crate) const SUM_DEPTH: usize = 32;
/// The number of elements of a chunk of a contiguous line.
pub(crate) const SUM_CHUNK: usize = SUM_LANES * SUM_DEPTH;

/// Sums a contiguous line in the canonical order.
pub(crate) fn sum_line<T: Addable>(x: &[T]) -> T {
    if x.len() <= SUM_CHUNK {
        return sum_chunk(x);
    }
    pairwise(x.chunks(SUM_CHUNK).map(sum_chunk), |a, b| *a = *a + b).unwrap_or_default()
}

#[inline(always)]
pub(crate) fn sum_chunk<T: Addable>(x: &[T]) -> T {
    let mut lanes = [T::default(); SUM_LANES];
    let whole = x.len() / SUM_LANES * SUM_LANES;
    for start in (0..whole).step_by(SUM_LANES) {
        for k in 0..SUM_LANES {
            lanes[k] = lanes[k] + x[start + k];
        }
    }
    for (k, &x) in x[whole..].iter().enumerate() {
        lanes[k] = lanes[k] + x;
    }
    sum_lanes(lanes)
}

/// The sum of the lanes, as a balanced tree.
#[inline(always)]
pub(crate) fn sum_lanes<T: Addable>(mut lanes: [T; SUM_LANES]) -> T {
    let mut width = SUM_LANES;
    while width > 1 {
        width /= 2;
        for k in 0..width {
            lanes[k] = lanes[k] + lanes[k + width];
        }
    }
    lanes[0]
}

/// Adds parts pairwise: adjacent parts first, then adjacent sums of equal size. What remains is
/// added from the end.
pub(crate) fn pairwise<A>(parts: impl Iterator<Item = A>, add: impl Fn(&mut A, A)) -> Option<A> {
    let mut pairs = Pairs(Vec::new());
    parts.for_each(|part| pairs.push(part, &add));
    pairs.finish(&add)
}

/// A pairwise sum that takes one part at a time: a stack of sums of ever larger groups, each with
/// its size as a power of two.
pub(crate) struct Pairs<A>(pub(crate) Vec<(u32, A)>);

impl<A> Pairs<A> {
    pub(crate) fn push(&mut self, part: A, add: &impl Fn(&mut A, A)) {
        self.0.push((0, part));
        while let [.., (a, _), (b, _)] = self.0[..]
            && a == b
        {
            self.join(add);
        }
    }

    /// The sum of all parts. Resets the stack.
    pub(crate) fn finish(&mut self, add: &impl Fn(&mut A, A)) -> Option<A> {
        while self.0.len() > 1 {
            self.join(add);
        }
        self.0.pop().map(|(_, sum)| sum)
    }

    fn join(&mut self, add: &impl Fn(&mut A, A)) {
        if let Some((_, right)) = self.0.pop()
            && let Some((level, left)) = self.0.last_mut()
        {
            add(left, right);
            *level += 1;
        }
    }
}
