//! Newton's method with exact Hessians, on Rosenbrock's function in five dimensions, and Newton's method
//! without a Hessian: conjugate gradients with Hessian-vector products.

use crate::{Result, expect};
use autograd::{func, hessian, hvp, value_and_grad};

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Solves `A·x = b` for a product with a positive definite `A`.
fn conjugate_gradients(
    product: impl Fn(&[f64]) -> Result<Vec<f64>>,
    b: &[f64],
) -> Result<Vec<f64>> {
    let (mut x, mut r, mut p) = (vec![0.0; b.len()], b.to_vec(), b.to_vec());
    for _ in 0..2 * b.len() {
        let (ap, rr) = (product(&p)?, dot(&r, &r));
        if rr < 1e-24 {
            break;
        }
        let step = rr / dot(&p, &ap);
        (0..b.len()).for_each(|k| {
            x[k] += step * p[k];
            r[k] -= step * ap[k];
        });
        let next = dot(&r, &r) / rr;
        (0..b.len()).for_each(|k| p[k] = r[k] + next * p[k]);
    }
    Ok(x)
}

pub(crate) fn run() -> Result {
    let f = func(|x| {
        let (a, b) = (x.slice(0, ..-1), x.slice(0, 1..));
        ((b - a.square()).square() * 100.0 + (1.0 - a).square()).sum()
    });
    let (both, h, hv) = (value_and_grad(f), hessian(f), hvp(f));
    let start = vec![1.2, 1.3, 1.5, 2.0, 4.0];

    // with the Hessian as a matrix, and with products only: the same steps
    for by_products in [false, true] {
        let (mut x, mut steps) = (start.clone(), 0);
        loop {
            let (value, d) = both(&x)?;
            let d = d.to_f64s();
            if dot(&d, &d).sqrt() < 1e-10 || steps == 100 {
                println!("{steps} steps, f = {:.1e}, x = {x:.6?}", value.scalar()?);
                break;
            }
            let matrix = h(&x)?.to_f64s();
            let direction = conjugate_gradients(
                |v| match by_products {
                    true => Ok(hv(&x, &v.to_vec())?.to_f64s()),
                    false => Ok(matrix.chunks(v.len()).map(|row| dot(row, v)).collect()),
                },
                &d,
            )?;
            // half as far until the value falls
            let mut scale = 1.0;
            let next = loop {
                let next: Vec<f64> = x
                    .iter()
                    .zip(&direction)
                    .map(|(x, s)| x - scale * s)
                    .collect();
                if both(&next)?.0.scalar()? <= value.scalar()? || scale < 1e-6 {
                    break next;
                }
                scale /= 2.0;
            };
            (x, steps) = (next, steps + 1);
        }
        expect(
            x.iter().all(|x| (x - 1.0).abs() < 1e-8),
            format!("it ended at {x:?}"),
        )?;
    }
    Ok(())
}
