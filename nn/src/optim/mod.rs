//! Optimizers: they append the updates of parameters to the graph of a loss, so that the whole step is one program.

pub(crate) mod sgd;

use crate::error::Result;
use autograd::Var;

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
