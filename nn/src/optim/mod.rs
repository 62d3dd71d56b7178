//! Optimizers: they append the updates of parameters to the graph of a loss, so that the whole step is one program.

pub(crate) mod sgd;

use crate::error::Result;
use autograd::{Graph, Var};

/// Updates parameters so that a loss gets smaller.
pub trait Optimizer: Send + Sync {
    /// Appends gradients and updates of all trained parameters that the loss depends on to the graph of the loss. They
    /// are carried out by the next [`run`](autograd::Graph::run).
    #[track_caller]
    fn step(&self, loss: Var<'_>) {
        self.scaled_step(loss, 1.0);
    }

    /// As [`step`](Optimizer::step), with this multiple of the learning rate: what a schedule asks for.
    #[track_caller]
    fn scaled_step(&self, loss: Var<'_>, scale: f64);

    /// Whether the settings make sense.
    fn check(&self) -> Result<()>;
}

/// Gradients scaled down together so that the norm of all of them is at most `limit` (Pascanu, Mikolov and Bengio 2013).
pub(crate) fn clip_by_norm<'g>(g: &'g Graph, gradients: Vec<Var<'g>>, limit: f64) -> Vec<Var<'g>> {
    let squares = gradients.iter().map(|d| d.square().sum());
    let Some(total) = squares.reduce(|a, b| a + b) else { return gradients };
    let _scope = g.scope("clip");
    // a norm of 0 gives ∞, of which the minimum with 1 is 1
    let scale = (limit / total.sqrt()).minimum(1.0);
    gradients.into_iter().map(|d| d * scale).collect()
}
