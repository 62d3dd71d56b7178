//! How far the functions of f32 are from the true value, in units of the last place, over all 2³² arguments.
//!
//! ```sh
//! cargo run --release --example ulps           # all arguments: a few minutes on two cores
//! cargo run --release --example ulps -- 997    # every 997th
//! AUTOGRAD_ISA=avx2 cargo run --release --example ulps
//! ```
//!
//! The functions run as the engine runs them: through a graph, on the best instruction set that the machine has. The true
//! value is taken to be the same function in f64.

use autograd::{Graph, Tensor, Var};

/// A function of the engine, and what it should be.
type Function = (&'static str, for<'g> fn(Var<'g>) -> Var<'g>, fn(f64) -> f64);

const FUNCTIONS: [Function; 11] = [
    ("exp", |x| x.exp(), f64::exp),
    ("expm1", |x| x.expm1(), f64::exp_m1),
    ("ln", |x| x.ln(), f64::ln),
    ("ln_1p", |x| x.ln_1p(), f64::ln_1p),
    ("tanh", |x| x.tanh(), f64::tanh),
    ("sigmoid", |x| x.sigmoid(), |x| 1.0 / (1.0 + (-x).exp())),
    ("sin", |x| x.sin(), f64::sin),
    ("cos", |x| x.cos(), f64::cos),
    ("erf", |x| x.erf(), libm::erf),
    (
        "sigmoid'",
        |x| x.graph().grad(x.sigmoid().sum(), &[x])[0],
        |x| (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2),
    ),
    (
        "tanh'",
        |x| x.graph().grad(x.tanh().sum(), &[x])[0],
        |x| 1.0 / x.cosh().powi(2),
    ),
];

fn main() -> autograd::Result<()> {
    let step = std::env::args()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(1u64)
        .max(1);
    println!("{:>8} {:>8}   at", "function", "ulp");
    for (name, f, truth) in FUNCTIONS {
        let (mut worst, mut at) = (0.0, 0.0);
        let mut start = 0u64;
        while start < 1 << 32 {
            let end = (start + (step << 20)).min(1 << 32);
            let x: Vec<f32> = (start..end)
                .step_by(step as usize)
                .map(|bits| f32::from_bits(bits as u32))
                .collect();
            let g = Graph::new();
            let y = f(g.constant(Tensor::from(x.clone()))).value()?;
            for (&x, &y) in x.iter().zip(y.as_slice::<f32>()?) {
                let distance = ulps(y, truth(x.into()));
                if distance > worst {
                    (worst, at) = (distance, x);
                }
            }
            start = end;
        }
        println!("{name:>8} {worst:>8.3}   {at:e}");
    }
    Ok(())
}

/// The distance from the true value in units of the last place of an f32 of its size; infinite where one is NaN and the
/// other not, or one an infinity that the other does not round to.
fn ulps(got: f32, truth: f64) -> f64 {
    let rounded = truth as f32;
    if got == rounded || got.is_nan() && truth.is_nan() {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        // one place beyond the largest number is one unit away from it
        let largest = f64::from(f32::MAX);
        let near = |v: f64| v.is_infinite() || v.abs() > largest * (1.0 - 1e-7);
        let plausible = !got.is_nan()
            && !truth.is_nan()
            && near(got.into())
            && near(truth)
            && (got < 0.0) == (truth < 0.0);
        return if plausible { 1.0 } else { f64::INFINITY };
    }
    let exponent = if truth == 0.0 {
        -126
    } else {
        (truth.abs().log2().floor() as i32).max(-126)
    };
    (f64::from(got) - truth).abs() / 2f64.powi(exponent - 23)
}
