//! Any processor: one number at a time, and as little code as there can be. Without fused
//! multiply-adds, each of them is a call, so that the functions gain nothing from vectors; matrix
//! products are a library's.

use super::compiled;

pub(super) type F32 = f32;
pub(super) type F64 = f64;

compiled! {
    #[inline(never)]
    F32 of f32: functions scalar, tiles []
}
compiled! {
    #[inline(never)]
    F64 of f64: functions scalar, tiles []
}
