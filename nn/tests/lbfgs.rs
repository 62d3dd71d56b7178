//! L-BFGS against known minima, and what it does when there is none or an evaluation fails.

use autograd::{DType, Graph, Param, Result, Tensor, Var};
use nn::{Activation, Lbfgs, MinimizeEnd, Module, Weights};
use std::cell::Cell;

fn named(params: &[&Param]) -> Vec<(String, Param)> {
    let named = |(k, p): (usize, &&Param)| (format!("p{k}"), (*p).clone());
    params.iter().enumerate().map(named).collect()
}

/// Rosenbrock's function of n numbers, with its minimum at (1, .., 1).
fn rosenbrock(x: Var<'_>) -> Var<'_> {
    let n = x.shape().map_or(0, |shape| shape[0] as isize);
    let (a, b) = (x.slice(0, 0..n - 1), x.slice(0, 1..n));
    (100.0 * (b - a.square()).square() + (1.0 - a).square()).sum()
}

/// SciPy 1.17 (`method="L-BFGS-B"`, `gtol=1e-9, ftol=0`) needs 38 iterations with 46 evaluations from
/// (-1.2, 1), and 79 with 97 from five times that.
#[test]
fn rosenbrocks_function_is_minimized() -> nn::Result<()> {
    for (n, most) in [(2, 60), (10, 130)] {
        let start: Vec<f64> = (0..n).map(|k| [-1.2, 1.0][k % 2]).collect();
        let x = Param::new(start.clone());
        let minimize = || {
            Lbfgs::new()
                .tolerance(1e-9)
                .minimize(&named(&[&x]), |g| rosenbrock(g.param(&x)))
        };
        let found = minimize()?;
        assert_eq!(found.end, MinimizeEnd::Converged, "{found}");
        assert!(found.gradient <= 1e-9 && found.value < 1e-18, "{found:?}");
        assert!(found.evaluations <= most, "{found}");
        assert!(x.value().to_f64s().iter().all(|x| (x - 1.0).abs() < 1e-9));
        // again: the same bits
        let first = x.value();
        x.set(start)?;
        assert_eq!((minimize()?, x.value()), (found, first));
    }
    Ok(())
}

/// A quadratic with eigenvalues from 1 to 1,000: the minimum is at 1/k.
#[test]
fn a_quadratic_is_minimized_to_its_closed_form() -> nn::Result<()> {
    let n = 20;
    let scales: Vec<f64> = (0..n)
        .map(|k| 1000f64.powf(k as f64 / (n - 1) as f64))
        .collect();
    let targets: Vec<f64> = (1..=n).map(|k| 1.0 / k as f64).collect();
    let x = Param::new(vec![0.0; n]);
    let found = Lbfgs::new().tolerance(1e-10).minimize(&named(&[&x]), |g| {
        let distance = g.param(&x) - g.constant(targets.clone());
        0.5 * (g.constant(scales.clone()) * distance.square()).sum() + 3.0
    })?;
    assert_eq!(found.end, MinimizeEnd::Converged, "{found}");
    assert_eq!(found.value, 3.0);
    for (x, target) in x.value().to_f64s().iter().zip(targets) {
        assert!((x - target).abs() < 1e-10, "{x} {target}");
    }
    Ok(())
}

/// The values are SciPy's (`minimize` with `gtol=1e-12`).
#[test]
fn a_logistic_regression_has_the_optimum_of_scipy() -> nn::Result<()> {
    let n = 60;
    let input = |k: usize| {
        if k % 3 == 2 {
            1.0
        } else {
            (k as f64 * 1.7).sin()
        }
    };
    let inputs: Vec<f64> = (0..3 * n).map(input).collect();
    let label = |k: usize| f64::from(u8::from(inputs[3 * k] + 0.5 * (k as f64).cos() > 0.2));
    let labels = Tensor::from((0..n).map(label).collect::<Vec<f64>>());
    let inputs = Tensor::new([n, 3], inputs.clone())?;
    let w = Param::new([0.0; 3]);
    let found = Lbfgs::new().tolerance(1e-10).minimize(&named(&[&w]), |g| {
        let (w, labels) = (g.param(&w), g.constant(&labels));
        let logits = g.constant(&inputs).matmul(w.reshape([3, 1])).reshape([n]);
        (logits.softplus() - labels * logits).mean() + 0.01 * w.square().sum()
    })?;
    assert_eq!(found.end, MinimizeEnd::Converged, "{found}");
    assert!(
        (found.value - 0.3486900031512866).abs() < 1e-15,
        "{}",
        found.value
    );
    let expected = [
        2.7200000255963275,
        0.32990359602582664,
        -0.41808200111075466,
    ];
    for (w, e) in w.value().to_f64s().iter().zip(expected) {
        assert!((w - e).abs() < 1e-8, "{w} {e}");
    }
    Ok(())
}

/// A network, its inputs and its targets.
fn regression(dtype: DType) -> Result<(nn::Mlp, Tensor, Tensor)> {
    let x: Vec<f64> = (0..40).map(|k| k as f64 / 20.0 - 1.0).collect();
    let y = x.iter().map(|x| (3.0 * x).sin()).collect();
    let (x, y) = (Tensor::new([40, 1], x)?, Tensor::new([40, 1], y)?);
    let net = nn::mlp(&[1, 8, 1], Activation::Tanh, 3).cast(dtype);
    Ok((net, x.cast(dtype)?, y.cast(dtype)?))
}

#[test]
fn a_network_is_fitted_in_both_number_types() -> nn::Result<()> {
    for (dtype, bound) in [(DType::F32, 1e-4), (DType::F64, 1e-6)] {
        let (net, x, y) = regression(dtype)?;
        let evaluations = Cell::new(0);
        let found = Lbfgs::new()
            .iterations(300)
            .minimize(&net.parameters(), |g| {
                evaluations.set(evaluations.get() + 1);
                (net.forward(g.constant(&x)) - g.constant(&y))
                    .square()
                    .mean()
            })?;
        println!("{dtype}: {found}");
        assert!(found.value < bound, "{dtype}: {found}");
        assert_eq!(evaluations.get(), found.evaluations);
        assert!(
            found.evaluations < found.iterations + 100,
            "{dtype}: {found}"
        );
        // the parameters are those of the value
        let g = Graph::new();
        let loss = (net.forward(g.constant(&x)) - g.constant(&y))
            .square()
            .mean();
        assert_eq!(loss.value()?.scalar()?, found.value);
        assert_eq!(net.parameters()[0].1.ty().dtype, dtype);
    }
    Ok(())
}

#[test]
fn what_cannot_start_is_an_error_that_changes_nothing() {
    let x = Param::new([1.0, -2.0]);
    let params = named(&[&x]);
    let error = |params: &[(String, Param)], f: &dyn for<'g> Fn(&'g Graph) -> Var<'g>| {
        let e = Lbfgs::new().minimize(params, f).expect_err("cannot start");
        assert_eq!(x.value(), Tensor::from([1.0, -2.0]));
        e.to_string()
    };
    let message = error(&params, &|g| g.param(&x).ln().sum());
    assert_eq!(message, "L-BFGS: the loss is NaN at the start");
    let message = error(&params, &|g| {
        (g.param(&x) - g.constant([1.0, -2.0])).sqrt().sum()
    });
    assert_eq!(message, "L-BFGS: the gradient is not finite at the start");
    let message = error(&params, &|g| g.constant(2.0));
    assert!(
        message.contains("depends on none of the parameters"),
        "{message}"
    );
    let message = error(&params, &|g| g.param(&x));
    assert!(
        message.contains("lbfgs.rs") && message.contains("f64[2]"),
        "{message}"
    );
    let message = error(&params, &|_| panic!("no data"));
    assert_eq!(message, "the loss panicked: no data");
    x.freeze(true);
    let message = error(&params, &|g| g.param(&x).sum());
    assert_eq!(
        message,
        "there is nothing to train: 0 of 1 parameters are trained"
    );
    x.freeze(false);
    assert!(
        Lbfgs::new()
            .memory(0)
            .minimize(&params, |g| g.param(&x).sum())
            .is_err()
    );
    assert!(
        Lbfgs::new()
            .tolerance(f64::NAN)
            .minimize(&params, |g| g.param(&x).sum())
            .is_err()
    );
}

/// An error or a panic of an evaluation leaves the last accepted point, which is better than the start.
#[test]
fn a_failed_evaluation_leaves_the_last_accepted_point() {
    for fail_at in 2..25 {
        for panics in [false, true] {
            let x = Param::new([-1.2, 1.0]);
            let (calls, accepted) = (Cell::new(0), Cell::new([-1.2f64, 1.0]));
            let e = Lbfgs::new().minimize(&named(&[&x]), |g| {
                calls.set(calls.get() + 1);
                let now = x.value().to_f64s();
                accepted.set([now[0], now[1]]);
                if calls.get() == fail_at {
                    assert!(!panics, "out of order");
                    return g.param(&x).reshape([7]).sum();
                }
                rosenbrock(g.param(&x))
            });
            let e = e.expect_err("fails").to_string();
            assert!(
                e.contains(if panics { "out of order" } else { "lbfgs.rs" }),
                "{e}"
            );
            // what the parameter had before the failure, it has afterwards
            assert_eq!(x.value().to_f64s(), accepted.get());
            let g = Graph::new();
            let value = rosenbrock(g.param(&x)).value().and_then(|v| v.scalar());
            let value = value.expect("finite");
            assert!(
                value <= 24.2 && (fail_at < 4 || value < 24.0),
                "{fail_at}: {value}"
            );
        }
    }
}

/// Points that are not finite are too far away: ln has its minimum next to them.
#[test]
fn points_that_are_not_finite_make_the_step_shorter() -> nn::Result<()> {
    // x - 1e-3·ln(x), minimal at 1e-3, and NaN below 0
    let x = Param::new([3.0]);
    let found = Lbfgs::new().tolerance(1e-8).minimize(&named(&[&x]), |g| {
        let x = g.param(&x);
        (x - 1e-3 * x.ln()).sum()
    })?;
    assert_eq!(found.end, MinimizeEnd::Converged, "{found}");
    assert!((x.value().to_f64s()[0] - 1e-3).abs() < 1e-10);
    Ok(())
}

#[test]
fn every_end_is_told() -> nn::Result<()> {
    let x = Param::new([1.0, 2.0]);
    let params = named(&[&x]);
    let from_start = |lbfgs: Lbfgs, f: &dyn for<'g> Fn(Var<'g>) -> Var<'g>| {
        x.set([1.0, 2.0])?;
        lbfgs.minimize(&params, |g| f(g.param(&x)))
    };
    // a plane and exp fall for ever
    let falling: [for<'g> fn(Var<'g>) -> Var<'g>; 3] =
        [|x| x.sum(), |x| -(x.exp()).sum(), |x| -x.powi(4).sum()];
    for f in falling {
        let found = from_start(Lbfgs::new(), &f)?;
        let is_told = matches!(
            found.end,
            MinimizeEnd::Unbounded | MinimizeEnd::NoBetterPoint
        );
        assert!(
            is_told && found.value < -1e10 && found.evaluations < 500,
            "{found}"
        );
        assert!(x.value().to_f64s().iter().all(|x| x.is_finite()));
    }
    let found = from_start(Lbfgs::new(), &|x| x.sum())?;
    assert!(
        found
            .to_string()
            .ends_with("the loss decreases without bound"),
        "{found}"
    );

    // the absolute value is not smooth at its minimum
    let found = from_start(Lbfgs::new(), &|x| x.abs().sum())?;
    assert!(found.value < 1e-3, "{found}");
    assert_ne!(found.end, MinimizeEnd::Iterations, "{found}");

    let found = from_start(Lbfgs::new().iterations(2), &rosenbrock)?;
    assert_eq!((found.iterations, found.end), (2, MinimizeEnd::Iterations));
    assert!(
        found.to_string().contains("after 2 iterations and"),
        "{found}"
    );

    // at the minimum already
    x.set([1.0, 1.0])?;
    let found = Lbfgs::new().minimize(&params, |g| rosenbrock(g.param(&x)))?;
    assert_eq!(
        (found.iterations, found.evaluations, found.end),
        (0, 1, MinimizeEnd::Converged)
    );
    Ok(())
}

/// What rounding does not allow ends, soon after values and gradients have stopped to decrease.
#[test]
fn a_tolerance_beyond_the_precision_ends() -> nn::Result<()> {
    let start: Vec<f32> = (0..50).map(|k| (k as f32).sin()).collect();
    let x = Param::new(start);
    let lbfgs = Lbfgs::new().tolerance(0.0).iterations(10_000);
    let found = lbfgs.minimize(&named(&[&x]), |g| {
        let x = g.param(&x);
        let chain = (x.slice(0, 0..49) - x.slice(0, 1..50).square() - 0.3).square();
        chain.sum() + (x * 0.1).exp().mean()
    })?;
    assert_eq!(found.end, MinimizeEnd::NoBetterPoint, "{found}");
    assert!(
        found.gradient < 1e-4 && found.evaluations < 500,
        "{found:?}"
    );
    Ok(())
}

/// Frozen parameters, buffers and parameters that were not given stay; a parameter that is given twice
/// counts once, and one without a gradient does not move.
#[test]
fn only_what_is_given_and_trained_moves() -> nn::Result<()> {
    let [a, b, frozen, other, idle] = [1.0, 2.0, 3.0, 4.0, 5.0].map(|v| Param::new([v]));
    let buffer = Param::buffer([6.0]);
    frozen.freeze(true);
    let params = named(&[&a, &frozen, &b, &idle, &a, &buffer]);
    let found = Lbfgs::new().tolerance(1e-10).minimize(&params, |g| {
        let [a, b, frozen, other] = [&a, &b, &frozen, &other].map(|p| g.param(p));
        let distance = (a - 2.0 * frozen).square() + (b - other * g.param(&buffer)).square();
        (distance + g.param(&idle).detach().square()).sum()
    })?;
    assert_eq!(found.end, MinimizeEnd::Converged, "{found}");
    assert!((found.value - 25.0).abs() < 1e-15);
    let values = [&a, &b, &frozen, &other, &idle, &buffer].map(|p| p.value().to_f64s()[0]);
    assert!((values[0] - 6.0).abs() < 1e-9 && (values[1] - 24.0).abs() < 1e-9);
    assert_eq!(values[2..], [3.0, 4.0, 5.0, 6.0]);

    // a model with tied weights: the same minimum as with each of them once
    let first = nn::Linear::new(2, 2, 1);
    let second = nn::Linear::from_params(first.weight().clone(), Param::new([0.5f32, 0.0]))?;
    let model = nn::Sequential::new().then(first).then(second);
    let before = Weights::of(&model).to_flat().len();
    let found = Lbfgs::new()
        .iterations(50)
        .minimize(&model.parameters(), |g| {
            let x = g.constant([[1f32, 0.5], [-0.3, 2.0]]);
            (model.forward(x) - g.constant([[0.1f32, 0.7], [1.2, -0.4]]))
                .square()
                .mean()
        })?;
    assert_eq!(before, 4 + 2 + 2);
    assert!(found.value < 1e-6, "{found}");
    Ok(())
}
