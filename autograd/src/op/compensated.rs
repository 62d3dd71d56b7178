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
    /// How many numbers a sum is.
    const TERMS: usize;

    /// Numbers as sums.
    fn sums(numbers: &mut [f64]) -> &mut [Self::Sum];

    /// Adds a term.
    fn accumulate(sum: &mut Self::Sum, x: Self);

    /// The sum, rounded.
    fn total(sum: Self::Sum) -> Self;

    /// The same for each of them.
    fn totals(sums: &[Self::Sum], to: &mut [Self]) {
        let pairs = to.iter_mut().zip(sums);
        pairs.for_each(|(to, sum)| *to = Self::total(*sum));
    }
}

impl Accumulate for f32 {
    type Sum = f64;
    const TERMS: usize = 1;

    fn sums(numbers: &mut [f64]) -> &mut [f64] {
        numbers
    }

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
    const TERMS: usize = 2;

    fn sums(numbers: &mut [f64]) -> &mut [[f64; 2]] {
        numbers.as_chunks_mut().0
    }

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
