//! Early stopping.

use super::callback::{Callback, CallbackContext, ControlFlow};
use crate::error::{Error, Result};
use autograd::{Param, Tensor};

/// Stops the training when the loss has not improved for `patience` epochs, and restores the best
/// weights.
///
/// As a [`Callback`] it monitors the validation loss, or the training loss if there is no
/// validation data. In a training loop of your own, call [`observe`](EarlyStopping::observe):
///
/// ```
/// use nn::{ControlFlow, EarlyStopping, Module};
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let mut stopping = EarlyStopping::new(2);
/// let params = model.parameters();
/// let decisions = [0.5, 0.4, 0.6, 0.45].map(|loss| stopping.observe(loss, &params));
/// assert_eq!(decisions[..3], [ControlFlow::Continue; 3]);
/// assert_eq!(decisions[3], ControlFlow::Stop);
/// assert_eq!((stopping.best_loss(), stopping.epochs_without_improvement()), (0.4, 2));
/// stopping.restore_best_weights(&params)?;
/// # Ok::<(), nn::Error>(())
/// ```
pub struct EarlyStopping {
    patience: usize,
    best_loss: f64,
    epochs_without_improvement: usize,
    best_weights: Vec<(String, Tensor)>,
}

impl EarlyStopping {
    /// `patience`: the number of epochs in a row without improvement after which the training stops,
    /// as in Keras and Lightning; at least 1.
    pub fn new(patience: usize) -> EarlyStopping {
        EarlyStopping {
            patience,
            best_loss: f64::INFINITY,
            epochs_without_improvement: 0,
            best_weights: Vec::new(),
        }
    }

    /// The smallest loss so far.
    pub fn best_loss(&self) -> f64 {
        self.best_loss
    }

    /// The number of epochs since the smallest loss.
    pub fn epochs_without_improvement(&self) -> usize {
        self.epochs_without_improvement
    }

    /// Records the loss of an epoch. If it is the smallest so far, also stores the weights.
    pub fn observe(&mut self, loss: f64, params: &[(String, Param)]) -> ControlFlow {
        if loss < self.best_loss {
            (self.best_loss, self.epochs_without_improvement) = (loss, 0);
            self.best_weights = params
                .iter()
                .map(|(name, p)| (name.clone(), p.value()))
                .collect();
        } else {
            self.epochs_without_improvement += 1;
        }
        if self.epochs_without_improvement >= self.patience.max(1) {
            ControlFlow::Stop
        } else {
            ControlFlow::Continue
        }
    }

    /// Sets the parameters to the best weights. Does nothing if no loss was recorded.
    pub fn restore_best_weights(&self, params: &[(String, Param)]) -> Result<()> {
        for (name, value) in &self.best_weights {
            if let Some((_, param)) = params.iter().find(|(other, _)| other == name) {
                param.set(value.clone())?;
            }
        }
        Ok(())
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.step == 0 {
            *self = EarlyStopping::new(self.patience); // nothing of an earlier training
        }
        Ok(())
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let Some(last) = context.history.last() else {
            return Ok(ControlFlow::Continue);
        };
        Ok(self.observe(last.monitored_loss(), context.params))
    }

    fn message(&self) -> Option<String> {
        let epochs = self.epochs_without_improvement;
        (epochs > 0).then(|| {
            format!(
                "no improvement for {epochs} of {} epochs",
                self.patience.max(1)
            )
        })
    }

    fn on_train_end(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.restore_best_weights(context.params)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let weights = self
            .best_weights
            .iter()
            .map(|(name, value)| (format!("weights.{name}"), value.clone()));
        [
            ("best".into(), self.best_loss.into()),
            (
                "waited".into(),
                (self.epochs_without_improvement as i64).into(),
            ),
        ]
        .into_iter()
        .chain(weights)
        .collect()
    }

    fn load_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        self.best_weights.clear();
        for (name, value) in state {
            match (name.as_str(), name.strip_prefix("weights.")) {
                ("best", _) => self.best_loss = value.scalar()?,
                ("waited", _) => self.epochs_without_improvement = value.scalar()? as usize,
                (_, Some(path)) => self.best_weights.push((path.into(), value)),
                _ => {
                    return Err(Error::invalid(format!(
                        "early stopping: unknown state entry {name:?}"
                    )));
                }
            }
        }
        Ok(())
    }
}
