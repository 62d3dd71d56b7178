//! Rounding errors of long sums of products, compared with sums in f64. (Cumulative sums and sums
//! at positions: `scans.rs`.)

mod common;

use autograd::{Graph, Result, Tensor, Var};

/// Pseudorandom values from -1 to 1.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 1u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// The largest error, relative to the given sizes.
fn error(got: &Tensor, exact: &[f64], size: &[f64]) -> f64 {
    let pairs = got.to_f64s().into_iter().zip(exact).zip(size);
    pairs
        .map(|((got, exact), size)| (got - exact).abs() / size)
        .fold(0.0, f64::max)
}

fn row(x: Vec<f32>) -> Tensor {
    Tensor::new([1, x.len()], x).expect("fits")
}

/// The error of an inner product is at most 2e-6 of the sum of the terms' absolute values: alone,
/// as one row of many, and as a column.
#[test]
fn long_f32_products_are_accurate() -> Result<()> {
    for k in [1000, 10_000, 1_000_000, 10_000_000] {
        let tenth = 0.1f32;
        let exact = f64::from(tenth) * f64::from(tenth) * k as f64;
        let g = Graph::new();
        let x = g.constant(row(vec![tenth; k]));
        let error_of =
            |v: Var<'_>| Ok::<f64, autograd::Error>(error(&v.value()?, &[exact], &[exact]));
        assert!(
            error_of(x.matmul(x.t()))? <= bound(k),
            "{k} times 0.1·0.1: {:e}",
            error_of(x.matmul(x.t()))?
        );
        let signs = noise(k);
        let terms = || signs.iter().map(|&x| f64::from(x) * f64::from(tenth));
        let (exact, size) = (terms().sum::<f64>(), terms().map(f64::abs).sum::<f64>());
        let wrong = error(
            &g.constant(row(signs.clone())).matmul(x.t()).value()?,
            &[exact],
            &[size],
        );
        assert!(wrong <= 1e-7, "{k} terms of both signs: {wrong:e}");
    }
    Ok(())
}

/// The guaranteed error bound. The matrixmultiply crate, which is used without fused multiply-adds,
/// has an error that grows with `k`.
fn bound(k: usize) -> f64 {
    if common::exact_products() {
        2e-6
    } else {
        1e-7 * (k as f64).sqrt().max(20.0)
    }
}

/// The gradient of a linear layer's weights sums over the rows of its input.
#[test]
fn the_gradient_of_a_linear_layer_over_a_million_rows() -> Result<()> {
    let (rows, inputs, outputs) = (1_000_000, 3, 2);
    let g = Graph::new();
    let x = g.constant(Tensor::new([rows, inputs], vec![0.1f32; rows * inputs])?);
    let w = g.input(Tensor::new(
        [inputs, outputs],
        vec![0.5f32; inputs * outputs],
    )?);
    let d = g.grad((x.matmul(w) * 0.1f32).sum(), &[w]);
    let exact = f64::from(0.1f32) * f64::from(0.1f32) * rows as f64;
    let wrong = error(&d[0].value()?, &[exact; 6], &[exact; 6]);
    assert!(wrong <= bound(rows), "{wrong:e}");
    Ok(())
}

#[test]
fn every_instruction_set_is_accurate() {
    common::on_every_instruction_set();
}
