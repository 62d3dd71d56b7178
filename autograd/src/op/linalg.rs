//! Matrix products.
//!
//! The order of the additions depends only on `k`, never on threads, instruction sets or the memory
//! layout of the operands: see [`inner_product`].

use super::{Dependency, Id, Internal, Lowering, Op, Rule, expect_float, inputs, same_dtype};
use crate::{
    error::OpError,
    shape::{Shape, Walk},
    tensor::{Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::ops::{Add, Range};

/// The number of products that are summed in sequence.
pub(crate) const PIECE: usize = 256;
/// The number of partial sums that are summed in sequence.
pub(crate) const RADIX: usize = 32;

/// Sums products over `k` in the canonical order: first blocks of `PIECE` products, each block from
/// 0 over ascending `k` with one rounding per step (`add`: a fused multiply-add); then groups of
/// `RADIX` adjacent blocks, in order; then groups of `RADIX` such groups, and so on. So the error
/// grows with the logarithm of `k`: in f32, `Σ 0.1·0.1` is right to 1e-6 up to `k = 10⁷`, where one
/// chain over all of `k` loses 1e-2 at 10⁶.
pub(crate) fn inner_product<T: Default + Add<Output = T>>(
    k: Range<usize>,
    add: &impl Fn(T, usize) -> T,
) -> T {
    if k.len() <= PIECE {
        return k.fold(T::default(), add);
    }
    let mut length = PIECE;
    while length * RADIX < k.len() {
        length *= RADIX;
    }
    let groups = k
        .clone()
        .step_by(length)
        .map(|from| inner_product(from..(from + length).min(k.end), add));
    groups.reduce(T::add).unwrap_or_default()
}

/// `C[.., i, j] = Σₖ A[.., i, k]·B[.., k, j]`, where the axes before the last two broadcast.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MatMul;

impl Op for MatMul {
    const NAME: &'static str = "matmul";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [a, b] = inputs::<2>(x)?;
        expect_float(same_dtype(x)?)?;
        let (Some((outer_a, [m, k])), Some((outer_b, [k2, n]))) =
            (a.shape.split_last_chunk(), b.shape.split_last_chunk())
        else {
            // `Var::matmul` gives vectors a second axis
            return Err("expected tensors with at least one axis".into());
        };
        if k != k2 {
            return Err(OpError::new(format!(
                "the inner sizes differ: {k} columns on the left, {k2} rows on the right"
            ))
            .hint(if m == k2 || k == n {
                "perhaps one side needs .t()"
            } else {
                "the last axis of the left side must match the second-to-last axis of the right side"
            }));
        }
        let outer = Shape::new(outer_a)?.broadcast(&Shape::new(outer_b)?)?;
        Ok(Type::new(
            a.dtype,
            Shape::new(&[&outer, &[*m, *n][..]].concat())?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let batches = Batches::new(x[0].shape, x[1].shape, out.shape);
        let Batches { m, k, n, .. } = batches;
        with_dtype!(out.dtype(), float T => {
            let (a, b, c) = (x[0].slice::<T>()?, x[1].slice::<T>()?, out.slice::<T>()?);
            for (at_a, at_b, at_c) in batches.offsets() {
                for (e, c) in c[at_c..at_c + m * n].iter_mut().enumerate() {
                    let (i, j) = (e / n, e % n);
                    *c = inner_product(0..k, &|sum, l| a[at_a + i * k + l].mul_add(b[at_b + l * n + j], sum));
                }
            }
            Ok(())
        }, else expect_float(x[0].dtype()))
    }

    /// `∂A = ct·Bᵀ`, `∂B = Aᵀ·ct`
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[a, b] = r.x else { return None };
        Some(if input == 0 {
            r.ct.matmul(b.t())
        } else {
            a.t().matmul(r.ct)
        })
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::MatMul
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Product
    }
}

/// The sizes of a matrix product, and where each of its matrices starts.
pub(crate) struct Batches {
    pub(crate) m: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    count: usize,
    a: Walk,
    b: Walk,
}

impl Batches {
    /// From the shapes of `a` (`[.., m, k]`), `b` and the output.
    pub(crate) fn new(a: &Shape, b: &Shape, out: &Shape) -> Batches {
        let rank = out.rank();
        let (m, n, k) = (out[rank - 2], out[rank - 1], a[a.rank() - 1]);
        let outer = |s: &Shape| s.prefix(s.rank() - 2);
        let walk = |s: &Shape| Walk::broadcast(&outer(s), &outer(out));
        // a batch of empty products can have any size
        let count = if out.count() == 0 {
            0
        } else {
            outer(out).count()
        };
        Batches {
            m,
            k,
            n,
            count,
            a: walk(a),
            b: walk(b),
        }
    }

    /// The offsets of `a`, `b` and the output, for each product.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let (m, k, n) = (self.m, self.k, self.n);
        let list = |walk: &Walk| {
            let mut starts = Vec::with_capacity(self.count);
            walk.runs(0, self.count, |_, first, stride, n| {
                starts.extend((0..n).map(|i| (first as isize + i as isize * stride) as usize));
            });
            starts
        };
        let starts = list(&self.a).into_iter().zip(list(&self.b)).enumerate();
        starts.map(move |(c, (a, b))| (a * m * k, b * k * n, c * m * n))
    }
}

impl<'g> Var<'g> {
    /// The matrix product. Two matrices `[m, k]` and `[k, n]` give `[m, n]`. Axes before the last
    /// two are a batch and broadcast. As in NumPy, a vector on the left is a row, one on the right
    /// a column, and its axis is removed from the result (two vectors give a scalar). For floats.
    ///
    /// The products of an element are added in an order that depends only on `k`: blocks of 256 in
    /// sequence, 32 blocks in sequence, 32 such sums, and so on. The error grows with the logarithm
    /// of `k`. The bits are the same for any memory layout of the operands, on any number of
    /// threads, with AVX2 and AVX-512. Without fused multiply-adds, the order depends on the
    /// processor.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (a, x) = (g.input([[1.0, 2.0], [3.0, 4.0]]), g.input([1.0, -1.0]));
    /// assert_eq!(a.matmul(x).value()?.to_f64s(), [-1.0, -1.0]);
    /// assert_eq!(x.matmul(x).value()?.scalar()?, 2.0);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "mm")]
    #[doc(alias = "bmm")]
    pub fn matmul(self, other: Var<'g>) -> Var<'g> {
        let vector = |v: Var<'g>| v.dims::<1>();
        let (row, column) = (vector(self), vector(other));
        if row.is_none() && column.is_none() {
            return self.binary(Id::MatMul, other);
        }
        if let Some(error) = self.vector_misfit(other) {
            return error;
        }
        let a = row.map_or(self, |[k]| self.reshape([1, k]));
        let b = column.map_or(other, |[k]| other.reshape([k, 1]));
        let product = a.binary(Id::MatMul, b);
        product.with_shape(MatMul::NAME, |shape| {
            let (outer, [m, n]) = shape
                .split_last_chunk()
                .ok_or("expected tensors with at least one axis")?;
            let left = row
                .is_none()
                .then_some(*m)
                .into_iter()
                .chain(column.is_none().then_some(*n));
            Ok(product.reshape(outer.iter().copied().chain(left).collect::<Vec<_>>()))
        })
    }

    /// An error if the product with a vector is not defined, told with the shapes that the user gave,
    /// not those with a second axis.
    #[track_caller]
    fn vector_misfit(self, other: Var<'g>) -> Option<Var<'g>> {
        let g = self.graph();
        if let Some(error) = g.foreign(MatMul::NAME, [self, other]) {
            return Some(error);
        }
        let (Ok(a), Ok(b)) = (self.shape(), other.shape()) else {
            return None; // the error of one of them is passed on
        };
        let (k, rows) = match (a.last(), b.len().saturating_sub(2)) {
            (Some(&k), at) if b.rank() > 0 => (k, b[at]),
            _ => {
                let e = "expected tensors with at least one axis".into();
                return Some(g.fail(MatMul::NAME, e, &[self, other]));
            }
        };
        if k == rows {
            let fits = same_dtype(&[self.ty(), other.ty()]).and_then(expect_float);
            return fits.err().map(|e| g.fail(MatMul::NAME, e, &[self, other]));
        }
        let left = if a.rank() == 1 { "elements" } else { "columns" };
        let right = if b.rank() == 1 { "elements" } else { "rows" };
        let message =
            format!("the inner sizes differ: {k} {left} on the left, {rows} {right} on the right");
        let helps =
            (a.rank() > 1 && a[a.rank() - 2] == rows) || (b.rank() > 1 && b.last() == Some(&k));
        let e = match helps {
            true => OpError::new(message).hint("perhaps the matrix needs .t()"),
            false => OpError::new(message),
        };
        Some(g.fail(MatMul::NAME, e, &[self, other]))
    }

    /// The inner product of two vectors: a scalar.
    #[track_caller]
    #[doc(alias = "inner")]
    #[doc(alias = "vdot")]
    pub fn dot(self, other: Var<'g>) -> Var<'g> {
        match (self.dims::<1>(), other.dims::<1>()) {
            (Some(_), Some(_)) => self.matmul(other),
            _ => self
                .graph()
                .fail("dot", "expected two vectors".into(), &[self, other]),
        }
    }

    /// The outer product of two vectors: `[m]` and `[n]` give `[m, n]`.
    #[track_caller]
    #[doc(alias = "ger")]
    pub fn outer(self, other: Var<'g>) -> Var<'g> {
        match (self.dims::<1>(), other.dims::<1>()) {
            (Some([m]), Some([n])) => self.reshape([m, 1]) * other.reshape([1, n]),
            _ => self
                .graph()
                .fail("outer", "expected two vectors".into(), &[self, other]),
        }
    }
}
