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
    fn begin(&self, epochs: usize) -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .create(true)
            .append(true)
            .read(true)
            .open(&self.path)?;
        if !file.metadata()?.is_file() {
            return self.header(&mut file);
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
            None => self.header(&mut file),
        }
    }

    fn header(&self, file: &mut File) -> std::io::Result<()> {
        match self.json {
            true => Ok(()),
            false => writeln!(file, "{}", COLUMNS.join(",")),
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

const COLUMNS: [&str; 6] = [
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
];

/// The values of the columns.
fn values(epoch: &Epoch) -> [Option<f64>; 6] {
    [
        Some(epoch.number as f64),
        Some(epoch.train.loss),
        epoch.train.accuracy,
        epoch.validation.map(|v| v.loss),
        epoch.validation.and_then(|v| v.accuracy),
        Some(epoch.time.as_secs_f64()),
    ]
}

impl Callback for Logger {
    fn on_train_begin(&mut self, context: &CallbackContext<'_>) -> Result<()> {
        self.begin(context.history.len())
            .map_err(|e| self.failed(e))
    }

    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let Some(epoch) = context.history.last() else {
            return Ok(ControlFlow::Continue);
        };
        let text = |value: Option<f64>, missing: &str| {
            let value = value.filter(|v| v.is_finite() || !self.json);
            value.map_or(missing.into(), |v| v.to_string())
        };
        let line = match self.json {
            false => values(epoch).map(|v| text(v, "")).join(","),
            true => {
                let pairs = COLUMNS
                    .iter()
                    .zip(values(epoch))
                    .map(|(name, v)| format!("\"{name}\":{}", text(v, "null")));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
            }
        };
        self.append(&line).map_err(|e| self.failed(e))?;
        Ok(ControlFlow::Continue)
    }
}
