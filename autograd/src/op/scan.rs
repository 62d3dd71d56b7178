//! Cumulative sums along an axis.

use super::{Dependency, Op, Rule, compensated, inputs};
use crate::{
    error::OpError,
    tensor::{DType, Type, with_dtype},
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// `yᵢ = x₀ + … + xᵢ` along an axis, or, backwards, `yᵢ = xᵢ + … + xₙ₋₁`.
#[derive(Clone, PartialEq, Debug)]
struct Cumsum {
    axis: usize,
    backwards: bool,
}

impl Op for Cumsum {
    const NAME: &'static str = "cumsum";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [x] = inputs::<1>(x)?;
        match x.dtype {
            DType::Bool => Ok(Type::new(DType::I64, x.shape)),
            _ => Ok(*x),
        }
    }

    fn eval(&self, x: &[TensorView<'_>], mut out: TensorViewMut<'_>) -> Result<(), OpError> {
        let (outer, n, inner) = x[0].shape.around(self.axis);
        let lines = (0..outer).flat_map(|o| (0..inner).map(move |i| o * n * inner + i));
        let place =
            |first: usize, k: usize| first + if self.backwards { n - 1 - k } else { k } * inner;
        if let DType::I64 | DType::Bool = x[0].dtype() {
            let x: Vec<i64> = match x[0].dtype() {
                DType::Bool => x[0].slice::<bool>()?.iter().map(|&b| b.into()).collect(),
                _ => x[0].slice::<i64>()?.to_vec(),
            };
            let out = out.slice::<i64>()?;
            for first in lines {
                let mut sum = 0i64;
                for at in (0..n).map(|k| place(first, k)) {
                    sum = sum
                        .checked_add(x[at])
                        .ok_or("an integer sum does not fit in 64 bits")?;
                    out[at] = sum;
                }
            }
            return Ok(());
        }
        with_dtype!(x[0].dtype(), float T => {
            let (x, out) = (x[0].slice::<T>()?, out.slice::<T>()?);
            for first in lines {
                let (mut sum, mut compensation) = (T::default(), T::default());
                for at in (0..n).map(|k| place(first, k)) {
                    compensated::add(&mut sum, &mut compensation, x[at]);
                    out[at] = sum;
                }
            }
            Ok(())
        }, else super::expect_float(x[0].dtype()))
    }

    /// The transpose: the cumulative sum from the other end.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct.apply(Cumsum {
            axis: self.axis,
            backwards: !self.backwards,
        }))
    }

    fn may_fail(&self, x: &[Type]) -> bool {
        x.iter().any(|t| t.dtype == DType::I64)
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Along {
            axes: 1 << self.axis,
        }
    }
}

impl<'g> Var<'g> {
    /// The cumulative sum along an axis. Booleans are counted (i64). Floats use compensated
    /// summation (Kahan 1965), so rounding errors do not accumulate.
    ///
    /// ```
    /// # let g = autograd::Graph::new();
    /// let x = g.input([1.0, 2.0, 3.0]);
    /// assert_eq!(x.cumsum(0).value()?.to_f64s(), [1.0, 3.0, 6.0]);
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn cumsum(self, axis: isize) -> Var<'g> {
        self.with_shape(Cumsum::NAME, |shape| {
            Ok(self.apply(Cumsum {
                axis: shape.axis(axis)?,
                backwards: false,
            }))
        })
    }
}
