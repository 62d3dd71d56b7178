//! Indexing by integer positions, and its transposes, which add at positions.
//!
//! A negative position counts from the end. A position out of range is an error when the value is
//! computed.

use super::{Dependency, Op, Real, Rule, compensated, inputs};
use crate::{
    error::OpError,
    shape::Shape,
    tensor::{DType, Type, reserve, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// The positions along an axis of size `n`, all checked.
fn positions(index: TensorView<'_>, n: usize) -> Result<Vec<usize>, OpError> {
    let resolve = |(k, &p): (usize, &i64)| {
        let from_front = if p < 0 {
            p.checked_add(n as i64)
        } else {
            Some(p)
        };
        from_front
            .and_then(|p| usize::try_from(p).ok())
            .filter(|&p| p < n)
            .ok_or_else(|| {
                OpError::new(format!(
                    "index {p} (element {k}) is out of range for an axis of size {n}"
                ))
            })
    };
    index
        .slice::<i64>()?
        .iter()
        .enumerate()
        .map(resolve)
        .collect()
}

/// Class labels, all checked. Unlike positions, a negative label is an error and does not count
/// from the end.
pub(crate) fn labels(labels: TensorView<'_>, classes: usize) -> Result<&[i64], OpError> {
    let labels = labels.slice::<i64>()?;
    match labels
        .iter()
        .enumerate()
        .find(|(_, l)| !(0..classes as i64).contains(l))
    {
        None => Ok(labels),
        Some((k, bad)) => {
            let last = classes as i64 - 1;
            Err(OpError::new(format!(
                "label {bad} (element {k}) is not one of the {classes} classes 0 to {last}"
            )))
        }
    }
}

fn expect_index(index: &Type) -> Result<(), OpError> {
    if index.dtype == DType::I64 {
        return Ok(());
    }
    Err(
        OpError::new(format!("the index is {}, not i64", index.dtype))
            .hint("convert it with .cast(DType::I64)"),
    )
}

/// Whole slices along an axis: `out[.., j.., ..] = x[.., index[j..], ..]`
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Take {
    axis: usize,
}

impl Op for Take {
    const NAME: &'static str = "take";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x, index] = inputs::<2>(x)?;
        expect_index(index)?;
        let dims = [
            &x.shape[..self.axis],
            &index.shape,
            &x.shape[self.axis + 1..],
        ]
        .concat();
        Ok(Type::new(x.dtype, Shape::new(&dims)?))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (outer, n, inner) = x[0].shape.around(self.axis);
        let index = positions(x[1], n)?;
        with_dtype!(out.dtype(), T => {
            let (x, out) = (x[0].slice::<T>()?, out.slice::<T>()?);
            let from = (0..outer).flat_map(|o| index.iter().map(move |i| (o * n + i) * inner));
            for (out, from) in out.chunks_exact_mut(inner.max(1)).zip(from) {
                out.copy_from_slice(&x[from..from + inner]);
            }
            Ok(())
        })
    }

    /// The cotangents of equal positions add up.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[x, index] = r.x else { return None };
        Some(r.ct.graph().apply(
            IndexAdd {
                axis: self.axis,
                size: x.known_shape()[self.axis],
            },
            &[r.ct, index],
        ))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Moved
    }
}

/// Adds slices of length `inner` to the output at the given offsets, in order, with compensated
/// sums.
fn sum_at<T: Real>(
    src: &[T],
    inner: usize,
    to: impl Iterator<Item = usize>,
    out: &mut [T],
) -> Result<(), OpError> {
    let mut compensation = reserve(out.len())?;
    compensation.resize(out.len(), T::default());
    out.fill(T::default());
    for (src, to) in src.chunks_exact(inner.max(1)).zip(to) {
        let sums = out[to..to + inner]
            .iter_mut()
            .zip(&mut compensation[to..to + inner]);
        sums.zip(src)
            .for_each(|((sum, compensation), &x)| compensated::add(sum, compensation, x));
    }
    Ok(())
}

/// The transpose of [`Take`]: slices added at positions of an axis of this size.
#[derive(Clone, PartialEq, Debug)]
struct IndexAdd {
    axis: usize,
    size: usize,
}

impl Op for IndexAdd {
    const NAME: &'static str = "index_add";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [src, index] = inputs::<2>(x)?;
        expect_index(index)?;
        let middle = src.shape.get(self.axis..self.axis + index.shape.rank());
        if middle != Some(&index.shape[..]) {
            let message = format!(
                "from axis {} on, the shape {} does not match the index shape {}",
                self.axis, src.shape, index.shape
            );
            return Err(OpError::new(message));
        }
        let after = &src.shape[self.axis + index.shape.rank()..];
        Ok(Type::new(
            src.dtype,
            Shape::new(&[&src.shape[..self.axis], &[self.size], after].concat())?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (outer, n, inner) = out.shape.around(self.axis);
        let index = positions(x[1], n)?;
        with_dtype!(out.dtype(), float T => {
            let (src, out) = (x[0].slice::<T>()?, out.slice::<T>()?);
            let to = (0..outer).flat_map(|o| index.iter().map(move |i| (o * n + i) * inner));
            sum_at(src, inner, to, out)
        }, else super::expect_float(x[0].dtype()))
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(
            r.ct.graph()
                .apply(Take { axis: self.axis }, &[r.ct, r.x[1]]),
        )
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Scattered
    }
}

/// Single elements along an axis: `out[i, j, k] = x[i, index[i, j, k], k]` for axis 1 of 3.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Gather {
    axis: usize,
}

/// Checks the shapes of gather: equal except along the axis.
fn expect_aligned(x: &Shape, index: &Type, axis: usize) -> Result<(), OpError> {
    expect_index(index)?;
    let fits = x.rank() == index.shape.rank()
        && (0..x.rank()).all(|k| k == axis || x[k] == index.shape[k]);
    if fits {
        return Ok(());
    }
    Err(OpError::new(format!(
        "the index {} and {x} must have equal sizes except along axis {axis}",
        index.shape
    )))
}

/// For each element of an index tensor, the offset that it refers to in a tensor with `n` positions
/// along the axis.
fn flat_offsets(
    index: &Shape,
    axis: usize,
    positions: &[usize],
    n: usize,
) -> impl Iterator<Item = usize> {
    let (_, own, inner) = index.around(axis);
    positions
        .iter()
        .enumerate()
        .map(move |(e, p)| (e / (own * inner) * n + p) * inner + e % inner)
}

impl Op for Gather {
    const NAME: &'static str = "gather";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x, index] = inputs::<2>(x)?;
        expect_aligned(&x.shape, index, self.axis)?;
        Ok(Type::new(x.dtype, index.shape))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let n = x[0].shape[self.axis];
        let positions = positions(x[1], n)?;
        with_dtype!(out.dtype(), T => {
            let x0 = x[0].slice::<T>()?;
            let from = flat_offsets(x[1].shape, self.axis, &positions, n);
            out.slice::<T>()?.iter_mut().zip(from).for_each(|(o, from)| *o = x0[from]);
            Ok(())
        })
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[x, index] = r.x else { return None };
        Some(r.ct.graph().apply(
            Scatter {
                axis: self.axis,
                size: x.known_shape()[self.axis],
            },
            &[r.ct, index],
        ))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Moved
    }
}

/// The transpose of [`Gather`]: elements added at positions of an axis of this size.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Scatter {
    axis: usize,
    size: usize,
}

impl Op for Scatter {
    const NAME: &'static str = "scatter_add";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [src, index] = inputs::<2>(x)?;
        super::expect_float(src.dtype)?;
        expect_aligned(&src.shape, index, self.axis)?;
        if src.shape != index.shape {
            return Err(OpError::new(format!(
                "the source {} and the index {} must have equal shapes",
                src.shape, index.shape
            )));
        }
        Ok(Type::new(
            src.dtype,
            src.shape.resized(self.axis, self.size)?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let positions = positions(x[1], self.size)?;
        with_dtype!(out.dtype(), float T => {
            let (src, out) = (x[0].slice::<T>()?, out.slice::<T>()?);
            sum_at(src, 1, flat_offsets(x[1].shape, self.axis, &positions, self.size), out)
        }, else super::expect_float(x[0].dtype()))
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(
            r.ct.graph()
                .apply(Gather { axis: self.axis }, &[r.ct, r.x[1]]),
        )
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Scattered
    }
}

/// 1 at the label, 0 elsewhere, in a new last axis.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct OneHot {
    classes: usize,
    dtype: DType,
}

impl Op for OneHot {
    const NAME: &'static str = "one_hot";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [labels] = inputs::<1>(x)?;
        expect_index(labels)?;
        Ok(Type::new(
            self.dtype,
            Shape::new(&[&labels.shape, &[self.classes][..]].concat())?,
        ))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let labels = labels(x[0], self.classes)?;
        with_dtype!(self.dtype, T => {
            let (zero, one) = (T::default(), one::<T>()?);
            let lines = out.slice::<T>()?.chunks_exact_mut(self.classes.max(1));
            lines.zip(labels).for_each(|(line, &label)| {
                line.fill(zero);
                line[label as usize] = one;
            });
            Ok(())
        })
    }

    fn vjp<'g>(&self, _input: usize, _r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        None
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::None
    }
}

/// The scalar 1, or `true`.
fn one<T: crate::tensor::Element>() -> Result<T, OpError> {
    use crate::tensor::{Number, Tensor};
    let one = Tensor::number(Number::Int(1), T::DTYPE);
    Ok(one.as_view().slice::<T>()?[0])
}

impl<'g> Var<'g> {
    /// Slices along an axis, selected by an i64 tensor of any shape, whose axes replace that axis
    /// (NumPy's `take`; PyTorch's `index_select` and embeddings). The cotangents of a slice that is
    /// selected twice add up.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let table = g.input([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]);
    /// let rows = table.take(g.constant([2, 0, 2]), 0);
    /// assert_eq!(rows.value()?.to_f64s(), [5.0, 6.0, 1.0, 2.0, 5.0, 6.0]);
    /// let counts = rows.sum().backward()?;
    /// let counts = counts.get(table).map(|d| d.to_f64s());
    /// assert_eq!(counts, Some(vec![1.0, 1.0, 0.0, 0.0, 2.0, 2.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn take(self, index: Var<'g>, axis: isize) -> Var<'g> {
        self.with_shape(Take::NAME, |shape| {
            Ok(self.graph().apply(
                Take {
                    axis: shape.axis(axis)?,
                },
                &[self, index],
            ))
        })
    }

    /// One element for each element of an i64 tensor, which has the same sizes except along the
    /// axis: `out[i][j] = self[i][index[i][j]]` for axis 1 (PyTorch's `gather`, NumPy's
    /// `take_along_axis`).
    #[track_caller]
    pub fn gather(self, axis: isize, index: Var<'g>) -> Var<'g> {
        self.with_shape(Gather::NAME, |shape| {
            Ok(self.graph().apply(
                Gather {
                    axis: shape.axis(axis)?,
                },
                &[self, index],
            ))
        })
    }

    /// A copy of `self` with the elements of `source` added at the positions of `index` along an
    /// axis: the transpose of [`gather`](Var::gather). `index` and `source` have equal shapes.
    /// Terms at one position are added in order with compensated summation, as in
    /// [`cumsum`](Var::cumsum), so rounding errors do not accumulate.
    #[track_caller]
    pub fn scatter_add(self, axis: isize, index: Var<'g>, source: Var<'g>) -> Var<'g> {
        self.with_shape(Scatter::NAME, |shape| {
            let axis = shape.axis(axis)?;
            Ok(self
                + self.graph().apply(
                    Scatter {
                        axis,
                        size: shape[axis],
                    },
                    &[source, index],
                ))
        })
    }

    /// One-hot encoding: 1 at each label and 0 elsewhere. Labels `[..]` (i64) give `[.., classes]`
    /// of this dtype. A label outside `0..classes` is an error when the value is computed.
    #[track_caller]
    pub fn one_hot(self, classes: usize, dtype: DType) -> Var<'g> {
        self.apply(OneHot { classes, dtype })
    }
}
