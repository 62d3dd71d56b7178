//! Plans: what is fused, what is counted, what must not be confused; compiled functions and
//! profiles.

use autograd::{DType, Function, Graph, KernelInfo, Param, Result, Tensor, Var, compile};

fn numbers(shape: &[usize], seed: f64) -> Tensor {
    let count: usize = shape.iter().product();
    let all = (0..count)
        .map(|k| ((seed + 1.7 * k as f64).sin() * 1.3) as f32)
        .collect();
    Tensor::new(shape, all).expect("small")
}

/// An MLP's loss, written by hand.
fn loss<'g>(g: &'g Graph, weights: &[Param; 4], batch: usize) -> Var<'g> {
    let [w1, b1, w2, b2] = weights.each_ref().map(|p| g.param(p));
    let x = g.constant(numbers(&[batch, 20], 0.1));
    let labels: Vec<i64> = (0..batch as i64).map(|k| k % 5).collect();
    let y = (x.matmul(w1) + b1).relu().matmul(w2) + b2;
    y.cross_entropy(g.constant(labels)).mean()
}

fn weights() -> [Param; 4] {
    [[20, 16].as_slice(), &[16], &[16, 5], &[5]]
        .map(|shape| Param::new(numbers(shape, shape[0] as f64)))
}

fn step(g: &Graph, weights: &[Param; 4], loss: Var<'_>) {
    let vars = weights.each_ref().map(|p| g.param(p));
    for ((p, w), d) in weights.iter().zip(vars).zip(g.grad(loss, &vars)) {
        g.assign(p, w - 0.1 * d);
    }
}

#[test]
fn value_and_gradient_of_elementwise_work_are_one_kernel() -> Result<()> {
    let g = Graph::new();
    let x = g.input(numbers(&[100, 100], 0.3));
    let f = (x.tanh() * x + (-x).exp()).sigmoid().sum();
    let plan = g.plan((f, g.grads(f, &[x])))?;
    let kinds: Vec<&str> = plan.kernels().iter().map(|k| k.kind).collect();
    assert_eq!((kinds, plan.arena_bytes()), (vec!["fused"], 0));
    assert_eq!(plan.flops(), 18 * 10_000);
    Ok(())
}

#[test]
fn the_kernels_of_a_training_step_are_counted() -> Result<()> {
    let (g, weights) = (Graph::new(), weights());
    let loss = loss(&g, &weights, 32);
    step(&g, &weights, loss);
    let plan = g.plan(loss)?;
    let count = |kind: &str| plan.kernels().iter().filter(|k| k.kind == kind).count();
    // the one-hot labels
    assert_eq!((count("product"), count("op")), (0, 1), "{plan}");
    // product, bias and relu (with its mask); product, bias, losses, their gradient and that of the
    // bias; the losses' sum; product, the mask's application and the other bias; updates
    assert_eq!((count("fused"), count("scalar")), (4 + 4, 1), "{plan}");
    let with_product = |k: &&KernelInfo| k.ops.iter().any(|op| op.0 == "matmul");
    assert_eq!(
        plan.kernels().iter().filter(with_product).count(),
        5,
        "two forward, three backward: {plan}"
    );
    // the gradients of the weights are computed where they are subtracted, and are never in memory
    let late: Vec<&KernelInfo> = plan.kernels().iter().filter(|k| k.commit).collect();
    assert_eq!(
        (late.len(), late.iter().filter(|k| with_product(k)).count()),
        (4, 2),
        "{plan}"
    );
    // three values of [32, 16] wait at once, and some small ones
    assert!(plan.arena_bytes() <= 3 * 32 * 16 * 4 + 1024, "{plan}");
    Ok(())
}

#[test]
fn duplicates_and_dead_nodes_are_left_out_and_literals_are_not_looked_at() -> Result<()> {
    let g = Graph::new();
    let x = g.input(numbers(&[50], 0.2));
    let (a, b) = ((x * 2.0f32).exp(), (x * 2.0f32).exp());
    let _dead = a.sin();
    // equal literals are different inputs: only their values are equal
    assert_eq!(g.plan((a + b).sum())?.flops(), 2 * 50 * 2 + 50 + 50);
    let two = g.constant(2.0f32);
    let (a, b) = ((x * two).exp(), (x * two).exp());
    assert_eq!(g.plan((a + b).sum())?.flops(), 50 * 2 + 50 + 50);
    Ok(())
}

#[test]
fn a_late_failure_leaves_all_parameters_as_they_were() -> Result<()> {
    let weights = weights();
    let before = weights.each_ref().map(Param::value);
    let g = Graph::new();
    let sum = loss(&g, &weights, 8);
    step(&g, &weights, sum);
    // the youngest node of the graph fails, when all updates could have been done
    let label = g.constant(g.param(&weights[3]).value()?.to_f64s().len() as i64);
    let late = g.param(&weights[3]).cross_entropy(label);
    let error = g.run((sum, late)).map(drop).unwrap_err();
    assert_eq!(error.op(), "cross_entropy");
    for (p, before) in weights.iter().zip(&before) {
        assert_eq!(p.value(), *before);
    }
    Ok(())
}

/// Functions of rows and what is done with their results, as far as rows fit in a block, are one
/// kernel.
#[test]
fn functions_of_rows_are_fused() -> Result<()> {
    for (rows, n) in [
        (1, 2),
        (70, 1),
        (3, 7),
        (64, 10),
        (5, 33),
        (9, 500),
        (2, 1023),
        (3, 1024),
        (2, 1025),
        (1, 3000),
    ] {
        let g = Graph::new();
        let mut data = numbers(&[rows, n], 0.4).to_f64s();
        for (k, special) in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY]
            .into_iter()
            .enumerate()
        {
            data[(k * 7919 + rows) % (rows * n)] = special;
        }
        let special = g.input(Tensor::new([rows, n], data)?);
        for x in [
            g.input(numbers(&[rows, n], 0.3)),
            special,
            special.cast(DType::F32),
        ] {
            let x = x * 1.5;
            let labels = g.constant(Tensor::new(
                [rows],
                (0..rows).map(|k| (k * 5 % n) as i64).collect::<Vec<_>>(),
            )?);
            let softmax = (x * 2.0).softmax(-1);
            let centred = x - x.square().sum_axis_keep(-1);
            let all = [
                softmax,
                softmax * (x - (x * softmax).sum_axis_keep(-1)),
                (x + 1.0).log_softmax(-1).exp(),
                centred / centred.square().sum_axis_keep(-1).sqrt(),
                x.cos() - x.logsumexp(-1).reshape([rows, 1]),
                (x.cross_entropy(labels).reshape([rows, 1]) * x).sum_axis(0),
            ];
            let plan = g.plan(all)?;
            if n > 1 && n <= 1024 {
                // a cast, and all else
                assert!(plan.kernels().len() <= 2, "{rows} rows of {n}: {plan}");
            }
            for (got, expected) in g.run(all)?.iter().zip(&g.reference(&all)?) {
                let same =
                    |(a, b): (&f64, &f64)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
                assert!(
                    got.to_f64s().iter().zip(&expected.to_f64s()).all(same),
                    "{rows} rows of {n}: {got} {expected}"
                );
            }
        }
        let bad = g.constant(Tensor::new([rows], vec![n as i64; rows])?);
        let error = g
            .input(numbers(&[rows, n], 0.3))
            .exp()
            .cross_entropy(bad)
            .sum()
            .value()
            .unwrap_err();
        assert!(error.to_string().contains(&format!("label {n}")), "{error}");
    }
    Ok(())
}

/// Values of many sizes, read soon and late and several times, by kernels of all kinds: a place
/// that is given away too early would show.
#[test]
fn no_place_is_given_away_while_it_is_needed() -> Result<()> {
    for (seed, products) in (0..80u32).map(|seed| (seed, seed >= 40)) {
        let g = Graph::new();
        let mut state = seed;
        let mut next = |n: usize| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 12) as usize % n
        };
        let mut values: Vec<Var<'_>> = (1..5)
            .map(|k| g.input(numbers(&[4, 3 * k], k as f64)))
            .collect();
        for _ in 0..150 {
            let x = values[next(values.len())];
            let y = match next(9) {
                0 => x.softmax(-1),
                1 => x.t().reshape([4, -1]),
                2 => x.slice_step(1, .., -1) * 0.5f32,
                3 => g.concat(&[x.sum_axis_keep(-1), x], 1).slice(1, 1..),
                4 => x.tanh() - x.sum_axis_keep(0),
                5 if products => x.matmul(x.t()).matmul(x) * 0.1f32,
                5 => x.t().softmax(0).t(),
                6 => x.max_axis_keep(-1) - x.exp().ln_or(x),
                7 => x.take(g.constant([3i64, 1, 0, 2]), 0),
                _ => x.log_softmax(0).square().sqrt(),
            };
            values.push(y);
        }
        let kept: Vec<Var<'_>> = values
            .iter()
            .copied()
            .filter(|_| next(12) == 0)
            .chain(values.last().copied())
            .collect();
        let expected = g.reference(&kept)?;
        for (got, expected) in g.run(kept)?.iter().zip(&expected) {
            let (a, b) = (got.to_f64s(), expected.to_f64s());
            if !products {
                assert!(
                    a.iter()
                        .zip(&b)
                        .all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan())
                );
            }
            // products may differ in the last digits, which later steps make a little larger
            assert!(
                a.iter()
                    .zip(&b)
                    .all(|(a, b)| (a - b).abs() <= 1e-2 * b.abs().max(1.0)
                        || a.is_nan() && b.is_nan())
            );
        }
    }
    Ok(())
}

/// Keeps numbers in a range where they can be compared.
trait LnOr<'g> {
    fn ln_or(self, other: Var<'g>) -> Var<'g>;
}

impl<'g> LnOr<'g> for Var<'g> {
    fn ln_or(self, other: Var<'g>) -> Var<'g> {
        self.gt(0.0f32)
            .select(self.clamp(0.1f32, 10.0f32).ln(), other)
    }
}

#[test]
fn sums_over_all_kinds_of_lines_are_fused_in_the_canonical_order() -> Result<()> {
    for shape in [
        &[5000][..],
        &[3, 2500],
        &[70, 33],
        &[1500, 3],
        &[2, 40, 70],
        &[4, 1100],
        &[1025],
        &[2, 1030, 3],
        &[33, 1, 5],
    ] {
        for first in 0..shape.len() {
            for last in first..shape.len() {
                let g = Graph::new();
                let x = g.input(numbers(shape, 0.7));
                let axes: Vec<isize> = (first as isize..=last as isize).collect();
                let y = x.sin() * 1e3f32;
                let (a, b, c) = (y.sum_axis(axes.clone()), x.sum_axis_keep(axes), y.sum());
                let expected = g.reference(&[a, b, c])?;
                let (a, b, c) = g.run((a, b, c))?;
                assert_eq!(
                    [a, b, c].as_slice(),
                    expected,
                    "{shape:?} over {first}..={last}"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn masks_cross_kernels_as_truth_values() -> Result<()> {
    let g = Graph::new();
    let (x, row) = (g.input(numbers(&[30, 7], 0.4)), g.input(numbers(&[7], 0.9)));
    let mask = x.gt(row);
    let both = (
        mask,
        mask.cast(DType::F32) * x,
        mask.select(x, row.unsqueeze(0)),
        row.lt(0.0f32).select(x, 1.0f32),
    );
    let expected = g.reference(&[both.0, both.1, both.2, both.3])?;
    let (a, b, c, d) = g.run(both)?;
    assert_eq!([a, b, c, d].as_slice(), expected);
    Ok(())
}

#[test]
fn compiled_functions_are_shared_between_threads_and_traced_by_type() -> Result<()> {
    let f = compile(|[x, y]| {
        let z = (x * y).sin().sum();
        let [dx, dy] = x.graph().grad(z, &[x, y]);
        [z, dx, dy]
    });
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&f);
    let by_hand = |x: f64, y: f64| [(x * y).sin(), y * (x * y).cos(), x * (x * y).cos()];
    std::thread::scope(|scope| {
        for k in 0..4 {
            let f = &f;
            scope.spawn(move || {
                for i in 0..50 {
                    let (x, y) = (0.1 * f64::from(k), 0.03 * f64::from(i));
                    let got = f
                        .call([x, y])
                        .expect("runs")
                        .map(|t| t.scalar().expect("a number"));
                    assert!(
                        got.iter()
                            .zip(by_hand(x, y))
                            .all(|(a, b)| (a - b).abs() < 1e-15)
                    );
                }
            });
        }
    });
    let [z, dx, _] = f.call([numbers(&[3], 0.1), numbers(&[2, 1], 0.2)])?;
    assert_eq!(
        (z.shape(), dx.shape(), dx.dtype()),
        (&[][..], &[3][..], DType::F32)
    );
    assert!(f.call([numbers(&[3], 0.1), numbers(&[2], 0.2)]).is_err());
    assert_eq!(f.plan([1.0, 2.0])?.kernels().len(), 1);
    Ok(())
}

#[test]
fn a_compiled_step_trains() -> Result<()> {
    let weights = weights();
    let by_hand = weights.each_ref().map(|p| Param::new(p.value()));
    let step_of = |weights: &[Param; 4]| {
        let weights = weights.clone();
        compile(move |[rate]| {
            let g = rate.graph();
            let loss = loss(g, &weights, 16);
            let vars = weights.each_ref().map(|p| g.param(p));
            for ((p, w), d) in weights.iter().zip(vars).zip(g.grad(loss, &vars)) {
                g.assign(p, w - rate * d);
            }
            [loss]
        })
    };
    let compiled: Function<_, 1, 1> = step_of(&weights);
    for k in 0..5 {
        let rate = 0.1 + 0.05 * k as f32;
        let [a] = compiled.call([rate])?;
        let g = Graph::new();
        let sum = loss(&g, &by_hand, 16);
        let vars = by_hand.each_ref().map(|p| g.param(p));
        for ((p, w), d) in by_hand.iter().zip(vars).zip(g.grad(sum, &vars)) {
            g.assign(p, w - d * rate);
        }
        assert_eq!(a, g.run(sum)?);
    }
    assert!(
        weights
            .iter()
            .zip(&by_hand)
            .all(|(a, b)| a.value() == b.value())
    );
    Ok(())
}

#[test]
fn errors_and_panics_of_compiled_closures_are_returned() {
    let wrong = compile(|[x]| [x.matmul(x)]);
    assert_eq!(
        wrong
            .call([numbers(&[2, 3], 0.1)])
            .map(drop)
            .unwrap_err()
            .op(),
        "matmul"
    );
    let panics = compile(|[x]: [Var<'_>; 1]| {
        if x.dims() == Some([2]) {
            panic!("no")
        } else {
            [x]
        }
    });
    assert!(
        panics
            .call([numbers(&[2], 0.1)])
            .map(drop)
            .unwrap_err()
            .to_string()
            .contains("no")
    );
    assert!(panics.call([numbers(&[3], 0.1)]).is_ok());
}

#[test]
fn a_profile_adds_up() -> Result<()> {
    let (g, weights) = (Graph::new(), weights());
    let sum = g.within("model", || loss(&g, &weights, 32));
    step(&g, &weights, sum);
    let plan = g.plan(sum)?;
    let before = weights[0].value();
    let (_, profile) = g.profile(sum)?;
    assert_ne!(weights[0].value(), before, "a profile is a run");
    assert_eq!(profile.kernels.len(), plan.kernels().len());
    for rows in [&profile.ops, &profile.scopes, &profile.lines] {
        let total: f64 = rows.iter().map(|r| r.time.as_secs_f64()).sum();
        assert!((total - profile.total().as_secs_f64()).abs() < 1e-6);
    }
    assert!(
        profile
            .ops
            .iter()
            .any(|r| r.name == "matmul" && r.estimated)
    );
    assert!(
        profile
            .ops
            .iter()
            .any(|r| r.name == "one_hot" && !r.estimated)
    );
    assert!(
        profile
            .scopes
            .iter()
            .any(|r| r.name == "model" && r.estimated)
    );
    assert!(profile.to_string().contains("plans.rs"));
    Ok(())
}

/// A rate that passes through 1, other data, another seed: the same structure. Another shape:
/// another one.
#[test]
fn every_batch_size_is_right_whatever_was_planned_before() -> Result<()> {
    let weights = weights();
    for batch in [1, 2, 7, 32, 7, 1, 64, 2] {
        let g = Graph::new();
        let sum = loss(&g, &weights, batch);
        let vars = weights.each_ref().map(|p| g.param(p));
        let mut wanted = vec![sum];
        wanted.extend(g.grad(sum, &vars));
        let expected = g.reference(&wanted)?;
        for (a, b) in g.run(wanted)?.iter().zip(&expected) {
            assert!(
                a.to_f64s()
                    .iter()
                    .zip(b.to_f64s())
                    .all(|(a, b)| (a - b).abs() < 1e-5)
            );
        }
    }
    Ok(())
}

/// The chapter about the engine shows listings of two programs: they are what the planner makes of
/// them.
#[test]
fn the_chapter_about_the_engine_tells_the_truth() -> Result<()> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/book/the_engine.md");
    let chapter = std::fs::read_to_string(path).expect("the chapter");
    let shown = |stages: String| {
        let starts = |line: &str| !line.starts_with(' ');
        let lines: Vec<&str> = stages.lines().collect();
        for section in lines.chunk_by(|_, next| !starts(next)) {
            let text = section.join("\n");
            let is_shown =
                chapter.contains(&text) || section[0] == "groups" || section[0] == "stages";
            assert!(is_shown, "the chapter does not show\n{text}");
        }
        stages
    };
    let g = Graph::new();
    let x = g.input([0.5, 1.0, 2.0]);
    let y = 1.0 / (1.0 + (-x).exp());
    let [d] = g.grad(y.sum(), &[x]);
    shown(g.plan_passes((y, d))?);

    let weight = Param::new(Tensor::full([3, 2], 0.01f32)?);
    let bias = Param::new(Tensor::full([2], 0f32)?);
    let g = Graph::new();
    let x = g.constant(Tensor::full([4, 3], 0.5f32)?);
    let (w, b) = (g.param(&weight), g.param(&bias));
    let loss = (x.matmul(w) + b).relu().sum();
    let [dw, db] = g.grad(loss, &[w, b]);
    g.assign(&weight, w - 0.1 * dw);
    g.assign(&bias, b - 0.1 * db);
    let stages = shown(g.plan_passes(loss)?);
    let groups = stages.find("groups").zip(stages.find("kernels"));
    let (start, end) = groups.expect("both sections");
    assert!(chapter.contains(&stages[start..end]), "{stages}");
    Ok(())
}

/// The planner checks each of its stages in debug builds. Plans that are broken on purpose show
/// that the checks would notice.
#[cfg(debug_assertions)]
#[test]
fn broken_plans_are_noticed() -> Result<()> {
    let tried = |g: &Graph, wanted: Vec<Var<'_>>| {
        let (count, undetected) = g.undetected_plan_faults(wanted).expect("no errors");
        assert!(undetected.is_empty(), "{undetected:?}");
        count
    };
    let g = Graph::new();
    let x = g.input(numbers(&[40, 50], 0.2));
    let y = ((x.exp() + 1.0).ln() * x).sum_axis(0);
    let z = (y.cumsum(0) - y).softmax(0) + x.sin().sum_axis(0);
    let a = tried(&g, [vec![y, z], g.grads(z.sum(), &[x])].concat());

    let (g, weights) = (Graph::new(), weights());
    let loss = loss(&g, &weights, 32);
    step(&g, &weights, loss);
    let b = tried(&g, vec![loss]);

    // two parameters that are updated by each other: not both can be in place
    let [p, q] = [1.0, 2.0].map(|seed| Param::new(numbers(&[30, 30], seed)));
    let g = Graph::new();
    let (v, w) = (g.param(&p), g.param(&q));
    g.assign(&p, v + w.matmul(v));
    g.assign(&q, w * v);
    let c = tried(&g, vec![v.sum()]);
    // each of the three can be broken in most ways, and all of them together in all
    assert!(a >= 12 && b >= 12 && c >= 8, "{a} {b} {c}");
    Ok(())
}
