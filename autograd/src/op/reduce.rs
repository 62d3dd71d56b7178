//! Reductions over axes: sum, mean, product, max, argmax.
//!
//! In which order floats are joined depends only on shape and axes, never on threads or instruction
//! sets: see [`math::fold`](crate::math::fold).

use super::{
    Dependency, Internal, Lowering, Op, Parts, Rule, expect_float, inputs,
    layout::{MOVE, copy},
    lines::{FirstLargest, IntegerSum, Largest, parts_of_lines, reduce_lines},
};
use crate::{
    error::OpError,
    ints::{Int, Ints},
    math::fold::{Fold, Lines, fold_lines},
    nodes::OpRef,
    piece::Piece,
    shape::{Axes, Shape},
    tensor::{DType, Element, Type, reserve, with_dtype},
    var::Var,
    view::{Elements, TensorView, TensorViewMut},
};
use std::sync::Arc;

/// `Σ x` over some axes. Booleans are counted (i64).
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Sum {
    pub(crate) axes: Axes,
    keep: bool,
}

impl Op for Sum {
    const NAME: &'static str = "sum";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        let dtype = if x.dtype == DType::Bool {
            DType::I64
        } else {
            x.dtype
        };
        Ok(Type::new(dtype, x.shape.reduced(self.axes, self.keep)))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        match x[0].dtype().is_float() {
            true => fold_floats(Fold::Sum, self.axes, x[0], out),
            false => self.piece(x, Piece::whole(out), Internal(())),
        }
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        parts_of_lines(&x[0])
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let mut sum = IntegerSum { fits: true };
        match x[0].dtype() {
            DType::Bool => reduce_lines::<bool, _>(&mut sum, x[0], self.axes, out)?,
            _ => reduce_lines::<i64, _>(&mut sum, x[0], self.axes, out)?,
        }
        match sum.fits {
            true => Ok(()),
            false => Err("an integer sum does not fit in 64 bits".into()),
        }
    }

    /// Each element has the factor 1: the cotangent, broadcast over the axes.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(broadcast_over(r.ct, r.x[0], self.axes))
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| !t.dtype.is_float())
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Fold(Fold::Sum, self.axes)
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Reduced { axes: self.axes.0 }
    }
}

/// The largest or the smallest element over some axes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct MinMax<const LARGEST: bool> {
    axes: Axes,
    keep: bool,
}

type Max = MinMax<true>;
type Min = MinMax<false>;

impl<const LARGEST: bool> Op for MinMax<LARGEST> {
    const NAME: &'static str = if LARGEST { "max" } else { "min" };

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        not_empty(x, self.axes)?;
        if x.dtype == DType::Bool {
            expect_float(x.dtype)?;
        }
        Ok(Type::new(x.dtype, x.shape.reduced(self.axes, self.keep)))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        match x[0].dtype() {
            DType::I64 => self.piece(x, Piece::whole(out), Internal(())),
            _ if LARGEST => fold_floats(Fold::Max, self.axes, x[0], out),
            _ => fold_floats(Fold::Min, self.axes, x[0], out),
        }
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        parts_of_lines(&x[0])
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        reduce_lines::<i64, _>(&mut Largest { flip: !LARGEST }, x[0], self.axes, out)
    }

    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(shared_by_ties(r, r.x[0], self.axes))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Fold(if LARGEST { Fold::Max } else { Fold::Min }, self.axes)
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Reduced { axes: self.axes.0 }
    }
}

/// The derivative of a maximum or minimum `y` over some axes of `x`: split evenly among all elements
/// that equal the result. If the result is NaN, these are the NaN elements, so there always is one.
fn shared_by_ties<'g>(r: &Rule<'_, 'g>, x: Var<'g>, axes: Axes) -> Var<'g> {
    let y = with_axes(r.y, x, axes);
    let is_nan = |v: Var<'g>| v.ne(v).select(v.lit(1.0), v.lit(0.0));
    let is_result = y.eq(y).select(x, is_nan(x)).eq(y.eq(y).select(y, 1.0));
    // counted in floats, so that one kernel compares and counts
    let ties = is_result
        .select(x.lit(1.0), x.lit(0.0))
        .sum_over(axes, true);
    let share = with_axes(r.ct, x, axes) / ties;
    is_result.select(share, r.ct.lit(0.0))
}

/// Returns its first input, which is the largest or the smallest element of the second one over axes
/// that do not follow each other, found over one group of them after the other. As one op, ties are
/// counted over all axes together.
#[derive(Clone, PartialEq, Debug)]
struct MinMaxOf<const LARGEST: bool> {
    axes: Axes,
}

impl<const LARGEST: bool> Op for MinMaxOf<LARGEST> {
    const NAME: &'static str = MinMax::<LARGEST>::NAME;

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(inputs::<2>(x)?[0])
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
    }

    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        (input == 1).then(|| shared_by_ties(r, r.x[1], self.axes))
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::View
    }

    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::None
        } else {
            Dependency::Reduced { axes: self.axes.0 }
        }
    }
}

/// The product of floats along an axis.
#[derive(Clone, PartialEq, Debug)]
struct Prod {
    axis: usize,
}

impl Op for Prod {
    const NAME: &'static str = "prod";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        expect_float(x.dtype)?;
        Ok(Type::new(x.dtype, x.shape.collapsed(self.axis)))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        fold_floats(Fold::Prod, Axes(1 << self.axis), x[0], out)
    }

    /// The product of all other elements, also where some are 0. The halves of the axis are
    /// multiplied with each other until one element is left; on the way back, what is left and
    /// right of each product is multiplied with the other one's elements.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let at = self.axis as isize;
        let (g, mut x, mut n) = (r.ct.graph(), r.x[0], r.x[0].known_shape()[self.axis]);
        let mut halved = Vec::new();
        while n > 1 {
            let half = n as isize / 2;
            let [left, right] = [x.slice(at, ..half), x.slice(at, half..2 * half)];
            let rest = (n % 2 == 1).then(|| x.slice(at, 2 * half..));
            x = rest.map_or(left * right, |rest| g.concat(&[left * right, rest], at));
            halved.push([left, right]);
            n -= half as usize;
        }
        let mut ct = r.ct;
        for [left, right] in halved.into_iter().rev() {
            let half = left.known_shape()[self.axis] as isize;
            let (of_product, rest) = (ct.slice(at, ..half), ct.slice(at, half..));
            let parts = [of_product * right, of_product * left, rest];
            let has_rest = rest.known_shape()[self.axis] > 0;
            ct = g.concat(&parts[..if has_rest { 3 } else { 2 }], at);
        }
        Some(ct)
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::Fold(Fold::Prod, Axes(1 << self.axis))
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Reduced {
            axes: 1 << self.axis,
        }
    }
}

/// Returns its first input, which is `√(Σx²/n)` of the second one over some axes. Differentiating
/// its computation would involve `1/s` and cubes, which overflow. `x/(n·y)` is in range wherever
/// `y` is, and so are its own derivatives.
#[derive(Clone, PartialEq, Debug)]
struct RootOfSquares {
    axes: Axes,
    n: f64,
}

impl Op for RootOfSquares {
    const NAME: &'static str = "norm";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(inputs::<2>(x)?[0])
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
    }

    /// `ct·x/(n·y)`; at `y = 0` the function is taken as a constant.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let &[_, x] = r.x else { return None };
        if input == 0 {
            return None;
        }
        let [y, ct] = [r.y, r.ct].map(|v| with_axes(v, x, self.axes));
        let zero = y.eq(0.0);
        let d = zero.select(0.0, ct) * (x / zero.select(1.0, y));
        Some(if self.n == 1.0 { d } else { d / d.lit(self.n) })
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::View
    }

    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::None
        } else {
            Dependency::Reduced { axes: self.axes.0 }
        }
    }
}

/// The position of the largest or the smallest element along an axis.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct ArgMinMax<const LARGEST: bool> {
    axis: usize,
}

type ArgMax = ArgMinMax<true>;
type ArgMin = ArgMinMax<false>;

impl<const LARGEST: bool> Op for ArgMinMax<LARGEST> {
    const NAME: &'static str = if LARGEST { "argmax" } else { "argmin" };

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        let axis = Axes(1 << self.axis);
        not_empty(x, axis)?;
        Ok(Type::new(DType::I64, x.shape.reduced(axis, false)))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        match x[0].dtype {
            DType::Bool => Parts::WHOLE,
            _ => Parts::elements(1, MOVE),
        }
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        let (axis, mut first) = (Axes(1 << self.axis), FirstLargest { flip: !LARGEST });
        let x = x[0];
        match x.dtype() {
            DType::F32 => reduce_lines::<f32, _>(&mut first, x, axis, out),
            DType::F64 => reduce_lines::<f64, _>(&mut first, x, axis, out),
            DType::I64 => reduce_lines::<i64, _>(&mut first, x, axis, out),
            DType::Bool => {
                let booleans = x.slice::<bool>()?;
                let mut numbers = reserve(booleans.len())?;
                numbers.extend(booleans.iter().map(|&x| i64::from(x)));
                let data = Elements::I64(&numbers);
                let x = TensorView { data, ..x };
                reduce_lines::<i64, _>(&mut first, x, axis, out)
            }
        }
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

fn not_empty(x: &Type, axes: Axes) -> Result<(), OpError> {
    match (0..x.shape.rank()).find(|&k| axes.has(k) && x.shape[k] == 0) {
        Some(k) => Err(OpError::new(format!(
            "axis {k} of {} is empty: it has no maximum or minimum",
            x.shape
        ))),
        None => Ok(()),
    }
}

/// Reduces floats over some axes in the canonical order.
fn fold_floats(
    fold: Fold,
    axes: Axes,
    x: TensorView<'_>,
    mut out: TensorViewMut<'_>,
) -> Result<(), OpError> {
    with_dtype!(x.dtype(), float T => {
        let (shape, x) = (x.shape, x.slice::<T>()?);
        let mut reduce = |x: &[T], lines: Lines, out: &mut [T]| fold_lines(fold, x, lines, out);
        fold_axes(shape, axes, x, out.slice()?, &mut reduce);
        Ok(())
    }, else expect_float(x.dtype()))
}

/// A closure that gets elements, the lines to reduce, and the output: one element per line.
type FoldFn<'f, T> = dyn FnMut(&[T], Lines, &mut [T]) + 'f;

/// Reduces one group of adjacent axes after the other, the last group first.
fn fold_axes<T: Element>(
    shape: &Shape,
    axes: Axes,
    x: &[T],
    out: &mut [T],
    fold: &mut FoldFn<'_, T>,
) {
    if x.is_empty() {
        // every line is empty; partial sums over some of the axes could need more memory than there
        // is
        return fold(
            x,
            Lines {
                n: 0,
                inner: out.len(),
            },
            out,
        );
    }
    let (mut shape, mut rest, mut partial) = (*shape, axes, None::<Vec<T>>);
    loop {
        let x = partial.as_deref().unwrap_or(x);
        let Some(last) = (0..shape.rank()).rev().find(|&k| rest.has(k)) else {
            return fold(x, Lines { n: 1, inner: 1 }, out); // no axes: each element is a line
        };
        let first = (0..=last)
            .rev()
            .take_while(|&k| rest.has(k))
            .last()
            .unwrap_or(last);
        let n: usize = shape[first..=last].iter().product();
        let lines = Lines {
            n,
            inner: shape[last + 1..].iter().product(),
        };
        for k in first..=last {
            shape = shape.collapsed(k);
            rest.0 &= !(1 << k);
        }
        if rest.0 == 0 {
            return fold(x, lines, out);
        }
        let mut next = vec![T::default(); shape.count()];
        fold(x, lines, &mut next);
        partial = Some(next);
    }
}

/// A reduced value with its axes restored as size 1, so that it broadcasts against the input of the
/// reduction.
#[track_caller]
fn with_axes<'g>(reduced: Var<'g>, x: Var<'g>, axes: Axes) -> Var<'g> {
    reduced.reshape(x.known_shape().reduced(axes, true))
}

/// A reduced value broadcast over its axes again.
#[track_caller]
fn broadcast_over<'g>(reduced: Var<'g>, x: Var<'g>, axes: Axes) -> Var<'g> {
    with_axes(reduced, x, axes).broadcast_to(x.known_shape())
}

impl<'g> Var<'g> {
    #[track_caller]
    pub(crate) fn sum_over(self, axes: Axes, keep: bool) -> Var<'g> {
        self.fold_over(axes, keep, &|axes, keep| {
            OpRef::Own(Arc::new(Sum { axes, keep }))
        })
    }

    /// The largest or the smallest elements over some axes.
    #[track_caller]
    fn min_max<const LARGEST: bool>(self, axes: Axes, keep: bool) -> Var<'g> {
        let y = self.fold_over(axes, keep, &|axes, keep| {
            OpRef::Own(Arc::new(MinMax::<LARGEST> { axes, keep }))
        });
        if self.is_folded_at_once(axes) || !self.known_dtype().is_float() {
            return y;
        }
        self.graph().apply(MinMaxOf::<LARGEST> { axes }, &[y, self])
    }

    /// Whether one op reduces a value over some axes. Floats are reduced over one group of adjacent
    /// axes after the other: these are lines, which kernels know. Of integers, a sum over some of the
    /// axes may be too large although that over all of them is not: axes are brought together.
    fn is_folded_at_once(self, axes: Axes) -> bool {
        self.error().is_some()
            || self.known_shape().count() == 0 // what is left after some axes could be too large
            || axes.last_group() == axes
    }

    /// Applies a reduction over some axes: the last adjacent ones first, as the definition does.
    #[track_caller]
    pub(super) fn fold_over(
        self,
        axes: Axes,
        keep: bool,
        op: &dyn Fn(Axes, bool) -> OpRef,
    ) -> Var<'g> {
        if self.is_folded_at_once(axes) {
            return self.graph().append_ref(op(axes, keep), &[self]);
        }
        let (mut x, mut rest) = (self, axes);
        if !self.known_dtype().is_float() {
            // the reduced axes become the last ones
            let rank = self.known_shape().rank();
            let some = |is: bool| (0..rank).filter(move |&k| axes.has(k) == is);
            let order: Vec<isize> = some(false).chain(some(true)).map(|k| k as isize).collect();
            let kept = rank - axes.0.count_ones() as usize;
            rest = Axes(Axes::all(rank).0 & !Axes::all(kept).0);
            x = self.permute(order);
        }
        while rest.0 != 0 {
            let group = rest.last_group();
            x = x.graph().append_ref(op(group, true), &[x]);
            rest.0 &= !group.0;
        }
        x.reshape(self.known_shape().reduced(axes, keep))
    }

    /// Applies a reduction over the listed axes; an error if they do not fit.
    #[track_caller]
    pub(super) fn over(
        self,
        name: &'static str,
        axes: impl Ints,
        fold: impl FnOnce(Axes) -> Var<'g>,
    ) -> Var<'g> {
        self.with_shape(name, |shape| Ok(fold(shape.axes(&axes.list())?)))
    }

    #[track_caller]
    pub(super) fn over_all(
        self,
        name: &'static str,
        fold: impl FnOnce(Axes) -> Var<'g>,
    ) -> Var<'g> {
        self.with_shape(name, |shape| Ok(fold(Axes::all(shape.rank()))))
    }

    /// The sum of all elements, a scalar. For booleans, the count of true elements (i64).
    ///
    /// The order of the additions depends on the shape alone, and rounding errors do not accumulate
    /// in long sums. A float sum starts with 0, so the sum of -0 is 0. An integer sum that does not
    /// fit in 64 bits is an error.
    #[track_caller]
    pub fn sum(self) -> Var<'g> {
        self.over_all(Sum::NAME, |axes| self.sum_over(axes, false))
    }

    /// The sum over one or several axes, which are removed: `x.sum_axis(-1)`, `x.sum_axis([0, 2])`.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([[1.0, 2.0], [3.0, 4.0]]);
    /// assert_eq!(x.sum_axis(0).value()?.to_f64s(), [4.0, 6.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "reduce_sum")]
    pub fn sum_axis(self, axes: impl Ints) -> Var<'g> {
        self.over(Sum::NAME, axes, |axes| self.sum_over(axes, false))
    }

    /// The sum over one or several axes, which are kept with size 1, so that the result broadcasts
    /// against `self`.
    #[track_caller]
    #[doc(alias = "keepdim")]
    #[doc(alias = "keepdims")]
    pub fn sum_axis_keep(self, axes: impl Ints) -> Var<'g> {
        self.over(Sum::NAME, axes, |axes| self.sum_over(axes, true))
    }

    /// The arithmetic mean of all elements: NaN if there are none. For floats.
    #[track_caller]
    pub fn mean(self) -> Var<'g> {
        self.mean_over(|shape| Ok(Axes::all(shape.rank())), false)
    }

    /// The mean over one or several axes, which are removed.
    #[track_caller]
    pub fn mean_axis(self, axes: impl Ints) -> Var<'g> {
        self.mean_over(|shape| shape.axes(&axes.list()), false)
    }

    /// The mean over one or several axes, which are kept with size 1.
    #[track_caller]
    pub fn mean_axis_keep(self, axes: impl Ints) -> Var<'g> {
        self.mean_over(|shape| shape.axes(&axes.list()), true)
    }

    #[track_caller]
    fn mean_over(self, axes: impl FnOnce(&Shape) -> Result<Axes, OpError>, keep: bool) -> Var<'g> {
        self.with_shape("mean", |shape| {
            expect_float(self.known_dtype())?;
            let axes = axes(shape)?;
            Ok(self.sum_over(axes, keep) / self.lit(axes.count(shape) as f64))
        })
    }

    /// The largest element. The gradient is split evenly over ties. NaN if an element is NaN; an
    /// error if there are no elements.
    #[track_caller]
    #[doc(alias = "amax")]
    pub fn max(self) -> Var<'g> {
        self.over_all(Max::NAME, |axes| self.min_max::<true>(axes, false))
    }

    /// The largest element over one or several axes, which are removed.
    #[track_caller]
    #[doc(alias = "amax")]
    #[doc(alias = "reduce_max")]
    pub fn max_axis(self, axes: impl Ints) -> Var<'g> {
        self.over(Max::NAME, axes, |axes| self.min_max::<true>(axes, false))
    }

    /// The largest element over one or several axes, which are kept with size 1.
    #[track_caller]
    pub fn max_axis_keep(self, axes: impl Ints) -> Var<'g> {
        self.over(Max::NAME, axes, |axes| self.min_max::<true>(axes, true))
    }

    /// The smallest element; ties and NaN as for [`max`](Var::max).
    #[track_caller]
    #[doc(alias = "amin")]
    pub fn min(self) -> Var<'g> {
        self.over_all(Min::NAME, |axes| self.min_max::<false>(axes, false))
    }

    /// The smallest element over one or several axes, which are removed.
    #[track_caller]
    #[doc(alias = "amin")]
    #[doc(alias = "reduce_min")]
    pub fn min_axis(self, axes: impl Ints) -> Var<'g> {
        self.over(Min::NAME, axes, |axes| self.min_max::<false>(axes, false))
    }

    /// The smallest element over one or several axes, which are kept with size 1.
    #[track_caller]
    pub fn min_axis_keep(self, axes: impl Ints) -> Var<'g> {
        self.over(Min::NAME, axes, |axes| self.min_max::<false>(axes, true))
    }

    /// The variance of all elements: the sum of squared deviations from the mean, divided by
    /// `n - ddof`. NumPy's default is a `ddof` of 0, PyTorch's is 1. For floats.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(x.var(0).value()?.scalar()?, 1.25);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "variance")]
    pub fn var(self, ddof: usize) -> Var<'g> {
        self.var_over(|shape| Ok(Axes::all(shape.rank())), ddof, false)
    }

    /// The variance over one or several axes, which are removed.
    #[track_caller]
    pub fn var_axis(self, axes: impl Ints, ddof: usize) -> Var<'g> {
        self.var_over(|shape| shape.axes(&axes.list()), ddof, false)
    }

    /// The variance over one or several axes, which are kept with size 1.
    #[track_caller]
    pub fn var_axis_keep(self, axes: impl Ints, ddof: usize) -> Var<'g> {
        self.var_over(|shape| shape.axes(&axes.list()), ddof, true)
    }

    #[track_caller]
    fn var_over(
        self,
        axes: impl FnOnce(&Shape) -> Result<Axes, OpError>,
        ddof: usize,
        keep: bool,
    ) -> Var<'g> {
        self.with_shape("var", |shape| {
            expect_float(self.known_dtype())?;
            let axes = axes(shape)?;
            // NaN (0/0) with at most `ddof` elements
            let degrees = (axes.count(shape) as f64 - ddof as f64).max(0.0);
            Ok(self.deviation(axes).square().sum_over(axes, keep) / self.lit(degrees))
        })
    }

    /// The deviation of each element from the mean.
    #[track_caller]
    fn deviation(self, axes: Axes) -> Var<'g> {
        self - self.sum_over(axes, true) / self.lit(axes.count(&self.known_shape()) as f64)
    }

    /// The standard deviation of all elements: the square root of [`var`](Var::var), also where
    /// squares overflow or underflow. Its derivatives of all orders are 0 where all elements are
    /// equal.
    #[track_caller]
    pub fn std(self, ddof: usize) -> Var<'g> {
        self.std_over(|shape| Ok(Axes::all(shape.rank())), ddof)
    }

    /// The standard deviation over one or several axes, which are removed.
    #[track_caller]
    pub fn std_axis(self, axes: impl Ints, ddof: usize) -> Var<'g> {
        self.std_over(|shape| shape.axes(&axes.list()), ddof)
    }

    #[track_caller]
    fn std_over(self, axes: impl FnOnce(&Shape) -> Result<Axes, OpError>, ddof: usize) -> Var<'g> {
        self.with_shape("std", |shape| {
            expect_float(self.known_dtype())?;
            let axes = axes(shape)?;
            Ok(self
                .deviation(axes)
                .root_of_squares(axes, (axes.count(shape) as f64 - ddof as f64).max(0.0)))
        })
    }

    /// The Euclidean norm of all elements, `√Σx²`, also where squares overflow or underflow. Its
    /// derivative is `x/‖x‖`; at 0 the derivatives of all orders are 0.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// assert_eq!(g.input([3.0, 4.0]).norm().value()?.scalar()?, 5.0);
    /// assert!((g.input([3e200, 4e200]).norm().value()?.scalar()? / 5e200 - 1.0).abs() < 1e-15);
    /// let x = g.input([0.0, -2.0]);
    /// assert_eq!(x.norm().backward()?.get(x).map(|d| d.to_f64s()), Some(vec![0.0, -1.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "vector_norm")]
    #[doc(alias = "l2")]
    pub fn norm(self) -> Var<'g> {
        self.norm_over(|shape| Ok(Axes::all(shape.rank())))
    }

    /// The Euclidean norm over one or several axes, which are removed.
    #[track_caller]
    pub fn norm_axis(self, axes: impl Ints) -> Var<'g> {
        self.norm_over(|shape| shape.axes(&axes.list()))
    }

    #[track_caller]
    fn norm_over(self, axes: impl FnOnce(&Shape) -> Result<Axes, OpError>) -> Var<'g> {
        self.with_shape("norm", |shape| {
            expect_float(self.known_dtype())?;
            Ok(self.root_of_squares(axes(shape)?, 1.0))
        })
    }

    /// `√(Σx²/n)`, as `√(Σ(s·x)²/n)/s` with three powers of two `s`: that one is taken for which the
    /// squares are in range. All three sums are there in one pass over the elements (Blue, A
    /// portable Fortran program to find the Euclidean norm of a vector, ACM TOMS 4, 1978, has them,
    /// too, but sorts the elements).
    #[track_caller]
    fn root_of_squares(self, axes: Axes, n: f64) -> Var<'g> {
        // below `low`, squares lose digits that matter; above `high`, a product with them may
        // overflow
        let [low, high, scale] = if self.known_dtype() == DType::F32 {
            [-80, 100, 100]
        } else {
            [-600, 900, 700]
        }
        .map(|exponent: i32| 2f64.powi(exponent));
        let squares = |x: Var<'g>| x.square().sum_over(axes, false);
        let root = |squares: Var<'g>| match n {
            1.0 => squares.sqrt(),
            n => (squares / self.lit(n)).sqrt(),
        };
        let (up, down) = (self.lit(scale), self.lit(1.0 / scale));
        let [size, small, large] = [self, self * up, self * down].map(squares);
        let root = size.lt(low).select(
            root(small) * down,
            size.gt(high).select(root(large) * up, root(size)),
        );
        self.graph().apply(RootOfSquares { axes, n }, &[root, self])
    }

    /// The product of all elements; 1 if there are none. The derivative is the product of the other
    /// elements, also at zeros.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([0.0, 2.0, 3.0]);
    /// assert_eq!(x.prod().backward()?.get(x).map(|d| d.to_f64s()), Some(vec![6.0, 0.0, 0.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "product")]
    pub fn prod(self) -> Var<'g> {
        self.with_shape("prod", |shape| {
            Ok(self.reshape([shape.count()]).prod_axis(0))
        })
    }

    /// The product along an axis, which is removed. For integers, one half is multiplied with the
    /// other until one element is left, and each intermediate product must fit in 64 bits.
    #[track_caller]
    pub fn prod_axis(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("prod", |shape| {
            let axis = shape.axis(axis)?;
            let (at, mut x, mut n) = (axis as isize, self, shape[axis]);
            if n == 0 {
                return Ok(self.ones_like().sum_axis(axis) + self.lit(1.0)); // the empty sum is 0
            }
            if self.known_dtype().is_float() {
                return Ok(self.apply(Prod { axis }).squeeze(at));
            }
            while n > 1 {
                let half = n as isize / 2;
                let product = x.slice(at, ..half) * x.slice(at, half..2 * half);
                x = if n % 2 == 0 {
                    product
                } else {
                    self.graph().concat(&[product, x.slice(at, 2 * half..)], at)
                };
                n -= half as usize;
            }
            Ok(x.squeeze(at))
        })
    }

    /// The position of the smallest element along an axis; ties and NaN as for
    /// [`argmax`](Var::argmax).
    #[track_caller]
    pub fn argmin(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(ArgMin::NAME, |shape| {
            Ok(self.apply(ArgMin {
                axis: shape.axis(axis)?,
            }))
        })
    }

    /// The position of the largest element along an axis, as i64: the first one at a tie, or the
    /// first NaN. No gradient.
    #[track_caller]
    pub fn argmax(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape(ArgMax::NAME, |shape| {
            Ok(self.apply(ArgMax {
                axis: shape.axis(axis)?,
            }))
        })
    }
}
