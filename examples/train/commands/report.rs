//! Compares runs.

use crate::options::Report;
use examples::terminal::Ended;
use nn::Result;

pub(crate) fn run(options: &Report) -> Result<Ended> {
    let _ = options;
    Ok(Ended::Finished)
}
