//! The training history.

use crate::train::evaluate::Metrics;
use autograd::GradientReport;
use std::{fmt, ops::Deref, time::Duration};

/// The results of one epoch: one pass over the training data.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// The number of the epoch, counted from 1.
    pub number: usize,
    /// Training loss and accuracy: the mean over all steps. The weights change during the epoch, so
    /// this is not the result of the final weights.
    pub train: Metrics,
    /// Validation loss and accuracy at the end of the epoch; `None` if there are no validation data,
    /// or [no validation was due](crate::Validation).
    pub validation: Option<Metrics>,
    /// Whether it counts for what [watches](crate::Monitor) the results: not if the validation waits
    /// for a later epoch.
    pub is_evaluated: bool,
    /// The [metrics](crate::Trainer::metric) of one's own on the validation data, with their names.
    pub metrics: Vec<(String, f64)>,
    /// The learning rate of the last step, if the optimizer has [one](crate::Optimizer::learning_rate).
    pub learning_rate: Option<f64>,
    /// The training time, without validation.
    pub time: Duration,
    /// Gradient statistics over all steps, if
    /// [`inspect_gradients`](crate::Trainer::inspect_gradients) is on.
    pub gradients: Option<GradientReport>,
}

/// The results of all epochs of a training, in order, and how it ended. It is a slice of epochs.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    epochs: Vec<Epoch>,
    /// How the training ended.
    pub end: End,
}

/// How a training ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All epochs are done.
    Finished,
    /// A callback has stopped it for good, such as [`EarlyStopping`](crate::EarlyStopping).
    Stopped,
    /// A callback has paused it: it can be resumed from its checkpoint.
    Paused,
}

impl History {
    pub(super) fn new(epochs: Vec<Epoch>, end: End) -> History {
        History { epochs, end }
    }
}

impl Deref for History {
    type Target = [Epoch];
    fn deref(&self) -> &[Epoch] {
        &self.epochs
    }
}

impl IntoIterator for History {
    type Item = Epoch;
    type IntoIter = std::vec::IntoIter<Epoch>;
    fn into_iter(self) -> Self::IntoIter {
        self.epochs.into_iter()
    }
}

impl<'h> IntoIterator for &'h History {
    type Item = &'h Epoch;
    type IntoIter = std::slice::Iter<'h, Epoch>;
    fn into_iter(self) -> Self::IntoIter {
        self.epochs.iter()
    }
}

impl Epoch {
    /// The value of a [metric](crate::Trainer::metric) of one's own on the validation data.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let found = self.metrics.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| *value)
    }

    /// The loss that early stopping and schedules monitor by default: the validation loss, or the
    /// training loss if there is no validation data.
    pub(crate) fn monitored_loss(&self) -> f64 {
        self.validation.map_or(self.train.loss, |v| v.loss)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "epoch {}: {}", self.number, self.train)?;
        if let Some(validation) = &self.validation {
            write!(f, " | validation {validation}")?;
        }
        for (name, value) in &self.metrics {
            write!(f, ", {name} {value:.4}")?;
        }
        write!(f, " | {:.1} s", self.time.as_secs_f64())
    }
}
