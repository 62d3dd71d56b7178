//! Random programs: the executor against the definition, gradients against finite differences, f32
//! against f64, and results with and without requests for intermediate values.

mod common;

use autograd::{CheckGrads, DType, Graph, Tensor, Var};
use proptest::{prelude::*, test_runner::RngSeed};

/// A program: sizes, dtype, and instructions, which are taken modulo the number of choices.
#[derive(Clone, Debug)]
struct Program {
    rows: usize,
    columns: usize,
    steps: Vec<(u8, u8, u8)>,
}

fn programs(smallest: usize) -> impl Strategy<Value = Program> {
    let steps = prop::collection::vec(any::<(u8, u8, u8)>(), 1..25);
    (smallest..5, smallest..5, steps).prop_map(|(rows, columns, steps)| Program {
        rows,
        columns,
        steps,
    })
}

impl Program {
    /// The leaves: a matrix, a row, a column and a scalar.
    fn leaves(&self, dtype: DType) -> Vec<Tensor> {
        let (m, n) = (self.rows, self.columns);
        let fill = |shape: &[usize], seed: f64| {
            let count: usize = shape.iter().product();
            let numbers = (0..count)
                .map(|k| (seed + 1.7 * k as f64).sin() * 1.3)
                .collect();
            Tensor::new(shape, numbers)
                .and_then(|t| t.cast(dtype))
                .expect("small")
        };
        vec![
            fill(&[m, n], 0.3),
            fill(&[n], 1.1),
            fill(&[m, 1], 2.3),
            fill(&[], 0.9),
        ]
    }

    /// Appends the program. Returns all values. `smooth` leaves out ops with kinks.
    fn build<'g>(&self, leaves: &[Var<'g>], smooth: bool) -> Vec<Var<'g>> {
        let mut values = leaves.to_vec();
        for &(op, a, b) in &self.steps {
            let (x, y) = (
                values[a as usize % values.len()],
                values[b as usize % values.len()],
            );
            let z = if smooth {
                Self::smooth(op, x, y)
            } else {
                Self::any(op, x, y)
            };
            // operands that do not fit are skipped: other tests check these errors
            if z.error().is_none()
                && z.dtype().is_ok_and(DType::is_float)
                && z.shape().is_ok_and(|s| s.count() < 500)
            {
                values.push(z);
            }
        }
        values.split_off(leaves.len().min(values.len() - 1))
    }

    /// The last value of the smooth program, scaled so that no element is large.
    fn bounded<'g>(&self, leaves: &[Var<'g>]) -> Var<'g> {
        self.build(leaves, true)
            .last()
            .copied()
            .unwrap_or(leaves[0])
            .tanh()
    }

    fn smooth<'g>(op: u8, x: Var<'g>, y: Var<'g>) -> Var<'g> {
        match op % 30 {
            0 => x + y,
            1 => x - y,
            2 => x * y,
            3 => x / (y.square() + 1.0),
            4 => x.sin(),
            5 => x.tanh() * 2.0,
            6 => x.sigmoid() - y,
            7 => (x * 0.3).exp().tanh(),
            8 => x.softplus().sqrt(),
            9 => x.sum_axis(0),
            10 => x.mean_axis_keep(-1),
            11 => x.matmul(y.t()).tanh(),
            12 => x.t(),
            13 => x.log_softmax(-1) * 0.1,
            14 => x.slice_step(0, .., -2),
            15 => x.gelu() * y,
            16 => x.graph().concat(&[x, y], 0),
            17 => x.logsumexp(0),
            18 => x.broadcast_to([2, 3, 4]),
            19 => x.silu() - y.atan(),
            20 => x.hypot(y + 2.0).log_sigmoid(),
            21 => x.cumsum(-1) * 0.3,
            22 => x.flip(0).gelu_tanh(),
            23 => x.pad(-1, 1, 0, 0.5),
            24 => (x * 0.4).sinh() * (y * 0.3).cosh(),
            25 => x
                .graph()
                .checkpoint(|| (x.sin() * y).tanh() + x.matmul(y.t()).sum_axis_keep(-1) * 0.1),
            26 => x.repeat(2, 0),
            27 => (x.tanh() * 0.8).asin() + (x * 0.5).erf() * y.sin(),
            28 => (x.tanh() * 0.3 + 1.0).prod_axis(0),
            _ => (x.square() + 0.5).pow(y.tanh()),
        }
    }

    fn any<'g>(op: u8, x: Var<'g>, y: Var<'g>) -> Var<'g> {
        match op % 46 {
            20 => x.relu(),
            21 => x.maximum(y),
            22 => x.abs().sqrt(),
            23 => x.gt(y).select(x, y * 2.0),
            24 => x.max_axis(-1),
            25 => x.min_axis_keep(0),
            26 => x.ln(),
            27 => x / y,
            28 => x.take(x.argmax(0), 0),
            29 => x.clamp(-0.5, y),
            30 => x.var(0) + x,
            31 => x.softmax(0),
            32 => x.reshape(-1),
            33 => x.detach() * x,
            34 => x.cast(DType::F64).cast(x.dtype().unwrap_or(DType::F64)),
            35 => x.unsqueeze(1) - y,
            36 => x.floor() + y.round(),
            37 => x % (y.abs() + 0.5),
            38 => x.sort(0),
            39 => x.topk(1, -1).0,
            40 => x.norm() * y,
            41 => x.elu(y).tan(),
            42 => x.atan2(y).acos(),
            43 => x.is_finite().select(x.rsqrt(), y.erfc()),
            44 => x.tril(0) - x.std_axis(0, 0),
            45 => x.diagonal().cumsum(0),
            _ => Self::smooth(op, x, y),
        }
    }
}

/// The same programs in every run, so that the test is deterministic. Other and more programs with
/// `PROPTEST_RNG_SEED` and `PROPTEST_CASES`.
fn same_programs() -> ProptestConfig {
    let mut config = ProptestConfig::default();
    if std::env::var("PROPTEST_CASES").is_err() {
        config.cases = 1500;
    }
    if config.rng_seed == RngSeed::Random {
        config.rng_seed = RngSeed::Fixed(2026);
    }
    config
}

/// Equal bits; all NaN are equal.
fn same_bits(a: &Tensor, b: &Tensor) -> bool {
    let bits = |t: &Tensor| {
        t.to_f64s()
            .iter()
            .map(|v| if v.is_nan() { u64::MAX } else { v.to_bits() })
            .collect::<Vec<_>>()
    };
    a.shape() == b.shape() && a.dtype() == b.dtype() && bits(a) == bits(b)
}

fn close(a: &Tensor, b: &Tensor, tolerance: f64) -> bool {
    let equal = |(a, b): (&f64, &f64)| {
        (a - b).abs() <= tolerance * b.abs().max(1.0) || (a.is_nan() && b.is_nan()) || a == b
    };
    a.shape() == b.shape() && a.to_f64s().iter().zip(&b.to_f64s()).all(equal)
}

proptest! {
    #![proptest_config(same_programs())]

    /// Values and gradients, in both dtypes, also for empty tensors, have equal bits. Only matrix
    /// products without fused multiply-adds use another kernel and may differ in the last digits.
    #[test]
    fn the_executor_agrees_with_the_definition(program in programs(0), single in any::<bool>()) {
        let dtype = if single { DType::F32 } else { DType::F64 };
        let g = Graph::new();
        let leaves: Vec<Var<'_>> = program.leaves(dtype).iter().map(|t| g.input(t)).collect();
        let mut wanted = program.build(&leaves, false);
        let last = *wanted.last().expect("at least one");
        wanted.extend(g.grads(last.sum(), &leaves));
        let expected = g.reference(&wanted).expect("no errors");
        let product = g.to_text_range(0..g.len()).contains("= matmul") && !common::exact_products();
        let cold = g.run(wanted).expect("no errors");
        // once more in a new graph, whose plan is now cached
        let h = Graph::new();
        let leaves: Vec<Var<'_>> = program.leaves(dtype).iter().map(|t| h.input(t)).collect();
        let mut wanted = program.build(&leaves, false);
        let last = *wanted.last().expect("at least one");
        wanted.extend(h.grads(last.sum(), &leaves));
        let warm = h.run(wanted).expect("no errors");
        prop_assert!(cold.iter().zip(&warm).all(|(a, b)| same_bits(a, b)));
        for (got, expected) in cold.iter().zip(&expected) {
            let equal = if product { close(got, expected, if single { 1e-3 } else { 1e-9 }) } else { same_bits(got, expected) };
            prop_assert!(equal || product && !finite(expected), "{got:?}\n{expected:?}\n{}", g.to_text_range(0..g.len()));
        }
    }

    /// Requesting intermediate values changes no bit of later results.
    #[test]
    fn requesting_values_changes_nothing(program in programs(0), request in any::<u32>()) {
        let run = |request: u32| {
            let g = Graph::new();
            let leaves: Vec<Var<'_>> = program.leaves(DType::F32).iter().map(|t| g.input(t)).collect();
            let values = program.build(&leaves, false);
            for (k, v) in values.iter().enumerate() {
                if request >> (k % 32) & 1 == 1 {
                    v.value().expect("no errors");
                }
            }
            let last = *values.last().expect("at least one");
            let d = g.grads(last.sum(), &leaves);
            g.run((last, d)).expect("no errors")
        };
        let ((a, da), (b, db)) = (run(0), run(request));
        prop_assert!(same_bits(&a, &b));
        prop_assert!(da.iter().zip(&db).all(|(a, b)| same_bits(a, b)));
    }

    /// The gradient of a smooth program agrees with finite differences, and f32 with f64.
    #[test]
    fn gradients_agree_with_differences(program in programs(1)) {
        let check = |step| {
            let check = CheckGrads::new().order(1).directions(2).tolerance(1e-5).step(step);
            check.run(|x| program.bounded(x), &program.leaves(DType::F64))
        };
        // a few programs have so much curvature that the differences need a smaller step
        check(1e-3).or_else(|_| check(1e-5)).map_err(|e| TestCaseError::fail(e.to_string()))?;
        let value = |dtype| {
            let g = Graph::new();
            let leaves: Vec<Var<'_>> = program.leaves(dtype).iter().map(|t| g.input(t)).collect();
            let last = program.bounded(&leaves);
            let d = g.grads(last.sum(), &leaves);
            g.run((last, d)).expect("no errors")
        };
        let ((single, d32), (double, d64)) = (value(DType::F32), value(DType::F64));
        prop_assert!(close(&single, &double, 1e-2), "{single:?}\n{double:?}");
        let scale = |t: &Tensor| t.to_f64s().iter().fold(1.0, |m: f64, v| m.max(v.abs()));
        prop_assert!(d32.iter().zip(&d64).all(|(a, b)| close(a, b, 2e-2 * scale(b))), "{d32:?}\n{d64:?}");
    }
}

/// All tests of this file again, with the kernels of every other instruction set. Each agrees with
/// the definition bit by bit, so all agree with each other.
#[test]
fn every_instruction_set_gives_the_same_bits() {
    common::on_every_instruction_set();
}

fn finite(t: &Tensor) -> bool {
    t.to_f64s().iter().all(|v| v.is_finite() && v.abs() < 1e30)
}
