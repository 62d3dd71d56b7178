//! The functions of f32: their distance from the true value for a sample of all arguments (the
//! example `ulps` checks all of them), special values, and equal bits from kernels and definition
//! on every instruction set.

mod common;

use autograd::{Graph, Tensor, Var};

/// A function, the same in f64, and the largest distance in units in the last place.
type Function = (
    &'static str,
    for<'g> fn(Var<'g>) -> Var<'g>,
    fn(f64) -> f64,
    f64,
);

const FUNCTIONS: [Function; 9] = [
    ("exp", |x| x.exp(), f64::exp, 1.5),
    ("ln", |x| x.ln(), f64::ln, 1.5),
    ("expm1", |x| x.expm1(), f64::exp_m1, 3.0),
    ("ln_1p", |x| x.ln_1p(), f64::ln_1p, 3.0),
    ("tanh", |x| x.tanh(), f64::tanh, 3.0),
    (
        "sigmoid",
        |x| x.sigmoid(),
        |x| 1.0 / (1.0 + (-x).exp()),
        3.0,
    ),
    ("sin", |x| x.sin(), f64::sin, 3.0),
    ("cos", |x| x.cos(), f64::cos, 3.0),
    ("erf", |x| x.erf(), libm::erf, 3.0),
];

fn values(f: for<'g> fn(Var<'g>) -> Var<'g>, x: &[f32]) -> Vec<f32> {
    let g = Graph::new();
    let y = f(g.constant(Tensor::from(x.to_vec())));
    let (defined, y) = (g.reference(&[y]).expect("runs"), y.value().expect("runs"));
    let bits = |t: &Tensor| {
        t.as_slice::<f32>()
            .expect("f32")
            .iter()
            .map(|v| if v.is_nan() { u32::MAX } else { v.to_bits() })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        bits(&y),
        bits(&defined[0]),
        "the kernel and the definition differ"
    );
    y.as_slice().expect("f32").to_vec()
}

#[test]
fn a_sample_of_all_arguments_is_accurate() {
    // every 8191st bit pattern: half a million, of both signs and all magnitudes
    let x: Vec<f32> = (0..1u64 << 32)
        .step_by(8191)
        .map(|bits| f32::from_bits(bits as u32))
        .collect();
    for (name, f, exact, limit) in FUNCTIONS {
        for (&x, y) in x.iter().zip(values(f, &x)) {
            let exact = exact(x.into());
            let rounded = exact as f32;
            if y == rounded || y.is_nan() && exact.is_nan() {
                continue;
            }
            assert!(
                y.is_finite() && rounded.is_finite(),
                "{name}({x:e}) is {y:e}, expected {exact:e}"
            );
            let exponent = (exact.abs().log2().floor() as i32).max(-126);
            let distance = (f64::from(y) - exact).abs() / 2f64.powi(exponent - 23);
            assert!(
                distance <= limit,
                "{name}({x:e}) is {y:e}, {distance} ulps from {exact:e}"
            );
        }
    }
}

#[test]
fn special_values() {
    let (inf, nan, tiny) = (f32::INFINITY, f32::NAN, f32::from_bits(1));
    let x = [
        0.0,
        -0.0,
        inf,
        -inf,
        nan,
        tiny,
        -tiny,
        1e-40,
        f32::MAX,
        f32::MIN,
    ];
    for (name, f, exact, _) in FUNCTIONS {
        for (&x, y) in x.iter().zip(values(f, &x)) {
            let expected = exact(x.into()) as f32;
            let same = y == expected && y.is_sign_negative() == expected.is_sign_negative()
                || y.is_nan() && expected.is_nan();
            // sin and cos of the largest
            let near = (y - expected).abs() <= 1e-7 * expected.abs() && expected.abs() < inf;
            assert!(
                same || near,
                "{name}({x:e}) is {y:e}, expected {expected:e}"
            );
        }
    }
}

/// The same tests with the kernels of every other instruction set.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
