//! The lines of the table in `docs/conventions.md`, each with its case.

use autograd::{DType, Graph, Result, Tensor, Var};

type Case = fn() -> Result<bool>;

fn value(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Result<Vec<f64>> {
    let g = Graph::new();
    Ok(f(g.input(x.into())).value()?.to_f64s())
}

fn slope(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Result<Vec<f64>> {
    Ok(autograd::grad(|x| f(x).sum())(x.into())?.to_f64s())
}

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

#[allow(clippy::eq_op)] // the same `Var` twice is what is asked
const CASES: [(&str, Case); 30] = [
    ("relu'(0)", || Ok(slope(|x| x.relu(), [0.0, -0.0])? == [0.0, 0.0])),
    ("abs'(0)", || Ok(slope(|x| x.abs(), [0.0])? == [0.0])),
    ("sign(0), sign'(0)", || Ok(value(|x| x.sign(), [0.0])? == [0.0] && slope(|x| x.sign(), [0.0])? == [0.0])),
    ("leaky_relu'(0)", || Ok(slope(|x| x.leaky_relu(0.1), [0.0])? == [0.1])),
    ("elu'(0)", || Ok(slope(|x| x.elu(0.3), [0.0])? == [0.3])),
    ("sqrt'(0)", || Ok(slope(|x| x.sqrt(), [0.0])? == [INF])),
    ("sqrt(max(x, 0))' below 0", || Ok(slope(|x| x.maximum(0.0).sqrt(), [-1.0])? == [0.0])),
    ("(x^0)', (x^1)', (x^2)' at 0", || {
        let at_0 = |n| slope(move |x| x.powi(n), [0.0]);
        Ok([at_0(0)?, at_0(1)?, at_0(2)?].concat() == [0.0, 1.0, 0.0])
    }),
    ("(0^p)' by p", || Ok(slope(|p| (p * 0.0).pow(p), [2.0])? == [0.0])),
    ("maximum at a tie", || Ok(slope(|x| x.maximum(1.0), [1.0])? == [0.5])),
    ("max over ties", || Ok(slope(|x| x.max(), [1.0, 3.0, 3.0])? == [0.0, 0.5, 0.5])),
    ("max of NaN", || Ok(value(|x| x.max(), [1.0, NAN])?[0].is_nan())),
    ("argmax of NaN", || Ok(value(|x| x.argmax(0), [1.0, NAN, 3.0, NAN])? == [1.0])),
    ("sort of NaN", || Ok(value(|x| x.argsort(0), [NAN, 2.0, 1.0, 2.0])? == [2.0, 1.0, 3.0, 0.0])),
    ("clamp at its bounds", || Ok(slope(|x| x.clamp(0.0, 1.0), [0.0, 1.0])? == [1.0, 1.0])),
    ("round(0.5), round(1.5)", || Ok(value(|x| x.round(), [0.5, 1.5])? == [0.0, 2.0])),
    ("prod' of [0, 2, 3]", || Ok(slope(|x| x.prod(), [0.0, 2.0, 3.0])? == [6.0, 0.0, 0.0])),
    ("norm'(0)", || Ok(slope(|x| x.norm(), [0.0, 0.0])? == [0.0, 0.0])),
    ("std' of equal numbers", || Ok(slope(|x| x.std(0), [2.0, 2.0])? == [0.0, 0.0])),
    ("hypot'(0, 0)", || Ok(slope(|x| x.hypot(0.0), [0.0])? == [0.0])),
    ("atan2'(0, 0)", || Ok(slope(|x| x.atan2(0.0), [0.0])? == [0.0])),
    ("logsumexp of only -inf", || {
        Ok(value(|x| x.logsumexp(0), [-INF, -INF])? == [-INF] && slope(|x| x.logsumexp(0), [-INF, -INF])? == [0.0, 0.0])
    }),
    ("logsumexp of nothing", || Ok(value(|x| x.logsumexp(0), Tensor::zeros([0], DType::F64)?)? == [-INF])),
    ("sigmoid at the ends", || {
        let v = value(|x| x.sigmoid(), [-INF, INF, -100.0])?;
        Ok(v[..2] == [0.0, 1.0] && (v[2] / (-100f64).exp() - 1.0).abs() < 1e-14)
    }),
    ("softplus at the ends", || {
        let v = value(|x| x.softplus(), [-INF, 1e4, -100.0])?;
        Ok(v[..2] == [0.0, 1e4] && (v[2] / (-100f64).exp() - 1.0).abs() < 1e-14)
    }),
    ("cross-entropy of the sure", || {
        let loss = value(|x| x.cross_entropy(x.graph().constant([0])), [[69.0, 0.0]])?[0];
        Ok((loss / (-69f64).exp() - 1.0).abs() < 1e-12)
    }),
    ("0 probability of -inf", || {
        Ok(value(|x| x.cross_entropy(x.graph().constant([[1.0, 0.0]])), [[0.0, -INF]])? == [0.0])
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
    ("mean of nothing", || Ok(value(|x| x.mean(), Tensor::zeros([0], DType::F64)?)?[0].is_nan())),
    ("x - x of inf", || Ok(value(|x| x - x, [INF])?[0].is_nan() && slope(|x| x - x, [INF])? == [0.0])),
];

#[test]
fn every_line_of_the_table_holds() -> Result<()> {
    let table = include_str!("../docs/conventions.md");
    let lines: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(lines.len(), CASES.len(), "as many lines as cases");
    for ((name, holds), line) in CASES.iter().zip(lines) {
        assert!(line.starts_with(&format!("| `{name}` |")), "{name}: {line}");
        assert!(holds()?, "{name}");
    }
    Ok(())
}
