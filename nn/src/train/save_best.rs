//! The best model so far, in a file.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    history::Epoch,
    monitor::Monitor,
};
use crate::{error::Result, files};
use autograd::Tensor;
use std::path::{Path, PathBuf};

/// Saves the model in a file each time that it is better than before, as [`save`](crate::save) does:
/// whatever happens later, the best one is there.
///
/// ```
/// # use autograd::Tensor;
/// # let inputs = Tensor::full([30, 4], 0.5f32)?;
/// # let train = nn::Dataset::new(inputs, vec![1i64; 30].into())?;
/// # let directory = tempfile::tempdir()?;
/// # let file = directory.path().join("best.safetensors");
/// use nn::{Activation, Monitor, SaveBest, Sgd, Trainer};
/// let model = nn::mlp(&[4, 3], Activation::Relu, 1);
/// let best = SaveBest::new(&file).monitor(Monitor::largest(|epoch| epoch.train.accuracy));
/// Trainer::new(&model, Sgd::new(0.1)).epochs(3).callback(best).quiet().fit(&train)?;
/// nn::load(&model, &file)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SaveBest {
    path: PathBuf,
    monitor: Monitor,
}

impl SaveBest {
    /// By the validation loss, or the training loss if there is no validation data.
    pub fn new(path: impl AsRef<Path>) -> SaveBest {
        SaveBest {
            path: path.as_ref().into(),
            monitor: Monitor::default(),
        }
    }

    /// By another value.
    pub fn monitor(mut self, monitor: Monitor) -> SaveBest {
        self.monitor = monitor;
        self
    }
}

impl Callback for SaveBest {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.step == 0 {
            self.monitor.set_best(None);
        }
        match context.rank {
            0 => files::check_writable(&self.path),
            _ => Ok(()),
        }
    }

    fn on_evaluation(
        &mut self,
        context: &CallbackContext<'_>,
        epoch: &Epoch,
    ) -> Result<ControlFlow> {
        let value = self.monitor.value(epoch);
        let is_better = value.is_some_and(|value| self.monitor.improves(value));
        if is_better && context.rank == 0 {
            context.weights().save(&self.path)?;
        }
        Ok(ControlFlow::Continue)
    }

    fn state(&self) -> Vec<(String, Tensor)> {
        let best = self.monitor.best().unwrap_or(f64::NAN);
        vec![("best".into(), best.into())]
    }

    fn load_state(&mut self, state: Vec<(String, Tensor)>) -> Result<()> {
        for (_, best) in state {
            self.monitor
                .set_best(Some(best.scalar()?).filter(|best| !best.is_nan()));
        }
        Ok(())
    }
}
