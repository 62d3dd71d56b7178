//! The vector registers of x86-64 as [`Lanes`]: AVX2 with FMA, and AVX-512.
//!
//! A value of these types exists only inside a function that was entered after the processor was asked ([`super::Isa`]):
//! that is the reason for every `unsafe` here. Everything is inlined into those functions.

use super::{tile::Part, vector::Vector};
use crate::math::{Lanes, Mask};
use std::{
    arch::x86_64::*,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub},
};

/// One call of an intrinsic.
macro_rules! hw {
    ($($call:tt)*) => {
        // SAFETY: the processor has the instruction: see the head of this file.
        unsafe { $($call)* }
    };
}

/// Out of line: a loop of calls would be written out for every function and vector.
#[inline(never)]
fn each<T: Copy>(all: &mut [T], f: fn(T) -> T) {
    all.iter_mut().for_each(|v| *v = f(*v));
}

macro_rules! operators {
    ($V:ident: $($Trait:ident $f:ident $call:ident),*) => { $(
        impl $Trait for $V {
            type Output = $V;
            #[inline(always)]
            fn $f(self, other: $V) -> $V {
                $V(hw!($call(self.0, other.0)))
            }
        }
    )* };
}

/// What all four have in common, in terms of the intrinsics' names.
macro_rules! common {
    ($V:ident($R:ident) of $T:ident * $n:literal, $Mask:ident: $add:ident $sub:ident $mul:ident $div:ident $xor:ident
     $set:ident $load:ident $store:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $V($R);
        operators! { $V: Add add $add, Sub sub $sub, Mul mul $mul, Div div $div }
        impl Neg for $V {
            type Output = $V;
            #[inline(always)]
            fn neg(self) -> $V {
                $V(hw!($xor(self.0, $set(-0.0))))
            }
        }
        impl Vector for $V {
            const N: usize = $n;
            #[inline(always)]
            unsafe fn load(from: *const $T) -> $V {
                // SAFETY: the caller's promise.
                $V(unsafe { $load(from) })
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $T) {
                // SAFETY: the caller's promise.
                unsafe { $store(to, self.0) }
            }
        }
    };
}

/// The parts of [`Lanes`] that are the same for all four.
macro_rules! shared_lanes {
    ($T:ident * $n:literal, $Mask:ident, $fma:ident $andnot:ident $and:ident $or:ident $sqrt:ident $set:ident $min:ident $max:ident) => {
        type Elem = $T;
        type Mask = $Mask;
        #[inline(always)]
        fn splat(v: $T) -> Self {
            Self(hw!($set(v)))
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Self(hw!($fma(self.0, a.0, b.0)))
        }
        #[inline(always)]
        fn abs(self) -> Self {
            Self(hw!($andnot($set(-0.0), self.0)))
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(hw!($sqrt(self.0)))
        }
        #[inline(always)]
        fn with_sign_of(self, sign: Self) -> Self {
            Self(hw!($or($andnot($set(-0.0), self.0), $and($set(-0.0), sign.0))))
        }
        #[inline(always)]
        fn map(self, f: fn($T) -> $T) -> Self {
            let mut all: [$T; $n] = hw!(std::mem::transmute(self));
            each(&mut all, f);
            hw!(std::mem::transmute(all))
        }
        #[inline(always)]
        fn change(self, other: Self, f: fn(&mut [$T], &[$T])) -> Self {
            let mut all: [$T; $n] = hw!(std::mem::transmute(self));
            let other: [$T; $n] = hw!(std::mem::transmute(other));
            f(&mut all, &other);
            hw!(std::mem::transmute(all))
        }
        // of two NaN or equal numbers these instructions give the second one
        #[inline(always)]
        fn at_least(self, low: $T) -> Self {
            Self(hw!($max($set(low), self.0)))
        }
        #[inline(always)]
        fn at_most(self, high: $T) -> Self {
            Self(hw!($min($set(high), self.0)))
        }
    };
}

common! { F32x16(__m512) of f32 * 16, Mask16: _mm512_add_ps _mm512_sub_ps _mm512_mul_ps _mm512_div_ps _mm512_xor_ps _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps }
common! { F64x8(__m512d) of f64 * 8, Mask8: _mm512_add_pd _mm512_sub_pd _mm512_mul_pd _mm512_div_pd _mm512_xor_pd _mm512_set1_pd _mm512_loadu_pd _mm512_storeu_pd }
common! { F32x8(__m256) of f32 * 8, Wide32: _mm256_add_ps _mm256_sub_ps _mm256_mul_ps _mm256_div_ps _mm256_xor_ps _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps }
common! { F64x4(__m256d) of f64 * 4, Wide64: _mm256_add_pd _mm256_sub_pd _mm256_mul_pd _mm256_div_pd _mm256_xor_pd _mm256_set1_pd _mm256_loadu_pd _mm256_storeu_pd }

macro_rules! bit_mask {
    ($Mask:ident($M:ty)) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $Mask($M);
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
bit_mask! { Mask16(__mmask16) }
bit_mask! { Mask8(__mmask8) }

macro_rules! wide_mask {
    ($Mask:ident($M:ty), $and:ident $or:ident $bits:ident) => {
        #[derive(Clone, Copy)]
        pub(crate) struct $Mask($M);
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
                hw!($bits(self.0)) != 0
            }
        }
    };
}
wide_mask! { Wide32(__m256), _mm256_and_ps _mm256_or_ps _mm256_movemask_ps }
wide_mask! { Wide64(__m256d), _mm256_and_pd _mm256_or_pd _mm256_movemask_pd }

/// AVX-512: masks are bits of a register of their own.
macro_rules! avx512 {
    ($V:ident $T:ident * $n:literal, $Mask:ident; $($shared:ident)*; $cmp:ident $blend:ident $ones:ident $to:ident $test:ident
     $cast:ident $back:ident $set1:ident $Int:ident; $scale:ident $sub:ident $sra:ident $sll:ident $convert:ident,
     $root:expr, $mantissa:literal) => {
        impl Lanes for $V {
            shared_lanes! { $T * $n, $Mask, $($shared)* }
            #[inline(always)]
            fn below(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_LT_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn up_to(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_LE_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn same(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_EQ_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn not(mask: $Mask) -> $Mask {
                $Mask(!mask.0)
            }
            #[inline(always)]
            fn pick(mask: $Mask, yes: Self, no: Self) -> Self {
                Self(hw!($blend(mask.0, no.0, yes.0)))
            }
            #[inline(always)]
            fn from_mask(mask: $Mask) -> Self {
                Self(hw!($back($ones(mask.0))))
            }
            #[inline(always)]
            fn to_mask(self) -> $Mask {
                $Mask(hw!($to($cast(self.0))))
            }
            #[inline(always)]
            fn scale(self, n: Self) -> Self {
                Self(hw!($scale(self.0, n.0)))
            }
            #[inline(always)]
            fn two_to(self) -> Self {
                Self::of(1.0).scale(self)
            }
            #[inline(always)]
            fn split(self) -> (Self, Self) {
                let bits = hw!($cast(self.0));
                let e = hw!($sra::<$mantissa>($sub(bits, $set1($root.to_bits() as $Int))));
                (Self(hw!($back($sub(bits, $sll::<$mantissa>(e))))), Self(hw!($convert(e))))
            }
            #[inline(always)]
            fn bit(self, n: u32) -> $Mask {
                $Mask(hw!($test($cast(self.0), $set1(1 << n))))
            }
        }
    };
}
avx512! { F32x16 f32 * 16, Mask16;
_mm512_fmadd_ps _mm512_andnot_ps _mm512_and_ps _mm512_or_ps _mm512_sqrt_ps _mm512_set1_ps _mm512_min_ps _mm512_max_ps;
_mm512_cmp_ps_mask _mm512_mask_blend_ps _mm512_movm_epi32 _mm512_movepi32_mask _mm512_test_epi32_mask
_mm512_castps_si512 _mm512_castsi512_ps _mm512_set1_epi32 i32;
_mm512_scalef_ps _mm512_sub_epi32 _mm512_srai_epi32 _mm512_slli_epi32 _mm512_cvtepi32_ps,
0.707_106_77f32, 23 }
avx512! { F64x8 f64 * 8, Mask8;
_mm512_fmadd_pd _mm512_andnot_pd _mm512_and_pd _mm512_or_pd _mm512_sqrt_pd _mm512_set1_pd _mm512_min_pd _mm512_max_pd;
_mm512_cmp_pd_mask _mm512_mask_blend_pd _mm512_movm_epi64 _mm512_movepi64_mask _mm512_test_epi64_mask
_mm512_castpd_si512 _mm512_castsi512_pd _mm512_set1_epi64 i64;
_mm512_scalef_pd _mm512_sub_epi64 _mm512_srai_epi64 _mm512_slli_epi64 _mm512_cvtepi64_pd,
0.707_106_781_186_547_5f64, 52 }

/// AVX2: masks are registers with all bits of a lane set or none.
macro_rules! avx2 {
    ($V:ident $T:ident * $n:literal, $Mask:ident; $($shared:ident)*; $cmp:ident $blend:ident $xor:ident $cast:ident $back:ident
     $set1:ident $and:ident $equal:ident) => {
        impl Lanes for $V {
            shared_lanes! { $T * $n, $Mask, $($shared)* }
            #[inline(always)]
            fn below(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_LT_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn up_to(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_LE_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn same(self, other: Self) -> $Mask {
                $Mask(hw!($cmp::<_CMP_EQ_OQ>(self.0, other.0)))
            }
            #[inline(always)]
            fn not(mask: $Mask) -> $Mask {
                $Mask(hw!($xor(mask.0, $back($set1(-1)))))
            }
            #[inline(always)]
            fn pick(mask: $Mask, yes: Self, no: Self) -> Self {
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
            fn scale(self, n: Self) -> Self {
                self.scale_in_two_steps(n)
            }
            #[inline(always)]
            fn two_to(self) -> Self {
                self.power_of_two()
            }
            #[inline(always)]
            fn split(self) -> (Self, Self) {
                self.split_bits()
            }
            #[inline(always)]
            fn bit(self, n: u32) -> $Mask {
                let one = hw!($set1(1 << n));
                $Mask(hw!($back($equal($and($cast(self.0), one), one))))
            }
        }
    };
}
avx2! { F32x8 f32 * 8, Wide32;
_mm256_fmadd_ps _mm256_andnot_ps _mm256_and_ps _mm256_or_ps _mm256_sqrt_ps _mm256_set1_ps _mm256_min_ps _mm256_max_ps;
_mm256_cmp_ps _mm256_blendv_ps _mm256_xor_ps _mm256_castps_si256 _mm256_castsi256_ps _mm256_set1_epi32
_mm256_and_si256 _mm256_cmpeq_epi32 }
avx2! { F64x4 f64 * 4, Wide64;
_mm256_fmadd_pd _mm256_andnot_pd _mm256_and_pd _mm256_or_pd _mm256_sqrt_pd _mm256_set1_pd _mm256_min_pd _mm256_max_pd;
_mm256_cmp_pd _mm256_blendv_pd _mm256_xor_pd _mm256_castpd_si256 _mm256_castsi256_pd _mm256_set1_epi64x
_mm256_and_si256 _mm256_cmpeq_epi64 }

impl F32x8 {
    /// Of the two products only the second may round.
    #[inline(always)]
    fn scale_in_two_steps(self, n: Self) -> Self {
        let n = hw!(_mm256_cvtps_epi32(n.0));
        let half = hw!(_mm256_srai_epi32::<1>(n));
        self * Self::from_exponent(half) * Self::from_exponent(hw!(_mm256_sub_epi32(n, half)))
    }

    #[inline(always)]
    fn power_of_two(self) -> Self {
        Self::from_exponent(hw!(_mm256_cvtps_epi32(self.0)))
    }

    /// `2ⁿ` put together from its bits
    #[inline(always)]
    fn from_exponent(n: __m256i) -> Self {
        let biased = hw!(_mm256_add_epi32(n, _mm256_set1_epi32(127)));
        Self(hw!(_mm256_castsi256_ps(_mm256_slli_epi32::<23>(biased))))
    }

    #[inline(always)]
    fn split_bits(self) -> (Self, Self) {
        let bits = hw!(_mm256_castps_si256(self.0));
        let root = hw!(_mm256_set1_epi32(0.707_106_77f32.to_bits() as i32));
        let e = hw!(_mm256_srai_epi32::<23>(_mm256_sub_epi32(bits, root)));
        let m = hw!(_mm256_castsi256_ps(_mm256_sub_epi32(bits, _mm256_slli_epi32::<23>(e))));
        (Self(m), Self(hw!(_mm256_cvtepi32_ps(e))))
    }
}

/// Without the instructions for 64-bit integers: lane by lane. No function of f64 needs them.
impl F64x4 {
    #[inline(always)]
    fn scale_in_two_steps(self, n: Self) -> Self {
        self.change(n, |x, n| x.iter_mut().zip(n).for_each(|(x, &n)| *x = x.scale(n)))
    }
    #[inline(always)]
    fn power_of_two(self) -> Self {
        self.map(|n| n.two_to())
    }
    #[inline(always)]
    fn split_bits(self) -> (Self, Self) {
        (self.map(|v| v.split().0), self.map(|v| v.split().1))
    }
}

/// The first numbers of a vector: by a mask of bits, or of all bits of each number.
macro_rules! part {
    ($V:ident of $T:ident, $First:ty, |$n:ident| $first:expr, |$from:ident, $mask:ident| $load:expr,
     |$to:ident, $mask2:ident, $v:ident| $store:expr, $transpose:ident) => {
        impl Part for $V {
            type First = $First;
            #[inline(always)]
            fn first($n: usize) -> $First {
                $first
            }
            #[inline(always)]
            unsafe fn load_first($from: *const $T, $mask: $First) -> Self {
                // SAFETY: the caller's promise.
                Self(unsafe { $load })
            }
            #[inline(always)]
            unsafe fn store_first(self, $to: *mut $T, $mask2: $First) {
                let $v = self.0;
                // SAFETY: the caller's promise.
                unsafe { $store }
            }
            #[inline(always)]
            unsafe fn transpose_8x8(from: *const $T, stride: usize, to: *mut $T, width: usize) {
                // SAFETY: the caller's promise; all instruction sets that there are tiles for have AVX2.
                unsafe { $transpose(from, stride, to, width) }
            }
        }
    };
}

part! {
    F32x16 of f32, __mmask16, |n| u16::MAX >> (16 - n),
    |from, first| _mm512_maskz_loadu_ps(first, from), |to, first, v| _mm512_mask_storeu_ps(to, first, v), transpose_8x8
}
part! {
    F64x8 of f64, __mmask8, |n| u8::MAX >> (8 - n),
    |from, first| _mm512_maskz_loadu_pd(first, from), |to, first, v| _mm512_mask_storeu_pd(to, first, v), transpose_by_numbers
}
part! {
    F32x8 of f32, __m256i,
    |n| hw!(_mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))),
    |from, first| _mm256_maskload_ps(from, first), |to, first, v| _mm256_maskstore_ps(to, first, v), transpose_8x8
}
part! {
    F64x4 of f64, __m256i,
    |n| hw!(_mm256_cmpgt_epi64(_mm256_set1_epi64x(n as i64), _mm256_setr_epi64x(0, 1, 2, 3))),
    |from, first| _mm256_maskload_pd(from, first), |to, first, v| _mm256_maskstore_pd(to, first, v), transpose_by_numbers
}

/// As [`transpose_8x8`], for f64, number by number.
///
/// # Safety
/// They can be read and written.
#[inline(always)]
unsafe fn transpose_by_numbers(from: *const f64, stride: usize, to: *mut f64, width: usize) {
    for r in 0..8 {
        for c in 0..8 {
            // SAFETY: the caller's promise.
            unsafe { *to.add(c * width + r) = *from.add(r * stride + c) }
        }
    }
}

/// Eight rows of eight numbers become columns; rows are `stride` and `width` apart.
///
/// # Safety
/// They can be read and written.
#[inline(always)]
unsafe fn transpose_8x8(from: *const f32, stride: usize, to: *mut f32, width: usize) {
    // SAFETY: the caller's promise, and the head of this file.
    unsafe {
        // macros, not closures: those are compiled without the caller's instruction set
        macro_rules! pair {
            ($r:expr) => {{
                let (a, b) = (_mm256_loadu_ps(from.add($r * stride)), _mm256_loadu_ps(from.add(($r + 1) * stride)));
                (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b))
            }};
        }
        // pairs of rows, then fours, then halves change places
        macro_rules! four {
            ($r:expr) => {{
                let ((a, b), (c, d)) = (pair!($r), pair!($r + 2));
                [
                    _mm256_shuffle_ps::<0x44>(a, c),
                    _mm256_shuffle_ps::<0xEE>(a, c),
                    _mm256_shuffle_ps::<0x44>(b, d),
                    _mm256_shuffle_ps::<0xEE>(b, d),
                ]
            }};
        }
        let (upper, lower) = (four!(0), four!(4));
        for c in 0..4 {
            _mm256_storeu_ps(to.add(c * width), _mm256_permute2f128_ps::<0x20>(upper[c], lower[c]));
            _mm256_storeu_ps(to.add((c + 4) * width), _mm256_permute2f128_ps::<0x31>(upper[c], lower[c]));
        }
    }
}
