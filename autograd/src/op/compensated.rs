//! Compensated sums (Kahan 1965), for those that have to be added one after the other: what each addition rounds away is
//! added to the next number. The error of `n` numbers is at most `2ε + O(nε²)` of what their absolute values add up to, where
//! a plain sum loses up to `nε` (Higham, Accuracy and Stability of Numerical Algorithms, section 4.3).

use super::Real;

/// Adds a number to a sum and what is still owed to it; both begin with 0.
#[inline(always)]
pub(crate) fn add<T: Real>(sum: &mut T, owed: &mut T, x: T) {
    let x = x + *owed;
    let new = *sum + x;
    let lost = x - (new - *sum);
    *sum = new;
    // next to infinities and NaN nothing was rounded away, and the difference is NaN
    *owed = if lost.to_f64().is_finite() {
        lost
    } else {
        T::default()
    };
}
