//! What the vectors of AVX2 and AVX-512 have in common, as macros that are given intrinsics by
//! name.
//!
//! A vector exists only inside a function that was entered after the processor was asked
//! ([`super::table`]): that is the reason for every `unsafe` in the files of these two sets.
//! Everything is inlined into those functions.

/// One call of an intrinsic.
macro_rules! hw {
    ($($call:tt)*) => {
        // SAFETY: the processor has the instruction: see the head of `x86.rs`.
        unsafe { $($call)* }
    };
}
pub(super) use hw;

/// A vector type with its arithmetic, loads and stores.
macro_rules! register {
    (
        $(#[$doc:meta])*
        $V:ident($Register:ident), $n:literal of $T:ident;
        splat: $splat:ident, load: $load:ident, store: $store:ident,
        add: $add:ident, sub: $sub:ident, mul: $mul:ident, div: $div:ident, xor: $xor:ident $(,)?
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $V($Register);

        register! { @operator $V Add add $add }
        register! { @operator $V Sub sub $sub }
        register! { @operator $V Mul mul $mul }
        register! { @operator $V Div div $div }

        impl Neg for $V {
            type Output = $V;
            #[inline(always)]
            fn neg(self) -> $V {
                $V(hw!($xor(self.0, $splat(-0.0))))
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
    (@operator $V:ident $Trait:ident $method:ident $intrinsic:ident) => {
        impl $Trait for $V {
            type Output = $V;
            #[inline(always)]
            fn $method(self, other: $V) -> $V {
                $V(hw!($intrinsic(self.0, other.0)))
            }
        }
    };
}
pub(super) use register;

/// The methods of [`Lanes`](crate::Lanes) that are written alike for both sets.
macro_rules! common_lanes {
    (
        $n:literal of $T:ident, masks $Mask:ident;
        splat: $splat:ident, mul_add: $mul_add:ident, sqrt: $sqrt:ident, min: $min:ident, max: $max:ident,
        and: $and:ident, or: $or:ident, and_not: $and_not:ident, compare: $compare:ident, round: $round:ident $(,)?
    ) => {
        type Elem = $T;
        type Mask = $Mask;
        #[inline(always)]
        fn splat(v: $T) -> Self {
            Self(hw!($splat(v)))
        }
        #[inline(always)]
        fn mul_add(self, a: Self, b: Self) -> Self {
            Self(hw!($mul_add(self.0, a.0, b.0)))
        }
        #[inline(always)]
        fn abs(self) -> Self {
            Self(hw!($and_not($splat(-0.0), self.0)))
        }
        #[inline(always)]
        fn sqrt(self) -> Self {
            Self(hw!($sqrt(self.0)))
        }
        #[inline(always)]
        fn copysign(self, sign: Self) -> Self {
            Self(hw!($or(
                $and_not($splat(-0.0), self.0),
                $and($splat(-0.0), sign.0)
            )))
        }
        #[inline(always)]
        fn lt_mask(self, other: Self) -> $Mask {
            $Mask(hw!($compare::<_CMP_LT_OQ>(self.0, other.0)))
        }
        #[inline(always)]
        fn le_mask(self, other: Self) -> $Mask {
            $Mask(hw!($compare::<_CMP_LE_OQ>(self.0, other.0)))
        }
        #[inline(always)]
        fn eq_mask(self, other: Self) -> $Mask {
            $Mask(hw!($compare::<_CMP_EQ_OQ>(self.0, other.0)))
        }
        // if one is NaN or both are equal, `min` and `max` give the second one
        #[inline(always)]
        fn maximum(self, other: Self) -> Self {
            Self::select(self.eq_mask(self), Self(hw!($max(self.0, other.0))), self)
        }
        #[inline(always)]
        fn minimum(self, other: Self) -> Self {
            Self::select(self.eq_mask(self), Self(hw!($min(self.0, other.0))), self)
        }
        #[inline(always)]
        fn clamp_min(self, low: $T) -> Self {
            Self(hw!($max($splat(low), self.0)))
        }
        #[inline(always)]
        fn clamp_max(self, high: $T) -> Self {
            Self(hw!($min($splat(high), self.0)))
        }
        #[inline(always)]
        fn floor(self) -> Self {
            Self(hw!(
                $round::<{ _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC }>(self.0)
            ))
        }
        #[inline(always)]
        fn ceil(self) -> Self {
            Self(hw!(
                $round::<{ _MM_FROUND_TO_POS_INF | _MM_FROUND_NO_EXC }>(self.0)
            ))
        }
        #[inline(always)]
        fn round(self) -> Self {
            Self(hw!($round::<
                { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
            >(self.0)))
        }
        #[inline(always)]
        fn map(self, f: fn($T) -> $T) -> Self {
            let mut all: [$T; $n] = hw!(std::mem::transmute(self));
            each(&mut all, f);
            hw!(std::mem::transmute(all))
        }
        #[inline(always)]
        fn modify(self, other: Self, f: fn(&mut [$T], &[$T])) -> Self {
            let mut all: [$T; $n] = hw!(std::mem::transmute(self));
            let other: [$T; $n] = hw!(std::mem::transmute(other));
            modify(&mut all, &other, f);
            hw!(std::mem::transmute(all))
        }
    };
}
pub(super) use common_lanes;

/// Out of line: a loop of calls would be written out for every function and vector.
#[inline(never)]
pub(super) fn each<T: Copy>(all: &mut [T], f: fn(T) -> T) {
    all.iter_mut().for_each(|v| *v = f(*v));
}

/// As [`each`].
#[inline(never)]
pub(super) fn modify<T>(all: &mut [T], other: &[T], f: fn(&mut [T], &[T])) {
    f(all, other);
}

/// The methods of [`Part`](crate::exec::kernels::vector::Part) that go by 16 bytes.
macro_rules! quads {
    ($load:ident, $insert:ident, $widen:ident, [$($place:literal)*]; $($columns:tt)*) => {
        #[inline(always)]
        unsafe fn columns(from: *const Self::Elem, stride: usize) -> [Self; 4] {
            // a macro, not a closure: those are compiled without the caller's instruction set
            macro_rules! rows {
                ($first:expr) => {{
                    let from = from.wrapping_add($first * stride);
                    let rows = $widen($load(from));
                    $(let rows = $insert::<$place>(rows, $load(from.wrapping_add($place * Self::QUAD * stride)));)*
                    rows
                }};
            }
            // SAFETY: the caller's promise, and the head of this file.
            unsafe { quads!(@ rows $($columns)*) }
        }
        #[inline(always)]
        fn prefetch(at: *const Self::Elem) {
            hw!(_mm_prefetch::<_MM_HINT_T0>(at.cast()));
        }
    };
    // f32: in each 16 bytes, four rows of four
    (@ $rows:ident $low:ident $high:ident $shuffle:ident) => {{
        let (a, b, c, d) = ($rows!(0), $rows!(1), $rows!(2), $rows!(3));
        let (ab, cd) = ($low(a, b), $low(c, d));
        let (ab_high, cd_high) = ($high(a, b), $high(c, d));
        [
            Self($shuffle::<0x44>(ab, cd)),
            Self($shuffle::<0xEE>(ab, cd)),
            Self($shuffle::<0x44>(ab_high, cd_high)),
            Self($shuffle::<0xEE>(ab_high, cd_high)),
        ]
    }};
    // f64: two rows of two
    (@ $rows:ident $low:ident $high:ident) => {{
        let (a, b) = ($rows!(0), $rows!(1));
        let (low, high) = (Self($low(a, b)), Self($high(a, b)));
        [low, high, low, high]
    }};
}
pub(super) use quads;
