//! Diagonals and triangles of matrices. The last two axes are the matrix, those before them a
//! batch.

use super::{
    Dependency, Internal, Op, Parts, Rule, inputs,
    layout::{MOVE, Slice, layout_op},
};
use crate::{
    error::OpError,
    ints::Int,
    movement,
    piece::Piece,
    shape::Shape,
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// The batch shape, rows and columns.
fn matrix(shape: &Shape) -> Result<(&[usize], usize, usize), OpError> {
    let found = shape
        .split_last_chunk::<2>()
        .map(|(outer, &[m, n])| (outer, m, n));
    found.ok_or_else(|| OpError::new(format!("expected a matrix, got {shape}")))
}

/// The triangle of matrices on one side of a diagonal, which belongs to it. The rest is 0.
#[derive(Clone, PartialEq, Debug)]
struct Triangle {
    is_upper: bool,
    /// The number of the diagonal.
    k: isize,
}
layout_op!(
    Triangle,
    "triangle",
    |_op, t| Ok(*t),
    |op, x, out| movement::triangle(x, op.is_upper, op.k, out),
    |op, r| r.ct.apply(op.clone())
);

impl<'g> Var<'g> {
    /// The diagonal of a matrix `[.., m, n]`, of length `min(m, n)`, in place of the two axes.
    #[track_caller]
    pub fn diagonal(self) -> Var<'g> {
        self.with_shape("diagonal", |shape| {
            let (outer, m, n) = matrix(shape)?;
            let (count, step) = (m.min(n) as isize, (n as isize).saturating_add(1));
            let end = if count == 0 {
                0
            } else {
                (count - 1) * step + 1
            };
            let flat = self.reshape([outer, &[m * n]].concat());
            Ok(flat.slice_step(-1, 0..end, step))
        })
    }

    /// The diagonal of a matrix, or the diagonal matrix of a vector (NumPy's `diag`).
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0]);
    /// assert_eq!(x.diag().value()?.to_f64s(), [1.0, 0.0, 0.0, 2.0]);
    /// assert_eq!(x.diag().diag().value()?.to_f64s(), [1.0, 2.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "diag_embed")]
    pub fn diag(self) -> Var<'g> {
        self.with_shape("diag", |shape| match **shape {
            [n] => {
                // the elements of a vector of all rows, `n + 1` apart
                let count = n
                    .checked_mul(n)
                    .ok_or("the result is too large for any memory")?;
                let all = Slice::every(0, n + 1, n).padded(self, count);
                Ok(all.reshape([n, n]))
            }
            [_, _] => Ok(self.diagonal()),
            _ => Err(OpError::new(format!(
                "expected a vector or a matrix, got {shape}"
            ))),
        })
    }

    /// The sum of the diagonal of a matrix `[.., m, n]`.
    #[track_caller]
    pub fn trace(self) -> Var<'g> {
        self.with_shape("trace", |shape| {
            matrix(shape).map(|_| self.diagonal().sum_axis(-1))
        })
    }

    /// The lower triangle of a matrix: zeros above the `k`-th diagonal. The main diagonal is 0,
    /// those above it are positive.
    #[track_caller]
    pub fn tril(self, k: impl Int) -> Var<'g> {
        let k = k.int();
        self.triangle("tril", k, false)
    }

    /// The upper triangle of a matrix: zeros below the `k`-th diagonal. The main diagonal is 0,
    /// those above it are positive.
    #[track_caller]
    pub fn triu(self, k: impl Int) -> Var<'g> {
        let k = k.int();
        self.triangle("triu", k, true)
    }

    #[track_caller]
    fn triangle(self, op: &'static str, k: isize, is_upper: bool) -> Var<'g> {
        self.with_shape(op, |shape| {
            let (_, m, n) = matrix(shape)?;
            // beyond the corners all diagonals are empty
            let k = k.clamp(-(m as isize), n as isize);
            Ok(self.apply(Triangle { is_upper, k }))
        })
    }
}
