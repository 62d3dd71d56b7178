//! The benchmarks are programs; this library is empty.
