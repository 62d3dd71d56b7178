//! What is watched over the epochs, and whether it has improved.

use super::history::Epoch;
use std::fmt;

/// A number of each epoch that is watched: whether it should be small or large, and by how much it has
/// to improve. By default it is the validation loss, or the training loss if there is no validation
/// data, and any improvement counts.
///
/// ```
/// use nn::Monitor;
/// // accuracy on the validation data, by at least a thousandth
/// let monitor = Monitor::largest(|epoch| epoch.validation?.accuracy).min_delta(1e-3);
/// # let _ = nn::EarlyStopping::new(3).monitor(monitor);
/// ```
pub struct Monitor {
    value: Box<Value>,
    /// 1 if it should be small, -1 if it should be large.
    sign: f64,
    min_delta: f64,
    best: Option<f64>,
}

type Value = dyn Fn(&Epoch) -> Option<f64> + Send;

impl Default for Monitor {
    fn default() -> Monitor {
        Monitor::smallest(|epoch| Some(epoch.monitored_loss()))
    }
}

impl Monitor {
    /// Watches a value that should be small. An epoch without the value does not count, nor does one
    /// whose [validation](crate::Validation) was not due; one whose value is NaN is no improvement.
    pub fn smallest(value: impl Fn(&Epoch) -> Option<f64> + Send + 'static) -> Monitor {
        Monitor {
            value: Box::new(value),
            sign: 1.0,
            min_delta: 0.0,
            best: None,
        }
    }

    /// Watches a value that should be large.
    pub fn largest(value: impl Fn(&Epoch) -> Option<f64> + Send + 'static) -> Monitor {
        Monitor {
            sign: -1.0,
            ..Monitor::smallest(value)
        }
    }

    /// Only what is better by more than this counts as an improvement.
    pub fn min_delta(mut self, delta: f64) -> Monitor {
        self.min_delta = delta;
        self
    }

    /// The best value so far.
    pub fn best(&self) -> Option<f64> {
        self.best
    }

    /// What is watched, if the epoch has it.
    pub(crate) fn value(&self, epoch: &Epoch) -> Option<f64> {
        (self.value)(epoch).filter(|_| epoch.is_evaluated)
    }

    /// Whether a value is better than the best one before.
    pub(crate) fn is_better(&self, value: f64, best: Option<f64>) -> bool {
        match best {
            Some(best) => self.sign * value < self.sign * best - self.min_delta,
            None => !value.is_nan(),
        }
    }

    /// Takes a value; whether it is the best so far.
    pub(super) fn improves(&mut self, value: f64) -> bool {
        let is_better = self.is_better(value, self.best);
        if is_better {
            self.best = Some(value);
        }
        is_better
    }

    pub(super) fn set_best(&mut self, best: Option<f64>) {
        self.best = best;
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let goal = if self.sign > 0.0 {
            "smallest"
        } else {
            "largest"
        };
        let best = self.best;
        write!(
            f,
            "Monitor({goal}, best {best:?}, min_delta {})",
            self.min_delta
        )
    }
}
