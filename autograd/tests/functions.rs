//! The functions of both float types: their distance from the exact value at arguments of all kinds
//! (the example `ulps` tries more of them), special values, and equal bits from kernels and
//! definition on every instruction set.

#[path = "common/exact.rs"]
mod exact;
#[path = "common/functions.rs"]
mod functions;

mod common;

use autograd::{DType, Element, Graph, Tensor, Var};
use functions::{FUNCTIONS, Function, bits, error_f32};

type Op = for<'g> fn([Var<'g>; 2]) -> Var<'g>;

/// The bits, where all NaN are alike.
fn bits_of(t: &Tensor) -> Vec<u64> {
    let one = |v: f64| if v.is_nan() { u64::MAX } else { v.to_bits() };
    t.to_f64s().into_iter().map(one).collect()
}

/// The results of the kernels, after a comparison with the definition.
fn values<T: Element>(name: &str, op: Op, x: &[[T; 2]]) -> Tensor {
    let g = Graph::new();
    let input = |k: usize| g.constant(Tensor::from(x.iter().map(|x| x[k]).collect::<Vec<T>>()));
    let y = op([input(0), input(1)]);
    let (defined, y) = (g.reference(&[y]).expect("runs"), y.value().expect("runs"));
    let (kernel, definition) = (bits_of(&y), bits_of(&defined[0]));
    for (k, (kernel, definition)) in kernel.iter().zip(&definition).enumerate() {
        assert!(
            kernel == definition,
            "{name}({:?}): {kernel:x} by the kernel, {definition:x} by definition",
            x[k]
        );
    }
    y
}

#[test]
fn f64_is_accurate() {
    for f in FUNCTIONS {
        let x: Vec<[f64; 2]> = (0..10_000).map(|k| f.arguments(k)).collect();
        let y = values(f.name, f.op, &x);
        for (&x, &y) in x.iter().zip(y.as_slice::<f64>().expect("f64")) {
            let error = f.error(x, y);
            assert!(
                error <= f.limits[1],
                "{}({x:?}) is {y:e}, {error} ulps off",
                f.name
            );
        }
    }
}

/// A hundred thousand bit patterns of all signs and magnitudes.
#[test]
fn f32_is_accurate() {
    for f in FUNCTIONS {
        let x: Vec<[f32; 2]> = (0..1 << 17).map(|k| f.arguments_f32(k * 32_749)).collect();
        let wide: Vec<[f64; 2]> = x.iter().map(|x| x.map(f64::from)).collect();
        let (y, exact) = (values(f.name, f.op, &x), f.values(&wide));
        let y = y.as_slice::<f32>().expect("f32");
        let exact = exact.as_slice::<f64>().expect("f64");
        for ((x, &y), &exact) in x.iter().zip(y).zip(exact) {
            let error = error_f32(y, exact);
            let limit = f.limits[0];
            assert!(
                error <= limit,
                "{}({x:?}) is {y:e}, {error} ulps from {exact:e}",
                f.name
            );
        }
    }
}

/// Functions that are not in the table: with an exact result, or made of others.
const OTHERS: &[(&str, Op)] = &[
    ("floor", |[x, _]| x.floor()),
    ("ceil", |[x, _]| x.ceil()),
    ("round", |[x, _]| x.round()),
    ("rem", |[x, y]| x % y),
    ("elu", |[x, y]| x.elu(y)),
    ("log_sigmoid", |[x, _]| x.log_sigmoid()),
];

/// Any two bit patterns, of different and of similar magnitudes.
fn any_two(k: u64) -> [f64; 2] {
    let (a, b) = (bits(k), bits(!k));
    let near = a & 0xFFF0_0000_0000_0000 | b >> 12;
    [
        f64::from_bits(a),
        f64::from_bits(if k.is_multiple_of(2) { b } else { near }),
    ]
}

#[test]
fn kernels_follow_the_definition_at_all_bit_patterns() {
    let all = FUNCTIONS.iter().map(|f: &Function| (f.name, f.op));
    for (name, op) in all.chain(OTHERS.iter().copied()) {
        let x: Vec<[f64; 2]> = (0..20_011).map(any_two).collect();
        values(name, op, &x);
        let of_bits = |v: f64| f32::from_bits((v.to_bits() >> 32) as u32);
        let x: Vec<[f32; 2]> = x.iter().map(|x| x.map(of_bits)).collect();
        values(name, op, &x);
    }
}

#[test]
fn exact_functions_are_exact() {
    let x: Vec<[f64; 2]> = (0..20_011)
        .map(|k| {
            if k % 3 == 0 {
                any_two(k)
            } else {
                FUNCTIONS[0].arguments(k)
            }
        })
        .zip(0..)
        .map(|([x, y], k)| {
            [
                x,
                if y == 0.0 {
                    x * (bits(k) % 1000) as f64 / 500.0
                } else {
                    y
                },
            ]
        })
        .collect();
    let expected: [fn([f64; 2]) -> f64; 4] = [
        |[x, _]| x.floor(),
        |[x, _]| x.ceil(),
        |[x, _]| x.round_ties_even(),
        |[x, y]| x % y,
    ];
    for (&(name, op), expected) in OTHERS.iter().zip(expected) {
        let y = values(name, op, &x);
        let exact = Tensor::from(x.iter().map(|&x| expected(x)).collect::<Vec<f64>>());
        assert!(bits_of(&y) == bits_of(&exact), "{name}");
        let x: Vec<[f32; 2]> = x.iter().map(|x| x.map(|v| v as f32)).collect();
        let y = values(name, op, &x);
        // of f32, what these functions give in f64 is an f32
        let exact = |x: &[f32; 2]| expected(x.map(f64::from)) as f32;
        let exact = Tensor::from(x.iter().map(exact).collect::<Vec<f32>>());
        assert!(bits_of(&y) == bits_of(&exact), "{name} of f32");
    }
}

/// Zeros keep their sign, NaN stays NaN, and infinities have the limits as values.
#[test]
fn special_values() {
    let inf = f64::INFINITY;
    type OfOne = fn(f64) -> f64;
    let of_zeros_and_infinities: [(&str, OfOne); 13] = [
        ("exp", f64::exp),
        ("expm1", f64::exp_m1),
        ("ln", f64::ln),
        ("ln_1p", f64::ln_1p),
        ("sin", f64::sin),
        ("cos", f64::cos),
        ("tan", f64::tan),
        ("asin", f64::asin),
        ("acos", f64::acos),
        ("atan", f64::atan),
        ("sinh", f64::sinh),
        ("cosh", f64::cosh),
        ("tanh", f64::tanh),
    ];
    let tiny = f64::from_bits(1);
    let x = [
        0.0,
        -0.0,
        inf,
        -inf,
        f64::NAN,
        tiny,
        -tiny,
        f64::MAX,
        f64::MIN,
        1.0,
        -1.0,
    ];
    for (name, expected) in of_zeros_and_infinities {
        let f = FUNCTIONS.iter().find(|f| f.name == name).expect("is there");
        let y = values(name, f.op, &x.map(|x| [x, 0.0]));
        for (&x, y) in x.iter().zip(y.to_f64s()) {
            check(name, &[x], y, expected(x));
        }
    }
    for (name, expected) in [
        ("pow", f64::powf as fn(f64, f64) -> f64),
        ("atan2", f64::atan2),
        ("hypot", f64::hypot),
    ] {
        let f = FUNCTIONS.iter().find(|f| f.name == name).expect("is there");
        let more = [2.0, -2.0, 3.0, -3.0, 0.5, -0.5];
        let all: Vec<f64> = x.into_iter().chain(more).collect();
        let pairs: Vec<[f64; 2]> = all
            .iter()
            .flat_map(|&x| all.iter().map(move |&y| [x, y]))
            .collect();
        let y = values(name, f.op, &pairs);
        for (x, y) in pairs.iter().zip(y.to_f64s()) {
            check(name, x, y, expected(x[0], x[1]));
        }
    }
}

fn check(name: &str, x: &[f64], y: f64, expected: f64) {
    let same = y == expected && y.is_sign_negative() == expected.is_sign_negative();
    let near = (y - expected).abs() <= 4e-16 * expected.abs() && expected.is_finite();
    assert!(
        same || near || y.is_nan() && expected.is_nan(),
        "{name}({x:?}) is {y:e}, expected {expected:e}"
    );
}

/// What is not finite or has a sign of its own, in f32 as in f64.
#[test]
fn both_types_agree_at_special_values() {
    let x: Vec<f64> = vec![
        0.0,
        -0.0,
        f64::INFINITY,
        -f64::INFINITY,
        f64::NAN,
        1.0,
        -1.0,
        2.0,
        -3.0,
        0.5,
    ];
    let pairs: Vec<[f64; 2]> = x
        .iter()
        .flat_map(|&a| x.iter().map(move |&b| [a, b]))
        .collect();
    let all = FUNCTIONS.iter().map(|f: &Function| (f.name, f.op));
    for (name, op) in all.chain(OTHERS.iter().copied()) {
        let y = values(name, op, &pairs).to_f64s();
        let single: Vec<[f32; 2]> = pairs.iter().map(|x| x.map(|v| v as f32)).collect();
        let single = values(name, op, &single);
        assert_eq!(single.dtype(), DType::F32);
        for ((x, y), single) in pairs.iter().zip(y).zip(single.to_f64s()) {
            let alike = y == single && y.is_sign_negative() == single.is_sign_negative();
            let near = (y - single).abs() <= 1e-6 * y.abs() && y.is_finite();
            assert!(
                alike || near || y.is_nan() && single.is_nan(),
                "{name}({x:?}) is {y:e} in f64, {single:e} in f32"
            );
        }
    }
}

/// The same tests with the kernels of every other instruction set.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
