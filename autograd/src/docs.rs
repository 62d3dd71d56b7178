//! Pages to read: tables of all operations and of what happens where functions are not smooth.

#[doc = include_str!("../docs/operations.md")]
pub mod operations {}

#[doc = include_str!("../docs/conventions.md")]
pub mod conventions {}
