//! Giving memory back: what threads and the plan cache keep for the next runs.

use crate::{memory_cache, plan::cache};

/// Frees all memory that this thread caches between runs, and all cached plans.
///
/// Memory is cached so that repeated runs of similar size allocate nothing: per thread at most 256
/// MiB, or the need of the largest of its last 16 runs if that is more. Plans are cached for all
/// threads, in at most 128 MiB. This function frees all of it; later runs allocate again.
///
/// ```
/// let f = autograd::grad(|x| x.sin().sum());
/// let first = f(&vec![0.5; 100_000])?;
/// autograd::release_memory();
/// assert_eq!(f(&vec![0.5; 100_000])?, first);
/// # Ok::<(), autograd::Error>(())
/// ```
pub fn release_memory() {
    memory_cache::clear();
    cache::clear();
}

/// The bytes that this thread caches, and those of the cached plans: for tests.
#[doc(hidden)]
pub fn cached_bytes() -> [usize; 2] {
    [memory_cache::bytes(), cache::bytes()]
}
