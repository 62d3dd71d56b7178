//! The training loop, evaluation, callbacks and checkpoints.

mod begin;
pub(crate) mod callback;
mod checks;
pub(crate) mod dry_run;
pub(crate) mod early_stopping;
pub(crate) mod evaluate;
pub(crate) mod gradient_sum;
pub(crate) mod history;
pub(crate) mod logger;
pub(crate) mod monitor;
mod prefetch;
pub(crate) mod progress;
mod run;
pub(crate) mod save_best;
pub(crate) mod state;
mod step;
pub(crate) mod trainer;
pub(crate) mod validation;
