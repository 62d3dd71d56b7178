//! What the command lines of the examples share.

pub mod terminal;
