//! A reaction-diffusion system, solved with an implicit method and a sparse Jacobian:
//! `cargo run --release --features sparse --example reaction_diffusion`.
//!
//! The system is the Brusselator (Prigogine and Lefever 1968) on a grid:
//! `∂u/∂t = D₁·Δu + a - (b + 1)·u + u²v` and `∂v/∂t = D₂·Δv + b·u - u²v`. Each step of the implicit
//! Euler method solves 100,352 equations with as many unknowns by Newton's method. Each equation
//! depends on six unknowns: the five-point stencil of its own substance, and the other substance at
//! the same point. So the Jacobian has 10¹⁰ elements, of which 600,000 are not zero.

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

/// The discrete Laplacian (five-point stencil) with no-flux boundaries. The axes are
/// `[substance, row, column]`.
fn laplacian(x: Var<'_>) -> Var<'_> {
    let g = x.graph();
    let difference = |axis: isize| {
        let step = x.slice(axis, 1..) - x.slice(axis, ..-1);
        let zeros = x.slice(axis, 0..1).zeros_like();
        g.concat(&[step, zeros], axis) - g.concat(&[zeros, step], axis)
    };
    difference(1) + difference(2)
}

/// The residual of an implicit Euler step from `old` to `new`; Newton's method finds its root.
fn residual<'g>(new: Var<'g>, old: &Tensor, side: usize) -> Var<'g> {
    let x = new.reshape([2, side, side]);
    let (u, v) = (x.slice(0, 0..1), x.slice(0, 1..2));
    let (diffusion, uuv) = (laplacian(x), u.square() * v);
    let du = DIFFUSION.0 * diffusion.slice(0, 0..1) + A - (B + 1.0) * u + uuv;
    let dv = DIFFUSION.1 * diffusion.slice(0, 1..2) + B * u - uuv;
    let change = x.graph().concat(&[du, dv], 0).flatten();
    new - new.graph().constant(old) - STEP * change
}

/// The initial state: the uniform equilibrium with a small perturbation.
fn initial_state(side: usize) -> Tensor {
    let perturbation =
        |k: usize| 0.1 * ((k % side) as f64 * 0.21).sin() * ((k / side) as f64 * 0.13).cos();
    let u = (0..side * side).map(|k| A + perturbation(k));
    u.clone()
        .chain(u.map(|u| B / u))
        .collect::<Vec<f64>>()
        .into()
}

fn small() -> Result<(), Error> {
    let (side, old) = (4, initial_state(4));
    let f = sparse_jacobian(|x| residual(x, &old, side));
    println!(
        "a {side} x {side} grid; each letter is a colour: columns of one colour are computed together\n"
    );
    println!("{}", f.structure(initial_state(side))?);
    Ok(())
}

fn dense_against_sparse() -> Result<(), Error> {
    let (side, old) = (24, initial_state(24));
    let x = initial_state(side);
    let (dense, dense_time) = timed(|| jacobian(|x| residual(x, &old, side))(&x))?;
    let f = sparse_jacobian(|x| residual(x, &old, side));
    let (sparse, first) = timed(|| f.call::<f64>(x.clone()))?;
    let (_, again) = timed(|| f.call::<f64>(x.clone()))?;
    let elements = dense.to_f64s();
    let columns = sparse.cols();
    let differences = elements
        .iter()
        .enumerate()
        .map(|(k, d)| (d - sparse.get(k / columns, k % columns).copied().unwrap_or(0.0)).abs());
    println!(
        "{} unknowns: dense {dense_time:.1?}, sparse {first:.1?} in the first call, {again:.1?} in the second",
        2 * side * side
    );
    println!(
        "maximum difference of an element: {:e}\n",
        differences.fold(0.0, f64::max)
    );
    Ok(())
}

/// Bratu's problem in one dimension with `n` unknowns; its Jacobian is tridiagonal.
fn chain(n: usize) -> Result<(), Error> {
    let f = func(|x| {
        let g = x.graph();
        let boundary = g.constant([0.0]);
        let (before, after) = (
            g.concat(&[boundary, x.slice(0, ..-1)], 0),
            g.concat(&[x.slice(0, 1..), boundary], 0),
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
    println!(
        "tridiagonal, {n} unknowns: pattern ({nnz} nonzeros) and colouring ({colors} colours) in {time:.1?}"
    );
    let mut matrix = sparse.call::<f64>(x.clone())?;
    let value = compile(|[x]| [f(x)]);
    let mut best = [Duration::MAX; 2];
    for _ in 0..10 {
        let (_, value_time) = timed(|| value.call([x.clone()]))?;
        let (_, jacobian_time) = timed(|| sparse.update(x.clone(), &mut matrix))?;
        best = [best[0].min(value_time), best[1].min(jacobian_time)];
    }
    let ratio = best[1].as_secs_f64() / best[0].as_secs_f64();
    println!(
        "function {:.1?}, Jacobian {:.1?}: {ratio:.1} times as long\n",
        best[0], best[1]
    );
    Ok(())
}

fn large(side: usize, steps: usize) -> Result<(), Box<dyn std::error::Error>> {
    let old = RefCell::new(initial_state(side));
    let f = sparse_jacobian(|x| residual(x, &old.borrow(), side));
    let mut x = initial_state(side);
    let (structure, time) = timed(|| f.structure(x.clone()))?;
    println!("a {side} x {side} grid, {} unknowns:", x.len());
    println!("{}pattern and colouring in {time:.1?}\n", structure);
    let mut matrix = f.call::<f64>(x.clone())?;
    let value = |x: &Tensor| -> Result<Tensor, Error> {
        let g = Graph::new();
        residual(g.input(x), &old.borrow(), side).value()
    };
    let (_, value_time) = timed(|| value(&x))?;
    let (_, jacobian_time) = timed(|| f.update(x.clone(), &mut matrix))?;
    let ratio = jacobian_time.as_secs_f64() / value_time.as_secs_f64();
    println!("function {value_time:.1?}, Jacobian {jacobian_time:.1?}: {ratio:.1} times as long");
    println!("(each step has another old state, but the same sparsity pattern)\n");
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
    println!("\nafter {steps} steps, u is between {low:.4} and {high:.4}");
    Ok(())
}

/// Solves a sparse linear system by LU decomposition with pivoting.
fn solve(matrix: &CsMat<f64>, right: &[f64]) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let csc = matrix.to_csc();
    let column_pointers = csc
        .indptr()
        .raw_storage()
        .iter()
        .map(|&p| p as isize)
        .collect();
    let (m, n) = matrix.shape();
    let (i, x) = (csc.indices().to_vec(), csc.data().to_vec());
    let system = rsparse::data::Sprs {
        nzmax: x.len(),
        m,
        n,
        p: column_pointers,
        i,
        x,
    };
    let mut solution = right.to_vec();
    rsparse::lusol(&system, &mut solution, 1, 1e-3)
        .map_err(|e| format!("the linear system cannot be solved: {e:?}"))?;
    Ok(solution)
}

fn timed<T, E>(f: impl FnOnce() -> Result<T, E>) -> Result<(T, Duration), E> {
    let start = Instant::now();
    let result = f()?;
    Ok((result, start.elapsed()))
}
