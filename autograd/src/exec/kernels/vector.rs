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
    /// The elements of 16 bytes.
    const QUAD: usize = 16 / size_of::<Self::Elem>();
    /// As many rows as there are lanes, each of `QUAD` elements, as columns. Where there are fewer
    /// than four, the rest of the result is unspecified.
    ///
    /// # Safety
    /// They can be read, in rows that are `stride` apart.
    #[inline(always)]
    unsafe fn columns(from: *const Self::Elem, stride: usize) -> [Self; 4] {
        let mut columns = [[Self::Elem::default(); 16]; 4];
        for (q, column) in columns.iter_mut().enumerate().take(Self::QUAD) {
            for (r, to) in column[..Self::N].iter_mut().enumerate() {
                // SAFETY: the caller's promise.
                *to = unsafe { *from.add(r * stride + q) };
            }
        }
        // SAFETY: a vector has at most 16 elements.
        columns.map(|column| unsafe { Self::load(column.as_ptr()) })
    }
    /// Asks for the cache line with this address, which need not be valid.
    #[inline(always)]
    fn prefetch(_: *const Self::Elem) {}
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
