//! Learning-rate schedules: which multiple of the optimizer's rate to use, by the share of the training that is done.
//!
//! A schedule is any function from progress (0 at the first step, towards 1 at the last) to a factor.

/// The same rate from first to last.
pub fn constant(_progress: f64) -> f64 {
    1.0
}

/// Falls in a straight line to 0.
pub fn linear(progress: f64) -> f64 {
    1.0 - progress
}

/// Falls to 0 along half a cosine: slowly at both ends.
pub fn cosine(progress: f64) -> f64 {
    0.5 + 0.5 * (std::f64::consts::PI * progress).cos()
}
