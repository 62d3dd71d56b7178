//! Models in f64: made by `cast`, trained, checked, saved, and used with inputs of the wrong type.

use autograd::{CheckGrads, DType, Graph, Tensor, Var};
use nn::{
    Activation, Adam, AdamW, BatchNorm1d, Dataset, Embedding, LayerNorm, Linear, Module, Normalize,
    Optimizer, Residual, Result, RmsProp, Sequential, Sgd, Trainer, Weights, init, loss,
};

/// A model with every layer that has parameters, in f64.
fn model() -> Result<Sequential> {
    Ok(Sequential::new()
        .then(Normalize::fit_to(&inputs(DType::F32))?.cast(DType::F64))
        .then(Linear::new(4, 6, 1).cast(DType::F64))
        .then(BatchNorm1d::new(6).cast(DType::F64))
        .then(Activation::Tanh)
        .then(Residual(
            nn::mlp(&[6, 5, 6], Activation::Gelu, 2).cast(DType::F64),
        ))
        .then(LayerNorm::new(6).cast(DType::F64))
        .then(Linear::new(6, 3, 3).cast(DType::F64)))
}

fn inputs(dtype: DType) -> Tensor {
    let numbers = (0..20 * 4).map(|k| f64::from(k * 37 % 101) / 50.0 - 1.0);
    let inputs = Tensor::new([20, 4], numbers.collect::<Vec<_>>());
    inputs.and_then(|x| x.cast(dtype)).expect("fits")
}

/// The position of the largest of the first three inputs.
fn labels() -> Tensor {
    let largest = |x: &[f64]| (0..3i64).max_by(|&a, &b| x[a as usize].total_cmp(&x[b as usize]));
    let inputs = inputs(DType::F64).to_f64s();
    Tensor::from(inputs.chunks(4).filter_map(largest).collect::<Vec<i64>>())
}

fn types(model: &impl Module) -> Vec<DType> {
    let params = model.parameters();
    params.iter().map(|(_, p)| p.ty().dtype).collect()
}

#[test]
fn casts_convert_values_and_keep_what_a_parameter_is() -> Result<()> {
    let model = model()?;
    assert!(
        types(&model).iter().all(|&t| t == DType::F64),
        "{:?}",
        types(&model)
    );
    let buffers = model
        .parameters()
        .into_iter()
        .filter(|(_, p)| p.is_buffer());
    let names: Vec<String> = buffers.map(|(name, _)| name).collect();
    assert_eq!(
        names,
        ["0.mean", "0.deviation", "2.running_mean", "2.running_var"]
    );

    // the same numbers, there and back
    let single = || nn::mlp(&[4, 3, 2], Activation::Relu, 7);
    let double = single().cast(DType::F64);
    let numbers = |model: &nn::Mlp| Weights::of(model).to_flat();
    assert_eq!(numbers(&double), numbers(&single()));
    assert_eq!(
        Weights::of(&double.cast(DType::F32)),
        Weights::of(&single())
    );
    let drawn = init::normal(&[4, 3], 1.0, 7)?;
    assert_eq!(drawn.cast(DType::F64)?.to_f64s(), drawn.to_f64s());
    let layer = Linear::from_tensors(drawn.cast(DType::F64)?, Tensor::zeros([3], DType::F64)?)?;
    assert_eq!(layer.weight().ty().dtype, DType::F64);

    // what is frozen stays frozen, and a cast to the same type keeps the parameter, and so ties
    let frozen = nn::mlp(&[4, 3], Activation::Relu, 1);
    frozen.freeze(true);
    assert_eq!(frozen.cast(DType::F64).num_parameters(), 0);
    let tied = Embedding::new(5, 2, 1);
    let weight = tied.weight().clone();
    assert!(tied.cast(DType::F32).weight().same(&weight));
    Ok(())
}

/// A network with one hidden layer of tanh, and its gradients, computed with plain numbers.
struct ByHand {
    sizes: [usize; 3],
    inputs: Vec<f64>,
    targets: Vec<f64>,
}

impl ByHand {
    /// The derivatives of the mean squared error by `[weight, bias, weight, bias]`, one after the other.
    fn gradient(&self, params: &[f64]) -> Vec<f64> {
        let [n, h, m] = self.sizes;
        let (w1, rest) = params.split_at(n * h);
        let (b1, rest) = rest.split_at(h);
        let (w2, b2) = rest.split_at(h * m);
        let mut gradient = vec![0.0; params.len()];
        let scale = 2.0 / self.targets.len() as f64;
        for (x, t) in self.inputs.chunks(n).zip(self.targets.chunks(m)) {
            let hidden = |j: usize| (0..n).map(|i| x[i] * w1[i * h + j]).sum::<f64>() + b1[j];
            let a: Vec<f64> = (0..h).map(|j| hidden(j).tanh()).collect();
            let output = |k: usize| (0..h).map(|j| a[j] * w2[j * m + k]).sum::<f64>() + b2[k];
            let d: Vec<f64> = (0..m).map(|k| scale * (output(k) - t[k])).collect();
            let (g1, rest) = gradient.split_at_mut(n * h);
            let (gb1, rest) = rest.split_at_mut(h);
            let (g2, gb2) = rest.split_at_mut(h * m);
            (0..m).for_each(|k| gb2[k] += d[k]);
            for j in 0..h {
                (0..m).for_each(|k| g2[j * m + k] += a[j] * d[k]);
                let back = (0..m).map(|k| d[k] * w2[j * m + k]).sum::<f64>() * (1.0 - a[j] * a[j]);
                gb1[j] += back;
                (0..n).for_each(|i| g1[i * h + j] += x[i] * back);
            }
        }
        gradient
    }
}

/// Trains a network in f64 by hand with an optimizer, and compares each step with plain numbers. The
/// formula updates the parameters; its other arguments are gradients and step number.
fn assert_trains(
    name: &str,
    optimizer: impl Optimizer,
    mut formula: impl FnMut(&mut [f64], &[f64], i32),
) -> Result<()> {
    let by_hand = ByHand {
        sizes: [4, 5, 2],
        inputs: inputs(DType::F64).to_f64s(),
        targets: (0..40).map(|k| (f64::from(k) * 1.3).sin()).collect(),
    };
    let targets = Tensor::new([20, 2], by_hand.targets.clone())?;
    let model = nn::mlp(&by_hand.sizes, Activation::Tanh, 5).cast(DType::F64);
    let mut expected = Weights::of(&model).to_flat();
    for t in 1..=25 {
        let g = Graph::training(t as u64);
        let loss = loss::mse(
            model.forward(g.constant(inputs(DType::F64))),
            g.constant(&targets),
        );
        optimizer.step(loss);
        g.run(loss)?;
        let gradient = by_hand.gradient(&expected);
        formula(&mut expected, &gradient, t);
        for (a, b) in Weights::of(&model).to_flat().iter().zip(&expected) {
            let difference = (a - b).abs();
            assert!(
                difference < 1e-12,
                "{name}, step {t}: expected {b}, got {a}"
            );
        }
    }
    Ok(())
}

#[test]
fn every_optimizer_trains_a_model_in_f64() -> Result<()> {
    let n = 4 * 5 + 5 + 5 * 2 + 2;
    let zeros = || vec![0.0; n];
    let norm = |d: &[f64]| d.iter().map(|d| d * d).sum::<f64>().sqrt();
    let mut v = zeros();
    let sgd = Sgd::new(0.2).momentum(0.9).nesterov().weight_decay(0.01);
    assert_trains("sgd", sgd, |w, d, _| {
        for k in 0..n {
            let d = d[k] + 0.01 * w[k];
            v[k] = 0.9 * v[k] + d;
            w[k] -= 0.2 * (d + 0.9 * v[k]);
        }
    })?;
    for decoupled in [false, true] {
        let (mut m, mut v) = (zeros(), zeros());
        let adam = if decoupled {
            AdamW::new(0.02)
        } else {
            Adam::new(0.02)
        };
        let adam = adam.weight_decay(0.1).betas(0.8, 0.99);
        assert_trains("adam", adam, |w, d, t| {
            for k in 0..n {
                let mut d = d[k];
                match decoupled {
                    true => w[k] *= 1.0 - 0.02 * 0.1,
                    false => d += 0.1 * w[k],
                }
                m[k] = 0.8 * m[k] + 0.2 * d;
                v[k] = 0.99 * v[k] + 0.01 * d * d;
                let (m, v) = (
                    m[k] / (1.0 - 0.8f64.powi(t)),
                    v[k] / (1.0 - 0.99f64.powi(t)),
                );
                w[k] -= 0.02 * m / (v.sqrt() + 1e-8);
            }
        })?;
    }
    let (mut square, mut b) = (zeros(), zeros());
    let rmsprop = RmsProp::new(0.01).momentum(0.5).alpha(0.9).epsilon(1e-3);
    assert_trains("rmsprop", rmsprop, |w, d, _| {
        for k in 0..n {
            square[k] = 0.9 * square[k] + 0.1 * d[k] * d[k];
            b[k] = 0.5 * b[k] + d[k] / (square[k].sqrt() + 1e-3);
            w[k] -= 0.01 * b[k];
        }
    })?;
    let mut sum = zeros();
    let clipped = Sgd::new(0.5).accumulate(2).clip_norm(0.1).ema(0.9);
    assert_trains("wrappers", clipped, |w, d, t| {
        let factor = (0.1 / norm(d)).min(1.0);
        for k in 0..n {
            sum[k] += factor * d[k];
            if t % 2 == 0 {
                w[k] -= 0.5 * sum[k] / 2.0;
                sum[k] = 0.0;
            }
        }
    })
}

/// A model can have parameters of both types, if it converts what goes from one to the other: a step of
/// each optimizer, clipping by their common norm, averages, and L-BFGS.
#[test]
fn a_model_can_have_both_number_types() -> Result<()> {
    let (first, second) = (Linear::new(4, 3, 1), Linear::new(3, 2, 2).cast(DType::F64));
    let params = [first.parameters(), second.parameters()].concat();
    let start = Weights::of_parameters(&params);
    fn loss<'g>(g: &'g Graph, layers: [&Linear; 2], dtype: DType) -> Var<'g> {
        let hidden = layers[0].forward(g.constant(inputs(DType::F32))).tanh();
        let output = layers[1].forward(hidden.cast(DType::F64));
        output.square().mean().cast(dtype)
    }
    let step = |optimizer: &dyn Optimizer, dtype| -> Result<Vec<f64>> {
        start.copy_to_parameters(&params)?;
        let g = Graph::new();
        let loss = loss(&g, [&first, &second], dtype);
        optimizer.step(loss);
        g.run(loss)?;
        Ok(Weights::of_parameters(&params).to_flat())
    };
    for dtype in [DType::F32, DType::F64] {
        let free = step(&Sgd::new(1.0), dtype)?;
        let clipped = step(&Sgd::new(1.0).clip_norm(1e-2).ema(0.9), dtype)?;
        let moved = |to: &[f64]| -> Vec<f64> {
            to.iter().zip(start.to_flat()).map(|(a, b)| a - b).collect()
        };
        let norm = |d: &[f64]| d.iter().map(|d| d * d).sum::<f64>().sqrt();
        let (free, clipped) = (moved(&free), moved(&clipped));
        assert!((norm(&clipped) - 1e-2).abs() < 1e-6, "{}", norm(&clipped));
        for (f, c) in free.iter().zip(&clipped) {
            assert!((f * 1e-2 / norm(&free) - c).abs() < 1e-6);
        }
        for optimizer in [&Adam::new(0.1) as &dyn Optimizer, &RmsProp::new(0.1)] {
            step(optimizer, dtype)?;
        }
        let found = nn::Lbfgs::new().minimize(&params, |g| loss(g, [&first, &second], dtype))?;
        assert!(found.value < 1e-6, "{found}");
        let types: Vec<DType> = params.iter().map(|(_, p)| p.value().dtype()).collect();
        assert_eq!(types, [DType::F32, DType::F32, DType::F64, DType::F64]);
    }
    Ok(())
}

/// First and second derivatives with respect to inputs and parameters, by finite differences.
#[test]
fn derivatives_of_every_layer_are_those_of_differences() -> Result<()> {
    let x = Tensor::new(
        [3, 4],
        (0..12).map(|k| (f64::from(k) * 1.7).sin()).collect(),
    )?;
    let f64s = DType::F64;
    let mut layers: Vec<(String, Box<dyn Module>)> = vec![
        ("linear".into(), Box::new(Linear::new(4, 3, 1).cast(f64s))),
        ("layer_norm".into(), Box::new(LayerNorm::new(4).cast(f64s))),
        (
            "batch_norm".into(),
            Box::new(BatchNorm1d::new(4).cast(f64s)),
        ),
        ("normalize".into(), Box::new(Normalize::fit_to(&x)?)),
        (
            "residual".into(),
            Box::new(Residual(Linear::new(4, 4, 2).cast(f64s))),
        ),
    ];
    for activation in Activation::ALL {
        let mlp = nn::mlp(&[4, 3, 2], activation, 3).cast(f64s);
        layers.push((activation.to_string(), Box::new(mlp)));
    }
    let check = CheckGrads::new().tolerance(1e-7);
    for (name, layer) in layers {
        let result = check.run(
            |x| layer.forward(x[0]).sin().sum(),
            std::slice::from_ref(&x),
        );
        result.map_err(|e| panic!("{name}: {e}")).ok();
    }
    let embedding = Embedding::new(5, 4, 1).cast(f64s);
    check.run(
        |x| {
            let rows = embedding.forward(x[0].graph().constant([3, 1, 3]));
            (rows * x[0]).tanh().sum()
        },
        std::slice::from_ref(&x),
    )?;
    type Loss = for<'g> fn(Var<'g>, Var<'g>) -> Var<'g>;
    let losses: [(Loss, Tensor); 2] = [
        (loss::cross_entropy, Tensor::from([1, 0, 3])),
        (loss::mse, x.clone()),
    ];
    for (loss, targets) in losses {
        check.run(
            |x| loss(x[0] * 2.0, x[0].graph().constant(&targets)),
            std::slice::from_ref(&x),
        )?;
    }
    Ok(())
}

/// With the statistics of the batch, which only a graph for training has.
#[test]
fn derivatives_of_batch_norm_in_training_are_those_of_differences() -> Result<()> {
    let layer = BatchNorm1d::new(4).cast(DType::F64);
    let x = inputs(DType::F64).to_f64s();
    let of = |x: &[f64], weights: &Weights| -> Result<(f64, Vec<f64>)> {
        let g = Graph::training(1);
        weights.bind(&g, &layer)?;
        let x = g.constant(Tensor::new([20, 4], x.to_vec())?);
        let factors = (g.constant(inputs(DType::F64)) * 3.0).cos();
        let [weight, bias] = [0, 1].map(|k| g.param(&layer.parameters()[k].1));
        let y = (layer.forward(x).sin() * factors).sum();
        let found = g.grads(y, &[x, weight, bias]);
        // without the statistics, which cannot be updated where values are bound
        let values = [y].into_iter().chain(found).map(|v| v.value());
        let values = values.collect::<autograd::Result<Vec<Tensor>>>()?;
        let gradient = values[1..].iter().flat_map(Tensor::to_f64s);
        Ok((values[0].scalar()?, gradient.collect()))
    };
    let weights = Weights::of(&layer);
    let start: Vec<f64> = [0.5, -1.5, 2.0, 1.0, 0.3, -0.2, 0.1, 0.7].to_vec();
    let all = [&x[..], &start].concat();
    let (_, gradient) = of(&x, &weights.with_flat(&start)?)?;
    assert_eq!(gradient.len(), all.len());
    for k in 0..all.len() {
        let at = |h: f64| -> Result<f64> {
            let mut moved = all.clone();
            moved[k] += h;
            let (x, w) = moved.split_at(x.len());
            Ok(of(x, &weights.with_flat(w)?)?.0)
        };
        let h = 1e-3;
        let difference = (8.0 * (at(h)? - at(-h)?) - (at(2.0 * h)? - at(-2.0 * h)?)) / (12.0 * h);
        let error = (gradient[k] - difference).abs();
        assert!(error < 1e-7 * difference.abs().max(1.0), "{k}: {error:e}");
    }
    Ok(())
}

#[test]
fn a_trainer_trains_saves_and_loads_in_f64() -> Result<()> {
    let data = Dataset::new(inputs(DType::F64), labels())?;
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("model.safetensors");
    let [a, b] = [model()?, model()?];
    let optimizer = Adam::new(0.05).clip_norm(1.0).ema(0.9);
    let history = Trainer::new(&a, &optimizer)
        .batch_size(5)
        .epochs(40)
        .validate(&data)
        .quiet()
        .fit(&data)?;
    let last = history.last().expect("epochs");
    assert!(
        last.train.loss < 0.2 && last.train.accuracy > Some(0.9),
        "{last}"
    );
    assert!(types(&a).iter().all(|&t| t == DType::F64));
    nn::save(&a, &file)?;
    nn::load(&b, &file)?;
    assert_eq!(Weights::of(&a), Weights::of(&b));

    // on several threads at once
    let expected = nn::predict(&a, &inputs(DType::F64))?;
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|_| scope.spawn(|| nn::predict(&b, &inputs(DType::F64))))
            .collect();
        for thread in threads {
            let outputs = thread.join().expect("no panic").expect("the same types");
            assert_eq!(outputs, expected);
        }
    });
    Ok(())
}

#[test]
fn inputs_of_another_type_are_errors_that_say_what_to_write() -> Result<()> {
    let layers: [(&str, Box<dyn Module>); 5] = [
        ("linear", Box::new(Linear::new(4, 3, 1).cast(DType::F64))),
        (
            "mlp",
            Box::new(nn::mlp(&[4, 3], Activation::Relu, 1).cast(DType::F64)),
        ),
        ("layer_norm", Box::new(LayerNorm::new(4).cast(DType::F64))),
        ("batch_norm", Box::new(BatchNorm1d::new(4).cast(DType::F64))),
        (
            "normalize",
            Box::new(Normalize::new(&[4])?.cast(DType::F64)),
        ),
    ];
    for (name, layer) in layers {
        let e = nn::predict(&layer, &inputs(DType::F32)).expect_err("f32");
        let e = e.to_string();
        let expected = "the layer is f64: convert its input by .cast(DType::F64), \
                        or the layer by .cast(DType::F32), got f32[20, 4]";
        assert!(e.contains(expected) && e.contains(name), "{name}: {e}");
        let e = nn::predict(&layer, &Tensor::zeros([2, 4], DType::I64)?).expect_err("i64");
        assert!(!e.to_string().contains("or the layer by"), "{e}");
    }
    let data = Dataset::new(inputs(DType::F32), labels())?;
    let fit = Trainer::new(&model()?, Sgd::new(0.1)).quiet().fit(&data);
    let e = fit.expect_err("f32").to_string();
    assert!(e.contains("convert its input by .cast(DType::F64)"), "{e}");

    // a layer of integers
    let e = nn::predict(&Linear::new(4, 3, 1).cast(DType::I64), &inputs(DType::F32));
    let e = e.expect_err("no floats").to_string();
    assert!(
        e.contains("the numbers of a layer must be f32 or f64, got i64[4, 3]"),
        "{e}"
    );
    let embedding = Embedding::new(4, 3, 1).cast(DType::Bool);
    assert!(nn::predict(&embedding, &labels()).is_err());
    Ok(())
}
