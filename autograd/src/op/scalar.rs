//! [`Real`]: the scalar types that an elementwise op is generic over.

use crate::{math::Float, tensor::Element};
use std::ops::DivAssign;

/// `f32` and `f64`, with the functions of [`Lanes`](crate::Lanes).
pub trait Real: Element + Float + DivAssign {
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// Whether it is NaN.
    fn is_nan(self) -> bool;
}

macro_rules! real {
    ($($T:ident)*) => { $(
        impl Real for $T {
            fn to_f64(self) -> f64 { self.into() }
            fn is_nan(self) -> bool { $T::is_nan(self) }
        }
    )* };
}
real! { f32 f64 }
