//! Vectors in memory: what kernels need beyond the arithmetic of [`Lanes`].

use crate::math::{Lanes, Wide, sum::SUM_LANES};

/// Lanes that are loaded from memory and stored.
pub(crate) trait Vector: Lanes {
    /// How many numbers it holds.
    const N: usize;
    /// # Safety
    /// `N` numbers can be read there.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// # Safety
    /// `N` numbers can be written there.
    unsafe fn store(self, to: *mut Self::Elem);
}

/// Vectors of which the first few numbers can be loaded and stored by themselves.
pub(crate) trait Part: Vector {
    type First: Copy;
    /// The first `n` numbers, from 1 to all.
    fn first(n: usize) -> Self::First;
    /// The others are 0.
    ///
    /// # Safety
    /// The first numbers can be read.
    unsafe fn load_first(from: *const Self::Elem, first: Self::First) -> Self;
    /// # Safety
    /// The first numbers can be written.
    unsafe fn store_first(self, to: *mut Self::Elem, first: Self::First);
    /// Eight rows of eight numbers become columns.
    ///
    /// # Safety
    /// They can be read and written, in rows that are `stride` and `width` apart.
    #[inline(always)]
    unsafe fn transpose_8x8(
        from: *const Self::Elem,
        stride: usize,
        to: *mut Self::Elem,
        width: usize,
    ) {
        for r in 0..8 {
            for c in 0..8 {
                // SAFETY: the caller's promise.
                unsafe { *to.add(c * width + r) = *from.add(r * stride + c) }
            }
        }
    }
}

macro_rules! scalar {
    ($($T:ident)*) => { $(
        impl Vector for $T {
            const N: usize = 1;
            #[inline(always)]
            unsafe fn load(from: *const $T) -> $T {
                // SAFETY: the caller's promise.
                unsafe { *from }
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $T) {
                // SAFETY: the caller's promise.
                unsafe { *to = self }
            }
        }
    )* };
}
scalar! { f32 f64 }

impl<V: Vector> Vector for Wide<V> {
    const N: usize = 4 * V::N;
    #[inline(always)]
    unsafe fn load(from: *const V::Elem) -> Self {
        // SAFETY: the caller's promise, for each quarter.
        unsafe {
            Wide([
                V::load(from),
                V::load(from.add(V::N)),
                V::load(from.add(2 * V::N)),
                V::load(from.add(3 * V::N)),
            ])
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut V::Elem) {
        let [a, b, c, d] = self.0;
        // SAFETY: the caller's promise, for each quarter.
        unsafe {
            a.store(to);
            b.store(to.add(V::N));
            c.store(to.add(2 * V::N));
            d.store(to.add(3 * V::N));
        }
    }
}

/// Adds the numbers of eight vectors to those of a ring of `SUM_LANES`, one after the other, from
/// position `at` on, which is a multiple of what the eight hold.
///
/// # Safety
/// `SUM_LANES` numbers can be read and written there.
#[inline(always)]
pub(super) unsafe fn add_to_ring<V: Vector>(
    [low, high]: [Wide<V>; 2],
    ring: *mut V::Elem,
    at: usize,
) {
    let [a, b, c, d] = low.0;
    let [e, f, g, h] = high.0;
    let (all, in_ring) = ([a, b, c, d, e, f, g, h], SUM_LANES / V::N);
    for place in 0..in_ring.min(all.len()) {
        // SAFETY: the place is in the ring; the caller's promise.
        unsafe {
            let place_in_ring = ring.add((at + place * V::N) % SUM_LANES);
            let mut sum = V::load(place_in_ring);
            let mut k = place;
            while k < all.len() {
                sum = sum + all[k];
                k += in_ring;
            }
            sum.store(place_in_ring);
        }
    }
}
