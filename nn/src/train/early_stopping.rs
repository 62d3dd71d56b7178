//! Early stopping.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    history::Epoch,
    monitor::Monitor,
};
use crate::{
    error::{Error, Result},
    weights::Weights,
};
use autograd::{Param, Tensor};

/// Stops the training when the loss, or what else is [watched](EarlyStopping::monitor), has not
/// improved for `patience` epochs (or [validations](crate::Validation)), and restores the best weights.
///
/// As a [`Callback`] it watches the validation loss, or the training loss if there is no validation
/// data. In a training loop of your own, call [`observe`](EarlyStopping::observe):
///
/// ```
/// use nn::{ControlFlow, EarlyStopping, Module};
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let mut stopping = EarlyStopping::new(2);
/// let params = model.parameters();
/// let decisions = [0.5, 0.4, 0.6, 0.45].map(|loss| stopping.observe(loss, &params));
/// assert_eq!(decisions[..3], [ControlFlow::Continue; 3]);
/// assert_eq!(decisions[3], ControlFlow::Stop);
/// assert_eq!((stopping.best(), stopping.epochs_without_improvement()), (Some(0.4), 2));
/// stopping.restore_best_weights(&params)?;
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Debug)]
pub struct EarlyStopping {
    patience: usize,
    monitor: Monitor,
    epochs_without_improvement: usize,
    best_weights: Vec<(String, Tensor)>,
}

impl EarlyStopping {
    /// `patience`: the number of epochs in a row without improvement after which the training stops,
    /// as in Keras and Lightning; at least 1.
    pub fn new(patience: usize) -> EarlyStopping {
        EarlyStopping {
            patience,
            monitor: Monitor::default(),
            epochs_without_improvement: 0,
            best_weights: Vec::new(),
        }
    }

    /// Watches another value, such as the accuracy, or lets only larger improvements count.
    pub fn monitor(mut self, monitor: Monitor) -> EarlyStopping {
        self.monitor = monitor;
        self
    }

    /// The best value so far: by default, the smallest loss.
    pub fn best(&self) -> Option<f64> {
        self.monitor.best()
    }

    /// The number of epochs since the best one.
    pub fn epochs_without_improvement(&self) -> usize {
        self.epochs_without_improvement
    }

    /// Records the loss of an epoch, or what else is watched. If it is the best so far, also stores the
    /// weights.
    pub fn observe(&mut self, value: f64, params: &[(String, Param)]) -> ControlFlow {
        self.observe_weights(value, || Weights::of_parameters(params))
    }

    fn observe_weights(&mut self, value: f64, weights: impl FnOnce() -> Weights) -> ControlFlow {
        if self.monitor.improves(value) {
            self.epochs_without_improvement = 0;
            let weights = weights();
            let entries = weights.iter();
            self.best_weights = entries.map(|(name, v)| (name.into(), v.clone())).collect();
        } else {
            self.epochs_without_improvement += 1;
        }
        if self.epochs_without_improvement >= self.patience.max(1) {
            ControlFlow::Stop
        } else {
            ControlFlow::Continue
        }
    }

    /// Sets the parameters to the best weights. Does nothing if there are none.
    pub fn restore_best_weights(&self, params: &[(String, Param)]) -> Result<()> {
        let best = self.best_weights.iter().filter_map(|(name, value)| {
            let (_, param) = params.iter().find(|(other, _)| other == name)?;
            Some((param, value))
        });
        Ok(Param::set_all(best)?)
    }
}

impl Callback for EarlyStopping {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.step == 0 {
            // nothing of an earlier training
            self.monitor.set_best(None);
            self.epochs_without_improvement = 0;
            self.best_weights.clear();
        }
        Ok(())
    }

    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        let value = self.monitor.value(epoch);
        Ok(value.map_or(ControlFlow::Continue, |value| {
            self.observe_weights(value, || context.weights())
        }))
    }

    fn message(&self) -> Option<String> {
        let (epochs, patience) = (self.epochs_without_improvement, self.patience.max(1));
        let best = self.best().map(|best| format!(", best {best:.4}"));
        let best = best.unwrap_or_default();
        (epochs > 0).then(|| format!("no improvement for {epochs} of {patience}{best}"))
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
            (
                "best".into(),
                self.monitor.best().unwrap_or(f64::NAN).into(),
            ),
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
                ("best", _) => {
                    let best = Some(value.scalar()?).filter(|best| !best.is_nan());
                    self.monitor.set_best(best);
                }
                ("waited", _) => self.epochs_without_improvement = value.scalar()? as usize,
                (_, Some(path)) => self.best_weights.push((path.into(), value)),
                _ => {
                    return Err(Error::invalid(format!(
                        "early stopping: unknown state entry `{name}`"
                    )));
                }
            }
        }
        Ok(())
    }
}
