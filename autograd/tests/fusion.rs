//! What kernels do together: numbers along lines, rows that are read where they lie, groups that
//! read the same array, numbers from leaves. All must give the bits of the definition (the
//! operations' own `eval`), with any number of threads and on each instruction set, and as few
//! kernels as the mathematics allows.

mod common;

use autograd::{DType, Graph, Result, Tensor, Var};
use common::numbers;

/// The bits of each element; NaN is NaN, whatever its bits.
fn bits(t: &Tensor) -> Vec<u64> {
    let of = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    t.to_f64s().into_iter().map(of).collect()
}

/// Compares what the kernels give with the definition.
fn check(name: &str, x: &Tensor, f: impl for<'g> Fn(Var<'g>) -> Vec<Var<'g>> + Sync) -> Result<()> {
    let g = Graph::new();
    let expected = g.reference(&f(g.input(x)))?;
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("threads");
        let got = pool.install(|| {
            let g = Graph::new();
            g.run(f(g.input(x)))
        })?;
        for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
            let (got, expected) = (bits(got), bits(expected));
            let first = got.iter().zip(&expected).position(|(a, b)| a != b);
            assert!(
                first.is_none() && got.len() == expected.len(),
                "{name}: value {k} of {} {:?} on {threads} threads, first at {first:?}",
                x.dtype(),
                x.shape()
            );
        }
    }
    Ok(())
}

/// Each with its gradient, of which each element has a weight of its own.
fn with_gradient<'g>(x: Var<'g>, y: Var<'g>) -> Vec<Var<'g>> {
    let weights = (y.ones_like().reshape([-1]).cumsum(0) * 0.7).sin();
    let loss = (y.reshape([-1]) * weights).sum();
    vec![y, x.graph().grad(loss, &[x])[0]]
}

fn mean<'g>(x: Var<'g>, axis: isize) -> Var<'g> {
    x.mean_axis_keep(axis)
}

fn normalised<'g>(x: Var<'g>, axis: isize) -> Var<'g> {
    let centred = x - mean(x, axis);
    centred / (mean(centred.square(), axis) + 1e-5).sqrt()
}

type Normalisation = for<'g> fn(Var<'g>, isize) -> Var<'g>;

const NORMALISATIONS: [(&str, Normalisation); 8] = [
    ("normalised", normalised),
    ("centred by the largest", |x, axis| {
        x - x.max_axis_keep(axis).abs().maximum(0.5)
    }),
    ("a choice for each line", |x, axis| {
        let m = mean(x, axis);
        m.gt(0.1).select(x, x * m)
    }),
    ("two after each other", |x, axis| {
        normalised(normalised(x, axis).tanh(), axis)
    }),
    ("numbers that are also results", |x, axis| {
        let m = mean(x, axis);
        (x - m) * m.exp() + (m * 2.0).sum()
    }),
    ("a norm", |x, axis| {
        x * x.norm_axis(axis).unsqueeze(axis).recip()
    }),
    ("several reductions of what is computed", |x, axis| {
        let y = x.tanh();
        let squares = y.square();
        let sums = squares.sum_axis_keep(axis) + (y - 0.1).square().sum_axis_keep(axis);
        squares * sums + y * (y * 2.0).max_axis_keep(axis) - y.min_axis_keep(axis)
    }),
    ("deviations", |x, axis| {
        x.exp().std_axis(axis, 0).unsqueeze(axis) + x.var_axis_keep(axis, 0)
    }),
];

#[test]
fn numbers_along_lines() -> Result<()> {
    let shapes: [&[usize]; 12] = [
        &[1, 7],
        &[7, 1],
        &[100, 10],
        &[33, 127],
        &[40, 257],
        &[9, 1025],
        &[9, 1024],
        &[5, 2048],
        &[20, 256],
        &[300, 64],
        &[5, 6, 70],
        &[3, 5000],
    ];
    for shape in shapes {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(shape, 0.4).cast(dtype)?;
            for axis in 0..shape.len() as isize {
                for (name, f) in NORMALISATIONS {
                    check(name, &x, |x| with_gradient(x, f(x, axis)))?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn few_kernels() -> Result<()> {
    type Program = for<'g> fn(Var<'g>) -> Vec<Var<'g>>;
    let kernels = |shape: &[usize], f: Program| {
        let g = Graph::new();
        let plan = g.plan(f(g.input(numbers(shape, 0.2))))?;
        Ok::<usize, autograd::Error>(plan.kernels().len())
    };
    // a layer norm: one kernel, as is what it computes from rows of any length
    for n in [10, 100, 768, 5000] {
        assert_eq!(kernels(&[64, n], |x| vec![normalised(x, -1)])?, 1, "{n}");
    }
    // the gradient reads each row while it is in the cache
    fn backward(x: Var<'_>) -> Vec<Var<'_>> {
        vec![x.graph().grad((normalised(x, -1) * x.sin()).sum(), &[x])[0]]
    }
    assert_eq!(kernels(&[64, 768], backward)?, 1);
    // a standard deviation is read by no element, but computed of such numbers
    assert_eq!(kernels(&[64, 768], |x| vec![x.std_axis(-1, 1)])?, 1);
    // the mean's 1/n is known before the array is read, and the value and the gradient read it once
    fn squared(x: Var<'_>) -> Vec<Var<'_>> {
        let loss = (x.tanh() - 0.5).square().mean();
        vec![loss, x.graph().grad(loss, &[x])[0]]
    }
    assert_eq!(kernels(&[100_003], squared)?, 3, "1/n, the array, the mean");
    Ok(())
}

#[test]
fn rows_where_they_lie() -> Result<()> {
    for n in [1, 7, 128, 255, 256, 257, 1000, 1024, 1025, 3001] {
        let rows = 1 + 9_000 / n;
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&[rows, n], 0.3).cast(dtype)?;
            let row = numbers(&[n], 0.9).cast(dtype)?;
            let column = numbers(&[rows, 1], 0.6).cast(dtype)?;
            check("rows and columns", &x, |x| {
                let g = x.graph();
                let (row, column) = (g.constant(&row), g.constant(&column));
                let outer = row * column;
                let both = x * row + column;
                vec![
                    outer,
                    both,
                    both.sum(),
                    both.sum_axis(0),
                    both.max_axis(1),
                    column.gt(0.0).select(x, row),
                    both.softmax(-1) * row,
                    (column + row).sum_axis(1),
                    x.slice(0, ..1) - both,
                ]
            })?;
        }
    }
    Ok(())
}

/// A block without scratch memory is long, and its last elements, which fill no group, are not.
#[test]
fn long_blocks() -> Result<()> {
    for n in [16_383, 16_384, 16_385, 17_000, 100_003] {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&[n], 0.1).cast(dtype)?;
            check("elements", &x, |x| {
                let y = (x * 2.0 + 1.0).relu();
                vec![y, -x, x.exp() * y, x.gt(0.0), x.sum(), (x * x).max()]
            })?;
        }
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
