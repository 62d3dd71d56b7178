//! Derivatives at special points: zeros, ties, infinities, NaN, the smallest and the largest
//! values. Reverse mode, forward mode and all ways to second derivatives must agree at these
//! points, and with known values.
//!
//! The points are elements of one tensor, differentiated with cotangents and tangents of ones: a
//! zero cotangent times an infinite derivative is NaN by design.

mod common;

use autograd::{DType, Elementwise, Graph, Partial, Real, Result, Tensor, Var};
use std::f64::consts::FRAC_1_SQRT_2;

type Function = for<'g> fn(&[Var<'g>]) -> Var<'g>;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;
const DTYPES: [DType; 2] = [DType::F64, DType::F32];

/// The smallest subnormal, the smallest normal value, the largest value, and values whose squares
/// are out of range.
fn limits(dtype: DType) -> [f64; 5] {
    match dtype {
        DType::F32 => [
            1e-45,
            1e-40,
            f32::MIN_POSITIVE.into(),
            f32::MAX.into(),
            2e19,
        ],
        _ => [5e-324, 1e-310, f64::MIN_POSITIVE, f64::MAX, 2e160],
    }
}

fn points(dtype: DType) -> Vec<f64> {
    let own = [0.0, 0.3, 0.5, 1.0, 2.0, 20.0, 60.0, 1000.0, INF];
    let both = |x: &f64| [*x, -*x];
    own.iter()
        .chain(&limits(dtype))
        .flat_map(both)
        .chain([NAN])
        .collect()
}

/// Fewer points, for pairs and triples.
fn few(dtype: DType, inputs: usize) -> Vec<f64> {
    let [least, .., largest, large] = limits(dtype);
    match inputs {
        1 => points(dtype),
        2 => {
            let own = [0.0, 0.5, 1.0, 2.0, 3.0, least, largest, large, INF];
            own.iter()
                .flat_map(|x| [*x, -*x])
                .chain([1e-23, NAN])
                .collect()
        }
        _ => vec![0.0, -0.0, 1.0, -1.0, 2.0, largest, -INF, INF, NAN],
    }
}

/// All combinations: one list per input.
fn combinations(dtype: DType, inputs: usize) -> Vec<Vec<f64>> {
    let own = few(dtype, inputs);
    let count = own.len().pow(inputs as u32);
    (0..inputs)
        .map(|k| {
            (0..count)
                .map(|at| own[at / own.len().pow(k as u32) % own.len()])
                .collect()
        })
        .collect()
}

fn tensor(x: &[f64], dtype: DType) -> Tensor {
    Tensor::new([x.len()], x.to_vec())
        .and_then(|t| t.cast(dtype))
        .expect("small")
}

/// Value, first derivatives by each input, second derivatives by each pair, each computed in all
/// possible ways.
struct Everything {
    value: Vec<f64>,
    first: Vec<Vec<Vec<f64>>>,
    second: Vec<Vec<Vec<Vec<f64>>>>,
}

fn everything(f: Function, inputs: &[Vec<f64>], dtype: DType) -> Result<Everything> {
    let g = Graph::new();
    let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(tensor(x, dtype))).collect();
    let one = g.ones([inputs[0].len()], dtype);
    let y = f(&x);
    let mut wanted = vec![y];
    for &a in &x {
        let backward = g.grads(y.sum(), &[a])[0];
        let forward = g.jvp(y, &[a], &[one]);
        wanted.extend([backward, forward]);
        for &b in &x {
            let again = g.grads(backward.sum(), &[b])[0];
            wanted.extend([
                again,
                g.jvp(backward, &[b], &[one]),
                g.grads(forward.sum(), &[b])[0],
            ]);
            wanted.push(g.jvp(forward, &[b], &[one]));
        }
    }
    let mut values = g.run(wanted)?.into_iter().map(|v| v.to_f64s());
    let mut take = |count| values.by_ref().take(count).collect::<Vec<_>>();
    let value = take(1).remove(0);
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for _ in &x {
        first.push(take(2));
        second.push(x.iter().map(|_| take(4)).collect());
    }
    Ok(Everything {
        value,
        first,
        second,
    })
}

/// Whether two derivatives are equal, up to rounding, and up to an intermediate overflow or
/// underflow.
fn agree(a: f64, b: f64, dtype: DType) -> bool {
    let (close, large, small) = if dtype == DType::F32 {
        (1e-4, 1e30, 1e-22)
    } else {
        (1e-11, 1e280, 1e-280)
    };
    a == b
        || a.is_nan() && b.is_nan()
        || (a - b).abs() <= close * a.abs().max(b.abs())
        || a.abs() > large && b.abs() > large && (a > 0.0) == (b > 0.0)
        || (a - b).abs() < small
}

/// A scalar function, and where it has no derivative although its value is finite: NaN is allowed
/// there.
struct Case {
    name: &'static str,
    inputs: usize,
    f: Function,
    undefined: fn(&[f64]) -> bool,
}

const fn case(name: &'static str, inputs: usize, f: Function) -> Case {
    Case {
        name,
        inputs,
        f,
        undefined: |_| false,
    }
}

const fn except(
    name: &'static str,
    inputs: usize,
    f: Function,
    undefined: fn(&[f64]) -> bool,
) -> Case {
    Case {
        name,
        inputs,
        f,
        undefined,
    }
}

const CASES: [Case; 49] = [
    case("neg", 1, |x| -x[0]),
    case("abs", 1, |x| x[0].abs()),
    case("sign", 1, |x| x[0].sign()),
    case("exp", 1, |x| x[0].exp()),
    case("expm1", 1, |x| x[0].expm1()),
    case("ln", 1, |x| x[0].ln()),
    case("ln_1p", 1, |x| x[0].ln_1p()),
    case("sqrt", 1, |x| x[0].sqrt()),
    case("square", 1, |x| x[0].square()),
    case("recip", 1, |x| x[0].recip()),
    case("rsqrt", 1, |x| x[0].rsqrt()),
    case("sin", 1, |x| x[0].sin()),
    case("cos", 1, |x| x[0].cos()),
    case("tan", 1, |x| x[0].tan()),
    case("asin", 1, |x| x[0].asin()),
    case("acos", 1, |x| x[0].acos()),
    case("atan", 1, |x| x[0].atan()),
    case("sinh", 1, |x| x[0].sinh()),
    case("cosh", 1, |x| x[0].cosh()),
    case("tanh", 1, |x| x[0].tanh()),
    case("sigmoid", 1, |x| x[0].sigmoid()),
    case("relu", 1, |x| x[0].relu()),
    case("erf", 1, |x| x[0].erf()),
    case("erfc", 1, |x| x[0].erfc()),
    case("gelu", 1, |x| x[0].gelu()),
    case("gelu_tanh", 1, |x| x[0].gelu_tanh()),
    case("silu", 1, |x| x[0].silu()),
    case("softplus", 1, |x| x[0].softplus()),
    case("log_sigmoid", 1, |x| x[0].log_sigmoid()),
    case("floor", 1, |x| x[0].floor()),
    case("round", 1, |x| x[0].round()),
    case("powi(0)", 1, |x| x[0].powi(0)),
    case("powi(3)", 1, |x| x[0].powi(3)),
    case("powi(-1)", 1, |x| x[0].powi(-1)),
    case("powf(0)", 1, |x| x[0].powf(0.0)),
    case("powf(1)", 1, |x| x[0].powf(1.0)),
    case("powf(2)", 1, |x| x[0].powf(2.0)),
    case("powf(0.5)", 1, |x| x[0].powf(0.5)),
    case("add", 2, |x| x[0] + x[1]),
    case("mul", 2, |x| x[0] * x[1]),
    case("div", 2, |x| x[0] / x[1]),
    case("maximum", 2, |x| x[0].maximum(x[1])),
    case("minimum", 2, |x| x[0].minimum(x[1])),
    // the logarithm of a negative value, and infinite exponents
    except(
        "pow",
        2,
        |x| x[0].pow(x[1]),
        |x| x[0] < 0.0 || x[1].is_infinite(),
    ),
    case("leaky_relu", 2, |x| x[0].leaky_relu(x[1])),
    case("elu", 2, |x| x[0].elu(x[1])),
    case("atan2", 2, |x| x[0].atan2(x[1])),
    case("hypot", 2, |x| x[0].hypot(x[1])),
    case("rem", 2, |x| x[0] % x[1]),
];

const TRIPLES: [Case; 2] = [
    case("clamp", 3, |x| x[0].clamp(x[1], x[2])),
    case("select", 3, |x| x[0].gt(x[1]).select(x[1], x[2])),
];

fn check(case: &Case, dtype: DType) -> Result<Vec<String>> {
    let x = combinations(dtype, case.inputs);
    let Everything {
        value,
        first,
        second,
    } = everything(case.f, &x, dtype)?;
    let mut wrong = Vec::new();
    for k in 0..x[0].len() {
        let at: Vec<f64> = x.iter().map(|x| x[k]).collect();
        let mut tell =
            |what: String| wrong.push(format!("{} of {dtype} at {at:?}: {what}", case.name));
        let regular =
            value[k].is_finite() && !at.iter().any(|x| x.is_nan()) && !(case.undefined)(&at);
        let mut all_finite = true;
        for (a, ways) in first.iter().enumerate() {
            let d: Vec<f64> = ways.iter().map(|d| d[k]).collect();
            all_finite &= d[0].is_finite();
            if !d.iter().all(|&e| agree(d[0], e, dtype)) || regular && d[0].is_nan() {
                tell(format!("derivative by {a}: {d:?}, value {}", value[k]));
            }
        }
        // for an infinite derivative, and next to 0, intermediate factors of second derivatives
        // overflow in some of the ways
        let overflows = !all_finite || at.iter().any(|x| *x != 0.0 && x.abs() < limits(dtype)[2]);
        for (a, b) in (0..x.len()).flat_map(|a| (0..x.len()).map(move |b| (a, b))) {
            let d: Vec<f64> = second[a][b]
                .iter()
                .chain(&second[b][a])
                .map(|d| d[k])
                .collect();
            let mut there = d.iter().filter(|d| !(overflows && d.is_nan()));
            let one = there.next().copied().unwrap_or(NAN);
            if !there.all(|&e| agree(one, e, dtype)) || regular && !overflows && one.is_nan() {
                tell(format!(
                    "derivative by {a} and {b}: {d:?}, value {}",
                    value[k]
                ));
            }
        }
    }
    Ok(wrong)
}

#[test]
fn all_ways_to_a_derivative_agree() -> Result<()> {
    let mut wrong = Vec::new();
    for dtype in DTYPES {
        for case in CASES.iter().chain(&TRIPLES) {
            wrong.extend(check(case, dtype)?);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// Intermediate values that only f64 can represent must not be lost: derivatives in f32 are those
/// in f64, rounded.
#[test]
fn single_precision_loses_nothing() -> Result<()> {
    let mut wrong = Vec::new();
    for case in CASES.iter().chain(&TRIPLES) {
        let x = combinations(DType::F32, case.inputs);
        let x: Vec<Vec<f64>> = x
            .iter()
            .map(|x| x.iter().map(|x| f64::from(*x as f32)).collect())
            .collect();
        let [single, double] = [DType::F32, DType::F64].map(|dtype| everything(case.f, &x, dtype));
        let (single, double) = (single?, double?);
        for (a, k) in (0..x.len()).flat_map(|a| (0..x[0].len()).map(move |k| (a, k))) {
            let (s, d) = (single.first[a][0][k], double.first[a][0][k]);
            let rounded = f64::from(d as f32);
            let near = (s - rounded).abs() <= 1e-5 * rounded.abs() + f64::from(f32::MIN_POSITIVE);
            let at: Vec<f64> = x.iter().map(|x| x[k]).collect();
            // powers of the smallest values have intermediate overflows
            let overflows = case.name == "pow"
                && at
                    .iter()
                    .any(|x| *x != 0.0 && x.abs() < f32::MIN_POSITIVE.into());
            if !(near || overflows || s == rounded || s.is_nan() && d.is_nan()) {
                wrong.push(format!("{} at {at:?} by {a}: {s:e}, not {d:e}", case.name));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// The derivatives of a scalar function by each of its inputs, at one point.
fn slopes(f: Function, at: &[f64], dtype: DType) -> Result<Vec<f64>> {
    let x: Vec<Vec<f64>> = at.iter().map(|x| vec![*x]).collect();
    Ok(everything(f, &x, dtype)?
        .first
        .iter()
        .map(|ways| ways[0][0])
        .collect())
}

/// A function, a point, and the derivatives at that point, from formulas by hand.
const KNOWN: &[(&str, Function, &[f64], &[f64])] = &[
    ("sigmoid", |x| x[0].sigmoid(), &[0.0], &[0.25]),
    (
        "sigmoid",
        |x| x[0].sigmoid(),
        &[20.0],
        &[2.061153613941849e-09],
    ), // e^-20/(1 + e^-20)²
    (
        "sigmoid",
        |x| x[0].sigmoid(),
        &[-80.0],
        &[1.8048513878454153e-35],
    ),
    ("tanh", |x| x[0].tanh(), &[0.0], &[1.0]),
    ("tanh", |x| x[0].tanh(), &[-10.0], &[8.244614455767397e-09]), // 4e^-20/(1 + e^-20)²
    ("tanh", |x| x[0].tanh(), &[40.0], &[7.219405551381661e-35]),
    ("tanh", |x| x[0].tanh(), &[INF], &[0.0]),
    ("gelu", |x| x[0].gelu(), &[INF], &[1.0]),
    ("gelu", |x| x[0].gelu(), &[-INF], &[0.0]),
    ("gelu_tanh", |x| x[0].gelu_tanh(), &[2e19], &[1.0]),
    ("gelu_tanh", |x| x[0].gelu_tanh(), &[-2e19], &[0.0]),
    ("gelu_tanh", |x| x[0].gelu_tanh(), &[-INF], &[0.0]),
    ("silu", |x| x[0].silu(), &[INF], &[1.0]),
    ("silu", |x| x[0].silu(), &[-INF], &[0.0]),
    ("atan", |x| x[0].atan(), &[1e20], &[1e-40]),
    ("atan", |x| x[0].atan(), &[-INF], &[0.0]),
    ("asin", |x| x[0].asin(), &[1.0], &[INF]),
    (
        "asin",
        |x| x[0].asin(),
        &[1.0 - f64::EPSILON * 268_435_456.0],
        &[2896.3094188984724],
    ), // 1/√(h(2 - h)), h = 2⁻²⁴
    ("atan2", |x| x[0].atan2(x[1]), &[0.0, 0.0], &[0.0, 0.0]),
    (
        "atan2",
        |x| x[0].atan2(x[1]),
        &[1e-23, 1e-23],
        &[5e22, -5e22],
    ),
    ("atan2", |x| x[0].atan2(x[1]), &[0.0, 1e-30], &[1e30, 0.0]),
    (
        "atan2",
        |x| x[0].atan2(x[1]),
        &[1e20, -1e20],
        &[-5e-21, -5e-21],
    ),
    ("atan2", |x| x[0].atan2(x[1]), &[INF, 1.0], &[0.0, 0.0]),
    ("hypot", |x| x[0].hypot(x[1]), &[0.0, 0.0], &[0.0, 0.0]),
    (
        "hypot",
        |x| x[0].hypot(x[1]),
        &[3e38, -3e38],
        &[FRAC_1_SQRT_2, -FRAC_1_SQRT_2],
    ),
    ("hypot", |x| x[0].hypot(x[1]), &[-INF, 1.0], &[-1.0, 0.0]),
    ("pow", |x| x[0].pow(x[1]), &[0.0, 0.0], &[0.0, 0.0]),
    ("pow", |x| x[0].pow(x[1]), &[0.0, 1.0], &[1.0, 0.0]),
    ("pow", |x| x[0].pow(x[1]), &[0.0, 0.5], &[INF, 0.0]),
    ("pow", |x| x[0].pow(x[1]), &[0.0, -1.0], &[-INF, -INF]),
    (
        "pow",
        |x| x[0].pow(x[1]),
        &[1e-40, 0.0],
        &[0.0, -92.10340371976183],
    ),
    ("pow", |x| x[0].pow(x[1]), &[INF, -1.0], &[0.0, 0.0]),
    (
        "clamp",
        |x| x[0].clamp(x[1], x[2]),
        &[2.0, 2.0, 1.0],
        &[0.0, 0.0, 1.0],
    ),
    (
        "clamp",
        |x| x[0].clamp(x[1], x[2]),
        &[0.0, 2.0, 1.0],
        &[0.0, 0.0, 1.0],
    ),
    (
        "clamp",
        |x| x[0].clamp(x[1], x[2]),
        &[1.0, 1.0, 1.0],
        &[1.0, 0.0, 0.0],
    ),
    (
        "clamp",
        |x| x[0].clamp(x[1], x[2]),
        &[0.0, 1.0, 1.0],
        &[0.0, 1.0, 0.0],
    ),
    ("elu", |x| x[0].elu(x[1]), &[0.0, 3.0], &[3.0, 0.0]),
    (
        "leaky_relu",
        |x| x[0].leaky_relu(x[1]),
        &[0.0, 3.0],
        &[3.0, 0.0],
    ),
];

#[test]
fn known_derivatives() -> Result<()> {
    for dtype in DTYPES {
        for (name, f, at, expected) in KNOWN {
            let own = slopes(*f, at, dtype)?;
            let precision = if dtype == DType::F32 { 4e-6 } else { 1e-14 };
            let is_close = |(&own, &d): (&f64, &f64)| {
                own == d
                    || (own - d).abs()
                        <= precision * d.abs() + if d.abs() < 1e-38 { 1e-44 } else { 0.0 }
            };
            assert!(
                own.iter().zip(*expected).all(is_close),
                "{name} of {dtype} at {at:?}: {own:?}, expected {expected:?}"
            );
        }
    }
    Ok(())
}

/// Second derivatives that a convention defines: `f(x, y)` by its inputs, symmetric.
#[test]
fn known_second_derivatives() -> Result<()> {
    let cases: [(&str, Function, [f64; 2], [f64; 3]); 8] = [
        (
            "pow",
            |x| x[0].pow(x[1]),
            [2.0, 0.0],
            [0.0, 0.5, 2f64.ln().powi(2)],
        ),
        ("pow", |x| x[0].pow(x[1]), [0.0, 0.0], [0.0, 0.0, 0.0]),
        ("pow", |x| x[0].pow(x[1]), [0.0, 1.0], [0.0, 0.0, 0.0]),
        ("pow", |x| x[0].pow(x[1]), [0.0, 2.0], [2.0, 0.0, 0.0]),
        ("hypot", |x| x[0].hypot(x[1]), [0.0, 0.0], [0.0, 0.0, 0.0]),
        ("atan2", |x| x[0].atan2(x[1]), [0.0, 0.0], [0.0, 0.0, 0.0]),
        (
            "leaky_relu",
            |x| x[0].leaky_relu(x[1]),
            [0.0, 0.1],
            [0.0, 1.0, 0.0],
        ),
        ("elu", |x| x[0].elu(x[1]), [0.0, 2.0], [2.0, 1.0, 0.0]),
    ];
    for (name, f, at, [aa, ab, bb]) in cases {
        let own = everything(f, &at.map(|x| vec![x]), DType::F64)?.second;
        for (i, j, d) in [(0, 0, aa), (0, 1, ab), (1, 0, ab), (1, 1, bb)] {
            let ways: Vec<f64> = own[i][j].iter().map(|way| way[0]).collect();
            assert!(
                ways.iter().all(|own| (own - d).abs() < 1e-15),
                "{name} at {at:?}, {i} and {j}: {ways:?}, expected {d}"
            );
        }
    }
    Ok(())
}

/// Polynomials as powers: `Σ cₖ·xᵏ` with exponents 0, 1, 2 has the right derivatives at 0, to
/// fourth order.
#[test]
fn powers_at_zero_to_all_orders() -> Result<()> {
    for dtype in DTYPES {
        let g = Graph::new();
        let (x, exponents) = (
            g.input(tensor(&[0.0], dtype)),
            g.input(tensor(&[0.0, 1.0, 2.0], dtype)),
        );
        let coefficients = g.constant(tensor(&[5.0, 7.0, 11.0], dtype));
        let fixed = g.constant(tensor(&[0.0, 1.0, 2.0], dtype));
        assert_eq!(
            g.jvp(x.pow(fixed), &[x], &[x.ones_like()])
                .value()?
                .to_f64s(),
            [0.0, 1.0, 0.0]
        );
        let mut d = (coefficients * x.pow(exponents)).sum();
        let mut of_fixed = (coefficients * x.pow(fixed)).sum();
        let mut of_number = (x.powf(2.0) + x.powf(1.0) + x.powf(0.0)).sum();
        for (order, expected) in [7.0, 22.0, 0.0, 0.0].into_iter().enumerate() {
            let h = g.jvp(d, &[x], &[x.ones_like()]);
            d = g.grads(d, &[x])[0].sum();
            of_number = g.grads(of_number, &[x])[0].sum();
            of_fixed = g.grads(of_fixed, &[x])[0].sum();
            let own = g.run((d, h, of_number, of_fixed))?;
            assert_eq!(own.3.scalar()?, expected, "order {}", order + 1);
            assert_eq!(
                (own.0.scalar()?, own.1.scalar()?),
                (expected, expected),
                "order {}",
                order + 1
            );
            assert_eq!(
                own.2.scalar()?,
                [1.0, 2.0, 0.0, 0.0][order],
                "order {}",
                order + 1
            );
        }
    }
    Ok(())
}

/// Fused kernels compute the same bits as the scalar function, for any length, on every instruction
/// set.
#[test]
fn kernels_of_any_length_agree() -> Result<()> {
    for (case, dtype) in CASES
        .iter()
        .chain(&TRIPLES)
        .flat_map(|case| DTYPES.map(|dtype| (case, dtype)))
    {
        let all = combinations(dtype, case.inputs);
        let whole = gradients(case.f, &all, dtype)?;
        for n in [1, 7, 128, 200, 1025] {
            for start in if n == 1 { vec![0, 3, 8, 11] } else { vec![5] } {
                let at: Vec<usize> = (start..start + n).map(|k| 7 * k % all[0].len()).collect();
                let x: Vec<Vec<f64>> = all
                    .iter()
                    .map(|x| at.iter().map(|&k| x[k]).collect())
                    .collect();
                for (own, whole) in gradients(case.f, &x, dtype)?.iter().zip(&whole) {
                    for (own, &k) in own.iter().zip(&at) {
                        let same = own.to_bits() == whole[k].to_bits()
                            || own.is_nan() && whole[k].is_nan();
                        assert!(
                            same,
                            "{} of {dtype}, {n} elements: {own}, expected {}",
                            case.name, whole[k]
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn gradients(f: Function, inputs: &[Vec<f64>], dtype: DType) -> Result<Vec<Vec<f64>>> {
    let g = Graph::new();
    let x: Vec<Var<'_>> = inputs.iter().map(|x| g.input(tensor(x, dtype))).collect();
    let y = f(&x);
    let mut wanted = g.grads(y.sum(), &x);
    wanted.push(y);
    Ok(g.run(wanted)?.iter().map(Tensor::to_f64s).collect())
}

/// Enough elements to be split among threads, with and without requests for intermediate values.
#[test]
fn several_threads_agree() -> Result<()> {
    let names = ["tanh", "gelu_tanh", "pow", "atan2", "hypot", "clamp", "elu"];
    for case in CASES
        .iter()
        .chain(&TRIPLES)
        .filter(|case| names.contains(&case.name))
    {
        let all = combinations(DType::F32, case.inputs);
        let whole = gradients(case.f, &all, DType::F32)?;
        let at: Vec<usize> = (0..100_003).map(|k| 7 * k % all[0].len()).collect();
        let x: Vec<Vec<f64>> = all
            .iter()
            .map(|x| at.iter().map(|&k| x[k]).collect())
            .collect();
        for (own, whole) in gradients(case.f, &x, DType::F32)?.iter().zip(&whole) {
            let same = |(own, &k): (&f64, &usize)| {
                own.to_bits() == whole[k].to_bits() || own.is_nan() && whole[k].is_nan()
            };
            assert!(own.iter().zip(&at).all(same), "{}", case.name);
        }
        let g = Graph::new();
        let x: Vec<Var<'_>> = all.iter().map(|x| g.input(tensor(x, DType::F32))).collect();
        let y = (case.f)(&x);
        y.value()?;
        for (d, whole) in g.grads(y.sum(), &x).into_iter().zip(&whole) {
            let same =
                |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(
                d.value()?.to_f64s().iter().zip(whole).all(same),
                "{} held",
                case.name
            );
        }
    }
    Ok(())
}

#[test]
fn on_every_instruction_set() {
    common::on_every_instruction_set();
}

/// Rows at which reductions and functions of rows are tested.
fn rows(dtype: DType) -> Vec<[f64; 4]> {
    let [least, subnormal, smallest, largest, large] = limits(dtype);
    let tiny = if dtype == DType::F32 { 1e-25 } else { 1e-170 };
    vec![
        [0.0; 4],
        [-0.0, 0.0, 0.0, -0.0],
        [0.3, -0.7, 1.1, 0.0],
        [1.0; 4],
        [2.0, 1.0, 2.0, -1.0],
        [0.0, 2.0, 0.0, 3.0],
        [tiny; 4],
        [tiny, -tiny, 0.0, 2.0 * tiny],
        [least, 0.0, subnormal, smallest],
        [large, -large, 0.0, large],
        [-largest, 0.0, 1.0, -largest],
        [-INF, 0.0, -INF, 1.0],
        [-INF; 4],
        [NAN, 1.0, NAN, 2.0],
        [NAN; 4],
    ]
}

/// The magnitude up to which a function of rows has derivatives in range.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
enum UpTo {
    Moderate,
    Large,
    Largest,
    Infinite,
}
use UpTo::*;

/// Functions of rows.
const OF_ROWS: [(&str, Function, UpTo); 30] = [
    ("abs", |x| x[0].abs(), Infinite),
    ("maximum", |x| x[0].maximum(x[0].flip(0)), Infinite),
    (
        "leaky_relu",
        |x| x[0].slice(0, ..2).leaky_relu(x[0].slice(0, 2..)),
        Largest,
    ),
    (
        "elu",
        |x| x[0].slice(0, ..2).elu(x[0].slice(0, 2..)),
        Largest,
    ),
    (
        "hypot",
        |x| x[0].slice(0, ..2).hypot(x[0].slice(0, 2..)),
        Infinite,
    ),
    (
        "atan2",
        |x| x[0].slice(0, ..2).atan2(x[0].slice(0, 2..)),
        Infinite,
    ),
    (
        "clamp",
        |x| x[0].clamp(x[0].slice(0, ..1), x[0].slice(0, 1..2)),
        Infinite,
    ),
    ("sum", |x| x[0].sum(), Infinite),
    ("mean", |x| x[0].mean(), Infinite),
    ("var", |x| x[0].var(1), Moderate),
    ("std", |x| x[0].std(0), Large),
    ("std_axis", |x| x[0].reshape([2, 2]).std_axis(1, 0), Large),
    ("norm", |x| x[0].norm(), Largest),
    ("norm_axis", |x| x[0].reshape([2, 2]).norm_axis(0), Largest),
    ("max", |x| x[0].max(), Infinite),
    ("min", |x| x[0].min(), Infinite),
    ("max_axis", |x| x[0].reshape([2, 2]).max_axis(0), Infinite),
    ("prod", |x| x[0].prod(), Moderate),
    ("cumsum", |x| x[0].cumsum(0), Infinite),
    ("sort", |x| x[0].sort(0), Infinite),
    ("topk", |x| x[0].topk(2, 0).0, Infinite),
    (
        "gather",
        |x| x[0].gather(0, x[0].graph().constant([1, 1, 3])),
        Infinite,
    ),
    ("softmax", |x| x[0].softmax(0), Infinite),
    (
        "softmax of columns",
        |x| x[0].reshape([2, 2]).softmax(0),
        Infinite,
    ),
    ("log_softmax", |x| x[0].log_softmax(0), Infinite),
    ("logsumexp", |x| x[0].logsumexp(0), Infinite),
    (
        "cross_entropy",
        |x| x[0].cross_entropy(x[0].graph().constant(1)),
        Infinite,
    ),
    (
        "cross_entropy of probabilities",
        |x| x[0].cross_entropy(probabilities(x[0])),
        Infinite,
    ),
    (
        "cross_entropy_with",
        |x| {
            x[0].cross_entropy_with(
                x[0].graph().constant(1),
                0.1,
                Some(probabilities(x[0])),
                Some(3),
            )
        },
        Infinite,
    ),
    (
        "cross_entropy ignored",
        |x| x[0].cross_entropy_with(x[0].graph().constant(-100), 0.0, None, Some(-100)),
        Infinite,
    ),
];

fn probabilities<'g>(like: Var<'g>) -> Var<'g> {
    like.graph()
        .constant([0.0, 0.25, 0.75, 0.0])
        .cast(like.dtype().unwrap_or(DType::F64))
}

/// A scalar whose second derivatives by `x` are those of all elements.
fn total<'g>(y: Var<'g>) -> Var<'g> {
    let weights = [1.5, -0.5, 2.0, 1.0];
    let count = y.shape().map_or(0, |s| s.iter().product());
    let y = y.reshape([count]);
    if count == 1 {
        y.sum()
    } else {
        (y * y
            .graph()
            .constant(tensor(&weights[..count], y.dtype().unwrap_or(DType::F64))))
        .sum()
    }
}

/// The Jacobian in every way, and the Hessian, also transposed: all elements.
fn matrices(f: Function, x: &[f64], dtype: DType) -> Result<[Vec<Vec<f64>>; 2]> {
    let g = Graph::new();
    let n = x.len();
    let input = tensor(x, dtype);
    let x = g.input(&input);
    let y = f(&[x]);
    let (number, flat) = (total(y), y.reshape([-1]));
    let gradient = g.grads(number, &[x])[0];
    let basis = |k: usize| {
        g.constant(tensor(
            &std::array::from_fn::<f64, 4, _>(|i| f64::from(i == k)),
            dtype,
        ))
    };
    let by_columns: Vec<Var<'_>> = (0..n).map(|k| g.jvp(flat, &[x], &[basis(k)])).collect();
    let of_gradient: Vec<Var<'_>> = (0..n).map(|k| g.jvp(gradient, &[x], &[basis(k)])).collect();
    let products: Vec<Var<'_>> = (0..n).map(|k| g.hvp(number, x, basis(k))).collect();
    let mut jacobians = vec![
        g.jacobians(flat, &[x])[0].value()?,
        g.stack(&by_columns, -1).value()?,
    ];
    jacobians.push(autograd::jacobian(|x| f(&[x]))(&input)?);
    let hessian = g.hessian(number, x);
    let mut hessians = vec![
        hessian.value()?,
        hessian.t().value()?,
        g.stack(&products, 0).value()?,
    ];
    hessians.push(g.stack(&of_gradient, -1).value()?);
    hessians.push(autograd::hessian(|x| total(f(&[x])))(&input)?);
    let [mut jacobians, mut hessians] =
        [jacobians, hessians].map(|all| all.iter().map(Tensor::to_f64s).collect::<Vec<_>>());
    sparse(f, &input, &mut jacobians, &mut hessians)?;
    Ok([jacobians, hessians])
}

#[cfg(feature = "sparse")]
fn sparse(
    f: Function,
    x: &Tensor,
    jacobians: &mut Vec<Vec<f64>>,
    hessians: &mut Vec<Vec<f64>>,
) -> Result<()> {
    if x.dtype() != DType::F64 {
        return Ok(());
    }
    let dense = |m: sprs::CsMat<f64>| m.to_dense().into_iter().collect::<Vec<f64>>();
    let j = autograd::sparse_jacobian(|x: Var<'_>| f(&[x]).reshape([-1])).call::<f64>(x.clone())?;
    let h = autograd::sparse_hessian(|x: Var<'_>| total(f(&[x]))).call::<f64>(x.clone())?;
    jacobians.push(dense(j));
    hessians.push(dense(h));
    Ok(())
}

#[cfg(not(feature = "sparse"))]
fn sparse(_: Function, _: &Tensor, _: &mut Vec<Vec<f64>>, _: &mut Vec<Vec<f64>>) -> Result<()> {
    Ok(())
}

#[test]
fn all_ways_to_a_matrix_agree() -> Result<()> {
    if std::env::var("AUTOGRAD_ISA").is_ok() {
        return Ok(()); // rows this short need no test per instruction set
    }
    let mut wrong = Vec::new();
    for (dtype, (name, f, up_to)) in DTYPES.into_iter().flat_map(|d| OF_ROWS.map(|f| (d, f))) {
        let [.., smallest, largest, large] = limits(dtype);
        let class = |x: f64| match x.abs() {
            x if x == INF => Infinite,
            x if x == largest => Largest,
            x if x == large => Large,
            _ => Moderate,
        };
        for row in rows(dtype)
            .into_iter()
            .filter(|row| row.iter().all(|&x| class(x) <= up_to))
        {
            let ways = matrices(f, &row, dtype)?;
            // next to 0, second derivatives overflow, and so do the first derivatives of an angle:
            // times 0 they are NaN in some of the ways
            let is_nan = row.iter().any(|x| x.is_nan());
            let is_tiny = row.iter().any(|&x| x != 0.0 && x.abs() <= smallest);
            for (order, ways) in ways.iter().enumerate() {
                let loose = is_nan || is_tiny && (order == 1 || name == "atan2");
                let size = ways[0]
                    .iter()
                    .filter(|d| d.is_finite())
                    .fold(0f64, |a, b| a.max(b.abs()));
                let close = size * if dtype == DType::F32 { 1e-5 } else { 1e-13 };
                let same = |a: f64, b: f64| {
                    agree(a, b, dtype) || (a - b).abs() <= close || loose && (a + b).is_nan()
                };
                let is_same = |way: &Vec<f64>| way.iter().zip(&ways[0]).all(|(&a, &b)| same(a, b));
                if !ways.iter().all(is_same) || !loose && ways[0].iter().any(|d| d.is_nan()) {
                    wrong.push(format!(
                        "{name} of {dtype} at {row:?}, order {}: {ways:?}",
                        order + 1
                    ));
                }
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of them:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// The norm and the standard deviation of elements whose squares are out of range.
#[test]
fn norms_of_tiny_and_huge_elements() -> Result<()> {
    for (dtype, n) in DTYPES
        .into_iter()
        .flat_map(|d| [1, 4, 200, 1025].map(|n| (d, n)))
    {
        let sizes: &[f64] = if dtype == DType::F32 {
            &[1e-44, 1e-25, 1e-10, 1.0, 1e17, 2e19, 1e37]
        } else {
            &[1e-320, 1e-200, 1.0, 1e200, 1e306]
        };
        for &size in sizes {
            let g = Graph::new();
            let x = g.input(tensor(&vec![size; n], dtype));
            let signs: Vec<f64> = (0..n)
                .map(|k| if k % 2 == 0 { 1.0 } else { -1.0 })
                .collect();
            let pairs = x * g.constant(tensor(&signs, dtype));
            let (norm, std) = (x.norm(), pairs.std(0));
            let [d] = g.grad(norm, &[x]);
            let [of_std] = g.grad(std, &[x]);
            let (norm, std, d, of_std) = g.run((norm, std, d, of_std))?;
            let root = (n as f64).sqrt();
            let size = tensor(&[size], dtype).to_f64s()[0];
            let close = |own: f64, expected: f64| {
                let precision = if dtype == DType::F32 { 1e-6 } else { 1e-14 };
                (own - expected).abs() <= precision * expected.abs() + 3.0 * limits(dtype)[0]
            };
            assert!(
                close(norm.scalar()?, size * root),
                "{dtype}, {n} times {size}: {norm:?}"
            );
            // next to 0 the norm itself has few digits
            if size > 100.0 * limits(dtype)[2] {
                assert!(
                    d.to_f64s().iter().all(|&d| close(d, 1.0 / root)),
                    "{dtype}, {n} times {size}: {d:?}"
                );
            }
            // the mean is a sum before the division
            if n % 4 == 0 && size * (n as f64) < limits(dtype)[3] {
                let of_std = of_std.to_f64s();
                assert!(
                    close(std.scalar()?, size),
                    "{dtype}, {n} times {size}: {std:?}"
                );
                assert!(
                    size < 1e-30 || of_std.iter().all(|&d| close(d, 1.0 / n as f64)),
                    "{dtype}, {n} times {size}"
                );
            }
        }
        let g = Graph::new();
        let x = g.constant(tensor(&[1.0, NAN, 2.0], dtype));
        assert!(g.run((x.norm(), x.std(0)))?.0.scalar()?.is_nan());
    }
    Ok(())
}

/// Lines of only -∞: short ones in fused kernels, long and strided ones by the definition.
#[test]
fn softmax_of_only_negative_infinity() -> Result<()> {
    for (dtype, n) in DTYPES
        .into_iter()
        .flat_map(|d| [1, 7, 127, 128, 200, 1025].map(|n| (d, n)))
    {
        let row: Vec<f64> = (0..n).map(|k| (1.7 * k as f64).sin()).collect();
        let all = [
            vec![-INF; n],
            row.clone(),
            [vec![-INF; n - 1], vec![0.5]].concat(),
            [vec![NAN], row[1..].to_vec()].concat(),
        ];
        for transposed in [false, true] {
            let g = Graph::new();
            let rows = g.input(Tensor::new([4, n], all.concat())?.cast(dtype)?);
            let (x, axis) = if transposed {
                (g.input(rows.t().value()?), 0)
            } else {
                (rows, -1)
            };
            let (p, log_p, lse) = (x.softmax(axis), x.log_softmax(axis), x.logsumexp(axis));
            let number = p.slice(if transposed { 1 } else { 0 }, 0..3).square().sum()
                + lse.slice(0, 1..3).sum();
            let [d] = g.grad(number, &[x]);
            let labels = g.constant(vec![0i64; 4]);
            let loss = if transposed {
                lse
            } else {
                x.cross_entropy(labels)
            };
            let (p, log_p, lse, d, loss) = g.run((p, log_p, lse, d, loss))?;
            let line = |v: &Tensor, k: usize| -> Vec<f64> {
                let v = v.to_f64s();
                (0..n)
                    .map(|i| {
                        if transposed {
                            v[i * 4 + k]
                        } else {
                            v[k * n + i]
                        }
                    })
                    .collect()
            };
            assert!(line(&p, 0).iter().all(|&p| p == 0.0), "{dtype}, {n}: {p:?}");
            assert!(
                line(&log_p, 0).iter().all(|&p| p == -INF),
                "{dtype}, {n}: {log_p:?}"
            );
            assert!(line(&d, 0).iter().all(|&d| d == 0.0), "{dtype}, {n}: {d:?}");
            assert_eq!(lse.to_f64s()[0], -INF);
            assert!(transposed || loss.to_f64s()[0] == INF);
            assert!((line(&p, 1).iter().sum::<f64>() - 1.0).abs() < 1e-5);
            assert_eq!(line(&p, 2)[n - 1], 1.0);
            assert_eq!(lse.to_f64s()[2], 0.5);
            assert!(
                line(&p, 3)
                    .iter()
                    .chain(&line(&log_p, 3))
                    .all(|p| p.is_nan())
                    && lse.to_f64s()[3].is_nan()
            );
        }
    }
    Ok(())
}

/// The cross-entropy by its probabilities, and by class weights: where these are 0, the derivative
/// is the cost, or 0 if that is infinite.
#[test]
fn costs_with_probability_zero() -> Result<()> {
    for dtype in DTYPES {
        let g = Graph::new();
        let x = g.input(tensor(&[0.0, 1.0, -INF, 0.5], dtype));
        let target = g.input(tensor(&[0.0, 0.25, 0.0, 0.75], dtype));
        let log_p = x.log_softmax(-1).value()?.to_f64s();
        let loss = x.cross_entropy(target).sum();
        let [by_target, by_x] = g.grad(loss, &[target, x]);
        let (loss, by_target, by_x) = g.run((loss, by_target, by_x))?;
        assert!(loss.scalar()?.is_finite());
        assert_eq!(by_target.to_f64s(), [-log_p[0], -log_p[1], 0.0, -log_p[3]]);
        let p: Vec<f64> = log_p.iter().map(|l| l.exp()).collect();
        let expected = [p[0], p[1] - 0.25, 0.0, p[3] - 0.75];
        assert!(
            by_x.to_f64s()
                .iter()
                .zip(expected)
                .all(|(d, e)| (d - e).abs() < 1e-6),
            "{by_x:?}"
        );

        // an infinite loss with label smoothing, with a finite gradient by the logits
        let smooth = x.cross_entropy_with(g.constant(1), 0.1, None, None).sum();
        let [d] = g.grad(smooth, &[x]);
        let (smooth, d) = g.run((smooth, d))?;
        assert_eq!(smooth.scalar()?, INF);
        let expected = [p[0] - 0.025, p[1] - 0.925, -0.025, p[3] - 0.025];
        assert!(
            d.to_f64s()
                .iter()
                .zip(expected)
                .all(|(d, e)| (d - e).abs() < 1e-6),
            "{d:?}"
        );

        // a class of weight 0 adds nothing, even if its logit is -∞
        let weights = g.input(tensor(&[1.0, 1.0, 0.0, 1.0], dtype));
        let weighted = x
            .cross_entropy_with(g.constant(2), 0.0, Some(weights), None)
            .sum();
        let [by_x, by_weights] = g.grad(weighted, &[x, weights]);
        let (weighted, by_x, by_weights) = g.run((weighted, by_x, by_weights))?;
        assert_eq!(weighted.scalar()?, 0.0);
        assert_eq!([by_x.to_f64s(), by_weights.to_f64s()].concat(), [0.0; 8]);
    }
    Ok(())
}

/// Rows with an ignored label do not count, whatever they contain.
#[test]
fn ignored_labels() -> Result<()> {
    for dtype in DTYPES {
        let g = Graph::new();
        let x = g.input(Tensor::new([3, 2], vec![1.0, 0.0, NAN, 1.0, 0.0, 2.0])?.cast(dtype)?);
        let labels = g.constant([1, -100, 0]);
        let weights = g.input(tensor(&[1.0, 3.0], dtype));
        for weights in [None, Some(weights)] {
            for smoothing in [0.0, 0.1, 1.0] {
                let losses = x.cross_entropy_with(labels, smoothing, weights, Some(-100));
                let counted = x.take(g.constant([0, 2]), 0);
                let others =
                    counted.cross_entropy_with(g.constant([1, 0]), smoothing, weights, None);
                let ([d], [e]) = (g.grad(losses.sum(), &[x]), g.grad(others.sum(), &[counted]));
                let (losses, others, d, e) = g.run((losses, others, d, e))?;
                let (losses, d) = (losses.to_f64s(), d.to_f64s());
                assert_eq!(vec![losses[0], losses[2]], others.to_f64s());
                assert_eq!(losses[1], 0.0);
                assert_eq!([&d[..2], &d[4..]].concat(), e.to_f64s());
                assert_eq!(d[2..4], [0.0, 0.0]);
            }
        }
        assert!(
            x.cross_entropy_with(labels, 0.0, None, None)
                .value()
                .is_err()
        );
        assert!(
            x.cross_entropy_with(labels, 0.0, None, Some(7))
                .value()
                .is_err()
        );
        assert!(
            x.cross_entropy_with(g.constant([1, 0]), 0.0, None, Some(7))
                .error()
                .is_some()
        );
        assert!(
            x.cross_entropy_with(x, 0.0, None, Some(7))
                .error()
                .is_some()
        );
    }
    Ok(())
}

/// `σ'` and `tanh'` in f32 for all magnitudes, in units in the last place.
#[test]
fn small_derivatives_of_sigmoid_and_tanh_are_accurate() -> Result<()> {
    let x: Vec<f32> = (0..1u64 << 32)
        .step_by(40_009)
        .map(|bits| f32::from_bits(bits as u32))
        .collect();
    let density = |x: f64| (-x.abs()).exp() / (1.0 + (-x.abs()).exp()).powi(2);
    // tanh x = 2·σ(2x) - 1
    let cases: [(Function, f64); 2] = [(|x| x[0].sigmoid(), 1.0), (|x| x[0].tanh(), 2.0)];
    for (f, scale) in cases {
        let g = Graph::new();
        let v = g.input(x.clone());
        let [d] = g.grad(f(&[v]).sum(), &[v]);
        let d = d.value()?;
        let mut worst = 0f64;
        for (&x, &own) in x.iter().zip(d.as_slice::<f32>()?) {
            let truth = scale * scale * density(scale * f64::from(x));
            let unit = 2f64.powi((truth.log2().floor() as i32).max(-126) - 23);
            let distance = (f64::from(own) - truth).abs() / unit;
            assert!(x.is_nan() == own.is_nan());
            worst = worst.max(if x.is_nan() { 0.0 } else { distance });
        }
        assert!(worst < 3.5, "{worst} ulp");
    }
    Ok(())
}

/// `√max(x, 0)`, with a rule that masks only the product: its factor is infinite at 0.
#[derive(Clone, PartialEq, Debug)]
struct RootAbove;

impl Elementwise for RootAbove {
    const NAME: &'static str = "root_above";
    const INPUTS: usize = 1;
    fn value<T: Real>(&self, x: &[T]) -> T {
        if x[0] > T::of(0.0) {
            x[0].sqrt()
        } else {
            T::of(0.0)
        }
    }
    fn partial<'g>(&self, _input: usize, x: &[Var<'g>], _y: Var<'g>) -> Partial<'g> {
        Partial::WhereTimes(x[0].gt(0.0), 0.5 / x[0].sqrt())
    }
}

/// The mask of a user-defined op applies in both modes, whatever the factor, the cotangent and the
/// tangent.
#[test]
fn masks_hold_in_forward_mode() -> Result<()> {
    let g = Graph::new();
    let (x, v) = (g.input([0.0, 4.0, -1.0]), g.constant([INF, 1.0, INF]));
    let y = x.apply(RootAbove);
    let backward = y.vjp(v, &[x])[0].map(|d| d.value()).transpose()?;
    assert_eq!(backward.map(|d| d.to_f64s()), Some(vec![0.0, 0.25, 0.0]));
    assert_eq!(g.jvp(y, &[x], &[v]).value()?.to_f64s(), [0.0, 0.25, 0.0]);
    Ok(())
}
