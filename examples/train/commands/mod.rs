//! What the program does: a module for each command.

pub(crate) mod evaluate;
pub(crate) mod explain;
pub(crate) mod predict;
pub(crate) mod report;
pub(crate) mod shell;
pub(crate) mod train;
