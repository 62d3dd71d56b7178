//! A reaction and diffusion of two substances, solved implicitly with a sparse Jacobian:
//! `cargo run --release --features sparse --example reaction_diffusion`.
//!
//! The Brusselator (Prigogine and Lefever 1968) on a grid: `∂u/∂t = D₁·Δu + a - (b + 1)·u + u²v`, `∂v/∂t = D₂·Δv + b·u - u²v`.
//! A step of Euler's implicit method asks for the root of 100,352 equations with as many unknowns, each of which meets five
//! neighbours and its partner. Newton's method needs their Jacobian: 10¹⁰ elements, of which 600,000 are not zero.

use autograd::{Error, Graph, Tensor, Var, compile, func, jacobian, sparse_jacobian};
use sprs::CsMat;
use std::{
    cell::RefCell,
    time::{Duration, Instant},
};

const STEP: f64 = 0.05;
const DIFFUSION: (f64, f64) = (0.4, 1.2);
const A: f64 = 1.0;
const B: f64 = 2.5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    small()?;
    dense_against_sparse()?;
    chain(1_000_000)?;
    large(224, 2)
}

/// The sum of the differences to the four neighbours; nothing flows through the edges. `[substance, row, column]`.
fn laplacian(x: Var<'_>) -> Var<'_> {
    let g = x.graph();
    let difference = |axis: isize| {
        let step = x.slice(axis, 1..) - x.slice(axis, ..-1);
        let nothing = x.slice(axis, 0..1).zeros_like();
        g.concat(&[step, nothing], axis) - g.concat(&[nothing, step], axis)
    };
    difference(1) + difference(2)
}

/// What is to become zero: the difference between the new state and what the step makes of the old one.
fn residual<'g>(new: Var<'g>, old: &Tensor, side: usize) -> Var<'g> {
    let x = new.reshape([2, side, side]);
    let (u, v) = (x.slice(0, 0..1), x.slice(0, 1..2));
    let (flow, uuv) = (laplacian(x), u.square() * v);
    let du = DIFFUSION.0 * flow.slice(0, 0..1) + A - (B + 1.0) * u + uuv;
    let dv = DIFFUSION.1 * flow.slice(0, 1..2) + B * u - uuv;
    let change = x.graph().concat(&[du, dv], 0).flatten();
    new - new.graph().constant(old) - STEP * change
}

/// Near the uniform state, with a ripple.
fn start(side: usize) -> Tensor {
    let ripple =
        |k: usize| 0.1 * ((k % side) as f64 * 0.21).sin() * ((k / side) as f64 * 0.13).cos();
    let u = (0..side * side).map(|k| A + ripple(k));
    u.clone()
        .chain(u.map(|u| B / u))
        .collect::<Vec<f64>>()
        .into()
}

fn small() -> Result<(), Error> {
    let (side, old) = (4, start(4));
    let f = sparse_jacobian(|x| residual(x, &old, side));
    println!(
        "a grid of {side} by {side}: each letter is a colour, whose columns are computed together\n"
    );
    println!("{}", f.structure(start(side))?);
    Ok(())
}

fn dense_against_sparse() -> Result<(), Error> {
    let (side, old) = (24, start(24));
    let x = start(side);
    let (dense, dense_time) = timed(|| jacobian(|x| residual(x, &old, side))(x.clone()))?;
    let f = sparse_jacobian(|x| residual(x, &old, side));
    let (sparse, first) = timed(|| f.call::<f64>(x.clone()))?;
    let (_, again) = timed(|| f.call::<f64>(x.clone()))?;
    let elements = dense.to_f64s();
    let columns = sparse.cols();
    let off = elements
        .iter()
        .enumerate()
        .map(|(k, d)| (d - sparse.get(k / columns, k % columns).copied().unwrap_or(0.0)).abs());
    println!(
        "{} unknowns: dense {dense_time:.1?}, sparse {first:.1?} the first time and {again:.1?} again",
        2 * side * side
    );
    println!(
        "largest difference of an element: {:e}\n",
        off.fold(0.0, f64::max)
    );
    Ok(())
}

/// One dimension, a million unknowns: Bratu's problem, whose Jacobian is tridiagonal.
fn chain(n: usize) -> Result<(), Error> {
    let f = func(|x| {
        let g = x.graph();
        let edge = g.constant([0.0]);
        let (before, after) = (
            g.concat(&[edge, x.slice(0, ..-1)], 0),
            g.concat(&[x.slice(0, 1..), edge], 0),
        );
        before - 2.0 * x + after + 1e-6 * x.exp()
    });
    let x = Tensor::from(
        (0..n)
            .map(|k| (k as f64 * 1e-5).sin())
            .collect::<Vec<f64>>(),
    );
    let sparse = sparse_jacobian(f);
    let (structure, time) = timed(|| sparse.structure(x.clone()))?;
    let (nnz, colors) = (structure.pattern.nnz(), structure.coloring.count);
    println!("tridiagonal, {n} unknowns: {nnz} places and {colors} colours found in {time:.1?}");
    let mut matrix = sparse.call::<f64>(x.clone())?;
    let value = compile(|[x]| [f(x)]);
    let mut best = [Duration::MAX; 2];
    for _ in 0..10 {
        let (_, cost) = timed(|| value.call([x.clone()]))?;
        let (_, evaluation) = timed(|| sparse.update(x.clone(), &mut matrix))?;
        best = [best[0].min(cost), best[1].min(evaluation)];
    }
    let times = best[1].as_secs_f64() / best[0].as_secs_f64();
    println!(
        "the function {:.1?}, its Jacobian {:.1?}: {times:.1} times as long\n",
        best[0], best[1]
    );
    Ok(())
}

fn large(side: usize, steps: usize) -> Result<(), Box<dyn std::error::Error>> {
    let old = RefCell::new(start(side));
    let f = sparse_jacobian(|x| residual(x, &old.borrow(), side));
    let mut x = start(side);
    let (structure, time) = timed(|| f.structure(x.clone()))?;
    println!("a grid of {side} by {side}, {} unknowns:", x.len());
    println!("{}pattern and colouring in {time:.1?}\n", structure);
    let mut matrix = f.call::<f64>(x.clone())?;
    let value = |x: &Tensor| -> Result<Tensor, Error> {
        let g = Graph::new();
        residual(g.input(x), &old.borrow(), side).value()
    };
    let (_, cost) = timed(|| value(&x))?;
    let (_, evaluation) = timed(|| f.update(x.clone(), &mut matrix))?;
    let times = evaluation.as_secs_f64() / cost.as_secs_f64();
    println!("the function {cost:.1?}, its Jacobian {evaluation:.1?}: {times:.1} times as long");
    println!("(the constants of a step, its old state, change: the structure stays)\n");
    for step in 1..=steps {
        *old.borrow_mut() = x.clone();
        println!("step {step}");
        for iteration in 0.. {
            let r = value(&x)?.to_f64s();
            let norm = r.iter().map(|r| r * r).sum::<f64>().sqrt();
            println!("  |residual| = {norm:.3e}");
            if norm < 1e-10 {
                break;
            }
            if iteration == 10 {
                return Err("Newton's method did not converge".into());
            }
            f.update(x.clone(), &mut matrix)?;
            let change = solve(&matrix, &r)?;
            let next = x
                .to_f64s()
                .iter()
                .zip(change)
                .map(|(x, c)| x - c)
                .collect::<Vec<_>>();
            x = next.into();
        }
    }
    let u = &x.to_f64s()[..side * side];
    let (low, high) = u
        .iter()
        .fold((f64::MAX, f64::MIN), |(l, h), &u| (l.min(u), h.max(u)));
    println!("\nafter {steps} steps, u lies between {low:.4} and {high:.4}");
    Ok(())
}

/// The solution of a linear system, by a sparse LU decomposition with pivots.
fn solve(matrix: &CsMat<f64>, right: &[f64]) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let by_columns = matrix.to_csc();
    let starts = by_columns
        .indptr()
        .raw_storage()
        .iter()
        .map(|&p| p as isize)
        .collect();
    let (m, n) = matrix.shape();
    let (i, x) = (by_columns.indices().to_vec(), by_columns.data().to_vec());
    let system = rsparse::data::Sprs {
        nzmax: x.len(),
        m,
        n,
        p: starts,
        i,
        x,
    };
    let mut solution = right.to_vec();
    rsparse::lusol(&system, &mut solution, 1, 1e-3)
        .map_err(|e| format!("the linear system was not solved: {e:?}"))?;
    Ok(solution)
}

fn timed<T, E>(f: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let start = Instant::now();
    let result = f()?;
    Ok((result, start.elapsed()))
}
