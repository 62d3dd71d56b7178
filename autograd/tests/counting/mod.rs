//! An allocator that counts, for tests of what is allocated. Each of them is a single test, so that nothing else allocates
//! meanwhile.

#![allow(dead_code)] // not all tests look at every count

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

/// The bytes that are allocated now,
pub(crate) static LIVE: AtomicUsize = AtomicUsize::new(0);
/// and the most that were, since a test last set it.
pub(crate) static PEAK: AtomicUsize = AtomicUsize::new(0);
/// All bytes ever allocated.
pub(crate) static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// All allocations,
pub(crate) static COUNT: AtomicUsize = AtomicUsize::new(0);
/// and those of at least [`MIB`] bytes.
pub(crate) static LARGE: AtomicUsize = AtomicUsize::new(0);

pub(crate) const MIB: usize = 1 << 20;

// SAFETY: hands everything to the system's allocator and only counts.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        TOTAL.fetch_add(layout.size(), Relaxed);
        COUNT.fetch_add(1, Relaxed);
        LARGE.fetch_add(usize::from(layout.size() >= MIB), Relaxed);
        // SAFETY: the caller's promise is the callee's condition.
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;
