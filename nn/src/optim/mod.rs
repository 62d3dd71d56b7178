//! Optimizers: they append the updates of parameters to the graph of a loss, so that the whole step is one program.
//!
//! Each is a struct with settings and a [`Memory`] of buffers. What can be done with any of them (clipping, accumulation,
//! averages, groups) wraps it and is an optimizer again.

pub(crate) mod accumulate;
pub(crate) mod adam;
pub(crate) mod average;
pub(crate) mod clip;
pub(crate) mod groups;
mod memory;
pub(crate) mod rmsprop;
pub(crate) mod sgd;

use crate::error::{Error, Result};
use accumulate::Accumulate;
use autograd::{Param, Var};
use average::Averaged;
use clip::Clip;
use std::ops::Deref;

/// Updates parameters so that a loss gets smaller.
///
/// ```
/// use autograd::{Graph, Param};
/// use nn::{Adam, Optimizer};
/// let w = Param::new([5.0, -3.0]);
/// let adam = Adam::new(0.1).clip_norm(1.0);
/// for _ in 0..300 {
///     let g = Graph::new();
///     let loss = g.param(&w).square().sum();
///     adam.step(loss);
///     g.run(loss)?;
/// }
/// assert!(w.value().to_f64s().iter().all(|w| w.abs() < 1e-2));
/// # Ok::<(), autograd::Error>(())
/// ```
pub trait Optimizer: Send + Sync {
    /// Appends gradients and updates of all trained parameters that a gradient of the loss reaches to the graph of the loss.
    /// They are carried out by the next [`run`](autograd::Graph::run). A parameter behind `detach` is not updated: neither
    /// weight decay nor momentum moves it.
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

    /// The buffers for these parameters, with names: what has to be saved for a training to be resumed. Those that are not
    /// there yet are made.
    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>>;

    /// With all gradients scaled down together so that their norm is at most `limit`, before anything else is done with
    /// them (Pascanu, Mikolov and Bengio 2013).
    fn clip_norm(self, limit: f64) -> Clip<Self>
    where
        Self: Sized,
    {
        Clip::norm(self, limit)
    }

    /// With each element of each gradient limited to `-limit..=limit`.
    fn clip_value(self, limit: f64) -> Clip<Self>
    where
        Self: Sized,
    {
        Clip::value(self, limit)
    }

    /// Updates at every `steps`-th step only, by the mean of the gradients since the last update: the effect of a batch that
    /// is `steps` times as large.
    fn accumulate(self, steps: usize) -> Accumulate<Self>
    where
        Self: Sized,
    {
        Accumulate::new(self, steps)
    }

    /// Keeps a moving average of the weights beside them: `average ← decay·average + (1 - decay)·weight` after each update
    /// (Polyak and Juditsky 1992). [`Averaged::store`] puts it in their place.
    fn average(self, decay: f64) -> Averaged<Self>
    where
        Self: Sized,
    {
        Averaged::new(self, decay)
    }
}

/// What points to an optimizer is one: `&O`, `Box<O>`, `Arc<O>`.
impl<P: Deref<Target: Optimizer> + Send + Sync> Optimizer for P {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, scale: f64) {
        (**self).update(gradients, scale);
    }
    fn check(&self) -> Result<()> {
        (**self).check()
    }
    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        (**self).state(params)
    }
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

/// The gradients of a loss with respect to all trained parameters that they reach.
#[track_caller]
pub fn gradients(loss: Var<'_>) -> Vec<Gradient<'_>> {
    let all = loss.trained_grads().into_iter();
    all.map(|(param, weight, gradient)| Gradient {
        param,
        weight,
        gradient,
    })
    .collect()
}

/// An error unless all of these settings are finite numbers from 0 on, and the shares among them below 1.
fn check(settings: &[(&str, f64)], shares: &[(&str, f64)]) -> Result<()> {
    if let Some((name, v)) = settings
        .iter()
        .find(|(_, v)| !(0.0..f64::INFINITY).contains(v))
    {
        return Err(Error::invalid(format!(
            "a {name} of {v} is not a number from 0 on"
        )));
    }
    match shares.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
        Some((name, v)) => Err(Error::invalid(format!(
            "a {name} of {v} is not in 0 ≤ {name} < 1"
        ))),
        None => Ok(()),
    }
}
