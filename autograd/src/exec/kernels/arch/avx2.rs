//! AVX2 and fused multiply-adds: masks are vectors with all bits of a number set, or none.

use super::{
    compiled,
    x86::{common_lanes, each, hw, modify, quads, register},
};
use crate::{
    exec::kernels::vector::{Part, Vector},
    math::{Float, Lanes, Mask},
};
use std::{
    arch::x86_64::*,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub},
};

/// Whether the processor has the instructions.
pub(super) fn is_there() -> bool {
    is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")
}

/// A mask, which is a vector.
macro_rules! mask {
    ($Mask:ident($Register:ident), and: $and:ident, or: $or:ident, signs: $signs:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $Mask($Register);

        impl BitAnd for $Mask {
            type Output = $Mask;
            #[inline(always)]
            fn bitand(self, other: $Mask) -> $Mask {
                $Mask(hw!($and(self.0, other.0)))
            }
        }

        impl BitOr for $Mask {
            type Output = $Mask;
            #[inline(always)]
            fn bitor(self, other: $Mask) -> $Mask {
                $Mask(hw!($or(self.0, other.0)))
            }
        }

        impl Mask for $Mask {
            #[inline(always)]
            fn any(self) -> bool {
                hw!($signs(self.0)) != 0
            }
        }
    };
}
mask! { Mask8(__m256), and: _mm256_and_ps, or: _mm256_or_ps, signs: _mm256_movemask_ps }
mask! { Mask4(__m256d), and: _mm256_and_pd, or: _mm256_or_pd, signs: _mm256_movemask_pd }

register! {
    /// Eight f32.
    F32x8(__m256), 8 of f32;
    splat: _mm256_set1_ps, load: _mm256_loadu_ps, store: _mm256_storeu_ps,
    add: _mm256_add_ps, sub: _mm256_sub_ps, mul: _mm256_mul_ps, div: _mm256_div_ps, xor: _mm256_xor_ps,
}
register! {
    /// Four f64.
    F64x4(__m256d), 4 of f64;
    splat: _mm256_set1_pd, load: _mm256_loadu_pd, store: _mm256_storeu_pd,
    add: _mm256_add_pd, sub: _mm256_sub_pd, mul: _mm256_mul_pd, div: _mm256_div_pd, xor: _mm256_xor_pd,
}

/// Masks, and single bits of numbers.
macro_rules! masks_and_bits {
    (
        $Mask:ident;
        blend: $blend:ident, xor: $xor:ident,
        to_bits: $to_bits:ident, from_bits: $from_bits:ident, splat_bits: $splat_bits:ident, and_bits: $and_bits:ident,
        equal_bits: $equal_bits:ident $(,)?
    ) => {
        #[inline(always)]
        fn not(mask: $Mask) -> $Mask {
            $Mask(hw!($xor(mask.0, $from_bits($splat_bits(-1)))))
        }
        #[inline(always)]
        fn select(mask: $Mask, yes: Self, no: Self) -> Self {
            Self(hw!($blend(no.0, yes.0, mask.0)))
        }
        #[inline(always)]
        fn from_mask(mask: $Mask) -> Self {
            Self(mask.0)
        }
        #[inline(always)]
        fn to_mask(self) -> $Mask {
            $Mask(self.0)
        }
        #[inline(always)]
        fn bit(self, n: u32) -> $Mask {
            let one = hw!($splat_bits(1 << n));
            $Mask(hw!($from_bits($equal_bits(
                $and_bits($to_bits(self.0), one),
                one
            ))))
        }
    };
}

impl Lanes for F32x8 {
    common_lanes! {
        8 of f32, masks Mask8;
        splat: _mm256_set1_ps, mul_add: _mm256_fmadd_ps, sqrt: _mm256_sqrt_ps, min: _mm256_min_ps, max: _mm256_max_ps,
        and: _mm256_and_ps, or: _mm256_or_ps, and_not: _mm256_andnot_ps, compare: _mm256_cmp_ps, round: _mm256_round_ps,
    }
    masks_and_bits! {
        Mask8;
        blend: _mm256_blendv_ps, xor: _mm256_xor_ps,
        to_bits: _mm256_castps_si256, from_bits: _mm256_castsi256_ps, splat_bits: _mm256_set1_epi32,
        and_bits: _mm256_and_si256, equal_bits: _mm256_cmpeq_epi32,
    }
    /// Of the two products only the second may round.
    #[inline(always)]
    fn ldexp(self, n: F32x8) -> F32x8 {
        let n = hw!(_mm256_cvtps_epi32(n.0));
        let half = hw!(_mm256_srai_epi32::<1>(n));
        self * F32x8::from_exponent(half) * F32x8::from_exponent(hw!(_mm256_sub_epi32(n, half)))
    }
    #[inline(always)]
    fn exp2_int(self) -> F32x8 {
        F32x8::from_exponent(hw!(_mm256_cvtps_epi32(self.0)))
    }
    #[inline(always)]
    fn frexp(self) -> (F32x8, F32x8) {
        let bits = hw!(_mm256_castps_si256(self.0));
        let root = hw!(_mm256_set1_epi32(0.707_106_77f32.to_bits() as i32));
        let exponent = hw!(_mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, root)));
        let rest = hw!(_mm256_castsi256_ps(_mm256_sub_epi32(
            bits,
            _mm256_slli_epi32::<23>(exponent)
        )));
        (F32x8(rest), F32x8(hw!(_mm256_cvtepi32_ps(exponent))))
    }
}

impl F32x8 {
    /// `2ⁿ` put together from its bits
    #[inline(always)]
    fn from_exponent(n: __m256i) -> F32x8 {
        let biased = hw!(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
        F32x8(hw!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))))
    }
}

impl Lanes for F64x4 {
    common_lanes! {
        4 of f64, masks Mask4;
        splat: _mm256_set1_pd, mul_add: _mm256_fmadd_pd, sqrt: _mm256_sqrt_pd, min: _mm256_min_pd, max: _mm256_max_pd,
        and: _mm256_and_pd, or: _mm256_or_pd, and_not: _mm256_andnot_pd, compare: _mm256_cmp_pd, round: _mm256_round_pd,
    }
    masks_and_bits! {
        Mask4;
        blend: _mm256_blendv_pd, xor: _mm256_xor_pd,
        to_bits: _mm256_castpd_si256, from_bits: _mm256_castsi256_pd, splat_bits: _mm256_set1_epi64x,
        and_bits: _mm256_and_si256, equal_bits: _mm256_cmpeq_epi64,
    }
    /// As for f32. Integers are the lowest bits of numbers: there are no conversions of 64-bit ones.
    #[inline(always)]
    fn ldexp(self, n: F64x4) -> F64x4 {
        let offset = F64x4::splat(f64::ROUND_TO_INT);
        let half = n.mul_add(F64x4::splat(0.5), offset);
        let rest = (n - (half - offset)) + offset;
        self * half.power() * rest.power()
    }
    #[inline(always)]
    fn exp2_int(self) -> F64x4 {
        (self + F64x4::splat(f64::ROUND_TO_INT)).power()
    }
    #[inline(always)]
    fn frexp(self) -> (F64x4, F64x4) {
        let bits = hw!(_mm256_castpd_si256(self.0));
        let root = 0.707_106_781_186_547_5f64.to_bits() as i64;
        let bias = hw!(_mm256_set1_epi64x(1023));
        // the exponent is biased, because there is no shift of negative 64-bit numbers
        let offset = hw!(_mm256_set1_epi64x((1023 << 52) - root));
        let biased = hw!(_mm256_srli_epi64::<52>(_mm256_add_epi64(bits, offset)));
        let exponent = hw!(_mm256_sub_epi64(biased, bias));
        let rest = hw!(_mm256_sub_epi64(bits, _mm256_slli_epi64::<52>(exponent)));
        let zero = F64x4::splat(f64::ROUND_TO_INT);
        let lowest = hw!(_mm256_castsi256_pd(_mm256_add_epi64(
            exponent,
            _mm256_castpd_si256(zero.0)
        )));
        (F64x4(hw!(_mm256_castsi256_pd(rest))), F64x4(lowest) - zero)
    }
}

impl F64x4 {
    /// `2ⁿ` for a number with `n` in its lowest bits, put together from its bits
    #[inline(always)]
    fn power(self) -> F64x4 {
        let biased = hw!(_mm256_add_epi64(
            _mm256_castpd_si256(self.0),
            _mm256_set1_epi64x(1023)
        ));
        F64x4(hw!(_mm256_castsi256_pd(_mm256_slli_epi64::<52>(biased))))
    }
}

impl Part for F32x8 {
    type First = __m256i;
    #[inline(always)]
    fn first(n: usize) -> __m256i {
        hw!(_mm256_cmpgt_epi32(
            _mm256_set1_epi32(n as i32),
            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
        ))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, first: __m256i) -> F32x8 {
        // SAFETY: the caller's promise.
        F32x8(unsafe { _mm256_maskload_ps(from, first) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, first: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_maskstore_ps(to, first, self.0) }
    }
    quads! { _mm_loadu_ps, _mm256_insertf128_ps, _mm256_castps128_ps256, [1]; _mm256_unpacklo_ps _mm256_unpackhi_ps _mm256_shuffle_ps }
}

impl Part for F64x4 {
    type First = __m256i;
    #[inline(always)]
    fn first(n: usize) -> __m256i {
        hw!(_mm256_cmpgt_epi64(
            _mm256_set1_epi64x(n as i64),
            _mm256_setr_epi64x(0, 1, 2, 3)
        ))
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f64, first: __m256i) -> F64x4 {
        // SAFETY: the caller's promise.
        F64x4(unsafe { _mm256_maskload_pd(from, first) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f64, first: __m256i) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_maskstore_pd(to, first, self.0) }
    }
    quads! { _mm_loadu_pd, _mm256_insertf128_pd, _mm256_castpd128_pd256, [1]; _mm256_unpacklo_pd _mm256_unpackhi_pd }
}

compiled! {
    #[target_feature(enable = "avx2,fma")]
    F32x8 of f32: functions own, tiles [6 by 2, narrow 12]
}
compiled! {
    #[target_feature(enable = "avx2,fma")]
    F64x4 of f64: functions own, tiles [6 by 2, narrow 12]
}
