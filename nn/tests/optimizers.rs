//! Optimizers step by step against their formulas, computed with plain f64 numbers; wrappers of
//! optimizers; learning-rate schedules.

use autograd::{Graph, Param, Result, Tensor};
use nn::{Adam, AdamW, Optimizer, ParamGroups, RmsProp, Sgd, schedule, schedule::Context};

/// The gradient of the test loss `Σ (k + 1)·w⁴/4 - w`.
fn gradient(w: &[f64]) -> Vec<f64> {
    w.iter()
        .enumerate()
        .map(|(k, w)| (k + 1) as f64 * w.powi(3) - 1.0)
        .collect()
}

/// One optimizer step with the test loss.
fn step(optimizer: &impl Optimizer, w: &Param, lr_scale: f64) -> Result<()> {
    let g = Graph::new();
    let v = g.param(w);
    let loss = (v.powi(4) * g.constant([0.25, 0.5, 0.75]) - v).sum();
    optimizer.update(nn::gradients(loss), lr_scale);
    g.run(loss).map(drop)
}

/// Compares twenty steps of an optimizer with a formula. The formula updates the weights; its other
/// arguments are gradient, step number and learning-rate factor.
fn assert_follows(
    optimizer: impl Optimizer,
    mut formula: impl FnMut(&mut [f64], &[f64], i32, f64),
) -> Result<()> {
    let mut expected = vec![0.5, -1.5, 2.0];
    let w = Param::new(expected.clone());
    for t in 1..=20 {
        let lr_scale = 1.0 / f64::from(t).sqrt();
        step(&optimizer, &w, lr_scale)?;
        let d = gradient(&expected);
        formula(&mut expected, &d, t, lr_scale);
        for (a, b) in w.value().to_f64s().iter().zip(&expected) {
            assert!(
                (a - b).abs() < 1e-12 * b.abs().max(1.0),
                "step {t}: expected {b}, got {a}"
            );
        }
    }
    Ok(())
}

#[test]
fn sgd_follows_its_formula() -> Result<()> {
    assert_follows(Sgd::new(0.01), |w, d, _, s| {
        (0..3).for_each(|k| w[k] -= s * 0.01 * d[k])
    })?;
    let mut v = [0.0; 3];
    assert_follows(
        Sgd::new(0.01).momentum(0.9).weight_decay(0.1),
        move |w, d, _, s| {
            for k in 0..3 {
                v[k] = 0.9 * v[k] + d[k] + 0.1 * w[k];
                w[k] -= s * 0.01 * v[k];
            }
        },
    )?;
    let mut v = [0.0; 3];
    assert_follows(
        Sgd::new(0.01).momentum(0.8).nesterov(),
        move |w, d, _, s| {
            for k in 0..3 {
                v[k] = 0.8 * v[k] + d[k];
                w[k] -= s * 0.01 * (d[k] + 0.8 * v[k]);
            }
        },
    )
}

#[test]
fn adam_and_adamw_follow_their_formulas() -> Result<()> {
    for (decay, decoupled) in [(0.0, false), (0.1, false), (0.1, true)] {
        let optimizer = if decoupled {
            AdamW::new(0.05)
        } else {
            Adam::new(0.05)
        };
        let (mut m, mut v) = ([0.0; 3], [0.0; 3]);
        assert_follows(
            optimizer.weight_decay(decay).betas(0.8, 0.95).epsilon(1e-6),
            move |w, d, t, s| {
                for k in 0..3 {
                    let lr = s * 0.05;
                    let d = if decoupled { d[k] } else { d[k] + decay * w[k] };
                    if decoupled {
                        w[k] -= lr * decay * w[k];
                    }
                    m[k] = 0.8 * m[k] + 0.2 * d;
                    v[k] = 0.95 * v[k] + (1.0 - 0.95) * d * d;
                    let (mean, square) = (
                        m[k] / (1.0 - 0.8f64.powi(t)),
                        v[k] / (1.0 - 0.95f64.powi(t)),
                    );
                    w[k] -= lr * mean / (square.sqrt() + 1e-6);
                }
            },
        )?;
    }
    Ok(())
}

#[test]
fn rmsprop_follows_its_formula() -> Result<()> {
    for momentum in [0.0, 0.9] {
        let (mut v, mut b) = ([0.0; 3], [0.0; 3]);
        assert_follows(
            RmsProp::new(0.01)
                .alpha(0.9)
                .momentum(momentum)
                .weight_decay(0.2),
            move |w, d, _, s| {
                for k in 0..3 {
                    let d = d[k] + 0.2 * w[k];
                    v[k] = 0.9 * v[k] + (1.0 - 0.9) * d * d;
                    b[k] = momentum * b[k] + d / (v[k].sqrt() + 1e-8);
                    w[k] -= s * 0.01 * b[k];
                }
            },
        )?;
    }
    Ok(())
}

#[test]
fn clipping_applies_before_the_update() -> Result<()> {
    assert_follows(Sgd::new(0.1).clip_norm(1.5), |w, d, _, s| {
        let norm = d.iter().map(|d| d * d).sum::<f64>().sqrt();
        (0..3).for_each(|k| w[k] -= s * 0.1 * d[k] * (1.5 / norm).min(1.0));
    })?;
    assert_follows(Sgd::new(0.1).clip_value(0.7), |w, d, _, s| {
        (0..3).for_each(|k| w[k] -= s * 0.1 * d[k].clamp(-0.7, 0.7));
    })
}

#[test]
fn gradient_accumulation_uses_the_mean() -> Result<()> {
    let mut sum = [0.0; 3];
    assert_follows(Sgd::new(0.05).accumulate(4), move |w, d, t, s| {
        for k in 0..3 {
            sum[k] += d[k];
            if t % 4 == 0 {
                w[k] -= s * 0.05 * sum[k] / 4.0;
                sum[k] = 0.0;
            }
        }
    })
}

#[test]
fn ema_follows_the_weights() -> Result<()> {
    let (w, optimizer) = (Param::new([0.5, -1.5, 2.0]), Sgd::new(0.05).ema(0.9));
    let (mut weights, mut average) = (vec![0.5, -1.5, 2.0], vec![0.5, -1.5, 2.0]);
    for n in 0..200 {
        step(&optimizer, &w, 1.0)?;
        let (d, n) = (gradient(&weights), f64::from(n));
        let decay = f64::min(0.9, (1.0 + n) / (10.0 + n));
        for k in 0..3 {
            weights[k] -= 0.05 * d[k];
            average[k] = decay * average[k] + (1.0 - decay) * weights[k];
        }
    }
    let close = |a: &[f64], b: &[f64]| {
        assert!(
            a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-13),
            "{a:?} {b:?}"
        )
    };
    close(&w.value().to_f64s(), &weights);
    optimizer
        .copy_to(&[("w".into(), w.clone())])
        .expect("the same type");
    close(&w.value().to_f64s(), &average);
    Ok(())
}

#[test]
fn each_parameter_group_has_its_own_optimizer() -> Result<()> {
    let (a, b, c) = (Param::new(1.0), Param::new(1.0), Param::new(1.0));
    let named = |p: &Param| vec![("p".to_string(), p.clone())];
    let groups = ParamGroups::new(Sgd::new(0.1))
        .params(&named(&b), Sgd::new(0.01))
        .params(&named(&c), Sgd::new(0.0));
    let g = Graph::new();
    let loss = (g.param(&a) + g.param(&b) + g.param(&c)).square();
    groups.step(loss);
    g.run(loss)?;
    assert_eq!(
        [&a, &b, &c].map(|p| p.value().to_f64s()[0]),
        [1.0 - 0.1 * 6.0, 1.0 - 0.01 * 6.0, 1.0]
    );
    Ok(())
}

#[test]
fn invalid_settings_are_errors() {
    let invalid: [&dyn Optimizer; 7] = [
        &Sgd::new(-1.0),
        &Adam::new(0.1).betas(1.0, 0.9),
        &Adam::new(f64::NAN),
        &RmsProp::new(0.1).alpha(1.5),
        &Sgd::new(0.1).clip_norm(0.0),
        &Sgd::new(0.1).accumulate(0),
        &Sgd::new(0.1).ema(1.0),
    ];
    invalid.iter().for_each(|o| assert!(o.check().is_err()));
    assert!(
        Adam::new(0.1)
            .clip_value(1.0)
            .accumulate(2)
            .ema(0.99)
            .check()
            .is_ok()
    );
    assert!(
        ParamGroups::new(Sgd::new(0.1))
            .params(&[], Sgd::new(-0.1))
            .check()
            .is_err()
    );
}

#[test]
fn f32_weights_stay_f32() -> Result<()> {
    let w = Param::new([0.5f32, -1.5]);
    for optimizer in [
        &Adam::new(0.1) as &dyn Optimizer,
        &AdamW::new(0.1),
        &RmsProp::new(0.1),
        &Sgd::new(0.1),
    ] {
        let g = Graph::new();
        let loss = g.param(&w).square().sum();
        optimizer.step(loss);
        g.run(loss)?;
        assert!(w.value().as_slice::<f32>().is_ok());
    }
    Ok(())
}

/// Logistic regression in f64: Adam against Newton's method.
#[test]
fn adam_finds_the_optimum_of_a_logistic_regression() -> Result<()> {
    let n = 60;
    let inputs: Vec<f64> = (0..3 * n)
        .map(|k| {
            if k % 3 == 2 {
                1.0
            } else {
                (k as f64 * 1.7).sin()
            }
        })
        .collect();
    let labels: Vec<f64> = (0..n)
        .map(|k| f64::from(u8::from(inputs[3 * k] + 0.5 * (k as f64).cos() > 0.2)))
        .collect();
    let (x, y) = (Tensor::new([n, 3], inputs)?, Tensor::from(labels));
    fn objective<'g>(w: autograd::Var<'g>, x: &Tensor, y: &Tensor) -> autograd::Var<'g> {
        let g = w.graph();
        nn::loss::bce_with_logits(g.constant(x).matmul(w), g.constant(y)) + 0.05 * w.square().sum()
    }
    let mut newton = Tensor::from([0.0, 0.0, 0.0]);
    for _ in 0..20 {
        let g = Graph::new();
        let w = g.input(&newton);
        let f = objective(w, &x, &y);
        let (d, h) = g.run((g.grad(f, &[w])[0], g.hessian(f, w)))?;
        newton = solve3(&newton.to_f64s(), &h.to_f64s(), &d.to_f64s()).into();
    }
    let (w, adam) = (Param::new([0.0, 0.0, 0.0]), Adam::new(0.05));
    for k in 0..4000 {
        let g = Graph::new();
        let f = objective(g.param(&w), &x, &y);
        adam.update(nn::gradients(f), 0.997f64.powi(k));
        g.run(f)?;
    }
    for (a, b) in w.value().to_f64s().iter().zip(newton.to_f64s()) {
        assert!((a - b).abs() < 1e-6, "{a}, Newton's method gives {b}");
    }
    Ok(())
}

/// Linear regression in f64: Adam against the normal equations.
#[test]
fn adam_finds_the_least_squares_solution() -> Result<()> {
    let n = 40;
    let inputs: Vec<f64> = (0..3 * n)
        .map(|k| {
            if k % 3 == 2 {
                1.0
            } else {
                (k as f64 * 1.3).sin()
            }
        })
        .collect();
    let targets: Vec<f64> = (0..n)
        .map(|k| 2.0 * inputs[3 * k] - inputs[3 * k + 1] + 0.5 + 0.3 * (k as f64).cos())
        .collect();
    // `XᵀX·w = Xᵀy`, solved as one step of Newton's method from 0
    let (mut h, mut d) = ([0.0; 9], [0.0; 3]);
    for (row, y) in inputs.chunks(3).zip(&targets) {
        for (a, &left) in row.iter().enumerate() {
            d[a] -= left * y;
            row.iter()
                .enumerate()
                .for_each(|(b, right)| h[3 * a + b] += left * right);
        }
    }
    let exact = solve3(&[0.0; 3], &h, &d);
    let (x, y) = (Tensor::new([n, 3], inputs)?, Tensor::from(targets));
    let (w, adam) = (Param::new([0.0, 0.0, 0.0]), Adam::new(0.05));
    for k in 0..4000 {
        let g = Graph::new();
        let loss = nn::loss::mse(g.constant(&x).matmul(g.param(&w)), g.constant(&y));
        adam.update(nn::gradients(loss), 0.997f64.powi(k));
        g.run(loss)?;
    }
    for (a, b) in w.value().to_f64s().iter().zip(exact) {
        assert!((a - b).abs() < 1e-6, "{a}, the normal equations give {b}");
    }
    Ok(())
}

/// `w - H⁻¹·d` for three unknowns, by Cramer's rule.
fn solve3(w: &[f64], h: &[f64], d: &[f64]) -> Vec<f64> {
    let det = |m: &[f64]| {
        m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6])
            + m[2] * (m[3] * m[7] - m[4] * m[6])
    };
    let det_with_column = |column: usize| {
        let mut m = h.to_vec();
        (0..3).for_each(|row| m[3 * row + column] = d[row]);
        det(&m)
    };
    (0..3).map(|k| w[k] - det_with_column(k) / det(h)).collect()
}

#[test]
fn schedules() {
    let at = |step| Context {
        step,
        steps_per_epoch: 10,
        epochs: 4,
        history: &[],
        start: 0,
    };
    assert_eq!(
        (
            schedule::constant(&at(5)),
            schedule::linear(&at(10)),
            schedule::cosine(&at(0))
        ),
        (1.0, 0.75, 1.0)
    );
    assert!((schedule::cosine(&at(20)) - 0.5).abs() < 1e-15);
    let step = schedule::step(2, 0.1);
    assert_eq!(
        (step(&at(19)), step(&at(20)), step(&at(39))),
        (1.0, 0.1, 0.1)
    );
    let exponential = schedule::exponential(0.25);
    assert_eq!(
        (
            exponential(&at(0)),
            exponential(&at(5)),
            exponential(&at(20))
        ),
        (1.0, 0.5, 0.0625)
    );
    let warm = schedule::warm_up(1.0, schedule::product(schedule::linear, schedule::constant));
    assert_eq!(
        (warm(&at(0)), warm(&at(4)), warm(&at(9)), warm(&at(10))),
        (0.1, 0.5, 1.0, 1.0)
    );
    assert!(warm(&at(39)) < 0.05 && warm(&at(25)) < warm(&at(24)));
    // evenly, also in short trainings; and what counts epochs counts those of the warm-up
    let steps: Vec<f64> = (10..40)
        .map(|step| warm(&at(step)) - warm(&at(step + 1)))
        .collect();
    assert!(
        steps.iter().all(|step| (step - 1.0 / 30.0).abs() < 1e-12),
        "{steps:?}"
    );
    let stepped = schedule::warm_up(1.0, schedule::step(2, 0.1));
    assert_eq!(
        [10, 19, 20, 39].map(|step| stepped(&at(step))),
        [1.0, 1.0, 0.1, 0.1]
    );
    let decaying = schedule::warm_up(1.0, schedule::exponential(0.25));
    assert_eq!([9, 10, 15].map(|step| decaying(&at(step))), [1.0, 1.0, 0.5]);
    assert_eq!(schedule::polynomial(2.0)(&at(20)), 0.25);
    // one after the other: each has its own progress
    let both = schedule::then(1, schedule::constant, schedule::linear);
    let values = [9, 10, 25].map(|step| both(&at(step)));
    assert_eq!(values, [1.0, 1.0, 0.5]);
    let falling = schedule::then(1, schedule::linear, schedule::constant);
    assert_eq!([0, 5, 10].map(|step| falling(&at(step))), [1.0, 0.5, 1.0]);
    let cycle = schedule::one_cycle(0.25);
    let values: Vec<f64> = (0..40).map(|step| cycle(&at(step))).collect();
    assert!((values[0] - 0.04).abs() < 1e-12 && (values[10] - 1.0).abs() < 1e-12);
    assert!(values[..11].is_sorted() && values[10..].iter().rev().is_sorted());
    assert!(values[39] < 0.01 && values.iter().all(|v| *v > 0.0));
    let history: Vec<nn::Epoch> = [3.0, 2.0, 2.5, 2.1, 1.9, 2.0, 2.0]
        .iter()
        .map(|&loss| nn::Epoch {
            number: 1,
            train: nn::Metrics {
                loss,
                accuracy: None,
            },
            validation: None,
            is_evaluated: true,
            learning_rate: None,
            metrics: Vec::new(),
            time: std::time::Duration::ZERO,
            gradients: None,
        })
        .collect();
    let plateau = schedule::reduce_on_plateau(0.5, 2);
    let after = |n: usize| {
        plateau(&Context {
            history: &history[..n],
            ..at(0)
        })
    };
    assert_eq!(
        [0, 1, 3, 4, 5, 6, 7].map(after),
        [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]
    );
}

/// Parameters without a gradient do not change, in spite of weight decay and momentum: those behind
/// `detach`, and those that are used only in a comparison or an `argmax`.
#[test]
fn parameters_without_a_gradient_are_not_updated() -> Result<()> {
    let optimizers: [fn() -> Box<dyn Optimizer>; 4] = [
        || Box::new(Sgd::new(0.1).momentum(0.9).weight_decay(0.1)),
        || Box::new(Adam::new(0.1).weight_decay(0.1)),
        || Box::new(AdamW::new(0.1).weight_decay(0.1).ema(0.9)),
        || Box::new(RmsProp::new(0.1).weight_decay(0.1).clip_norm(1.0)),
    ];
    for optimizer in optimizers {
        let optimizer = optimizer();
        let (student, teacher, gate) = (
            Param::new([1.0, 2.0]),
            Param::new([0.5, 2.5]),
            Param::new([0.1, -0.1]),
        );
        // one step with a gradient: from now on there is momentum
        for param in [&teacher, &gate] {
            let g = Graph::new();
            let loss = g.param(param).square().sum();
            optimizer.step(loss);
            g.run(loss)?;
        }
        let before = [&student, &teacher, &gate].map(Param::value);
        for _ in 0..3 {
            let g = Graph::new();
            let [s, t, gate] = [&student, &teacher, &gate].map(|p| g.param(p));
            let chosen = gate.gt(0.0).select(s, 2.0 * s) + s.take(t.argmax(0), 0);
            let loss = (chosen - t.detach()).square().sum() + t.sign().sum();
            optimizer.step(loss);
            g.run(loss)?;
        }
        assert_ne!(student.value().to_f64s(), before[0].to_f64s());
        assert_eq!(
            [&teacher, &gate].map(|p| p.value().to_f64s()),
            [before[1].to_f64s(), before[2].to_f64s()]
        );
    }
    Ok(())
}

/// A parameter that joins after many steps takes its first step as the others took theirs.
#[test]
fn adam_counts_the_steps_of_each_parameter() -> Result<()> {
    let adam = Adam::new(0.1);
    let [early, late] = [(); 2].map(|()| Param::new(1.0));
    let step = |params: &[&Param]| {
        let g = Graph::new();
        let loss = params.iter().map(|p| g.param(p) * 3.0).reduce(|a, b| a + b);
        let loss = loss.expect("a parameter");
        adam.step(loss);
        g.run(loss).map(drop)
    };
    step(&[&early])?;
    let first = 1.0 - early.value().scalar()?;
    for _ in 0..1000 {
        step(&[&early])?;
    }
    step(&[&early, &late])?;
    assert_eq!(1.0 - late.value().scalar()?, first);
    assert!((first - 0.1).abs() < 1e-8);
    Ok(())
}

#[test]
fn settings_that_contradict_each_other_are_errors() {
    let error = Sgd::new(0.1).nesterov().check().expect_err("no momentum");
    assert!(error.to_string().contains("needs a momentum"));
    assert!(Sgd::new(0.1).momentum(0.9).nesterov().check().is_ok());
}
