//! Joining tensors: concat and stack.

use super::{Dependency, Internal, Op, Parts, Rule, layout::MOVE, same_dtype};
use crate::{
    error::OpError,
    graph::Graph,
    ints::Int,
    movement,
    piece::Piece,
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::sync::Arc;

/// The inputs one after the other along an axis.
#[derive(Clone, Debug)]
struct Concat {
    axis: usize,
    /// Where each input starts along the axis, for the derivative rule. The rule runs once per
    /// input; adding up the sizes before each input would take quadratic time.
    starts: Arc<[usize]>,
}

impl Concat {
    fn new(axis: usize, parts: &[Var<'_>]) -> Concat {
        let mut next = 0usize;
        let mut start = |part: &Var<'_>| {
            let start = next;
            // if the axis is missing or the sum overflows, no node is made
            next = next.saturating_add(part.known_shape().get(axis).copied().unwrap_or(0));
            start
        };
        Concat {
            axis,
            starts: parts.iter().map(&mut start).collect(),
        }
    }
}

impl PartialEq for Concat {
    /// The starts follow from the types of the inputs.
    fn eq(&self, other: &Concat) -> bool {
        self.axis == other.axis
    }
}

impl Op for Concat {
    const NAME: &'static str = "concat";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let (dtype, first) = (same_dtype(x)?, x[0].shape);
        let fits = |t: &Type| {
            t.shape.rank() == first.rank()
                && (0..first.rank()).all(|k| k == self.axis || t.shape[k] == first[k])
        };
        if let Some(other) = x.iter().find(|t| !fits(t)) {
            let message = format!(
                "{first} and {} differ in more than axis {}",
                other.shape, self.axis
            );
            return Err(OpError::new(message));
        }
        let size = x
            .iter()
            // `resized` rejects a size that is too large
            .fold(0usize, |n, t| n.saturating_add(t.shape[self.axis]));
        Ok(Type::new(dtype, first.resized(self.axis, size)?))
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        self.piece(x, Piece::whole(out), Internal(()))
    }

    fn parts(&self, _x: &[Type], _: Internal) -> Parts {
        Parts::elements(1, MOVE)
    }

    fn piece(&self, x: &[TensorView<'_>], out: Piece<'_>, _: Internal) -> Result<(), OpError> {
        movement::join(x, self.axis, out)
    }

    /// The slice of the cotangent at the position of the input.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let start = self.starts[input] as isize;
        Some(r.ct.slice(
            self.axis as isize,
            start..start + r.x[input].known_shape()[self.axis] as isize,
        ))
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Moved
    }

    fn for_plan(&self, _: Internal) -> Option<Concat> {
        Some(Concat {
            axis: self.axis,
            starts: Arc::new([]),
        })
    }
}

impl Graph {
    /// Tensors one after the other along an axis; the other sizes must be equal.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let (a, b) = (g.input([[1.0, 2.0]]), g.input([[3.0, 4.0], [5.0, 6.0]]));
    /// assert_eq!(g.concat(&[a, b], 0).dims(), Some([3, 2]));
    /// ```
    #[track_caller]
    #[doc(alias = "cat")]
    #[doc(alias = "concatenate")]
    #[doc(alias = "hstack")]
    #[doc(alias = "vstack")]
    pub fn concat<'g>(&'g self, parts: &[Var<'g>], axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        let Some(first) = parts.first() else {
            return self.fail(Concat::NAME, "expected at least one tensor".into(), &[]);
        };
        if let Some(error) = self.foreign(Concat::NAME, parts.iter().copied()) {
            return error;
        }
        first.with_shape(Concat::NAME, |shape| {
            Ok(self.apply(Concat::new(shape.axis(axis)?, parts), parts))
        })
    }

    /// Tensors of equal shape along a new axis.
    ///
    /// ```
    /// let g = autograd::Graph::new();
    /// let (a, b) = (g.input([1.0, 2.0, 3.0]), g.input([4.0, 5.0, 6.0]));
    /// assert_eq!(g.stack(&[a, b], -1).dims(), Some([3, 2]));
    /// ```
    #[track_caller]
    pub fn stack<'g>(&'g self, parts: &[Var<'g>], axis: impl Int) -> Var<'g> {
        let axis = axis.int();
        let Some(first) = parts.first() else {
            return self.fail("stack", "expected at least one tensor".into(), &[]);
        };
        if let Some(error) = self.foreign("stack", parts.iter().copied()) {
            return error;
        }
        first.with_shape("stack", |_| {
            let mut widened = Vec::with_capacity(parts.len());
            for part in parts {
                widened.push(part.unsqueeze(axis));
            }
            Ok(self.concat(&widened, axis))
        })
    }
}
