//! A network that solves a differential equation, known as a physics-informed network: `u'' = -π²·sin(πx)`
//! with `u(0) = u(1) = 0`, whose solution is `sin(πx)`. The derivatives of the network by its input are
//! part of the loss, and L-BFGS finds its weights, in f64.

use crate::{Result, expect};
use autograd::{DType, Graph, Tensor};
use nn::{Activation, Lbfgs, Module};
use std::f64::consts::PI;

pub(crate) fn run() -> Result {
    let net = nn::mlp(&[1, 16, 16, 1], Activation::Tanh, 3).cast(DType::F64);
    let points: Vec<f64> = (0..=32).map(|k| k as f64 / 32.0).collect();
    let points = Tensor::new([33, 1], points)?;
    let found = Lbfgs::new()
        .iterations(300)
        .minimize(&net.parameters(), |g| {
            let x = g.input(&points);
            let u = net.forward(x) * x * (1.0 - x); // 0 at both ends, whatever the network says
            // each output depends on its own input only, so these are derivatives point by point
            let [du] = g.grad(u.sum(), &[x]);
            let [ddu] = g.grad(du.sum(), &[x]);
            (ddu + (x * PI).sin() * (PI * PI)).square().mean()
        })?;
    println!("{found}");

    let g = Graph::new();
    let x = g.constant(&points);
    let error = (net.forward(x) * x * (1.0 - x) - (x * PI).sin())
        .abs()
        .max();
    let error = error.value()?.scalar()?;
    println!("largest difference from the solution: {error:.1e}");
    expect(error < 1e-3, format!("the error is {error}"))
}
