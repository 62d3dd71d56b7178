//! Logs the metrics of each epoch to a file.

use super::{
    callback::{Callback, CallbackContext, ControlFlow},
    history::Epoch,
};
use crate::error::{Error, Result};
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

/// Logs the metrics of each epoch to a file, one line per epoch. A resumed training appends to the
/// same file.
pub struct Logger {
    path: PathBuf,
    json: bool,
}

impl Logger {
    /// Comma-separated values. A new file starts with a header line. A missing metric is an empty
    /// field.
    pub fn csv(path: impl AsRef<Path>) -> Logger {
        Logger {
            path: path.as_ref().into(),
            json: false,
        }
    }

    /// JSON Lines: one JSON object per line. A missing metric is `null`.
    pub fn json_lines(path: impl AsRef<Path>) -> Logger {
        Logger {
            path: path.as_ref().into(),
            json: true,
        }
    }

    fn append(&self, line: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        let is_new = file.metadata()?.len() == 0;
        if is_new && !self.json {
            writeln!(file, "{}", COLUMNS.join(","))?;
        }
        writeln!(file, "{line}")
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
    fn on_epoch_end(&mut self, context: &CallbackContext<'_>) -> Result<ControlFlow> {
        let Some(epoch) = context.history.last() else {
            return Ok(ControlFlow::Continue);
        };
        let text =
            |value: Option<f64>, missing: &str| value.map_or(missing.into(), |v| v.to_string());
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
        self.append(&line)
            .map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))?;
        Ok(ControlFlow::Continue)
    }
}
