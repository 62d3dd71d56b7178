//! Kernels: plain Rust over vectors, compiled for several instruction sets ([`arch`]), one of which
//! is picked at run time.

#![allow(unsafe_code)] // vectors in memory, and instructions that not every processor has

mod arch;
mod caches;
mod columns;
mod custom;
mod fold;
mod functions;
pub(crate) mod fused;
mod lines;
mod matvec;
mod pack;
pub(crate) mod scalar;
mod steps;
pub(crate) mod tile;
mod vector;

pub(crate) use arch::Vectors;
