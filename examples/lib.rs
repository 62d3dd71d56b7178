//! An empty library: the examples are programs.
