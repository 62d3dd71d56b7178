//! Booleans: and, or, not, all, any, and tests of floats. All but the reductions are built from
//! comparisons and `select`. None has a gradient.

use super::{
    Dependency, Internal, Op, Parts, Rule, expect_float, inputs,
    lines::{Holds, parts_of_lines, reduce_lines},
};
use crate::{
    error::OpError,
    ints::Ints,
    nodes::OpRef,
    piece::Piece,
    shape::Axes,
    tensor::{DType, Tensor, Type},
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::{ops, sync::Arc};

/// Whether all booleans over some axes are true, or any.
#[derive(Clone, PartialEq, Debug)]
struct AllAny {
    axes: Axes,
    keep: bool,
    all: bool,
}

impl Op for AllAny {
    const NAME: &'static str = "all_any";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        Ok(Type::new(x.dtype, x.shape.reduced(self.axes, self.keep)))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, x: &[Type], _: Internal) -> Parts {
        parts_of_lines(&x[0])
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        reduce_lines::<bool, _>(&mut Holds { all: self.all }, x[0], self.axes, out)
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

impl<'g> Var<'g> {
    /// Runs `build`, or gives an error unless `self` is a boolean tensor.
    #[track_caller]
    fn bool_op(self, op: &'static str, build: impl FnOnce() -> Var<'g>) -> Var<'g> {
        self.with_shape(op, |_| match self.known_dtype() {
            DType::Bool => Ok(build()),
            other => Err(OpError::new(format!("expected a bool tensor, got {other}"))
                .hint("compare it with something, for example .gt(0.0)")),
        })
    }

    #[track_caller]
    fn bool_constant(self, value: bool) -> Var<'g> {
        self.graph().constant(Tensor::from(value))
    }

    #[track_caller]
    fn holds(self, axes: Axes, all: bool) -> Var<'g> {
        self.fold_over(axes, false, &|axes, keep| {
            OpRef::Own(Arc::new(AllAny { axes, keep, all }))
        })
    }

    /// Where both are true, element by element with broadcasting; also `a & b`.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([-1.0, 0.5, 2.0]);
    /// let inside = x.gt(0.0) & x.lt(1.0);
    /// assert_eq!(inside.value()?.to_f64s(), [0.0, 1.0, 0.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    #[doc(alias = "logical_and")]
    pub fn and(self, other: Var<'g>) -> Var<'g> {
        self.bool_op("and", || {
            other.bool_op("and", || self.select(other, self.bool_constant(false)))
        })
    }

    /// Where at least one is true; also `a | b`.
    #[track_caller]
    #[doc(alias = "logical_or")]
    pub fn or(self, other: Var<'g>) -> Var<'g> {
        self.bool_op("or", || {
            other.bool_op("or", || self.select(self.bool_constant(true), other))
        })
    }

    /// Where it is not true; also `!a`.
    #[track_caller]
    #[allow(clippy::should_implement_trait)] // `ops::Not` is implemented as well
    #[doc(alias = "logical_not")]
    pub fn not(self) -> Var<'g> {
        self.bool_op("not", || self.ne(self.bool_constant(true)))
    }

    /// Whether all are true. True if there are no elements.
    #[track_caller]
    pub fn all(self) -> Var<'g> {
        self.bool_op("all", || {
            self.over_all("all", |axes| self.holds(axes, true))
        })
    }

    /// Whether all are true, over one or several axes, which are removed.
    #[track_caller]
    pub fn all_axis(self, axes: impl Ints) -> Var<'g> {
        self.bool_op("all", || {
            self.over("all", axes, |axes| self.holds(axes, true))
        })
    }

    /// Whether at least one is true.
    #[track_caller]
    pub fn any(self) -> Var<'g> {
        self.bool_op("any", || {
            self.over_all("any", |axes| self.holds(axes, false))
        })
    }

    /// Whether at least one is true, over one or several axes, which are removed.
    #[track_caller]
    pub fn any_axis(self, axes: impl Ints) -> Var<'g> {
        self.bool_op("any", || {
            self.over("any", axes, |axes| self.holds(axes, false))
        })
    }

    /// Where it is NaN. For floats.
    #[track_caller]
    #[doc(alias = "isnan")]
    pub fn is_nan(self) -> Var<'g> {
        self.with_shape("is_nan", |_| {
            expect_float(self.known_dtype()).map(|()| self.ne(self))
        })
    }

    /// Where it is neither infinite nor NaN. For floats.
    #[track_caller]
    #[doc(alias = "isfinite")]
    pub fn is_finite(self) -> Var<'g> {
        self.with_shape("is_finite", |_| {
            expect_float(self.known_dtype()).map(|()| self.abs().lt(f64::INFINITY))
        })
    }
}

macro_rules! operators {
    ($($Trait:ident $method:ident $name:ident;)*) => { $(
        impl<'g> ops::$Trait for Var<'g> {
            type Output = Var<'g>;
            #[track_caller]
            fn $method(self, other: Var<'g>) -> Var<'g> {
                self.$name(other)
            }
        }
    )* };
}
operators! {
    BitAnd bitand and;
    BitOr bitor or;
}

impl<'g> ops::Not for Var<'g> {
    type Output = Var<'g>;
    #[track_caller]
    fn not(self) -> Var<'g> {
        Var::not(self)
    }
}
