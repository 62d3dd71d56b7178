//! The sizes of the processor's caches, which matrix products are cut by. Nothing that is rounded
//! depends on them.

use std::sync::OnceLock;

/// Bytes of the caches of one core.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caches {
    /// The first-level cache for data.
    pub(super) first: usize,
    pub(super) second: usize,
}

/// Where the processor does not tell.
const USUAL: Caches = Caches {
    first: 32 << 10,
    second: 512 << 10,
};

/// The caches of this processor.
pub(super) fn get() -> Caches {
    static KNOWN: OnceLock<Caches> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let told = told();
        let size = |level: usize, usual: usize, range: std::ops::RangeInclusive<usize>| {
            told[level - 1]
                .filter(|size| range.contains(size))
                .unwrap_or(usual)
        };
        Caches {
            first: size(1, USUAL.first, 8 << 10..=1 << 20),
            second: size(2, USUAL.second, 64 << 10..=64 << 20).min(2 << 20),
        }
    })
}

/// What the processor tells of its first two levels.
#[cfg(target_arch = "x86_64")]
#[allow(unused_unsafe)] // the instruction is safe to call since Rust 1.92 only
fn told() -> [Option<usize>; 2] {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let mut sizes = [None; 2];
    // SAFETY: every x86-64 processor has the instruction.
    let ask = |leaf: u32, part: u32| unsafe { __cpuid_count(leaf, part) };
    // SAFETY: as above.
    let most = |from: u32| unsafe { __cpuid(from) }.eax;
    for leaf in [0x4, 0x8000_001D] {
        if most(leaf & 0x8000_0000) < leaf {
            continue;
        }
        for part in 0..8 {
            let of = ask(leaf, part);
            let (kind, level) = (of.eax & 31, of.eax >> 5 & 7);
            if kind == 0 {
                break;
            }
            let ways = (of.ebx >> 22) as usize + 1;
            let (groups, line) = (
                (of.ebx >> 12 & 1023) as usize + 1,
                (of.ebx & 4095) as usize + 1,
            );
            // instructions are kind 2
            if kind != 2 && (1..=2).contains(&level) {
                let size = ways * groups * line * (of.ecx as usize + 1);
                sizes[level as usize - 1].get_or_insert(size);
            }
        }
    }
    sizes
}

#[cfg(not(target_arch = "x86_64"))]
fn told() -> [Option<usize>; 2] {
    [None; 2]
}
