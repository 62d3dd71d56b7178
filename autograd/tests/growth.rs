//! Costs are linear in the number of nodes, inputs or scopes, not quadratic. They are counted, not
//! timed: nodes, elements that plans write, and bytes, with a counting allocator.

mod counting;

use autograd::{Graph, Var};
use counting::TOTAL;
use std::sync::atomic::Ordering::Relaxed;

fn bytes(f: impl FnOnce()) -> usize {
    let before = TOTAL.load(Relaxed);
    f();
    TOTAL.load(Relaxed) - before
}

/// The cost of a program of some size: nodes, elements that its plan writes, bytes.
type Cost = [usize; 3];

type Build = for<'g> fn(&'g Graph, usize) -> Vec<Var<'g>>;

/// The cost of the graph that `build` makes.
fn cost(n: usize, build: Build) -> Cost {
    let g = Graph::new();
    let mut wanted = Vec::new();
    let bytes = bytes(|| wanted = build(&g, n));
    let plan = g.plan(wanted).expect("there is a plan");
    [
        g.len(),
        plan.kernels().iter().map(|k| k.writes).sum(),
        bytes,
    ]
}

/// Programs with a size parameter.
const PROGRAMS: [(&str, Build); 9] = [
    ("the gradient of concat", |g, n| {
        let x: Vec<Var<'_>> = (0..n).map(|_| g.input([0.5])).collect();
        g.grads(g.concat(&x, 0).sin().sum(), &x)
    }),
    ("the second derivative of concat", |g, n| {
        let x: Vec<Var<'_>> = (0..n).map(|_| g.input([0.5])).collect();
        let d = g.grads(g.concat(&x, 0).sin().sum(), &x);
        g.hvps(g.concat(&d, 0).square().sum(), &x, &x)
    }),
    ("forward mode of stack", |g, n| {
        let x: Vec<Var<'_>> = (0..n).map(|_| g.input(0.5)).collect();
        vec![g.jvp(g.stack(&x, 0).sin(), &x, &x)]
    }),
    ("the gradient of split", |g, n| {
        let x = g.input(vec![0.5; n]);
        let parts = x.split(vec![1; n], 0);
        let y = parts
            .iter()
            .map(|part| part.sin().sum())
            .reduce(|a, b| a + b)
            .expect("some");
        g.grads(y, &[x])
    }),
    ("the gradient of windows", |g, n| {
        let x = g.input(vec![0.5; n + 3]);
        let y = (0..n as isize)
            .map(|k| x.slice(0, k..k + 3).sin().sum())
            .reduce(|a, b| a + b)
            .expect("some");
        g.grads(y, &[x])
    }),
    ("small gradients in a long graph", |g, n| {
        let x = g.input(0.5);
        (0..n)
            .flat_map(|_| g.grads((x.sin() * x).exp(), &[x]))
            .collect()
    }),
    ("small gradients between checkpoints", |g, n| {
        let x = g.input(0.5);
        (0..n)
            .flat_map(|_| g.grads(g.checkpoint(|| x.sin().exp()), &[x]))
            .collect()
    }),
    ("what an optimizer asks for, in a long graph", |g, n| {
        let x = g.input(0.5);
        let _long = (0..5_000).fold(x, |y, _| y.sin());
        (0..n)
            .map(|_| x.sin())
            .inspect(|y| drop(g.trained_params(*y)))
            .collect()
    }),
    ("scopes in scopes", |g, n| {
        let mut guards = Vec::new();
        let mut y = g.input(0.5);
        for k in 0..n {
            guards.push(g.scope(&format!("layer{k}")));
            y = y.sin();
        }
        guards.into_iter().for_each(drop); // the outermost first
        vec![y]
    }),
];

/// One test, so that nothing else allocates at the same time.
#[test]
fn costs_grow_with_the_size() {
    for (what, build) in PROGRAMS {
        let (small, large) = (cost(500, build), cost(4000, build));
        for (what_of_it, (small, large)) in ["nodes", "bytes written", "bytes"]
            .iter()
            .zip(small.into_iter().zip(large))
        {
            // eight times as much, plus some for a list that has just grown
            assert!(
                large <= 12 * small.max(1000),
                "{what_of_it} of {what}: {small}, then {large}"
            );
        }
    }
    let g = Graph::new();
    let guards: Vec<_> = (0..16_000).map(|k| g.scope(&format!("layer{k}"))).collect();
    let used = bytes(|| assert!(g.input(0.5).sin().fail("").error().is_some()));
    assert!(used < 16_000 * 100, "{used} bytes for the path of an error");
    let picture = bytes(|| drop(g.picture().expand("layer0.layer1").to_dot()));
    assert!(picture < 16_000 * 500, "{picture} bytes for a picture");
    drop(guards);
}
