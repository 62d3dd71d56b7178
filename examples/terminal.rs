//! How the example programs meet a terminal: arguments, output, interrupts, exit statuses.

use clap::Parser;
use nn::{Error, Result};
use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

/// How a program ended, if not by an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// With all that it was to do.
    Finished,
    /// Early, by Ctrl-C or a request to terminate.
    Interrupted,
    /// At once: its arguments are wrong, which was said.
    Misused,
}

/// The exit status of a program that was interrupted: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

/// Parses the arguments, runs the program, prints its error, and gives its exit status: 0 for success,
/// 1 for an error, 2 for wrong arguments, 130 if it was interrupted.
pub fn run<P: Parser>(program: impl FnOnce(&P) -> Result<Ended>) -> ExitCode {
    exit(run_as(true, program), true)
}

/// Parses the arguments and runs the program as one of several processes that have the same arguments,
/// of which one speaks.
pub fn run_as<P: Parser>(speaks: bool, program: impl FnOnce(&P) -> Result<Ended>) -> Result<Ended> {
    match P::try_parse() {
        Ok(options) => program(&options),
        Err(e) if e.use_stderr() => {
            if speaks {
                complain(&one_line(&e.to_string()));
            }
            Ok(Ended::Misused)
        }
        Err(_) if !speaks => Ok(Ended::Finished),
        Err(help) => say(&help.to_string().trim_end()).map(|()| Ended::Finished),
    }
}

/// The exit status of a process, and its error if it speaks.
pub fn exit(result: Result<Ended>, speaks: bool) -> ExitCode {
    match result {
        Ok(Ended::Finished) => ExitCode::SUCCESS,
        Ok(Ended::Interrupted) => ExitCode::from(INTERRUPTED),
        Ok(Ended::Misused) => ExitCode::from(2),
        Err(e) => {
            if speaks {
                complain(&format!("error: {e}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// A flag that Ctrl-C sets, and the end of the process' terminal: the training ends after its step. A
/// second one ends the process at once.
pub fn flag_of_interrupts() -> Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    let set = Arc::clone(&flag);
    let handler = move || match set.swap(true, SeqCst) {
        false => complain("interrupted: the training ends after this step"),
        true => std::process::exit(INTERRUPTED.into()),
    };
    match ctrlc::set_handler(handler) {
        Ok(()) => Ok(flag),
        Err(e) => Err(Error::Invalid(format!("cannot wait for signals: {e}"))),
    }
}

/// Starts the thread pool, with one thread per core if `threads` is 0, and returns its number of
/// threads.
pub fn start_threads(threads: usize) -> Result<usize> {
    if threads > 1024 {
        let message = format!("expected at most 1024 threads, got {threads}");
        return Err(Error::Invalid(message));
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build_global();
    pool.map_err(|e| Error::Invalid(format!("cannot start {threads} threads: {e}")))?;
    Ok(rayon::current_num_threads())
}

/// Prints a line. That nobody reads on (`| head`) is no error.
pub fn say(line: &dyn Display) -> Result<()> {
    print(format!("{line}\n").as_bytes())
}

/// Writes bytes to standard output, as [`say`] does.
pub fn print(bytes: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(e) if e.kind() != ErrorKind::BrokenPipe => Err(Error::Invalid(format!(
            "cannot write to standard output: {e}"
        ))),
        _ => Ok(()),
    }
}

/// Prints a line to standard error, where a failure cannot be reported any more.
pub fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// An error message of the command-line parser as one line, without usage and hints.
fn one_line(message: &str) -> String {
    let lines = message
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with("For more information"));
    lines
        .take_while(|l| !l.starts_with("Usage:"))
        .collect::<Vec<_>>()
        .join(" ")
}

/// A number from 1 to a million, for an argument.
pub fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) if n > 1_000_000 => Err("must be at most 1000000".into()),
        Ok(n) => Ok(n),
        Err(_) => Err("is not a positive integer".into()),
    }
}

/// A number greater than 0, for an argument.
pub fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if v > 0.0 && v.is_finite() => Ok(v),
        _ => Err("must be a number greater than 0".into()),
    }
}

/// A number from 0 to less than 1, for an argument.
pub fn fraction(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(v) if (0.0..1.0).contains(&v) => Ok(v),
        _ => Err("must be a number from 0 to less than 1".into()),
    }
}
