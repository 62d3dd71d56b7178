//! A user-defined derivative that replaces the one of the operations.

use crate::{
    error::OpError,
    op::{Dependency, Internal, Lowering, Op, Rule, layout::copy},
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::{fmt, sync::Arc};

type CustomRule = dyn for<'a, 'g> Fn(usize, &Rule<'a, 'g>) -> Option<Var<'g>> + Send + Sync;

/// Returns its first input. The derivatives by the other inputs are given by a user-defined rule.
#[derive(Clone)]
struct CustomVjp(Arc<CustomRule>);

impl PartialEq for CustomVjp {
    /// The value does not depend on the rule, and a plan only computes values.
    fn eq(&self, _other: &CustomVjp) -> bool {
        true
    }
}

impl fmt::Debug for CustomVjp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CustomVjp")
    }
}

impl Op for CustomVjp {
    const NAME: &'static str = "custom_vjp";

    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        x.first()
            .copied()
            .ok_or_else(|| "expected at least one input".into())
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
    }

    /// By the user's rule. No gradient flows into the operations that computed the value.
    fn vjp<'g>(&self, input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        let input = input.checked_sub(1)?;
        (self.0)(
            input,
            &Rule {
                ct: r.ct,
                x: &r.x[1..],
                y: r.y,
            },
        )
    }

    fn may_fail(&self, _x: &[Type]) -> bool {
        false
    }

    /// Without the rule, which may own anything: when a plan is made, the gradient's nodes already
    /// exist.
    fn for_plan(&self, _: Internal) -> Option<CustomVjp> {
        Some(CustomVjp(Arc::new(|_, _| None)))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::View
    }

    /// No gradient flows through the value, and nothing is known about the rule.
    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::None
        } else {
            Dependency::Dense
        }
    }
}

impl<'g> Var<'g> {
    /// This value with another derivative: `rule` gives the cotangent of `x[input]`, as [`Op::vjp`]
    /// does. No gradient flows into the operations that computed the value. For derivatives with a
    /// better formula than differentiating the computation (a fixed-point iteration, for example),
    /// and for ones that are different on purpose.
    ///
    /// ```
    /// use autograd::{Graph, Var};
    ///
    /// /// `x`, with the gradient clipped to [-1, 1]
    /// fn clip_gradient<'g>(x: Var<'g>) -> Var<'g> {
    ///     x.custom_vjp(&[x], |_, r| Some(r.ct.clamp(-1.0, 1.0)))
    /// }
    /// /// `x`, with the gradient reversed (Ganin and Lempitsky 2015)
    /// fn reverse_gradient<'g>(x: Var<'g>) -> Var<'g> {
    ///     x.custom_vjp(&[x], |_, r| Some(-r.ct))
    /// }
    ///
    /// let g = Graph::new();
    /// let x = g.input(3.0);
    /// assert_eq!(g.grad(5.0 * clip_gradient(x), &[x])[0].value()?.scalar()?, 1.0);
    /// assert_eq!(g.grad(5.0 * reverse_gradient(x), &[x])[0].value()?.scalar()?, -5.0);
    /// // clipping is not linear: it has no forward mode
    /// assert!(g.jvp(clip_gradient(x), &[x], &[g.constant(1.0)]).value().is_err());
    /// # Ok::<(), autograd::Error>(())
    /// ```
    #[track_caller]
    pub fn custom_vjp(
        self,
        x: &[Var<'g>],
        rule: impl for<'a, 'r> Fn(usize, &Rule<'a, 'r>) -> Option<Var<'r>> + Send + Sync + 'static,
    ) -> Var<'g> {
        self.graph()
            .apply(CustomVjp(Arc::new(rule)), &[&[self], x].concat())
    }
}
