//! The `Module` trait.

use autograd::{Param, Var};

/// A layer, or a model that consists of layers.
///
/// A module itself is immutable: training updates the values of its [`Param`]s, and the graph says
/// whether it runs in training or evaluation mode. So modules can be shared between threads.
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
    /// Appends the module's operations to the graph of `x`. Errors name the line of `forward` that
    /// appended the failed operation.
    ///
    /// A layer for the use of others, whose lines nobody needs to see, has `#[track_caller]` on its
    /// `forward`: errors then name the line that called it. It opens a scope with the line where it
    /// was made ([`Graph::scope_made_at`](autograd::Graph::scope_made_at)), which is shown if the line
    /// of the call is not known: it cannot be for a `dyn Module`.
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g>;

    /// Registers the parameters of the module and of its submodules. By default there are none.
    fn params(&self, p: &mut Params) {
        let _ = p;
    }

    /// All parameters and buffers with their paths, such as `layers.0.weight`. A shared parameter
    /// is listed once, under its first path.
    #[doc(alias = "named_parameters")]
    #[doc(alias = "state_dict")]
    fn parameters(&self) -> Vec<(String, Param)> {
        let mut params = Params {
            path: String::new(),
            params: Vec::new(),
        };
        self.params(&mut params);
        params.params
    }

    /// Freezes all parameters, so that training does not change them, or lets them be trained again.
    /// Buffers, such as running means, are updated in training all the same.
    ///
    /// ```
    /// use nn::{Activation, Module};
    /// let features = nn::mlp(&[4, 8], Activation::Relu, 1);
    /// features.freeze(true);
    /// assert_eq!(features.num_parameters(), 0);
    /// features.freeze(false);
    /// assert_eq!(features.num_parameters(), 40);
    /// ```
    #[doc(alias = "requires_grad_")]
    fn freeze(&self, frozen: bool) {
        let params = self.parameters().into_iter().map(|(_, param)| param);
        params
            .filter(|p| !p.is_buffer())
            .for_each(|p| p.freeze(frozen));
    }

    /// The number of trainable parameters: the total number of their elements.
    #[doc(alias = "numel")]
    fn num_parameters(&self) -> usize {
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

/// Collects the parameters of a module and their paths.
pub struct Params {
    path: String,
    params: Vec<(String, Param)>,
}

impl Params {
    /// Registers a parameter of this module.
    pub fn param(&mut self, name: &str, param: &Param) -> &mut Params {
        if !self.params.iter().any(|(_, p)| p.same(param)) {
            self.params.push((self.join(name), param.clone()));
        }
        self
    }

    /// Registers a submodule.
    pub fn module(&mut self, name: &str, module: &(impl Module + ?Sized)) -> &mut Params {
        let path = self.join(name);
        let parent = std::mem::replace(&mut self.path, path);
        module.params(self);
        self.path = parent;
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
