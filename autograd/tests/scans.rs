//! Rounding errors of sums that are added in sequence: cumulative sums and sums at positions,
//! compared with sums in twice the digits of f64.

use autograd::{DType, Graph, Result, Tensor};

/// Many times 0.1, and pseudorandom values of both signs.
fn long() -> [Vec<f32>; 2] {
    [
        vec![0.1; 10_000_000],
        (0..1_000_000).map(|k| (k as f32 * 1.7).sin()).collect(),
    ]
}

/// The largest error, relative to the given sizes.
fn error(got: &Tensor, exact: &[f64], size: &[f64]) -> f64 {
    let pairs = got.to_f64s().into_iter().zip(exact).zip(size);
    pairs
        .map(|((got, exact), size)| (got - exact).abs() / size)
        .fold(0.0, f64::max)
}

/// `Σ x` up to each element, in twice the digits of f64.
fn running(x: impl Iterator<Item = f64>) -> Vec<f64> {
    let (mut sum, mut rest) = (0.0f64, 0.0);
    let mut next = |x: f64| {
        let new = sum + x;
        rest += if sum.abs() >= x.abs() {
            (sum - new) + x
        } else {
            (x - new) + sum
        };
        sum = new;
        sum + rest
    };
    x.map(&mut next).collect()
}

/// The error of each cumulative sum is a rounding or two of its value and of the absolute sum, in
/// both directions (the gradient is summed from the other end) and in both dtypes.
#[test]
fn cumulative_sums_are_accurate() -> Result<()> {
    for (dtype, bound) in [(DType::F32, 2e-7), (DType::F64, 1e-15)] {
        for x in long() {
            let size = running(x.iter().map(|x| f64::from(x.abs())));
            let exact = running(x.iter().map(|&x| x.into()));
            let g = Graph::new();
            let v = g.input(Tensor::new([x.len()], x.clone())?.cast(dtype)?);
            let wrong = error(&v.cumsum(0).value()?, &exact, &size);
            assert!(wrong <= bound, "{dtype}: {wrong:e}");
            // the gradient of Σ cumsum(v)·x is the cumulative sum of x from the other end
            let backwards = g.grads((v.cumsum(0) * v.detach()).sum(), &[v])[0].flip(0);
            let exact = running(x.iter().rev().map(|&x| x.into()));
            let size = running(x.iter().rev().map(|x| f64::from(x.abs())));
            let wrong = error(&backwards.value()?, &exact, &size);
            assert!(wrong <= bound, "{dtype}, backwards: {wrong:e}");
        }
    }
    Ok(())
}

#[test]
fn sums_at_few_positions_are_accurate() -> Result<()> {
    for (dtype, bound) in [(DType::F32, 2e-7), (DType::F64, 1e-15)] {
        for x in long() {
            let places = (0..x.len() as i64).map(|k| k % 3).collect::<Vec<_>>();
            let of = |place: usize| x.iter().skip(place).step_by(3).map(|&x| f64::from(x));
            let exact = [0, 1, 2].map(|place| *running(of(place)).last().unwrap_or(&0.0));
            let size =
                [0, 1, 2].map(|place| *running(of(place).map(f64::abs)).last().unwrap_or(&0.0));
            let g = Graph::new();
            let (v, places) = (
                g.constant(Tensor::new([x.len()], x)?.cast(dtype)?),
                g.constant(places),
            );
            let table = g.input(Tensor::from([0.0, 0.0, 0.0]).cast(dtype)?);
            let scattered = table.scatter_add(0, places, v);
            let gradient = g.grads((table.take(places, 0) * v).sum(), &[table])[0];
            for value in [scattered, gradient] {
                let wrong = error(&value.value()?, &exact, &size);
                assert!(wrong <= bound, "{dtype}: {wrong:e}");
            }
        }
    }
    Ok(())
}

/// Compensated summation must not turn infinities into NaN.
#[test]
fn infinities_propagate_through_cumulative_sums_and_scatters() -> Result<()> {
    let inf = f32::INFINITY;
    let g = Graph::new();
    let x = g.constant([1.0f32, inf, 2.0, -3.0, f32::MAX, f32::MAX, -inf, 1.0]);
    let bits = |v: Vec<f64>| {
        v.into_iter()
            .map(|v| if v.is_nan() { u64::MAX } else { v.to_bits() })
            .collect::<Vec<_>>()
    };
    let nan = f64::NAN;
    let expected = vec![
        1.0,
        inf.into(),
        inf.into(),
        inf.into(),
        inf.into(),
        inf.into(),
        nan,
        nan,
    ];
    assert_eq!(bits(x.cumsum(0).value()?.to_f64s()), bits(expected));
    let table = g.constant([0.0f32, 0.0, 0.0, -0.0]);
    let sums = table.scatter_add(0, g.constant([1, 0, 0, 1, 2, 2, 1, 1]), x);
    assert_eq!(
        bits(sums.value()?.to_f64s()),
        bits(vec![inf.into(), f64::NEG_INFINITY, inf.into(), 0.0])
    );
    Ok(())
}
