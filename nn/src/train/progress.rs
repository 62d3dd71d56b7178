//! Progress output: a progress bar on terminals, and one line of text per epoch.

use crate::train::history::Epoch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

/// The progress output of one training.
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
            let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
                // a failed write only affects the display
                let _ = write!(out, "{:.0}/s", state.per_sec());
            };
            bar.set_style(style.with_key("rate", rate).progress_chars("=> "));
        }
        Progress { bar, quiet }
    }

    pub(crate) fn start_epoch(&self, epoch: usize, epochs: usize, steps: usize, done: usize) {
        self.bar.reset();
        self.bar.set_length(steps as u64);
        self.bar.set_position(done as u64);
        self.bar.reset_eta(); // what was done before a resume says nothing about the speed
        self.bar.set_prefix(format!("epoch {epoch}/{epochs}"));
    }

    pub(crate) fn step(&self, metrics: impl FnOnce() -> String) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            self.bar.set_message(metrics());
        }
    }

    pub(crate) fn end_epoch(&self, epoch: &Epoch, messages: &str) {
        if !self.quiet {
            let gradients = epoch
                .gradients
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            // nobody may be there to read it, which is no reason to end the training
            let print = || write!(io::stdout(), "{epoch}{messages}\n{gradients}");
            let _ = self.bar.suspend(print);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
