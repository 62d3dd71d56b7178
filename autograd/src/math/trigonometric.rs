//! Trigonometric functions and their inverses.

use super::{
    Float, Lanes,
    arithmetic::{alternating, polynomial, quotient, splat, sum},
    lanes::Mask,
};
use std::f64::consts::FRAC_2_PI;

/// The binary digits of `2/π`, after 64 zeros.
const TWO_OVER_PI: [u64; 21] = [
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
];

/// `x = n·π/2 + r` for one large argument: `n` modulo 4, and `r` in two parts.
///
/// `x` is an integer `m` times a power of two. In its product with `2/π`, the digits that give
/// multiples of 4 are dropped, and 192 more are enough: no number is closer to a multiple of `π/2`
/// than about 2⁻⁶².
pub(super) fn reduce_large(x: f64) -> (i32, [f64; 2]) {
    let bits = x.to_bits();
    let exponent = (bits >> 52 & 0x7FF) as usize;
    if exponent == 0x7FF {
        return (0, [f64::NAN; 2]);
    }
    let m = u128::from(bits & ((1 << 52) - 1) | 1 << 52);
    // the index of the digit of weight 2: not below 0, because no small numbers come here
    let first = (exponent + 62).saturating_sub(1075);
    let (word, shift) = (first / 64, first % 64);
    let digits = |k: usize| {
        let two = u128::from(TWO_OVER_PI[word + k]) << 64 | u128::from(TWO_OVER_PI[word + k + 1]);
        two << shift >> 64
    };
    // in units of 4·2⁻¹⁹²
    let low = m * digits(2);
    let middle = m * digits(1) + (low >> 64);
    let high = (m * digits(0) + (middle >> 64)) as u64;
    let n = (high >> 61).wrapping_add(1) >> 1 & 3;
    let high = high.wrapping_sub(n << 62);
    let (mut rest, mut low) = (
        u128::from(high) << 64 | middle & u128::from(u64::MAX),
        low as u64,
    );
    let negative = high >> 63 == 1;
    if negative {
        (rest, low) = (!rest, !low); // without the last digit, which does not matter
    }
    let shift = rest.leading_zeros().min(64);
    let rest = rest << shift | u128::from(low) << shift >> 64;
    let unit = f64::from_bits(u64::from(1023 - 126 - shift) << 52);
    let parts = [
        (rest >> 75 << 75) as f64 * unit,
        (rest << 53 >> 53) as f64 * unit,
    ];
    let r = parts[0] * f64::HALF_PI[0];
    let low = parts[0].mul_add(f64::HALF_PI[0], -r)
        + parts[0].mul_add(f64::HALF_PI[1], parts[1] * f64::HALF_PI[0]);
    let sum = r + low;
    let low = (r - sum) + low;
    let parts = if negative != (x < 0.0) {
        [-sum, -low]
    } else {
        [sum, low]
    };
    (if x < 0.0 { -(n as i32) } else { n as i32 }, parts)
}

/// Recomputes the lanes with large arguments. Rare, so it must not slow down the others.
#[cold]
#[inline(never)]
fn fix_large_lanes<T: Float>(result: &mut [T], x: &[T], part: usize) {
    for (result, &x) in result.iter_mut().zip(x) {
        let small = x.abs() <= T::MAX_SMALL_ANGLE; // not NaN
        if !small {
            *result = x.reduce_large()[part];
        }
    }
}

/// `x = n·π/2 + r`: `n` modulo 4 in the lowest bits, `r`, and the rest of `r` if it is `exact`.
///
/// The first step of the subtraction has no error: both numbers are multiples of the last digit of
/// `π/2`, and the difference is smaller than `π/2`.
#[inline(always)]
fn reduce<L: Lanes>(x: L, exact: bool) -> (L, L, Option<L>) {
    let offset = L::splat(L::Elem::ROUND_TO_INT);
    let mut turns = x.mul_add(L::of(FRAC_2_PI), offset);
    let n = turns - offset;
    let [a, b, c] = L::Elem::HALF_PI;
    let (a, b, c) = (L::splat(-a), L::splat(-b), L::splat(-c));
    let difference = n.mul_add(a, x);
    let (mut r, mut low);
    if exact {
        let part = n * b;
        r = difference + part;
        let rounding = (difference - r) + part;
        low = Some(n.mul_add(c, rounding + n.mul_add(b, -part)));
    } else {
        r = n.mul_add(c, n.mul_add(b, difference));
        low = None;
    }
    let large = L::not(x.abs().le_mask(L::splat(L::Elem::MAX_SMALL_ANGLE)));
    if large.any() {
        turns = turns.modify(x, |turns, x| fix_large_lanes(turns, x, 0));
        r = r.modify(x, |r, x| fix_large_lanes(r, x, 1));
        if let Some(part) = low {
            low = Some(part.modify(x, |low, x| fix_large_lanes(low, x, 2)));
        }
    }
    (turns, r, low)
}

/// `sin r` and `cos r`, or those of `r + low`, where `low` is the rest of `r`, each with its rest.
#[inline(always)]
fn sine_and_cosine<L: Lanes>(r: L, low: Option<L>) -> ([L; 2], [L; 2]) {
    let (one, half) = (L::of(1.0), L::of(0.5));
    let square = r * r;
    let sin = polynomial(square, L::Elem::SIN) * square;
    let cos = polynomial(square, L::Elem::COS) * square;
    let near = square.mul_add(-half, one);
    let Some(low) = low else {
        let zero = L::of(0.0);
        return ([sin.mul_add(r, r), zero], [cos.mul_add(square, near), zero]);
    };
    let rounding = (one - near) - half * square;
    let rest = cos.mul_add(square, rounding - r * low);
    (sum(r, sin.mul_add(r, low * near)), sum(near, rest))
}

/// `sin x`, or `cos x = sin(x + π/2)`.
#[inline(always)]
fn sine<L: Lanes>(x: L, cosine: bool) -> L {
    let (turns, r, low) = reduce(x, L::Elem::CAREFUL);
    let quarter = if cosine { turns + L::of(1.0) } else { turns };
    let ([sin, _], [cos, _]) = sine_and_cosine(r, low);
    let y = L::select(quarter.bit(0), cos, sin);
    L::select(quarter.bit(1), -y, y)
}

#[inline(always)]
pub(super) fn sin<L: Lanes>(x: L) -> L {
    L::select(x.eq_mask(L::of(0.0)), x, sine(x, false)) // -0 stays -0
}

#[inline(always)]
pub(super) fn cos<L: Lanes>(x: L) -> L {
    sine(x, true)
}

/// `tan r`, or `tan(r + π/2) = -1/tan r`.
#[inline(always)]
pub(super) fn tan<L: Lanes>(x: L) -> L {
    let (turns, r, low) = reduce(x, true);
    let ([sin, sin_low], [cos, cos_low]) = sine_and_cosine(r, low);
    let odd = turns.bit(0);
    let (a, a_low) = (L::select(odd, -cos, sin), L::select(odd, -cos_low, sin_low));
    let (b, b_low) = (L::select(odd, sin, cos), L::select(odd, sin_low, cos_low));
    let y = quotient([a, a_low], [b, b_low]);
    L::select(x.eq_mask(L::of(0.0)), x, y)
}

/// A multiple of `π/2` in two parts: twice it where `twice`, 0 where `none`.
#[inline(always)]
fn half_pi<L: Lanes>(twice: L::Mask, none: L::Mask) -> [L; 2] {
    let [high, low, _] = L::Elem::HALF_PI;
    let (zero, [once, once_low], [all, all_low]) = (
        L::of(0.0),
        splat([high, low]),
        splat([high + high, low + low]),
    );
    [
        L::select(none, zero, L::select(twice, all, once)),
        L::select(none, zero, L::select(twice, all_low, once_low)),
    ]
}

#[inline(always)]
fn negate_where<L: Lanes>(mask: L::Mask, a: L, b: L) -> (L, L) {
    (L::select(mask, -a, a), L::select(mask, -b, b))
}

/// The sum of two numbers with their rests, the larger number first.
#[inline(always)]
fn add_pair<L: Lanes>(a: L, a_low: L, b: L, b_low: L) -> L {
    let [high, low] = sum(a, b);
    high + (low + (a_low + b_low))
}

/// With the quotient `t` of the smaller coordinate and the larger one, `arctan t` is the angle to
/// the next axis.
#[inline(always)]
pub(super) fn atan2<L: Lanes>(y: L, x: L) -> L {
    let zero = L::of(0.0);
    let (height, width) = (y.abs(), x.abs());
    let steep = width.lt_mask(height);
    let small = L::select(steep, width, height);
    let large = L::select(steep, height, width);
    // two zeros, or two infinities
    let diagonal = L::select(small.eq_mask(zero), zero, L::of(1.0));
    let t = L::select(small.eq_mask(large), diagonal, small / large);
    let square = t * t;
    let rest = alternating(square, L::Elem::ATAN) * square * t;

    let left = x.bit(L::Elem::SIGN_BIT);
    let [base, low] = half_pi(L::not(steep), L::not(steep | left));
    let (t, rest) = negate_where(steep, t, rest);
    let (t, rest) = negate_where(left, t, rest);
    add_pair(base, low, t, rest).copysign(y)
}

#[inline(always)]
pub(super) fn atan<L: Lanes>(x: L) -> L {
    atan2(x, L::of(1.0))
}

/// `arcsin s` as a sum of two numbers, and where `far`, beyond ½, twice that for
/// `s = √((1 - |x|)/2)`, with which `arcsin|x| = π/2 - 2·arcsin s`.
#[inline(always)]
fn arc<L: Lanes>(x: L) -> (L, L, L::Mask) {
    let (half, a) = (L::of(0.5), x.abs());
    let far = half.lt_mask(a);
    let square = L::select(far, half.mul_add(-a, half), a * a);
    let root = square.sqrt();
    let s = L::select(far, root + root, a);
    let rest = polynomial(square, L::Elem::ASIN) * square * s;
    // twice the error of the root
    let error = root.mul_add(-root, square) / root;
    let correct = far & a.lt_mask(L::of(1.0)); // not for 0/0
    (s, L::select(correct, rest + error, rest), far)
}

#[inline(always)]
pub(super) fn asin<L: Lanes>(x: L) -> L {
    let (s, rest, far) = arc(x);
    let [high, low, _] = L::Elem::HALF_PI;
    let far_arc = add_pair(L::splat(high), L::splat(low), -s, -rest);
    L::select(far, far_arc, s + rest).copysign(x)
}

/// `π/2 - arcsin x` up to ½, `2·arcsin s` beyond, and `π` minus that below -½.
#[inline(always)]
pub(super) fn acos<L: Lanes>(x: L) -> L {
    let (s, rest, far) = arc(x);
    let positive = L::of(0.0).lt_mask(x);
    let [base, low] = half_pi(far, far & positive);
    let (s, rest) = negate_where(L::not(far | L::not(positive)), s, rest);
    let (s, rest) = negate_where(far & L::not(positive), s, rest);
    add_pair(base, low, s, rest)
}
