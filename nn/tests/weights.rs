//! Weights at one moment: a model that runs with others than its own.

use autograd::{Graph, Tensor};
use nn::{
    Activation, BatchNorm1d, Dropout, LayerNorm, Linear, Module, Result, Sequential, Weights,
};

fn model(seed: u64) -> Sequential {
    Sequential::new()
        .then(Linear::new(4, 7, seed))
        .then(BatchNorm1d::new(7))
        .then(Activation::Tanh)
        .then(Dropout::new(0.3))
        .then(Linear::new(7, 5, seed + 1))
        .then(LayerNorm::new(5))
        .then(Linear::new(5, 3, seed + 2))
}

fn batch(g: &Graph) -> (autograd::Var<'_>, autograd::Var<'_>) {
    let numbers = (0..16 * 4).map(|k| (k * 37 % 101) as f32 / 50.0 - 1.0);
    let inputs = Tensor::new([16, 4], numbers.collect::<Vec<_>>()).expect("fits");
    let labels: Vec<i64> = (0..16).map(|k| k * 7 % 3).collect();
    (g.constant(inputs), g.constant(labels))
}

/// Outputs, loss and gradients; evaluated only, without the updates of statistics.
fn results(model: &Sequential, g: &Graph) -> Result<Vec<Tensor>> {
    let (inputs, labels) = batch(g);
    let outputs = model.forward(inputs);
    let loss = nn::loss::cross_entropy(outputs, labels);
    let gradients = nn::gradients(loss);
    assert_eq!(gradients.len(), 10, "as many as the model trains");
    let all = gradients.iter().map(|d| d.gradient);
    let values = [outputs, loss].into_iter().chain(all);
    Ok(values.map(|v| v.value()).collect::<autograd::Result<_>>()?)
}

#[test]
fn a_model_runs_with_other_weights() -> Result<()> {
    let [own, other] = [1, 50].map(model);
    // statistics that are not those of the start
    let g = Graph::training(3);
    let outputs = other.forward(batch(&g).0);
    g.run(outputs)?;
    let (before, weights) = (Weights::of(&own), Weights::of(&other));
    for graph in [Graph::new as fn() -> Graph, || Graph::training(8)] {
        let g = graph();
        weights.bind(&g, &own)?;
        assert!(results(&own, &g)? == results(&other, &graph())?);
        assert!(results(&own, &graph())? != results(&other, &graph())?);
    }
    assert_eq!(Weights::of(&own), before);

    // a trial point of a line search
    let along: Vec<f64> = weights.to_flat().iter().map(|w| w * 0.25).collect();
    let (trial, g) = (weights.with_flat(&along)?, Graph::new());
    trial.bind(&g, &own)?;
    let at_trial = results(&own, &g)?;
    trial.copy_to(&other)?;
    assert!(at_trial == results(&other, &Graph::new())?);

    // a training step cannot update what is not there
    let g = Graph::training(8);
    weights.bind(&g, &own)?;
    let outputs = own.forward(batch(&g).0);
    let error = g.run(outputs).expect_err("batch statistics").to_string();
    assert!(error.contains("cannot be updated here"), "{error}");
    assert_eq!(Weights::of(&own), before);
    Ok(())
}

#[test]
fn other_weights_must_fit_and_come_first() -> Result<()> {
    let (own, mlp) = (model(1), nn::mlp(&[4, 3], Activation::Relu, 1));
    let g = Graph::new();
    let error = Weights::of(&mlp).bind(&g, &own).expect_err("another model");
    assert!(
        error.to_string().contains("those of another model"),
        "{error}"
    );
    own.forward(batch(&g).0).value()?; // nothing was bound
    let error = Weights::of(&own).bind(&g, &own).expect_err("too late");
    assert!(
        error.to_string().contains("has used this parameter"),
        "{error}"
    );
    assert!(error.to_string().contains("weights.rs"), "{error}");
    Ok(())
}
