//! A counting allocator. A test file that uses it has a single test, so that nothing else allocates
//! at the same time.

#![allow(dead_code)] // not all tests use every counter

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

struct Counting;

/// The bytes allocated now,
pub(crate) static LIVE: AtomicUsize = AtomicUsize::new(0);
/// their maximum since a test last reset it,
pub(crate) static PEAK: AtomicUsize = AtomicUsize::new(0);
/// the total of all bytes ever allocated,
pub(crate) static TOTAL: AtomicUsize = AtomicUsize::new(0);
/// the number of allocations,
pub(crate) static COUNT: AtomicUsize = AtomicUsize::new(0);
/// and of those with at least [`MIB`] bytes.
pub(crate) static LARGE: AtomicUsize = AtomicUsize::new(0);

pub(crate) const MIB: usize = 1 << 20;

// SAFETY: forwards all calls to the system allocator; only counts.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Relaxed) + layout.size();
        PEAK.fetch_max(live, Relaxed);
        TOTAL.fetch_add(layout.size(), Relaxed);
        COUNT.fetch_add(1, Relaxed);
        LARGE.fetch_add(usize::from(layout.size() >= MIB), Relaxed);
        // SAFETY: the caller guarantees the contract of the called function.
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
