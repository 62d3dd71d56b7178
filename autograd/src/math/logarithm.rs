//! Logarithms, and powers by them.

use super::{
    Float, Lanes,
    arithmetic::{polynomial, product, splat, sum},
    exponential::exp_of_pair,
};

/// `x = (1 + f)·2ᵉ`, with `1 + f` from √½ to √2, for positive numbers.
#[inline(always)]
fn split<L: Lanes>(x: L) -> (L, L) {
    let small = x.lt_mask(L::splat(L::Elem::MIN_NORMAL));
    let (m, e) = L::select(small, x * L::splat(L::Elem::NORMALIZE), x).frexp();
    let e = L::select(small, e - L::splat(L::Elem::NORMALIZE_BITS), e);
    (m - L::of(1.0), e)
}

/// With `s = f/(2 + f)`, `ln(1 + f) = 2·artanh s = f - f²/2 + s·(f²/2 + R(s))`, where `R` is
/// `2·artanh(s)/s - 2`.
#[inline(always)]
pub(super) fn ln<L: Lanes>(x: L) -> L {
    let (f, e) = split(x);
    let s = f / (f + L::of(2.0));
    let square = s * s;
    let half = f * f * L::of(0.5);
    let r = polynomial(square, L::Elem::LN) * square;
    let [ln2, ln2_low] = splat(L::Elem::LN_2);
    let tail = s.mul_add(half + r, e * ln2_low);
    let y = e.mul_add(ln2, f - (half - tail));

    let (zero, infinity) = (L::of(0.0), L::of(f64::INFINITY));
    let undefined = L::select(x.lt_mask(zero), L::of(f64::NAN), x);
    let special = L::select(x.eq_mask(zero), -infinity, undefined);
    L::select(zero.lt_mask(x) & x.lt_mask(infinity), y, special)
}

/// `ln(1 + x)`: the logarithm of the rounded `u = 1 + x`, plus the rounding error divided by `u`.
#[inline(always)]
pub(super) fn ln_1p<L: Lanes>(x: L) -> L {
    let one = L::of(1.0);
    let u = one + x;
    // both differences are exact where they are used: the larger of 1 and x is subtracted first
    let rounding = L::select(x.abs().lt_mask(one), x - (u - one), one - (u - x));
    let ln = ln(u);
    let y = ln + rounding / u;
    let is_normal = L::of(-1.0).lt_mask(x) & x.lt_mask(L::of(f64::INFINITY));
    let tiny = x.abs().lt_mask(L::splat(L::Elem::TINY));
    L::select(tiny, x, L::select(is_normal, y, ln))
}

/// `ln x` in two parts, for positive numbers: as [`ln`], with `2s + s³·(⅔ + s²·P(s²))` in two parts.
#[inline(always)]
fn ln_pair<L: Lanes>(x: L) -> [L; 2] {
    let (f, e) = split(x);
    let two = L::of(2.0);
    let [d, d_low] = sum(two, f);
    let reciprocal = L::of(1.0) / d;
    let s = f * reciprocal;
    let rest = s.mul_add(-d, f) - s * d_low;
    let s = [s, rest * reciprocal];
    let square = product(s, s);
    let [c, c_low] = splat(L::Elem::TWO_THIRDS);
    let [q, q_low] = sum(c, square[0] * polynomial(square[0], L::Elem::LN_PAIR));
    let tail = product(s, product(square, [q, q_low + c_low]));
    let [y, y_low] = sum(s[0] + s[0], tail[0]);
    let y_low = y_low + s[1].mul_add(two, tail[1]);
    let [ln2, ln2_low] = splat(L::Elem::LN_2);
    let [high, low] = sum(e * ln2, y);
    [high, low + e.mul_add(ln2_low, y_low)]
}

/// `|x|ᵖ = e^(p·ln|x|)`, then the sign and the values where this is not defined.
#[inline(always)]
pub(super) fn pow<L: Lanes>(x: L, p: L) -> L {
    let (zero, one, infinity) = (L::of(0.0), L::of(1.0), L::of(f64::INFINITY));
    let a = x.abs();
    let y = pow_of_positive(a, p);

    // 0 or infinite
    let far = p.abs().eq_mask(infinity);
    let edge = a.eq_mask(zero) | a.eq_mask(infinity) | far;
    let rises = L::select(a.lt_mask(one), -p, p);
    let y = L::select(edge, L::select(zero.lt_mask(rises), infinity, zero), y);

    // negative numbers have powers with an integer exponent
    let integer = p.floor().eq_mask(p);
    let halved = p * L::of(0.5);
    let odd = integer & L::not(halved.floor().eq_mask(halved));
    let y = L::select(odd, y.copysign(x), y);
    let undefined = x.lt_mask(zero) & L::not(integer | a.eq_mask(infinity));
    let defined = x.eq_mask(x) & p.eq_mask(p) & L::not(undefined);
    let y = L::select(defined, y, L::of(f64::NAN));

    let is_one = p.eq_mask(zero) | x.eq_mask(one) | (a.eq_mask(one) & far);
    L::select(is_one, one, y)
}

#[inline(always)]
fn pow_of_positive<L: Lanes>(a: L, p: L) -> L {
    let [ln, ln_low] = ln_pair(a);
    let high = p * ln;
    let low = p.mul_add(ln, -high) + p * ln_low;
    let [min, max] = L::Elem::EXP_RANGE;
    // beyond the range the rest is not needed, and may be NaN
    let inside = high.abs().lt_mask(L::splat(-min));
    let low = L::select(inside, low, L::of(0.0));
    let ([y, rest], n) = exp_of_pair(high.clamp_min(min).clamp_max(max), low);
    (y + rest).ldexp(n)
}
