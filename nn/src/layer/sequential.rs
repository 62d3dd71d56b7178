//! Modules one after the other.

use crate::module::{Module, Params};
use autograd::Var;

/// Modules one after the other; their names are their numbers.
///
/// ```
/// use nn::{Activation, Dropout, Linear, Module, Sequential};
/// let model = Sequential::new()
///     .then(Linear::new(784, 128, 1))
///     .then(Activation::Relu)
///     .then(Dropout::new(0.2))
///     .then(Linear::new(128, 10, 2));
/// assert_eq!(model.size(), 784 * 128 + 128 + 128 * 10 + 10);
/// assert_eq!(model.parameters()[2].0, "3.weight");
/// ```
#[derive(Default)]
pub struct Sequential {
    modules: Vec<Box<dyn Module>>,
}

impl Sequential {
    /// Nothing yet: what goes in comes out.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Adds a module at the end.
    pub fn then(mut self, module: impl Module + 'static) -> Sequential {
        self.modules.push(Box::new(module));
        self
    }
}

impl Module for Sequential {
    #[track_caller]
    fn forward<'g>(&self, mut x: Var<'g>) -> Var<'g> {
        for (k, module) in self.modules.iter().enumerate() {
            let _scope = x.graph().scope(&k.to_string());
            x = module.forward(x);
        }
        x
    }

    fn params(&self, p: &mut Params) {
        for (k, module) in self.modules.iter().enumerate() {
            p.module(&k.to_string(), module);
        }
    }
}
