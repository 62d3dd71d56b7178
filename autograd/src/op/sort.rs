//! Sorting along an axis. The order has no gradient. Sorted values are gathered by it, so the
//! gradient of each value goes to the element it came from.

use super::{Dependency, Op, Rule, inputs};
use crate::{
    error::OpError,
    tensor::{DType, Element, Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// The positions along an axis in ascending or descending order of their elements; a stable sort.
/// NaN counts as larger than everything.
#[derive(Clone, PartialEq, Debug)]
struct ArgSort {
    axis: usize,
    descending: bool,
}

/// Maps elements to integers in the same order.
trait Ranked: Element {
    fn rank(self) -> i64;
}

macro_rules! ranked_float {
    ($($T:ident as $Int:ident)*) => { $(
        impl Ranked for $T {
            /// The bits of positive floats, read as integers, are in the order of the floats; those
            /// of negative floats are in the opposite order. Both zeros are equal. All NaN are
            /// equal and the largest.
            fn rank(self) -> i64 {
                if self.is_nan() {
                    return i64::MAX;
                }
                let bits = (self + 0.0).to_bits() as $Int;
                (if bits < 0 { bits ^ $Int::MAX } else { bits }).into()
            }
        }
    )* };
}
ranked_float! { f32 as i32 f64 as i64 }

impl Ranked for i64 {
    fn rank(self) -> i64 {
        self
    }
}

impl Ranked for bool {
    fn rank(self) -> i64 {
        self.into()
    }
}

impl Op for ArgSort {
    const NAME: &'static str = "argsort";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(Type::new(DType::I64, inputs::<1>(x)?[0].shape))
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (outer, n, inner) = x[0].shape.around(self.axis);
        let out = out.slice::<i64>()?;
        let mut line: Vec<(i64, usize)> = Vec::new();
        for first in (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i)) {
            line.clear();
            with_dtype!(x[0].dtype(), T => {
                let x = x[0].slice::<T>()?;
                let flip = -(self.descending as i64); // complementing all bits reverses the order
                line.extend((0..n).map(|k| (x[first + k * inner].rank() ^ flip, k)));
            });
            line.sort_unstable(); // ties are ordered by position
            line.iter()
                .enumerate()
                .for_each(|(k, &(_, position))| out[first + k * inner] = position as i64);
        }
        Ok(())
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
    #[track_caller]
    fn order_along(self, op: &'static str, axis: isize, descending: bool) -> Var<'g> {
        self.with_shape(op, |shape| {
            Ok(self.apply(ArgSort {
                axis: shape.axis(axis)?,
                descending,
            }))
        })
    }

    /// The positions along an axis in ascending order of their elements, as i64. Stable; NaN comes
    /// last. No gradient.
    #[track_caller]
    pub fn argsort(self, axis: isize) -> Var<'g> {
        self.order_along("argsort", axis, false)
    }

    /// The elements along an axis in ascending order, NaN last. The gradient of each goes to the
    /// element it came from.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([3.0, 1.0, 2.0]);
    /// let y = x.sort(0);
    /// assert_eq!(y.value()?.to_f64s(), [1.0, 2.0, 3.0]);
    /// let d = (y * g.constant([10.0, 20.0, 30.0])).sum().backward()?;
    /// assert_eq!(d.get(x).map(|d| d.to_f64s()), Some(vec![30.0, 10.0, 20.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn sort(self, axis: isize) -> Var<'g> {
        self.with_shape("sort", |_| Ok(self.gather(axis, self.argsort(axis))))
    }

    /// The `k` largest elements along an axis in descending order, and their positions (i64). NaN
    /// counts as the largest; ties are ordered by position. The gradient goes to the selected
    /// elements.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let (values, positions) = g.input([3.0, 1.0, 4.0, 1.0, 5.0]).topk(2, 0);
    /// let (values, positions) = g.run((values, positions))?;
    /// assert_eq!((values.to_f64s(), positions.to_f64s()), (vec![5.0, 4.0], vec![4.0, 2.0]));
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn topk(self, k: usize, axis: isize) -> (Var<'g>, Var<'g>) {
        let positions = self.with_shape("topk", |shape| match shape[shape.axis(axis)?] {
            n if k > n => Err(OpError::new(format!(
                "expected at least {k} elements along axis {axis} of {shape}, got {n}"
            ))),
            _ => Ok(self
                .order_along("topk", axis, true)
                .slice(axis, ..k as isize)),
        });
        let values = if positions.error().is_some() {
            positions
        } else {
            self.gather(axis, positions)
        };
        (values, positions)
    }
}
