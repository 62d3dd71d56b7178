//! Polynomials, numbers in two parts (a rounded number and its rounding error), and functions of a few
//! exact operations.

use super::{Float, Lanes, lanes::Mask};

/// `c₀ + x·(c₁ + x·(c₂ + …))`, even and odd powers separately: half as many dependent operations.
#[inline(always)]
pub(super) fn polynomial<L: Lanes>(x: L, c: &[L::Elem]) -> L {
    let n = c.len();
    let square = x * x;
    let mut sums = [L::splat(c[(n - 1) & !1]), L::splat(c[(n - 2) | 1])];
    let mut k = n - 2;
    while k > 0 {
        k -= 1;
        sums[k & 1] = sums[k & 1].mul_add(square, L::splat(c[k]));
    }
    sums[1].mul_add(x, sums[0])
}

/// [`polynomial`] with one sum, for coefficients of alternating signs: there the sums of even and of
/// odd powers would cancel.
#[inline(always)]
pub(super) fn alternating<L: Lanes>(x: L, c: &[L::Elem]) -> L {
    let mut k = c.len() - 1;
    let mut sum = L::splat(c[k]);
    while k > 0 {
        k -= 1;
        sum = sum.mul_add(x, L::splat(c[k]));
    }
    sum
}

/// The two parts of a number, in every lane. (Closures with lanes would be compiled without the
/// caller's instruction set.)
#[inline(always)]
pub(super) fn splat<L: Lanes>([high, low]: [L::Elem; 2]) -> [L; 2] {
    [L::splat(high), L::splat(low)]
}

/// The integer next to a value of moderate size.
#[inline(always)]
pub(super) fn nearest_integer<L: Lanes>(x: L, factor: f64) -> L {
    let offset = L::splat(L::Elem::ROUND_TO_INT);
    x.mul_add(L::of(factor), offset) - offset
}

/// `a + b` and its rounding error, for `|a| ≥ |b|` or `a = 0`.
#[inline(always)]
pub(super) fn sum<L: Lanes>(a: L, b: L) -> [L; 2] {
    let sum = a + b;
    [sum, (a - sum) + b]
}

/// The product of two numbers with their rests.
#[inline(always)]
pub(super) fn product<L: Lanes>(a: [L; 2], b: [L; 2]) -> [L; 2] {
    let high = a[0] * b[0];
    let cross = a[0].mul_add(b[1], a[1] * b[0]);
    [high, a[0].mul_add(b[0], -high) + cross]
}

/// The quotient of two numbers, each with its rest.
#[inline(always)]
pub(super) fn quotient<L: Lanes>([a, a_low]: [L; 2], [d, d_low]: [L; 2]) -> L {
    let reciprocal = L::of(1.0) / d;
    let q = a * reciprocal;
    let rest = q.mul_add(-d, a) + q.mul_add(-d_low, a_low);
    rest.mul_add(reciprocal, q)
}

/// `a²` in two parts
#[inline(always)]
pub(super) fn exact_square<L: Lanes>(a: L) -> [L; 2] {
    let square = a * a;
    [square, a.mul_add(a, -square)]
}

/// The root of a sum in two parts, and then the error of the root. Numbers are scaled where a square
/// might overflow, or lose digits.
#[inline(always)]
pub(super) fn hypot<L: Lanes>(x: L, y: L) -> L {
    let (zero, one, infinity) = (L::of(0.0), L::of(1.0), L::of(f64::INFINITY));
    let (x, y) = (x.abs(), y.abs());
    let infinite = x.eq_mask(infinity) | y.eq_mask(infinity);
    let swap = x.lt_mask(y);
    let (a, b) = (L::select(swap, y, x), L::select(swap, x, y));
    let [low, high] = L::Elem::SQUARE_RANGE.map(L::splat);
    let (small, large) = (a.lt_mask(low), high.lt_mask(a));
    let [up, down] = L::Elem::SQUARE_SCALES;
    let (up, up_back) = (L::splat(up[0]), L::splat(up[1]));
    let (down, down_back) = (L::splat(down[0]), L::splat(down[1]));
    let scale = L::select(large, down, L::select(small, up, one));
    let back = L::select(large, down_back, L::select(small, up_back, one));
    let (a, b) = (a * scale, b * scale);
    let ([a2, a2_low], [b2, b2_low]) = (exact_square(a), exact_square(b));
    let [square, rest] = sum(a2, b2);
    let root = square.sqrt();
    let error = root.mul_add(-root, square) + (rest + (a2_low + b2_low));
    let length = error.mul_add(L::of(0.5) / root, root);
    let length = L::select(square.eq_mask(zero), zero, length) * back;
    L::select(infinite, infinity, length)
}

/// `|x| - q·|y|` with the integer part `q` of the quotient, which rounding may have made one too
/// large. Both products and differences are exact up to the integers that have gaps.
#[inline(always)]
pub(super) fn rem<L: Lanes>(x: L, y: L) -> L {
    let (a, b) = (x.abs(), y.abs());
    let q = (a / b).floor();
    let r = q.mul_add(-b, a);
    let r = L::select(r.lt_mask(L::of(0.0)), r + b, r);
    let r = L::select(a.lt_mask(b), a, r);
    let large = L::not(q.lt_mask(L::splat(L::Elem::ALL_INTEGERS)));
    let r = if large.any() {
        L::select(large, a.modify(b, remainders), r)
    } else {
        r
    };
    r.copysign(x)
}

#[cold]
fn remainders<T: Float>(x: &mut [T], y: &[T]) {
    x.iter_mut().zip(y).for_each(|(x, &y)| *x = x.remainder(y));
}
