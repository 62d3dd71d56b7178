//! Where a training is: a bar on a terminal, one plain line an epoch everywhere.

use crate::train::history::Epoch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{fmt::Write, io::IsTerminal};

/// Shows one training.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Progress {
        let bar = match !quiet && std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)),
            false => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template(
            "{prefix} [{bar:30}] {pos}/{len} batches, {rate}, {eta} left, {msg}",
        ) {
            let rate = |state: &ProgressState, out: &mut dyn Write| {
                let _ = write!(out, "{:.0}/s", state.per_sec()); // a display that fails shows nothing
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        Progress { bar, quiet }
    }

    pub(crate) fn start_epoch(&self, number: usize, of: usize, batches: usize, done: usize) {
        self.bar.reset();
        self.bar.set_length(batches as u64);
        self.bar.set_position(done as u64);
        self.bar.set_prefix(format!("epoch {number}/{of}"));
    }

    pub(crate) fn batch(&self, metrics: impl FnOnce() -> String) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            self.bar.set_message(metrics());
        }
    }

    pub(crate) fn end_epoch(&self, epoch: &Epoch, notes: &str) {
        if !self.quiet {
            let gradients = epoch
                .gradients
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            self.bar.suspend(|| print!("{epoch}{notes}\n{gradients}"));
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
