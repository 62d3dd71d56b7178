//! Kernels: plain Rust over vectors, built for several instruction sets and picked at run time.

#![allow(unsafe_code)] // vectors in memory, and instructions that not every processor has

pub(crate) mod flat;
pub(crate) mod fused;
mod rows;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tile;
pub(crate) mod vector;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::OnceLock;

/// The instruction sets that kernels are built for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
pub(crate) enum Isa {
    /// What every processor of the kind has.
    Baseline,
    /// AVX2 and fused multiply-adds.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512: F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The best that the processor has, or less if the environment variable `AUTOGRAD_ISA` says so (`avx512`, `avx2`,
    /// `baseline`). Results are the same bits with the first two; without fused
    /// multiply-adds, matrix products differ in their last digits.
    pub(crate) fn get() -> Isa {
        static ISA: OnceLock<Isa> = OnceLock::new();
        *ISA.get_or_init(|| {
            let best = Isa::best();
            let asked = std::env::var("AUTOGRAD_ISA").ok().and_then(|name| Isa::named(&name));
            asked.filter(|isa| *isa <= best).unwrap_or(best)
        })
    }

    #[cfg(target_arch = "x86_64")]
    fn best() -> Isa {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        let avx512 = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        match (avx2, avx512) {
            // without optimisation, each vector that a function names has a place on the stack: shorter ones need less
            (true, true) if !cfg!(unoptimised) => Isa::Avx512,
            (true, _) => Isa::Avx2,
            _ => Isa::Baseline,
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn best() -> Isa {
        Isa::Baseline
    }

    fn named(name: &str) -> Option<Isa> {
        match name {
            "baseline" => Some(Isa::Baseline),
            #[cfg(target_arch = "x86_64")]
            "avx2" => Some(Isa::Avx2),
            #[cfg(target_arch = "x86_64")]
            "avx512" => Some(Isa::Avx512),
            _ => None,
        }
    }
}
