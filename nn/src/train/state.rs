//! Checkpoints of a training: parameters, optimizer state, cursor, metrics and callback state in
//! one file. The data order and all random numbers are derived from the seed and the cursor, so
//! they need not be stored.

use super::{
    callback::Callback,
    evaluate::{Meter, Metrics},
    history::Epoch,
};
use crate::{
    error::{Error, Result},
    io,
};
use autograd::{GradientReport, Param, Tensor};
use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

/// How far the training has come.
#[derive(Default)]
pub(super) struct Cursor {
    /// The completed epochs.
    pub(super) history: Vec<Epoch>,
    /// The number of completed steps in the current epoch.
    pub(super) step: usize,
    /// The metrics of the current epoch so far,
    pub(super) meter: Meter,
    /// gradient statistics of its steps in this process, and those of the last step,
    pub(super) gradients: Option<GradientReport>,
    pub(super) gradients_of_step: Option<GradientReport>,
    /// the learning rate of the last step,
    pub(super) learning_rate: Option<f64>,
    /// when it began, and the seconds that it took before the training was resumed.
    pub(super) started: Option<Instant>,
    pub(super) seconds: f64,
    /// Whether a callback has stopped the training.
    pub(super) finished: bool,
}

impl Cursor {
    /// How long the current epoch has taken.
    pub(super) fn time(&self) -> Duration {
        let before = Duration::try_from_secs_f64(self.seconds).unwrap_or_default();
        before + self.started.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

/// The parts of a checkpoint that exist for the whole training.
pub(super) struct TrainingState<'s> {
    pub(super) model: &'s [(String, Param)],
    pub(super) optimizer: &'s [(String, Param)],
    /// What must be equal when a training is resumed, each with its name. Not there without a
    /// checkpoint.
    pub(super) settings: Vec<(&'static str, String)>,
    /// The names of the metrics of one's own, of which each epoch has the values.
    pub(super) metrics: Vec<String>,
}

/// What a checkpoint contains, by the part of the training that it is for.
struct Contents<'p> {
    path: &'p Path,
    sections: HashMap<String, HashMap<String, Tensor>>,
    settings: io::Texts,
}

/// The sections of callbacks begin so.
const CALLBACK: &str = "callback ";

impl TrainingState<'_> {
    pub(super) fn save(
        &self,
        path: &Path,
        cursor: &Cursor,
        callbacks: &[Box<dyn Callback + '_>],
    ) -> Result<()> {
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        let mut add = |section: &str, name: &str, value: Tensor| {
            tensors.push((format!("{section}.{name}"), value))
        };
        let model = self.model.iter().map(|param| ("model", param));
        let optimizer = self.optimizer.iter().map(|param| ("optimizer", param));
        let all: Vec<(&str, &(String, Param))> = model.chain(optimizer).collect();
        let values = Param::values(all.iter().map(|(_, (_, param))| param));
        for ((section, (name, _)), value) in all.iter().zip(values) {
            add(section, name, value);
        }
        for (section, callback) in sections(callbacks).iter().zip(callbacks) {
            let state = callback.state().into_iter();
            state.for_each(|(name, value)| add(section, &name, value));
        }
        let position = [cursor.step as i64, cursor.finished.into()];
        add("trainer", "position", Tensor::from(position));
        add("trainer", "meter", Tensor::from(cursor.meter.to_array()));
        add("trainer", "seconds", cursor.time().as_secs_f64().into());
        let history: Vec<f64> = cursor.history.iter().flat_map(epoch_to_array).collect();
        let columns = COLUMNS + self.metrics.len();
        let history = Tensor::new([cursor.history.len(), columns], history)?;
        add("trainer", "history", history);
        let settings = self.settings.iter().cloned();
        let settings = settings.map(|(name, value)| (name.to_string(), value));
        io::write(path, &tensors, Some(settings.collect()))
    }

    /// Loads a checkpoint, the bytes of a file, into the model, the optimizer and the callbacks. If
    /// something does not fit, neither the model nor the optimizer is changed. A training epoch has so
    /// many steps.
    pub(super) fn load(
        &self,
        bytes: &[u8],
        path: &Path,
        callbacks: &mut [Box<dyn Callback + '_>],
        steps_per_epoch: usize,
    ) -> Result<Cursor> {
        let mut contents = Contents::read(bytes, path)?;
        self.check_settings(&contents)?;
        let cursor = contents.cursor(steps_per_epoch, &self.metrics)?;
        let mut section = |name: &str| contents.sections.remove(name).unwrap_or_default();
        let (mut model, mut optimizer) = (section("model"), section("optimizer"));
        io::check(self.model, &model, path)?;
        io::check(self.optimizer, &optimizer, path)?;
        let unsaid = self
            .settings
            .iter()
            .find(|(name, _)| !contents.settings.contains_key(*name));
        if let Some((name, _)) = unsaid {
            return Err(contents.mismatch(&format!("it does not say the {name}")));
        }
        contents.load_callbacks(callbacks)?;
        let model = io::values(self.model, &mut model);
        let optimizer = io::values(self.optimizer, &mut optimizer);
        Param::set_all(model.chain(optimizer))?;
        Ok(cursor)
    }

    fn check_settings(&self, contents: &Contents<'_>) -> Result<()> {
        for (name, value) in &self.settings {
            // what is not there at all is found when the rest is known to fit
            let saved = contents.settings.get(*name).unwrap_or(value);
            if saved == value {
                continue;
            }
            let (saved, value) = first_difference(saved, value).unwrap_or((saved, value));
            return Err(
                contents.mismatch(&format!("another {name}: {saved} in the file, {value} now"))
            );
        }
        Ok(())
    }
}

/// Of two texts, which may be long, the first lines that differ; an empty one where one text ends.
pub(super) fn first_difference<'t>(a: &'t str, b: &'t str) -> Option<(&'t str, &'t str)> {
    let mut lines = a.lines().chain([""]).zip(b.lines().chain([""]));
    let (a, b) = lines.find(|(a, b)| a != b)?;
    Some((a.trim(), b.trim()))
}

/// The sections of callbacks: by name, and by number if several have the same one.
fn sections(callbacks: &[Box<dyn Callback + '_>]) -> Vec<String> {
    let mut counts: HashMap<String, usize> = HashMap::new();
    let names = callbacks.iter().map(|callback| callback.name());
    // a section ends at the first dot
    names
        .map(|name| {
            let name = name.replace('.', "_");
            let count = counts.entry(name.clone()).or_default();
            *count += 1;
            match count {
                1 => format!("{CALLBACK}{name}"),
                n => format!("{CALLBACK}{name} {n}"),
            }
        })
        .collect()
}

impl<'p> Contents<'p> {
    fn read(bytes: &[u8], path: &'p Path) -> Result<Contents<'p>> {
        let mut contents = Contents {
            path,
            sections: HashMap::new(),
            settings: io::Texts::new(),
        };
        let (tensors, settings) = io::parse(bytes, path)?;
        for (name, value) in tensors {
            let (section, rest) = name.split_once('.').unwrap_or(("", &name));
            let section = contents.sections.entry(section.into()).or_default();
            section.insert(rest.into(), value);
        }
        contents.settings = settings;
        Ok(contents)
    }

    fn mismatch(&self, message: &str) -> Error {
        let message = format!("is not a checkpoint of this training: {message}");
        Error::file(self.path, message)
    }

    /// How far the training had come. All numbers are checked: a file may be damaged.
    fn cursor(&mut self, steps_per_epoch: usize, metrics: &[String]) -> Result<Cursor> {
        let mut trainer = self.sections.remove("trainer").unwrap_or_default();
        let mut take = |name: &str| {
            let entry = trainer.remove(name);
            entry.ok_or_else(|| self.mismatch(&format!("it has no entry \"trainer.{name}\"")))
        };
        let (position, meter, history) = (take("position")?, take("meter")?, take("history")?);
        let seconds = take("seconds")?;
        let damaged = |name: &str| self.mismatch(&format!("\"trainer.{name}\" is damaged"));
        let numbers = history.as_slice::<f64>().map_err(|_| damaged("history"))?;
        let columns = COLUMNS + metrics.len();
        if *history.shape() != [numbers.len() / columns, columns] {
            return Err(damaged("history"));
        }
        let epochs = numbers.chunks_exact(columns).enumerate();
        let epochs = epochs.map(|(k, numbers)| epoch_from_slice(k, numbers, metrics));
        let history: Option<Vec<Epoch>> = epochs.collect();
        let (step, finished) = match position.as_slice::<i64>() {
            Ok(&[step, finished @ (0 | 1)]) => (usize::try_from(step).ok(), finished == 1),
            _ => (None, false),
        };
        let meter = meter.as_slice().ok().and_then(Meter::from_slice);
        Ok(Cursor {
            history: history.ok_or_else(|| damaged("history"))?,
            step: step
                .filter(|&step| step <= steps_per_epoch)
                .ok_or_else(|| damaged("position"))?,
            meter: meter.ok_or_else(|| damaged("meter"))?,
            seconds: seconds
                .scalar()
                .ok()
                .filter(|&seconds| Duration::try_from_secs_f64(seconds).is_ok())
                .ok_or_else(|| damaged("seconds"))?,
            finished,
            ..Cursor::default()
        })
    }

    /// Gives each callback its state, which is found by the callback's name.
    fn load_callbacks(&mut self, callbacks: &mut [Box<dyn Callback + '_>]) -> Result<()> {
        let names = sections(callbacks);
        let unknown = self.sections.keys().filter(|s| s.starts_with(CALLBACK));
        if let Some(other) = unknown.filter(|s| !names.contains(s)).min() {
            return Err(self.mismatch(&format!("it has the state of a {other}")));
        }
        for (name, callback) in names.iter().zip(callbacks) {
            let state = self.sections.remove(name).unwrap_or_default();
            if state.is_empty() && !callback.state().is_empty() {
                return Err(self.mismatch(&format!("it has no state of the {name}")));
            }
            callback.load_state(state.into_iter().collect())?;
        }
        Ok(())
    }
}

/// The numbers of an epoch in the history, before the metrics of one's own.
const COLUMNS: usize = 8;

/// The metrics of an epoch as numbers; NaN stands for a missing metric.
fn epoch_to_array(epoch: &Epoch) -> Vec<f64> {
    let missing = Metrics {
        loss: f64::NAN,
        accuracy: None,
    };
    let validation = epoch.validation.unwrap_or(missing);
    let accuracy = |m: &Metrics| m.accuracy.unwrap_or(f64::NAN);
    let seconds = epoch.time.as_secs_f64();
    let own: [f64; COLUMNS] = [
        epoch.number as f64,
        epoch.train.loss,
        accuracy(&epoch.train),
        validation.loss,
        accuracy(&validation),
        f64::from(u8::from(epoch.is_evaluated)),
        epoch.learning_rate.unwrap_or(f64::NAN),
        seconds,
    ];
    let metrics = epoch.metrics.iter().map(|(_, value)| *value);
    own.into_iter().chain(metrics).collect()
}

/// The inverse of [`epoch_to_array`], for the epoch with this index; none if the numbers cannot be
/// its.
fn epoch_from_slice(index: usize, values: &[f64], metrics: &[String]) -> Option<Epoch> {
    let (own, others) = values.split_first_chunk::<COLUMNS>()?;
    let &[
        number,
        loss,
        accuracy,
        validation_loss,
        validation_accuracy,
        is_evaluated,
        learning_rate,
        seconds,
    ] = own;
    let others = metrics
        .iter()
        .cloned()
        .zip(others.iter().copied())
        .collect();
    let present = |v: f64| Some(v).filter(|v| !v.is_nan());
    let pair = |loss: f64, accuracy: f64| Metrics {
        loss,
        accuracy: present(accuracy),
    };
    (number == (index + 1) as f64).then_some(Epoch {
        number: index + 1,
        train: pair(loss, accuracy),
        validation: present(validation_loss).map(|loss| pair(loss, validation_accuracy)),
        is_evaluated: is_evaluated == 1.0,
        metrics: others,
        learning_rate: present(learning_rate),
        time: Duration::try_from_secs_f64(seconds).ok()?,
        gradients: None,
    })
}
