//! Implicit differentiation of a fixed point: `cargo run --release --example implicit`.
//!
//! The state `x* = tanh(W·x* + b)` is computed by fixed-point iteration, as in a deep equilibrium
//! model (Bai et al. 2019). Differentiating the iteration (unrolling it) stores all intermediate
//! states. By the implicit function theorem, the derivative needs the final state only: let `v` be
//! the cotangent of `x*`; then the linear system `u = v + Jᵀ·u` gives the cotangent `u` of
//! `tanh(W·x + b)` at the fixed point, from which the cotangents of `W` and `b` follow. This system
//! is also solved by iteration.

use autograd::{Error, Graph, Rule, Tensor, Var};

const SIZE: usize = 40;
const STEPS: usize = 60;

/// The fixed point by iteration. The derivative is that of the unrolled iteration.
fn iterate<'g>(w: Var<'g>, b: Var<'g>) -> Var<'g> {
    (0..STEPS).fold(b.zeros_like(), |x, _| (w.matmul(x) + b).tanh())
}

/// The cotangent of `W·x + b`: the solution `u`, times the derivative of `tanh`.
fn solve<'g>(r: &Rule<'_, 'g>) -> Var<'g> {
    let (w, x) = (r.x[0], r.y);
    let slope = 1.0 - x.square();
    (0..STEPS).fold(slope * r.ct, |u, _| slope * (r.ct + w.t().matmul(u)))
}

/// The fixed point with implicit differentiation.
fn fixed_point<'g>(w: Var<'g>, b: Var<'g>) -> Var<'g> {
    iterate(w, b).custom_vjp(&[w, b], |input, r| {
        let u = solve(r);
        Some(if input == 0 { u.outer(r.y) } else { u })
    })
}

fn pseudo_random(count: usize, scale: f64) -> Vec<f64> {
    (0..count)
        .map(|k| (12.9898 * (k + 1) as f64).sin() * scale)
        .collect()
}

fn main() -> Result<(), Error> {
    let (w, b) = (
        Tensor::new([SIZE, SIZE], pseudo_random(SIZE * SIZE, 0.1))?,
        Tensor::from(pseudo_random(SIZE, 1.0)),
    );
    let gradients = |implicit: bool| {
        let g = Graph::new();
        let (w, b) = (g.input(&w), g.input(&b));
        let x = if implicit {
            fixed_point(w, b)
        } else {
            iterate(w, b)
        };
        let error = (x - (w.matmul(x) + b).tanh()).abs().max();
        let loss = x.square().sum();
        let [dw, db] = g.grad(loss, &[w, b]);
        let stored: usize = g
            .saved_for_backward((loss, dw, db))?
            .iter()
            .map(|value| value.bytes)
            .sum();
        let (loss, error, dw, db) = g.run((loss, error, dw, db))?;
        let name = if implicit { "implicit" } else { "unrolled" };
        println!(
            "{name}: loss {loss}, |x - f(x)| = {:.0e}, stored for the backward pass: {stored} bytes",
            error.scalar()?
        );
        Ok::<_, Error>([dw, db])
    };
    let (unrolled, implicit) = (gradients(false)?, gradients(true)?);
    for (name, a, b) in [
        ("W", &unrolled[0], &implicit[0]),
        ("b", &unrolled[1], &implicit[1]),
    ] {
        let difference = a
            .to_f64s()
            .iter()
            .zip(b.to_f64s())
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max);
        println!("maximum difference of the gradients of {name}: {difference:.0e}");
        assert!(difference < 1e-10, "they agree");
    }
    println!("they agree; implicit differentiation stores the final state only");
    Ok(())
}
