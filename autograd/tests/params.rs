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
