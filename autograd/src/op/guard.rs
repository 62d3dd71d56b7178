//! The check that values are finite.

use super::{Dependency, Op, Rule, expect_float, inputs, layout::copy};
use crate::{
    error::OpError,
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};

/// Returns its input, or an error if an element is not finite.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct CheckFinite;

impl Op for CheckFinite {
    const NAME: &'static str = "check_finite";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        let [t] = inputs::<1>(x)?;
        expect_float(t.dtype).map(|()| *t)
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        if x[0].slice::<f64>()?.iter().all(|v| v.is_finite()) {
            return copy(x[0], out);
        }
        Err(OpError::new("a value is NaN or infinite")
            .hint("run detect_anomaly in place of run to find where it comes from"))
    }

    /// The identity.
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }

    fn dependency(&self, _input: usize, _x: &[Type]) -> Dependency {
        Dependency::Elementwise
    }
}
