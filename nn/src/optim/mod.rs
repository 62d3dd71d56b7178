//! Optimizers. They append the parameter updates to the graph of the loss, so that a whole training
//! step is one program.
//!
//! Clipping, accumulation, moving averages, a choice of parameters and parameter groups work with every
//! optimizer: they wrap it, and the wrapper is an optimizer again.

pub(crate) mod accumulate;
pub(crate) mod adam;
pub(crate) mod clip;
pub(crate) mod ema;
pub(crate) mod lbfgs;
mod line_search;
pub(crate) mod only;
pub(crate) mod param_groups;
pub(crate) mod rmsprop;
pub(crate) mod sgd;
mod state;

use crate::{
    error::{Error, Result},
    names,
    weights::Weights,
};
use accumulate::Accumulate;
use autograd::{Graph, Param, Var};
use clip::Clip;
use ema::Ema;
use only::Only;
use std::ops::Deref;

/// Updates parameters to minimise a loss.
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
    /// Appends the gradients of the loss and the parameter updates to the graph. The next
    /// [`run`](autograd::Graph::run) carries them out.
    ///
    /// It updates all trainable parameters to which a gradient flows. A parameter without a
    /// gradient, for example behind `detach`, is not changed, not even by weight decay or momentum.
    #[track_caller]
    fn step(&self, loss: Var<'_>) {
        self.update(gradients(loss), 1.0);
    }

    /// Appends the parameter updates for these gradients to the graph. The learning rate is
    /// multiplied by `lr_scale`, the factor of a [schedule](crate::schedule).
    /// [`step`](Optimizer::step) calls this with all [`gradients`] of a loss and a factor of 1.
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64);

    /// Appends the update by gradients that were accumulated and not yet applied, of these parameters;
    /// whether there are any. Call it after the last step of an epoch, so that no gradient gets lost or
    /// into the next epoch; the trainer does.
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        let _ = (g, params, lr_scale);
        false
    }

    /// The learning rate, before the factor of a schedule, for logs and callbacks. `None`: the optimizer
    /// has none to tell.
    fn learning_rate(&self) -> Option<f64> {
        None
    }

    /// The averages of these parameters, and the values of those that are not averaged; `None` if the
    /// optimizer keeps none.
    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        let _ = params;
        None
    }

    /// Checks the settings.
    fn check(&self) -> Result<()>;

    /// What it is called in messages and checkpoints: by default the name of its type. A training
    /// can only be resumed with an optimizer of the same name.
    fn name(&self) -> String {
        names::of_type::<Self>()
    }

    /// The optimizer state for these parameters, as named buffers, to store in a checkpoint.
    /// Creates buffers that do not exist yet.
    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>>;

    /// Gradient clipping by global norm: if the norm of all gradients together exceeds `max_norm`,
    /// they are scaled down to that norm (Pascanu, Mikolov and Bengio 2013).
    fn clip_norm(self, max_norm: f64) -> Clip<Self>
    where
        Self: Sized,
    {
        Clip::norm(self, max_norm)
    }

    /// Gradient clipping by value: clamps each element to `-max_value..=max_value`.
    fn clip_value(self, max_value: f64) -> Clip<Self>
    where
        Self: Sized,
    {
        Clip::value(self, max_value)
    }

    /// Gradient accumulation: updates the parameters once every `steps` steps, with the mean of the
    /// gradients since the last update. The effect is that of a batch `steps` times as large. What is
    /// left at the end of an epoch is applied by [`flush`](Optimizer::flush).
    fn accumulate(self, steps: usize) -> Accumulate<Self>
    where
        Self: Sized,
    {
        Accumulate::new(self, steps)
    }

    /// Maintains an exponential moving average (EMA) of the weights (Polyak and Juditsky 1992):
    /// `average ← decay·average + (1 - decay)·weight` after each update, where the decay of update `n`
    /// (from 0) is at most `(1 + n)/(10 + n)`: otherwise the initial weights would stay in the average
    /// for thousands of steps. Buffers of numbers, such as running means, are averaged, too. After the
    /// training, [`Ema::copy_to`] replaces the weights by their averages.
    fn ema(self, decay: f64) -> Ema<Self>
    where
        Self: Sized,
    {
        Ema::new(self, decay)
    }

    /// Updates these parameters only, and leaves all others as they are: one side of an adversarial
    /// training, the head of a model. The gradients of the others are not computed. (In optax:
    /// `masked`.) For different settings in one step see [`ParamGroups`](crate::ParamGroups).
    ///
    /// ```
    /// use autograd::Graph;
    /// use nn::{Activation, Adam, Module, Optimizer};
    /// let generator = nn::mlp(&[1, 8, 2], Activation::Tanh, 1);
    /// let critic = nn::mlp(&[2, 8, 1], Activation::Relu, 2);
    /// let of_critic = Adam::new(1e-3).only(&critic.parameters());
    /// let of_generator = Adam::new(1e-3).only(&generator.parameters());
    ///
    /// let g = Graph::new();
    /// let fake = critic.forward(generator.forward(g.constant([[0.3f32], [-1.2]])));
    /// let real = critic.forward(g.constant([[1f32, 0.0], [0.8, 0.1]]));
    /// let loss = (fake.softplus() + (-real).softplus()).mean();
    /// of_critic.step(loss); // the generator stays as it is
    /// g.run(loss)?;
    ///
    /// let g = Graph::new();
    /// let fake = critic.forward(generator.forward(g.constant([[0.3f32], [-1.2]])));
    /// let loss = (-fake).softplus().mean();
    /// of_generator.step(loss); // and here the critic
    /// g.run(loss)?;
    /// # Ok::<(), autograd::Error>(())
    /// ```
    fn only(self, params: &[(String, Param)]) -> Only<Self>
    where
        Self: Sized,
    {
        Only::new(self, params)
    }
}

/// A pointer to an optimizer is an optimizer: `&O`, `Box<O>`, `Arc<O>`.
impl<P: Deref<Target: Optimizer> + Send + Sync> Optimizer for P {
    #[track_caller]
    fn update(&self, gradients: Vec<Gradient<'_>>, lr_scale: f64) {
        (**self).update(gradients, lr_scale);
    }
    fn check(&self) -> Result<()> {
        (**self).check()
    }
    #[track_caller]
    fn flush(&self, g: &Graph, params: &[(String, Param)], lr_scale: f64) -> bool {
        (**self).flush(g, params, lr_scale)
    }
    fn name(&self) -> String {
        (**self).name()
    }
    fn learning_rate(&self) -> Option<f64> {
        (**self).learning_rate()
    }
    fn averages(&self, params: &[(String, Param)]) -> Option<Weights> {
        (**self).averages(params)
    }
    fn state(&self, params: &[(String, Param)]) -> Result<Vec<(String, Param)>> {
        (**self).state(params)
    }
}

/// The gradient of a loss with respect to a trainable parameter.
#[derive(Clone)]
pub struct Gradient<'g> {
    /// The parameter.
    pub param: Param,
    /// The value of the parameter in the graph.
    pub weight: Var<'g>,
    /// The gradient, with the same shape and dtype.
    pub gradient: Var<'g>,
}

/// The gradients of a loss with respect to all trainable parameters to which a gradient flows.
#[track_caller]
pub fn gradients(loss: Var<'_>) -> Vec<Gradient<'_>> {
    let grads = loss.trained_grads().into_iter();
    grads
        .map(|(param, weight, gradient)| Gradient {
            param,
            weight,
            gradient,
        })
        .collect()
}

/// Checks that all `settings` are finite and not negative, and that all `fractions` are in `0..1`.
fn check(settings: &[(&str, f64)], fractions: &[(&str, f64)]) -> Result<()> {
    if let Some((name, v)) = settings
        .iter()
        .find(|(_, v)| !(0.0..f64::INFINITY).contains(v))
    {
        return Err(Error::invalid(format!(
            "{name}: expected a finite number ≥ 0, got {v}"
        )));
    }
    match fractions.iter().find(|(_, v)| !(0.0..1.0).contains(v)) {
        Some((name, v)) => Err(Error::invalid(format!(
            "{name}: expected 0 ≤ {name} < 1, got {v}"
        ))),
        None => Ok(()),
    }
}
