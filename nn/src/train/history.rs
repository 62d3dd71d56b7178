//! What happened in a training, epoch by epoch.

use crate::train::evaluate::Metrics;
use autograd::GradientReport;
use std::{fmt, time::Duration};

/// One pass over the training data.
#[derive(Clone, Debug, PartialEq)]
pub struct Epoch {
    /// Counted from 1.
    pub number: usize,
    /// Loss and accuracy over the training data, as they were while the weights changed.
    pub train: Metrics,
    /// Loss and accuracy over the validation data afterwards.
    pub validation: Option<Metrics>,
    /// How long the training took, without the validation.
    pub time: Duration,
    /// The gradients in numbers, over all steps, if [`inspect`](crate::Trainer::inspect) asked for them.
    pub gradients: Option<GradientReport>,
}

/// The epochs of a training, in order.
pub type History = Vec<Epoch>;

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "epoch {}: {}", self.number, self.train)?;
        if let Some(validation) = &self.validation {
            write!(f, " | validation {validation}")?;
        }
        write!(f, " | {:.1} s", self.time.as_secs_f64())
    }
}
