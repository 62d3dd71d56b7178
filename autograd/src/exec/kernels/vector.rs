//! Vectors in memory: what kernels need beyond the arithmetic of [`Lanes`].

use crate::math::{Lanes, Wide};

/// Vectors that can be loaded from memory and stored.
pub(crate) trait Vector: Lanes {
    /// The number of lanes.
    const N: usize;
    /// # Safety
    /// `N` elements can be read there.
    unsafe fn load(from: *const Self::Elem) -> Self;
    /// # Safety
    /// `N` elements can be written there.
    unsafe fn store(self, to: *mut Self::Elem);
}

/// Vectors whose first lanes can be loaded and stored without the others (masked loads and stores).
pub(crate) trait Part: Vector {
    type First: Copy;
    /// A mask of the first `n` lanes, `n` from 1 to all.
    fn first(n: usize) -> Self::First;
    /// The other lanes are 0.
    ///
    /// # Safety
    /// The first elements can be read.
    unsafe fn load_first(from: *const Self::Elem, first: Self::First) -> Self;
    /// # Safety
    /// The first elements can be written.
    unsafe fn store_first(self, to: *mut Self::Elem, first: Self::First);
    /// Transposes eight rows of eight elements.
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
