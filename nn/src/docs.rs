//! Pages to read: how to serve a model, how to exchange weights and data with Python, and when to use
//! f64.

/// # Serving a model
#[doc = include_str!("../docs/serving.md")]
pub mod serving {}

/// # Saving, and sharing with Python
#[doc = include_str!("../docs/python.md")]
pub mod sharing_with_python {}

/// # f32 and f64
#[doc = include_str!("../docs/number_types.md")]
pub mod number_types {}
