//! A sum starts with +0: the sum of zeros is +0 for any signs, lengths and axes, in every kernel as
//! in the definition.

mod common;

use autograd::{DType, Graph, Result, Tensor, Var};

/// Zeros of both signs, only negative zeros, or a few values that cancel.
fn zeros(kind: usize, count: usize) -> Vec<f64> {
    let element = |k: usize| match kind {
        0 => -0.0,
        1 => [-0.0, 0.0, -0.0][k % 3],
        _ => [-0.0, 0.5, -0.5, -0.0][k % 4],
    };
    (0..count).map(element).collect()
}

/// The sums of a value over all axes and each axis, with ops before and after them in the same
/// kernel.
fn sums<'g>(x: Var<'g>) -> Vec<Var<'g>> {
    let rank = x.shape().map_or(0, |s| s.rank()) as isize;
    let mut all = vec![
        x.sum(),
        x.sum().relu(),
        (x * 1.0).sum(),
        (-(-x)).sum() * 2.0,
    ];
    for axis in 0..rank {
        all.extend([
            x.sum_axis(axis),
            (x + x).sum_axis(axis),
            x.sum_axis_keep(axis).abs(),
        ]);
    }
    if rank == 3 {
        all.extend([x.sum_axis([0, 2]), x.sum_axis([1, 2]), x.sum_axis([0, 1])]);
    }
    all.push(x.sum_axis([0isize; 0]));
    all
}

fn check(x: &Tensor) -> Result<()> {
    let g = Graph::new();
    let wanted = sums(g.input(x));
    let expected = g.reference(&wanted)?;
    let bits = |t: &Tensor| {
        t.to_f64s()
            .into_iter()
            .map(f64::to_bits)
            .collect::<Vec<_>>()
    };
    for (k, (got, expected)) in g.run(wanted.clone())?.iter().zip(&expected).enumerate() {
        assert_eq!(
            bits(got),
            bits(expected),
            "sum {k} of {} {:?}",
            x.dtype(),
            x.shape()
        );
    }
    for (k, v) in wanted.iter().enumerate() {
        // once more, each in its own kernel
        let got = v.value()?;
        assert_eq!(
            bits(&got),
            bits(&expected[k]),
            "sum {k} of {} {:?}, alone",
            x.dtype(),
            x.shape()
        );
        assert!(
            !bits(&got).contains(&(-0f64).to_bits()),
            "sum {k} of {} {:?} is -0",
            x.dtype(),
            x.shape()
        );
    }
    Ok(())
}

#[test]
fn no_sum_is_negative_zero() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        for kind in 0..3 {
            let tensor = |shape: &[usize]| {
                Tensor::new(shape, zeros(kind, shape.iter().product()))?.cast(dtype)
            };
            check(&tensor(&[])?)?;
            check(&tensor(&[1])?)?;
            check(&tensor(&[1, 1, 1])?)?;
            for n in [1, 2, 31, 32, 33, 1023, 1024, 1025] {
                for inner in [1, 2, 3, 16, 17, 200] {
                    if n * inner < 10_000 || kind == 0 && dtype == DType::F32 {
                        check(&tensor(&[2, n, inner])?)?;
                    }
                }
                check(&tensor(&[n])?)?;
            }
        }
    }
    Ok(())
}

/// Scalars that come from a product are summed in its kernel.
#[test]
fn the_sum_of_one_product_is_not_negative_zero() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let g = Graph::new();
        let tiny = if dtype == DType::F32 { 1e-30 } else { 1e-200 };
        let (a, b) = (
            Tensor::from([[-tiny]]).cast(dtype)?,
            Tensor::from([[tiny]]).cast(dtype)?,
        );
        let product = g.input(a).matmul(g.input(b)); // -0: a negative product that underflows
        let wanted = [
            product,
            product.sum(),
            product.sum().relu(),
            product.sum_axis(0) * 1.0,
            product.abs().sum(),
        ];
        let expected = g.reference(&wanted)?;
        for (got, expected) in g.run(wanted.to_vec())?.iter().zip(&expected).skip(1) {
            assert_eq!(got.to_f64s()[0].to_bits(), expected.to_f64s()[0].to_bits());
            assert_eq!(got.to_f64s()[0].to_bits(), 0);
        }
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
