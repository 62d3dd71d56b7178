//! The examples are programs; this library is empty.
