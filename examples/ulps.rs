//! The error of the f32 functions over all 2³² arguments, in units in the last place (ULP).
//!
//! ```sh
//! cargo run --release --example ulps           # all arguments: a few minutes on two cores
//! cargo run --release --example ulps -- 997    # every 997th argument
//! AUTOGRAD_ISA=avx2 cargo run --release --example ulps
//! ```
//!
//! The functions run in a graph, with the best instruction set of the machine. The reference value
//! is the same function in f64.

use autograd::{Graph, Tensor, Var};

/// Name, the function of `autograd`, and the reference function.
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
    println!("{:>8} {:>8}   argument", "function", "max ULP");
    for (name, f, reference) in FUNCTIONS {
        let (mut max_error, mut argument) = (0.0, 0.0);
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
                let error = ulp_error(y, reference(x.into()));
                if error > max_error {
                    (max_error, argument) = (error, x);
                }
            }
            start = end;
        }
        println!("{name:>8} {max_error:>8.3}   {argument:e}");
    }
    Ok(())
}

/// The error in units in the last place of the reference value as f32. It is infinite if only one
/// of the two is NaN, or if only one is infinite after rounding.
fn ulp_error(got: f32, reference: f64) -> f64 {
    let rounded = reference as f32;
    if got == rounded || got.is_nan() && reference.is_nan() {
        return 0.0;
    }
    if !got.is_finite() || !rounded.is_finite() {
        // overflow next to the largest f32 counts as an error of one unit
        let max = f64::from(f32::MAX);
        let is_near_overflow = |v: f64| v.is_infinite() || v.abs() > max * (1.0 - 1e-7);
        let off_by_one = !got.is_nan()
            && !reference.is_nan()
            && is_near_overflow(got.into())
            && is_near_overflow(reference)
            && (got < 0.0) == (reference < 0.0);
        return if off_by_one { 1.0 } else { f64::INFINITY };
    }
    let exponent = if reference == 0.0 {
        -126
    } else {
        (reference.abs().log2().floor() as i32).max(-126)
    };
    (f64::from(got) - reference).abs() / 2f64.powi(exponent - 23)
}
