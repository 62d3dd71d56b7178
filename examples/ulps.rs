//! The errors of the functions, in units in the last place (ULP).
//!
//! ```sh
//! cargo run --release --example ulps                 # f32: every 257th argument; f64: 10⁶
//! cargo run --release --example ulps -- pow          # of one function, f64: 10⁸ arguments
//! cargo run --release --example ulps -- all 1e7 1    # f64: 10⁷ arguments, f32: all of them
//! AUTOGRAD_ISA=avx2 cargo run --release --example ulps
//! ```
//!
//! The functions run in a graph, with the best instruction set of the machine. f64 is compared with
//! about 30 digits, at arguments of all exponents, next to multiples of `π/2`, and where results
//! overflow or vanish; f32 with f64, at all arguments of functions of one.

#[path = "../autograd/tests/common/exact.rs"]
mod exact;
#[path = "../autograd/tests/common/functions.rs"]
mod functions;

use autograd::Tensor;
use functions::{FUNCTIONS, Function};
use rayon::prelude::*;

/// Arguments that are computed together.
const CHUNK: u64 = 1 << 14;

/// The largest error, and the arguments.
type Worst = (f64, [f64; 2]);

fn worse(a: Worst, b: Worst) -> Worst {
    if b.0 > a.0 { b } else { a }
}

fn worst_of_f64(f: &Function, count: u64) -> Worst {
    chunks(count, |range| {
        let x: Vec<[f64; 2]> = range.map(|k| f.arguments(k)).collect();
        let y = f.values(&x);
        let y = y.as_slice::<f64>().expect("of this type");
        x.iter()
            .zip(y)
            .map(|(&x, &y)| (f.error(x, y), x))
            .fold((0.0, [0.0; 2]), worse)
    })
}

fn worst_of_f32(f: &Function, step: u64) -> Worst {
    chunks((1 << 32) / step, |range| {
        let x: Vec<[f32; 2]> = range.map(|k| f.arguments_f32(k * step)).collect();
        let wide: Vec<[f64; 2]> = x.iter().map(|x| x.map(f64::from)).collect();
        let (y, exact): (Tensor, Tensor) = (f.values(&x), f.values(&wide));
        let y = y.as_slice::<f32>().expect("of this type");
        let exact = exact.as_slice::<f64>().expect("of this type");
        let errors = wide.iter().zip(y).zip(exact);
        errors
            .map(|((&x, &y), &exact)| (functions::error_f32(y, exact), x))
            .fold((0.0, [0.0; 2]), worse)
    })
}

fn chunks(count: u64, f: impl Fn(std::ops::Range<u64>) -> Worst + Sync) -> Worst {
    (0..count.div_ceil(CHUNK))
        .into_par_iter()
        .map(|k| f(k * CHUNK..(k * CHUNK + CHUNK).min(count)))
        .reduce(|| (0.0, [0.0; 2]), worse)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or("all".into());
    let default = if name == "all" { 1e6 } else { 1e8 };
    let count = arguments
        .next()
        .and_then(|s| s.parse().ok())
        .unwrap_or(default) as u64;
    let step = arguments
        .next()
        .and_then(|s| s.parse().ok())
        .unwrap_or(257u64)
        .max(1);
    println!(
        "{:>8} | {:>8} {:>8} | argument",
        "function", "type", "max ULP"
    );
    for f in FUNCTIONS.iter().filter(|f| name == "all" || name == f.name) {
        for (of, (error, x)) in [
            ("f64", worst_of_f64(f, count)),
            ("f32", worst_of_f32(f, step)),
        ] {
            let x = &x[..f.arguments];
            println!("{:>8} | {of:>8} {error:>8.3} | {x:?}", f.name);
        }
    }
}
