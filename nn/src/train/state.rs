//! The whole state of a training in one file: parameters, buffers of the optimizer, position, what was measured, and what
//! callbacks remember. The order of the data and all random numbers follow from the seed and the position.

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

/// What a training needs to go on from where it was.
#[derive(Default)]
pub(super) struct Position {
    pub(super) history: History,
    /// The number of steps that have been done in the epoch after these.
    pub(super) step: usize,
    pub(super) meter: Meter,
    /// A callback has ended it.
    pub(super) finished: bool,
}

/// Everything that a state consists of.
pub(super) struct Whole<'s> {
    pub(super) model: &'s [(String, Param)],
    pub(super) optimizer: &'s [(String, Param)],
    /// Settings that must be the same: the seed, the batch size, the number of samples.
    pub(super) settings: [i64; 3],
}

impl Whole<'_> {
    pub(super) fn save(
        &self,
        path: &Path,
        position: &Position,
        callbacks: &[Box<dyn Callback + '_>],
    ) -> Result<()> {
        let mut all: Vec<(String, Tensor)> = Vec::new();
        let mut add =
            |prefix: &str, name: &str, value: Tensor| all.push((format!("{prefix}.{name}"), value));
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
            Tensor::from([position.step as i64, position.finished.into()]),
        );
        add("trainer", "meter", Tensor::from(position.meter.numbers()));
        let history: Vec<f64> = position.history.iter().flat_map(numbers).collect();
        add(
            "trainer",
            "history",
            Tensor::new([position.history.len(), 6], history)?,
        );
        io::write_tensors(path, &all)
    }

    /// Sets everything from a file; nothing is changed if it does not fit.
    pub(super) fn load(
        &self,
        path: &Path,
        callbacks: &mut [Box<dyn Callback + '_>],
    ) -> Result<Position> {
        let mut parts: HashMap<String, HashMap<String, Tensor>> = HashMap::new();
        for (name, value) in io::read_tensors(path)? {
            let (part, rest) = name.split_once('.').unwrap_or(("", &name));
            parts
                .entry(part.into())
                .or_default()
                .insert(rest.into(), value);
        }
        let wrong = |message: &str| {
            Error::file(
                path,
                format!("is not the state of this training: {message}"),
            )
        };
        let mut own = parts
            .remove("trainer")
            .ok_or_else(|| wrong("it has no position"))?;
        let mut take = |name: &str| {
            own.remove(name)
                .ok_or_else(|| wrong(&format!("it has no {name}")))
        };
        if take("settings")?.as_slice::<i64>()? != self.settings {
            return Err(wrong(
                "the seed, the batch size or the number of samples is another one",
            ));
        }
        let (position, meter, history) = (take("position")?, take("meter")?, take("history")?);
        let (step, finished) = match *position.as_slice::<i64>()? {
            [step, finished] => (
                usize::try_from(step).map_err(|_| wrong("its position is damaged"))?,
                finished,
            ),
            _ => return Err(wrong("its position is damaged")),
        };
        let meter =
            Meter::of(meter.as_slice()?).ok_or_else(|| wrong("what it measured is damaged"))?;
        let history = history
            .as_slice::<f64>()?
            .chunks_exact(6)
            .map(epoch)
            .collect();
        io::set(
            self.model,
            &mut parts.remove("model").unwrap_or_default(),
            path,
        )?;
        io::set(
            self.optimizer,
            &mut parts.remove("optimizer").unwrap_or_default(),
            path,
        )?;
        for (k, callback) in callbacks.iter_mut().enumerate() {
            callback.restore(
                parts
                    .remove(&format!("callback{k}"))
                    .unwrap_or_default()
                    .into_iter()
                    .collect(),
            )?;
        }
        Ok(Position {
            history,
            step,
            meter,
            finished: finished != 0,
        })
    }
}

/// An epoch as numbers; NaN for what was not measured.
fn numbers(epoch: &Epoch) -> [f64; 6] {
    let nothing = Metrics {
        loss: f64::NAN,
        accuracy: None,
    };
    let validation = epoch.validation.unwrap_or(nothing);
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

fn epoch(numbers: &[f64]) -> Epoch {
    let measured = |v: f64| Some(v).filter(|v| !v.is_nan());
    let metrics = |loss: f64, accuracy: f64| Metrics {
        loss,
        accuracy: measured(accuracy),
    };
    Epoch {
        number: numbers[0] as usize,
        train: metrics(numbers[1], numbers[2]),
        validation: measured(numbers[3]).map(|loss| metrics(loss, numbers[4])),
        time: Duration::try_from_secs_f64(numbers[5]).unwrap_or_default(),
        gradients: None,
    }
}
