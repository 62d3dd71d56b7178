//! Exponentials: `eˣ` and what is made of it. All files of algorithms in this folder are written
//! once for both float types and for any number of lanes, without branches, with fused
//! multiply-adds; only the numbers of [`Float`] differ. Errors in ulps: the example `ulps`.

use super::{
    Float, Lanes,
    arithmetic::{exact_square, nearest_integer, polynomial, product, quotient, splat, sum},
    lanes::{GELU_CUBE, GELU_TWICE, LOWEST, TANH_HALF},
};
use std::f64::consts::LOG2_E;

/// The rest of [`GELU_TWICE`] as a number with twice as many digits.
const GELU_TWICE_REST: f64 = -9.96930880911092e-17;
/// From `-24` on `σ(u)` of the [`gelu_tanh`] is 0.
const GELU_TANH_MAX: f64 = 24.0;

/// `x = n·ln 2 + r` with an integer `n` and `|r| ≤ ½ ln 2`.
#[inline(always)]
fn reduce<L: Lanes>(x: L) -> (L, L) {
    let n = nearest_integer(x, LOG2_E);
    let [high, low] = splat::<L>(L::Elem::LN_2);
    (n, n.mul_add(-low, n.mul_add(-high, x)))
}

/// `eˣ = p·2ⁿ`, for `x` whose `n` is an exponent that [`Lanes::ldexp`] takes.
#[inline(always)]
fn exp_parts<L: Lanes>(x: L) -> (L, L) {
    let (n, r) = reduce(x);
    let q = polynomial(r, L::Elem::EXP);
    if L::Elem::CAREFUL {
        let [p, low] = sum(L::of(1.0), r);
        return (p + q.mul_add(r * r, low), n);
    }
    (q.mul_add(r * r, r) + L::of(1.0), n)
}

#[inline(always)]
pub(super) fn exp<L: Lanes>(x: L) -> L {
    exp_nonpositive(x.clamp_max(L::Elem::EXP_RANGE[1]))
}

/// `eˣ` for `x` up to the end of the range.
#[inline(always)]
pub(super) fn exp_nonpositive<L: Lanes>(x: L) -> L {
    let (p, n) = exp_parts(x.clamp_min(L::Elem::EXP_RANGE[0]));
    p.ldexp(n)
}

/// `e^(x + low) = (p + q)·2ⁿ`, for a number and its rest, which is at most one ulp of `x` or so.
/// `q` is the rounding error of `p`, to a few digits.
#[inline(always)]
pub(super) fn exp_of_pair<L: Lanes>(x: L, low: L) -> ([L; 2], L) {
    let n = nearest_integer(x, LOG2_E);
    let [ln2, ln2_low] = splat::<L>(L::Elem::LN_2);
    let exact = n.mul_add(-ln2, x);
    let low = n.mul_add(-ln2_low, low);
    let r = exact + low;
    let low = (exact - r) + low;
    let [p, q] = sum(L::of(1.0), r);
    let q = q + polynomial(r, L::Elem::EXP).mul_add(r * r, low);
    ([p, q], n)
}

/// `eˣ - 1 = 2ⁿ·(eʳ - 1) + (2ⁿ - 1)`. All terms are halved, so that `2ⁿ` does not overflow before
/// the result does.
#[inline(always)]
pub(super) fn exp_m1<L: Lanes>(x: L) -> L {
    let (one, half) = (L::of(1.0), L::of(0.5));
    let inside = x.clamp_min(L::Elem::EXPM1_MIN);
    let (n, r) = reduce(inside.clamp_max(L::Elem::EXP_RANGE[1]));
    let p = polynomial(r, L::Elem::EXPM1).mul_add(r * r, r);
    let power = (n - one).exp2_int();
    let y = power.mul_add(p, power - half) * L::of(2.0);
    // for -0, and where halving would underflow
    L::select(x.abs().lt_mask(L::splat(L::Elem::TINY)), x, y)
}

/// `a/(1 + e)` for `e` from 0 to 1, where `a` may have a rest.
#[inline(always)]
pub(super) fn over_1_plus<L: Lanes>(a: [L; 2], e: L) -> L {
    let d = sum(L::of(1.0), e);
    if L::Elem::CAREFUL {
        quotient(a, d)
    } else {
        a[0] / d[0]
    }
}

/// `½e^|x|` and `½e^-|x|`
#[inline(always)]
fn halves<L: Lanes>(x: L) -> (L, L) {
    // so that half of the largest exponential is infinite, too
    let max = L::Elem::EXP_RANGE[1] + L::Elem::nearest(1.0);
    let (p, n) = exp_parts(x.abs().clamp_max(max));
    let e = p.ldexp(n - L::of(1.0));
    (e, L::of(0.25) / e)
}

/// A polynomial up to 1, where the difference of the exponentials would cancel.
#[inline(always)]
pub(super) fn sinh<L: Lanes>(x: L) -> L {
    let (rising, falling) = halves(x);
    let square = x * x;
    let near = (polynomial(square, L::Elem::SINH) * square).mul_add(x, x);
    let far = (rising - falling).copysign(x);
    L::select(x.abs().lt_mask(L::of(1.0)), near, far)
}

#[inline(always)]
pub(super) fn cosh<L: Lanes>(x: L) -> L {
    let (rising, falling) = halves(x);
    rising + falling
}

/// `x·σ(x)`
#[inline(always)]
pub(super) fn silu<L: Lanes>(x: L) -> L {
    // far enough for the product to vanish, too
    let max = L::Elem::EXP_RANGE[0] * L::Elem::nearest(-1.25);
    times_sigmoid(
        x.clamp_min(-max),
        [x.clamp_min(-max).clamp_max(max), L::of(0.0)],
    )
}

/// `x·σ(u) = x/(1 + e^-u)`, where `u` is below 0 multiplied by `eᵘ`, whose power of two comes last.
/// `u` has a rest, and the sign of `x`.
#[inline(always)]
fn times_sigmoid<L: Lanes>(x: L, [u, u_low]: [L; 2]) -> L {
    let zero = L::of(0.0);
    let negative = u.lt_mask(zero);
    let low = L::select(negative, u_low, -u_low);
    let ([p, low], n) = exp_of_pair(-u.abs(), low);
    let a = L::select(negative, x.mul_add(p, x * low), x);
    let y = over_1_plus([a, zero], (p + low).ldexp(n));
    let y = L::select(negative, y.ldexp(n), y);
    L::select(L::splat(L::Elem::ALL_INTEGERS).lt_mask(x), x, y) // also for ∞
}

/// `x·σ(u)` with `u = √(8/π)·x·(1 + 0.044715·x²)`, in f64 with a rest of `u`: an error of it grows
/// with its size.
#[inline(always)]
pub(super) fn gelu_tanh<L: Lanes>(x: L) -> L {
    if !L::Elem::CAREFUL {
        let cube = L::of(GELU_CUBE) * x * x * x;
        return x.clamp_min(L::Elem::nearest(LOWEST)) * (L::of(GELU_TWICE) * (x + cube)).sigmoid();
    }
    let max = L::Elem::nearest(GELU_TANH_MAX);
    let a = x.clamp_min(-max).clamp_max(max);
    let [square, square_low] = exact_square(a);
    let factor = L::of(GELU_CUBE);
    let (one, more) = (L::of(1.0), square * factor);
    let more_low = square.mul_add(factor, -more) + square_low * factor;
    // a sum of two numbers of which either may be the larger one
    let sum = one + more;
    let part = sum - one;
    let sum_low = (one - (sum - part)) + (more - part) + more_low;
    let times = product([a, L::of(0.0)], [L::of(GELU_TWICE), L::of(GELU_TWICE_REST)]);
    times_sigmoid(x.clamp_min(-max), product(times, [sum, sum_low]))
}

/// With `w = 1 - e` and `e = e^(-2|x|)`, `tanh|x| = w/(1 + e)` and `1 - tanh|x| = 2e/(1 + e)`.
/// `|x| = h - n·½ln 2`, so `e = 2ⁿ·(1 - v)` with `v = 1 - e^(-2h)`, and `w = 2ⁿ·v + (1 - 2ⁿ)`. `w`
/// is only used for `n ≥ -2`.
#[inline(always)]
pub(super) fn tanh_tail<L: Lanes>(x: L) -> L {
    let one = L::of(1.0);
    let a = x.abs().clamp_max(L::Elem::TANH_MAX);
    let n = nearest_integer(a, -2.0 * LOG2_E);
    let half = L::Elem::nearest(0.5);
    let [high, low] = L::Elem::LN_2;
    let h = n.mul_add(L::splat(low * half), n.mul_add(L::splat(high * half), a));
    let v = polynomial(h, L::Elem::TANH).mul_add(h * h, h + h);
    let e = (one - v).ldexp(n);
    let power = n.clamp_min(L::Elem::nearest(-2.0)).exp2_int();
    let [w, low] = sum(one - power, power * v);
    let small = a.le_mask(L::of(TANH_HALF));
    let low = L::select(small, low, L::of(0.0));
    over_1_plus([L::select(small, w, e + e), low], e)
}
