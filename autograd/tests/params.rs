//! Parameters: updates are applied atomically, in place if the data is not shared, and parameter
//! values of two points in time are never mixed.

use autograd::{
    DType, Graph, Op, OpError, Param, Result, Rule, Tensor, TensorView, TensorViewMut, Type, Var,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

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
    let (a, b, c) = (Param::new(1.0), Param::new(2.0), Param::new(0.5));
    // that of its first value
    let g = Graph::new();
    let va = g.param(&a);
    b.set(5.0)?;
    let sum = va + g.param(&b);
    a.set(3.0)?;
    assert_eq!(sum.value()?.scalar()?, 8.0);
    Param::set_all([(&a, 30.0), (&b, 50.0)])?;
    assert_eq!((va * g.param(&b)).value()?.scalar()?, 15.0);
    assert_eq!(g.run((va, g.param(&b)))?.1.scalar()?, 5.0);
    assert_eq!(g.reference(&[va])?[0].scalar()?, 3.0);
    // one that it takes later must not have changed since
    assert_eq!((va + g.param(&c)).value()?.scalar()?, 3.5);
    let d = Param::new(1.0);
    d.set(2.0)?;
    let (late, fine) = (va + g.param(&d), va + g.param(&c));
    for refused in [late.value(), g.run(g.param(&d))] {
        assert!(refused.is_err_and(|e| e.message().contains("changed since")));
    }
    assert_eq!(fine.value()?.scalar()?, 3.5, "which does not need it");
    assert!(
        a.set([1.0]).is_err() && a.set(1f32).is_err(),
        "dtype and shape do not change"
    );

    // updates are of values of the time when the first parameter was bound
    let changes: [fn(&Param, &Param) -> Result<()>; 2] = [|a, _| a.set(10.0), |_, b| b.set(10.0)];
    for change in changes {
        for look in [false, true] {
            let (a, b) = (Param::new(1.0), Param::new(2.0));
            let g = Graph::new();
            g.assign(&a, g.param(&a) + g.param(&b).detach());
            change(&a, &b)?;
            let before = a.value();
            if look {
                let sum = g.param(&a) + g.param(&b);
                assert!(sum.value()?.scalar()? > 10.0, "a look is of its own time");
            }
            let error = g.run(()).expect_err("it was made for another value");
            assert!(error.message().contains("changed since it was bound"));
            assert_eq!(a.value(), before);
        }
    }
    // a parameter that was changed before it is bound, but after the first one
    let (a, b) = (Param::new(1.0), Param::new(2.0));
    let g = Graph::new();
    let va = g.param(&a);
    b.set(5.0)?;
    g.assign(&a, va + g.param(&b));
    assert!(
        g.run(())
            .is_err_and(|e| e.message().contains("changed since"))
    );
    assert_eq!(a.value().scalar()?, 1.0);
    Ok(())
}

#[test]
fn a_look_does_not_keep_an_update_from_its_place() -> Result<()> {
    let w = Param::new([1.0, 2.0, 3.0]);
    let before = address(&w);
    let g = Graph::new();
    let loss = descend(&g, &w, 0.25);
    assert_eq!(loss.value()?.scalar()?, 14.0);
    g.run(loss)?;
    assert_eq!(address(&w), before);
    // while a graph has read it, an update is elsewhere, and the graph keeps what it has
    let reader = Graph::new();
    let read = reader.param(&w);
    assert_eq!(read.value()?.to_f64s(), [0.5, 1.0, 1.5]);
    let g = Graph::new();
    g.run(descend(&g, &w, 0.25))?;
    assert_eq!((read * 2.0).value()?.to_f64s(), [1.0, 2.0, 3.0]);
    assert_eq!(w.value().to_f64s(), [0.25, 0.5, 0.75]);
    Ok(())
}

#[test]
fn several_parameters_are_read_and_set_at_once() -> Result<()> {
    let (a, b) = (Param::new([1.0]), Param::buffer([2i64]));
    let numbers = |values: Vec<Tensor>| values.iter().map(Tensor::to_f64s).collect::<Vec<_>>();
    assert_eq!(numbers(Param::values([&b, &a, &b])), [[2.0], [1.0], [2.0]]);
    let refused = Param::set_all([(&a, Tensor::from([5.0])), (&b, Tensor::from([5.0]))]);
    let error = refused.expect_err("a dtype").to_string();
    assert!(
        error.contains("i64[1] cannot") && error.contains("params.rs"),
        "{error}"
    );
    assert_eq!(
        numbers(Param::values([&a, &b])),
        [[1.0], [2.0]],
        "nothing was set"
    );
    let (first, last) = (Tensor::from([4.0]), Tensor::from([5.0]));
    Param::set_all([(&a, first), (&b, Tensor::from([7i64])), (&a, last)])?;
    assert_eq!(numbers(Param::values([&a, &b])), [[5.0], [7.0]]);
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

/// Each of these reads two parameters, which are equal after each commit, in another way.
#[test]
fn readers_on_other_threads_see_complete_commits() -> Result<()> {
    let zeros = Tensor::zeros([1000], DType::F64)?;
    let (a, b) = (Param::new(&zeros), Param::new(&zeros));
    let compiled = autograd::compile(|[x]| {
        let g = x.graph();
        [(g.param(&a) - g.param(&b)).square().sum() * x]
    });
    let run = || {
        let g = Graph::new();
        let va = g.param(&a);
        std::thread::yield_now(); // an update may come in between
        let vb = g.param(&b);
        let first = (va - vb).square().sum().value()?;
        Ok([first, (va - 2.0 * vb + va).abs().sum().value()?])
    };
    let together = || {
        let values = Param::values([&a, &b]);
        let g = Graph::new();
        let va = g.bind(&a, &values[0]);
        let first = (va - g.bind(&b, &values[1])).square().sum().value()?;
        Ok([first, (g.param(&a) - g.param(&b)).abs().sum().value()?])
    };
    let jacobian = || {
        // its columns and rows are computed in several runs
        let scaled = autograd::jacobian(|x| x * x.graph().param(&a).mean());
        let rows = scaled(&vec![1.0; 40])?.to_f64s();
        let zero: Vec<f64> = (0..40).map(|k| rows[41 * k] - rows[0]).collect();
        let zero = Tensor::from(zero);
        Ok([zero.clone(), zero])
    };
    let call = || compiled.call([2.0]).map(|[d]| [d.clone(), d]);
    let readers: [&(dyn Fn() -> Result<[Tensor; 2]> + Sync); 4] =
        [&run, &together, &jacobian, &call];
    let (done, counts) = (
        AtomicBool::new(false),
        [(); 4].map(|()| AtomicUsize::new(0)),
    );
    let mut updates = 0;
    std::thread::scope(|scope| {
        let threads: Vec<_> = readers
            .into_iter()
            .zip(&counts)
            .map(|(read, count)| {
                let done = &done;
                scope.spawn(move || {
                    while !done.load(Relaxed) {
                        for zero in read().expect("it never fails") {
                            assert!(zero.to_f64s().iter().all(|&d| d == 0.0));
                        }
                        count.fetch_add(1, Relaxed);
                    }
                })
            })
            .collect();
        // until everybody has read a few times
        while counts.iter().any(|count| count.load(Relaxed) < 100)
            && !threads.iter().any(|thread| thread.is_finished())
        {
            let k = updates;
            updates += 1;
            if k % 3 == 0 {
                let next = a.value().to_f64s()[0] + 1.0;
                let next = Tensor::full([1000], next).expect("fits");
                Param::set_all([(&a, &next), (&b, &next)]).expect("fits");
                continue;
            }
            let g = Graph::new();
            g.assign(&a, g.param(&a) + 1.0);
            g.assign(&b, g.param(&b) + 1.0);
            g.run(()).expect("no other update");
        }
        done.store(true, Relaxed);
    });
    assert_eq!(a.value().to_f64s()[999], f64::from(updates));
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
