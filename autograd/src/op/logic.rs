//! Truth values: and, or, not, all, any, and questions to floats. All are written with comparisons, sums and `select`; nothing here has a
//! gradient.

use super::wants_float;
use crate::{
    error::OpError,
    shape::Ints,
    tensor::{DType, Tensor},
    var::Var,
};
use std::ops;

impl<'g> Var<'g> {
    /// Truth values are chosen between by truth values only: an error for anything else.
    #[track_caller]
    fn truths(self, op: &'static str, build: impl FnOnce() -> Var<'g>) -> Var<'g> {
        self.with_shape(op, |_| match self.known_dtype() {
            DType::Bool => Ok(build()),
            other => Err(OpError::new(format!("wants truth values, got {other}"))
                .hint("compare it with something, for example .gt(0.0)")),
        })
    }

    #[track_caller]
    fn truth(self, value: bool) -> Var<'g> {
        self.graph().constant(Tensor::from(value))
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
    pub fn and(self, other: Var<'g>) -> Var<'g> {
        self.truths("and", || {
            other.truths("and", || self.select(other, self.truth(false)))
        })
    }

    /// Where at least one is true; also `a | b`.
    #[track_caller]
    pub fn or(self, other: Var<'g>) -> Var<'g> {
        self.truths("or", || {
            other.truths("or", || self.select(self.truth(true), other))
        })
    }

    /// Where it is not true; also `!a`.
    #[track_caller]
    #[allow(clippy::should_implement_trait)] // it does, too
    pub fn not(self) -> Var<'g> {
        self.truths("not", || self.select(self.truth(false), self.truth(true)))
    }

    /// Whether all are true; so it is if there are none.
    #[track_caller]
    pub fn all(self) -> Var<'g> {
        self.truths("all", || self.not().sum().eq(0))
    }

    /// Whether all are true, over one or several axes, which are removed.
    #[track_caller]
    pub fn all_axis(self, axes: impl Ints) -> Var<'g> {
        self.truths("all", || self.not().sum_axis(axes).eq(0))
    }

    /// Whether at least one is true.
    #[track_caller]
    pub fn any(self) -> Var<'g> {
        self.truths("any", || self.sum().gt(0))
    }

    /// Whether at least one is true, over one or several axes, which are removed.
    #[track_caller]
    pub fn any_axis(self, axes: impl Ints) -> Var<'g> {
        self.truths("any", || self.sum_axis(axes).gt(0))
    }

    /// Where it is not a number. For floats.
    #[track_caller]
    pub fn is_nan(self) -> Var<'g> {
        self.with_shape("is_nan", |_| {
            wants_float(self.known_dtype()).map(|()| self.ne(self))
        })
    }

    /// Where it is neither infinite nor NaN. For floats.
    #[track_caller]
    pub fn is_finite(self) -> Var<'g> {
        self.with_shape("is_finite", |_| {
            wants_float(self.known_dtype()).map(|()| self.abs().lt(f64::INFINITY))
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
