//! The lines of the table in `docs/conventions.md`, each with its test case.

use autograd::{DType, Graph, Result, Tensor, Var};

type Case = fn() -> Result<bool>;

fn value(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Result<Vec<f64>> {
    let g = Graph::new();
    Ok(f(g.input(x.into())).value()?.to_f64s())
}

fn slope(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Result<Vec<f64>> {
    Ok(autograd::grad(|x| f(x).sum())(&x.into() as &Tensor)?.to_f64s())
}

/// The second derivatives of a sum, by rows.
fn curvature(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Result<Vec<f64>> {
    Ok(autograd::hessian(|x| f(x).sum())(&x.into() as &Tensor)?.to_f64s())
}

/// A function of two scalars as a function of a pair.
fn pair<F: for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>>(f: F) -> impl for<'g> Fn(Var<'g>) -> Var<'g> {
    move |x| f(x.slice(0, 0..1), x.slice(0, 1..2))
}

/// Whether values are close in f32.
fn close(own: &[f64], expected: &[f64]) -> bool {
    own.len() == expected.len()
        && own
            .iter()
            .zip(expected)
            .all(|(a, b)| a == b || (a - b).abs() <= 1e-6 * b.abs())
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[allow(clippy::eq_op)] // the same `Var` on both sides is intended
const CASES: [(&str, Case); 44] = [
    ("relu'(0)", || {
        Ok(slope(|x| x.relu(), [0.0, -0.0])? == [0.0, 0.0]
            && curvature(|x| x.relu(), [0.0])? == [0.0])
    }),
    ("abs'(0)", || {
        Ok(slope(|x| x.abs(), [0.0])? == [0.0] && curvature(|x| x.abs(), [0.0])? == [0.0])
    }),
    ("sign(0), sign'(0)", || {
        Ok(value(|x| x.sign(), [0.0])? == [0.0] && slope(|x| x.sign(), [0.0])? == [0.0])
    }),
    ("leaky_relu'(0)", || {
        let h = curvature(pair(|x, slope| x.leaky_relu(slope)), [0.0, 0.1])?;
        Ok(slope(|x| x.leaky_relu(0.1), [0.0])? == [0.1] && h == [0.0, 1.0, 1.0, 0.0])
    }),
    ("elu'(0)", || {
        let h = curvature(pair(|x, scale| x.elu(scale)), [0.0, 0.3])?;
        Ok(slope(|x| x.elu(0.3), [0.0])? == [0.3] && h == [0.3, 1.0, 1.0, 0.0])
    }),
    ("sqrt'(0)", || {
        Ok(slope(|x| x.sqrt(), [0.0])? == [INF] && curvature(|x| x.sqrt(), [0.0])? == [-INF])
    }),
    ("sqrt(max(x, 0))' below 0", || {
        Ok(slope(|x| x.maximum(0.0).sqrt(), [-1.0])? == [0.0])
    }),
    ("(x^0)', (x^1)', (x^2)' at 0", || {
        let at_0 = |n| slope(move |x| x.powi(n), [0.0]);
        let twice = |n: i32| {
            let real = curvature(move |x| x.powf(n.into()), [0.0])?;
            Ok::<_, autograd::Error>([curvature(move |x| x.powi(n), [0.0])?, real].concat())
        };
        let first = [at_0(0)?, at_0(1)?, at_0(2)?].concat() == [0.0, 1.0, 0.0];
        Ok(first
            && [twice(0)?, twice(1)?, twice(2)?, twice(3)?].concat()
                == [0.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0.0, 0.0])
    }),
    ("(0^p)' by p", || {
        let h = curvature(pair(|x, p| x.pow(p)), [0.0, 1.0])?;
        Ok(slope(|p| (p * 0.0).pow(p), [2.0])? == [0.0] && h == [0.0; 4])
    }),
    ("maximum at a tie", || {
        Ok(slope(|x| x.maximum(1.0), [1.0])? == [0.5]
            && curvature(|x| x.maximum(1.0), [1.0])? == [0.0])
    }),
    ("max over ties", || {
        Ok(slope(|x| x.max(), [1.0, 3.0, 3.0])? == [0.0, 0.5, 0.5])
    }),
    ("max of NaN", || {
        Ok(value(|x| x.max(), [1.0, NAN])?[0].is_nan())
    }),
    ("argmax of NaN", || {
        Ok(value(|x| x.argmax(0), [1.0, NAN, 3.0, NAN])? == [1.0])
    }),
    ("sort of NaN", || {
        Ok(value(|x| x.argsort(0), [NAN, 2.0, 1.0, 2.0])? == [2.0, 1.0, 3.0, 0.0])
    }),
    ("clamp at its bounds", || {
        Ok(slope(|x| x.clamp(0.0, 1.0), [0.0, 1.0])? == [1.0, 1.0])
    }),
    ("round(0.5), round(1.5)", || {
        Ok(value(|x| x.round(), [0.5, 1.5])? == [0.0, 2.0])
    }),
    ("prod' of [0, 2, 3]", || {
        Ok(slope(|x| x.prod(), [0.0, 2.0, 3.0])? == [6.0, 0.0, 0.0])
    }),
    ("norm'(0)", || {
        Ok(slope(|x| x.norm(), [0.0, 0.0])? == [0.0, 0.0]
            && curvature(|x| x.norm(), [0.0, 0.0])? == [0.0; 4])
    }),
    ("std' of equal elements", || {
        Ok(slope(|x| x.std(0), [2.0, 2.0])? == [0.0, 0.0]
            && curvature(|x| x.std(0), [2.0, 2.0])? == [0.0; 4])
    }),
    ("hypot'(0, 0)", || {
        let h = curvature(pair(|x, y| x.hypot(y)), [0.0, 0.0])?;
        Ok(slope(|x| x.hypot(0.0), [0.0])? == [0.0] && h == [0.0; 4])
    }),
    ("atan2'(0, 0)", || {
        let h = curvature(pair(|y, x| y.atan2(x)), [0.0, 0.0])?;
        Ok(slope(|x| x.atan2(0.0), [0.0])? == [0.0] && h == [0.0; 4])
    }),
    ("logsumexp of only -inf", || {
        let x = [-INF, -INF];
        let first =
            value(|x| x.logsumexp(0), x)? == [-INF] && slope(|x| x.logsumexp(0), x)? == [0.0, 0.0];
        Ok(first && curvature(|x| x.logsumexp(0), x)? == [0.0; 4])
    }),
    ("logsumexp of no elements", || {
        Ok(value(|x| x.logsumexp(0), Tensor::zeros([0], DType::F64)?)? == [-INF])
    }),
    ("sigmoid of large inputs", || {
        let v = value(|x| x.sigmoid(), [-INF, INF, -100.0])?;
        Ok(v[..2] == [0.0, 1.0] && (v[2] / (-100f64).exp() - 1.0).abs() < 1e-14)
    }),
    ("softplus of large inputs", || {
        let v = value(|x| x.softplus(), [-INF, 1e4, -100.0])?;
        Ok(v[..2] == [0.0, 1e4] && (v[2] / (-100f64).exp() - 1.0).abs() < 1e-14)
    }),
    ("cross-entropy near 0", || {
        let loss = value(|x| x.cross_entropy(x.graph().constant([0])), [[69.0, 0.0]])?[0];
        Ok((loss / (-69f64).exp() - 1.0).abs() < 1e-12)
    }),
    ("probability 0 of a logit -inf", || {
        Ok(value(
            |x| x.cross_entropy(x.graph().constant([[1.0, 0.0]])),
            [[0.0, -INF]],
        )? == [0.0])
    }),
    ("a guarded branch", || {
        let f = slope(
            |x| {
                let positive = x.gt(0.0);
                positive.select(positive.select(x, 1.0).sqrt(), 0.0)
            },
            [0.0, 4.0],
        )?;
        Ok(f == [0.0, 0.25])
    }),
    ("mean of no elements", || {
        Ok(value(|x| x.mean(), Tensor::zeros([0], DType::F64)?)?[0].is_nan())
    }),
    ("x - x at inf", || {
        Ok(value(|x| x - x, [INF])?[0].is_nan() && slope(|x| x - x, [INF])? == [0.0])
    }),
    ("(x^p)' by x at p = 0", || {
        let power = || pair(|x, p| x.pow(p));
        let mixed = |x: f64| Ok::<_, autograd::Error>(curvature(power(), [x, 0.0])?[1..3].to_vec());
        Ok(slope(power(), [2.0, 0.0])?[0] == 0.0
            && mixed(2.0)? == [0.5, 0.5]
            && mixed(0.0)? == [0.0, 0.0])
    }),
    ("sigmoid'(20), tanh'(10) in f32", || {
        let both = [
            slope(|x| x.sigmoid(), [20f32, -20.0])?,
            slope(|x| x.tanh(), [10f32, -10.0])?,
        ]
        .concat();
        Ok(close(
            &both,
            &[
                2.061153613941849e-9,
                2.061153613941849e-9,
                8.244614455767397e-9,
                8.244614455767397e-9,
            ],
        ))
    }),
    ("gelu', silu', gelu_tanh' at inf", || {
        let slopes = [
            slope(|x| x.gelu(), [INF, -INF])?,
            slope(|x| x.silu(), [INF, -INF])?,
            slope(|x| x.gelu_tanh(), [INF, -INF])?,
        ];
        let values = [
            value(|x| x.gelu(), [-INF])?,
            value(|x| x.silu(), [-INF])?,
            value(|x| x.gelu_tanh(), [-INF])?,
        ];
        let twice = [
            curvature(|x| x.gelu(), [INF])?,
            curvature(|x| x.silu(), [INF])?,
            curvature(|x| x.gelu_tanh(), [-INF])?,
        ];
        Ok(
            slopes.iter().all(|d| d == &[1.0, 0.0])
                && [values, twice].concat().concat() == [0.0; 6],
        )
    }),
    ("hypot' at inf", || {
        let h = curvature(pair(|x, y| x.hypot(y)), [-INF, 1.0])?;
        Ok(slope(pair(|x, y| x.hypot(y)), [-INF, 1.0])? == [-1.0, 0.0] && h == [0.0; 4])
    }),
    ("atan2' at inf", || {
        let h = curvature(pair(|y, x| y.atan2(x)), [INF, -INF])?;
        Ok(slope(pair(|y, x| y.atan2(x)), [INF, 1.0])? == [0.0, 0.0] && h == [0.0; 4])
    }),
    ("atan2' of tiny inputs", || {
        Ok(close(
            &slope(pair(|y, x| y.atan2(x)), [1e-23f32, 1e-23])?,
            &[5e22, -5e22],
        ))
    }),
    ("norm of tiny elements", || {
        let single = |x: f32| {
            Ok::<_, autograd::Error>(
                [value(|x| x.norm(), [x; 4])?, slope(|x| x.norm(), [x; 4])?].concat(),
            )
        };
        Ok(close(&single(1e-25)?, &[2e-25, 0.5, 0.5, 0.5, 0.5])
            && close(&single(1e25)?, &[2e25, 0.5, 0.5, 0.5, 0.5]))
    }),
    ("clamp with low above high", || {
        let g = Graph::new();
        let [x, low, high] = [0.0, 2.0, 1.0].map(|v| g.input(v));
        let d = x.clamp(low, high).backward()?;
        Ok([d.scalar(x)?, d.scalar(low)?, d.scalar(high)?] == [0.0, 0.0, 1.0])
    }),
    ("max of several NaN", || {
        Ok(slope(|x| x.max(), [NAN, 1.0, NAN])? == [0.5, 0.0, 0.5])
    }),
    ("softmax of only -inf", || {
        let x = [-INF, -INF];
        let first =
            value(|x| x.softmax(0), x)? == [0.0, 0.0] && slope(|x| x.softmax(0), x)? == [0.0, 0.0];
        Ok(first && curvature(|x| x.softmax(0), x)? == [0.0; 4])
    }),
    ("log_softmax of only -inf", || {
        Ok(value(|x| x.log_softmax(0), [-INF, -INF])? == [-INF, -INF])
    }),
    ("cross-entropy by a probability 0", || {
        let by = |logit: f64| {
            slope(
                move |p| p.graph().constant([logit, 0.0]).cross_entropy(p),
                [0.0, 1.0],
            )
        };
        let cost = 0.5f64.exp().ln_1p() - 0.5;
        Ok((by(0.5)?[0] - cost).abs() < 1e-15 && by(-INF)?[0] == 0.0)
    }),
    ("label smoothing of a logit -inf", || {
        let x = [-INF, 0.0];
        let d = slope(
            |x| x.cross_entropy_with(x.graph().constant(1), 0.5, None, None),
            x,
        )?;
        Ok(value(
            |x| x.cross_entropy_with(x.graph().constant(1), 0.5, None, None),
            x,
        )? == [INF]
            && d == [-0.25, 0.25])
    }),
    ("an ignored label", || {
        let x = [NAN, 0.0];
        let d = slope(
            |x| x.cross_entropy_with(x.graph().constant(-100), 0.0, None, Some(-100)),
            x,
        )?;
        let value = value(
            |x| x.cross_entropy_with(x.graph().constant(-100), 0.0, None, Some(-100)),
            x,
        )?;
        Ok(value == [0.0] && d == [0.0, 0.0])
    }),
];

#[test]
fn every_line_of_the_table_holds() -> Result<()> {
    let table = include_str!("../docs/conventions.md");
    let lines: Vec<&str> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    assert_eq!(
        lines.len(),
        CASES.len(),
        "the numbers of lines and cases differ"
    );
    for ((name, holds), line) in CASES.iter().zip(lines) {
        assert!(line.starts_with(&format!("| `{name}` |")), "{name}: {line}");
        assert!(holds()?, "{name}");
    }
    Ok(())
}
