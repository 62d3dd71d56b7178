//! Training: the loop, what it measures, what can be hooked into it, and how it survives being stopped.

pub(crate) mod callback;
pub(crate) mod dry_run;
pub(crate) mod early_stopping;
pub(crate) mod evaluate;
pub(crate) mod history;
pub(crate) mod log;
pub(crate) mod progress;
pub(crate) mod state;
pub(crate) mod trainer;
