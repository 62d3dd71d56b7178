//! Every op: its value against a published or independent one, its gradient to second order with
//! the checker, with broadcasting, at kinks and infinities, and combined with other ops.

use autograd::{CheckGrads, DType, Graph, Result, Tensor, Var, check_grads};

fn t(v: impl Into<Tensor>) -> Tensor {
    v.into()
}

/// Evaluates a function of one tensor.
fn value(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Vec<f64> {
    let g = Graph::new();
    f(g.input(x.into())).value().unwrap().to_f64s()
}

/// The gradient of the sum of a function of one tensor.
fn grad(f: impl for<'g> Fn(Var<'g>) -> Var<'g>, x: impl Into<Tensor>) -> Vec<f64> {
    autograd::grad(|x| f(x).sum())(&x.into() as &Tensor)
        .unwrap()
        .to_f64s()
}

#[track_caller]
fn close(a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{a:?} {b:?}");
    for (a, b) in a.iter().zip(b) {
        assert!(
            (a - b).abs() <= 1e-14 * b.abs().max(1.0) || (a.is_nan() && b.is_nan()) || a == b,
            "got {a}, expected {b}"
        );
    }
}

type Unary = for<'g> fn(Var<'g>) -> Var<'g>;

/// The smooth unary ops: name, op, value and derivative at 0.7 (from closed forms).
fn unary() -> Vec<(&'static str, Unary, f64, f64)> {
    let x = 0.7f64;
    let s = 1.0 / (1.0 + (-x).exp());
    let gate =
        0.5 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
    let slope = (8.0 / std::f64::consts::PI).sqrt() * (1.0 + 3.0 * 0.044715 * x * x);
    let density = 2.0 / std::f64::consts::PI.sqrt() * (-x * x).exp();
    vec![
        ("neg", |x| -x, -x, -1.0),
        ("abs", |x| x.abs(), x, 1.0),
        ("sign", |x| x.sign(), 1.0, 0.0),
        ("exp", |x| x.exp(), x.exp(), x.exp()),
        ("expm1", |x| x.expm1(), x.exp_m1(), x.exp()),
        ("ln", |x| x.ln(), x.ln(), 1.0 / x),
        ("ln_1p", |x| x.ln_1p(), x.ln_1p(), 1.0 / (1.0 + x)),
        ("sqrt", |x| x.sqrt(), x.sqrt(), 0.5 / x.sqrt()),
        ("square", |x| x.square(), x * x, 2.0 * x),
        ("recip", |x| x.recip(), 1.0 / x, -1.0 / (x * x)),
        ("powi3", |x| x.powi(3), x * x * x, 3.0 * x * x),
        ("powi-2", |x| x.powi(-2), 1.0 / (x * x), -2.0 / (x * x * x)),
        ("sin", |x| x.sin(), x.sin(), x.cos()),
        ("cos", |x| x.cos(), x.cos(), -x.sin()),
        ("tanh", |x| x.tanh(), x.tanh(), 1.0 - x.tanh().powi(2)),
        ("sigmoid", |x| x.sigmoid(), s, s * (1.0 - s)),
        ("relu", |x| x.relu(), x, 1.0),
        ("leaky_relu", |x| x.leaky_relu(0.1), x, 1.0),
        (
            "leaky_relu, below 0",
            |x| (-x).leaky_relu(0.1),
            -0.1 * x,
            -0.1,
        ),
        ("powf", |x| x.powf(1.5), x.powf(1.5), 1.5 * x.sqrt()),
        ("softplus", |x| x.softplus(), 1.103_186_048_885_458, s),
        // erf(0.7), Φ(0.7) and φ(0.7) to 16 digits, by their series
        ("erf", |x| x.erf(), 0.677_801_193_837_418_5, density),
        ("erfc", |x| x.erfc(), 0.322_198_806_162_581_5, -density),
        (
            "gelu",
            |x| x.gelu(),
            x * 0.758_036_347_776_927,
            0.758_036_347_776_927 + x * 0.312_253_933_366_761_27,
        ),
        (
            "rsqrt",
            |x| x.rsqrt(),
            1.0 / x.sqrt(),
            -0.5 / (x * x.sqrt()),
        ),
        (
            "tan",
            |x| (x * 0.4).tan(),
            (0.4 * x).tan(),
            0.4 / (0.4 * x).cos().powi(2),
        ),
        (
            "asin",
            |x| (x * 0.25).asin(),
            (0.25 * x).asin(),
            0.25 / (1.0 - 0.0625 * x * x).sqrt(),
        ),
        (
            "acos",
            |x| (x * 0.25).acos(),
            (0.25 * x).acos(),
            -0.25 / (1.0 - 0.0625 * x * x).sqrt(),
        ),
        ("atan", |x| x.atan(), x.atan(), 1.0 / (1.0 + x * x)),
        ("sinh", |x| x.sinh(), x.sinh(), x.cosh()),
        ("cosh", |x| x.cosh(), x.cosh(), x.sinh()),
        ("silu", |x| x.silu(), x * s, s + x * s * (1.0 - s)),
        ("log_sigmoid", |x| x.log_sigmoid(), s.ln(), 1.0 - s),
        ("elu", |x| x.elu(0.5), x, 1.0),
        (
            "elu, below 0",
            |x| (-x).elu(0.5),
            0.5 * (-x).exp_m1(),
            -0.5 * (-x).exp(),
        ),
        ("floor", |x| x.floor(), 0.0, 0.0),
        ("ceil", |x| x.ceil(), 1.0, 0.0),
        ("round", |x| x.round(), 1.0, 0.0),
        // half of 1 + tanh(u), with u from the formula at 0.7
        (
            "gelu_tanh",
            |x| x.gelu_tanh(),
            x * gate,
            gate + x * gate * (1.0 - gate) * slope,
        ),
        ("rem", |x| x % 0.25, 0.7 % 0.25, 1.0),
        ("hypot", |x| x.hypot(0.5), x.hypot(0.5), x / x.hypot(0.5)),
        (
            "atan2",
            |x| x.atan2(0.5),
            x.atan2(0.5),
            0.5 / (x * x + 0.25),
        ),
        ("clamp", |x| x.clamp(0.0, 1.0), x, 1.0),
        ("clamp, above", |x| x.clamp(0.0, 0.5), 0.5, 0.0),
    ]
}

#[test]
fn unary_values_and_derivatives() {
    for (name, op, v, d) in unary() {
        let (got, slope) = (value(op, 0.7), grad(op, 0.7));
        assert!(
            (got[0] - v).abs() <= 1e-15 * v.abs().max(1.0),
            "{name}: got {got:?}, expected {v}"
        );
        assert!(
            (slope[0] - d).abs() <= 1e-14 * d.abs().max(1.0),
            "{name}': got {slope:?}, expected {d}"
        );
    }
}

#[test]
fn unary_ops_to_second_order_and_in_expressions() -> Result<()> {
    let x = t([[0.31, 0.7], [1.3, 2.2]]);
    for (name, op, ..) in unary() {
        let context = |e: autograd::Error| panic!("{name}: {e}");
        check_grads(|x| op(x[0]), std::slice::from_ref(&x)).unwrap_or_else(context);
        // used twice, in both orders, and as input of another op
        check_grads(
            |x| op(x[0]) * x[0] + x[0] / (1.0 + op(x[0] + 1.0).square()),
            std::slice::from_ref(&x),
        )
        .unwrap_or_else(context);
        check_grads(|x| x[0].sin() - op(x[0]), std::slice::from_ref(&x)).unwrap_or_else(context);
    }
    Ok(())
}

#[test]
fn unary_ops_in_f32_agree_with_f64() {
    for (name, op, ..) in unary() {
        for x in [0.1, 0.5, 1.0, 3.0] {
            let (single, double) = (value(op, x as f32)[0], value(op, x as f32 as f64)[0]);
            assert!(
                (single - double).abs() <= 2e-7 * double.abs().max(1.0),
                "{name} at {x}: {single} {double}"
            );
        }
    }
}

#[test]
fn third_derivatives() -> Result<()> {
    for (name, op, ..) in unary() {
        let g = Graph::new();
        let x = g.input(0.7);
        let d2 = second(op, x);
        fn second<'g>(op: Unary, x: Var<'g>) -> Var<'g> {
            let g = x.graph();
            g.grad(g.grad(op(x), &[x])[0], &[x])[0]
        }
        let third = g.grad(d2, &[x])[0].value()?.scalar()?;
        let h = 1e-4;
        let at = |x: f64| second(op, g.input(x)).value().and_then(|t| t.scalar());
        let numeric = (at(0.7 + h)? - at(0.7 - h)?) / (2.0 * h);
        assert!(
            (third - numeric).abs() < 1e-4 * numeric.abs().max(1.0),
            "{name}''': {third} {numeric}"
        );
    }
    Ok(())
}

#[test]
fn binary_ops_broadcast_and_differentiate() -> Result<()> {
    type Binary = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
    type Plain = fn(f64, f64) -> f64;
    let ops: [(&str, Binary, Plain); 10] = [
        ("add", |a, b| a + b, |a, b| a + b),
        ("sub", |a, b| a - b, |a, b| a - b),
        ("mul", |a, b| a * b, |a, b| a * b),
        ("div", |a, b| a / b, |a, b| a / b),
        ("maximum", |a, b| a.maximum(b), f64::max),
        ("minimum", |a, b| a.minimum(b), f64::min),
        ("atan2", |a, b| a.atan2(b), f64::atan2),
        ("hypot", |a, b| a.hypot(b), f64::hypot),
        ("rem", |a, b| a % b, |a, b| a % b),
        (
            "elu",
            |a, b| a.elu(b),
            |a, b| if a > 0.0 { a } else { b * a.exp_m1() },
        ),
    ];
    let a = t([[0.5, 1.5, -0.7], [2.5, -1.1, 0.9]]);
    let others = [
        t([[1.1, -0.4, 2.0], [0.3, 1.7, -2.2]]),
        t([1.1, -0.4, 2.0]),
        t([[1.1], [-0.4]]),
        t(0.6),
        t([0.6]),
    ];
    for (name, op, f) in ops {
        for b in &others {
            let g = Graph::new();
            let y = op(g.input(&a), g.input(b)).value()?;
            let (a64, b64) = (a.view::<f64>()?, b.view::<f64>()?);
            let b64 = b64.broadcast((2, 3)).expect("broadcasts");
            let expected: Vec<f64> = a64.iter().zip(&b64).map(|(&a, &b)| f(a, b)).collect();
            for (y, expected) in y.to_f64s().into_iter().zip(expected) {
                let error = (y - expected).abs();
                assert!(error <= 4e-16 * expected.abs(), "{name}: {y}, {expected}");
            }
            for pair in [[a.clone(), b.clone()], [b.clone(), a.clone()]] {
                check_grads(|x| op(x[0], x[1]), &pair).unwrap_or_else(|e| panic!("{name}: {e}"));
            }
        }
        // with itself, and in both orders
        let x = t([0.4, 1.2]);
        if !name.ends_with("imum") && name != "rem" {
            check_grads(|x| op(x[0], x[0]), std::slice::from_ref(&x))?;
        }
        if name != "rem" {
            check_grads(
                |x| op(op(x[0], x[1]), x[0]) + op(x[1], x[0].sin()),
                &[x.clone(), t([0.9, -0.3])],
            )?;
        }
    }
    Ok(())
}

#[test]
fn empty_and_zero_dimensional_tensors() -> Result<()> {
    let empty = Tensor::zeros([0, 3], DType::F64)?;
    for (name, op, ..) in unary() {
        assert_eq!(value(op, empty.clone()).len(), 0, "{name}");
        assert_eq!(grad(op, empty.clone()).len(), 0, "{name}");
    }
    let g = Graph::new();
    let (x, row) = (g.input(&empty), g.input([1.0, 2.0, 3.0]));
    let y = (x * row).sum();
    let d = y.backward()?;
    assert_eq!(d.value().scalar()?, 0.0);
    assert_eq!(d.get(row).map(Tensor::to_f64s), Some(vec![0.0; 3]));
    assert_eq!(x.sum_axis(0).value()?.to_f64s(), [0.0; 3]);
    assert!(x.mean().value()?.scalar()?.is_nan());
    assert_eq!(
        x.matmul(g.zeros([3, 2], DType::F64)).value()?.shape(),
        [0, 2]
    );
    assert_eq!(x.t().matmul(x).value()?.to_f64s(), [0.0; 9]);
    assert_eq!(x.softmax(-1).value()?.shape(), [0, 3]);
    assert_eq!(x.slice(0, ..).value()?.shape(), [0, 3]);
    assert!(x.max().value().is_err());
    Ok(())
}

#[test]
fn kinks_and_infinities() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    assert_eq!(
        grad(|x| x.relu(), [0.0, -0.0, -1.0, 1.0]),
        [0.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(grad(|x| x.abs(), [0.0, -2.0, 2.0]), [0.0, -1.0, 1.0]);
    close(&value(|x| x.relu(), [nan, -inf, inf]), &[nan, 0.0, inf]);
    close(&value(|x| x.sign(), [nan, -0.0, -3.0]), &[nan, 0.0, -1.0]);
    assert_eq!(grad(|x| x.powi(0), [0.0, 2.0]), [0.0, 0.0]);
    assert_eq!(grad(|x| x.powi(1), [0.0, 2.0]), [1.0, 1.0]);
    assert_eq!(grad(|x| x.powi(2), [0.0, 2.0]), [0.0, 4.0]);
    assert_eq!(value(|x| x.powi(0), [0.0, nan]), [1.0, 1.0]);
    assert_eq!(value(|x| x.sigmoid(), [-inf, inf, 0.0]), [0.0, 1.0, 0.5]);
    close(&value(|x| x.sigmoid(), [-100.0]), &[(-100f64).exp()]);
    assert_eq!(value(|x| x.tanh(), [-inf, inf]), [-1.0, 1.0]);
    assert_eq!(grad(|x| x.sqrt(), [0.0]), [inf]);
    assert_eq!(value(|x| x.ln(), [0.0]), [-inf]);
    // ties are split evenly; an infinite cotangent does not leak into the other branch
    assert_eq!(grad(|x| x.maximum(1.0), [1.0, 0.0, 2.0]), [0.5, 0.0, 1.0]);
    assert_eq!(grad(|x| x.minimum(1.0), [1.0, 0.0, 2.0]), [0.5, 1.0, 0.0]);
    assert_eq!(grad(|x| x.maximum(0.0).sqrt(), [-1.0, 4.0]), [0.0, 0.25]);
    assert_eq!(grad(|x| x.relu().sqrt(), [-1.0, 4.0]), [0.0, 0.25]);
    assert_eq!(grad(|x| x.abs().sqrt(), [0.0, 4.0]), [0.0, 0.25]);
    assert!(
        value(|x| x.maximum(0.0), [nan])[0].is_nan()
            && value(|x| (0.0 - x).minimum(5.0), [nan])[0].is_nan()
    );
    assert_eq!(
        grad(|x| x.max(), [1.0, 3.0, 3.0, 2.0]),
        [0.0, 0.5, 0.5, 0.0]
    );
    assert!(value(|x| x.max(), [1.0, nan, 3.0])[0].is_nan());
    assert_eq!(value(|x| x.argmax(0), [1.0, nan, 3.0, nan]), [1.0]);
    assert_eq!(value(|x| x.argmax(0), [1.0, 3.0, 3.0]), [1.0]);
}

#[test]
fn select_chooses_and_guards() -> Result<()> {
    let g = Graph::new();
    let x = g.input([-1.0, 4.0]);
    let y = x.gt(0.0).select(x * 2.0, x * 3.0);
    assert_eq!(y.value()?.to_f64s(), [-3.0, 8.0]);
    assert_eq!(
        y.sum().backward()?.get(x).map(Tensor::to_f64s),
        Some(vec![3.0, 2.0])
    );
    // a single where gives NaN, as in other libraries; the double where is right
    let single = |x: Var<'_>| {
        x.gt(0.0)
            .select(x.sqrt(), 0.0)
            .sum()
            .backward()
            .map(|d| d.get(x).map(Tensor::to_f64s))
    };
    let d = single(g.input([0.0, 4.0]))?.unwrap_or_default();
    assert!(d[0].is_nan() && d[1] == 0.25);
    let double = g.input([0.0, 4.0]);
    let safe = double.gt(0.0).select(double, 1.0);
    let y = double.gt(0.0).select(safe.sqrt(), 0.0).sum();
    assert_eq!(
        y.backward()?.get(double).map(Tensor::to_f64s),
        Some(vec![0.0, 0.25])
    );
    check_grads(
        |x| x[0].lt(x[1]).select(x[0].sin(), x[1].exp()),
        &[t([[0.1], [0.9]]), t([0.5, 0.2, 1.4])],
    )
}

#[test]
fn comparisons() -> Result<()> {
    let g = Graph::new();
    let (a, b) = (g.input([1.0, 2.0, f64::NAN]), g.input([1.0, 1.0, f64::NAN]));
    let all = g.run([a.eq(b), a.ne(b), a.lt(b), a.le(b), a.gt(b), a.ge(b)])?;
    let expected = [
        [true, false, false],
        [false, true, true],
        [false; 3],
        [true, false, false],
        [false, true, false],
        [true, true, false],
    ];
    for (got, expected) in all.iter().zip(expected) {
        assert_eq!(got.as_slice::<bool>()?, expected);
    }
    assert_eq!(
        g.constant([3, 5]).ge(4).value()?.as_slice::<bool>()?,
        [false, true]
    );
    Ok(())
}

#[test]
fn reductions() -> Result<()> {
    let x = Tensor::try_from(ndarray::Array::from_shape_fn((2, 3, 4), |(i, j, k)| {
        ((i * 12 + j * 4 + k) as f64 * 0.7).sin()
    }))?;
    let array = x.view::<f64>()?;
    let g = Graph::new();
    let v = g.input(&x);
    use ndarray::Axis;
    close(
        &v.sum_axis(1).value()?.to_f64s(),
        &array.sum_axis(Axis(1)).iter().copied().collect::<Vec<_>>(),
    );
    close(
        &v.sum_axis([0, 2]).value()?.to_f64s(),
        &array
            .sum_axis(Axis(2))
            .sum_axis(Axis(0))
            .iter()
            .copied()
            .collect::<Vec<_>>(),
    );
    close(
        &v.mean_axis(-1).value()?.to_f64s(),
        &array
            .mean_axis(Axis(2))
            .expect("not empty")
            .iter()
            .copied()
            .collect::<Vec<_>>(),
    );
    close(&[v.sum().value()?.scalar()?], &[array.sum()]);
    assert_eq!(v.sum_axis_keep([0, -1]).shape()?[..], [1, 3, 1]);
    assert_eq!(v.max_axis_keep(1).shape()?[..], [2, 1, 4]);
    let max = array.fold(f64::NEG_INFINITY, |m, &x| m.max(x));
    assert_eq!(v.max().value()?.scalar()?, max);
    assert_eq!(
        g.constant([[true, false], [true, true]])
            .sum_axis(0)
            .value()?
            .as_slice::<i64>()?,
        [2, 1]
    );
    for axes in [
        vec![0],
        vec![1],
        vec![2],
        vec![0, 1],
        vec![0, 2],
        vec![1, 2],
        vec![0, 1, 2],
        vec![],
    ] {
        check_grads(|x| x[0].sum_axis(&axes).square(), std::slice::from_ref(&x))?;
        check_grads(|x| x[0].mean_axis(&axes).exp(), std::slice::from_ref(&x))?;
        check_grads(
            |x| x[0].max_axis_keep(&axes) * x[0],
            std::slice::from_ref(&x),
        )?;
    }
    Ok(())
}

#[test]
fn sums_of_integers_in_floats_are_exact() -> Result<()> {
    let g = Graph::new();
    // 10⁸ ones, by rows, by columns and as one line, without 400 MB of ones: 10⁴ × 10⁴
    let ones = g.constant(Tensor::full([10_000, 10_000], 1.0f32)?);
    let (all, rows, columns) =
        g.run((ones.sum(), ones.sum_axis(1).sum(), ones.sum_axis(0).sum()))?;
    assert_eq!(
        (all.scalar()?, rows.scalar()?, columns.scalar()?),
        (1e8, 1e8, 1e8)
    );
    let tenths = g.constant(Tensor::full([10_000_000], 0.1f32)?);
    let sum = tenths.sum().value()?.scalar()?;
    assert!((sum / (1e7 * 0.1f32 as f64) - 1.0).abs() < 1e-6, "{sum}");
    let column = tenths.reshape([-1, 2]).sum_axis(0).value()?.to_f64s();
    assert!(
        (column[0] / (5e6 * 0.1f32 as f64) - 1.0).abs() < 1e-6,
        "{column:?}"
    );
    Ok(())
}

#[test]
fn softmax_family() -> Result<()> {
    let x = t([[0.2, 1.5, -0.3], [2.0, -1.0, 0.4]]);
    let g = Graph::new();
    let v = g.input(&x);
    let rows: Vec<f64> = x
        .to_f64s()
        .chunks(3)
        .flat_map(|r| {
            let sum: f64 = r.iter().map(|x| x.exp()).sum();
            r.iter().map(|x| x.exp() / sum).collect::<Vec<_>>()
        })
        .collect();
    close(&v.softmax(1).value()?.to_f64s(), &rows);
    close(
        &v.log_softmax(-1).value()?.to_f64s(),
        &rows.iter().map(|p| p.ln()).collect::<Vec<_>>(),
    );
    close(&v.t().softmax(0).t().value()?.to_f64s(), &rows);
    for axis in [0, 1, -1] {
        check_grads(|x| x[0].softmax(axis).square(), std::slice::from_ref(&x))?;
        check_grads(|x| x[0].log_softmax(axis).sin(), std::slice::from_ref(&x))?;
    }
    let labels = t([2, 0]);
    close(
        &v.cross_entropy(g.constant(&labels)).value()?.to_f64s(),
        &[-rows[2].ln(), -rows[3].ln()],
    );
    check_grads(|x| x[0].cross_entropy(x[1]), &[x.clone(), labels.clone()])?;
    check_grads(|x| x[0].cross_entropy(x[1]).mean().exp(), &[x, labels])
}

#[test]
fn cross_entropy_is_accurate_at_both_ends() -> Result<()> {
    let g = Graph::new();
    let x = g.input([[800.0, 0.0], [0.0, 100.0]]);
    let loss = x.cross_entropy(g.constant([1, 1]));
    let values = loss.value()?.to_f64s();
    assert_eq!(values[0], 800.0);
    close(&values[1..], &[(-100f64).exp()]); // 3.7e-44, not 0
    assert!(values[1] > 0.0);
    let d = loss
        .sum()
        .backward()?
        .get(x)
        .map(Tensor::to_f64s)
        .unwrap_or_default();
    assert_eq!(d[..2], [1.0, -1.0]);
    assert!(d[3] < 0.0 && d[3] > -1e-43, "{d:?}"); // p - 1 is accurate for p near 1
    Ok(())
}

#[test]
fn matmul_of_all_ranks() -> Result<()> {
    let m = |shape: &[usize], seed: f64| -> Tensor {
        let n = shape.iter().product::<usize>();
        Tensor::new(
            shape,
            (0..n).map(|k| (k as f64 * 1.3 + seed).sin()).collect(),
        )
        .unwrap()
    };
    let cases: [(&[usize], &[usize], &[usize]); 8] = [
        (&[2, 3], &[3, 4], &[2, 4]),
        (&[3], &[3, 4], &[4]),
        (&[2, 3], &[3], &[2]),
        (&[3], &[3], &[]),
        (&[5, 2, 3], &[5, 3, 2], &[5, 2, 2]),
        (&[5, 2, 3], &[3, 2], &[5, 2, 2]),
        (&[2, 1, 2, 3], &[3, 3, 2], &[2, 3, 2, 2]),
        (&[4, 2, 3], &[3], &[4, 2]),
    ];
    for (a, b, out) in cases {
        let (a, b) = (m(a, 0.1), m(b, 0.7));
        let g = Graph::new();
        let y = g.input(&a).matmul(g.input(&b));
        assert_eq!(y.value()?.shape(), out);
        close(&y.value()?.to_f64s(), &g.reference(&[y])?[0].to_f64s());
        check_grads(|x| x[0].matmul(x[1]), &[a.clone(), b.clone()])?;
        check_grads(|x| x[0].matmul(x[1]).sin().sum() * x[1].sum(), &[a, b])?;
    }
    let (a, b) = (m(&[3, 3], 0.2), m(&[3, 3], 0.9));
    let g = Graph::new();
    let y = g.input(&a).matmul(g.input(&b)).value()?;
    let (a2, b2) = (
        a.view::<f64>()?.into_dimensionality::<ndarray::Ix2>(),
        b.view::<f64>()?.into_dimensionality::<ndarray::Ix2>(),
    );
    close(
        &y.to_f64s(),
        a2.expect("2-d")
            .dot(&b2.expect("2-d"))
            .as_slice()
            .expect("contiguous"),
    );
    check_grads(|x| x[0].matmul(x[0]).matmul(x[0].t()), &[a])
}

#[test]
fn layout() -> Result<()> {
    let x = Tensor::try_from(ndarray::Array::from_shape_fn((2, 3, 4), |(i, j, k)| {
        (i * 100 + j * 10 + k) as f64
    }))?;
    let g = Graph::new();
    let v = g.input(&x);
    let array = x.view::<f64>()?;
    let same = |v: Var<'_>, a: ndarray::ArrayViewD<'_, f64>| {
        let t = v.value().unwrap();
        assert_eq!(t.view::<f64>().unwrap(), a);
    };
    same(
        v.permute([2, 0, 1]),
        array.clone().permuted_axes(vec![2, 0, 1]),
    );
    same(
        v.transpose(0, -1),
        array.clone().permuted_axes(vec![2, 1, 0]),
    );
    same(v.t(), array.clone().permuted_axes(vec![0, 2, 1]));
    same(
        v.slice(1, 1..),
        array.slice(ndarray::s![.., 1.., ..]).into_dyn(),
    );
    same(
        v.slice_step(2, .., -1),
        array.slice(ndarray::s![.., .., ..;-1]).into_dyn(),
    );
    same(
        v.slice_step(2, 1..4, 2),
        array.slice(ndarray::s![.., .., 1..4;2]).into_dyn(),
    );
    same(
        v.slice_step(-1, -3.., -2),
        array.slice(ndarray::s![.., .., -3..;-2]).into_dyn(),
    );
    assert_eq!(v.slice(0, 5..9).shape()?[..], [0, 3, 4]);
    assert_eq!(v.slice(2, -100..=-1).shape()?[..], [2, 3, 4]);
    assert_eq!(v.reshape([-1, 6]).shape()?[..], [4, 6]);
    let row = g.input([1.0, 2.0]);
    same(
        row.broadcast_to([3, 2]),
        ndarray::array![[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
            .view()
            .into_dyn(),
    );
    let small = t([[0.3, 1.1, -0.4], [0.8, 0.2, 1.9]]);
    let one = std::slice::from_ref(&small);
    check_grads(|x| x[0].t().sin(), one)?;
    check_grads(|x| x[0].reshape([3, 2]).square() * x[0].t(), one)?;
    check_grads(|x| x[0].reshape([3, 1, 2]).permute([1, 2, 0]).exp(), one)?;
    check_grads(|x| x[0].slice(1, 1..).square(), one)?;
    check_grads(
        |x| x[0].slice_step(1, .., -2).square() + x[0].slice(1, ..2),
        one,
    )?;
    check_grads(|x| x[0].broadcast_to([4, 2, 3]).sin(), one)?;
    check_grads(|x| x[0].slice(0, ..1).broadcast_to([4, 2, 3]) * x[0], one)
}

#[test]
fn indexing() -> Result<()> {
    let x = t([[0.1, 0.2, 0.3], [1.1, 1.2, 1.3]]);
    let g = Graph::new();
    let v = g.input(&x);
    assert_eq!(
        v.take(g.constant([[1, 0], [-1, 1]]), 1).value()?.to_f64s(),
        [0.2, 0.1, 0.3, 0.2, 1.2, 1.1, 1.3, 1.2]
    );
    assert_eq!(
        v.gather(1, g.constant([[2], [0]])).value()?.to_f64s(),
        [0.3, 1.1]
    );
    assert_eq!(
        v.gather(0, g.constant([[1, 0, 1]])).value()?.to_f64s(),
        [1.1, 0.2, 1.3]
    );
    let sum = v.scatter_add(
        1,
        g.constant([[0, 0], [2, 1]]),
        g.input([[10.0, 20.0], [30.0, 40.0]]),
    );
    assert_eq!(sum.value()?.to_f64s(), [30.1, 0.2, 0.3, 1.1, 41.2, 31.3]);
    assert_eq!(
        g.constant([1, 0]).one_hot(3, DType::F32).value()?.to_f64s(),
        [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]
    );
    check_grads(|x| x[0].take(x[1], 1).square(), &[x.clone(), t([2, 0, 2])])?;
    check_grads(
        |x| x[0].take(x[1], 0).exp(),
        &[x.clone(), t([[1, 1], [0, -1]])],
    )?;
    check_grads(
        |x| x[0].gather(1, x[1]).sin(),
        &[x.clone(), t([[0, 0], [2, 1]])],
    )?;
    check_grads(
        |x| x[0].scatter_add(1, x[1], x[2]).square(),
        &[x, t([[0, 0], [2, 1]]), t([[0.5, 0.6], [0.7, 0.8]])],
    )
}

#[test]
fn casts_and_integers() -> Result<()> {
    let g = Graph::new();
    assert_eq!(
        g.input([1.9, -1.9])
            .cast(DType::I64)
            .value()?
            .as_slice::<i64>()?,
        [1, -1]
    );
    assert_eq!(
        g.constant([0, 2])
            .cast(DType::Bool)
            .value()?
            .as_slice::<bool>()?,
        [false, true]
    );
    assert_eq!(
        g.constant([true, false])
            .cast(DType::F32)
            .value()?
            .as_slice::<f32>()?,
        [1.0, 0.0]
    );
    assert_eq!(
        (g.constant([3, 4]) * 2 - 1).value()?.as_slice::<i64>()?,
        [5, 7]
    );
    let x = g.input([0.5, 1.5]);
    let d = x.cast(DType::F32).square().sum().backward()?;
    assert_eq!(
        d.get(x).map(|d| (d.dtype(), d.to_f64s())),
        Some((DType::F64, vec![1.0, 3.0]))
    );
    let y = x.detach() * x;
    assert_eq!(
        y.sum().backward()?.get(x).map(Tensor::to_f64s),
        Some(vec![0.5, 1.5])
    );
    assert!((g.constant([i64::MAX]) + 1).value().is_err());
    assert!(g.input([f64::NAN]).cast(DType::I64).value().is_err());
    assert!(g.constant([i64::MAX, 1]).sum().value().is_err());
    Ok(())
}

#[test]
fn random_numbers_are_portable() -> Result<()> {
    let draw = |seed| Graph::training(seed).bernoulli(0.3, [4, 250]).value();
    let (a, b, other) = (draw(5)?, draw(5)?, draw(6)?);
    assert_eq!(a, b);
    assert_ne!(a, other);
    let hits = a.to_f64s().iter().sum::<f64>();
    assert!((230.0..370.0).contains(&hits), "{hits}");
    let g = Graph::training(5);
    let (first, second) = (g.bernoulli(0.5, [64]), g.bernoulli(0.5, [64]));
    assert_ne!(first.value()?, second.value()?);
    assert_eq!(first.value()?, first.value()?);
    assert!(g.bernoulli(1.5, [2]).value().is_err());
    assert_eq!(g.bernoulli(1.0, [99]).sum().value()?.scalar()?, 99.0);
    assert_eq!(g.bernoulli(0.0, [99]).sum().value()?.scalar()?, 0.0);
    Ok(())
}

#[test]
fn pow_of_two_tensors() -> Result<()> {
    check_grads(
        |x| x[0].pow(x[1]),
        &[t([[0.5], [2.0]]), t([1.5, -0.7, 2.0])],
    )?;
    check_grads(|x| x[0].pow(x[0]).sin(), &[t([0.5, 1.7])])?;
    let g = Graph::new();
    let (x, p) = (
        g.input([0.0, 0.0, 0.0, 2.0, -2.0]),
        g.input([0.0, 1.0, 2.0, 0.0, 3.0]),
    );
    let y = x.pow(p);
    assert_eq!(y.value()?.to_f64s(), [1.0, 0.0, 0.0, 1.0, -8.0]);
    let d = y.sum().backward()?;
    assert_eq!(
        d.get(x).map(Tensor::to_f64s),
        Some(vec![0.0, 1.0, 0.0, 0.0, 12.0])
    );
    let dp = d.get(p).map(Tensor::to_f64s).unwrap_or_default();
    assert_eq!(dp[..4], [0.0, 0.0, 0.0, 2f64.ln()]);
    assert!(
        dp[4].is_nan(),
        "no derivative by the exponent for a negative base"
    );
    assert_eq!(grad(|x| x.powf(2.0), [0.0]), [0.0]);
    // the second derivative of x² at 0
    let x = g.input(0.0);
    let [d] = g.grad(x.powf(2.0), &[x]);
    assert_eq!(g.grad(d, &[x])[0].value()?.scalar()?, 2.0);
    Ok(())
}

#[test]
fn more_kinks_and_infinities() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    assert_eq!(
        value(|x| x.softplus(), [1000.0, -1000.0, 0.0]),
        [1000.0, 0.0, 2f64.ln()]
    );
    close(&value(|x| x.softplus(), [-100.0]), &[(-100f64).exp()]);
    assert!(value(|x| x.softplus(), [-700.0])[0] > 0.0);
    close(
        &value(|x| x.clamp(-1.0, 1.0), [nan, -inf, inf, 0.5]),
        &[nan, -1.0, 1.0, 0.5],
    );
    assert_eq!(
        grad(|x| x.clamp(-1.0, 1.0), [-1.0, 1.0, -1.5, 1.5, 0.0]),
        [1.0, 1.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(
        grad(|x| x.leaky_relu(0.1), [0.0, -1.0, 1.0]),
        [0.1, 0.1, 1.0]
    );
    assert_eq!(grad(|x| x.min(), [3.0, 1.0, 1.0]), [0.0, 0.5, 0.5]);
    assert!(value(|x| x.min(), [1.0, nan])[0].is_nan());
    assert_eq!(value(|x| x.logsumexp(0), [-inf, -inf]), [-inf]);
    assert_eq!(grad(|x| x.logsumexp(0), [-inf, -inf]), [0.0, 0.0]);
    assert_eq!(value(|x| x.logsumexp(0), [inf, 1.0]), [inf]);
    assert!(value(|x| x.logsumexp(0), [inf, nan])[0].is_nan());
    close(
        &value(|x| x.logsumexp(0), [1000.0, 1000.0]),
        &[1000.0 + 2f64.ln()],
    );
    let tiny = value(|x| x.logsumexp(0), [0.0, -100.0])[0];
    assert!((tiny * 100f64.exp() - 1.0).abs() < 1e-15, "{tiny:e}");
    // far below 0 the Gaussian unit keeps its digits: x·Φ(x) at -10 is -10·7.62e-24
    close(
        &value(|x| x.gelu() * 1e23, [-10.0]),
        &[-7.619_853_024_160_526],
    );
    // the bounds of a clamp have gradients of their own; if low > high, the result is `high`
    let g = Graph::new();
    let (x, low, high) = (g.input([-2.0, 0.0, 3.0]), g.input(-1.0), g.input(1.0));
    let d = x.clamp(low, high).sum().backward().unwrap();
    assert_eq!(
        (d.scalar(low).unwrap(), d.scalar(high).unwrap()),
        (1.0, 1.0)
    );
    let d = x.clamp(high, low).sum().backward().unwrap();
    assert_eq!(
        (d.scalar(low).unwrap(), d.scalar(high).unwrap()),
        (3.0, 0.0)
    );
}

#[test]
fn variance_minimum_and_logsumexp() -> Result<()> {
    let x = t([[0.3, 1.7, -0.4], [2.1, 0.2, 0.9]]);
    let g = Graph::new();
    let v = g.input(&x);
    let array = x.view::<f64>()?;
    let expected: Vec<f64> = array
        .var_axis(ndarray::Axis(1), 1.0)
        .iter()
        .copied()
        .collect();
    close(&v.var_axis(1, 1).value()?.to_f64s(), &expected);
    close(&[v.var(0).value()?.scalar()?], &[array.var(0.0)]);
    assert_eq!(v.var_axis_keep(0, 0).shape()?[..], [1, 3]);
    assert!(
        v.slice(0, ..1)
            .var_axis(0, 1)
            .value()?
            .to_f64s()
            .iter()
            .all(|v| v.is_nan())
    );
    assert_eq!(v.min().value()?.scalar()?, -0.4);
    assert_eq!(v.min_axis(0).value()?.to_f64s(), [0.3, 0.2, -0.4]);
    let sums: Vec<f64> = array
        .map_axis(ndarray::Axis(0), |c| c.mapv(f64::exp).sum().ln())
        .iter()
        .copied()
        .collect();
    close(&v.logsumexp(0).value()?.to_f64s(), &sums);
    let one = std::slice::from_ref(&x);
    check_grads(|x| x[0].var_axis(0, 0).sin(), one)?;
    check_grads(|x| x[0].var(1) * x[0], one)?;
    check_grads(|x| x[0].min_axis(1).exp(), one)?;
    check_grads(|x| x[0].logsumexp(0).sin(), one)?;
    check_grads(|x| x[0].logsumexp(-1) * x[0].max_axis(1), one)?;
    check_grads(
        |x| x[0].clamp(x[1], x[2]).square(),
        &[x.clone(), t([[-0.1], [0.5]]), t([1.0, 2.0, 1.5])],
    )?;
    check_grads(|x| x[0].leaky_relu(x[1]), &[x, t(0.2)])
}

#[test]
fn joining_and_reshaping() -> Result<()> {
    let g = Graph::new();
    let (a, b) = (g.input([[1.0, 2.0], [3.0, 4.0]]), g.input([[5.0], [6.0]]));
    assert_eq!(
        g.concat(&[a, b, a], 1).value()?.to_f64s(),
        [1.0, 2.0, 5.0, 1.0, 2.0, 3.0, 4.0, 6.0, 3.0, 4.0]
    );
    assert_eq!(
        g.concat(&[a, b.t()], 0).value()?.to_f64s(),
        [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    );
    assert_eq!(g.stack(&[a, a * 10.0], 0).shape()?[..], [2, 2, 2]);
    assert_eq!(
        g.stack(&[a, a * 10.0], -1).value()?.to_f64s(),
        [1.0, 10.0, 2.0, 20.0, 3.0, 30.0, 4.0, 40.0]
    );
    assert_eq!(
        g.concat(&[g.constant([1, 2]), g.constant([3])], 0)
            .value()?
            .as_slice::<i64>()?,
        [1, 2, 3]
    );
    let big = g.zeros([2, 3, 4], DType::F64);
    assert_eq!(big.flatten().shape()?[..], [24]);
    assert_eq!(big.flatten_from(1).shape()?[..], [2, 12]);
    assert_eq!(big.unsqueeze(-1).shape()?[..], [2, 3, 4, 1]);
    assert_eq!(big.unsqueeze(0).squeeze(0).shape()?[..], [2, 3, 4]);
    assert_eq!(a.sum().unsqueeze(0).shape()?[..], [1]);
    let (x, y) = (g.input([1.0, 2.0]), g.input([3.0, 4.0, 5.0]));
    assert_eq!(
        x.outer(y).value()?.to_f64s(),
        [3.0, 4.0, 5.0, 6.0, 8.0, 10.0]
    );
    assert_eq!(y.dot(y).value()?.scalar()?, 50.0);
    assert_eq!(
        g.eye(3, DType::F32).value()?.to_f64s(),
        [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
    );
    assert_eq!(
        g.arange(1.0, -1.0, -0.5).value()?.to_f64s(),
        [1.0, 0.5, 0.0, -0.5]
    );
    assert_eq!(g.arange(0.0, -1.0, 1.0).value()?.len(), 0);
    assert_eq!(b.full_like(2).value()?.to_f64s(), [2.0, 2.0]);
    assert_eq!(
        (b.zeros_like() + b.ones_like()).value()?.to_f64s(),
        [1.0, 1.0]
    );
    assert_eq!(g.constant([true]).ones_like().dtype()?, DType::Bool);
    let (a, b) = (t([[0.3, 1.1], [0.7, -0.2]]), t([[0.5], [0.9]]));
    check_grads(
        |x| x[0].graph().concat(x, 1).square(),
        &[a.clone(), b.clone()],
    )?;
    check_grads(
        |x| x[0].graph().concat(&[x[0], x[1], x[0]], 1).sin(),
        &[a.clone(), b],
    )?;
    check_grads(
        |x| x[0].graph().stack(&[x[0], x[0].square()], 1).exp(),
        &[a],
    )?;
    check_grads(
        |x| x[0].outer(x[1]).sin().sum() * x[0].dot(x[0]),
        &[t([0.3, 0.8]), t([1.2, 0.1, 0.4])],
    )?;
    check_grads(
        |x| x[0].unsqueeze(1).squeeze(1).flatten().square(),
        &[t([0.3, 0.8])],
    )
}

#[test]
fn distributions() -> Result<()> {
    let g = Graph::training(11);
    let count = 40_000;
    for dtype in [DType::F32, DType::F64] {
        let u = g.uniform([count], dtype).value()?.to_f64s();
        assert!(u.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = u.iter().sum::<f64>() / count as f64;
        assert!((mean - 0.5).abs() < 0.01, "{mean}");
        let n = g.normal([count], dtype).value()?.to_f64s();
        let moment = |k: i32| n.iter().map(|x| x.powi(k)).sum::<f64>() / count as f64;
        let moments = [moment(1), moment(2), moment(3), moment(4)];
        let expected = [0.0, 1.0, 0.0, 3.0];
        assert!(
            moments
                .iter()
                .zip(expected)
                .all(|(m, e)| (m - e).abs() < 0.15),
            "{moments:?}"
        );
    }
    // portable: the same values on every machine
    let fixed = Graph::with_seed(1).normal([2], DType::F64).value()?;
    assert_eq!(fixed.to_f64s(), [0.19371224257022124, -0.4255155335141314]);
    assert!(g.uniform([2], DType::I64).value().is_err());
    Ok(())
}

#[test]
fn third_order_of_everything_else() -> Result<()> {
    let (x, y) = (t([[0.31, 1.7], [-0.6, 0.9]]), t([[0.8, -0.4], [0.2, 1.3]]));
    let (index, labels) = (t([[1, 0], [0, 0]]), t([1, 0]));
    let third = |f: for<'g> fn(&[Var<'g>]) -> Var<'g>, inputs: &[&Tensor]| {
        let inputs: Vec<Tensor> = inputs.iter().map(|&t| t.clone()).collect();
        CheckGrads::new().order(3).tolerance(1e-6).run(f, &inputs)
    };
    third(|x| x[0].matmul(x[1]).square(), &[&x, &y])?;
    third(|x| (x[0] / (x[1] + 2.0)).sin(), &[&x, &y])?;
    third(
        |x| x[0].maximum(x[1]).powi(3) + x[0].minimum(x[1]).exp(),
        &[&x, &y],
    )?;
    third(|x| x[0].softmax(-1).square(), &[&x])?;
    third(|x| x[0].log_softmax(0) * x[0], &[&x])?;
    third(|x| x[0].cross_entropy(x[1]).square(), &[&x, &labels])?;
    third(|x| x[0].max_axis(1).powi(3), &[&x])?;
    third(|x| x[0].sum_axis(0).exp() * x[0].mean(), &[&x])?;
    third(|x| x[0].gather(1, x[1]).powi(3), &[&x, &index])?;
    third(
        |x| x[0].scatter_add(1, x[1], x[2]).powi(3),
        &[&x, &index, &y],
    )?;
    third(|x| x[0].take(x[1], 0).sin(), &[&x, &labels])?;
    third(
        |x| {
            x[0].t()
                .slice_step(1, .., -1)
                .broadcast_to([2, 2, 2])
                .powi(3)
        },
        &[&x],
    )?;
    third(|x| x[0].gt(0.5).select(x[0].exp(), x[0].sin()), &[&x])
}

/// The other ops, which select, join or compare elements: values by hand, gradients with the
/// checker.
#[test]
fn the_rest_of_the_operations() -> Result<()> {
    let x = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    assert_eq!(
        value(|x| x.std(1), [1.0, 2.0, 3.0, 4.0])[0],
        (5.0f64 / 3.0).sqrt()
    );
    assert_eq!(value(|x| x.std_axis(0, 0), x), [1.5; 3]);
    assert_eq!(
        value(|x| x.norm_axis(1), [[3.0, 4.0], [0.0, 0.0]]),
        [5.0, 0.0]
    );
    assert_eq!(value(|x| x.prod(), x), [720.0]);
    assert_eq!(value(|x| x.prod_axis(1), x), [6.0, 120.0]);
    assert_eq!(
        value(|x| x.prod_axis(0), Tensor::zeros([0, 2], DType::F64)?),
        [1.0, 1.0]
    );
    assert_eq!(
        value(|x| x.argmin(1), [[2.0, 1.0, 1.0], [f64::NAN, 0.0, 1.0]]),
        [1.0, 0.0]
    );
    assert_eq!(value(|x| x.cumsum(1), x), [1.0, 3.0, 6.0, 4.0, 9.0, 15.0]);
    assert_eq!(value(|x| x.flip([0, 1]), x), [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]);
    assert_eq!(
        value(|x| x.repeat(2, 1), [[1.0, 2.0]]),
        [1.0, 1.0, 2.0, 2.0]
    );
    assert_eq!(value(|x| x.tile(2, 1), [[1.0, 2.0]]), [1.0, 2.0, 1.0, 2.0]);
    assert_eq!(
        value(|x| x.pad(1, 1, 0, 9.0), [[1.0], [2.0]]),
        [9.0, 1.0, 9.0, 2.0]
    );
    assert_eq!(value(|x| x.split([1, 2], 1)[1], x), [2.0, 3.0, 5.0, 6.0]);
    assert_eq!(value(|x| x.diagonal(), x), [1.0, 5.0]);
    assert_eq!(value(|x| x.trace(), x), [6.0]);
    assert_eq!(value(|x| x.tril(0), x), [1.0, 0.0, 0.0, 4.0, 5.0, 0.0]);
    assert_eq!(value(|x| x.triu(1), x), [0.0, 2.0, 3.0, 0.0, 0.0, 6.0]);
    assert_eq!(
        value(|x| x.argsort(0), [2.0, f64::NAN, 1.0, 2.0]),
        [2.0, 0.0, 3.0, 1.0]
    );
    assert_eq!(value(|x| x.sort(1), [[3.0, 1.0, 2.0]]), [1.0, 2.0, 3.0]);
    assert_eq!(value(|x| x.topk(2, 0).0, [3.0, 1.0, 4.0]), [4.0, 3.0]);
    assert_eq!(value(|x| x.round(), [0.5, 1.5, -2.5]), [0.0, 2.0, -2.0]);
    assert_eq!(value(|x| x % 3.0, [5.0, -5.0]), [2.0, -2.0]);
    assert_eq!(
        value(
            |x| x.is_nan() | !x.is_finite(),
            [1.0, f64::NAN, f64::INFINITY]
        ),
        [0.0, 1.0, 1.0]
    );
    assert_eq!(value(|x| x.gt(0.0).all(), [1.0, -1.0]), [0.0]);
    assert_eq!(
        value(|x| x.gt(0.0).any_axis(1), [[1.0, -1.0], [-1.0, -2.0]]),
        [1.0, 0.0]
    );
    let smooth: [(&str, Unary); 15] = [
        ("std", |x| x.std(1)),
        ("norm", |x| x.norm()),
        ("norm_axis", |x| x.norm_axis(0)),
        ("prod", |x| x.prod()),
        ("prod_axis", |x| x.prod_axis(1)),
        ("cumsum", |x| x.cumsum(1)),
        ("flip", |x| x.flip(0) * x),
        ("repeat", |x| x.repeat(3, 0).square()),
        ("pad", |x| x.pad(0, 1, 2, 0.5).square()),
        ("split", |x| x.split([1, 2], 1)[1] * x.slice(1, 0..1)),
        ("trace", |x| x.square().trace()),
        ("tril", |x| x.tril(0).exp() + x.triu(1)),
        ("sort", |x| x.sort(1).cumsum(1).square()),
        ("topk", |x| x.topk(2, 1).0.square()),
        ("einsum", |x| x.graph().einsum("ij,kj->ik", &[x, x.sin()])),
    ];
    let x = t([[0.4, -1.2, 2.1], [1.7, 0.3, -0.6]]);
    for (name, op) in smooth {
        check_grads(|x| op(x[0]), std::slice::from_ref(&x))
            .unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    // at the kinks: 0, not NaN
    assert_eq!(grad(|x| x.norm(), [0.0, 0.0]), [0.0, 0.0]);
    assert_eq!(grad(|x| x.std(0), [2.0, 2.0]), [0.0, 0.0]);
    assert_eq!(grad(|x| x.hypot(x), [0.0]), [0.0]);
    assert_eq!(grad(|x| x.atan2(x), [0.0]), [0.0]);
    assert_eq!(grad(|x| x.prod(), [0.0, 2.0, 0.0]), [0.0, 0.0, 0.0]);
    let h = autograd::hessian(|x| x.prod())(&[0.0, 2.0, 3.0])?.to_f64s();
    assert_eq!(h, [0.0, 3.0, 2.0, 3.0, 0.0, 0.0, 2.0, 0.0, 0.0]);
    Ok(())
}

#[test]
fn einsum_of_all_kinds() -> Result<()> {
    let g = Graph::new();
    let numbers = |shape: &[usize], seed: f64| {
        let count: usize = shape.iter().product();
        g.input(
            Tensor::new(
                shape,
                (0..count)
                    .map(|k| (seed + 1.3 * k as f64).sin())
                    .collect::<Vec<f64>>(),
            )
            .expect("fits"),
        )
    };
    let (a, b) = (numbers(&[2, 3, 4], 0.1), numbers(&[4, 2, 5], 0.2));
    // with plain loops, one letter after the other
    let by_hand =
        |out: &dyn Fn(usize, usize, usize, usize) -> usize, size: usize| -> Result<Vec<f64>> {
            let (a, b, mut sums) = (a.value()?.to_f64s(), b.value()?.to_f64s(), vec![0.0; size]);
            for e in 0..2 * 3 * 4 * 5 {
                let (i, j, k, l) = (e / 60, e / 20 % 3, e / 5 % 4, e % 5);
                sums[out(i, j, k, l)] += a[i * 12 + j * 4 + k] * b[k * 10 + i * 5 + l];
            }
            Ok(sums)
        };
    close(
        &g.einsum("ijk,kil->ijl", &[a, b]).value()?.to_f64s(),
        &by_hand(&|i, j, _, l| i * 15 + j * 5 + l, 30)?,
    );
    close(
        &g.einsum("ijk,kil->lj", &[a, b]).value()?.to_f64s(),
        &by_hand(&|_, j, _, l| l * 3 + j, 15)?,
    );
    close(
        &g.einsum("ijk, kil -> ", &[a, b]).value()?.to_f64s(),
        &by_hand(&|_, _, _, _| 0, 1)?,
    );
    close(
        &g.einsum("ijk,kil->kl", &[a, b]).value()?.to_f64s(),
        &by_hand(&|_, _, k, l| k * 5 + l, 20)?,
    );
    close(
        &g.einsum("ijk->kj", &[a]).value()?.to_f64s(),
        &a.sum_axis(0).t().value()?.to_f64s(),
    );
    for (letters, operands) in [
        ("ij,jk", vec![a, b]),
        ("ijk,kil->z", vec![a, b]),
        ("ij,kil->l", vec![a, b]),
        ("iij->i", vec![a]),
        ("ijk,ikl->l", vec![a, b]),
        ("ijk->i", vec![a, b]),
    ] {
        assert!(g.einsum(letters, &operands).value().is_err(), "{letters}");
    }
    Ok(())
}

/// Compared with their formulas, written out.
#[test]
fn cross_entropy_with_probabilities_weights_and_smoothing() -> Result<()> {
    let logits = t([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]]);
    let p = t([[0.2, 0.3, 0.5], [0.0, 1.0, 0.0]]);
    check_grads(
        |x| x[0].cross_entropy(x[1]),
        &[logits.clone(), t([[0.2, 0.3, 0.5], [0.1, 0.6, 0.3]])],
    )?;
    let g = Graph::new();
    let (x, labels, weights) = (
        g.input(&logits),
        g.constant([2, 0]),
        g.constant([1.0, 2.0, 0.5]),
    );
    let log_p = x.log_softmax(-1).value()?.to_f64s();
    let by_hand =
        |q: &[f64]| [0, 1].map(|i| -(0..3).map(|c| q[3 * i + c] * log_p[3 * i + c]).sum::<f64>());
    close(
        &x.cross_entropy(g.constant(&p)).value()?.to_f64s(),
        &by_hand(&p.to_f64s()),
    );
    let e = 0.3;
    let smooth: Vec<f64> = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
        .iter()
        .map(|v| v * (1.0 - e) + e / 3.0)
        .collect();
    close(
        &x.cross_entropy_with(labels, e, None, None)
            .value()?
            .to_f64s(),
        &by_hand(&smooth),
    );
    let weighted: Vec<f64> = smooth
        .iter()
        .zip([1.0, 2.0, 0.5].iter().cycle())
        .map(|(a, b)| a * b)
        .collect();
    close(
        &x.cross_entropy_with(labels, e, Some(weights), None)
            .value()?
            .to_f64s(),
        &by_hand(&weighted),
    );
    close(
        &x.cross_entropy_with(labels, 0.0, None, None)
            .value()?
            .to_f64s(),
        &x.cross_entropy(labels).value()?.to_f64s(),
    );
    assert!(
        x.cross_entropy_with(labels, 1.5, None, None)
            .value()
            .is_err()
    );
    for weights in [None, Some(weights)] {
        let wrong = x
            .cross_entropy_with(g.constant([2, -1]), e, weights, None)
            .value();
        assert!(wrong.is_err_and(|e| e.message().contains("label -1")));
    }
    assert!(x.cross_entropy(g.constant([0.5, 0.5])).value().is_err());
    // a logit of -∞ adds nothing where its probability is 0
    let sure = g
        .input([[0.0, f64::NEG_INFINITY]])
        .cross_entropy(g.constant([[1.0, 0.0]]));
    assert_eq!(sure.value()?.to_f64s(), [0.0]);
    Ok(())
}
