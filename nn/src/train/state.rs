//! Checkpoints of a training: parameters, optimizer state, cursor, metrics and callback state in
//! one file. The data order and all random numbers are derived from the seed and the cursor, so
//! they need not be stored.

use super::{
    callback::Callback,
    evaluate::{Meter, Metrics},
    history::{Epoch, History},
};
use crate::{
    error::{Error, Result},
    io,
};
use autograd::{Param, Tensor};
use std::{collections::HashMap, path::Path, time::Duration};

/// How far the training has come.
#[derive(Default)]
pub(super) struct Cursor {
    /// The completed epochs.
    pub(super) history: History,
    /// The number of completed steps in the current epoch.
    pub(super) step: usize,
    /// The metrics of the current epoch so far.
    pub(super) meter: Meter,
    /// Whether a callback has stopped the training.
    pub(super) finished: bool,
}

/// The parts of a checkpoint that exist for the whole training.
pub(super) struct TrainingState<'s> {
    pub(super) model: &'s [(String, Param)],
    pub(super) optimizer: &'s [(String, Param)],
    /// Seed, batch size and number of samples. They must be equal when a training is resumed.
    pub(super) settings: [i64; 3],
}

impl TrainingState<'_> {
    pub(super) fn save(
        &self,
        path: &Path,
        cursor: &Cursor,
        callbacks: &[Box<dyn Callback + '_>],
    ) -> Result<()> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut add = |prefix: &str, name: &str, value: Tensor| {
            tensors.push((format!("{prefix}.{name}"), value))
        };
        self.model
            .iter()
            .for_each(|(name, p)| add("model", name, p.value()));
        self.optimizer
            .iter()
            .for_each(|(name, p)| add("optimizer", name, p.value()));
        for (k, callback) in callbacks.iter().enumerate() {
            callback
                .state()
                .into_iter()
                .for_each(|(name, value)| add(&format!("callback{k}"), &name, value));
        }
        add("trainer", "settings", Tensor::from(self.settings));
        add(
            "trainer",
            "position",
            Tensor::from([cursor.step as i64, cursor.finished.into()]),
        );
        add("trainer", "meter", Tensor::from(cursor.meter.to_array()));
        let history: Vec<f64> = cursor.history.iter().flat_map(epoch_to_array).collect();
        add(
            "trainer",
            "history",
            Tensor::new([cursor.history.len(), 6], history)?,
        );
        io::write_tensors(path, &tensors)
    }

    /// Loads a checkpoint into the model, the optimizer and the callbacks.
    pub(super) fn load(
        &self,
        path: &Path,
        callbacks: &mut [Box<dyn Callback + '_>],
    ) -> Result<Cursor> {
        let mut sections: HashMap<String, HashMap<String, Tensor>> = HashMap::new();
        for (name, value) in io::read_tensors(path)? {
            let (section, rest) = name.split_once('.').unwrap_or(("", &name));
            sections
                .entry(section.into())
                .or_default()
                .insert(rest.into(), value);
        }
        let mismatch = |message: &str| {
            Error::file(
                path,
                format!("is not a checkpoint of this training: {message}"),
            )
        };
        let mut trainer = sections
            .remove("trainer")
            .ok_or_else(|| mismatch("it has no section \"trainer\""))?;
        let mut take = |name: &str| {
            trainer
                .remove(name)
                .ok_or_else(|| mismatch(&format!("it has no entry \"trainer.{name}\"")))
        };
        if take("settings")?.as_slice::<i64>()? != self.settings {
            return Err(mismatch(
                "the seed, the batch size or the number of samples differs",
            ));
        }
        let (position, meter, history) = (take("position")?, take("meter")?, take("history")?);
        let damaged = |name: &str| mismatch(&format!("\"trainer.{name}\" is damaged"));
        let (step, finished) = match *position.as_slice::<i64>()? {
            [step, finished] => (
                usize::try_from(step).map_err(|_| damaged("position"))?,
                finished,
            ),
            _ => return Err(damaged("position")),
        };
        let meter = Meter::from_slice(meter.as_slice()?).ok_or_else(|| damaged("meter"))?;
        let history = history
            .as_slice::<f64>()?
            .chunks_exact(6)
            .map(epoch_from_slice)
            .collect();
        io::set(
            self.model,
            &mut sections.remove("model").unwrap_or_default(),
            path,
        )?;
        io::set(
            self.optimizer,
            &mut sections.remove("optimizer").unwrap_or_default(),
            path,
        )?;
        for (k, callback) in callbacks.iter_mut().enumerate() {
            callback.load_state(
                sections
                    .remove(&format!("callback{k}"))
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
            )?;
        }
        Ok(Cursor {
            history,
            step,
            meter,
            finished: finished != 0,
        })
    }
}

/// The metrics of an epoch as numbers; NaN stands for a missing metric.
fn epoch_to_array(epoch: &Epoch) -> [f64; 6] {
    let missing = Metrics {
        loss: f64::NAN,
        accuracy: None,
    };
    let validation = epoch.validation.unwrap_or(missing);
    let accuracy = |m: &Metrics| m.accuracy.unwrap_or(f64::NAN);
    let seconds = epoch.time.as_secs_f64();
    [
        epoch.number as f64,
        epoch.train.loss,
        accuracy(&epoch.train),
        validation.loss,
        accuracy(&validation),
        seconds,
    ]
}

/// The inverse of [`epoch_to_array`].
fn epoch_from_slice(values: &[f64]) -> Epoch {
    let present = |v: f64| Some(v).filter(|v| !v.is_nan());
    let metrics = |loss: f64, accuracy: f64| Metrics {
        loss,
        accuracy: present(accuracy),
    };
    Epoch {
        number: values[0] as usize,
        train: metrics(values[1], values[2]),
        validation: present(values[3]).map(|loss| metrics(loss, values[4])),
        time: Duration::try_from_secs_f64(values[5]).unwrap_or_default(),
        gradients: None,
    }
}
