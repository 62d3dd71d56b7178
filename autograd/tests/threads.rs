//! The same bits on any number of threads: computations that are large enough to be split, in pools
//! of several sizes.

mod common;

use autograd::{
    DType, Graph, Op, OpError, Param, Result, Rule, Tensor, TensorView, TensorViewMut, Type, Var,
};
use common::numbers;
use std::sync::mpsc::channel;

const POOLS: [usize; 5] = [1, 2, 3, 4, 8];

/// Runs `f` in each pool and compares the results bit by bit.
fn check(name: &str, f: impl for<'g> Fn(&'g Graph) -> Vec<Var<'g>> + Sync) -> Result<()> {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
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

/// A value and its gradient.
fn with_gradient<'g>(g: &'g Graph, x: Var<'g>, y: Var<'g>) -> Vec<Var<'g>> {
    let d = g.grads((y * y).sum(), &[x]);
    [vec![y], d].concat()
}

#[test]
fn elementwise_ops_with_sums_over_all_kinds_of_axes() -> Result<()> {
    for shape in [
        &[100_003][..],
        &[1999, 51],
        &[101, 999],
        &[70, 33, 40],
        &[3, 40_000],
    ] {
        let input = numbers(shape, 0.2);
        check(&format!("sum {shape:?}"), |g| {
            let x = g.input(&input);
            with_gradient(g, x, (x * x.tanh() + (-x).exp()).sigmoid().sum())
        })?;
        for axis in 0..shape.len() as isize {
            check(&format!("sum {shape:?} over axis {axis}"), |g| {
                let x = g.input(&input);
                let y = x.sin() * x + x.cos() * x.square();
                with_gradient(g, x, y.sum_axis(axis))
            })?;
        }
    }
    Ok(())
}

#[test]
fn functions_of_rows_beside_sums() -> Result<()> {
    for (rows, n) in [(20_000, 10), (300, 700), (201, 1024)] {
        check(&format!("{rows} rows of {n}"), |g| {
            let (x, bias) = (
                g.input(numbers(&[rows, n], 0.4)),
                g.input(numbers(&[n], 0.5)),
            );
            let labels = g.constant(
                (0..rows as i64)
                    .map(|k| k * 7 % n as i64)
                    .collect::<Vec<_>>(),
            );
            let loss = (x + bias).cross_entropy(labels).mean();
            let y = (x * 0.5).softmax(-1) * x;
            [vec![loss, y.sum_axis(0)], g.grads(loss, &[x, bias])].concat()
        })?;
    }
    Ok(())
}

#[test]
fn products() -> Result<()> {
    for (m, k, n) in [
        (400, 300, 200),
        (3, 2000, 2000),
        (2000, 300, 33),
        (513, 129, 257),
    ] {
        check(&format!("{m} x {k} x {n}"), |g| {
            let (a, b) = (
                g.input(numbers(&[m, k], 0.6)),
                g.input(numbers(&[k, n], 0.7)),
            );
            let y = (a.matmul(b) * 0.01f32).tanh();
            [vec![y], g.grads((y * y).sum(), &[a, b])].concat()
        })?;
    }
    Ok(())
}

/// Every kind of operation, with its gradient if it has one, in one run: they are independent of
/// each other, so that they run in parallel.
#[test]
fn all_operations_in_parallel() -> Result<()> {
    check("all operations", |g| {
        let x = g.input(numbers(&[240, 310], 0.1));
        let (y, w) = (
            g.input(numbers(&[240, 310], 0.2)),
            g.input(numbers(&[310, 90], 0.3)),
        );
        let rows = g.constant((0..500i64).map(|k| k * 7 % 240).collect::<Vec<_>>());
        let unary: [for<'g> fn(Var<'g>) -> Var<'g>; 25] = [
            |x| -x,
            |x| x.abs(),
            |x| x.sign(),
            |x| x.exp(),
            |x| x.expm1(),
            |x| (x.square() + 0.1).ln(),
            |x| x.sin(),
            |x| x.cos(),
            |x| x.tanh(),
            |x| x.sigmoid(),
            |x| x.relu(),
            |x| x.erf(),
            |x| x.erfc(),
            |x| x.gelu(),
            |x| x.softplus(),
            |x| (x.square() + 0.1).sqrt(),
            |x| (x + 9.0).recip(),
            |x| x.powi(3),
            |x| x.softmax(0),
            |x| x.softmax(1),
            |x| x.log_softmax(0),
            |x| x.logsumexp(1),
            |x| x.max_axis(0),
            |x| x.t(),
            |x| x.leaky_relu(0.1),
        ];
        let binary: [for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>; 8] = [
            |x, y| x + y,
            |x, y| x - y,
            |x, y| x * y,
            |x, y| x / (y.square() + 1.0),
            |x, y| x.maximum(y),
            |x, y| x.minimum(y),
            |x, y| (x.square() + 0.1).pow(y),
            |x, y| x.gt(y).select(x, y),
        ];
        let mut all: Vec<Var<'_>> = unary
            .iter()
            .map(|f| f(x))
            .chain(binary.iter().map(|f| f(x, y)))
            .collect();
        all.extend([
            x.matmul(w),
            w.t().matmul(x.t()),
            x.take(rows, 0),
            x.mean(),
            x.sum_axis(0),
            x.sum_axis(1),
        ]);
        let gradients = all
            .iter()
            .flat_map(|&v| g.grads((v * v).sum(), &[x, y, w]))
            .collect::<Vec<_>>();
        [all, gradients].concat()
    })
}

fn branches(g: &Graph, n: usize) -> Vec<Var<'_>> {
    let x = g.constant(numbers(&[n, n], 0.1));
    let weights: Vec<Var<'_>> = (0..20)
        .map(|k| g.input(numbers(&[n, n], k as f64)))
        .collect();
    let total = weights
        .iter()
        .map(|w| x.matmul(*w).tanh().sum())
        .reduce(|a, b| a + b)
        .expect("some");
    [vec![total], g.grads(total, &weights)].concat()
}

/// Independent branches, some too small to be split and some large enough.
#[test]
fn independent_branches_run_in_parallel() -> Result<()> {
    for n in [24, 200] {
        check(&format!("branches of {n} x {n}"), |g| branches(g, n))?;
        let g = Graph::new();
        let plan = g.plan(branches(&g, n))?;
        let most = plan.kernels().iter().map(|k| k.stage.len()).max();
        assert!(most >= Some(4), "{plan}");
        assert!(plan.explain().contains("run at the same time"), "{plan}");
    }
    Ok(())
}

/// Fails, or panics, in `eval`.
#[derive(Clone, PartialEq, Debug)]
struct FailsOrPanics(bool);

impl Op for FailsOrPanics {
    const NAME: &'static str = "refuses";
    fn infer(&self, x: &[Type]) -> std::result::Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(
        &self,
        _x: &[TensorView<'_>],
        _out: TensorViewMut<'_>,
    ) -> std::result::Result<(), OpError> {
        if self.0 {
            panic!("oh no")
        } else {
            Err("no".into())
        }
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
}

/// A kernel that fails or panics while others run: the oldest error is reported, nothing is
/// updated, and the threads continue.
#[test]
fn a_kernel_that_fails_while_others_run() -> Result<()> {
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        for panics in [false, true] {
            let w = Param::new(numbers(&[400, 400], 0.3));
            let before = w.value();
            let failed = pool.install(|| {
                let g = Graph::new();
                let v = g.param(&w);
                let fine: Vec<Var<'_>> = (0..6).map(|k| (v * k as f64).matmul(v).tanh()).collect();
                let bad: Vec<Var<'_>> = (0..3)
                    .map(|k| {
                        g.within(&format!("bad{k}"), || {
                            (v + k as f64).apply(FailsOrPanics(panics))
                        })
                    })
                    .collect();
                g.assign(&w, v * 0.5);
                g.run((fine, bad)).map(drop)
            });
            let e = failed.expect_err("it fails");
            assert_eq!(
                (e.op(), e.scope()),
                ("refuses", "bad0"),
                "{threads} threads: {e}"
            );
            assert_eq!(e.to_string().contains("oh no"), panics);
            assert_eq!(w.value(), before);
        }
        pool.install(|| {
            let g = Graph::new();
            g.input(numbers(&[500, 500], 0.1))
                .exp()
                .sum()
                .value()
                .map(drop)
        })?;
    }
    Ok(())
}

/// Fails, and reports its inputs.
#[derive(Clone, PartialEq, Debug)]
struct ReportsInputs(&'static str);

impl Op for ReportsInputs {
    const NAME: &'static str = "complains";
    fn infer(&self, x: &[Type]) -> std::result::Result<Type, OpError> {
        Ok(x[0])
    }
    fn eval(
        &self,
        x: &[TensorView<'_>],
        _out: TensorViewMut<'_>,
    ) -> std::result::Result<(), OpError> {
        Err(OpError::new(format!(
            "{} got {}",
            self.0,
            x[0].slice::<f64>()?[0]
        )))
    }
    fn vjp<'g>(&self, _input: usize, r: &Rule<'_, 'g>) -> Option<Var<'g>> {
        Some(r.ct)
    }
}

/// Kernels that fail at the same time: message, scope and line belong to the same op, the oldest
/// one; in a graph and in a compiled function, which uses the call's own arguments and the current
/// parameters.
#[test]
fn an_error_is_that_of_the_op_it_names() -> Result<()> {
    const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];
    let (x, w) = (
        numbers(&[300, 300], 0.5).cast(DType::F64)?,
        Param::new(numbers(&[300, 300], 0.7).cast(DType::F64)?),
    );
    let expected = format!("first got {}", x.to_f64s()[0] * w.value().to_f64s()[0]);
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let compiled = autograd::compile(|[x]| {
            let g = x.graph();
            let y = x * g.param(&w);
            let all: Vec<Var<'_>> = NAMES
                .iter()
                .map(|name| g.within(name, || y.apply(ReportsInputs(name))).sum())
                .collect();
            [all[3], all[1], all[2], all[0]]
        });
        pool.install(|| {
            for _ in 0..50 {
                let g = Graph::new();
                let y = g.input(&x) * g.param(&w);
                let all: Vec<Var<'_>> = NAMES
                    .iter()
                    .map(|name| g.within(name, || y.apply(ReportsInputs(name))))
                    .collect();
                let e = g.run((all[3], all[1], all[2], all[0])).expect_err("fails");
                assert_eq!(
                    (e.message(), e.scope()),
                    (&expected[..], "first"),
                    "{threads} threads"
                );
                let e = compiled.call([&x]).expect_err("fails");
                assert_eq!(
                    (e.message(), e.scope()),
                    (&expected[..], "first"),
                    "{threads} threads, compiled"
                );
            }
        });
    }
    Ok(())
}

/// A pool whose other threads are busy, or that is called from outside, does not make a run wait.
#[test]
fn runs_do_not_wait_for_a_busy_pool() -> Result<()> {
    let work = || {
        let g = Graph::new();
        let x = g.input(numbers(&[500, 400], 0.1));
        let y = x.matmul(x.t()).tanh().sum();
        y.backward().map(|d| (d.value().clone(), d.get(x).cloned()))
    };
    let expected = work()?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(3)
        .build()
        .expect("threads");
    let (release, hold) = channel::<()>();
    let hold = std::sync::Mutex::new(hold);
    pool.scope(|s| {
        for _ in 0..2 {
            s.spawn(|_| drop(hold.lock().map(|hold| hold.recv())));
        }
        // on the third thread of the pool, while the two others wait for it
        s.spawn(|_| {
            for _ in 0..8 {
                assert!(work().is_ok_and(|got| got == expected));
            }
            drop(release);
        });
    });
    Ok(())
}

/// Steps of separate models on all threads at once, each split over the same pool.
#[test]
fn parallel_trainings() -> Result<()> {
    use rayon::prelude::*;
    let train = |seed: usize| -> Result<Tensor> {
        let w = Param::new(numbers(&[300, 120], seed as f64));
        for step in 0..8 {
            let g = Graph::new();
            let v = g.param(&w);
            let loss = g
                .constant(numbers(&[70, 300], step as f64))
                .matmul(v)
                .tanh()
                .square()
                .mean();
            let [d] = g.grad(loss, &[v]);
            g.assign(&w, v - 0.3 * d);
            g.run(loss)?;
        }
        Ok(w.value())
    };
    let expected = (0..8).map(train).collect::<Result<Vec<_>>>()?;
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let got = pool.install(|| {
            (0..8)
                .into_par_iter()
                .map(train)
                .collect::<Result<Vec<_>>>()
        })?;
        assert!(got == expected, "{threads} threads");
    }
    Ok(())
}

/// Runs on workers of a busy pool, several at once.
#[test]
fn runs_within_parallel_loops() -> Result<()> {
    use rayon::prelude::*;
    let one = |k: usize| {
        let g = Graph::new();
        let x = g.input(numbers(&[300, 400], k as f64));
        let y = (x.matmul(x.t()) * 0.01f32).tanh().exp().sin().sum()
            + (x * x.cos()).exp().sin().tanh().sum();
        y.backward().map(|d| (d.value().clone(), d.get(x).cloned()))
    };
    let expected = (0..6).map(one).collect::<Result<Vec<_>>>()?;
    for threads in POOLS {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let got = pool.install(|| (0..6).into_par_iter().map(one).collect::<Result<Vec<_>>>())?;
        assert!(got == expected, "{threads} threads");
    }
    Ok(())
}

/// Each part of a kernel runs once: in quick succession, after pauses in which threads go to sleep,
/// for several callers at once, and for one from outside of all pools.
#[test]
fn quick_successions_and_pauses() -> Result<()> {
    let inputs: Vec<Tensor> = (0..17)
        .map(|k| numbers(&[40_000 + 1024 * k], k as f64))
        .collect();
    let one = |k: usize| {
        let g = Graph::new();
        let x = g.input(&inputs[k]);
        g.run((x * x + 1.0, (x * 0.5).sum()))
    };
    let expected = (0..17).map(one).collect::<Result<Vec<_>>>()?;
    for threads in [1, 2, 3, 8] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        let check = || {
            for round in 0..300 {
                assert!(
                    one(round % 17).expect("no errors") == expected[round % 17],
                    "round {round} on {threads} threads"
                );
                if round % 100 == 0 {
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            }
        };
        pool.install(check);
        pool.scope(|s| (0..threads + 1).for_each(|_| s.spawn(|_| check())));
    }
    assert!(one(0)? == expected[0]);
    Ok(())
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}

/// Two reductions over different axes in one kernel: lines shorter than, as long as and longer than
/// a block, cut into parts that must end between lines. Compared with the definition.
#[test]
fn two_reductions_of_one_array() -> Result<()> {
    type Reduce = for<'g> fn(Var<'g>) -> Var<'g>;
    let reduce: [Reduce; 7] = [
        |x| x.sum(),
        |x| x.sum_axis(0),
        |x| x.sum_axis(2),
        |x| x.sum_axis([0, 1]),
        |x| x.sum_axis([1, 2]),
        |x| x.softmax(2),
        |x| x.logsumexp(2).exp(),
    ];
    let pools =
        [2, 3, 8].map(|threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build());
    let pools = pools.map(|pool| pool.expect("threads"));
    for (shape, dtype) in [
        [63, 64, 16],
        [63, 16, 64],
        [31, 1, 1024],
        [65, 8, 129],
        [33, 2, 512],
        [33, 2, 513],
        [9, 5, 200],
        [3, 1025, 7],
        [2, 3, 2500],
    ]
    .into_iter()
    .flat_map(|shape| [DType::F32, DType::F64].map(|dtype| (shape, dtype)))
    {
        let input = numbers(&shape, 0.3).cast(dtype)?;
        let pairs = (0..reduce.len()).flat_map(|a| (0..=a).map(move |b| (a, b)));
        for (k, l) in pairs {
            let (a, b) = (reduce[k], reduce[l]);
            let g = Graph::new();
            let y = g.input(&input).square();
            let wanted = [a(y), b(y)];
            let expected = g.reference(&wanted)?;
            for pool in &pools {
                let got = pool.install(|| {
                    let g = Graph::new();
                    let y = g.input(&input).square();
                    g.run([a(y), b(y)])
                })?;
                assert!(got[..] == expected[..], "{shape:?}, reductions {k} and {l}");
            }
        }
    }
    Ok(())
}

/// The same after a matrix product, whose rows are cut where the reductions allow it.
#[test]
fn reductions_of_products() -> Result<()> {
    for (batch, m, k, n) in [
        (63, 16, 30, 64),
        (63, 64, 9, 16),
        (41, 8, 20, 128),
        (30, 7, 10, 100),
    ] {
        let (a, b) = (numbers(&[batch, m, k], 0.4), numbers(&[k, n], 0.5));
        check(&format!("{batch} {m} {k} {n}"), |g| {
            let y = g.input(&a).matmul(g.input(&b)).relu();
            vec![y.sum_axis([1, 2]), y.sum_axis([0, 1])]
        })?;
        check(&format!("{batch} {m} {k} {n}, one sum"), |g| {
            let y = g.input(&a).matmul(g.input(&b)).relu();
            vec![y.sum_axis([1, 2])]
        })?;
    }
    Ok(())
}

/// Many more threads than cores: parts are dealt to all of them, and a stage has as many kernels as
/// there are.
#[test]
fn sixty_four_threads() -> Result<()> {
    let x = numbers(&[300, 257], 0.3);
    let weights: Vec<Tensor> = (0..40).map(|k| numbers(&[257, 33], k as f64)).collect();
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().expect("threads").install(|| {
            let g = Graph::new();
            let x = g.input(&x);
            let weights: Vec<Var<'_>> = weights.iter().map(|w| g.input(w)).collect();
            let branches = weights.iter().map(|&w| x.matmul(w).tanh().sum());
            let loss = branches.reduce(|a, b| a + b).expect("some");
            let loss = loss + (x.softmax(0) * x.softmax(1)).sum() + x.max_axis(0).sum();
            let mut wanted = g.grads(loss, &weights);
            wanted.extend([loss, x.t().sort(0), x.cumsum(0), g.grads(loss, &[x])[0]]);
            // twice: cold, and with the memory of the first run
            g.run(wanted.clone())?;
            g.run(wanted)
        })
    };
    let expected = run(1)?;
    for (k, (got, expected)) in run(64)?.iter().zip(&expected).enumerate() {
        let bits = |t: &Tensor| -> Vec<u64> { t.to_f64s().iter().map(|x| x.to_bits()).collect() };
        assert_eq!(bits(got), bits(expected), "value {k}");
    }
    Ok(())
}
