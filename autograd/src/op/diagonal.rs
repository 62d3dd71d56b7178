//! Diagonals and triangles of matrices. The last two axes are the matrix, those before them a
//! batch.

use crate::{error::OpError, shape::Shape, tensor::reserve, var::Var};

/// The batch shape, rows and columns.
fn matrix(shape: &Shape) -> Result<(&[usize], usize, usize), OpError> {
    let found = shape
        .split_last_chunk::<2>()
        .map(|(outer, &[m, n])| (outer, m, n));
    found.ok_or_else(|| OpError::new(format!("expected a matrix, got {shape}")))
}

impl<'g> Var<'g> {
    /// A boolean matrix `[m, n]`: `test` of the column indices and the row indices.
    #[track_caller]
    fn index_mask(
        self,
        m: usize,
        n: usize,
        test: impl FnOnce(Var<'g>, Var<'g>) -> Var<'g>,
    ) -> Result<Var<'g>, OpError> {
        let numbers = |count: usize| {
            let mut all = reserve(count)?;
            all.extend(0..count as i64);
            Ok::<_, OpError>(self.graph().constant(all))
        };
        Ok(test(numbers(n)?, numbers(m)?.reshape([m, 1])))
    }

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
    pub fn diag(self) -> Var<'g> {
        self.with_shape("diag", |shape| match **shape {
            [n] => Ok(self
                .index_mask(n, n, |column, row| column.eq(row))?
                .select(self, self.zeros_like())),
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
    pub fn tril(self, k: isize) -> Var<'g> {
        self.triangle("tril", k, |column, row| column.le(row))
    }

    /// The upper triangle of a matrix: zeros below the `k`-th diagonal. The main diagonal is 0,
    /// those above it are positive.
    #[track_caller]
    pub fn triu(self, k: isize) -> Var<'g> {
        self.triangle("triu", k, |column, row| column.ge(row))
    }

    /// Keeps some elements and sets the others to 0. `keep` compares column indices with row
    /// indices that are shifted by `k`.
    #[track_caller]
    fn triangle(
        self,
        op: &'static str,
        k: isize,
        keep: impl FnOnce(Var<'g>, Var<'g>) -> Var<'g>,
    ) -> Var<'g> {
        self.with_shape(op, |shape| {
            let (_, m, n) = matrix(shape)?;
            if shape.count() == 0 {
                // an empty matrix; the other size can be larger than any allocation
                return Ok(self);
            }
            // beyond the corners all diagonals are empty
            let k = k.clamp(-(m as isize), n as isize) as i64;
            Ok(self
                .index_mask(m, n, |column, row| keep(column, row + k))?
                .select(self, self.zeros_like()))
        })
    }
}
