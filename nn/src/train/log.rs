//! Epochs written to a file as they end, a line each.

use super::{
    callback::{At, Callback, Next},
    history::Epoch,
};
use crate::error::{Error, Result};
use std::{
    fs::OpenOptions,
    io::Write,
    path::{Path, PathBuf},
};

/// Writes a line an epoch to a file, to which a resumed training goes on writing.
pub struct Log {
    path: PathBuf,
    json: bool,
}

impl Log {
    /// Comma-separated values, with a line of names at the top of a new file; what is not measured is left empty.
    pub fn csv(path: impl AsRef<Path>) -> Log {
        Log {
            path: path.as_ref().into(),
            json: false,
        }
    }

    /// A JSON object a line; what is not measured is null.
    pub fn json_lines(path: impl AsRef<Path>) -> Log {
        Log {
            path: path.as_ref().into(),
            json: true,
        }
    }

    fn append(&self, text: &str) -> std::io::Result<()> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)?;
        let is_new = file.metadata()?.len() == 0;
        if is_new && !self.json {
            let names: Vec<&str> = NAMES.to_vec();
            writeln!(file, "{}", names.join(","))?;
        }
        writeln!(file, "{text}")
    }
}

const NAMES: [&str; 6] = [
    "epoch",
    "loss",
    "accuracy",
    "validation_loss",
    "validation_accuracy",
    "seconds",
];

fn numbers(epoch: &Epoch) -> [Option<f64>; 6] {
    [
        Some(epoch.number as f64),
        Some(epoch.train.loss),
        epoch.train.accuracy,
        epoch.validation.map(|v| v.loss),
        epoch.validation.and_then(|v| v.accuracy),
        Some(epoch.time.as_secs_f64()),
    ]
}

impl Callback for Log {
    fn epoch(&mut self, at: &At<'_>) -> Result<Next> {
        let Some(epoch) = at.history.last() else {
            return Ok(Next::Continue);
        };
        let text = |v: Option<f64>, none: &str| v.map_or(none.to_string(), |v| v.to_string());
        let line = match self.json {
            false => numbers(epoch).map(|v| text(v, "")).join(","),
            true => {
                let pairs = NAMES
                    .iter()
                    .zip(numbers(epoch))
                    .map(|(name, v)| format!("\"{name}\":{}", text(v, "null")));
                format!("{{{}}}", pairs.collect::<Vec<_>>().join(","))
            }
        };
        self.append(&line)
            .map_err(|e| Error::file(&self.path, format!("cannot be written: {e}")))?;
        Ok(Next::Continue)
    }
}
