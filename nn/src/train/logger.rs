//! Logs the metrics of each epoch to a file.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    history::Epoch,
};
use crate::error::{Error, Result};
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

/// Logs the metrics of each epoch to a file, one line per epoch. The file belongs to one training: a
/// new training begins it anew, and a resumed one goes on after the epochs that its checkpoint has.
/// On a device or a pipe, all lines are written one after the other.
pub struct Logger {
    path: PathBuf,
    json: bool,
}

impl Logger {
    /// Comma-separated values, with a header line. A missing metric is an empty field.
    pub fn csv(path: impl AsRef<Path>) -> Logger {
        Logger {
            path: path.as_ref().into(),
            json: false,
        }
    }

    /// JSON Lines: one JSON object per line. A missing metric is `null`, as is one that is no number:
    /// JSON has no NaN.
    pub fn json_lines(path: impl AsRef<Path>) -> Logger {
        Logger {
            path: path.as_ref().into(),
            json: true,
        }
    }

    /// Keeps the lines of so many epochs, in whole lines; the others belong to another training, or
    /// to epochs that are trained once more.
    fn begin(&self, epochs: usize, metrics: &[String]) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return self.header(&mut file, metrics);
        }
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let lines = epochs + usize::from(!self.json);
        let ends = text.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let ends: Vec<usize> = ends.map(|(at, _)| at + 1).take(lines).collect();
        let kept = ends.last().filter(|_| epochs > 0).copied();
        file.set_len(kept.unwrap_or(0) as u64)?;
        match kept {
            Some(_) => Ok(()),
            None => self.header(&mut file, metrics),
        }
    }

    fn header(&self, file: &mut File, metrics: &[String]) -> std::io::Result<()> {
        match self.json {
            true => Ok(()),
            false => writeln!(file, "{}", columns(metrics.iter()).join(",")),
        }
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new().append(true).open(&self.path)?;
        writeln!(file, "{line}")
    }

    fn failed(&self, e: std::io::Error) -> Error {
        Error::file(&self.path, format!("cannot be written: {e}"))
    }
}

const COLUMNS: [&str; 7] = [
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "learning_rate",
    "seconds",
];

/// The names of the columns; a comma in the name of a metric would be one of the file.
fn columns<'n>(metrics: impl Iterator<Item = &'n String>) -> Vec<String> {
    let metrics = metrics.map(|name| format!("validation_{}", name.replace([',', '"', '\n'], "_")));
    let own = COLUMNS.iter().map(|name| name.to_string());
    own.chain(metrics).collect()
}

/// The values of the columns.
fn values(epoch: &Epoch) -> Vec<Option<f64>> {
    let own = [
        Some(epoch.number as f64),
        Some(epoch.train.loss),
        epoch.train.accuracy,
        epoch.validation.map(|v| v.loss),
        epoch.validation.and_then(|v| v.accuracy),
        epoch.learning_rate,
        Some(epoch.time.as_secs_f64()),
    ];
    let metrics = epoch.metrics.iter().map(|(_, value)| Some(*value));
    own.into_iter().chain(metrics).collect()
}

impl Callback for Logger {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        if context.rank != 0 {
            return Ok(());
        }
        self.begin(context.history.len(), context.metrics)
            .map_err(|e| self.failed(e))
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let Some(epoch) = context.history.last().filter(|_| context.rank == 0) else {
            return Ok(ControlFlow::Continue);
        };
        let text = |value: Option<f64>, missing: &str| {
            let value = value.filter(|v| v.is_finite() || !self.json);
            value.map_or(missing.into(), |v| v.to_string())
        };
        let values = values(epoch).into_iter();
        let line = match self.json {
            false => values.map(|v| text(v, "")).collect::<Vec<_>>().join(","),
            true => {
                let names = columns(epoch.metrics.iter().map(|(name, _)| name)).into_iter();
                let pair = |(name, v)| format!("\"{name}\":{}", text(v, "null"));
                let pairs: Vec<String> = names.zip(values).map(pair).collect();
                format!("{{{}}}", pairs.join(","))
            }
        };
        self.append(&line).map_err(|e| self.failed(e))?;
        Ok(ControlFlow::Continue)
    }
}
