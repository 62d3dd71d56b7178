//! Hooks that the training loop calls after steps and epochs.

use super::history::Epoch;
use crate::{error::Result, names, optim::Gradient, weights::Weights};
use autograd::{GradientReport, Param, Tensor};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What the training loop does after a callback returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlFlow {
    /// Continue training.
    Continue,
    /// Stop for good: the training counts as finished, even if epochs are left.
    Stop,
    /// Stop now, but resume later from the checkpoint.
    Pause,
}

impl ControlFlow {
    /// This, unless it is `Continue`: then the other.
    pub(super) fn or(self, other: ControlFlow) -> ControlFlow {
        match self {
            ControlFlow::Continue => other,
            _ => self,
        }
    }
}

/// The state of the training that callbacks can read.
pub struct CallbackContext<'t> {
    /// The number of completed steps, over all epochs.
    pub step: usize,
    /// The mean training loss of the current epoch so far; at the end of an epoch, and until the next
    /// one has a step, of that epoch. NaN before the first step.
    pub loss: f64,
    /// The learning rate of the current step, or of the last one between steps: the optimizer's
    /// [own](crate::Optimizer::learning_rate) times the factor of the schedule. `None` before the
    /// first step, and if the optimizer does not say.
    pub learning_rate: Option<f64>,
    /// Gradient statistics of the last step, if
    /// [`inspect_gradients`](crate::Trainer::inspect_gradients) is on.
    pub gradients: Option<&'t GradientReport>,
    /// The completed epochs.
    pub history: &'t [Epoch],
    /// The names of the [metrics](crate::Trainer::metric) that each epoch has.
    pub metrics: &'t [String],
    /// The model's parameters and their paths.
    pub params: &'t [(String, Param)],
    /// The averages that were evaluated in the place of the model's weights: in
    /// [`on_evaluation`](Callback::on_evaluation), if the validation is
    /// [`averaged`](crate::Validation::averaged).
    pub averages: Option<&'t Weights>,
    /// The rank of this process in its [team](crate::team::Team). All ranks call all callbacks; what
    /// writes a file or prints does so on rank 0 alone, which is that of a process that trains alone.
    pub rank: usize,
}

impl CallbackContext<'_> {
    /// The weights that were evaluated: the averages, or those of the model.
    pub fn weights(&self) -> Weights {
        let own = || Weights::of_parameters(self.params);
        self.averages.cloned().unwrap_or_else(own)
    }
}

/// A hook that the training loop calls after steps and epochs. An error or a panic in a callback
/// ends the training.
///
/// ```
/// use nn::{Callback, CallbackContext, ControlFlow, Result};
/// /// Stops when the training loss is below a threshold.
/// struct StopBelow(f64);
/// impl Callback for StopBelow {
///     fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
///         let below = context.history.last().is_some_and(|epoch| epoch.train.loss < self.0);
///         Ok(if below { ControlFlow::Stop } else { ControlFlow::Continue })
///     }
/// }
/// ```
pub trait Callback {
    /// The name under which a checkpoint has the callback's state: by default the name of its type.
    fn name(&self) -> String {
        names::of_type::<Self>()
    }

    /// Called before the first step of a training: of a new one (`context.step` is 0), or of one
    /// that is resumed, after [`load_state`](Callback::load_state). A callback that has served
    /// another training begins anew.
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called before each step: what it does to the model, such as
    /// [freezing](crate::Module::freeze) a part, is in effect for this step.
    fn on_step_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Called in each step when its gradients are in the graph, and not computed yet, before the
    /// optimizer gets them: they can be changed, such as noise added, or left out.
    ///
    /// ```
    /// use nn::{Callback, CallbackContext, Gradient, Result};
    /// /// Trains biases ten times as slowly.
    /// struct SlowBiases;
    /// impl Callback for SlowBiases {
    ///     fn on_gradients(
    ///         &mut self,
    ///         context: &CallbackContext<'_>,
    ///         gradients: &mut Vec<Gradient<'_>>,
    ///     ) -> Result<()> {
    ///         let is_bias = |d: &Gradient| {
    ///             let path = context.params.iter().find(|(_, param)| param.id() == d.param.id());
    ///             path.is_some_and(|(path, _)| path.ends_with("bias"))
    ///         };
    ///         gradients.iter_mut().filter(|d| is_bias(d)).for_each(|d| d.gradient *= 0.1);
    ///         Ok(())
    ///     }
    /// }
    /// ```
    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        let _ = (context, gradients);
        Ok(())
    }

    /// Called after each step.
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let _ = context;
        Ok(ControlFlow::Continue)
    }

    /// Called when there are new results: after each validation, within an epoch too, and after each
    /// epoch if there is no validation data. `epoch` has the results so far of the epoch in which it
    /// is. What stops a training or keeps the best weights belongs here.
    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        let _ = (context, epoch);
        Ok(ControlFlow::Continue)
    }

    /// Called after each epoch and its validation.
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let _ = context;
        Ok(ControlFlow::Continue)
    }

    /// A message to print after the metrics of the last epoch, if there is one.
    fn message(&self) -> Option<String> {
        None
    }

    /// Called when the training ends: finished, stopped, paused or failed.
    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        let _ = context;
        Ok(())
    }

    /// Named tensors to store in a checkpoint.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Restores what [`state`](Callback::state) returned.
    fn load_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// A callback that was chosen at run time.
impl<C: Callback + ?Sized> Callback for Box<C> {
    fn name(&self) -> String {
        (**self).name()
    }
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        (**self).on_train_begin(context)
    }
    fn on_step_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        (**self).on_step_begin(context)
    }
    fn on_gradients(
        &mut self,
        context: &CallbackContext<'_>,
        gradients: &mut Vec<Gradient<'_>>,
    ) -> Result<()> {
        (**self).on_gradients(context, gradients)
    }
    fn on_step_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        (**self).on_step_end(context)
    }
    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        (**self).on_evaluation(context, epoch)
    }
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        (**self).on_epoch_end(context)
    }
    fn message(&self) -> Option<String> {
        (**self).message()
    }
    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        (**self).on_train_end(context)
    }
    fn state(&self) -> Vec<(String, Tensor)> {
        (**self).state()
    }
    fn load_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        (**self).load_state(state)
    }
}

/// Pauses the training when this flag is set, for example by a signal handler or another thread.
pub struct PauseOnFlag(pub Arc<AtomicBool>);

impl Callback for PauseOnFlag {
    fn on_step_end(&mut self, _context: &CallbackContext<'_>) -> Result<ControlFlow> {
        Ok(if self.0.load(Relaxed) {
            ControlFlow::Pause
        } else {
            ControlFlow::Continue
        })
    }
}

/// Pauses the training when a time budget is used up, counted from its creation.
pub struct TimeBudget {
    start: Instant,
    budget: Duration,
}

impl TimeBudget {
    /// Starts the clock now.
    pub fn new(budget: Duration) -> TimeBudget {
        TimeBudget {
            start: Instant::now(),
            budget,
        }
    }
}

impl Callback for TimeBudget {
    fn on_step_end(&mut self, _context: &CallbackContext<'_>) -> Result<ControlFlow> {
        Ok(if self.start.elapsed() >= self.budget {
            ControlFlow::Pause
        } else {
            ControlFlow::Continue
        })
    }
}
