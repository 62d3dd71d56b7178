//! The scalar functions behind the elementwise ops: one algorithm per function, used by definition and kernels alike.

use crate::tensor::Element;
use std::{
    f64::consts::FRAC_1_SQRT_2,
    ops::{Add, Div, DivAssign, Mul, Neg, Sub},
};

/// `f32` and `f64`.
pub trait Real:
    Element
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + DivAssign
{
    /// The nearest value of this type.
    fn of(v: f64) -> Self;
    /// The value as `f64`, exactly.
    fn to_f64(self) -> f64;
    /// `|x|`
    fn abs(self) -> Self;
    /// `eˣ`
    fn exp(self) -> Self;
    /// `eˣ - 1`, exact near 0
    fn exp_m1(self) -> Self;
    /// `ln x`
    fn ln(self) -> Self;
    /// `ln(1 + x)`, exact near 0
    fn ln_1p(self) -> Self;
    /// `√x`
    fn sqrt(self) -> Self;
    /// `sin x`
    fn sin(self) -> Self;
    /// `cos x`
    fn cos(self) -> Self;
    /// `tanh x`
    fn tanh(self) -> Self;
    /// `xᵖ`
    fn powf(self, p: Self) -> Self;
    /// The error function, `2/√π ∫₀ˣ e^(-t²) dt`
    fn erf(self) -> Self;
    /// `1 - erf(x)`, exact where it is small
    fn erfc(self) -> Self;
    /// `self * a + b`, rounded once
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Whether it is not a number.
    fn is_nan(self) -> bool;

    /// -1, 0 or 1; NaN stays NaN
    fn sign(self) -> Self {
        if self > Self::default() {
            Self::of(1.0)
        } else if self < Self::default() {
            Self::of(-1.0)
        } else {
            self
        }
    }

    /// `1 / (1 + e⁻ˣ)`; small values stay exact and nothing overflows
    fn sigmoid(self) -> Self {
        let e = (-self.abs()).exp();
        let big = Self::of(1.0) / (Self::of(1.0) + e);
        if self < Self::default() { e * big } else { big }
    }

    /// `max(x, 0)`; NaN stays NaN
    fn relu(self) -> Self {
        if self <= Self::default() { Self::default() } else { self }
    }

    /// `x` above 0, `slope·x` elsewhere
    fn leaky_relu(self, slope: Self) -> Self {
        if self > Self::default() { self } else { slope * self }
    }

    /// `ln(1 + eˣ)`; does not overflow, and small values stay exact
    fn softplus(self) -> Self {
        self.relu() + (-self.abs()).exp().ln_1p()
    }

    /// `x·Φ(x)`, where `Φ` is the distribution function of the standard normal
    fn gelu(self) -> Self {
        self * Self::of(0.5) * (-self * Self::of(FRAC_1_SQRT_2)).erfc()
    }

    /// The nearest number that is at least `low` and at most `high`; NaN stays NaN
    fn clamp(self, low: Self, high: Self) -> Self {
        self.maximum(low).minimum(high)
    }

    /// The larger one; NaN if either is
    fn maximum(self, other: Self) -> Self {
        if self > other || self.is_nan() { self } else { other }
    }

    /// The smaller one; NaN if either is
    fn minimum(self, other: Self) -> Self {
        if self < other || self.is_nan() { self } else { other }
    }

    /// `xⁿ` by repeated squaring, the same products in the same order everywhere; `x⁰` is 1
    fn powi(self, n: i32) -> Self {
        let (mut base, mut rest, mut power) = (self, n.unsigned_abs(), Self::of(1.0));
        while rest > 0 {
            if rest & 1 == 1 {
                power = power * base;
            }
            rest >>= 1;
            if rest > 0 {
                base = base * base;
            }
        }
        if n < 0 { Self::of(1.0) / power } else { power }
    }
}

macro_rules! real {
    ($($T:ident $erf:ident $erfc:ident;)*) => { $(
        impl Real for $T {
            fn of(v: f64) -> $T { v as $T }
            fn to_f64(self) -> f64 { self as f64 }
            fn abs(self) -> $T { $T::abs(self) }
            fn exp(self) -> $T { $T::exp(self) }
            fn exp_m1(self) -> $T { $T::exp_m1(self) }
            fn ln(self) -> $T { $T::ln(self) }
            fn ln_1p(self) -> $T { $T::ln_1p(self) }
            fn sqrt(self) -> $T { $T::sqrt(self) }
            fn sin(self) -> $T { $T::sin(self) }
            fn cos(self) -> $T { $T::cos(self) }
            fn tanh(self) -> $T { $T::tanh(self) }
            fn powf(self, p: $T) -> $T { $T::powf(self, p) }
            fn erf(self) -> $T { libm::$erf(self) }
            fn erfc(self) -> $T { libm::$erfc(self) }
            fn mul_add(self, a: $T, b: $T) -> $T { $T::mul_add(self, a, b) }
            fn is_nan(self) -> bool { $T::is_nan(self) }
        }
    )* };
}
real! { f32 erff erfcf; f64 erf erfc; }
