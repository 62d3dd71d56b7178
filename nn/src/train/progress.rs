//! Progress output: a progress bar on terminals, and one line of text per epoch.

use crate::train::history::Epoch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use std::{
    fmt,
    io::{self, IsTerminal, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

/// The progress output of one training.
pub(crate) struct Progress {
    bar: ProgressBar,
    quiet: bool,
    began: Arc<Mutex<Began>>,
    /// What callbacks said after the last epoch, such as how long nothing has improved.
    messages: Mutex<String>,
}

/// Where this many columns are, there is room for everything.
const MOST_COLUMNS: u16 = 100;

/// What is shown in a terminal of so many columns: from 40 on, progress and loss have room. The message
/// is cut to what is left. Colours are left out where they are not wanted (`NO_COLOR`) or not seen.
fn template(columns: u16) -> &'static str {
    match columns {
        MOST_COLUMNS.. => {
            "{prefix} [{bar:30.cyan}] {pos}/{len} batches, {rate}, {left} left, {wide_msg}"
        }
        60.. => "{prefix} [{bar:12.cyan}] {percent}%, {left} left, {wide_msg}",
        _ => "{prefix} {percent}% {wide_msg}",
    }
}

/// When this process began with the epoch, and the steps that were done before, perhaps by another
/// process: they say nothing about the speed.
#[derive(Clone, Copy)]
struct Began {
    at: Instant,
    done: u64,
}

impl Began {
    /// Steps per second, when so many are done in all; 0 before the first one.
    fn rate(self, position: u64) -> f64 {
        let seconds = self.at.elapsed().as_secs_f64();
        position.saturating_sub(self.done) as f64 / seconds.max(1e-9)
    }
}

impl Progress {
    pub(crate) fn new(quiet: bool) -> Progress {
        let bar = match !quiet && std::io::stderr().is_terminal() {
            true => ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(10)),
            false => ProgressBar::hidden(),
        };
        let began = Arc::new(Mutex::new(Began {
            at: Instant::now(),
            done: 0,
        }));
        let columns = console::Term::stderr().size_checked();
        let columns = columns.map_or(MOST_COLUMNS, |(_, columns)| columns);
        if let Ok(style) = ProgressStyle::with_template(template(columns)) {
            let known =
                |began: &Mutex<Began>| *began.lock().unwrap_or_else(PoisonError::into_inner);
            // a failed write only affects the display
            let of_rate = began.clone();
            let rate = move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let _ = write!(out, "{:.0}/s", known(&of_rate).rate(state.pos()));
            };
            let of_left = began.clone();
            let left = move |state: &ProgressState, out: &mut dyn fmt::Write| {
                let steps = state.len().unwrap_or(0).saturating_sub(state.pos());
                let _ = match known(&of_left).rate(state.pos()) {
                    0.0 => write!(out, "?"),
                    rate => write!(out, "{:.0} s", steps as f64 / rate),
                };
            };
            let style = style.with_key("rate", rate).with_key("left", left);
            bar.set_style(style.progress_chars("=> "));
        }
        Progress {
            bar,
            quiet,
            began,
            messages: Mutex::default(),
        }
    }

    pub(crate) fn start_epoch(&self, epoch: usize, epochs: usize, steps: usize, done: usize) {
        self.bar.reset();
        self.bar.set_length(steps as u64);
        self.bar.set_position(done as u64);
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Began {
            at: Instant::now(),
            done: done as u64,
        };
        self.bar.set_prefix(format!("epoch {epoch}/{epochs}"));
    }

    pub(crate) fn step(&self, metrics: impl FnOnce() -> String) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
            self.bar.set_message(format!("{}{messages}", metrics()));
        }
    }

    /// The results of a validation within an epoch.
    pub(crate) fn within_epoch(&self, epoch: &Epoch, step: usize) {
        if !self.quiet {
            let print = || writeln!(io::stdout(), "{epoch} | after {step} batches");
            let _ = self.bar.suspend(print);
        }
    }

    pub(crate) fn end_epoch(&self, epoch: &Epoch, messages: &str) {
        *self.messages.lock().unwrap_or_else(PoisonError::into_inner) = messages.into();
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

#[test]
fn what_was_done_before_a_resume_does_not_count_as_speed() {
    let at = Instant::now() - std::time::Duration::from_secs(2);
    let rate = Began { at, done: 1000 }.rate(1010);
    assert!((4.0..=5.0).contains(&rate), "{rate}");
    assert_eq!(Began { at, done: 1000 }.rate(1000), 0.0);
}

#[test]
fn the_bar_fits_into_its_terminal() {
    // what surrounds the message, with numbers as long as they usually get
    for columns in [40, 59, 60, 99, 100, 200] {
        let shown = template(columns)
            .replace("{prefix}", "epoch 100/200")
            .replace("{bar:30.cyan}", &"=".repeat(30))
            .replace("{bar:12.cyan}", &"=".repeat(12))
            .replace("{percent}", "100")
            .replace("{pos}/{len}", "1000/1000")
            .replace("{rate}", "1000/s")
            .replace("{left}", "100 s")
            .replace("{wide_msg}", "");
        let left = usize::from(columns).saturating_sub(shown.len());
        assert!(left >= "loss 0.1234".len(), "{columns}: {shown}");
        assert!(ProgressStyle::with_template(template(columns)).is_ok());
    }
}
