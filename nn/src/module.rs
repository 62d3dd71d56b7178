//! `Module`: what has parameters and maps a `Var` to a `Var`.

use autograd::{Param, Var};

/// A part of a network: a layer, or something made of layers.
///
/// Modules never change: training changes their [`Param`]s, and whether dropout is active is a property of the graph.
/// So they can be shared between threads.
///
/// ```
/// use autograd::{Graph, Var};
/// use nn::{Linear, Module, Params};
///
/// struct TwoLayers { first: Linear, second: Linear }
///
/// impl Module for TwoLayers {
///     fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
///         self.second.forward(self.first.forward(x).tanh())
///     }
///     fn params(&self, p: &mut Params) {
///         p.module("first", &self.first).module("second", &self.second);
///     }
/// }
///
/// let model = TwoLayers { first: Linear::new(3, 4, 1), second: Linear::new(4, 2, 2) };
/// let names: Vec<String> = model.parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["first.weight", "first.bias", "second.weight", "second.bias"]);
/// let g = Graph::new();
/// assert_eq!(model.forward(g.constant([[0f32, 1.0, 2.0]])).dims(), Some([1, 2]));
/// ```
pub trait Module: Send + Sync {
    /// Appends the module's operations to the graph of `x`.
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g>;

    /// Names the parameters, its own and those of the modules it is made of. The default: it has none.
    fn params(&self, p: &mut Params) {
        let _ = p;
    }

    /// All parameters with their paths, such as `layers.0.weight`. One that stands in several places is listed once, by
    /// its first path.
    fn parameters(&self) -> Vec<(String, Param)> {
        let mut params = Params {
            path: String::new(),
            found: Vec::new(),
        };
        self.params(&mut params);
        params.found
    }

    /// The number of trained numbers.
    fn size(&self) -> usize {
        self.parameters()
            .iter()
            .filter(|(_, p)| p.is_trained())
            .map(|(_, p)| p.ty().shape.count())
            .sum()
    }
}

impl<M: Module + ?Sized> Module for Box<M> {
    #[track_caller]
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        (**self).forward(x)
    }
    fn params(&self, p: &mut Params) {
        (**self).params(p);
    }
}

/// Collects the parameters of a module, by path.
pub struct Params {
    path: String,
    found: Vec<(String, Param)>,
}

impl Params {
    /// A parameter of this module.
    pub fn param(&mut self, name: &str, param: &Param) -> &mut Params {
        if !self.found.iter().any(|(_, p)| p.same(param)) {
            self.found.push((self.join(name), param.clone()));
        }
        self
    }

    /// A module that this one is made of.
    pub fn module(&mut self, name: &str, module: &(impl Module + ?Sized)) -> &mut Params {
        let inner = self.join(name);
        let outer = std::mem::replace(&mut self.path, inner);
        module.params(self);
        self.path = outer;
        self
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        }
    }
}
