//! Derives independent seeds from the one seed that the user gives.

use rand::{SeedableRng, rngs::ChaCha8Rng};

/// Derives seed `k` from a seed. Similar inputs give unrelated seeds (the finalizer of SplitMix64,
/// Steele, Lea and Flood 2014).
pub(crate) fn derive(seed: u64, k: u64) -> u64 {
    let mut z = seed.wrapping_add(k.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A random number generator that gives the same numbers on every platform.
pub(crate) fn generator(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}
