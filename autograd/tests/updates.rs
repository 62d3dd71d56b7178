//! Parameter updates: whatever a program reads and writes, and however it runs, each parameter gets
//! the value that the definition gives. With shared or unshared data, first or later steps, one or
//! several threads, as a graph or compiled, on every instruction set.

mod common;

use autograd::{DType, Function, Graph, Param, Result, Shape, Tensor, Var};
use common::{exact_products, numbers, on_every_instruction_set};
use std::sync::Barrier;

/// Small pseudorandom integers.
struct Draw(u64);

impl Draw {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// Parameters of one type, and a program that updates them: the same one at each call.
struct Program {
    seed: u64,
    params: Vec<Param>,
    first: Vec<Tensor>,
    /// The parameters are square matrices, which the program also multiplies.
    matrices: bool,
}

impl Program {
    fn new(seed: u64, n: usize, dtype: DType) -> Program {
        let mut draw = Draw(seed);
        let side = (n as f64).sqrt().round() as usize;
        let matrices = dtype == DType::F32 && exact_products() && draw.below(2) == 0 && n <= 20_000;
        let shape = if matrices { vec![side, side] } else { vec![n] };
        let first: Vec<Tensor> = (0..2 + draw.below(3))
            .map(|k| {
                numbers(&shape, (seed % 100 + k as u64) as f64)
                    .cast(dtype)
                    .expect("floats")
            })
            .collect();
        Program {
            seed,
            params: first.iter().map(Param::new).collect(),
            first,
            matrices,
        }
    }

    /// Writes the program and schedules its updates. Expressions are reused by others, so that
    /// updates share nodes and read each other's old values.
    fn write<'g>(&self, g: &'g Graph) -> Var<'g> {
        let mut draw = Draw(self.seed ^ 0x5EED);
        let mut known: Vec<Var<'g>> = self.params.iter().map(|p| g.param(p)).collect();
        for _ in 0..3 + draw.below(8) {
            let (a, b) = (
                known[draw.below(known.len())],
                known[draw.below(known.len())],
            );
            known.push(match draw.below(if self.matrices { 12 } else { 10 }) {
                0 => a + b,
                1 => 0.5 * (a - b),
                2 => a * b,
                3 => a.tanh(),
                4 => a.relu() - 0.25 * b,
                5 => a.gt(b).select(a, 0.5 * b),
                6 => a - b.mean(),
                7 => a * 0.1 + b.square().sum().tanh(),
                8 => a.maximum(b),
                9 => (a * b - 1.0) * b,
                10 => a.matmul(b) / a.shape().map_or(1.0, |s| s[0] as f64),
                _ => a + b.sum_axis_keep(0).tanh(),
            });
        }
        let loss = known
            .iter()
            .fold(g.zeros(Shape::SCALAR, self.first[0].dtype()), |sum, v| {
                sum + v.square().mean()
            });
        let gradients = g.grads(loss, &known[..self.params.len()]);
        for (k, param) in self.params.iter().enumerate() {
            let w = known[k];
            let new = match draw.below(5) {
                0 => known[draw.below(known.len())], // shared with other expressions
                1 => w - 0.1 * gradients[k],         // gradient descent
                2 => 0.9 * w + 0.1 * known[draw.below(known.len())], // an average
                3 => {
                    let velocity = 0.9 * w + gradients[k];
                    velocity - 0.01 * known[(k + 1) % self.params.len()]
                }
                _ => continue, // not updated
            };
            g.assign(param, new);
        }
        loss
    }

    /// The values after this many steps, by definition.
    fn defined(&self, steps: usize) -> Result<Vec<Vec<Tensor>>> {
        self.reset()?;
        let mut all = Vec::new();
        for _ in 0..steps {
            let g = Graph::new();
            self.write(&g);
            let new: Vec<Var<'_>> = self
                .params
                .iter()
                .map(|p| g.scheduled(p).unwrap_or(g.param(p)))
                .collect();
            let values = g.reference(&new)?;
            self.params
                .iter()
                .zip(&values)
                .try_for_each(|(p, v)| p.set(v))?;
            all.push(values);
        }
        Ok(all)
    }

    fn reset(&self) -> Result<()> {
        self.params
            .iter()
            .zip(&self.first)
            .try_for_each(|(p, first)| p.set(first.cast(first.dtype())?))
    }

    /// Runs the steps and compares all parameters after each. `held` names the parameters whose
    /// values are shared.
    fn check(
        &self,
        expected: &[Vec<Tensor>],
        held: &dyn Fn(usize) -> bool,
        compiled: bool,
        how: &str,
    ) -> Result<()> {
        self.reset()?;
        let function = autograd::compile(|[x]| [self.write(x.graph())]);
        for (step, expected) in expected.iter().enumerate() {
            let _held: Vec<Tensor> = (0..self.params.len())
                .filter(|&k| held(k))
                .map(|k| self.params[k].value())
                .collect();
            if compiled {
                function.call([0.0])?;
            } else {
                let g = Graph::new();
                let loss = self.write(&g);
                g.run(loss)?;
            }
            for (k, (param, expected)) in self.params.iter().zip(expected).enumerate() {
                let (seed, ty) = (self.seed, param.ty());
                assert!(
                    same(&param.value(), expected),
                    "program {seed}, {ty}, {how}: parameter {k} after step {step}"
                );
            }
        }
        Ok(())
    }
}

/// Whether two tensors have equal bits; all NaN are equal.
fn same(a: &Tensor, b: &Tensor) -> bool {
    let equal = |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    a.to_f64s().iter().zip(&b.to_f64s()).all(equal)
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .expect("threads")
}

#[test]
fn random_updates_agree_with_the_definition() -> Result<()> {
    let (one, three) = (pool(1), pool(3));
    let sizes = [1, 7, 127, 128, 200, 1_025, 3_000];
    // as for the other random programs, `PROPTEST_CASES` sets the number
    let programs = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(105);
    for seed in 0..programs {
        let n = if seed % 35 == 34 {
            100_003
        } else {
            sizes[seed % sizes.len()]
        };
        let program = Program::new(
            seed as u64,
            n,
            if seed % 3 == 0 {
                DType::F64
            } else {
                DType::F32
            },
        );
        let expected = program.defined(3)?;
        for (threads, pool) in [(1, &one), (3, &three)] {
            for compiled in [false, true] {
                let check = |held: &(dyn Fn(usize) -> bool + Sync), who: &str| {
                    let how = format!("{threads} threads, compiled: {compiled}, {who} held");
                    pool.install(|| program.check(&expected, held, compiled, &how))
                };
                check(&|_| false, "none")?;
                check(&|_| true, "all")?;
                check(&|k| k % 2 == 0, "every second")?;
            }
        }
    }
    on_every_instruction_set();
    Ok(())
}

/// The old value is read again after the new one was computed: by the same kernel, one in parallel,
/// or a later one.
#[test]
fn an_update_never_overwrites_a_value_still_needed() -> Result<()> {
    for n in [2, 7, 127, 128, 129, 200, 1_025, 100_003] {
        let start = numbers(&[n], 1.0);
        let (w, s) = (
            Param::new(start.cast(DType::F32)?),
            Param::new(start.cast(DType::F32)?),
        );
        let g = Graph::new();
        let v = g.param(&w);
        let twice = 2.0 * v;
        g.assign(&w, twice);
        g.assign(&s, twice - v);
        g.run(())?;
        assert!(same(&s.value(), &start), "{n}");
        assert!(
            same(&w.value(), &(Graph::new().constant(&start) * 2.0).value()?),
            "{n}"
        );
    }
    Ok(())
}

/// Updates are in place where possible: parameters that read each other need no extra buffers.
#[test]
fn updates_that_read_each_other_are_in_place() -> Result<()> {
    for n in [128, 200, 1_025] {
        let (a, b) = (
            Param::new(numbers(&[n], 1.0)),
            Param::new(numbers(&[n], 2.0)),
        );
        let g = Graph::new();
        let (va, vb) = (g.param(&a), g.param(&b));
        let loss = (va * vb - 1.0).square().sum();
        let [da, db] = g.grad(loss, &[va, vb]);
        g.assign(&a, va - 0.01 * da);
        g.assign(&b, vb - 0.01 * db);
        let explained = g.plan(loss)?.explain();
        assert!(
            explained.contains("2 parameters updated in place"),
            "{explained}"
        );
    }
    Ok(())
}

/// Threads that race to call a compiled step for the first time: each call is one step, and the
/// result equals that of the same number of steps in sequence.
#[test]
fn a_compiled_step_that_threads_race_for() -> Result<()> {
    const THREADS: usize = 4;
    for seed in 0..40 {
        let program = Program::new(seed, [7, 128, 1_025][seed as usize % 3], DType::F32);
        let expected = program.defined(3 * THREADS)?;
        program.reset()?;
        let function: Function<_, 1, 1> = autograd::compile(|[x]| [program.write(x.graph())]);
        let start = Barrier::new(THREADS);
        std::thread::scope(|scope| {
            let call = || {
                start.wait();
                (0..3).try_for_each(|_| function.call([0.0]).map(drop))
            };
            let all: Vec<_> = (0..THREADS).map(|_| scope.spawn(call)).collect();
            all.into_iter()
                .try_for_each(|thread| thread.join().expect("no panic"))
        })?;
        for (param, expected) in program.params.iter().zip(&expected[3 * THREADS - 1]) {
            assert!(same(&param.value(), expected), "program {seed}");
        }
    }
    Ok(())
}

/// A parameter that cannot be bound: the run fails, and no parameter changes.
#[test]
fn an_update_of_a_stale_parameter_is_an_error() -> Result<()> {
    for n in [1, 7, 200, 1_025] {
        let params: Vec<Param> = (0..3)
            .map(|k| Param::new(numbers(&[n + k], k as f64)))
            .collect();
        for stale in 1..3 {
            let g = Graph::new();
            let _first = g.param(&params[0]);
            params[stale].set(numbers(&[n + stale], 9.0))?;
            let before: Vec<Tensor> = params.iter().map(Param::value).collect();
            // the new value is cached, but the parameter is stale
            params
                .iter()
                .zip(&before)
                .for_each(|(p, old)| g.assign(p, g.constant(old) * 2.0));
            let e = g.run(()).expect_err("one cannot be bound");
            assert!(e.message().contains("changed since it was bound"), "{e}");
            assert!(
                params
                    .iter()
                    .zip(&before)
                    .all(|(p, old)| same(&p.value(), old)),
                "nothing changed"
            );
            // also alone: an update that was dropped must not count as applied
            let g = Graph::new();
            let _first = g.param(&params[0]);
            params[stale].set(&before[stale])?;
            g.assign(&params[stale], g.constant(&before[stale]) * 2.0);
            assert!(
                g.run(()).is_err() && same(&params[stale].value(), &before[stale]),
                "{n}"
            );
        }
    }
    Ok(())
}

/// A compiled step reads parameters at each call: a change during tracing is no error.
#[test]
fn a_parameter_that_changes_while_a_step_is_compiled() -> Result<()> {
    let params: Vec<Param> = (0..3)
        .map(|k| Param::new(numbers(&[200 + k], k as f64)))
        .collect();
    let step = autograd::compile(|[rate]| {
        let g = rate.graph();
        for param in &params {
            let w = g.param(param);
            g.assign(param, w - rate * w);
            params[2]
                .set(
                    params[2]
                        .value()
                        .cast(DType::F64)
                        .and_then(|t| t.cast(DType::F32))
                        .expect("floats"),
                )
                .expect("fits");
        }
        []
    });
    let before: Vec<Tensor> = params.iter().map(Param::value).collect();
    let []: [Tensor; 0] = step.call([0.5f32])?;
    for (param, before) in params.iter().zip(&before) {
        assert!(same(
            &param.value(),
            &(Graph::new().constant(before) * 0.5).value()?
        ));
    }
    Ok(())
}

/// With many parameters, the cost of each does not depend on their number.
#[test]
fn thousands_of_parameters() -> Result<()> {
    let params: Vec<Param> = (0..8_000)
        .map(|k| Param::new(numbers(&[2 + k % 5], k as f64)))
        .collect();
    for _ in 0..3 {
        let g = Graph::new();
        let weights: Vec<Var<'_>> = params.iter().map(|p| g.param(p)).collect();
        for (param, w) in params.iter().zip(&weights) {
            g.assign(param, 0.5 * *w);
        }
        g.run(())?;
    }
    for (k, param) in params.iter().enumerate() {
        let expected = numbers(&[2 + k % 5], k as f64)
            .to_f64s()
            .into_iter()
            .map(|v| v * 0.125)
            .collect::<Vec<_>>();
        assert_eq!(param.value().to_f64s(), expected);
    }
    Ok(())
}
