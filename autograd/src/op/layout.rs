//! Layout ops: the same elements in another shape or order.

use super::{Dependency, Id, Internal, Lowering, Op, Parts, Rule, inputs};
use crate::{
    error::OpError,
    ints::{Int, IntRange, Ints},
    movement,
    piece::Piece,
    shape::{Axes, MAX_RANK, Shape, Walk, sizes},
    tensor::{Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::ops::{Bound, Range};

/// Copies the input: the `eval` of views, where they are computed at all.
pub(crate) fn copy(x: TensorView<'_>, mut out: TensorViewMut<'_>) -> Result<(), OpError> {
    with_dtype!(x.dtype(), T => {
        out.slice::<T>()?.copy_from_slice(x.slice::<T>()?);
        Ok(())
    })
}

/// What moving an element costs, in light steps.
pub(super) const MOVE: usize = 10;

/// Declares a layout op, with how it computes a piece of the output. That never fails.
macro_rules! layout_op {
    ($Op:ty, $name:literal, |$self:ident, $t:ident| $infer:expr, |$this:ident, $x:ident, $out:ident| $eval:expr,
     |$me:ident, $r:ident| $vjp:expr $(, |$that:ident| $lowering:expr)?) => {
        layout_op!($Op, $name, |$self, $t| $infer, |$this, $x, $out| $eval, |$me, $r| $vjp
            $(, |$that| $lowering)?; |_op, _x| 1);
    };
    ($Op:ty, $name:literal, |$self:ident, $t:ident| $infer:expr, |$this:ident, $x:ident, $out:ident| $eval:expr,
     |$me:ident, $r:ident| $vjp:expr $(, |$that:ident| $lowering:expr)?; |$cut:ident, $shape:ident| $grain:expr) => {
        impl Op for $Op {
            const NAME: &'static str = $name;
            fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
                let ([$t], $self) = (inputs::<1>(x)?, self);
                $infer
            }
            fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
                self.piece(x, Piece::whole(out), Internal(()))
            }
            fn parts(&self, x: &[Type], _: Internal) -> Parts {
                let ($cut, $shape) = (self, &x[0].shape);
                Parts::elements($grain, MOVE)
            }
            fn piece(&self, x: &[TensorView<'_>], $out: Piece<'_>, _: Internal) -> Result<(), OpError> {
                let ($x, $this) = (x[0], self);
                $eval
            }
            fn vjp<'g>(&self, _input: usize, $r: &Rule<'_, 'g>) -> Option<Var<'g>> {
                let $me = self;
                Some($vjp)
            }
            fn may_fail(&self, _x: &[Type]) -> bool {
                false
            }
            fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
                Dependency::Moved
            }
            $(fn lowering(&self, _: Internal) -> Lowering<'_> {
                let $that = self;
                $lowering
            })?
        }
    };
}

pub(super) use layout_op;

/// Another shape with the same number of elements.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Reshape(Shape);
layout_op!(
    Reshape,
    "reshape",
    |op, t| if t.shape.count() == op.0.count() {
        Ok(Type::new(t.dtype, op.0))
    } else {
        Err(OpError::new(format!(
            "{} has {} elements, {} has {}",
            t.shape,
            t.shape.count(),
            op.0,
            op.0.count()
        )))
    },
    |_op, x, out| movement::copy(x, &Walk::of(out.shape), out),
    |_op, r| r.ct.reshape(r.x[0].known_shape()),
    |_op| Lowering::View
);

/// The axes in another order: output axis `i` is input axis `self.0[i]`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Permute(pub(crate) Vec<usize>);
layout_op!(
    Permute,
    "permute",
    |op, t| {
        let sizes: Vec<usize> = op.0.iter().map(|&axis| t.shape[axis]).collect();
        Ok(Type::new(t.dtype, Shape::new(&sizes)?))
    },
    |op, x, out| {
        let (own, mut strides) = (x.shape.strides(), [0; MAX_RANK]);
        op.0.iter()
            .enumerate()
            .for_each(|(to, &from)| strides[to] = own[from]);
        movement::copy(x, &Walk::new(*out.shape, strides, 0), out)
    },
    |op, r| {
        let mut back = vec![0; op.0.len()];
        op.0.iter()
            .enumerate()
            .for_each(|(to, &from)| back[from] = to);
        r.ct.apply(Permute(back))
    },
    |op| Lowering::Permute(&op.0)
);

/// Repeats along axes of size 1 and along new leading axes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct BroadcastTo(pub(crate) Shape);
layout_op!(
    BroadcastTo,
    "broadcast_to",
    |op, t| if t.shape.broadcasts_to(&op.0) {
        Ok(Type::new(t.dtype, op.0))
    } else {
        Err(
            OpError::new(format!("{} does not broadcast to {}", t.shape, op.0))
                .hint("sizes must be equal or 1 in the source, compared from the last axis"),
        )
    },
    |_op, x, out| movement::copy(x, &Walk::broadcast(x.shape, out.shape), out),
    |_op, r| r.ct.sum_to(r.x[0].known_shape()),
    |_op| Lowering::Broadcast
);

/// The elements `start, start + step, ..` of an axis, `size` of them.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Slice {
    axis: usize,
    start: usize,
    step: isize,
    size: usize,
}

impl Slice {
    /// Whether it takes adjacent elements in their order.
    pub(crate) fn is_range(&self) -> bool {
        self.step == 1
    }

    /// Adjacent elements.
    pub(crate) fn range(axis: usize, range: Range<usize>) -> Slice {
        Slice {
            axis,
            start: range.start,
            step: 1,
            size: range.len(),
        }
    }

    /// Elements from the first one on, `step` apart.
    pub(super) fn every(axis: usize, step: usize, size: usize) -> Slice {
        Slice {
            axis,
            start: 0,
            step: step as isize,
            size,
        }
    }

    /// A slice's cotangent, padded with zeros to the size of the whole axis.
    pub(crate) fn padded<'g>(&self, ct: Var<'g>, whole: usize) -> Var<'g> {
        ct.apply(Unslice {
            slice: self.clone(),
            whole,
        })
    }

    /// The axis, and the range of positions along it, if [`is_range`](Slice::is_range).
    pub(crate) fn place(&self) -> (usize, Range<usize>) {
        (self.axis, self.start..self.start + self.size)
    }

    /// The walk that reads `part` from `whole`.
    fn walk(&self, whole: &Shape, part: Shape) -> Walk {
        let mut strides = whole.strides();
        let offset = if self.size == 0 {
            0
        } else {
            self.start as isize * strides[self.axis]
        };
        strides[self.axis] *= self.step;
        Walk::new(part, strides, offset)
    }
}
layout_op!(
    Slice,
    "slice",
    |op, t| Ok(Type::new(t.dtype, t.shape.resized(op.axis, op.size)?)),
    |op, x, out| movement::copy(x, &op.walk(x.shape, *out.shape), out),
    |op, r| match r.x[0].known_shape()[op.axis] {
        // the reverse order, twice, is the order as it was
        whole if op.step == -1 && op.size == whole => r.ct.apply(op.clone()),
        whole => op.padded(r.ct, whole),
    },
    |op| Lowering::Slice {
        axis: op.axis,
        start: op.start,
        step: op.step
    }
);

/// The transpose of [`Slice`]: zeros, with the input where the slice was taken.
#[derive(Clone, PartialEq, Debug)]
struct Unslice {
    slice: Slice,
    whole: usize,
}
layout_op!(
    Unslice,
    "unslice",
    |op, t| Ok(Type::new(
        t.dtype,
        t.shape.resized(op.slice.axis, op.whole)?
    )),
    |op, x, out| {
        let Slice { axis, start, step, size } = op.slice;
        movement::place(x, (axis, (start, step, size)), out)
    },
    |op, r| r.ct.apply(op.slice.clone());
    |op, shape| shape[op.slice.axis + 1..].iter().product()
);

/// The same value, without a gradient.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Detach;

impl Op for Detach {
    const NAME: &'static str = "detach";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(inputs::<1>(x)?[0])
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
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

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::View
    }
}

impl<'g> Var<'g> {
    /// The same elements in another shape. One size may be -1: it is computed from the others.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    /// assert_eq!(x.reshape([2, -1]).shape()?.to_vec(), [2, 3]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "view")]
    pub fn reshape(self, shape: impl Ints) -> Var<'g> {
        self.with_shape(Reshape::NAME, |own| {
            let shape = complete(&shape.list(), own)?;
            Ok(if shape == *own {
                self
            } else {
                self.apply(Reshape(shape))
            })
        })
    }

    /// All elements in one axis.
    #[track_caller]
    #[doc(alias = "ravel")]
    pub fn flatten(self) -> Var<'g> {
        self.with_shape("flatten", |shape| Ok(self.reshape(shape.count())))
    }

    /// Joins the axes from this one on: `flatten_from(1)` turns a batch into rows.
    #[track_caller]
    pub fn flatten_from(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("flatten", |shape| {
            let (front, back) = shape.split_at(shape.axis(axis)?);
            Ok(self.reshape([front, &[back.iter().product()]].concat()))
        })
    }

    /// Removes an axis of size 1.
    #[track_caller]
    pub fn squeeze(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("squeeze", |shape| {
            let at = shape.axis(axis)?;
            match shape[at] {
                1 => Ok(self.reshape(shape.reduced(Axes(1 << at), false))),
                size => Err(OpError::new(format!(
                    "axis {axis} of {shape} has size {size}, not 1"
                ))),
            }
        })
    }

    /// Inserts an axis of size 1 at this position; -1 inserts it at the end.
    #[track_caller]
    #[doc(alias = "expand_dims")]
    #[doc(alias = "newaxis")]
    pub fn unsqueeze(self, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("unsqueeze", |shape| {
            let rank = shape.rank() as isize + 1;
            if axis < -rank || axis >= rank {
                return Err(OpError::new(format!(
                    "there is no position {axis} for a new axis: expected {} to {}",
                    -rank,
                    rank - 1
                )));
            }
            let mut dims = shape.to_vec();
            dims.insert(axis.rem_euclid(rank) as usize, 1);
            Ok(self.reshape(Shape::new(&dims)?))
        })
    }

    /// The axes in another order: axis `i` of the result is axis `axes[i]` of this.
    #[track_caller]
    #[doc(alias = "moveaxis")]
    #[doc(alias = "transpose")]
    pub fn permute(self, axes: impl Ints) -> Var<'g> {
        self.with_shape(Permute::NAME, |shape| {
            let axes = axes.list();
            shape.axes(&axes)?;
            if axes.len() != shape.rank() {
                return Err(OpError::new(format!(
                    "{axes:?} does not list each of the {} axes once",
                    shape.rank()
                )));
            }
            Ok(self.apply(Permute(
                axes.iter()
                    .map(|&a| shape.axis(a))
                    .collect::<Result<_, _>>()?,
            )))
        })
    }

    /// Swaps two axes.
    #[track_caller]
    #[doc(alias = "swapaxes")]
    #[doc(alias = "swapdims")]
    pub fn transpose(self, a: impl Int, b: impl Int) -> Var<'g> {
        let (a, b) = (a.int(), b.int());
        self.with_shape("transpose", |shape| {
            let mut axes: Vec<usize> = (0..shape.rank()).collect();
            axes.swap(shape.axis(a)?, shape.axis(b)?);
            Ok(self.apply(Permute(axes)))
        })
    }

    /// The matrix transposed: the last two axes swapped. An error for fewer than two axes.
    #[track_caller]
    #[doc(alias = "mT")]
    #[doc(alias = "T")]
    pub fn t(self) -> Var<'g> {
        self.with_shape("transpose", |shape| match shape.rank() {
            0 | 1 => Err(OpError::new(format!("expected a matrix, got {shape}"))),
            _ => Ok(self.transpose(-1, -2)),
        })
    }

    /// Broadcasts to a larger shape, as NumPy does. The derivative sums.
    #[track_caller]
    #[doc(alias = "expand")]
    #[doc(alias = "expand_as")]
    pub fn broadcast_to(self, shape: impl Ints) -> Var<'g> {
        self.with_shape(BroadcastTo::NAME, |own| {
            let shape = sizes(&shape.list())?;
            Ok(if shape == *own {
                self
            } else {
                self.apply(BroadcastTo(shape))
            })
        })
    }

    /// Sums to a shape that broadcasts to this one: the transpose of
    /// [`broadcast_to`](Var::broadcast_to).
    #[track_caller]
    pub(crate) fn sum_to(self, shape: Shape) -> Var<'g> {
        self.with_shape("sum", |own| {
            let lead = own.rank() - shape.rank();
            let summed: Vec<usize> = (0..own.rank())
                .filter(|&k| k < lead || (shape[k - lead] == 1 && own[k] != 1))
                .collect();
            Ok(if summed.is_empty() {
                self
            } else {
                self.sum_axis(summed).reshape(shape)
            })
        })
    }

    /// A range of one axis: `x.slice(0, 1..3)`. As in Python, negative positions count from the
    /// end, and a range may exceed the axis.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0, 4.0]);
    /// assert_eq!(x.slice(0, 1..-1).value()?.to_f64s(), [2.0, 3.0]);
    /// assert_eq!(x.slice(-1, ..2).value()?.to_f64s(), [1.0, 2.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "narrow")]
    #[doc(alias = "dynamic_slice")]
    #[doc(alias = "getitem")]
    pub fn slice(self, axis: impl Int, range: impl IntRange) -> Var<'g> {
        let axis = axis.int();
        self.slice_step(axis, range, 1)
    }

    /// Every `step`-th element of a range of one axis. If `step` is negative, from the last element
    /// of the range to its first.
    #[track_caller]
    pub fn slice_step(self, axis: impl Int, range: impl IntRange, step: impl Int) -> Var<'g> {
        let (axis, range, step) = (axis.int(), range.bounds(), step.int());
        self.with_shape(Slice::NAME, |shape| {
            let axis = shape.axis(axis)?;
            if step == 0 {
                return Err("the step is 0".into());
            }
            let (first, end) = clamp(range, shape[axis]);
            let size = end.saturating_sub(first).div_ceil(step.unsigned_abs());
            let start = if step > 0 || size == 0 {
                first
            } else {
                end - 1
            };
            // with a single element the step is not used, and could overflow
            let step = if size > 1 { step } else { 1 };
            Ok(self.apply(Slice {
                axis,
                start,
                step,
                size,
            }))
        })
    }

    /// The elements of some axes in reverse order.
    #[track_caller]
    #[doc(alias = "reverse")]
    pub fn flip(self, axes: impl Ints) -> Var<'g> {
        self.with_shape("flip", |shape| {
            let axes = shape.axes(&axes.list())?;
            let all = (0..shape.rank()).filter(|&k| axes.has(k));
            Ok(all.fold(self, |x, k| x.slice_step(k as isize, .., -1)))
        })
    }

    /// Consecutive parts of these sizes along an axis. The sizes must add up to the axis.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let parts = g.input([1.0, 2.0, 3.0]).split(&[1, 2], 0);
    /// assert_eq!(parts[1].value()?.to_f64s(), [2.0, 3.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "chunk")]
    #[doc(alias = "array_split")]
    pub fn split(self, sizes: impl Ints, axis: impl Int) -> Vec<Var<'g>> {
        let (axis, sizes) = (axis.int(), sizes.list());
        let checked = self.with_shape("split", |shape| {
            let n = shape[shape.axis(axis)?];
            let add = |sum: isize, &size: &isize| match size {
                0.. => sum.checked_add(size),
                _ => None,
            };
            match sizes.iter().try_fold(0, add) {
                Some(sum) if sum == n as isize => Ok(self),
                _ => Err(OpError::new(format!(
                    "the sizes {sizes:?} do not add up to axis {axis} of {shape}"
                ))),
            }
        });
        let mut start = 0;
        let piece = |&size: &isize| {
            if checked.error().is_some() {
                return checked;
            }
            start += size;
            checked.slice(axis, start - size..start)
        };
        sizes.iter().map(piece).collect()
    }

    /// Pads an axis with `before` and `after` elements of this value.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let padded = g.input([1.0, 2.0]).pad(0, 1, 2, 0.0);
    /// assert_eq!(padded.value()?.to_f64s(), [0.0, 1.0, 2.0, 0.0, 0.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "constant_pad")]
    pub fn pad(
        self,
        axis: impl Int,
        before: usize,
        after: usize,
        value: impl crate::var::Operand<'g>,
    ) -> Var<'g> {
        let axis = axis.int();
        self.with_shape("pad", |shape| {
            let (at, value) = (shape.axis(axis)?, value.var(self));
            let side = |size: usize| Ok::<_, OpError>(value.broadcast_to(shape.resized(at, size)?));
            Ok(self
                .graph()
                .concat(&[side(before)?, self, side(after)?], axis))
        })
    }

    /// Repeats each element of an axis `times` times in a row (NumPy's `repeat`, PyTorch's
    /// `repeat_interleave`).
    #[track_caller]
    #[doc(alias = "repeat_interleave")]
    pub fn repeat(self, times: usize, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.repeated("repeat", times, axis, 1)
    }

    /// Repeats an axis as a whole `times` times (NumPy's `tile`, PyTorch's `repeat`).
    #[track_caller]
    #[doc(alias = "repeat")]
    pub fn tile(self, times: usize, axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        self.repeated("tile", times, axis, 0)
    }

    /// Inserts an axis of size `times` before or after `axis` and joins the two.
    #[track_caller]
    fn repeated(self, op: &'static str, times: usize, axis: isize, after: usize) -> Var<'g> {
        self.with_shape(op, |shape| {
            let at = shape.axis(axis)?;
            let n = shape[at]
                .checked_mul(times)
                .ok_or("the result is too large for any memory")?;
            let mut wide = shape.to_vec();
            wide.insert(at + after, times);
            let wide = Shape::new(&wide)?;
            Ok(self
                .unsqueeze((at + after) as isize)
                .broadcast_to(wide)
                .reshape(shape.resized(at, n)?))
        })
    }

    /// The same value, taken as a constant: no gradient flows through it.
    #[track_caller]
    #[doc(alias = "stop_gradient")]
    #[doc(alias = "no_grad")]
    pub fn detach(self) -> Var<'g> {
        self.unary(Id::Detach)
    }
}

/// A range over an axis of size `n` as non-negative positions.
fn clamp((start, end): (Bound<isize>, Bound<isize>), n: usize) -> (usize, usize) {
    let n = n as isize;
    let position = |p: isize| {
        if p < 0 {
            p.saturating_add(n).max(0)
        } else {
            p.min(n)
        }
    };
    let first = match start {
        Bound::Included(p) => position(p),
        Bound::Excluded(-1) => n,
        Bound::Excluded(p) => position(p.saturating_add(1)),
        Bound::Unbounded => 0,
    };
    let end = match end {
        Bound::Included(-1) | Bound::Unbounded => n,
        Bound::Included(p) => position(p.saturating_add(1)),
        Bound::Excluded(p) => position(p),
    };
    (first as usize, end.max(first) as usize)
}

/// Completes sizes of which one may be -1.
pub(crate) fn complete(dims: &[isize], own: &Shape) -> Result<Shape, OpError> {
    let mut dims = dims.to_vec();
    if let Some(hole) = dims.iter().position(|&d| d == -1) {
        dims[hole] = 1;
        let rest = sizes(&dims)?.count();
        if rest == 0 || !own.count().is_multiple_of(rest) {
            dims[hole] = -1;
            let message = format!(
                "{own} has {} elements: no size fits in place of -1 in {dims:?}",
                own.count()
            );
            return Err(OpError::new(message));
        }
        dims[hole] = (own.count() / rest) as isize;
    }
    sizes(&dims)
}
