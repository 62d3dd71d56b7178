//! The error function, its complement, and the gelu, which is made of it.

use super::{
    Float, Lanes,
    arithmetic::{exact_square, polynomial, splat, sum},
    exponential::{exp_nonpositive, exp_of_pair},
};

/// A polynomial up to 1, and beyond, where the result is close to 1, an exponential.
#[inline(always)]
pub(super) fn erf<L: Lanes>(x: L) -> L {
    let t = x.abs().clamp_max(L::Elem::ERF_MAX);
    let near = polynomial(t * t, L::Elem::ERF).mul_add(t, t);
    let far = polynomial(t, L::Elem::ERF_FAR).mul_add(t, t);
    let far = L::of(1.0) - exp_nonpositive(-far);
    L::select(t.lt_mask(L::of(1.0)), near, far).copysign(x)
}

/// `1 - erf x` for `|x|` below ½, with one rounding that matters.
#[inline(always)]
fn erfc_near<L: Lanes>(x: L) -> L {
    let [high, low] = sum(L::of(1.0), -x);
    high - polynomial(x * x, L::Elem::ERF).mul_add(x, -low)
}

/// `factor·erfc x` from ½ on, with `x` and `x²` in two parts.
#[inline(always)]
fn erfc_far<L: Lanes>([x, low]: [L; 2], [square, square_low]: [L; 2], factor: L) -> L {
    let one = L::of(1.0);
    let k = L::splat(L::Elem::ERFC_SCALE);
    let t = (x - k) / (x + k);
    let [center, center_low] = splat(L::Elem::ERFC_CENTER);
    let [f, f_low] = sum(center, polynomial(t, L::Elem::ERFC) * t);
    let [d, d_low] = sum(x + x, one);
    let d_low = d_low + (low + low);
    // the quotient of both, in two parts
    let reciprocal = one / d;
    let q = f * reciprocal;
    let rest = q.mul_add(-d, f) + (f_low + center_low - q * d_low);
    let q_low = rest * reciprocal;
    let ([e, e_low], n) = exp_of_pair(-square, -square_low);
    let y = q.mul_add(e, q.mul_add(e_low, q_low * e));
    (y * factor).ldexp(n)
}

#[inline(always)]
pub(super) fn erfc<L: Lanes>(x: L) -> L {
    let a = x.abs().clamp_max(L::Elem::ERFC_MAX);
    let far = erfc_far([a, L::of(0.0)], exact_square(a), L::of(1.0));
    let far = L::select(x.lt_mask(L::of(0.0)), L::of(2.0) - far, far);
    L::select(a.lt_mask(L::of(0.5)), erfc_near(x), far)
}

/// `x·Φ(x) = ½x·erfc(-x/√2)`; beyond `|x/√2| = ½`, `max(x, 0) - ½|x|·erfc(|x|/√2)`, because
/// `erfc(-x) = 2 - erfc x`.
#[inline(always)]
pub(super) fn gelu<L: Lanes>(x: L) -> L {
    let half = L::of(0.5);
    let a = x.abs().clamp_max(L::Elem::GELU_MAX);
    let [factor, factor_low] = splat::<L>(L::Elem::ROOT_OF_HALF);
    let u = a * factor;
    let u_low = a.mul_add(factor, -u) + a * factor_low;
    let [square, low] = exact_square(a);
    let far = x.relu() - erfc_far([u, u_low], [square * half, low * half], a * half);
    let near = half * x * erfc_near(-(u.copysign(x)));
    L::select(u.lt_mask(half), near, far)
}
