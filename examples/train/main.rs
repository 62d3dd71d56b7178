//! Trains and uses small neural networks from the shell, on a CSV file or a directory of images:
//! `cargo run --release -p train --example train -- --help`.

mod commands;
mod options;
mod text;

use examples::terminal::{self, Ended};
use nn::Result;
use options::{Command, Options};
use std::process::ExitCode;

fn main() -> ExitCode {
    terminal::run(run)
}

fn run(options: &Options) -> Result<Ended> {
    match &options.command {
        None => commands::train::run(&options.train),
        Some(Command::Predict(predict)) => commands::predict::run(predict),
        Some(Command::Evaluate(evaluate)) => commands::evaluate::run(evaluate),
        Some(Command::Explain(explain)) => commands::explain::run(explain),
        Some(Command::Report(report)) => commands::report::run(report),
        Some(Command::Completions { shell }) => commands::shell::completions(*shell),
        Some(Command::Man) => commands::shell::man(),
    }
}
