//! Learning-rate schedules: which multiple of the optimizer's rate to use, step by step.
//!
//! A schedule is any function from a [`Moment`] of the training to a factor. They are composed by calling each other. The
//! factor is a number in the graph, not part of its structure: a schedule never causes a new plan.
//!
//! ```
//! use nn::schedule::{self, Moment};
//! let schedule = schedule::warm_up(0.5, schedule::cosine);       // half an epoch of warm-up, then half a cosine
//! let at = |step| Moment { step, steps_per_epoch: 100, epochs: 4, history: &[] };
//! assert_eq!((schedule(&at(0)), schedule(&at(49)), schedule(&at(50))), (0.02, 1.0, 1.0));
//! assert!(schedule(&at(225)) < 0.6 && schedule(&at(399)) < 1e-3);
//! let own = |at: &Moment| if at.epoch() == 0 { 0.1 } else { schedule::linear(at) };
//! assert_eq!(own(&at(200)), 0.5);
//! ```

use crate::train::history::Epoch;

/// Where a training is.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'h> {
    /// The number of steps that have been done.
    pub step: usize,
    /// The number of steps of an epoch.
    pub steps_per_epoch: usize,
    /// The number of epochs of the whole training.
    pub epochs: usize,
    /// The epochs that have been done.
    pub history: &'h [Epoch],
}

impl Moment<'_> {
    /// The share of the training that is done: 0 at the first step, towards 1 at the last.
    pub fn progress(&self) -> f64 {
        self.step as f64 / (self.steps_per_epoch * self.epochs).max(1) as f64
    }

    /// The number of the epoch, from 0 on.
    pub fn epoch(&self) -> usize {
        self.step / self.steps_per_epoch.max(1)
    }
}

/// The same rate from first to last.
pub fn constant(_at: &Moment<'_>) -> f64 {
    1.0
}

/// Falls in a straight line to 0.
pub fn linear(at: &Moment<'_>) -> f64 {
    1.0 - at.progress()
}

/// Falls to 0 along half a cosine: slowly at both ends (Loshchilov and Hutter 2017).
pub fn cosine(at: &Moment<'_>) -> f64 {
    0.5 + 0.5 * (std::f64::consts::PI * at.progress()).cos()
}

/// Is multiplied by `factor` every so many epochs.
pub fn step(epochs: usize, factor: f64) -> impl Fn(&Moment<'_>) -> f64 {
    move |at| factor.powi((at.epoch() / epochs.max(1)) as i32)
}

/// Is multiplied by `factor` in the course of each epoch, a little in each step.
pub fn exponential(factor: f64) -> impl Fn(&Moment<'_>) -> f64 {
    move |at| factor.powf(at.step as f64 / at.steps_per_epoch.max(1) as f64)
}

/// Rises in a straight line to 1 in the first `epochs`; then another schedule takes over, as if it began there.
pub fn warm_up(epochs: f64, then: impl Fn(&Moment<'_>) -> f64) -> impl Fn(&Moment<'_>) -> f64 {
    move |at| {
        let steps = (epochs * at.steps_per_epoch as f64).round() as usize;
        if at.step < steps {
            return (at.step + 1) as f64 / steps as f64;
        }
        // the rest of the training, stretched over the whole of the other schedule
        let (done, all) = (
            at.step - steps,
            (at.steps_per_epoch * at.epochs)
                .saturating_sub(steps)
                .max(1),
        );
        let step =
            (done as f64 / all as f64 * (at.steps_per_epoch * at.epochs) as f64).round() as usize;
        then(&Moment { step, ..*at })
    }
}

/// Two schedules multiplied.
pub fn product(
    a: impl Fn(&Moment<'_>) -> f64,
    b: impl Fn(&Moment<'_>) -> f64,
) -> impl Fn(&Moment<'_>) -> f64 {
    move |at| a(at) * b(at)
}

/// Is multiplied by `factor` when the loss (of the validation, where there is one) has not become smaller for `patience`
/// epochs, and again after as many more.
pub fn reduce_on_plateau(factor: f64, patience: usize) -> impl Fn(&Moment<'_>) -> f64 {
    move |at| {
        let (mut best, mut waited, mut scale) = (f64::INFINITY, 0, 1.0);
        for epoch in at.history {
            let loss = epoch.validation.map_or(epoch.train.loss, |v| v.loss);
            if loss < best {
                (best, waited) = (loss, 0);
            } else {
                waited += 1;
            }
            if waited > patience {
                (scale, waited) = (scale * factor, 0);
            }
        }
        scale
    }
}
