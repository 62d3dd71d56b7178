//! What an op declares to the planner about how it can be computed: [`Lowering`]. The planner asks
//! the op and never inspects its type.
//!
//! The executor relies on the answer without a check, so a wrong one would break memory safety.
//! Therefore user-defined ops cannot give one: the method takes an [`Internal`](super::Internal), a
//! type that other crates cannot name. The default is [`Opaque`]: the op runs its own `eval`, which
//! is always correct. For user-defined [`Elementwise`] ops the blanket implementation answers; it
//! runs the formula inside loops of this crate.
//!
//! [`Opaque`]: Lowering::Opaque
//! [`Elementwise`]: crate::Elementwise

use super::{Id, elementwise::MAX_INPUTS};
use crate::{math::fold::Fold, shape::Axes};

/// How an op can be computed other than by its own `eval`.
pub enum Lowering<'a> {
    /// The first input's elements, in the same order, with another shape or another derivative:
    /// nothing is computed.
    View,
    /// A view that must not be read before the second input has been computed: recomputation begins
    /// here.
    Recompute,
    /// The first input, broadcast to the output's shape.
    Broadcast,
    /// The first input with its axes permuted: output axis `i` is input axis `permutation[i]`.
    Permute(&'a [usize]),
    /// Elements of the first input at even distances along an axis: element `i` is input element
    /// `start + i·step`.
    Slice {
        axis: usize,
        start: usize,
        step: isize,
    },
    /// The first input converted to another dtype.
    Cast,
    /// One scalar from the scalars at the same position of each input, after broadcasting.
    Elementwise(Scalar<'a>),
    /// A reduction over some axes. Of floats, it joins elements in the order of
    /// [`math::fold`](crate::math::fold).
    Fold(Fold, Axes),
    /// A function of each line along an axis: this one, or the last if `None`.
    Line {
        function: LineFunction,
        axis: Option<usize>,
    },
    /// The product of two matrices, or of two batches of matrices.
    MatMul,
    /// The op's own `eval`.
    Opaque,
}

/// The function that an elementwise op applies.
#[derive(Clone, Copy)]
pub enum Scalar<'a> {
    /// The formula of a built-in op.
    Formula(Id),
    /// An integer power of one input.
    Power(i32),
    /// A user-defined formula.
    Custom(&'a dyn CustomLoop),
}

/// The loop around a user-defined formula.
pub trait CustomLoop {
    /// `out[i] = f(x[0][i], x[1][i], ..)`. Slots beyond the op's inputs repeat the first input.
    fn f32(&self, x: [&[f32]; MAX_INPUTS], out: &mut [f32]);
    /// The same for `f64`.
    fn f64(&self, x: [&[f64]; MAX_INPUTS], out: &mut [f64]);
}

/// The functions of lines. [`softmax`](super::softmax) defines all of them except reductions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFunction {
    Fold(Fold),
    Softmax,
    LogSoftmax,
    LogSumExp,
    CrossEntropy,
}

impl LineFunction {
    /// Whether a line is reduced to one element.
    pub(crate) fn reduces(self) -> bool {
        !matches!(self, LineFunction::Softmax | LineFunction::LogSoftmax)
    }
}
