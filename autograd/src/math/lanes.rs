//! [`Lanes`]: the common interface of a scalar and a vector register, and the functions that every
//! elementwise op is made of.

use super::{Float, arithmetic, error_function, exponential, logarithm, trigonometric};
use std::ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub};

/// One boolean per lane.
#[doc(hidden)]
pub trait Mask: Copy + BitAnd<Output = Self> + BitOr<Output = Self> {
    /// Whether any lane is true.
    fn any(self) -> bool;
}

impl Mask for bool {
    fn any(self) -> bool {
        self
    }
}

/// One scalar (`f32`, `f64`) or a vector of lanes.
///
/// Every operation works on each lane independently and rounds once. The number of lanes never
/// changes a bit of the result.
pub trait Lanes:
    Copy
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// The type of one lane.
    type Elem: Float;
    #[doc(hidden)]
    type Mask: Mask;

    /// The same value in every lane.
    fn splat(v: Self::Elem) -> Self;
    /// `self * a + b`, rounded once.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// `|x|`
    fn abs(self) -> Self;
    /// `√x`
    fn sqrt(self) -> Self;
    /// `|x|` with the sign of `sign`.
    fn copysign(self, sign: Self) -> Self;
    /// The largest integer that is not above `x`
    fn floor(self) -> Self;
    /// The smallest integer that is not below `x`
    fn ceil(self) -> Self;
    /// The nearest integer; ties go to the even one
    fn round(self) -> Self;
    /// Calls `f` for each lane.
    fn map(self, f: fn(Self::Elem) -> Self::Elem) -> Self;
    /// Calls `f` once, to modify the lanes of `self` in place; `f` can read those of `other`.
    fn modify(self, other: Self, f: fn(&mut [Self::Elem], &[Self::Elem])) -> Self;
    #[doc(hidden)]
    fn lt_mask(self, other: Self) -> Self::Mask;
    #[doc(hidden)]
    fn le_mask(self, other: Self) -> Self::Mask;
    #[doc(hidden)]
    fn eq_mask(self, other: Self) -> Self::Mask;
    #[doc(hidden)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self;
    /// All bits set where true, none elsewhere: the form in which kernels store booleans in
    /// registers.
    #[doc(hidden)]
    fn from_mask(mask: Self::Mask) -> Self;
    #[doc(hidden)]
    fn to_mask(self) -> Self::Mask;
    /// The larger one; `self` if one is NaN.
    #[doc(hidden)]
    fn clamp_min(self, low: Self::Elem) -> Self;
    /// The smaller one; `self` if one is NaN.
    #[doc(hidden)]
    fn clamp_max(self, high: Self::Elem) -> Self;
    /// `self · 2ⁿ` for an integer `n`, rounded once. `self` is of moderate size, and `n` at most
    /// half as large again as the largest exponent.
    #[doc(hidden)]
    fn ldexp(self, n: Self) -> Self;
    /// `2ⁿ` for an integer `n` that is an exponent of a normal number.
    #[doc(hidden)]
    fn exp2_int(self) -> Self;
    /// `x = m·2ᵉ` with `m` from √½ to √2, for positive normal values.
    #[doc(hidden)]
    fn frexp(self) -> (Self, Self);
    /// Whether bit `n` of the representation is set.
    #[doc(hidden)]
    fn bit(self, n: u32) -> Self::Mask;

    /// The nearest value of this type.
    #[inline(always)]
    fn of(v: f64) -> Self {
        Self::splat(Self::Elem::nearest(v))
    }

    /// `eˣ`
    #[inline(always)]
    fn exp(self) -> Self {
        exponential::exp(self)
    }
    /// `eˣ - 1`, exact near 0
    #[inline(always)]
    fn exp_m1(self) -> Self {
        exponential::exp_m1(self)
    }
    /// `ln x`
    #[inline(always)]
    fn ln(self) -> Self {
        logarithm::ln(self)
    }
    /// `ln(1 + x)`, exact near 0
    #[inline(always)]
    fn ln_1p(self) -> Self {
        logarithm::ln_1p(self)
    }
    /// `sin x`
    #[inline(always)]
    fn sin(self) -> Self {
        trigonometric::sin(self)
    }
    /// `cos x`
    #[inline(always)]
    fn cos(self) -> Self {
        trigonometric::cos(self)
    }
    /// `tan x`
    #[inline(always)]
    fn tan(self) -> Self {
        trigonometric::tan(self)
    }
    /// The arcsine, from `-π/2` to `π/2`
    #[inline(always)]
    fn asin(self) -> Self {
        trigonometric::asin(self)
    }
    /// The arccosine, from 0 to `π`
    #[inline(always)]
    fn acos(self) -> Self {
        trigonometric::acos(self)
    }
    /// The arctangent, from `-π/2` to `π/2`
    #[inline(always)]
    fn atan(self) -> Self {
        trigonometric::atan(self)
    }
    /// `(eˣ - e⁻ˣ)/2`
    #[inline(always)]
    fn sinh(self) -> Self {
        exponential::sinh(self)
    }
    /// `(eˣ + e⁻ˣ)/2`
    #[inline(always)]
    fn cosh(self) -> Self {
        exponential::cosh(self)
    }
    /// The error function, `2/√π ∫₀ˣ e^(-t²) dt`
    #[inline(always)]
    fn erf(self) -> Self {
        error_function::erf(self)
    }
    /// `1 - erf(x)`, exact where it is small
    #[inline(always)]
    fn erfc(self) -> Self {
        error_function::erfc(self)
    }
    /// The angle, from `-π` to `π`, of the point `(x, self)`
    #[inline(always)]
    fn atan2(self, x: Self) -> Self {
        trigonometric::atan2(self, x)
    }
    /// `√(x² + y²)` without intermediate overflow
    #[inline(always)]
    fn hypot(self, y: Self) -> Self {
        arithmetic::hypot(self, y)
    }
    /// The remainder of `x/y` rounded towards zero, with the sign of `x`
    #[inline(always)]
    fn rem(self, y: Self) -> Self {
        arithmetic::rem(self, y)
    }
    /// `xᵖ`
    #[inline(always)]
    fn powf(self, p: Self) -> Self {
        logarithm::pow(self, p)
    }

    /// -1, 0 or 1; NaN stays NaN
    #[inline(always)]
    fn sign(self) -> Self {
        let zero = Self::of(0.0);
        Self::select(
            zero.lt_mask(self),
            Self::of(1.0),
            Self::select(self.lt_mask(zero), Self::of(-1.0), self),
        )
    }

    /// `σ(x) = 1 / (1 + e⁻ˣ)`; small results stay exact, and nothing overflows
    #[inline(always)]
    fn sigmoid(self) -> Self {
        self.sigmoid_of(self.sigmoid_tail())
    }
    /// `σ(-|x|)`: the smaller one of `σ(x)` and `1 - σ(x)`
    #[doc(hidden)]
    #[inline(always)]
    fn sigmoid_tail(self) -> Self {
        let e = exponential::exp_nonpositive(-self.abs());
        exponential::over_1_plus([e, Self::of(0.0)], e)
    }
    /// `σ(x)` from its tail
    #[doc(hidden)]
    #[inline(always)]
    fn sigmoid_of(self, tail: Self) -> Self {
        Self::select(self.lt_mask(Self::of(0.0)), tail, Self::of(1.0) - tail)
    }
    /// `y·(1 - y)` for `y = σ(x)`, from the tail
    #[doc(hidden)]
    #[inline(always)]
    fn sigmoid_slope_of(self, tail: Self) -> Self {
        tail * (Self::of(1.0) - tail)
    }

    /// `tanh x`
    #[inline(always)]
    fn tanh(self) -> Self {
        self.tanh_of(self.tanh_tail())
    }
    /// The smaller one of `tanh |x|` and `1 - tanh |x|`: the former up to [`TANH_HALF`]
    #[doc(hidden)]
    #[inline(always)]
    fn tanh_tail(self) -> Self {
        exponential::tanh_tail(self)
    }
    /// `tanh x` from its tail
    #[doc(hidden)]
    #[inline(always)]
    fn tanh_of(self, tail: Self) -> Self {
        let small = self.abs().le_mask(Self::of(TANH_HALF));
        Self::select(small, tail, Self::of(1.0) - tail).copysign(self)
    }
    /// `1 - y²` for `y = tanh x`, from the tail `t`, which is `|y|` or `1 - |y|`; in the second
    /// case `1 - y² = t·(2 - t)`
    #[doc(hidden)]
    #[inline(always)]
    fn tanh_slope_of(self, tail: Self) -> Self {
        let rest = tail * (Self::of(2.0) - tail);
        Self::select(tail.eq_mask(self.abs()), Self::of(1.0) - tail * tail, rest)
    }

    /// `x·σ(x)`; 0 at -∞
    #[inline(always)]
    fn silu(self) -> Self {
        exponential::silu(self)
    }

    /// `max(x, 0)`; NaN stays NaN
    #[inline(always)]
    fn relu(self) -> Self {
        let zero = Self::of(0.0);
        Self::select(self.le_mask(zero), zero, self)
    }

    /// `x` above 0, `slope·x` elsewhere
    #[inline(always)]
    fn leaky_relu(self, slope: Self) -> Self {
        Self::select(Self::of(0.0).lt_mask(self), self, slope * self)
    }

    /// `ln(1 + eˣ)`; does not overflow, and small results stay exact
    #[inline(always)]
    fn softplus(self) -> Self {
        self.relu() + exponential::exp_nonpositive(-self.abs()).ln_1p()
    }

    /// `x` above 0, `scale·(eˣ - 1)` elsewhere
    #[inline(always)]
    fn elu(self, scale: Self) -> Self {
        Self::select(Self::of(0.0).lt_mask(self), self, scale * self.exp_m1())
    }

    /// `x·σ(√(8/π)·(x + 0.044715·x³))`, the `tanh` approximation of [`gelu`](Lanes::gelu); 0 at -∞
    #[inline(always)]
    fn gelu_tanh(self) -> Self {
        exponential::gelu_tanh(self)
    }

    /// `x·Φ(x)`, where `Φ` is the cumulative distribution function of the standard normal; 0 at -∞
    #[inline(always)]
    fn gelu(self) -> Self {
        error_function::gelu(self)
    }

    /// The nearest value that is at least `low` and at most `high`; NaN stays NaN
    #[inline(always)]
    fn clamp(self, low: Self, high: Self) -> Self {
        self.maximum(low).minimum(high)
    }

    /// The larger one; NaN if either is
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        let use_other = self.eq_mask(self) & Self::not(other.lt_mask(self));
        Self::select(use_other, other, self)
    }

    /// The smaller one; NaN if either is
    #[inline(always)]
    fn minimum(self, other: Self) -> Self {
        let use_other = self.eq_mask(self) & Self::not(self.lt_mask(other));
        Self::select(use_other, other, self)
    }

    #[doc(hidden)]
    fn not(mask: Self::Mask) -> Self::Mask;

    /// `xⁿ` by repeated squaring, with the same products in the same order everywhere; `x⁰` is 1
    #[inline(always)]
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

/// The factors of [`Lanes::gelu_tanh`] (Hendrycks and Gimpel 2016): `√(8/π)`, and that of the cube.
pub(crate) const GELU_TWICE: f64 = 1.595_769_121_605_730_8;
pub(crate) const GELU_CUBE: f64 = 0.044715;
/// A little above `artanh ½`: the largest `x` for which [`Lanes::tanh_tail`] is `tanh x`. An f32
/// value, so that both float types use the same threshold.
pub(crate) const TANH_HALF: f64 = 0.549_306_154_251_098_6;
/// Replaces -∞ (and anything below this) where it is multiplied by 0.
pub(super) const LOWEST: f64 = -1e38;

/// A scalar as lanes.
macro_rules! scalar {
    ($T:ident $Int:ident, $mantissa:literal, $bias:literal, $root:literal) => {
        impl Lanes for $T {
            type Elem = $T;
            type Mask = bool;
            #[inline(always)]
            fn splat(v: $T) -> $T {
                v
            }
            #[inline(always)]
            fn mul_add(self, a: $T, b: $T) -> $T {
                $T::mul_add(self, a, b)
            }
            #[inline(always)]
            fn abs(self) -> $T {
                $T::abs(self)
            }
            #[inline(always)]
            fn sqrt(self) -> $T {
                $T::sqrt(self)
            }
            #[inline(always)]
            fn copysign(self, sign: $T) -> $T {
                $T::copysign(self, sign)
            }
            #[inline(always)]
            fn floor(self) -> $T {
                $T::floor(self)
            }
            #[inline(always)]
            fn ceil(self) -> $T {
                $T::ceil(self)
            }
            #[inline(always)]
            fn round(self) -> $T {
                $T::round_ties_even(self)
            }
            #[inline(always)]
            fn map(self, f: fn($T) -> $T) -> $T {
                f(self)
            }
            #[inline(always)]
            fn modify(self, other: $T, f: fn(&mut [$T], &[$T])) -> $T {
                let mut x = [self];
                f(&mut x, &[other]);
                x[0]
            }
            #[inline(always)]
            fn lt_mask(self, other: $T) -> bool {
                self < other
            }
            #[inline(always)]
            fn le_mask(self, other: $T) -> bool {
                self <= other
            }
            #[inline(always)]
            fn eq_mask(self, other: $T) -> bool {
                self == other
            }
            #[inline(always)]
            fn not(mask: bool) -> bool {
                !mask
            }
            #[inline(always)]
            fn select(mask: bool, yes: $T, no: $T) -> $T {
                // a branch would be mispredicted: signs of data are unpredictable
                std::hint::select_unpredictable(mask, yes, no)
            }
            #[inline(always)]
            fn from_mask(mask: bool) -> $T {
                $T::from_bits((mask as $Int).wrapping_neg() as _)
            }
            #[inline(always)]
            fn to_mask(self) -> bool {
                self.to_bits() != 0
            }
            #[inline(always)]
            fn clamp_min(self, low: $T) -> $T {
                if low > self { low } else { self }
            }
            #[inline(always)]
            fn clamp_max(self, high: $T) -> $T {
                if high < self { high } else { self }
            }
            /// In two steps, of which only the second may round.
            #[inline(always)]
            fn ldexp(self, n: $T) -> $T {
                let half = ((n as $Int) >> 1) as $T;
                self * half.exp2_int() * (n - half).exp2_int()
            }
            #[inline(always)]
            fn exp2_int(self) -> $T {
                $T::from_bits((((self as $Int) + $bias) << $mantissa) as _)
            }
            #[inline(always)]
            fn frexp(self) -> ($T, $T) {
                let bits = self.to_bits() as $Int;
                // undefined for other arguments
                let e = bits.wrapping_sub(($root as $T).to_bits() as $Int) >> $mantissa;
                (
                    $T::from_bits(bits.wrapping_sub(e << $mantissa) as _),
                    e as $T,
                )
            }
            #[inline(always)]
            fn bit(self, n: u32) -> bool {
                self.to_bits() >> n & 1 == 1
            }
        }
    };
}
scalar! { f32 i32, 23, 127, 0.707_106_77 }
scalar! { f64 i64, 52, 1023, 0.707_106_781_186_547_5 }

/// Four vectors. Each operation works on all four, so that dependent operations of different
/// vectors overlap.
#[derive(Clone, Copy)]
pub(crate) struct Wide<V>(pub(crate) [V; 4]);

/// One expression per vector. A macro, because closures would be compiled without the caller's
/// instruction set.
macro_rules! each {
    ($($v:ident = $from:expr),+ => $e:expr) => {
        [
            { $(let $v = $from[0];)+ $e },
            { $(let $v = $from[1];)+ $e },
            { $(let $v = $from[2];)+ $e },
            { $(let $v = $from[3];)+ $e },
        ]
    };
}

macro_rules! operators {
    ($($Trait:ident $f:ident)*) => { $(
        impl<V: Lanes> $Trait for Wide<V> {
            type Output = Wide<V>;
            #[inline(always)]
            fn $f(self, other: Wide<V>) -> Wide<V> {
                Wide(each!(a = self.0, b = other.0 => a.$f(b)))
            }
        }
    )* };
}
operators! { Add add Sub sub Mul mul Div div }

impl<V: Lanes> Neg for Wide<V> {
    type Output = Wide<V>;
    #[inline(always)]
    fn neg(self) -> Wide<V> {
        Wide(each!(a = self.0 => -a))
    }
}

/// The masks of four vectors.
#[derive(Clone, Copy)]
pub(crate) struct WideMask<M>([M; 4]);

macro_rules! mask_operators {
    ($($Trait:ident $f:ident)*) => { $(
        impl<M: Mask> $Trait for WideMask<M> {
            type Output = WideMask<M>;
            #[inline(always)]
            fn $f(self, other: WideMask<M>) -> WideMask<M> {
                WideMask(each!(a = self.0, b = other.0 => a.$f(b)))
            }
        }
    )* };
}
mask_operators! { BitAnd bitand BitOr bitor }

impl<M: Mask> Mask for WideMask<M> {
    #[inline(always)]
    fn any(self) -> bool {
        let [a, b, c, d] = self.0;
        (a | b | c | d).any()
    }
}

/// Methods that apply to each vector.
macro_rules! quarters {
    ($($name:ident($($x:ident),*) -> $Out:ident;)*) => { $(
        #[inline(always)]
        fn $name(self $(, $x: Self)*) -> quarters!(@ $Out) {
            $Out(each!(v = self.0 $(, $x = $x.0)* => v.$name($($x),*)))
        }
    )* };
    (@ Wide) => { Self };
    (@ WideMask) => { Self::Mask };
}

impl<V: Lanes> Lanes for Wide<V> {
    type Elem = V::Elem;
    type Mask = WideMask<V::Mask>;
    quarters! {
        mul_add(a, b) -> Wide;
        abs() -> Wide;
        sqrt() -> Wide;
        floor() -> Wide;
        ceil() -> Wide;
        round() -> Wide;
        copysign(sign) -> Wide;
        lt_mask(other) -> WideMask;
        le_mask(other) -> WideMask;
        eq_mask(other) -> WideMask;
        to_mask() -> WideMask;
        ldexp(n) -> Wide;
        exp2_int() -> Wide;
    }
    #[inline(always)]
    fn splat(v: V::Elem) -> Self {
        Wide([V::splat(v); 4])
    }
    #[inline(always)]
    fn map(self, f: fn(V::Elem) -> V::Elem) -> Self {
        Wide(each!(v = self.0 => v.map(f)))
    }
    #[inline(always)]
    fn modify(self, other: Self, f: fn(&mut [V::Elem], &[V::Elem])) -> Self {
        Wide(each!(a = self.0, b = other.0 => a.modify(b, f)))
    }
    #[inline(always)]
    fn not(mask: Self::Mask) -> Self::Mask {
        WideMask(each!(m = mask.0 => V::not(m)))
    }
    #[inline(always)]
    fn select(mask: Self::Mask, yes: Self, no: Self) -> Self {
        Wide(each!(m = mask.0, a = yes.0, b = no.0 => V::select(m, a, b)))
    }
    #[inline(always)]
    fn from_mask(mask: Self::Mask) -> Self {
        Wide(each!(m = mask.0 => V::from_mask(m)))
    }
    #[inline(always)]
    fn clamp_min(self, low: V::Elem) -> Self {
        Wide(each!(v = self.0 => v.clamp_min(low)))
    }
    #[inline(always)]
    fn clamp_max(self, high: V::Elem) -> Self {
        Wide(each!(v = self.0 => v.clamp_max(high)))
    }
    #[inline(always)]
    fn frexp(self) -> (Self, Self) {
        let [a, b, c, d] = each!(v = self.0 => v.frexp());
        (Wide([a.0, b.0, c.0, d.0]), Wide([a.1, b.1, c.1, d.1]))
    }
    #[inline(always)]
    fn bit(self, n: u32) -> Self::Mask {
        WideMask(each!(v = self.0 => v.bit(n)))
    }
}
