//! Functions with about 30 digits, for a comparison: sums and products of numbers in two parts, and
//! series.

use std::{
    f64::consts::LN_2,
    ops::{Add, Div, Mul, Neg, Sub},
};

/// A number in two parts, of which the second is at most half an ulp of the first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pair(pub(crate) f64, pub(crate) f64);

/// `pair·2ⁿ`, which can be smaller and larger than any f64.
pub(crate) type Scaled = (Pair, i32);

const LN_2_PAIR: Pair = Pair(LN_2, 2.3190468138462996e-17);
const HALF_PI: Pair = Pair(std::f64::consts::FRAC_PI_2, 6.123233995736766e-17);
/// `2/√π`
const ERF_SLOPE: Pair = Pair(std::f64::consts::FRAC_2_SQRT_PI, 1.533545961316588e-17);
/// `1/√2`
const ROOT_OF_HALF: Pair = Pair(std::f64::consts::FRAC_1_SQRT_2, -4.833646656726457e-17);
/// `√(8/π)`
const ROOT_OF_8_OVER_PI: Pair = Pair(1.5957691216057308, -9.96930880911092e-17);
/// The binary digits of `2/π`, after 64 zeros.
const TWO_OVER_PI: [u64; 23] = [
    0,
    0xA2F9836E4E441529,
    0xFC2757D1F534DDC0,
    0xDB6295993C439041,
    0xFE5163ABDEBBC561,
    0xB7246E3A424DD2E0,
    0x06492EEA09D1921C,
    0xFE1DEB1CB129A73E,
    0xE88235F52EBB4484,
    0xE99C7026B45F7E41,
    0x3991D639835339F4,
    0x9C845F8BBDF9283B,
    0x1FF897FFDE05980F,
    0xEF2F118B5A0A6D1F,
    0x6D367ECF27CB09B7,
    0x4F463F669E5FEA2D,
    0x7527BAC7EBE5F17B,
    0x3D0739F78A5292EA,
    0x6BFB5FB11F8D5D08,
    0x56033046FC7B6BAB,
    0xF0CFBC209AF4361D,
    0xA9E391615EE61B08,
    0x6599855F14A06840,
];

/// Functions that are `x` next to 0 are not computed there: the second part would be below the
/// smallest number.
const TINY: f64 = 1e-100;

fn quick(a: f64, b: f64) -> Pair {
    let sum = a + b;
    Pair(sum, b - (sum - a))
}

fn sum(a: f64, b: f64) -> Pair {
    let sum = a + b;
    let part = sum - a;
    Pair(sum, (a - (sum - part)) + (b - part))
}

fn product(a: f64, b: f64) -> Pair {
    let product = a * b;
    Pair(product, a.mul_add(b, -product))
}

impl From<f64> for Pair {
    fn from(v: f64) -> Pair {
        Pair(v, 0.0)
    }
}

impl Neg for Pair {
    type Output = Pair;
    fn neg(self) -> Pair {
        Pair(-self.0, -self.1)
    }
}

impl<P: Into<Pair>> Add<P> for Pair {
    type Output = Pair;
    fn add(self, other: P) -> Pair {
        let other = other.into();
        let (a, b) = (sum(self.0, other.0), sum(self.1, other.1));
        let first = quick(a.0, a.1 + b.0);
        quick(first.0, first.1 + b.1)
    }
}

impl<P: Into<Pair>> Sub<P> for Pair {
    type Output = Pair;
    fn sub(self, other: P) -> Pair {
        self + -other.into()
    }
}

impl<P: Into<Pair>> Mul<P> for Pair {
    type Output = Pair;
    fn mul(self, other: P) -> Pair {
        let other = other.into();
        let p = product(self.0, other.0);
        quick(p.0, p.1 + self.0.mul_add(other.1, self.1 * other.0))
    }
}

impl<P: Into<Pair>> Div<P> for Pair {
    type Output = Pair;
    fn div(self, other: P) -> Pair {
        let other = other.into();
        let first = self.0 / other.0;
        let rest = self - other * first;
        let second = rest.0 / other.0;
        let third = (rest - other * second).0 / other.0;
        quick(first, second) + third
    }
}

impl Pair {
    fn sqrt(self) -> Pair {
        if self.0 <= 0.0 {
            return Pair(self.0.sqrt(), 0.0);
        }
        let root = self.0.sqrt();
        quick(root, (self - product(root, root)).0 / (2.0 * root))
    }
}

/// `2ⁿ`
fn power(n: i32) -> f64 {
    2f64.powi(n)
}

/// `v·2ⁿ`
pub(crate) fn scale(v: f64, n: i32) -> f64 {
    let half = n.clamp(-2200, 2200) / 3;
    v * power(half) * power(half) * power(n.clamp(-2200, 2200) - 2 * half)
}

/// `eˣ - 1 = 2ⁿ(1 + p) - 1`
fn expm1_parts(x: Pair) -> (Pair, i32) {
    let n = (x.0 / LN_2).round();
    let r = (x - LN_2_PAIR * n) * (1.0 / 256.0);
    let (mut sum, mut term) = (r, r);
    for k in 2..11 {
        term = term * r / f64::from(k);
        sum = sum + term;
    }
    for _ in 0..8 {
        sum = sum * 2.0 + sum * sum;
    }
    (sum, n as i32)
}

pub(crate) fn exp(x: Pair) -> Scaled {
    let (p, n) = expm1_parts(x);
    (p + 1.0, n)
}

/// For moderate `x`.
fn expm1(x: Pair) -> Pair {
    let (p, n) = expm1_parts(x);
    if n == 0 {
        return p;
    }
    (p + 1.0) * power(n) - 1.0
}

/// `ln(1 + f)`, by `2·artanh(f/(2 + f))` or Newton's method.
pub(crate) fn ln_1p(f: Pair) -> Pair {
    if f.0.abs() < 0.1 {
        let s = f / (f + 2.0);
        let (square, mut term, mut sum) = (s * s, s, s);
        for k in 1..16 {
            term = term * square;
            sum = sum + term / f64::from(2 * k + 1);
        }
        return sum * 2.0;
    }
    ln(f + 1.0)
}

pub(crate) fn ln(x: Pair) -> Pair {
    if (x.0 - 1.0).abs() < 0.1 {
        return ln_1p(x - 1.0);
    }
    let y = x.0.ln();
    let (e, n) = exp(Pair(-y, 0.0));
    let error = e * Pair(scale(x.0, n), scale(x.1, n)) - 1.0;
    Pair(y, 0.0) + error - error * error * 0.5
}

/// `x = n·π/2 + r` with `n` modulo 4.
fn reduce(x: f64) -> (i32, Pair) {
    if x.abs() <= 0.78 {
        return (0, x.into());
    }
    let bits = x.to_bits();
    let m = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    let first = (bits >> 52 & 0x7FF) as usize + 62 - 1075;
    let mut product = [0u64; 4]; // in units of 4·2⁻²⁵⁶, highest first
    let mut carry = 0;
    for k in (0..4).rev() {
        let at = first / 64 + k;
        let digits = (u128::from(TWO_OVER_PI[at]) << 64 | u128::from(TWO_OVER_PI[at + 1]))
            << (first % 64)
            >> 64;
        carry += m * digits;
        product[k] = carry as u64;
        carry >>= 64;
    }
    let n = (product[0] >> 61).wrapping_add(1) >> 1 & 3;
    product[0] = product[0].wrapping_sub(n << 62);
    let negative = product[0] >> 63 == 1;
    if negative {
        product = product.map(|digits| !digits);
    }
    let unit = power(-64);
    let parts = product.map(|digits| {
        // exact: two halves
        Pair((digits >> 32) as f64 * power(32), 0.0) + (digits & 0xFFFF_FFFF) as f64
    });
    let turns = ((parts[3] * unit + parts[2]) * unit + parts[1]) * unit + parts[0];
    let r = turns * power(-62) * HALF_PI;
    let r = if negative != (x < 0.0) { -r } else { r };
    (if x < 0.0 { -(n as i32) } else { n as i32 }, r)
}

fn series(square: Pair, first: Pair, start: i32) -> Pair {
    let (mut sum, mut term) = (first, first);
    for k in 0..16 {
        let n = f64::from(start + 2 * k);
        term = -(term * square / (n * (n + 1.0)));
        sum = sum + term;
    }
    sum
}

pub(crate) fn sin_cos(x: f64) -> (Pair, Pair) {
    let (n, r) = reduce(x);
    let (sin, cos) = (series(r * r, r, 2), series(r * r, Pair(1.0, 0.0), 1));
    match n & 3 {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// The angle of a point, by one step from the rounded one.
pub(crate) fn atan2(y: Pair, x: Pair) -> Pair {
    let angle = y.0.atan2(x.0);
    let (sin, cos) = sin_cos(angle);
    Pair(angle, 0.0) + (y * cos - x * sin) / (x * cos + y * sin)
}

pub(crate) fn atan(x: f64) -> Pair {
    if x.abs() > 1e300 {
        return atan2(Pair(power(-100).copysign(x), 0.0), Pair(0.0, 0.0));
    }
    atan2(x.into(), 1.0.into())
}

fn cosine_of_arc(x: f64) -> Pair {
    ((Pair(1.0, 0.0) - x) * (Pair(1.0, 0.0) + x)).sqrt()
}

pub(crate) fn asin(x: f64) -> Pair {
    atan2(x.into(), cosine_of_arc(x))
}

pub(crate) fn acos(x: f64) -> Pair {
    atan2(cosine_of_arc(x), x.into())
}

pub(crate) fn exp_m1(x: f64) -> Scaled {
    if x.abs() < TINY {
        return (x.into(), 0);
    }
    if x > 600.0 {
        exp(x.into())
    } else {
        (expm1(x.into()), 0)
    }
}

pub(crate) fn sinh(x: f64) -> Scaled {
    if x.abs() < TINY {
        return (x.into(), 0);
    }
    if x.abs() > 300.0 {
        let (e, n) = exp(x.abs().into());
        return (e * 1f64.copysign(x), n - 1);
    }
    let e = expm1(x.into());
    (e + e / (e + 1.0), -1)
}

pub(crate) fn cosh(x: f64) -> Scaled {
    if x.abs() > 300.0 {
        let (e, n) = exp(x.abs().into());
        return (e, n - 1);
    }
    let e = expm1(x.into()) + 1.0;
    (e + Pair(1.0, 0.0) / e, -1)
}

pub(crate) fn tanh(x: f64) -> Pair {
    if x.abs() < TINY {
        return x.into();
    }
    let e = expm1(Pair(2.0 * x.clamp(-300.0, 300.0), 0.0));
    e / (e + 2.0)
}

pub(crate) fn sigmoid(x: f64) -> Scaled {
    sigmoid_of(x.into())
}

fn sigmoid_of(x: Pair) -> Scaled {
    if x.0 < -300.0 {
        return exp(x);
    }
    let e = if x.0 > 300.0 {
        Pair(0.0, 0.0)
    } else {
        expm1(-x) + 1.0
    };
    (Pair(1.0, 0.0) / (e + 1.0), 0)
}

/// `x·σ(√(8/π)·(x + 0.044715·x³))`
pub(crate) fn gelu_tanh(x: f64) -> Scaled {
    let cube = Pair::from(x) * x * x * 0.044715;
    let (y, n) = sigmoid_of((cube + x) * ROOT_OF_8_OVER_PI);
    (y * x, n)
}

pub(crate) fn softplus(x: f64) -> Scaled {
    if x < -100.0 {
        return exp(x.into());
    }
    let e = ln_1p(expm1(Pair(-x.abs().min(300.0), 0.0)) + 1.0);
    (e + x.max(0.0), 0)
}

/// By the series `erf x = 2/√π·e^(-x²)·Σ 2ᵏx²ᵏ⁺¹/(2k+1)!!`.
fn erf_pair(x: Pair) -> Pair {
    if x.0.abs() > 7.0 {
        return 1f64.copysign(x.0).into();
    }
    let square = x * x * 2.0;
    let (mut sum, mut term, mut k) = (x, x, 3.0);
    while term.0.abs() > 1e-34 * sum.0.abs() {
        term = term * square / k;
        sum = sum + term;
        k += 2.0;
    }
    let (e, n) = exp(-(x * x));
    sum * e * ERF_SLOPE * power(n)
}

pub(crate) fn erf(x: f64) -> Pair {
    erf_pair(x.into())
}

/// Beyond 5 by a continued fraction.
fn erfc_pair(x: Pair) -> Scaled {
    if x.0 < 5.0 {
        return (Pair(1.0, 0.0) - erf_pair(x), 0);
    }
    let square = x * x;
    let v = Pair(0.5, 0.0) / square;
    let mut fraction = Pair(1.0, 0.0);
    for k in (1..100).rev() {
        fraction = Pair(1.0, 0.0) + v * f64::from(k) / fraction;
    }
    let (e, n) = exp(-square);
    (e * ERF_SLOPE * 0.5 / (x * fraction), n)
}

pub(crate) fn erfc(x: f64) -> Scaled {
    erfc_pair(x.into())
}

pub(crate) fn gelu(x: f64) -> Scaled {
    let (tail, n) = erfc_pair(ROOT_OF_HALF * -x);
    (tail * x * 0.5, n)
}

/// For positive `x`.
pub(crate) fn pow(x: f64, p: f64) -> Scaled {
    exp(ln(x.into()) * p)
}

/// For numbers whose squares are.
pub(crate) fn hypot(x: f64, y: f64) -> Pair {
    (product(x, x) + product(y, y)).sqrt()
}

/// The distance of a result from the exact value in ulps of a type with so many digits and such a
/// smallest exponent. Beyond the largest number counts as that.
pub(crate) fn ulps(got: f64, (exact, n): Scaled, digits: i32, min_exponent: i32) -> f64 {
    let max_exponent = 1 - min_exponent;
    let size = exact.0.abs();
    if got.is_nan() != exact.0.is_nan() {
        return f64::INFINITY;
    }
    if got.is_nan() {
        return 0.0;
    }
    let exponent = if size == 0.0 {
        min_exponent
    } else {
        size.log2().floor() as i32 + n
    };
    let unit = exponent.clamp(min_exponent, max_exponent) - (digits - 1);
    let end = power(digits) - 0.5; // in units: halfway to infinity
    let exact = if exponent > max_exponent + 2 {
        Pair(1e30f64.copysign(exact.0), 0.0)
    } else {
        Pair(scale(exact.0, n - unit), scale(exact.1, n - unit))
    };
    if got.is_infinite() {
        // the largest number is one unit away
        let beyond = exact.0.abs() >= end && exponent >= max_exponent;
        let near = exact.0.abs() >= end - 1.5 && exponent >= max_exponent;
        let alike = got > 0.0 && exact.0 > 0.0 || got < 0.0 && exact.0 < 0.0;
        return match (alike, beyond, near) {
            (true, true, _) => 0.0,
            (true, _, true) => 1.0,
            _ => f64::INFINITY,
        };
    }
    let limited = exact.0.clamp(-end, end);
    let exact = if limited == exact.0 {
        exact
    } else {
        Pair(limited, 0.0)
    };
    (Pair(scale(got, -unit), 0.0) - exact).0.abs()
}

pub(crate) fn tan(x: f64) -> Pair {
    let (sin, cos) = sin_cos(x);
    sin / cos
}

pub(crate) fn silu(x: f64) -> Scaled {
    let (y, n) = sigmoid(x);
    (y * x, n)
}

pub(crate) fn atan2_of(y: f64, x: f64) -> Pair {
    atan2(y.into(), x.into())
}
