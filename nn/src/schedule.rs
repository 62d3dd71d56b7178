//! Learning-rate schedules: the factor by which the learning rate of each step is multiplied.
//!
//! A schedule is any function from a [`Context`] to a factor. Schedules are composed by calling
//! each other. The factor is a value in the graph and not part of its structure, so a schedule
//! never makes the engine plan the step again.
//!
//! ```
//! use nn::schedule::{self, Context};
//! // half an epoch of warm-up, then cosine annealing
//! let schedule = schedule::warm_up(0.5, schedule::cosine);
//! let at = |step| Context { step, steps_per_epoch: 100, epochs: 4, history: &[], start: 0 };
//! assert_eq!((schedule(&at(0)), schedule(&at(49)), schedule(&at(50))), (0.02, 1.0, 1.0));
//! assert!(schedule(&at(225)) < 0.6 && schedule(&at(399)) < 1e-3);
//! // a schedule of your own
//! let own = |context: &Context| match context.epoch() {
//!     0 => 0.1,
//!     _ => schedule::linear(context),
//! };
//! assert_eq!(own(&at(200)), 0.5);
//! ```

use crate::train::history::Epoch;

/// What a schedule knows about the training.
#[derive(Clone, Copy, Debug)]
pub struct Context<'h> {
    /// The number of completed steps, over all epochs.
    pub step: usize,
    /// The number of steps per epoch.
    pub steps_per_epoch: usize,
    /// The total number of epochs.
    pub epochs: usize,
    /// The completed epochs.
    pub history: &'h [Epoch],
    /// The step at which the schedule begins: 0, or the end of a [`warm_up`]. It counts for the
    /// [`progress`](Context::progress), not for the epoch.
    pub start: usize,
}

impl Context<'_> {
    /// The completed fraction of the schedule: 0 at its first step, close to 1 at the last.
    pub fn progress(&self) -> f64 {
        let done = self.step.saturating_sub(self.start);
        done as f64 / self.total_steps().saturating_sub(self.start).max(1) as f64
    }

    /// The index of the current epoch, counted from 0.
    pub fn epoch(&self) -> usize {
        self.step / self.steps_per_epoch.max(1)
    }

    /// Whether this is the last step of the training.
    pub(crate) fn is_last(&self) -> bool {
        self.step + 1 == self.total_steps()
    }

    fn total_steps(&self) -> usize {
        self.steps_per_epoch * self.epochs
    }
}

/// A constant learning rate.
pub fn constant(_context: &Context<'_>) -> f64 {
    1.0
}

/// Linear decay to 0.
pub fn linear(context: &Context<'_>) -> f64 {
    1.0 - context.progress()
}

/// Cosine annealing to 0 (Loshchilov and Hutter 2017).
pub fn cosine(context: &Context<'_>) -> f64 {
    0.5 + 0.5 * (std::f64::consts::PI * context.progress()).cos()
}

/// Step decay: multiplies by `factor` every `epochs` epochs.
pub fn step(epochs: usize, factor: f64) -> impl Fn(&Context<'_>) -> f64 {
    move |context| factor.powi((context.epoch() / epochs.max(1)) as i32)
}

/// Exponential decay by `factor` per epoch, applied in every step, from the end of a warm-up on.
pub fn exponential(factor: f64) -> impl Fn(&Context<'_>) -> f64 {
    move |context| {
        let done = context.step.saturating_sub(context.start);
        factor.powf(done as f64 / context.steps_per_epoch.max(1) as f64)
    }
}

/// Linear warm-up to 1 over the first `epochs` epochs, followed by another schedule. A schedule of the
/// progress, such as [`linear`] and [`cosine`], begins after the warm-up; one that counts epochs, such
/// as [`step`](fn@step), counts those of the warm-up, too.
pub fn warm_up(epochs: f64, then: impl Fn(&Context<'_>) -> f64) -> impl Fn(&Context<'_>) -> f64 {
    move |context| {
        let warm_up_steps = (epochs * context.steps_per_epoch as f64).round() as usize;
        if context.step < warm_up_steps {
            return (context.step + 1) as f64 / warm_up_steps as f64;
        }
        let start = context.start.max(warm_up_steps);
        then(&Context { start, ..*context })
    }
}

/// The product of two schedules.
pub fn product(
    a: impl Fn(&Context<'_>) -> f64,
    b: impl Fn(&Context<'_>) -> f64,
) -> impl Fn(&Context<'_>) -> f64 {
    move |context| a(context) * b(context)
}

/// Multiplies by `factor` each time the loss has not improved for `patience` epochs in a row (at
/// least 1). It monitors the validation loss, or the training loss if there is no validation data.
pub fn reduce_on_plateau(factor: f64, patience: usize) -> impl Fn(&Context<'_>) -> f64 {
    move |context| {
        let (mut best, mut epochs_without_improvement, mut scale) = (f64::INFINITY, 0, 1.0);
        for epoch in context.history {
            let loss = epoch.monitored_loss();
            if loss < best {
                (best, epochs_without_improvement) = (loss, 0);
            } else {
                epochs_without_improvement += 1;
            }
            if epochs_without_improvement >= patience.max(1) {
                (scale, epochs_without_improvement) = (scale * factor, 0);
            }
        }
        scale
    }
}
