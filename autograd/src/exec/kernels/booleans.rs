//! Booleans on the way into kernels and out of them. In memory they are bytes, in registers masks
//! that are as large as the numbers beside them: all bits set, or none.
//!
//! Sixteen at a time, with SSE2, which every x86-64 processor has; the compiler makes of the plain
//! loop one for few of them.

use super::Vectors;

/// Masks of booleans.
#[inline(never)] // one copy for all callers
pub(super) fn to_masks<T: Vectors>(from: &[bool], to: &mut [T]) {
    assert_eq!(from.len(), to.len());
    let done = to.len() / AT_ONCE * AT_ONCE;
    #[cfg(target_arch = "x86_64")]
    for k in (0..done).step_by(AT_ONCE) {
        // SAFETY: so many elements from `k` on are there.
        unsafe { x86::widen(from.as_ptr().add(k), to.as_mut_ptr().add(k)) };
    }
    let rest = to[done..].iter_mut().zip(&from[done..]);
    rest.for_each(|(to, &from)| *to = T::from_mask(from));
}

/// Booleans of masks.
///
/// # Safety
/// As many can be written there, and the masks are none of them.
#[inline(never)]
pub(super) unsafe fn from_masks<T: Vectors>(from: &[T], to: *mut bool) {
    let done = from.len() / AT_ONCE * AT_ONCE;
    #[cfg(target_arch = "x86_64")]
    for k in (0..done).step_by(AT_ONCE) {
        // SAFETY: so many elements from `k` on are there.
        unsafe { x86::narrow(from.as_ptr().add(k), to.add(k)) };
    }
    for (k, mask) in from.iter().enumerate().skip(done) {
        // SAFETY: the caller's promise.
        unsafe { to.add(k).write(mask.to_mask()) }
    }
}

/// How many are converted at once: those of a vector of bytes; none where there is no such vector.
const AT_ONCE: usize = if cfg!(target_arch = "x86_64") {
    16
} else {
    usize::MAX
};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::Vectors;
    use std::arch::x86_64::*;

    /// # Safety
    /// Sixteen booleans can be read, and masks written.
    pub(super) unsafe fn widen<T: Vectors>(from: *const bool, to: *mut T) {
        let to: *mut __m128i = to.cast();
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm_sub_epi8(_mm_setzero_si128(), _mm_loadu_si128(from.cast()));
            // every element twice, until it is as large as a mask
            let words = [
                _mm_unpacklo_epi8(bytes, bytes),
                _mm_unpackhi_epi8(bytes, bytes),
            ];
            for (k, v) in words.into_iter().enumerate() {
                let quads = [_mm_unpacklo_epi16(v, v), _mm_unpackhi_epi16(v, v)];
                for (l, v) in quads.into_iter().enumerate() {
                    let at = 2 * k + l;
                    if size_of::<T>() == 4 {
                        _mm_storeu_si128(to.add(at), v);
                    } else {
                        _mm_storeu_si128(to.add(2 * at), _mm_unpacklo_epi32(v, v));
                        _mm_storeu_si128(to.add(2 * at + 1), _mm_unpackhi_epi32(v, v));
                    }
                }
            }
        }
    }

    /// # Safety
    /// Sixteen masks can be read, and booleans written.
    pub(super) unsafe fn narrow<T: Vectors>(from: *const T, to: *mut bool) {
        // SAFETY: the caller's promise.
        unsafe {
            // sixteen words, of some masks one after the other
            let words = |at: usize| {
                let from: *const __m128i = from.add(at).cast();
                let pair = |k: usize| {
                    let second = _mm_loadu_si128(from.add(k + 1));
                    _mm_packs_epi32(_mm_loadu_si128(from.add(k)), second)
                };
                _mm_packs_epi16(pair(0), pair(2))
            };
            let bytes = if size_of::<T>() == 4 {
                words(0)
            } else {
                // every mask twice
                let once = _mm_set1_epi16(0xff);
                let second = _mm_and_si128(words(8), once);
                _mm_packus_epi16(_mm_and_si128(words(0), once), second)
            };
            _mm_storeu_si128(to.cast(), _mm_and_si128(bytes, _mm_set1_epi8(1)));
        }
    }
}
