//! Functions of a few exact operations.

use super::{Float, Lanes, exponential::sum, lanes::Mask};

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
