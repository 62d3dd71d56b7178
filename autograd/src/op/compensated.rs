//! Sums whose terms must be added one after the other, and whose rounding errors do not accumulate.
//!
//! Those of f32 are sums in f64, rounded at the end. Those of f64 are compensated (Kahan 1965): the
//! rounding error of each addition is added to the next term. The error of a sum of `n` terms is
//! then at most `2ε + O(nε²)` times the sum of their absolute values; a plain sum loses up to `nε`
//! (Higham, Accuracy and Stability of Numerical Algorithms, section 4.3).

use super::Real;

/// A number type and its sums. They begin with the default.
pub(crate) trait Accumulate: Real {
    type Sum: Copy + Default;

    /// Adds a term.
    fn accumulate(sum: &mut Self::Sum, x: Self);

    /// The sum, rounded.
    fn total(sum: Self::Sum) -> Self;
}

impl Accumulate for f32 {
    type Sum = f64;

    #[inline(always)]
    fn accumulate(sum: &mut f64, x: f32) {
        *sum += f64::from(x);
    }

    #[inline(always)]
    fn total(sum: f64) -> f32 {
        sum as f32
    }
}

impl Accumulate for f64 {
    /// The sum, and the rounding error of the last addition.
    type Sum = [f64; 2];

    #[inline(always)]
    fn accumulate([sum, compensation]: &mut [f64; 2], x: f64) {
        let x = x + *compensation;
        let new = *sum + x;
        let error = x - (new - *sum);
        *sum = new;
        // with infinities and NaN there is no rounding error, and the difference would be NaN
        *compensation = if error.is_finite() { error } else { 0.0 };
    }

    #[inline(always)]
    fn total([sum, _]: [f64; 2]) -> f64 {
        sum
    }
}
