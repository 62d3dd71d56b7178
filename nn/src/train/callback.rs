//! What a training calls at certain points.

use super::history::Epoch;
use crate::error::Result;
use autograd::{Param, Tensor};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// What a training does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// It goes on.
    Continue,
    /// It is finished, although epochs are left.
    Stop,
    /// It ends here, to be resumed later.
    Pause,
}

/// Where a training is when it calls.
pub struct At<'t> {
    /// The number of steps that have been done, over all epochs.
    pub step: usize,
    /// The mean loss of the epoch so far.
    pub loss: f64,
    /// The epochs that have been done.
    pub history: &'t [Epoch],
    /// The model's parameters, by path.
    pub params: &'t [(String, Param)],
}

/// Something that a training calls at certain points. A panic or an error in it ends the training.
///
/// ```
/// use nn::{At, Callback, Next, Result};
/// /// Stops when the training loss is small enough.
/// struct SmallEnough(f64);
/// impl Callback for SmallEnough {
///     fn epoch(&mut self, at: &At<'_>) -> Result<Next> {
///         let small = at.history.last().is_some_and(|epoch| epoch.train.loss < self.0);
///         Ok(if small { Next::Stop } else { Next::Continue })
///     }
/// }
/// ```
pub trait Callback {
    /// After each step.
    fn step(&mut self, at: &At<'_>) -> Result<Next> {
        let _ = at;
        Ok(Next::Continue)
    }

    /// After each epoch, its validation included.
    fn epoch(&mut self, at: &At<'_>) -> Result<Next> {
        let _ = at;
        Ok(Next::Continue)
    }

    /// What is to be said beside the numbers of the last epoch, if anything.
    fn note(&self) -> Option<String> {
        None
    }

    /// When the training ends, however it ends.
    fn end(&mut self, at: &At<'_>) -> Result<()> {
        let _ = at;
        Ok(())
    }

    /// What has to be saved for a training to be resumed: tensors under names.
    fn state(&self) -> Vec<(String, Tensor)> {
        Vec::new()
    }

    /// Takes back what [`state`](Callback::state) gave.
    fn restore(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        let _ = state;
        Ok(())
    }
}

/// Pauses a training when this flag is set, by a signal handler or another thread for example.
pub struct PauseWhen(pub Arc<AtomicBool>);

impl Callback for PauseWhen {
    fn step(&mut self, _at: &At<'_>) -> Result<Next> {
        Ok(if self.0.load(Relaxed) {
            Next::Pause
        } else {
            Next::Continue
        })
    }
}

/// Pauses a training when it has run for so long.
pub struct TimeBudget {
    start: Instant,
    budget: Duration,
}

impl TimeBudget {
    /// From now on.
    pub fn new(budget: Duration) -> TimeBudget {
        TimeBudget {
            start: Instant::now(),
            budget,
        }
    }
}

impl Callback for TimeBudget {
    fn step(&mut self, _at: &At<'_>) -> Result<Next> {
        Ok(if self.start.elapsed() >= self.budget {
            Next::Pause
        } else {
            Next::Continue
        })
    }
}
