//! The trainer's NaN detection and gradient statistics.

use autograd::{CheckGrads, Param, Tensor, Var};
use nn::{Activation, Dataset, Error, Module, Result, Sgd, Trainer, loss};

fn samples(rows: usize, nan_at: Option<usize>) -> Result<Dataset> {
    let mut inputs: Vec<f32> = (0..2 * rows).map(|k| (k as f32 * 0.7).sin()).collect();
    let labels: Vec<i64> = inputs.chunks(2).map(|p| (p[1] > p[0]).into()).collect();
    if let Some(k) = nan_at {
        inputs[k] = f32::NAN;
    }
    Dataset::new(Tensor::new([rows, 2], inputs)?, labels.into())
}

fn values(model: &impl Module) -> Vec<Tensor> {
    model.parameters().iter().map(|(_, p)| p.value()).collect()
}

#[test]
fn a_nan_loss_ends_the_training_and_changes_no_parameter() -> Result<()> {
    let data = samples(8, Some(5))?;
    for detect_anomaly in [false, true] {
        let model = nn::mlp(&[2, 4, 2], Activation::Tanh, 1);
        let before = values(&model);
        let trainer = Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
            .batch_size(8)
            .quiet();
        let mut trainer = if detect_anomaly {
            trainer.detect_anomaly()
        } else {
            trainer
        };
        let Err(Error::Step {
            epoch: 1,
            step: 1,
            error,
        }) = trainer.fit(&data)
        else {
            panic!("the NaN was not detected")
        };
        assert_eq!(
            error.op(),
            "constant",
            "the NaN comes from the data: {error}"
        );
        assert!(
            error.message().contains("1 of 16 elements not finite"),
            "{error}"
        );
        assert_eq!(values(&model), before);
    }
    Ok(())
}

/// `√(w²)`: at 0, the value is finite and the derivative is 0/0.
struct RootOfSquare(Param);

impl Module for RootOfSquare {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        x.graph()
            .within("root", || x * x.graph().param(&self.0).square().sqrt())
    }
    fn params(&self, p: &mut nn::Params) {
        p.param("w", &self.0);
    }
}

#[test]
fn detect_anomaly_finds_a_nan_gradient() -> Result<()> {
    let data = Dataset::new(
        Tensor::from([[1.0f32], [2.0]]),
        Tensor::from([[1.0f32], [2.0]]),
    )?;
    let train = |detect_anomaly: bool| {
        let model = RootOfSquare(Param::new([0.0f32]));
        let mut trainer = Trainer::new(&model, Sgd::new(0.1))
            .loss(loss::mse)
            .epochs(2)
            .quiet();
        let result = if detect_anomaly {
            trainer.detect_anomaly().fit(&data)
        } else {
            trainer.fit(&data)
        };
        (result, model.0.value().to_f64s()[0])
    };
    let (detected, w) = train(true);
    let Err(Error::Step {
        epoch: 1,
        step: 1,
        error,
    }) = detected
    else {
        panic!("the NaN was not detected")
    };
    assert_eq!((error.op(), error.scope(), w), ("sqrt", "root", 0.0));
    assert!(
        error
            .message()
            .contains("all values of the forward pass before it are finite"),
        "{error}"
    );
    // without `detect_anomaly`, the loss of the next step is NaN
    let (undetected, w) = train(false);
    let Err(Error::Step {
        epoch: 2,
        step: 1,
        error,
    }) = undetected
    else {
        panic!("the NaN was not detected")
    };
    assert!(error.op() == "param" && w.is_nan(), "{error}");
    Ok(())
}

#[test]
fn gradient_statistics_have_a_row_for_each_parameter() -> Result<()> {
    let model = nn::mlp(&[2, 6, 2], Activation::Relu, 1);
    let parameters = model.parameters();
    let bias = &parameters
        .iter()
        .find(|(name, _)| name == "layers.0.bias")
        .expect("a bias")
        .1;
    bias.set(Tensor::from([-10.0f32, 1.0, 1.0, -10.0, 1.0, 1.0]))?; // two dead units
    let same = nn::mlp(&[2, 6, 2], Activation::Relu, 1);
    same.parameters()
        .iter()
        .zip(&parameters)
        .try_for_each(|((_, p), (_, q))| p.set(q.value()))?;

    let data = samples(40, None)?;
    let fit = |model: &nn::Mlp, inspect: bool| {
        let mut trainer = Trainer::new(model, Sgd::new(0.1))
            .batch_size(10)
            .epochs(2)
            .quiet();
        if inspect {
            trainer.inspect_gradients().fit(&data)
        } else {
            trainer.fit(&data)
        }
    };
    let history = fit(&model, true)?;
    let report = history[1].gradients.as_ref().expect("a report");
    let names: Vec<&str> = report.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "layers.0.weight",
            "layers.0.bias",
            "layers.1.weight",
            "layers.1.bias"
        ]
    );
    assert_eq!(report.rows[0].dead_units(), Some((2, 6)));
    assert!(report.rows[0].zeros >= 2.0 / 6.0 && report.rows[0].norm > 0.0);
    for row in &report.rows {
        let ratio = row.update_ratio.expect("an update");
        let (rate, weight) = (0.1, ratio.recip() * 0.1 * row.norm);
        assert!(
            ratio > 0.0 && rate * row.norm / weight > 0.5 * ratio,
            "{report}"
        );
    }
    // the statistics do not change the training
    let plain = fit(&same, false)?;
    assert_eq!(values(&model), values(&same));
    assert!(plain[1].gradients.is_none());
    assert_eq!(plain[1].train, history[1].train);
    Ok(())
}

#[test]
fn check_grads_checks_inputs_and_parameters_of_a_model() -> Result<()> {
    let model = nn::mlp(&[3, 4, 2], Activation::Tanh, 1);
    let x = [
        Tensor::from([[0.1f32, -0.4, 0.7], [0.9, 0.2, -0.5]]),
        Tensor::from([1, 0]),
    ];
    fn function<F: for<'g> Fn(&[Var<'g>]) -> Var<'g>>(f: F) -> F {
        f
    }
    let f = function(|x| loss::cross_entropy(model.forward(x[0]), x[1]));
    CheckGrads::new().double().run(f, &x)?;
    CheckGrads::new().double().fast().order(3).run(f, &x)?;
    CheckGrads::new().run(f, &x)?; // in f32
    // `detach` stops the gradient on its way to the parameters
    let e = CheckGrads::new()
        .double()
        .fast()
        .run(
            |x| loss::cross_entropy(model.forward(x[0]).detach() + x[0].sum(), x[1]),
            &x,
        )
        .expect_err("detach has no derivative");
    assert_eq!(e.op(), "detach");
    Ok(())
}
