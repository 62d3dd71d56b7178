//! The same bits on any number of threads: work that is large enough to be split, in pools of several sizes.

mod common;

use autograd::{Graph, Result, Tensor, Var};

const POOLS: [usize; 5] = [1, 2, 3, 4, 8];

fn numbers(shape: &[usize], seed: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let all = (0..count).map(|k| ((seed + 1.7 * k as f64).sin() * 1.3) as f32).collect();
    Tensor::new(shape, all).expect("small")
}

/// Runs what `f` asks for in each pool; everything must be the same to the bit.
fn check(name: &str, f: impl for<'g> Fn(&'g Graph) -> Vec<Var<'g>> + Sync) -> Result<()> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| {
            let g = Graph::new();
            let wanted = f(&g);
            g.run(wanted)
        })
    };
    let expected = run(POOLS[0])?;
    for threads in POOLS {
        for (k, (got, expected)) in run(threads)?.iter().zip(&expected).enumerate() {
            let same = |(a, b): (f64, f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            let equal = got.to_f64s().into_iter().zip(expected.to_f64s()).all(same);
            assert!(equal, "{name}: value {k} on {threads} threads");
        }
    }
    Ok(())
}

/// The gradient belongs to it.
fn with_gradient<'g>(g: &'g Graph, x: Var<'g>, y: Var<'g>) -> Vec<Var<'g>> {
    let d = g.grads((y * y).sum(), &[x]);
    [vec![y], d].concat()
}

#[test]
fn elementwise_work_with_sums_over_all_kinds_of_axes() -> Result<()> {
    for shape in [&[1_000_003][..], &[2999, 301], &[301, 2999], &[70, 33, 400], &[3, 400_000]] {
        check(&format!("sum {shape:?}"), |g| {
            let x = g.input(numbers(shape, 0.2));
            with_gradient(g, x, (x * x.tanh() + (-x).exp()).sigmoid().sum())
        })?;
        for axis in 0..shape.len() as isize {
            check(&format!("sum {shape:?} over axis {axis}"), |g| {
                let x = g.input(numbers(shape, 0.3));
                let y = x.sin() * x + x.cos() * x.square();
                with_gradient(g, x, y.sum_axis(axis))
            })?;
        }
    }
    Ok(())
}

#[test]
fn functions_of_rows_beside_sums() -> Result<()> {
    for (rows, n) in [(100_000, 10), (1500, 700), (1001, 1024)] {
        check(&format!("{rows} rows of {n}"), |g| {
            let (x, bias) = (g.input(numbers(&[rows, n], 0.4)), g.input(numbers(&[n], 0.5)));
            let labels = g.constant((0..rows as i64).map(|k| k * 7 % n as i64).collect::<Vec<_>>());
            let loss = (x + bias).cross_entropy(labels).mean();
            let y = (x * 0.5).softmax(-1) * x;
            [vec![loss, y.sum_axis(0)], g.grads(loss, &[x, bias])].concat()
        })?;
    }
    Ok(())
}

#[test]
fn products() -> Result<()> {
    for (m, k, n) in [(400, 300, 200), (3, 2000, 2000), (2000, 300, 33), (513, 129, 257)] {
        check(&format!("{m} x {k} x {n}"), |g| {
            let (a, b) = (g.input(numbers(&[m, k], 0.6)), g.input(numbers(&[k, n], 0.7)));
            let y = (a.matmul(b) * 0.01f32).tanh();
            [vec![y], g.grads((y * y).sum(), &[a, b])].concat()
        })?;
    }
    Ok(())
}

/// Runs on workers of a busy pool, several at once.
#[test]
fn runs_within_parallel_loops() -> Result<()> {
    use rayon::prelude::*;
    let one = |k: usize| {
        let g = Graph::new();
        let x = g.input(numbers(&[600, 700], k as f64));
        let y = (x.matmul(x.t()) * 0.01f32).tanh().exp().sin().sum() + (x * x.cos()).exp().sin().tanh().sum();
        y.backward().map(|d| (d.value().clone(), d.get(x).cloned()))
    };
    let expected = (0..6).map(one).collect::<Result<Vec<_>>>()?;
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let got = pool.install(|| (0..6).into_par_iter().map(one).collect::<Result<Vec<_>>>())?;
        assert!(got == expected, "{threads} threads");
    }
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}
