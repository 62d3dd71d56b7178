//! Compares runs.

use crate::options::Report;
use examples::terminal::{Ended, say};
use nn::Result;

pub(crate) fn run(options: &Report) -> Result<Ended> {
    nn_report::compare(&options.logs, &options.output)?;
    say(&format!("wrote {}", options.output.display())).map(|()| Ended::Finished)
}
