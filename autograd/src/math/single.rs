//! The transcendental functions of f32: without branches, with fused multiply-adds, one algorithm
//! for every instruction set. The polynomials minimize the largest relative error; their
//! coefficients were rounded to f32 one after the other. Errors in ulps over all 2³² arguments:
//! `cargo run --release --example ulps`.

use super::{
    Lanes,
    lanes::{Mask, TANH_HALF},
};
use std::f32::consts::{FRAC_2_PI, LOG2_E};

/// Adding this rounds a value of moderate size to an integer, which is then in the lowest bits of
/// the sum.
const ROUND_TO_INT: f32 = 12_582_912.0; // 1.5 · 2²³
/// `ln 2` in two parts. The first has so few bits that its product with an integer `n` is exact.
const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];

/// `c₀ + x·(c₁ + x·(c₂ + …))`
#[inline(always)]
fn polynomial<L: Lanes<Elem = f32>, const N: usize>(x: L, c: [f32; N]) -> L {
    let mut sum = L::splat(c[N - 1]);
    for k in (0..N - 1).rev() {
        sum = sum.mul_add(x, L::splat(c[k]));
    }
    sum
}

/// `x = n·ln 2 + r` with an integer `n` and `|r| ≤ ½ ln 2`.
#[inline(always)]
fn reduce<L: Lanes<Elem = f32>>(x: L) -> (L, L) {
    let n = x.mul_add(L::splat(LOG2_E), L::splat(ROUND_TO_INT)) - L::splat(ROUND_TO_INT);
    (
        n,
        n.mul_add(L::splat(-LN_2[1]), n.mul_add(L::splat(-LN_2[0]), x)),
    )
}

/// `eˣ = 2ⁿ·eʳ`
#[inline(always)]
pub(super) fn exp<L: Lanes<Elem = f32>>(x: L) -> L {
    exp_nonpositive(x.clamp_max(89.0))
}

/// `eˣ` for `x` up to 89.
#[inline(always)]
pub(super) fn exp_nonpositive<L: Lanes<Elem = f32>>(x: L) -> L {
    let (n, r) = reduce(x.clamp_min(-104.0));
    let q = polynomial(
        r,
        [
            0.499_999_94,
            0.166_665_15,
            0.041_668_23,
            0.008_369_384,
            0.001_382_544_5,
        ],
    );
    let p = q.mul_add(r * r, r) + L::splat(1.0);
    p.ldexp(n)
}

/// `eˣ - 1 = 2ⁿ·(eʳ - 1) + (2ⁿ - 1)`. All terms are halved, so that `2ⁿ` does not overflow before
/// the result does.
#[inline(always)]
pub(super) fn exp_m1<L: Lanes<Elem = f32>>(x: L) -> L {
    let (n, r) = reduce(x.clamp_min(-20.0).clamp_max(89.0));
    let q = polynomial(
        r,
        [
            0.5,
            0.166_666_64,
            0.041_666_467,
            0.008_333_901,
            0.001_393_490_8,
            1.956_752_4e-4,
        ],
    );
    let p = q.mul_add(r * r, r);
    let half = (n - L::splat(1.0)).exp2_int();
    let y = half.mul_add(p, half - L::splat(0.5)) * L::splat(2.0);
    L::select(x.abs().lt_mask(L::splat(1e-8)), x, y) // for -0, and where halving would underflow
}

/// `ln(m·2ᵉ) = ln m + e·ln 2`, with `ln(1 + f) = f - f²/2 + f³·P(f)`.
#[inline(always)]
pub(super) fn ln<L: Lanes<Elem = f32>>(x: L) -> L {
    let small = x.lt_mask(L::splat(f32::MIN_POSITIVE));
    let (m, e) = L::select(small, x * L::splat(8_388_608.0), x).frexp();
    let e = L::select(small, e - L::splat(23.0), e);
    let f = m - L::splat(1.0);
    let p = [
        0.333_333_13,
        -0.250_000_12,
        0.200_020_73,
        -0.166_678_55,
        0.142_202_33,
        -0.124_081_97,
        0.118_862_04,
        -0.116_606_61,
        0.067_330_11,
    ];
    let square = f * f;
    let tail = (polynomial(f, p) * f).mul_add(square, e * L::splat(LN_2[1]));
    let y = e.mul_add(L::splat(LN_2[0]), square.mul_add(L::splat(-0.5), tail) + f);
    let zero = L::splat(0.0);
    let special = L::select(
        x.eq_mask(zero),
        L::splat(f32::NEG_INFINITY),
        L::select(x.lt_mask(zero), L::splat(f32::NAN), x),
    );
    L::select(
        zero.lt_mask(x) & x.lt_mask(L::splat(f32::INFINITY)),
        y,
        special,
    )
}

/// `ln(1 + x)`: the logarithm of the rounded `u = 1 + x`, plus the rounding error divided by `u`.
#[inline(always)]
pub(super) fn ln_1p<L: Lanes<Elem = f32>>(x: L) -> L {
    let one = L::splat(1.0);
    let u = one + x;
    // both differences are exact where they are used: the larger of 1 and x is subtracted first
    let rounding = L::select(x.abs().lt_mask(one), x - (u - one), one - (u - x));
    let y = ln(u) + rounding / u;
    let is_normal = L::splat(-1.0).lt_mask(x) & x.lt_mask(L::splat(f32::INFINITY));
    L::select(
        x.abs().lt_mask(L::splat(1e-8)),
        x,
        L::select(is_normal, y, ln(u)),
    )
}

/// Up to this `x`, three parts of `π/2` give `x - n·π/2` enough digits.
const MAX_SMALL_ARGUMENT: f32 = 30_000.0;
/// `π/2` in three parts.
const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_122_5e-15];
/// The binary digits of `2/π`, after 32 zeros.
const TWO_OVER_PI: [u32; 10] = [
    0,
    0xA2F9_836E,
    0x4E44_1529,
    0xFC27_57D1,
    0xF534_DDC0,
    0xDB62_9599,
    0x3C43_9041,
    0xFE51_63AB,
    0xDEBB_C561,
    0xB724_6E3A,
];

/// `x = n·π/2 + r` for one large argument: `n` modulo 4, offset by [`ROUND_TO_INT`], and `r`.
///
/// `x` is an integer `m` times a power of two. In its product with `2/π`, the digits that give
/// multiples of 4 are dropped, and 96 more are enough: no f32 is closer to a multiple of `π/2` than
/// about 2⁻³⁰.
fn reduce_large(x: f32) -> (f32, f32) {
    let bits = x.to_bits();
    let exponent = (bits >> 23 & 0xFF) as usize;
    if exponent == 255 {
        return (ROUND_TO_INT, f32::NAN);
    }
    let m = (bits & 0x007F_FFFF | 0x0080_0000) as u128;
    let first = exponent - (127 + 23 - 30); // the index of the digit of weight 2 in the table
    let (word, shift) = (first / 32, first % 32);
    let mut digits = 0u128;
    for k in 0..4 {
        digits = digits << 32 | TWO_OVER_PI[(word + k) % 10] as u128;
    }
    let turns = m.wrapping_mul(digits << shift); // in units of 4·2⁻¹²⁸
    let n = (turns >> 125).wrapping_add(1) >> 1 & 3;
    let rest = turns.wrapping_sub(n << 126) as i128;
    let r =
        ((rest >> 64) as i64 as f64 * (std::f64::consts::FRAC_PI_2 / (1u64 << 62) as f64)) as f32;
    if x < 0.0 {
        (ROUND_TO_INT - n as f32, -r)
    } else {
        (ROUND_TO_INT + n as f32, r)
    }
}

/// Recomputes the lanes with large arguments. Rare, so it must not slow down the others.
#[cold]
#[inline(never)]
fn fix_large_lanes(result: &mut [f32], x: &[f32], f: fn(f32) -> f32) {
    for (result, &x) in result.iter_mut().zip(x) {
        if x.abs() > MAX_SMALL_ARGUMENT || x.is_nan() {
            *result = f(x);
        }
    }
}

/// `sin x`, or `cos x = sin(x + π/2)`.
#[inline(always)]
fn sine<L: Lanes<Elem = f32>>(x: L, cosine: bool) -> L {
    let mut turns = x.mul_add(L::splat(FRAC_2_PI), L::splat(ROUND_TO_INT));
    let n = turns - L::splat(ROUND_TO_INT);
    let mut r = x;
    for part in HALF_PI {
        r = n.mul_add(L::splat(-part), r);
    }
    let large = L::not(x.abs().le_mask(L::splat(MAX_SMALL_ARGUMENT)));
    if large.any() {
        turns = turns.modify(x, |turns, x| {
            fix_large_lanes(turns, x, |v| reduce_large(v).0)
        });
        r = r.modify(x, |r, x| fix_large_lanes(r, x, |v| reduce_large(v).1));
    }
    let quarter = if cosine { turns + L::splat(1.0) } else { turns };
    let s = r * r;
    let sin = polynomial(
        s,
        [-0.166_666_67, 0.008_333_372, -1.984_983_1e-4, 2.798_967e-6],
    );
    let sin = (sin * s).mul_add(r, r);
    let cos = polynomial(s, [0.041_666_646, -0.001_388_729_9, 2.443_028_5e-5]);
    let cos = (cos * s).mul_add(s, s.mul_add(L::splat(-0.5), L::splat(1.0)));
    let y = L::select(quarter.bit(0), cos, sin);
    L::select(quarter.bit(1), -y, y)
}

#[inline(always)]
pub(super) fn sin<L: Lanes<Elem = f32>>(x: L) -> L {
    L::select(x.eq_mask(L::splat(0.0)), x, sine(x, false)) // -0 stays -0
}

#[inline(always)]
pub(super) fn cos<L: Lanes<Elem = f32>>(x: L) -> L {
    sine(x, true)
}

/// With `w = 1 - e` and `e = e^(-2|x|)`, `tanh|x| = w/(1 + e)` and `1 - tanh|x| = 2e/(1 + e)`.
/// `|x| = h - n·½ln 2`, so `e = 2ⁿ·(1 - v)` with `v = 1 - e^(-2h)`, and `w = 2ⁿ·v + (1 - 2ⁿ)`. `w`
/// is only used for `n ≥ -2`.
#[inline(always)]
pub(super) fn tanh_tail<L: Lanes<Elem = f32>>(x: L) -> L {
    let a = x.abs().clamp_max(53.0); // the tail is 0 from there on
    let n = a.mul_add(L::splat(-2.0 * LOG2_E), L::splat(ROUND_TO_INT)) - L::splat(ROUND_TO_INT);
    let h = n.mul_add(
        L::splat(0.5 * LN_2[1]),
        n.mul_add(L::splat(0.5 * LN_2[0]), a),
    );
    let q = polynomial(
        h,
        [
            -1.999_999_9,
            1.333_323_1,
            -0.666_679_86,
            0.267_748_8,
            -0.088_745_97,
        ],
    );
    let v = q.mul_add(h * h, h + h);
    let e = (L::splat(1.0) - v).ldexp(n);
    let power = n.clamp_min(-2.0).exp2_int();
    let w = power.mul_add(v, L::splat(1.0) - power);
    L::select(a.le_mask(L::of(TANH_HALF)), w, e + e) / (L::splat(1.0) + e)
}

/// `x + x·P(x²)` up to 1, then `1 - e^(-x - x·Q(x))`.
#[inline(always)]
pub(super) fn erf<L: Lanes<Elem = f32>>(x: L) -> L {
    let t = x.abs().clamp_max(4.0);
    let p = [
        0.128_379_17,
        -0.376_126_26,
        0.112_835_83,
        -0.026_853_692,
        0.005_188_074,
        -8.007_878e-4,
        7.846_108e-5,
    ];
    let near = (polynomial(t * t, p)).mul_add(t, t);
    let q = [
        0.128_688_63,
        0.634_991_65,
        0.106_495_86,
        -0.023_981_13,
        0.003_744_310_7,
        -3.474_678e-4,
        1.366_048_9e-5,
    ];
    let far = L::splat(1.0) - exp(-(polynomial(t, q).mul_add(t, t)));
    L::select(t.lt_mask(L::splat(1.0)), near, far).copysign(x)
}
