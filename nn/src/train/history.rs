//! The training history.

use crate::train::evaluate::Metrics;
use autograd::GradientReport;
use std::{fmt, time::Duration};

/// The results of one epoch: one pass over the training data.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// The number of the epoch, counted from 1.
    pub number: usize,
    /// Training loss and accuracy: the mean over all steps. The weights change during the epoch, so
    /// this is not the result of the final weights.
    pub train: Metrics,
    /// Validation loss and accuracy at the end of the epoch.
    pub validation: Option<Metrics>,
    /// The training time, without validation.
    pub time: Duration,
    /// Gradient statistics over all steps, if
    /// [`inspect_gradients`](crate::Trainer::inspect_gradients) is on.
    pub gradients: Option<GradientReport>,
}

/// The results of all epochs, in order.
pub type History = Vec<Epoch>;

impl Epoch {
    /// The loss that early stopping and schedules monitor: the validation loss, or the training
    /// loss if there is no validation data.
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
        write!(f, " | {:.1} s", self.time.as_secs_f64())
    }
}
