//! Any processor with fused multiply-adds: vectors are arrays, and the compiler makes of them what
//! the target has.

use super::compiled;
use crate::{
    exec::kernels::vector::{Part, Vector},
    math::{Float, Lanes, Mask},
};
use std::{
    array::from_fn,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Sub},
};

/// A vector.
#[derive(Clone, Copy)]
pub(crate) struct Array<T, const N: usize>([T; N]);

/// A mask of a vector.
#[derive(Clone, Copy)]
pub(crate) struct Masks<const N: usize>([bool; N]);

/// As long as the shortest vectors that processors have.
pub(super) type F32 = Array<f32, 4>;
pub(super) type F64 = Array<f64, 2>;

macro_rules! operators {
    ($($Trait:ident $method:ident)*) => { $(
        impl<T: Float, const N: usize> $Trait for Array<T, N> {
            type Output = Array<T, N>;
            #[inline(always)]
            fn $method(self, other: Array<T, N>) -> Array<T, N> {
                Array(from_fn(|k| self.0[k].$method(other.0[k])))
            }
        }
    )* };
}
operators! { Add add Sub sub Mul mul Div div }

impl<T: Float, const N: usize> Neg for Array<T, N> {
    type Output = Array<T, N>;
    #[inline(always)]
    fn neg(self) -> Array<T, N> {
        Array(self.0.map(|v| -v))
    }
}

impl<const N: usize> BitAnd for Masks<N> {
    type Output = Masks<N>;
    #[inline(always)]
    fn bitand(self, other: Masks<N>) -> Masks<N> {
        Masks(from_fn(|k| self.0[k] & other.0[k]))
    }
}

impl<const N: usize> BitOr for Masks<N> {
    type Output = Masks<N>;
    #[inline(always)]
    fn bitor(self, other: Masks<N>) -> Masks<N> {
        Masks(from_fn(|k| self.0[k] | other.0[k]))
    }
}

impl<const N: usize> Mask for Masks<N> {
    #[inline(always)]
    fn any(self) -> bool {
        self.0.into_iter().fold(false, |any, one| any | one)
    }
}

/// Methods that are done for each number by itself, with those of others and with values that are
/// the same for all.
macro_rules! each {
    ($($name:ident($($x:ident),*; $($same:ident: $Same:ty),*) -> $Out:ident;)*) => { $(
        #[inline(always)]
        fn $name(self $(, $x: Self)* $(, $same: $Same)*) -> each!(@ $Out) {
            $Out(from_fn(|k| self.0[k].$name($($x.0[k],)* $($same),*)))
        }
    )* };
    (@ Array) => { Self };
    (@ Masks) => { Masks<N> };
}

impl<T: Float, const N: usize> Lanes for Array<T, N> {
    type Elem = T;
    type Mask = Masks<N>;
    each! {
        mul_add(a, b;) -> Array;
        abs(;) -> Array;
        sqrt(;) -> Array;
        floor(;) -> Array;
        ceil(;) -> Array;
        round(;) -> Array;
        copysign(sign;) -> Array;
        map(; f: fn(T) -> T) -> Array;
        clamp_min(; low: T) -> Array;
        clamp_max(; high: T) -> Array;
        ldexp(n;) -> Array;
        exp2_int(;) -> Array;
        lt_mask(other;) -> Masks;
        le_mask(other;) -> Masks;
        eq_mask(other;) -> Masks;
        to_mask(;) -> Masks;
        bit(; n: u32) -> Masks;
    }
    #[inline(always)]
    fn splat(v: T) -> Self {
        Array([v; N])
    }
    #[inline(always)]
    fn modify(mut self, other: Self, f: fn(&mut [T], &[T])) -> Self {
        f(&mut self.0, &other.0);
        self
    }
    #[inline(always)]
    fn not(mask: Masks<N>) -> Masks<N> {
        Masks(mask.0.map(|one| !one))
    }
    #[inline(always)]
    fn select(mask: Masks<N>, yes: Self, no: Self) -> Self {
        Array(from_fn(|k| T::select(mask.0[k], yes.0[k], no.0[k])))
    }
    #[inline(always)]
    fn from_mask(mask: Masks<N>) -> Self {
        Array(mask.0.map(T::from_mask))
    }
    #[inline(always)]
    fn frexp(self) -> (Self, Self) {
        (
            Array(self.0.map(|v| v.frexp().0)),
            Array(self.0.map(|v| v.frexp().1)),
        )
    }
}

impl<T: Float, const N: usize> Vector for Array<T, N> {
    const N: usize = N;
    #[inline(always)]
    unsafe fn load(from: *const T) -> Self {
        // SAFETY: the caller's promise; an array of numbers needs no more than they do.
        Array(unsafe { *from.cast() })
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut T) {
        // SAFETY: as above.
        unsafe { *to.cast() = self.0 }
    }
}

impl<T: Float, const N: usize> Part for Array<T, N> {
    type First = usize;
    #[inline(always)]
    fn first(n: usize) -> usize {
        n
    }
    #[inline(always)]
    unsafe fn load_first(from: *const T, first: usize) -> Self {
        let mut all = [T::default(); N];
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(from, all.as_mut_ptr(), first) }
        Array(all)
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut T, first: usize) {
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, first) }
    }
}

compiled! {
    #[inline(never)]
    F32 of f32: functions own, tiles [4 by 2, narrow 8]
}
compiled! {
    #[inline(never)]
    F64 of f64: functions own, tiles [4 by 2, narrow 8]
}
