//! The multi-layer perceptron.

use crate::{
    layer::{activation::Activation, dropout::Dropout, linear::Linear},
    module::{Module, Params},
    seed,
};
use autograd::{DType, Var};
use std::panic::Location;

/// A multi-layer perceptron: linear layers with activations between them. It maps `[batch, inputs]`
/// to `[batch, outputs]`. Created by [`mlp`].
#[doc(alias = "MLP")]
pub struct Mlp {
    layers: Vec<Linear>,
    activation: Activation,
    dropout: Dropout,
    location: &'static Location<'static>,
}

/// A multi-layer perceptron with these layer sizes, from the inputs to the outputs. The last layer
/// has no activation: the outputs are logits. With fewer than two sizes, the model is the identity.
///
/// ```
/// use nn::Module;
/// let model = nn::mlp(&[784, 128, 10], nn::Activation::Relu, 42);
/// assert_eq!(model.num_parameters(), 101_770);
/// assert_eq!(model.parameters()[0].0, "layers.0.weight");
/// ```
#[track_caller]
pub fn mlp(sizes: &[usize], activation: Activation, seed: u64) -> Mlp {
    let mut layers = Vec::new();
    for (k, pair) in sizes.windows(2).enumerate() {
        layers.push(Linear::new(pair[0], pair[1], seed::derive(seed, k as u64)));
    }
    Mlp {
        layers,
        activation,
        dropout: Dropout::new(0.0),
        location: Location::caller(),
    }
}

impl Mlp {
    /// Adds dropout with this rate after each hidden layer.
    pub fn dropout(mut self, rate: f64) -> Mlp {
        self.dropout = Dropout::new(rate);
        self
    }

    /// The same model in this number type, f32 or f64. Its values are converted, so that both start at
    /// the same point. Do it before the model is used or shared.
    ///
    /// ```
    /// use autograd::{DType, Tensor};
    /// let model = nn::mlp(&[2, 8, 1], nn::Activation::Tanh, 1).cast(DType::F64);
    /// let outputs = nn::predict(&model, &Tensor::from([[0.5, -1.0]]))?;
    /// assert_eq!(outputs.dtype(), DType::F64);
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn cast(mut self, dtype: DType) -> Mlp {
        let layers = self.layers.into_iter();
        self.layers = layers.map(|layer| layer.cast(dtype)).collect();
        self
    }
}

impl Module for Mlp {
    #[track_caller]
    fn forward<'g>(&self, mut x: Var<'g>) -> Var<'g> {
        let g = x.graph();
        let _scope = g.scope_made_at("mlp", self.location);
        for (k, layer) in self.layers.iter().enumerate() {
            let _scope = g.scope(&k.to_string());
            if k > 0 {
                x = self.dropout.forward(self.activation.forward(x));
            }
            x = layer.forward(x);
        }
        x
    }

    fn params(&self, p: &mut Params) {
        for (k, layer) in self.layers.iter().enumerate() {
            p.module(&format!("layers.{k}"), layer);
        }
    }
}
