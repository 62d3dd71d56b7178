//! Optimizers: they append the updates of parameters to the graph of a loss, so that the whole step is one program.

pub(crate) mod sgd;

use crate::error::Result;
use autograd::{Graph, Param, Var};

/// Updates parameters so that a loss gets smaller.
pub trait Optimizer: Send + Sync {
    /// Appends gradients and updates of all trained parameters that the loss depends on to the graph of the loss. They
    /// are carried out by the next [`run`](autograd::Graph::run).
    #[track_caller]
    fn step(&self, loss: Var<'_>) {
        self.update(gradients(loss), 1.0);
    }

    /// Appends the updates that follow from these gradients, with this multiple of the learning rate (what a schedule asks
    /// for). [`step`](Optimizer::step) is this with all [`gradients`] of a loss.
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64);

    /// Whether the settings make sense.
    fn check(&self) -> Result<()>;
}

/// A trained parameter in a graph, and the gradient of a loss with respect to it.
#[derive(Clone)]
pub struct Gradient<'g> {
    /// The parameter.
    pub param: Param,
    /// Its value in the graph.
    pub weight: Var<'g>,
    /// The gradient, of the same type.
    pub gradient: Var<'g>,
}

/// The gradients of a loss with respect to all trained parameters that it depends on.
#[track_caller]
pub fn gradients(loss: Var<'_>) -> Vec<Gradient<'_>> {
    let g = loss.graph();
    let params = g.trained_params(loss);
    let weights: Vec<Var<'_>> = params.iter().map(|(_, w)| *w).collect();
    let found = g.grads(loss, &weights);
    let all = params.into_iter().zip(found);
    all.map(|((param, weight), gradient)| Gradient { param, weight, gradient }).collect()
}

/// Gradients scaled down together so that the norm of all of them is at most `limit` (Pascanu, Mikolov and Bengio 2013).
pub(crate) fn clip_by_norm<'g>(g: &'g Graph, gradients: &mut [Gradient<'g>], limit: f64) {
    let squares = gradients.iter().map(|d| d.gradient.square().sum());
    let Some(total) = squares.reduce(|a, b| a + b) else { return };
    let _scope = g.scope("clip");
    // a norm of 0 gives ∞, of which the minimum with 1 is 1
    let scale = (limit / total.sqrt()).minimum(1.0);
    gradients.iter_mut().for_each(|d| d.gradient *= scale);
}
