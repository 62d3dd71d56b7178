//! The rate of matrix products, through compiled functions: `cargo bench --bench products`, perhaps
//! with `-- [f32|f64] [threads]`. Each line is a shape, the best time, and GFLOP/s, also as a part
//! of what fused multiply-adds in registers reach on one core, times the threads.
//!
//! Shapes are `m k n`; `t` marks an operand that lies transposed, and `x b` a batch of `b`.

#![allow(unsafe_code)] // instructions that not every processor has, to measure what it can do

use autograd::{Real, Tensor, Var, compile};
use rayon::ThreadPoolBuilder;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// One product.
#[derive(Clone, Copy)]
struct Shape {
    batch: usize,
    m: usize,
    k: usize,
    n: usize,
    a_t: bool,
    b_t: bool,
}

const fn shape(m: usize, k: usize, n: usize) -> Shape {
    Shape {
        batch: 0,
        m,
        k,
        n,
        a_t: false,
        b_t: false,
    }
}

const fn a_t(m: usize, k: usize, n: usize) -> Shape {
    Shape {
        a_t: true,
        ..shape(m, k, n)
    }
}

const fn b_t(m: usize, k: usize, n: usize) -> Shape {
    Shape {
        b_t: true,
        ..shape(m, k, n)
    }
}

const fn batch(batch: usize, m: usize, k: usize, n: usize) -> Shape {
    Shape {
        batch,
        ..shape(m, k, n)
    }
}

const SHAPES: &[Shape] = &[
    shape(16, 16, 16),
    shape(32, 32, 32),
    shape(64, 64, 64),
    shape(100, 100, 100),
    shape(128, 128, 128),
    shape(256, 256, 256),
    a_t(256, 256, 256),
    b_t(256, 256, 256),
    shape(512, 512, 512),
    a_t(512, 512, 512),
    b_t(512, 512, 512),
    Shape {
        a_t: true,
        ..b_t(512, 512, 512)
    },
    shape(1000, 1000, 1000),
    shape(1024, 1024, 1024),
    a_t(1024, 1024, 1024),
    b_t(1024, 1024, 1024),
    shape(2048, 2048, 2048),
    shape(4096, 4096, 4096),
    // layers of networks, their gradients by the input and by the weight
    shape(64, 784, 128),
    a_t(784, 64, 128),
    shape(128, 784, 512),
    shape(128, 512, 512),
    b_t(128, 512, 512),
    b_t(128, 512, 784),
    a_t(512, 128, 512),
    a_t(784, 128, 512),
    shape(512, 128, 784),
    shape(64, 128, 10),
    // skinny
    shape(4096, 64, 64),
    shape(64, 64, 4096),
    shape(64, 4096, 64),
    shape(2048, 16, 2048),
    shape(8, 2048, 2048),
    b_t(8, 2048, 2048),
    shape(33, 1000, 77),
    shape(4, 1024, 1024),
    shape(1024, 1024, 4),
    // vectors
    shape(1, 784, 128),
    shape(1, 2048, 2048),
    b_t(1, 2048, 2048),
    shape(2048, 2048, 1),
    a_t(2048, 2048, 1),
    shape(1000, 100, 1),
    shape(1, 1_000_000, 1),
    shape(1, 1_000, 1),
    shape(2048, 1, 2048),
    batch(128, 64, 64, 64),
    batch(1000, 8, 8, 8),
    batch(64, 128, 64, 128),
];

/// The operands of a product, in a thread pool.
fn measure<T: Real>(s: Shape, budget: Duration) -> (Duration, f64) {
    let noise = |count: usize| {
        (0..count)
            .map(|k| T::of((k * 7919 % 1009) as f64 / 500.0 - 1.0))
            .collect::<Vec<T>>()
    };
    let tensor = |rows: usize, columns: usize, transposed: bool| {
        let (rows, columns) = if transposed {
            (columns, rows)
        } else {
            (rows, columns)
        };
        let shape = match s.batch {
            0 => vec![rows, columns],
            batch => vec![batch, rows, columns],
        };
        Tensor::new(&shape[..], noise(shape.iter().product())).expect("memory")
    };
    let (a, b) = (tensor(s.m, s.k, s.a_t), tensor(s.k, s.n, s.b_t));
    // a closure that returns what it is given must say that it is of the same graph
    fn same<F: for<'g> Fn([Var<'g>; 2]) -> [Var<'g>; 1]>(f: F) -> F {
        f
    }
    let f = compile(same(move |[a, b]| {
        let a = if s.a_t { a.t() } else { a };
        let b = if s.b_t { b.t() } else { b };
        [a.matmul(b)]
    }));
    let flops = 2.0 * (s.batch.max(1) * s.m * s.k * s.n) as f64;
    let best = best_of(budget, || {
        black_box(f.call([&a, &b]).expect("a product"));
    });
    (best, flops)
}

/// The best time of many calls.
fn best_of(budget: Duration, mut run: impl FnMut()) -> Duration {
    run();
    let once = Instant::now();
    run();
    let calls = (Duration::from_micros(200).as_nanos() / once.elapsed().as_nanos().max(1)).max(1);
    let (start, mut best) = (Instant::now(), Duration::MAX);
    while start.elapsed() < budget {
        let one = Instant::now();
        (0..calls).for_each(|_| run());
        best = best.min(one.elapsed() / calls as u32);
    }
    best
}

/// GFLOP/s of fused multiply-adds in registers, on one core.
fn peak<T: Real>() -> f64 {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::*;
        const STEPS: usize = 100_000;
        #[target_feature(enable = "avx512f")]
        fn avx512() {
            let x = _mm512_set1_ps(black_box(1e-9));
            let mut sums = [x; 24];
            for _ in 0..STEPS {
                sums.iter_mut().for_each(|s| *s = _mm512_fmadd_ps(x, x, *s));
            }
            black_box(sums);
        }
        #[target_feature(enable = "avx2,fma")]
        fn avx2() {
            let x = _mm256_set1_ps(black_box(1e-9));
            let mut sums = [x; 12];
            for _ in 0..STEPS {
                for s in &mut sums {
                    *s = _mm256_fmadd_ps(x, x, *s);
                }
            }
            black_box(sums);
        }
        let per_second = |flops: usize, time: Duration| flops as f64 / time.as_secs_f64() / 1e9;
        let (budget, share) = (Duration::from_millis(100), 4 / size_of::<T>().min(4));
        let share = share as f64 * 4.0 / size_of::<T>() as f64;
        let asked = std::env::var("AUTOGRAD_ISA").unwrap_or_default();
        if is_x86_feature_detected!("avx512f") && asked != "avx2" {
            // SAFETY: the processor has the instructions.
            let time = best_of(budget, || unsafe { avx512() });
            return share * per_second(STEPS * 24 * 32, time);
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            // SAFETY: as above.
            let time = best_of(budget, || unsafe { avx2() });
            return share * per_second(STEPS * 12 * 16, time);
        }
    }
    f64::NAN
}

fn table<T: Real>(threads: usize, only: &str, budget: Duration) {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads");
    let peak = peak::<T>() * threads as f64;
    println!("{}, {threads} thread(s), peak {peak:.1} GFLOP/s", T::DTYPE);
    for &s in SHAPES {
        let t = |transposed: bool| if transposed { "t" } else { "" };
        let Shape { m, k, n, .. } = s;
        let batch = if s.batch > 0 {
            format!(" x {}", s.batch)
        } else {
            String::new()
        };
        let name = format!("{m}{} {k} {n}{}{batch}", t(s.a_t), t(s.b_t));
        if !name.contains(only) {
            continue;
        }
        let (time, flops) = pool.install(|| measure::<T>(s, budget));
        let rate = flops / time.as_secs_f64() / 1e9;
        let (us, part) = (time.as_secs_f64() * 1e6, 100.0 * rate / peak);
        println!("{name:24} {us:12.2} us {rate:8.2} GFLOP/s {part:5.1} %");
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let is = |name: &str| arguments.iter().any(|a| a == name);
    let threads = arguments.iter().find_map(|a| a.parse().ok()).unwrap_or(1);
    let only = arguments.iter().find_map(|a| a.strip_prefix("only="));
    let budget = Duration::from_millis(
        arguments
            .iter()
            .find_map(|a| a.strip_prefix("ms=")?.parse().ok())
            .unwrap_or(150),
    );
    if !is("f64") {
        table::<f32>(threads, only.unwrap_or(""), budget);
    }
    if !is("f32") {
        table::<f64>(threads, only.unwrap_or(""), budget);
    }
}
