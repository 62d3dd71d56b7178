//! Training steps that are compiled: the bits of those that are written anew for each step.

use autograd::{Graph, Param, Tensor, Var, compile};
use nn::{
    Activation, Adam, BatchNorm1d, Dropout, Linear, Module, Optimizer, Result, Sequential, Sgd,
    Weights, loss,
};

const STEPS: u64 = 20;

fn model() -> Sequential {
    Sequential::new()
        .then(Linear::new(6, 16, 1))
        .then(BatchNorm1d::new(16))
        .then(Activation::Relu)
        .then(Dropout::new(0.4))
        .then(Linear::new(16, 300, 2))
        .then(Activation::Tanh)
        .then(Dropout::new(0.2))
        .then(Linear::new(300, 3, 3))
}

/// Inputs and labels of a step; the batch of each fourth step is smaller.
fn batch(step: u64) -> [Tensor; 2] {
    let rows = if step % 4 == 3 { 20 } else { 64 };
    let number = |k: u64| ((k + step * 131) * 37 % 101) as f32 / 50.0 - 1.0;
    let numbers: Vec<f32> = (0..rows * 6).map(number).collect();
    let labels: Vec<i64> = (0..rows).map(|k| ((k + step) * 7 % 3) as i64).collect();
    let inputs = Tensor::new([rows as usize, 6], numbers).expect("fits");
    [inputs, labels.into()]
}

fn seed(step: u64) -> u64 {
    step * step + 5
}

fn write<'g>(model: &Sequential, optimizer: &impl Optimizer, x: [Var<'g>; 2]) -> [Var<'g>; 1] {
    let loss = loss::cross_entropy(model.forward(x[0]), x[1]);
    optimizer.step(loss);
    [loss]
}

/// The losses, all parameters and buffers of the model, and the state of the optimizer.
type End = (Vec<Tensor>, Vec<(String, Tensor)>);

fn end(losses: Vec<Tensor>, model: &Sequential, optimizer: &impl Optimizer) -> Result<End> {
    let state = optimizer.state(&model.parameters())?;
    let all = [model.parameters(), state].concat().into_iter();
    Ok((losses, all.map(|(name, p)| (name, p.value())).collect()))
}

/// Steps that are written one by one.
fn by_graphs(optimizer: impl Optimizer) -> Result<End> {
    let (model, mut losses) = (model(), Vec::new());
    for step in 0..STEPS {
        let g = Graph::training(seed(step));
        let [loss] = write(&model, &optimizer, batch(step).map(|x| g.constant(x)));
        losses.push(g.run(loss)?);
    }
    end(losses, &model, &optimizer)
}

fn compiled(optimizer: impl Optimizer) -> Result<End> {
    let (model, mut losses) = (model(), Vec::new());
    let function = compile(|x| write(&model, &optimizer, x));
    for step in 0..STEPS {
        let [loss] = function.train(seed(step), batch(step))?;
        losses.push(loss);
    }
    end(losses, &model, &optimizer)
}

#[test]
fn a_compiled_step_trains_as_a_written_one() -> Result<()> {
    for threads in [1, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.expect("threads");
        pool.install(|| -> Result<()> {
            let adam = || Adam::new(0.01).weight_decay(0.01);
            let (written, compiled_end) = (by_graphs(adam())?, compiled(adam())?);
            assert_eq!(
                written.1.len(),
                10 + 8 * 3,
                "with the steps and moments of Adam"
            );
            assert!(written == compiled_end, "on {threads} threads");
            // wrappers, of which one reads its averages when it is traced
            let wrapped = || Sgd::new(0.05).momentum(0.9).clip_norm(0.5).ema(0.9);
            assert!(by_graphs(wrapped())? == compiled(wrapped())?);
            // statistics and dropout do matter
            let initial = Weights::of(&model());
            for (name, value) in initial.iter().filter(|(name, _)| name.contains("running")) {
                let of_name = |(other, _): &&(String, Tensor)| other == name;
                let trained = written.1.iter().find(of_name).expect("a buffer");
                assert_ne!(&trained.1, value, "{name}");
            }
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn each_seed_has_its_random_numbers() -> Result<()> {
    let model = model();
    let outputs = compile(|[x]| [model.forward(x)]);
    let [x, _] = batch(0);
    let train = |seed| Ok::<_, autograd::Error>(outputs.train(seed, [&x])?[0].clone());
    let (first, second, again) = (train(1)?, train(u64::MAX)?, train(1)?);
    assert!(first != second && first == again);
    // the same function, in evaluation mode
    let [evaluated] = outputs.call([&x])?;
    assert!(evaluated == nn::predict(&model, &x)?);
    Ok(())
}

#[test]
fn a_training_step_is_not_evaluated_silently() -> Result<()> {
    let (model, sgd) = (model(), Sgd::new(0.1));
    let before = Weights::of(&model);
    let step = compile(|x| write(&model, &sgd, x));
    let error = step
        .call(batch(0))
        .expect_err("a training step")
        .to_string();
    assert!(error.contains(".train(seed, [..])"), "{error}");
    assert!(error.contains("compiled.rs"), "{error}");
    assert_eq!(Weights::of(&model), before);
    step.train(1, batch(0))?;
    assert!(
        !step.plan(batch(0))?.kernels().is_empty(),
        "that of training"
    );
    // nothing depends on the mode
    let mlp = nn::mlp(&[6, 3], Activation::Tanh, 1);
    let step = compile(|[x, y]| {
        let loss = loss::cross_entropy(mlp.forward(x), y);
        sgd.step(loss);
        [loss]
    });
    step.call(batch(0))?;
    Ok(())
}

#[test]
fn a_compiled_step_sees_what_is_frozen_now() -> Result<()> {
    let (mlp, sgd) = (nn::mlp(&[6, 4, 3], Activation::Tanh, 1), Sgd::new(0.1));
    let step = compile(|[x, y]| {
        let loss = loss::cross_entropy(mlp.forward(x), y);
        sgd.step(loss);
        [loss]
    });
    let first = |mlp: &nn::Mlp| mlp.parameters()[0].1.clone();
    let changes = |param: Param| -> Result<bool> {
        let before = param.value();
        step.train(1, batch(0))?;
        Ok(param.value() != before)
    };
    for frozen in [false, true, false] {
        first(&mlp).freeze(frozen);
        assert_eq!(changes(first(&mlp))?, !frozen);
    }
    Ok(())
}

#[test]
fn accumulation_cannot_be_compiled() {
    let (model, optimizer) = (model(), Sgd::new(0.1).accumulate(2));
    let step = compile(|x| write(&model, &optimizer, x));
    let error = step.train(1, batch(0)).expect_err("an if in each step");
    assert!(error.to_string().contains("cannot be compiled"), "{error}");
}
