//! Reductions and functions of lines: over any axes, of lines of any length, alone and inside of
//! kernels that read their results again. All must give the bits of the definition (the operations'
//! own `eval`, one after the other), with any number of threads and on each instruction set.

mod common;

use autograd::{DType, Graph, Result, Tensor, Var};

const POOLS: [usize; 2] = [1, 3];

/// Numbers of both signs, some of them equal, from a simple generator; with `special` also
/// infinities, NaN and zeros of both signs.
fn numbers(shape: &[usize], dtype: DType, special: bool) -> Result<Tensor> {
    let mut state = 12_345u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let k = (state >> 40) as i64 % 4001 - 2000;
        match (state >> 20) % 97 {
            0 if special => f64::INFINITY,
            1 if special => f64::NEG_INFINITY,
            2 if special => f64::NAN,
            3 | 4 => 0.0,
            5 | 6 => -0.0,
            _ => k as f64 / 700.0,
        }
    };
    let count = shape.iter().product();
    Tensor::new(shape, (0..count).map(|_| next()).collect::<Vec<f64>>())?.cast(dtype)
}

/// The bits of each element; NaN is NaN, whatever its bits.
fn bits(t: &Tensor) -> Vec<u64> {
    let of = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    t.to_f64s().into_iter().map(of).collect()
}

/// Compares what the kernels give with the definition.
fn check(
    name: &str,
    x: &Tensor,
    f: impl for<'g> Fn(&'g Graph, Var<'g>) -> Vec<Var<'g>> + Sync,
) -> Result<()> {
    let g = Graph::new();
    let wanted = f(&g, g.input(x));
    let expected = g.reference(&wanted)?;
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.build().expect("threads");
        let got = pool.install(|| {
            let g = Graph::new();
            let wanted = f(&g, g.input(x));
            let first = g.run(wanted.clone())?;
            g.run(wanted).map(|second| [first, second])
        })?;
        for (k, expected) in expected.iter().enumerate() {
            for got in &got {
                let same = bits(&got[k]) == bits(expected);
                let (dtype, shape) = (x.dtype(), x.shape());
                assert!(
                    same,
                    "{name}: value {k} of {dtype} {shape:?} on {threads} threads"
                );
            }
        }
    }
    Ok(())
}

type Reduction = for<'g> fn(Var<'g>, isize) -> Var<'g>;

const REDUCTIONS: [(&str, Reduction); 7] = [
    ("sum", |x, axis| x.sum_axis(axis)),
    ("max", |x, axis| x.max_axis(axis)),
    ("min", |x, axis| x.min_axis(axis)),
    ("prod", |x, axis| x.prod_axis(axis)),
    ("var", |x, axis| x.var_axis(axis, 1)),
    ("norm", |x, axis| x.norm_axis(axis)),
    ("logsumexp", |x, axis| x.logsumexp(axis)),
];

/// Shapes whose axes have lines of all kinds: short and long, contiguous and strided, few and many.
fn shapes() -> Vec<Vec<usize>> {
    let mut shapes: Vec<Vec<usize>> = [1, 7, 127, 128, 200, 1024, 1025, 100_003]
        .map(|n| vec![n])
        .into();
    for n in [2, 33, 200, 1025] {
        for inner in [1, 3, 16, 17, 65, 300] {
            shapes.push(vec![2, n, inner]);
        }
    }
    shapes.extend([
        vec![3, 40_000],
        vec![40_000, 3],
        vec![5000, 20],
        vec![40, 2500],
        vec![9, 2, 4, 11],
    ]);
    shapes
}

#[test]
fn reductions_over_each_axis() -> Result<()> {
    for shape in shapes() {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&shape, dtype, false)?;
            for axis in 0..shape.len() as isize {
                for (name, reduce) in REDUCTIONS {
                    check(&format!("{name} over axis {axis}"), &x, |_, x| {
                        vec![reduce(x, axis)]
                    })?;
                }
                check(
                    &format!("all over axis {axis}, in one kernel"),
                    &x,
                    |_, x| {
                        let x = x * 1.5;
                        REDUCTIONS.map(|(_, reduce)| reduce(x, axis)).into()
                    },
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn reductions_over_several_axes() -> Result<()> {
    for shape in [[3, 50, 70, 2], [2, 3, 4, 1000], [1, 9, 1, 5]] {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&shape, dtype, false)?;
            for axes in [
                &[0, 2][..],
                &[1, 3],
                &[0, 1],
                &[1, 2, 3],
                &[0, 3],
                &[0, 1, 2, 3],
            ] {
                check(&format!("over axes {axes:?}"), &x, |g, x| {
                    let sum = x.sum_axis(axes);
                    let d = g.grads((sum * sum).sum() + x.max_axis(axes).sum(), &[x]);
                    vec![
                        sum,
                        x.max_axis(axes),
                        x.min_axis_keep(axes),
                        x.mean_axis_keep(axes),
                        x.std_axis(axes, 0),
                        d[0],
                    ]
                })?;
            }
        }
    }
    Ok(())
}

type OfLines = for<'g> fn(Var<'g>, isize) -> Var<'g>;

/// What keeps the shape: each element depends on its line.
const OF_LINES: [(&str, OfLines); 7] = [
    ("softmax", |x, axis| x.softmax(axis)),
    ("log_softmax", |x, axis| (x * 2.0).log_softmax(axis) + 1.0),
    ("less the maximum", |x, axis| x - x.max_axis_keep(axis)),
    ("share of the sum", |x, axis| {
        let x = x.square() + 0.5;
        x / x.sum_axis_keep(axis)
    }),
    ("layer norm", |x, axis| {
        let centred = x - x.mean_axis_keep(axis);
        centred / (x.var_axis_keep(axis, 0) + 1e-5).sqrt()
    }),
    ("of booleans", |x, axis| {
        let is_large = x.ge(x.max_axis_keep(axis) * 0.5);
        is_large.select(x, x.min_axis_keep(axis))
    }),
    ("softmax of softmax", |x, axis| {
        x.softmax(axis).softmax(axis)
    }),
];

#[test]
fn functions_of_lines_with_gradients() -> Result<()> {
    for shape in shapes() {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&shape, dtype, false)?;
            for axis in 0..shape.len() as isize {
                for (name, f) in OF_LINES {
                    check(&format!("{name} over axis {axis}"), &x, |g, x| {
                        let y = f(x, axis);
                        let d = g.grads((y * y * x.sin()).sum(), &[x]);
                        vec![y, d[0]]
                    })?;
                }
            }
        }
    }
    Ok(())
}

#[test]
fn special_values() -> Result<()> {
    for shape in [vec![2500], vec![70, 90], vec![3, 1025, 2], vec![2, 20, 40]] {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&shape, dtype, true)?;
            let lowest = Tensor::full(shape.clone(), f64::NEG_INFINITY)?.cast(dtype)?;
            for axis in 0..shape.len() as isize {
                for x in [&x, &lowest] {
                    for (name, f) in OF_LINES {
                        check(&format!("{name} over axis {axis}"), x, |_, x| {
                            vec![f(x, axis)]
                        })?;
                    }
                    for (name, f) in REDUCTIONS {
                        check(&format!("{name} over axis {axis}"), x, |g, x| {
                            let y = f(x, axis);
                            let d = g.grads(y.sum(), &[x]);
                            vec![y, d[0]]
                        })?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Lines beside each other that are read with what is broadcast, and with booleans.
#[test]
fn lines_with_broadcast_operands() -> Result<()> {
    for shape in [[50, 300], [300, 50], [200, 3], [3, 2000]] {
        for dtype in [DType::F32, DType::F64] {
            let x = numbers(&shape, dtype, false)?;
            for axis in [0, 1] {
                check(&format!("scaled over axis {axis}"), &x, |g, x| {
                    let row = g.input(numbers(&shape[1..], dtype, false).expect("numbers"));
                    let column = g.input(numbers(&[shape[0], 1], dtype, false).expect("numbers"));
                    let mask = x.lt(row);
                    let y = mask.select(x * row, column).softmax(axis) * column + row;
                    let large = y.gt(y.mean_axis_keep(axis));
                    let d = g.grads((y * y).sum(), &[x, row, column]);
                    [vec![y, large], d].concat()
                })?;
            }
        }
    }
    Ok(())
}

/// A few elements joined by hand: that the definition is what it says.
#[test]
fn the_definition() -> Result<()> {
    let g = Graph::new();
    let x = g.input([[1.0, -2.0, 3.0], [4.0, 5.0, -6.0]]);
    let values = |v: Var<'_>| v.value().map(|t| t.to_f64s());
    assert_eq!(values(x.prod_axis(0))?, [4.0, -10.0, -18.0]);
    assert_eq!(values(x.max_axis(1))?, [3.0, 5.0]);
    assert_eq!(values(x.min_axis([0, 1]))?, [-6.0]);
    assert_eq!(values(x.prod())?, [720.0]);
    let d = g.grads(x.prod(), &[x]);
    let others = [720.0, -360.0, 240.0, 180.0, 144.0, -120.0];
    assert_eq!(values(d[0])?, others);
    // ties over axes that do not follow each other are counted together
    let x = g.input([[[1.0, 7.0]], [[7.0, 7.0]]]);
    let d = g.grads(x.max_axis([0, 2]).sum(), &[x]);
    let third = 1.0 / 3.0;
    assert_eq!(values(d[0])?, [0.0, third, third, third]);
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
