//! AVX-512 (F, BW, DQ and VL): masks are bits in registers of their own.

use super::{
    avx2, compiled,
    x86::{common_lanes, each, hw, modify, quads, register},
};
use crate::{
    exec::kernels::vector::{Part, Vector},
    math::{Lanes, Mask},
};
use std::{
    arch::x86_64::*,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub},
};

/// Whether the processor has the instructions.
pub(super) fn is_there() -> bool {
    avx2::is_there()
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
}

/// A mask and its bits.
macro_rules! mask {
    ($Mask:ident($Bits:ident)) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $Mask($Bits);

        impl BitAnd for $Mask {
            type Output = $Mask;
            #[inline(always)]
            fn bitand(self, other: $Mask) -> $Mask {
                $Mask(self.0 & other.0)
            }
        }

        impl BitOr for $Mask {
            type Output = $Mask;
            #[inline(always)]
            fn bitor(self, other: $Mask) -> $Mask {
                $Mask(self.0 | other.0)
            }
        }

        impl Mask for $Mask {
            #[inline(always)]
            fn any(self) -> bool {
                self.0 != 0
            }
        }
    };
}
mask! { Mask16(__mmask16) }
mask! { Mask8(__mmask8) }

register! {
    /// Sixteen f32.
    F32x16(__m512), 16 of f32;
    splat: _mm512_set1_ps, load: _mm512_loadu_ps, store: _mm512_storeu_ps,
    add: _mm512_add_ps, sub: _mm512_sub_ps, mul: _mm512_mul_ps, div: _mm512_div_ps, xor: _mm512_xor_ps,
}
register! {
    /// Eight f64.
    F64x8(__m512d), 8 of f64;
    splat: _mm512_set1_pd, load: _mm512_loadu_pd, store: _mm512_storeu_pd,
    add: _mm512_add_pd, sub: _mm512_sub_pd, mul: _mm512_mul_pd, div: _mm512_div_pd, xor: _mm512_xor_pd,
}

/// The rest of [`Lanes`]: masks, and the bits of numbers as integers.
macro_rules! masks_and_bits {
    (
        $Mask:ident, $T:ident as $Int:ident;
        blend: $blend:ident, scale: $scale:ident,
        mask_to_bits: $mask_to_bits:ident, signs: $signs:ident, test: $test:ident,
        to_bits: $to_bits:ident, from_bits: $from_bits:ident, splat_bits: $splat_bits:ident,
        sub_bits: $sub_bits:ident, shift_left: $shift_left:ident, shift_right: $shift_right:ident, convert: $convert:ident,
        mantissa: $mantissa:literal, root_of_half: $root:expr $(,)?
    ) => {
        #[inline(always)]
        fn not(mask: $Mask) -> $Mask {
            $Mask(!mask.0)
        }
        #[inline(always)]
        fn select(mask: $Mask, yes: Self, no: Self) -> Self {
            Self(hw!($blend(mask.0, no.0, yes.0)))
        }
        #[inline(always)]
        fn from_mask(mask: $Mask) -> Self {
            Self(hw!($from_bits($mask_to_bits(mask.0))))
        }
        #[inline(always)]
        fn to_mask(self) -> $Mask {
            $Mask(hw!($signs($to_bits(self.0))))
        }
        #[inline(always)]
        fn ldexp(self, n: Self) -> Self {
            Self(hw!($scale(self.0, n.0)))
        }
        #[inline(always)]
        fn exp2_int(self) -> Self {
            Self::of(1.0).ldexp(self)
        }
        #[inline(always)]
        fn frexp(self) -> (Self, Self) {
            let bits = hw!($to_bits(self.0));
            let root: $T = $root;
            let exponent = hw!($shift_right::<$mantissa>($sub_bits(
                bits,
                $splat_bits(root.to_bits() as $Int)
            )));
            let rest = hw!($from_bits($sub_bits(
                bits,
                $shift_left::<$mantissa>(exponent)
            )));
            (Self(rest), Self(hw!($convert(exponent))))
        }
        #[inline(always)]
        fn bit(self, n: u32) -> $Mask {
            $Mask(hw!($test($to_bits(self.0), $splat_bits(1 << n))))
        }
    };
}

impl Lanes for F32x16 {
    common_lanes! {
        16 of f32, masks Mask16;
        splat: _mm512_set1_ps, mul_add: _mm512_fmadd_ps, sqrt: _mm512_sqrt_ps, min: _mm512_min_ps, max: _mm512_max_ps,
        and: _mm512_and_ps, or: _mm512_or_ps, and_not: _mm512_andnot_ps, compare: _mm512_cmp_ps_mask, round: _mm512_roundscale_ps,
    }
    masks_and_bits! {
        Mask16, f32 as i32;
        blend: _mm512_mask_blend_ps, scale: _mm512_scalef_ps,
        mask_to_bits: _mm512_movm_epi32, signs: _mm512_movepi32_mask, test: _mm512_test_epi32_mask,
        to_bits: _mm512_castps_si512, from_bits: _mm512_castsi512_ps, splat_bits: _mm512_set1_epi32,
        sub_bits: _mm512_sub_epi32, shift_left: _mm512_slli_epi32, shift_right: _mm512_srai_epi32,
        convert: _mm512_cvtepi32_ps,
        mantissa: 23, root_of_half: 0.707_106_77,
    }
}

impl Lanes for F64x8 {
    common_lanes! {
        8 of f64, masks Mask8;
        splat: _mm512_set1_pd, mul_add: _mm512_fmadd_pd, sqrt: _mm512_sqrt_pd, min: _mm512_min_pd, max: _mm512_max_pd,
        and: _mm512_and_pd, or: _mm512_or_pd, and_not: _mm512_andnot_pd, compare: _mm512_cmp_pd_mask, round: _mm512_roundscale_pd,
    }
    masks_and_bits! {
        Mask8, f64 as i64;
        blend: _mm512_mask_blend_pd, scale: _mm512_scalef_pd,
        mask_to_bits: _mm512_movm_epi64, signs: _mm512_movepi64_mask, test: _mm512_test_epi64_mask,
        to_bits: _mm512_castpd_si512, from_bits: _mm512_castsi512_pd, splat_bits: _mm512_set1_epi64,
        sub_bits: _mm512_sub_epi64, shift_left: _mm512_slli_epi64, shift_right: _mm512_srai_epi64,
        convert: _mm512_cvtepi64_pd,
        mantissa: 52, root_of_half: 0.707_106_781_186_547_5,
    }
}

impl Part for F32x16 {
    type First = __mmask16;
    #[inline(always)]
    fn first(n: usize) -> __mmask16 {
        u16::MAX >> (16 - n)
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f32, first: __mmask16) -> F32x16 {
        // SAFETY: the caller's promise.
        F32x16(unsafe { _mm512_maskz_loadu_ps(first, from) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, first: __mmask16) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_ps(to, first, self.0) }
    }
    quads! { _mm_loadu_ps, _mm512_insertf32x4, _mm512_castps128_ps512, [1 2 3]; _mm512_unpacklo_ps _mm512_unpackhi_ps _mm512_shuffle_ps }
}

impl Part for F64x8 {
    type First = __mmask8;
    #[inline(always)]
    fn first(n: usize) -> __mmask8 {
        u8::MAX >> (8 - n)
    }
    #[inline(always)]
    unsafe fn load_first(from: *const f64, first: __mmask8) -> F64x8 {
        // SAFETY: the caller's promise.
        F64x8(unsafe { _mm512_maskz_loadu_pd(first, from) })
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f64, first: __mmask8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_mask_storeu_pd(to, first, self.0) }
    }
    quads! { _mm_loadu_pd, _mm512_insertf64x2, _mm512_castpd128_pd512, [1 2 3]; _mm512_unpacklo_pd _mm512_unpackhi_pd }
}

compiled! {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    F32x16 of f32: functions own, tiles [8 by 3, narrow 16]
}
compiled! {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
    F64x8 of f64: functions own, tiles [8 by 3, narrow 16]
}
