//! Parameters: updates are applied atomically, in place if the data is not shared, and parameter
//! values of two points in time are never mixed.

use autograd::{
    DType, Graph, Op, OpError, Param, Result, Rule, Tensor, TensorView, TensorViewMut, Type, Var,
};

fn address(p: &Param) -> *const f64 {
    p.value()
        .as_slice::<f64>()
        .map_or(std::ptr::null(), <[f64]>::as_ptr)
}

fn descend<'g>(g: &'g Graph, w: &Param, rate: f64) -> Var<'g> {
    let v = g.param(w);
    let loss = v.square().sum();
    let [d] = g.grad(loss, &[v]);
    g.assign(w, v - rate * d);
    loss
}

#[test]
fn updates_are_in_place_if_the_data_is_not_shared() -> Result<()> {
    let w = Param::new([1.0, 2.0, 3.0]);
    let before = address(&w);
    for _ in 0..3 {
        let g = Graph::new();
        g.run(descend(&g, &w, 0.25))?;
    }
    assert_eq!(address(&w), before, "the same buffer");
    assert_eq!(w.value().to_f64s(), [0.125, 0.25, 0.375]);

    let held = w.value();
    let g = Graph::new();
    g.run(descend(&g, &w, 0.25))?;
    assert_eq!(
        held.to_f64s(),
        [0.125, 0.25, 0.375],
        "a clone keeps the old value"
    );
    assert_eq!(w.value().to_f64s(), [0.0625, 0.125, 0.1875]);
    assert_ne!(address(&w), before);

    // requesting the parameter in the same run keeps the old value as well
    let g = Graph::new();
    let loss = descend(&g, &w, 0.25);
    let (_, old) = g.run((loss, g.param(&w)))?;
    assert_eq!(old.to_f64s(), [0.0625, 0.125, 0.1875]);
    assert_eq!(w.value().to_f64s(), [0.03125, 0.0625, 0.09375]);
    Ok(())
}

#[test]
fn requesting_the_new_value_changes_no_bit() -> Result<()> {
    let step = |ask: bool| -> Result<Vec<f64>> {
        let w = Param::new([0.1, 0.7, 1.3]);
        let g = Graph::new();
        let v = g.param(&w);
        let [d] = g.grad(v.sin().sum(), &[v]);
        let new = v - 0.3 * d;
        g.assign(&w, new);
        if ask {
            g.run((new, d)).map(drop)?
        } else {
            g.run(())?
        }
        Ok(w.value().to_f64s())
    };
    assert_eq!(step(false)?, step(true)?);
    Ok(())
}

#[test]
fn updates_see_the_old_values_of_each_other() -> Result<()> {
    let (a, b) = (Param::new([1.0, 2.0]), Param::new([10.0, 20.0]));
    let g = Graph::new();
    let (va, vb) = (g.param(&a), g.param(&b));
    g.assign(&a, va + vb);
    g.assign(&b, vb - va);
    g.run(())?;
    assert_eq!(
        (a.value().to_f64s(), b.value().to_f64s()),
        (vec![11.0, 22.0], vec![9.0, 18.0])
    );
    // a plain swap, without an op
    let g = Graph::new();
    g.assign(&a, g.param(&b));
    g.assign(&b, g.param(&a));
    g.run(())?;
    assert_eq!(
        (a.value().to_f64s(), b.value().to_f64s()),
        (vec![9.0, 18.0], vec![11.0, 22.0])
    );
    // a parameter that is used twice in its own last step
    let g = Graph::new();
    g.assign(&a, g.param(&a) * g.param(&a));
    g.run(())?;
    assert_eq!(a.value().to_f64s(), [81.0, 324.0]);
    Ok(())
}

/// Fails in `eval`, after everything else.
#[derive(Clone, PartialEq, Debug)]
struct Fails {
    panics: bool,
}

impl Op for Fails {
    const NAME: &'static str = "fails";
    fn infer(&self, x: &[Type]) -> Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(&self, _x: &[TensorView<'_>], _out: TensorViewMut<'_>) -> Result<(), OpError> {
        if self.panics {
            panic!("as planned")
        } else {
            Err("as planned".into())
        }
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
}

#[test]
fn a_run_that_fails_changes_nothing() {
    let (a, b) = (Param::new([1.0, 2.0]), Param::new([3.0, 4.0]));
    for late in 0..4 {
        let g = Graph::new();
        let (va, vb) = (g.param(&a), g.param(&b));
        g.assign(&a, va * 2.0);
        let bad = match late {
            0 => vb.apply(Fails { panics: false }),
            1 => vb.apply(Fails { panics: true }),
            2 => vb.take(g.constant([7]), 0).broadcast_to([2]),
            _ => vb + g.constant([1.0, 2.0, 3.0]),
        };
        g.assign(&b, bad);
        let e = g.run(()).expect_err("fails");
        assert!(
            e.location()
                .is_some_and(|l| l.file().ends_with("params.rs")),
            "{e}"
        );
        assert_eq!(
            (a.value().to_f64s(), b.value().to_f64s()),
            (vec![1.0, 2.0], vec![3.0, 4.0]),
            "case {late}"
        );
    }
    // a valid step still works afterwards
    let g = Graph::new();
    g.assign(&a, g.param(&a) * 2.0);
    g.run(()).expect("works");
    assert_eq!(a.value().to_f64s(), [2.0, 4.0]);
}

#[test]
fn one_graph_is_one_step() -> Result<()> {
    let w = Param::new([1.0, 2.0]);
    let g = Graph::new();
    let loss = descend(&g, &w, 0.1);
    let other = g.param(&w).sum();
    loss.value()?; // computing values is allowed before ...
    g.run(loss)?;
    assert_eq!(
        loss.value()?.scalar()?,
        5.0,
        "... and after the update, if the value is cached"
    );
    assert!(
        g.run(loss)
            .is_err_and(|e| e.to_string().contains("carried out already"))
    );
    assert!(
        other
            .value()
            .is_err_and(|e| e.to_string().contains("changed since it was bound"))
    );
    // two updates of one parameter
    let g = Graph::new();
    g.assign(&w, g.param(&w) * 2.0);
    g.assign(&w, g.param(&w) * 3.0);
    let before = w.value();
    assert!(g.run(()).is_err());
    assert_eq!(w.value(), before);
    Ok(())
}

#[test]
fn a_graph_uses_parameters_of_one_point_in_time() -> Result<()> {
    let (a, b) = (Param::new(1.0), Param::new(2.0));
    let g = Graph::new();
    let va = g.param(&a);
    b.set(5.0)?;
    assert!(
        (va + g.param(&b)).value().is_err(),
        "bound after it was changed"
    );
    let g = Graph::new();
    let sum = g.param(&a) + g.param(&b);
    a.set(3.0)?;
    assert!(sum.value().is_err(), "changed after it was bound");
    assert_eq!((Graph::new().param(&a) * 1.0).value()?.scalar()?, 3.0);
    assert!(
        a.set([1.0]).is_err() && a.set(1f32).is_err(),
        "dtype and shape do not change"
    );
    // an update by another graph between building and running
    let g = Graph::new();
    g.assign(&a, g.param(&a) + 1.0);
    a.set(10.0)?;
    assert!(g.run(()).is_err());
    assert_eq!(a.value().scalar()?, 10.0);
    Ok(())
}

#[test]
fn buffers_and_frozen_parameters_get_no_gradient() -> Result<()> {
    let (w, frozen, buffer) = (Param::new([1.0]), Param::new([2.0]), Param::buffer([3.0]));
    frozen.freeze(true);
    let g = Graph::new();
    let y = (g.param(&w) * g.param(&frozen) * g.param(&buffer)).sum();
    let grads = y.backward()?;
    assert_eq!(grads.param(&w).map(Tensor::to_f64s), Some(vec![6.0]));
    assert!(grads.param(&frozen).is_none() && grads.param(&buffer).is_none());
    assert_eq!(g.trained_params(y).len(), 1);
    // when requested explicitly, they have one
    assert_eq!(g.grad(y, &[g.param(&frozen)])[0].value()?.to_f64s(), [3.0]);
    frozen.freeze(false);
    assert!(frozen.is_trained() && !buffer.is_trained());
    Ok(())
}

#[test]
fn readers_on_other_threads_see_complete_commits() -> Result<()> {
    let zeros = Tensor::zeros([1000], DType::F64)?;
    let (a, b) = (Param::new(&zeros), Param::new(&zeros));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let g = Graph::new();
                let difference = (g.param(&a) - g.param(&b)).square().sum();
                // either the values of one commit or an error, never a mixture
                if let Ok(d) = difference.value() {
                    assert_eq!(d.to_f64s(), [0.0]);
                }
            }
        });
        for _ in 0..300 {
            let g = Graph::new();
            g.assign(&a, g.param(&a) + 1.0);
            g.assign(&b, g.param(&b) + 1.0);
            g.run(()).expect("no other update");
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(a.value().to_f64s()[999], 300.0);
    Ok(())
}

/// A value that is bound is what the parameter would be with this value, for all that a graph does.
#[test]
fn a_bound_value_stands_for_the_parameter() -> Result<()> {
    let make = || {
        (
            Param::new([1.0, 2.0]),
            Param::new(0.5),
            Param::buffer([3.0, 4.0]),
        )
    };
    let values = |g: &Graph, p: &(Param, Param, Param)| -> Result<Vec<Tensor>> {
        let all = (g.param(&p.0) * g.param(&p.2)).sin() + g.param(&p.1);
        let loss = all.square().sum();
        let grads = loss.trained_grads();
        let of: Vec<bool> = grads.iter().map(|(param, ..)| param.same(&p.0)).collect();
        assert_eq!(of, [true, false], "both trained parameters, as usual");
        let mut wanted = vec![loss, g.param(&p.0), g.param(&p.2)];
        wanted.extend(grads.iter().map(|(_, _, d)| *d));
        wanted.extend(g.grad(loss, &[g.param(&p.2)]));
        let leaves = loss.backward()?;
        assert_eq!(leaves.param(&p.0), Some(&grads[0].2.value()?));
        g.run(wanted)
    };
    let (here, there) = (make(), make());
    there.0.set([-0.7, 0.3])?;
    there.2.set([0.1, 9.0])?;
    let bound = Graph::new();
    let w = bound.bind(&here.0, [-0.7, 0.3]);
    bound.bind(&here.2, [0.1, 9.0]);
    assert_eq!(bound.param(&here.0).dims(), w.dims::<1>());
    assert_eq!(values(&bound, &here)?, values(&Graph::new(), &there)?);
    assert_eq!(here.0.value().to_f64s(), [1.0, 2.0], "it stays as it is");

    // what changes behind the bound value does not concern the graph
    let g = Graph::new();
    let w = g.bind(&here.0, [5.0, 6.0]);
    g.assign(&here.1, g.param(&here.1) + w.sum());
    here.0.set([7.0, 8.0])?;
    assert_eq!(g.run(w)?.to_f64s(), [5.0, 6.0]);
    assert_eq!(here.1.value().scalar()?, 11.5);
    // nor does what happens to a value that is assigned elsewhere happen to it
    let (g, value) = (Graph::new(), Tensor::from([5.0, 6.0]));
    g.assign(&here.2, g.bind(&here.0, &value));
    g.run(())?;
    let g = Graph::new();
    g.assign(&here.2, g.param(&here.2) * 2.0);
    g.run(())?;
    assert_eq!(value.to_f64s(), [5.0, 6.0]);
    assert_eq!(here.2.value().to_f64s(), [10.0, 12.0]);
    Ok(())
}

#[test]
fn what_cannot_be_bound_is_an_error_with_its_line() {
    let w = Param::new([1.0, 2.0]);
    let refused = |bind: &dyn Fn(&Graph), expected: &str| {
        let g = Graph::new();
        bind(&g);
        for result in [g.run(g.param(&w)), g.param(&w).square().sum().value()] {
            let error = result.expect_err(expected).to_string();
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("params.rs"), "{error}");
        }
    };
    let bind_32 = |g: &Graph| {
        g.bind(&w, [1f32, 2.0]);
    };
    refused(&bind_32, "expected a value of type f64[2], got f32[2]");
    let bind_3 = |g: &Graph| {
        g.bind(&w, [1.0, 2.0, 3.0]);
    };
    refused(&bind_3, "expected a value of type f64[2], got f64[3]");
    let late = |g: &Graph| {
        let _ = g.param(&w);
        g.bind(&w, [1.0, 2.0]);
    };
    refused(&late, "has used this parameter already");
    let twice = |g: &Graph| {
        g.bind(&w, [1.0, 2.0]);
        g.bind(&w, [1.0, 2.0]);
    };
    refused(&twice, "has used this parameter already");

    // values that were built before, too: they have the parameter's own value
    let g = Graph::new();
    let before = g.param(&w) * 2.0;
    g.bind(&w, [1.0, 2.0]);
    assert!(before.value().is_err() && g.run(g.constant(1.0)).is_err());

    let g = Graph::new();
    g.assign(&w, g.bind(&w, [3.0, 4.0]) * 2.0);
    let error = g.run(()).expect_err("bound").to_string();
    assert!(error.contains("cannot be updated here"), "{error}");
    assert_eq!(w.value().to_f64s(), [1.0, 2.0]);
}
