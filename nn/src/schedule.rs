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

use crate::train::{history::Epoch, monitor::Monitor};

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

/// Polynomial decay to 0: `(1 - progress)^power`. With a power of 1 it is [`linear`].
pub fn polynomial(power: f64) -> impl Fn(&Context<'_>) -> f64 {
    move |context| (1.0 - context.progress()).max(0.0).powf(power)
}

/// Multiplies by `factor` when each of these numbers of epochs is completed.
///
/// ```
/// use nn::schedule::{self, Context};
/// let schedule = schedule::milestones([30, 60], 0.1);
/// let at = |epoch: usize| Context { step: epoch * 5, steps_per_epoch: 5, epochs: 90, history: &[], start: 0 };
/// assert_eq!([29, 30, 59].map(|epoch| schedule(&at(epoch))), [1.0, 0.1, 0.1]);
/// assert!((schedule(&at(60)) - 0.01).abs() < 1e-15);
/// ```
pub fn milestones(
    epochs: impl IntoIterator<Item = usize>,
    factor: f64,
) -> impl Fn(&Context<'_>) -> f64 {
    let epochs: Vec<usize> = epochs.into_iter().collect();
    move |context| {
        let passed = epochs.iter().filter(|&&epoch| epoch <= context.epoch());
        factor.powi(passed.count() as i32)
    }
}

/// One schedule for the first `epochs` epochs, then another one, for which the training begins and its
/// progress is 0.
pub fn then(
    epochs: usize,
    first: impl Fn(&Context<'_>) -> f64,
    second: impl Fn(&Context<'_>) -> f64,
) -> impl Fn(&Context<'_>) -> f64 {
    move |context| {
        let start = epochs * context.steps_per_epoch;
        match context.step < start {
            true => first(&Context { epochs, ..*context }),
            false => second(&Context { start, ..*context }),
        }
    }
}

/// Begins a schedule again every `epochs` epochs: with [`cosine`], these are the warm restarts of
/// Loshchilov and Hutter (2017).
///
/// ```
/// use nn::schedule::{self, Context};
/// let schedule = schedule::restarts(2, schedule::cosine);
/// let at = |step| Context { step, steps_per_epoch: 5, epochs: 6, history: &[], start: 0 };
/// assert_eq!([0, 10, 20].map(|step| schedule(&at(step))), [1.0; 3]);
/// assert!(schedule(&at(9)) < 0.03 && schedule(&at(19)) < 0.03);
/// ```
pub fn restarts(
    epochs: usize,
    schedule: impl Fn(&Context<'_>) -> f64,
) -> impl Fn(&Context<'_>) -> f64 {
    let epochs = epochs.max(1);
    move |context| {
        let step = context.step % (epochs * context.steps_per_epoch).max(1);
        let start = 0;
        schedule(&Context {
            step,
            epochs,
            start,
            ..*context
        })
    }
}

/// The one-cycle policy (Smith and Topin 2018): from 1/25 up to 1 in the first `rising` part of the
/// training, then down to nearly 0, both along a cosine, as in PyTorch's `OneCycleLR`.
pub fn one_cycle(rising: f64) -> impl Fn(&Context<'_>) -> f64 {
    const FIRST: f64 = 1.0 / 25.0;
    const LAST: f64 = FIRST / 1e4;
    // from one factor to another
    let between = |from: f64, to: f64, part: f64| {
        to + (from - to) * (0.5 + 0.5 * (std::f64::consts::PI * part).cos())
    };
    move |context| {
        let progress = context.progress();
        match progress < rising {
            true => between(FIRST, 1.0, progress / rising),
            false => between(1.0, LAST, (progress - rising) / (1.0 - rising).max(1e-12)),
        }
    }
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
/// [`Plateau`] has more settings.
pub fn reduce_on_plateau(factor: f64, patience: usize) -> impl Fn(&Context<'_>) -> f64 {
    Plateau::new(factor, patience).schedule()
}

/// Multiplies by a factor each time that a [watched](Monitor) value has not improved for some epochs.
///
/// ```
/// use nn::{Monitor, schedule::Plateau};
/// let accuracy = Monitor::largest(|epoch| epoch.validation?.accuracy).min_delta(1e-3);
/// let schedule = Plateau::new(0.5, 3).monitor(accuracy).cooldown(2).least(0.01).schedule();
/// # let at = nn::schedule::Context { step: 0, steps_per_epoch: 1, epochs: 1, history: &[], start: 0 };
/// # assert_eq!(schedule(&at), 1.0);
/// ```
#[derive(Debug)]
pub struct Plateau {
    factor: f64,
    patience: usize,
    cooldown: usize,
    least: f64,
    monitor: Monitor,
}

impl Plateau {
    /// `patience`: the number of epochs in a row without improvement after which the learning rate is
    /// multiplied by `factor`; at least 1.
    pub fn new(factor: f64, patience: usize) -> Plateau {
        Plateau {
            factor,
            patience: patience.max(1),
            cooldown: 0,
            least: 0.0,
            monitor: Monitor::default(),
        }
    }

    /// Watches another value than the loss, or lets only larger improvements count.
    pub fn monitor(mut self, monitor: Monitor) -> Plateau {
        self.monitor = monitor;
        self
    }

    /// After each reduction, so many epochs are not counted: the new rate needs time to show.
    pub fn cooldown(mut self, epochs: usize) -> Plateau {
        self.cooldown = epochs;
        self
    }

    /// The factors together do not get below this.
    pub fn least(mut self, factor: f64) -> Plateau {
        self.least = factor;
        self
    }

    /// The schedule. It is a function of the history, so there is nothing to store when a training is
    /// interrupted.
    pub fn schedule(self) -> impl Fn(&Context<'_>) -> f64 {
        move |context| {
            let (mut best, mut waited, mut rest, mut scale) = (None, 0, 0usize, 1.0);
            let values = context.history.iter();
            for value in values.filter_map(|epoch| self.monitor.value(epoch)) {
                let is_better = self.monitor.is_better(value, best);
                if is_better {
                    best = Some(value);
                }
                waited = if is_better || rest > 0 { 0 } else { waited + 1 };
                rest = rest.saturating_sub(1);
                if waited >= self.patience {
                    (scale, waited, rest) = (scale * self.factor, 0, self.cooldown);
                }
            }
            f64::max(scale, self.least)
        }
    }
}
