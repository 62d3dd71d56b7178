//! Anomaly detection: names the origin of a NaN in the forward and in the backward pass, updates
//! nothing, and reports nothing if there is no anomaly.

use autograd::{Error, Graph, Param, Result, Var};

fn report<T>(result: Result<T>) -> Error {
    result.err().expect("an anomaly")
}

#[test]
fn the_first_bad_value_forward_and_backward() {
    let g = Graph::new();
    let x = g.input([4.0, -1.0, 1.0]);
    let y = g.within("layer", || (x * 2.0).ln());
    let z = (y.tanh() + 1.0).sum();
    let e = report(g.detect_anomaly((z, g.grad(z, &[x]))));
    assert_eq!((e.op(), e.scope()), ("ln", "layer"));
    assert!(
        e.location()
            .is_some_and(|l| l.file().ends_with("anomaly.rs") && l.line() == 14)
    );
    let text = e.to_string();
    let expect = [
        "the first one in the forward pass: %3: f64[3] = ln %2  in layer (layer, ",
        "is 1 of 3 elements not finite, the first is NaN at [1], others 0.6931471805599453 to 2.0794415416798357",
        "from %2: f64[3] = mul %0 %1  in layer: -2 to 8",
        "the first one in the backward pass: %",
        "derivative of tanh %",
    ];
    expect
        .into_iter()
        .for_each(|part| assert!(text.contains(part), "{part}\n{text}"));
}

#[test]
fn an_infinite_derivative_of_a_finite_value() {
    let g = Graph::new();
    let x = g.input([0.0, 1.0]);
    // a common error: the branch that is not selected has an infinite derivative
    let y = x.gt(0.0).select(x.sqrt(), 0.0).sum();
    let [d] = g.grad(y, &[x]);
    let e = report(g.detect_anomaly((y, d)));
    assert_eq!(e.op(), "sqrt");
    assert!(
        e.message()
            .contains("all values of the forward pass before it are finite"),
        "{e}"
    );
    assert!(e.message().contains("derivative of sqrt"), "{e}");
    // the common fix
    let safe = x.gt(0.0).select(x, 1.0);
    let y = x.gt(0.0).select(safe.sqrt(), 0.0).sum();
    assert_eq!(
        g.detect_anomaly(g.grad(y, &[x])).expect("finite")[0].to_f64s(),
        [0.0, 0.5]
    );
}

#[test]
fn an_infinite_intermediate_value_of_a_finite_result_is_no_anomaly() -> Result<()> {
    let g = Graph::new();
    let mask = g.constant([0.0, f64::NEG_INFINITY]);
    let x = g.input([1.0, 2.0]);
    let y = (x + mask).softmax(0).square().sum();
    let (y, _) = g.detect_anomaly((y, g.grad(y, &[x])))?;
    assert_eq!(y.scalar()?, 1.0);
    // and is not reported for a NaN that has another cause
    let bad = ((x - 5.0).ln() + mask).sum();
    assert_eq!(report(g.detect_anomaly(bad)).op(), "ln");
    // but is reported where it causes the NaN
    let e = report(g.detect_anomaly((mask - mask).sum()));
    assert_eq!(e.op(), "constant");
    assert!(
        e.message().contains("from") || e.message().contains("-inf at [1]"),
        "{e}"
    );
    Ok(())
}

#[test]
fn overflow_is_found_where_it_happened() {
    let g = Graph::new();
    let x = g.input([1.0f32, 100.0]);
    let e = x.exp();
    let y = (e / e.sum()).sum(); // ∞/∞
    let e = report(g.detect_anomaly(y));
    assert_eq!(e.op(), "exp");
    assert!(
        e.message()
            .contains("inf at [1], others 2.7182817459106445"),
        "{e}"
    );
}

#[test]
fn nothing_is_updated_even_if_values_were_evaluated_before() -> Result<()> {
    let w = Param::new([0.5, 0.0]);
    let step = |request: bool| {
        let g = Graph::new();
        let v = g.param(&w);
        let loss = v.ln().sum();
        if request {
            let _ = loss.value();
        }
        g.assign(&w, v - 0.1 * g.grad(loss, &[v])[0]);
        let found = report(g.detect_anomaly(loss));
        assert!(report(g.run((loss, g.check_finite(&[loss])))).op() == "check_finite");
        found
    };
    assert_eq!((step(false).op(), step(true).op()), ("ln", "ln"));
    assert_eq!(w.value().to_f64s(), [0.5, 0.0]);
    // a parameter's new value is checked, whatever values are requested
    let g = Graph::new();
    g.assign(&w, (g.param(&w) - 1.0).sqrt());
    assert_eq!(report(g.detect_anomaly(g.constant(1.0))).op(), "sqrt");
    // a step without an anomaly is run
    let g = Graph::new();
    g.assign(&w, g.param(&w) + 1.0);
    g.detect_anomaly(g.param(&w))?;
    assert_eq!(w.value().to_f64s(), [1.5, 1.0]);
    Ok(())
}

#[test]
fn check_finite_prevents_the_step() -> Result<()> {
    let data = |bad: f64| [vec![0.5; 5000], vec![bad], vec![0.25; 300]].concat();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let w = Param::new(vec![1.0; 5301]);
        let g = Graph::new();
        let v = g.param(&w);
        let d = v * g.constant(data(bad));
        g.assign(&w, v - d);
        assert_eq!(report(g.run(g.check_finite(&[d]))).op(), "check_finite");
        assert_eq!(w.value().to_f64s(), vec![1.0; 5301]);
    }
    let g = Graph::new();
    let fine = g.constant(data(f64::MAX));
    assert_eq!(
        g.check_finite(&[fine, g.constant([1, 2]), g.constant(1.0f32)])
            .value()?
            .scalar()?,
        0.0
    );
    assert_eq!(g.check_finite(&[]).value()?.scalar()?, 0.0);
    let broken: Var<'_> = fine.reshape([2, 2]);
    assert_eq!(report(g.check_finite(&[broken]).value()).op(), "reshape");
    Ok(())
}
