//! A derivative that replaces the one that would follow from the operations.

use crate::{
    error::OpError,
    op::{Dependency, Internal, Lowering, Op, Rule, layout::copy},
    tensor::Type,
    var::Var,
    view::{TensorView, TensorViewMut},
};
use std::{fmt, sync::Arc};

type OwnRule = dyn for<'a, 'g> Fn(usize, &Rule<'a, 'g>) -> Option<Var<'g>> + Send + Sync;

/// Its first input, which the others are taken to depend on by a rule of their own.
#[derive(Clone)]
struct CustomVjp(Arc<OwnRule>);

impl PartialEq for CustomVjp {
    /// What is computed does not depend on the rule, and a plan knows nothing else.
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
        x.first().copied().ok_or_else(|| "wants a value".into())
    }

    fn eval(&self, x: &[TensorView<'_>], out: TensorViewMut<'_>) -> Result<(), OpError> {
        copy(x[0], out)
    }

    /// By the caller's rule; nothing flows into the operations that computed the value.
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

    /// Without the rule, which may hold anything: the gradient's nodes are there when a plan is made.
    fn for_plan(&self, _: Internal) -> Option<CustomVjp> {
        Some(CustomVjp(Arc::new(|_, _| None)))
    }

    fn lowering(&self, _: Internal) -> Lowering<'_> {
        Lowering::View
    }

    /// Nothing flows through the value, and of the rule nothing is known.
    fn dependency(&self, input: usize, _x: &[Type]) -> Dependency {
        if input == 0 {
            Dependency::None
        } else {
            Dependency::Dense
        }
    }
}

impl<'g> Var<'g> {
    /// This value with another derivative: `rule` gives the cotangent of `x[input]`, as [`Op::vjp`] does, and no gradient
    /// flows into the operations that computed the value. For derivatives that are known better than by differentiating
    /// the computation (an iteration's fixed point, say), and for those that are meant to be others.
    ///
    /// ```
    /// use autograd::{Graph, Var};
    ///
    /// /// `x`, whose gradient is clipped to [-1, 1] on its way back
    /// fn clip_gradient<'g>(x: Var<'g>) -> Var<'g> {
    ///     x.custom_vjp(&[x], |_, r| Some(r.ct.clamp(-1.0, 1.0)))
    /// }
    /// /// `x`, whose gradient is reversed (Ganin and Lempitsky 2015)
    /// fn reverse_gradient<'g>(x: Var<'g>) -> Var<'g> {
    ///     x.custom_vjp(&[x], |_, r| Some(-r.ct))
    /// }
    ///
    /// let g = Graph::new();
    /// let x = g.input(3.0);
    /// assert_eq!(g.grad(5.0 * clip_gradient(x), &[x])[0].value()?.scalar()?, 1.0);
    /// assert_eq!(g.grad(5.0 * reverse_gradient(x), &[x])[0].value()?.scalar()?, -5.0);
    /// // clipping is not linear: there is no forward mode of it
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
