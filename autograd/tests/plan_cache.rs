//! When plans are made and when they are found in the cache. One test, because the plan counter is
//! shared by all tests of a process.

mod common;

use autograd::{Graph, Result};
use common::numbers;

#[test]
fn plans_are_made_once() -> Result<()> {
    requesting_existing_values_makes_no_plan()?;
    the_displayed_plan_is_the_one_that_runs()?;
    bound_values_are_inputs_of_the_plan()?;
    the_cache_is_bounded()
}

/// Values that exist already need no plan: leaves, parameters, and cached values.
fn requesting_existing_values_makes_no_plan() -> Result<()> {
    let w = autograd::Param::new([1.0, 2.0]);
    let g = Graph::new();
    let (x, v) = (g.input([3.0, 4.0]), g.param(&w));
    let mut y = x * v;
    assert_eq!(y.value()?.to_f64s(), [3.0, 8.0]);
    let before = autograd::plans_made();
    for k in 0..50 {
        y += k as f64;
        let (x, v, c) = g.run((x, v, g.constant(k as f64)))?;
        assert_eq!(
            (x.to_f64s(), v.to_f64s(), c.scalar()?),
            (vec![3.0, 4.0], vec![1.0, 2.0], k as f64)
        );
    }
    assert_eq!(autograd::plans_made(), before);
    w.set([5.0, 6.0])?;
    assert!(
        v.value()
            .is_err_and(|e| e.message().contains("changed since it was bound"))
    );
    Ok(())
}

/// The displayed plan is the one that runs: one cache entry, with or without dead nodes or cached
/// values.
fn bound_values_are_inputs_of_the_plan() -> Result<()> {
    let w = autograd::Param::new([1.0, 2.0]);
    let value_at = |at: Option<[f64; 2]>| {
        let g = Graph::new();
        at.map(|at| g.bind(&w, at));
        let loss = g.param(&w).exp().sum();
        let [d] = g.grad(loss, &[g.param(&w)]);
        Ok::<_, autograd::Error>(g.run((loss, d))?.0.scalar()?)
    };
    let own = value_at(None)?;
    let before = autograd::plans_made();
    assert_eq!(value_at(Some([1.0, 2.0]))?, own);
    assert_eq!(value_at(Some([0.0, 0.0]))?, 2.0);
    assert_eq!(
        autograd::plans_made(),
        before,
        "that of the parameter itself"
    );
    Ok(())
}

fn the_displayed_plan_is_the_one_that_runs() -> Result<()> {
    let write = |g: &Graph, dead: bool, request: bool| -> Result<()> {
        let x = g.input(numbers(&[137], 0.3));
        if dead {
            let _ = x.exp() + 1.0;
        }
        let y = x.sin() * x;
        if request {
            y.value()?;
        }
        let loss = (y * y - 0.25).sum();
        let _gradient = g.grads(loss, &[x]); // not requested
        let kernels = g.plan(loss)?.kernels().len();
        let before = autograd::plans_made();
        let (_, profile) = g.profile(loss)?;
        assert_eq!(
            autograd::plans_made(),
            before,
            "dead: {dead}, request: {request}"
        );
        assert_eq!(profile.kernels.len(), kernels);
        Ok(())
    };
    for (dead, request) in [(false, false), (true, false), (false, true), (true, true)] {
        write(&Graph::new(), dead, request)?;
    }
    Ok(())
}

/// Many programs of different structures do not fill the memory, and the latest ones stay cached.
fn the_cache_is_bounded() -> Result<()> {
    const MOST_BYTES: usize = 128 << 20;
    let run = |length: usize| {
        let g = Graph::new();
        let x = g.input(0.5);
        (0..length).fold(x, |y, _| y * x + x).value()
    };
    let bytes = || autograd::cached_bytes()[1];
    let mut full = 0;
    for length in 0..1000 {
        run(length)?;
        assert!(bytes() <= MOST_BYTES);
        full = full.max(bytes());
    }
    // long after the first ones were dropped, the size of the cache depends only on the latest ones
    for length in 0..1000 {
        run(length)?;
    }
    assert!(bytes() <= full, "{} bytes, then {}", full, bytes());
    // a plan that is too large is not cached, and does not displace the others
    let before = autograd::plans_made();
    run(1_000_000)?;
    run(999)?;
    assert_eq!(
        (autograd::plans_made() - before, bytes() <= full),
        (1, true)
    );
    Ok(())
}
