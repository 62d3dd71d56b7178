//! Least squares with a sparse Jacobian (Gauss and Newton): a curve of 2,000 points that is close to noisy
//! measurements and smooth. Each residual depends on at most three points, so three directional derivatives
//! give the whole Jacobian.

use crate::{Result, expect};
use autograd::{Var, sparse_jacobian};

const POINTS: usize = 2000;

pub(crate) fn run() -> Result {
    let signal = |k: usize| (k as f64 * 0.01).sin();
    let noise = |k: usize| (k * 7919 % 1000) as f64 / 1000.0 - 0.5;
    let measured: Vec<f64> = (0..POINTS).map(|k| signal(k) + noise(k)).collect();
    let f = sparse_jacobian(|x| residuals_of(x, &measured));
    let mut x = vec![0.0; POINTS];
    let structure = f.structure(&x)?.to_string();
    println!("{}", structure.lines().next().unwrap_or(""));
    for _ in 0..4 {
        let j = f.call::<f64>(&x)?;
        let r = autograd::eval([&autograd::Tensor::from(x.clone())], |[x]| {
            residuals_of(x, &measured)
        })?;
        let r = r.to_f64s();
        // (JᵀJ)·step = Jᵀr by conjugate gradients, without forming the product
        let times = |v: &[f64]| -> Vec<f64> {
            j.outer_iterator()
                .map(|row| row.iter().map(|(c, a)| a * v[c]).sum())
                .collect()
        };
        let transposed = |v: &[f64]| -> Vec<f64> {
            let mut out = vec![0.0; POINTS];
            j.outer_iterator()
                .zip(v)
                .for_each(|(row, v)| row.iter().for_each(|(c, a)| out[c] += a * v));
            out
        };
        let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
        let (mut step, mut rest) = (vec![0.0; POINTS], transposed(&r));
        let mut along = rest.clone();
        for _ in 0..400 {
            let (before, product) = (dot(&rest, &rest), transposed(&times(&along)));
            if before < 1e-20 {
                break;
            }
            let length = before / dot(&along, &product);
            (0..POINTS).for_each(|k| {
                step[k] += length * along[k];
                rest[k] -= length * product[k];
            });
            let next = dot(&rest, &rest) / before;
            (0..POINTS).for_each(|k| along[k] = rest[k] + next * along[k]);
        }
        (0..POINTS).for_each(|k| x[k] -= step[k]);
    }
    let error = |of: &dyn Fn(usize) -> f64| -> f64 {
        ((0..POINTS)
            .map(|k| (of(k) - signal(k)).powi(2))
            .sum::<f64>()
            / POINTS as f64)
            .sqrt()
    };
    let (before, after) = (error(&|k| measured[k]), error(&|k| x[k]));
    println!("distance from the signal: {before:.3} measured, {after:.3} fitted");
    expect(after < 0.25 * before, "the fit is not close")
}

/// How far the curve is from the measurements, with a loss that grows slowly for large differences, and
/// how much it bends.
fn residuals_of<'g>(x: Var<'g>, measured: &[f64]) -> Var<'g> {
    let g = x.graph();
    let far = x - g.constant(measured.to_vec());
    let far = far / (1.0 + far.square()).sqrt();
    let (left, middle, right) = (
        x.slice(0, ..POINTS - 2),
        x.slice(0, 1..POINTS - 1),
        x.slice(0, 2..),
    );
    g.concat(&[far, (left - middle * 2.0 + right) * 300.0], 0)
}
