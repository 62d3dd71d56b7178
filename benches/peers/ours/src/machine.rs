//! What the machine can do at most: bytes copied and fused multiply-adds in registers per second.

use std::{hint::black_box, thread, time::Instant};

/// Runs `work` in each of these threads at once, a few times, and returns the shortest time in µs.
fn fastest(threads: usize, times: usize, work: impl Fn(usize) + Sync) -> f64 {
    let once = || {
        let start = Instant::now();
        thread::scope(|scope| {
            (1..threads).for_each(|k| {
                drop(scope.spawn({
                    let work = &work;
                    move || work(k)
                }))
            });
            work(0);
        });
        start.elapsed().as_secs_f64() * 1e6
    };
    (0..times).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// Copies so many bytes that `bytes` are read and written in total. To be comparable with a program
/// whose threads wait for work already, each thread copies several times.
pub(crate) fn copy(threads: usize, bytes: usize) -> String {
    let part = (bytes / 2 / threads / 8).max(8);
    let repeats = (20_000_000 / (part * 8)).clamp(2, 1000);
    let us = fastest(threads, 5, |k| {
        let (from, mut to) = (vec![k as u64 + 1; part], vec![1u64; part]);
        for _ in 0..repeats {
            black_box(&mut to[..]).copy_from_slice(black_box(&from));
        }
    });
    // the time to make the two vectors is measured alone
    let made = fastest(threads, 5, |k| {
        black_box((vec![k as u64 + 1; part], vec![1u64; part]));
    });
    let us = (us - made) / repeats as f64;
    format!("{{\"us\": {us:.4}, \"bytes\": {}}}", part * 16 * threads)
}

/// The largest rate of fused multiply-adds in registers, in GFLOP/s.
pub(crate) fn fused_multiply_adds(threads: usize, is_f64: bool) -> String {
    const STEPS: usize = 1_000_000;
    let lanes = registers::lanes() * if is_f64 { 1 } else { 2 };
    let us = fastest(threads, 5, |_| registers::run(is_f64, STEPS));
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
