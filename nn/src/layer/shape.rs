//! Modules without parameters of their own: flatten, residual connections, functions.

use crate::module::{Module, Params};
use autograd::Var;
use std::panic::Location;

/// Flattens all axes but the first: `[batch, ..]` becomes `[batch, n]`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Flatten;

impl Module for Flatten {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        x.flatten_from(1)
    }
}

/// A residual connection: `x + f(x)` (He, Zhang, Ren and Sun 2016).
pub struct Residual<M>(pub M);

impl<M: Module> Module for Residual<M> {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let _scope = x.graph().scope("residual");
        x + self.0.forward(x)
    }

    fn params(&self, p: &mut Params) {
        self.0.params(p);
    }
}

/// A function as a module.
///
/// ```
/// use nn::{Lambda, Linear, Module, Residual, Sequential};
/// let model = Sequential::new()
///     .then(Lambda::new(|x| x * 2.0 - 1.0))
///     .then(Residual(Linear::new(4, 4, 1)));
/// let g = autograd::Graph::new();
/// assert_eq!(model.forward(g.constant([[0f32, 0.5, 1.0, 0.25]])).dims(), Some([1, 4]));
/// ```
pub struct Lambda<F>(F, &'static Location<'static>);

impl<F: for<'g> Fn(Var<'g>) -> Var<'g> + Send + Sync> Lambda<F> {
    /// Wraps a function. A closure that is bound to a name first needs [`autograd::func`].
    #[track_caller]
    pub fn new(f: F) -> Lambda<F> {
        Lambda(f, Location::caller())
    }
}

impl<F: for<'g> Fn(Var<'g>) -> Var<'g> + Send + Sync> Module for Lambda<F> {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        let _scope = x.graph().scope_made_at("lambda", self.1);
        (self.0)(x)
    }
}
