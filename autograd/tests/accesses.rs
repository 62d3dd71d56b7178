//! Kernels that read slices, flips and permutations where they lie. They must give the bits of the
//! definition, whatever is read, and no copy may be made where runs can be read.

mod common;

use autograd::{DType, Graph, Result, Tensor, Var};

/// A simple generator of random numbers.
struct Random(u64);

impl Random {
    /// A number from `low` to below `high`.
    fn range(&mut self, low: usize, high: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        low + (self.0 >> 33) as usize % (high - low)
    }
}

fn bits(t: &Tensor) -> Vec<u64> {
    t.to_f64s().into_iter().map(f64::to_bits).collect()
}

/// Some slices and permutations of a value, one after the other.
fn seen<'g>(x: Var<'g>, rng: &mut Random) -> Var<'g> {
    let mut x = x;
    for _ in 0..rng.range(1, 4) {
        let shape = x.shape().expect("known");
        let axis = rng.range(0, shape.rank());
        let n = shape[axis];
        let at = axis as isize;
        x = match rng.range(0, 5) {
            0 if n > 1 => {
                let start = rng.range(0, n - 1);
                x.slice(at, start as isize..rng.range(start + 1, n) as isize)
            }
            1 => x.slice_step(at, .., rng.range(1, 4) as isize),
            2 => x.flip(at),
            3 => {
                let mut axes: Vec<usize> = (0..shape.rank()).collect();
                axes.rotate_left(axis);
                x.permute(axes)
            }
            _ => x.slice(at, ..),
        };
    }
    x
}

/// What reads it: alone, beside others of the same shape, broadcast, reshaped, reduced.
fn readers<'g>(g: &'g Graph, x: Var<'g>, seen: Var<'g>) -> Vec<Var<'g>> {
    let shape = seen.shape().expect("known");
    let count: usize = shape.iter().product();
    let dtype = seen.dtype().expect("known");
    let mut all = vec![
        seen * 2.0,
        (seen - seen.exp()).sum(),
        seen.reshape([count]) + 1.0,
        seen.gt(0.25).select(seen, 1.0),
        seen.gt(0.25).cast(DType::F64) * 2.0,
        seen.softmax(-1),
        seen + (seen * 0.0).sum()
            + g.constant(Tensor::full([3, 1, 1, 1, 1], 0.5f64).expect("small"))
                .cast(dtype),
    ];
    for axis in 0..shape.rank() as isize {
        all.extend([
            seen.sum_axis(axis),
            seen / (seen.max_axis_keep(axis) + 3.0),
            seen.slice(axis, ..1) - seen,
        ]);
    }
    let loss = all.iter().filter(|v| v.dtype().is_ok_and(|of| of == dtype));
    let loss = loss.fold(x.sum(), |sum, &v| sum + (v * v).sum());
    all.extend(g.grads(loss, &[x]));
    all
}

#[test]
fn whatever_is_read() -> Result<()> {
    let mut rng = Random(7);
    for case in 0..300 {
        let shape: Vec<usize> = match case % 4 {
            0 => vec![[7, 127, 1025, 5000][case / 4 % 4]],
            1 => vec![rng.range(2, 60), rng.range(2, 90)],
            2 => vec![rng.range(2, 9), rng.range(2, 40), 33],
            _ => vec![3, 4, rng.range(2, 9), 5],
        };
        let dtype = [DType::F32, DType::F64][case % 2];
        let count: usize = shape.iter().product();
        let numbers: Vec<f64> = (0..count)
            .map(|_| rng.range(0, 4001) as f64 / 1000.0 - 2.0)
            .collect();
        let x = Tensor::new(&shape[..], numbers)?.cast(dtype)?;
        let seed = rng.range(0, 1 << 30) as u64;
        let evaluate = |by_definition: bool| {
            let g = Graph::new();
            let x = g.input(&x);
            let wanted = readers(&g, x, seen(x, &mut Random(seed)));
            if by_definition {
                g.reference(&wanted)
            } else {
                g.run(wanted)
            }
        };
        let expected = evaluate(true)?;
        for threads in [1, 3] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let got = pool.build().expect("threads").install(|| evaluate(false))?;
            for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let (got, expected) = (bits(got), bits(expected));
                let first = got.iter().zip(&expected).position(|(a, b)| a != b);
                assert!(
                    first.is_none() && got.len() == expected.len(),
                    "case {case}, value {k} of {dtype} {shape:?}, {threads} threads: first at {first:?}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn no_copies_of_what_has_runs() -> Result<()> {
    let g = Graph::new();
    let x = g.input(Tensor::full([64, 6, 50], 0.5f32)?);
    let kernels = |v: Var<'_>| v.graph().plan([v]).map(|plan| plan.kernels().len());
    assert_eq!(kernels(x.slice(0, 3..9) * 2.0)?, 1);
    assert_eq!(kernels(x.slice(1, 3..5) * x.slice(1, ..2))?, 1);
    assert_eq!(kernels(x.flip(2).exp())?, 1);
    assert_eq!(kernels(x.permute([1, 0, 2]).exp())?, 1);
    assert_eq!(kernels(x.permute([1, 0, 2]).slice(0, ..2).softmax(-1))?, 1);
    assert_eq!(kernels(x.permute([2, 0, 1]).exp())?, 1); // by panels
    assert_eq!(kernels(x.permute([2, 0, 1]).softmax(-1))?, 1);
    // a panel would be too large, or elements are not taken in their order
    let x = g.input(Tensor::full([5000, 20], 0.5f32)?);
    assert_eq!(kernels(x.t().exp())?, 2);
    let x = g.input(Tensor::full([64, 6, 50], 0.5f32)?);
    assert_eq!(kernels(x.permute([2, 1, 0]).exp().softmax(0))?, 2);
    Ok(())
}

/// Transposed arrays, of which kernels copy some rows at a time.
#[test]
fn transposes_by_panels() -> Result<()> {
    let shapes: [(&[usize], &[usize]); 7] = [
        (&[7, 1025], &[1, 0]),
        (&[1025, 129], &[1, 0]),
        (&[300, 700], &[1, 0]),
        (&[2000, 33], &[1, 0]),
        (&[4, 4], &[1, 0]),
        (&[40, 50, 60], &[2, 0, 1]),
        (&[30, 41, 29], &[2, 1, 0]),
    ];
    for (shape, axes) in shapes {
        for dtype in [DType::F32, DType::F64] {
            let x = common::numbers(shape, 0.3).cast(dtype)?;
            let evaluate = |by_definition: bool| {
                let g = Graph::new();
                let x = g.input(&x);
                let y = x.permute(axes);
                let straight = y.ones_like().reshape([-1]).cumsum(0) * 1e-4;
                let straight = straight.reshape(y.shape().expect("known"));
                let weights = straight.sin();
                let centred = y - y.mean_axis_keep(-1);
                let mut all = vec![
                    y.exp(),
                    y + straight,
                    y.sum(),
                    y.square().max_axis(-1),
                    y.sum_axis(0),
                    y.softmax(-1),
                    (y * 2.0).softmax(0),
                    centred / (centred.square().mean_axis_keep(-1) + 1e-5).sqrt(),
                    y.gt(0.1).select(y, straight),
                    (y + straight.slice_step(0, ..1, 1)).norm(),
                ];
                let loss = all.iter().fold(x.sum(), |sum, &v| {
                    let of = v.shape().expect("known");
                    if of == weights.shape().expect("known") {
                        sum + (v * weights).sum()
                    } else {
                        sum + v.sum()
                    }
                });
                all.extend(g.grads(loss, &[x]));
                if by_definition {
                    g.reference(&all)
                } else {
                    g.run(all)
                }
            };
            let expected = evaluate(true)?;
            for threads in [1, 3] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let got = pool.build().expect("threads").install(|| evaluate(false))?;
                for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
                    assert_eq!(bits(got), bits(expected), "value {k} of {dtype} {shape:?}");
                }
            }
        }
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
