//! Kernels: plain Rust over vectors, compiled for several instruction sets ([`arch`]), one of which is picked at run time.

#![allow(unsafe_code)] // vectors in memory, and instructions that not every processor has

mod arch;
pub(crate) mod flat;
mod functions;
pub(crate) mod fused;
mod rows;
mod steps;
pub(crate) mod tile;
mod vector;

pub(crate) use arch::Vectors;
