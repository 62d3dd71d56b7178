//! What an op tells the planner about itself: [`Lowering`]. The planner asks; it never guesses from
//! an op's type.
//!
//! The executor relies on the answer without a check, so a wrong one would break memory. Therefore
//! a user's op cannot give one: the method takes an [`Internal`](super::Internal), a type that
//! other crates cannot name. An op that says nothing is [`Opaque`], and runs by its own `eval`;
//! that is always right, so that any op can begin there. [`Elementwise`] ops of users are answered
//! for by the blanket implementation, with loops that are ours around their formula.
//!
//! [`Opaque`]: Lowering::Opaque
//! [`Elementwise`]: crate::Elementwise

use super::{Id, elementwise::MAX_INPUTS};
use crate::shape::Axes;

/// How an op can be computed, beside by its own `eval`.
pub enum Lowering<'a> {
    /// The first input's elements, in their order, with another shape or another derivative:
    /// nothing is computed.
    View,
    /// A view, which must not be read before the second input is there: recomputation begins here.
    Recompute,
    /// The first input, broadcast to the output's shape.
    Broadcast,
    /// The first input with its axes permuted: output axis `i` is input axis `permutation[i]`.
    Permute(&'a [usize]),
    /// The first input's numbers as another dtype.
    Cast,
    /// A number from the numbers at the same place of each input, after broadcasting.
    Elementwise(Scalar<'a>),
    /// The sum over some axes.
    Sum(Axes),
    /// A function of each line along an axis: this one, or the last.
    Line {
        function: LineFunction,
        axis: Option<usize>,
    },
    /// The product of two matrices, or of two batches of matrices.
    MatMul,
    /// Its own `eval`.
    Opaque,
}

/// The function that an elementwise op applies.
#[derive(Clone, Copy)]
pub enum Scalar<'a> {
    /// The formula of a built-in op.
    Formula(Id),
    /// A whole power of one input.
    Power(i32),
    /// A user's formula.
    Custom(&'a dyn CustomLoop),
}

/// The loop around a user's formula.
pub trait CustomLoop {
    /// `out[i] = f(x[0][i], x[1][i], ..)`; for inputs that the op does not have, the first one
    /// stands again.
    fn f32(&self, x: [&[f32]; MAX_INPUTS], out: &mut [f32]);
    /// The same for `f64`.
    fn f64(&self, x: [&[f64]; MAX_INPUTS], out: &mut [f64]);
}

/// The functions of lines, all of which [`softmax`](super::softmax) defines, except the sum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LineFunction {
    Sum,
    Softmax,
    LogSoftmax,
    LogSumExp,
    CrossEntropy,
}

impl LineFunction {
    /// Whether a line becomes one number.
    pub(crate) fn reduces(self) -> bool {
        !matches!(self, LineFunction::Softmax | LineFunction::LogSoftmax)
    }
}
