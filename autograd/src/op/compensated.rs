//! Compensated summation (Kahan 1965), for sums whose terms must be added one after the other: the
//! rounding error of each addition is added to the next term. The error of a sum of `n` terms is at
//! most `2ε + O(nε²)` times the sum of their absolute values; a plain sum loses up to `nε` (Higham,
//! Accuracy and Stability of Numerical Algorithms, section 4.3).

use super::Real;

/// Adds a term to a sum. `compensation` carries the rounding error; both begin with 0.
#[inline(always)]
pub(crate) fn add<T: Real>(sum: &mut T, compensation: &mut T, x: T) {
    let x = x + *compensation;
    let new = *sum + x;
    let error = x - (new - *sum);
    *sum = new;
    // with infinities and NaN there is no rounding error, and the difference would be NaN
    *compensation = if error.to_f64().is_finite() {
        error
    } else {
        T::default()
    };
}
