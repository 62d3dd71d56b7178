//! What the machine can do at most: bytes copied and fused multiply-adds in registers per second.

use std::{hint::black_box, sync::Barrier, thread, time::Instant};

/// Calls the function that `make` returns many times in each of these threads, at the same time in
/// all of them. Returns the shortest time of a call in µs, of the slowest thread.
fn fastest<W: FnMut()>(threads: usize, times: usize, make: impl Fn() -> W + Sync) -> f64 {
    let all_are_ready = Barrier::new(threads);
    let one_thread = || {
        let mut work = make();
        all_are_ready.wait();
        let mut once = || {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        };
        (0..times).map(|_| once()).fold(f64::INFINITY, f64::min)
    };
    thread::scope(|scope| {
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(one_thread)).collect();
        let times = started.into_iter().map(|t| t.join().expect("no panic"));
        times.fold(0.0, f64::max)
    })
}

/// Copies so many bytes that `bytes` are read and written in total. A copy can be slow when source
/// and target have nearly the same offset in a page, so the fastest of several offsets counts.
pub(crate) fn copy(threads: usize, bytes: usize) -> String {
    const OFFSETS: [usize; 3] = [0, 64, 256];
    let (part, repeats) = (bytes / 16 / threads, (1_000_000 / bytes).max(1));
    let us = fastest(threads, (200_000_000 / bytes).clamp(12, 300), || {
        let (from, mut to) = (vec![1u64; part], vec![2u64; part + OFFSETS[2]]);
        let mut offsets = OFFSETS.into_iter().cycle();
        move || {
            let offset = offsets.next().unwrap_or_default();
            let to = &mut to[offset..offset + part];
            for _ in 0..repeats {
                black_box(&mut *to).copy_from_slice(black_box(&from));
            }
        }
    });
    let (us, bytes) = (us / repeats as f64, part * 16 * threads);
    format!("{{\"us\": {us:.4}, \"bytes\": {bytes}}}")
}

/// The largest rate of fused multiply-adds in registers, in GFLOP/s.
pub(crate) fn fused_multiply_adds(threads: usize, is_f64: bool) -> String {
    const STEPS: usize = 100_000;
    let lanes = registers::lanes() * if is_f64 { 1 } else { 2 };
    let us = fastest(threads, 50, || || registers::run(is_f64, STEPS));
    let flop = (threads * STEPS * registers::CHAINS * lanes * 2) as f64;
    format!("{{\"us\": {us:.4}, \"gflops\": {:.2}}}", flop / us / 1e3)
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use std::{arch::x86_64::*, hint::black_box};

    /// Independent chains of additions: more than a latency of four cycles times two units.
    pub(super) const CHAINS: usize = 12;

    /// Elements of f64 in a register.
    pub(super) fn lanes() -> usize {
        if is_x86_feature_detected!("avx512f") {
            8
        } else {
            4
        }
    }

    macro_rules! chains {
        ($($name:ident $feature:literal $set:ident $add:ident;)*) => { $(
            #[target_feature(enable = $feature)]
            fn $name(steps: usize) {
                let (a, b) = (black_box($set(0.999_9)), black_box($set(1e-4)));
                let mut sums = [a; CHAINS];
                for _ in 0..steps {
                    for sum in &mut sums {
                        *sum = $add(*sum, a, b);
                    }
                }
                black_box(sums);
            }
        )* };
    }
    chains! {
        avx2_f32 "avx2,fma" _mm256_set1_ps _mm256_fmadd_ps;
        avx2_f64 "avx2,fma" _mm256_set1_pd _mm256_fmadd_pd;
        avx512_f32 "avx512f" _mm512_set1_ps _mm512_fmadd_ps;
        avx512_f64 "avx512f" _mm512_set1_pd _mm512_fmadd_pd;
    }

    pub(super) fn run(is_f64: bool, steps: usize) {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: the processor has the instructions of these functions
            unsafe {
                if is_f64 {
                    avx512_f64(steps)
                } else {
                    avx512_f32(steps)
                }
            }
        } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above
            unsafe {
                if is_f64 {
                    avx2_f64(steps)
                } else {
                    avx2_f32(steps)
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use std::hint::black_box;

    pub(super) const CHAINS: usize = 16;

    pub(super) fn lanes() -> usize {
        2
    }

    /// The compiler makes vectors of the lanes.
    pub(super) fn run(is_f64: bool, steps: usize) {
        if is_f64 {
            let (a, b, mut sums) = (
                black_box(0.999_9f64),
                black_box(1e-4),
                [[1.0f64; 2]; CHAINS],
            );
            for _ in 0..steps {
                sums = sums.map(|s| s.map(|s| s.mul_add(a, b)));
            }
            black_box(sums);
        } else {
            let (a, b, mut sums) = (
                black_box(0.999_9f32),
                black_box(1e-4),
                [[1.0f32; 4]; CHAINS],
            );
            for _ in 0..steps {
                sums = sums.map(|s| s.map(|s| s.mul_add(a, b)));
            }
            black_box(sums);
        }
    }
}
