//! Derivatives at special points: zeros, ties, infinities, NaN, the smallest and the largest numbers. Reverse mode, forward
//! mode and all ways to second derivatives must agree there, and with the numbers that are known.
//!
//! Points are elements of one tensor, differentiated with cotangents and tangents of ones: a cotangent of 0 times an
//! infinite derivative is NaN by design.

mod common;

use autograd::{DType, Graph, Result, Tensor, Var};

type Function = for<'g> fn(&[Var<'g>]) -> Var<'g>;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;
const DTYPES: [DType; 2] = [DType::F64, DType::F32];

/// The smallest subnormal numbers, the smallest normal one, the largest one, and one whose square overflows.
fn limits(dtype: DType) -> [f64; 5] {
    match dtype {
        DType::F32 => [1e-45, 1e-40, f32::MIN_POSITIVE.into(), f32::MAX.into(), 2e19],
        _ => [5e-324, 1e-310, f64::MIN_POSITIVE, f64::MAX, 2e160],
    }
}

fn points(dtype: DType) -> Vec<f64> {
    let own = [0.0, 0.3, 0.5, 1.0, 2.0, 20.0, 60.0, 1000.0, INF];
    let both = |x: &f64| [*x, -*x];
    own.iter().chain(&limits(dtype)).flat_map(both).chain([NAN]).collect()
}

/// Fewer of them, for pairs and triples.
fn few(dtype: DType, inputs: usize) -> Vec<f64> {
    let [least, .., largest, large] = limits(dtype);
    match inputs {
        1 => points(dtype),
        2 => {
            let own = [0.0, 0.5, 1.0, 2.0, 3.0, least, largest, large, INF];
            own.iter().flat_map(|x| [*x, -*x]).chain([1e-23, NAN]).collect()
        }
        _ => vec![0.0, -0.0, 1.0, -1.0, 2.0, largest, -INF, INF, NAN],
    }
}

/// All combinations: a list for each input.
fn combinations(dtype: DType, inputs: usize) -> Vec<Vec<f64>> {
    let own = few(dtype, inputs);
    let count = own.len().pow(inputs as u32);
    (0..inputs).map(|k| (0..count).map(|at| own[at / own.len().pow(k as u32) % own.len()]).collect()).collect()
}

fn tensor(x: &[f64], dtype: DType) -> Tensor {
    Tensor::new([x.len()], x.to_vec()).and_then(|t| t.cast(dtype)).expect("small")
}

/// Value, first derivatives by each input, second ones by each pair, each in every way that there is.
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
            wanted.extend([again, g.jvp(backward, &[b], &[one]), g.grads(forward.sum(), &[b])[0]]);
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
    Ok(Everything { value, first, second })
}

/// Whether two numbers are the same derivative: up to rounding, and up to an overflow or underflow on the way.
fn agree(a: f64, b: f64, dtype: DType) -> bool {
    let (close, large, small) = if dtype == DType::F32 { (1e-4, 1e30, 1e-30) } else { (1e-11, 1e280, 1e-280) };
    a == b
        || a.is_nan() && b.is_nan()
        || (a - b).abs() <= close * a.abs().max(b.abs())
        || a.abs() > large && b.abs() > large && (a > 0.0) == (b > 0.0)
        || a.abs() < small && b.abs() < small
}

/// An operation of numbers, and where it has no derivative although its value is finite: there NaN may come out.
struct Case {
    name: &'static str,
    inputs: usize,
    f: Function,
    undefined: fn(&[f64]) -> bool,
}

const fn case(name: &'static str, inputs: usize, f: Function) -> Case {
    Case { name, inputs, f, undefined: |_| false }
}

const fn except(name: &'static str, inputs: usize, f: Function, undefined: fn(&[f64]) -> bool) -> Case {
    Case { name, inputs, f, undefined }
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
    // the logarithm of a negative number, and infinite exponents
    except("pow", 2, |x| x[0].pow(x[1]), |x| x[0] < 0.0 || x[1].is_infinite()),
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
    let Everything { value, first, second } = everything(case.f, &x, dtype)?;
    let mut wrong = Vec::new();
    for k in 0..x[0].len() {
        let at: Vec<f64> = x.iter().map(|x| x[k]).collect();
        let mut tell = |what: String| wrong.push(format!("{} of {dtype} at {at:?}: {what}", case.name));
        let regular = value[k].is_finite() && !at.iter().any(|x| x.is_nan()) && !(case.undefined)(&at);
        let mut all_finite = true;
        for (a, ways) in first.iter().enumerate() {
            let d: Vec<f64> = ways.iter().map(|d| d[k]).collect();
            all_finite &= d[0].is_finite();
            if !d.iter().all(|&e| agree(d[0], e, dtype)) || regular && d[0].is_nan() {
                tell(format!("derivative by {a}: {d:?}, value {}", value[k]));
            }
        }
        // of an infinite slope, and next to 0, factors on the way to a second derivative overflow in one way or another
        let overflows = !all_finite || at.iter().any(|x| *x != 0.0 && x.abs() < limits(dtype)[2]);
        for (a, b) in (0..x.len()).flat_map(|a| (0..x.len()).map(move |b| (a, b))) {
            let d: Vec<f64> = second[a][b].iter().chain(&second[b][a]).map(|d| d[k]).collect();
            let mut there = d.iter().filter(|d| !(overflows && d.is_nan()));
            let one = there.next().copied().unwrap_or(NAN);
            if !there.all(|&e| agree(one, e, dtype)) || regular && !overflows && one.is_nan() {
                tell(format!("derivative by {a} and {b}: {d:?}, value {}", value[k]));
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
    assert!(wrong.is_empty(), "{} of them:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}
