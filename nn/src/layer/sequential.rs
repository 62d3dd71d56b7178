//! A sequence of modules.

use crate::module::{Module, Params};
use autograd::Var;
use std::panic::Location;

/// Applies modules one after the other. The name of a module is its index.
///
/// ```
/// use nn::{Activation, Dropout, Linear, Module, Sequential};
/// let model = Sequential::new()
///     .then(Linear::new(784, 128, 1))
///     .then(Activation::Relu)
///     .then(Dropout::new(0.2))
///     .then(Linear::new(128, 10, 2));
/// assert_eq!(model.num_parameters(), 784 * 128 + 128 + 128 * 10 + 10);
/// assert_eq!(model.parameters()[2].0, "3.weight");
/// ```
#[derive(Default)]
pub struct Sequential {
    /// With the lines where they were appended.
    modules: Vec<(Box<dyn Module>, &'static Location<'static>)>,
}

impl Sequential {
    /// An empty sequence: the identity.
    pub fn new() -> Sequential {
        Sequential::default()
    }

    /// Appends a module.
    #[track_caller]
    #[doc(alias = "add")]
    #[doc(alias = "append")]
    pub fn then(mut self, module: impl Module + 'static) -> Sequential {
        self.modules.push((Box::new(module), Location::caller()));
        self
    }
}

impl Module for Sequential {
    #[track_caller]
    fn forward<'g>(&self, mut x: Var<'g>) -> Var<'g> {
        for (k, (module, line)) in self.modules.iter().enumerate() {
            let _scope = x.graph().scope_made_at(&k.to_string(), line);
            x = module.forward(x);
        }
        x
    }

    fn params(&self, p: &mut Params) {
        for (k, (module, _)) in self.modules.iter().enumerate() {
            p.module(&k.to_string(), module);
        }
    }
}
