//! Complete trainings: they learn, they are reproducible, and errors are clear. Also single layers,
//! losses and initialisers.

use autograd::{DType, Graph, Param, Result, Tensor};
use nn::{Activation, Dataset, Dropout, Linear, Module, Optimizer, Sequential, Sgd, Trainer};

/// Three clusters of points, around the corners of a triangle.
fn blobs(samples: usize) -> Dataset {
    let noise = |k: usize| ((k as f32 * 12.9898).sin() * 43_758.547).fract();
    let corner = [(0.0, 1.0), (1.0, -1.0), (-1.0, -1.0)];
    let point = |k: usize| {
        [
            corner[k % 3].0 + 0.6 * noise(2 * k),
            corner[k % 3].1 + 0.6 * noise(2 * k + 1),
        ]
    };
    let inputs: Vec<f32> = (0..samples).flat_map(point).collect();
    let labels: Vec<i64> = (0..samples as i64).map(|k| k % 3).collect();
    Dataset::new(
        Tensor::new([samples, 2], inputs).expect("fits"),
        labels.into(),
    )
    .expect("fits")
}

fn weights(model: &impl Module) -> Vec<f64> {
    model
        .parameters()
        .iter()
        .flat_map(|(_, p)| p.value().to_f64s())
        .collect()
}

#[test]
fn linear_layer() -> Result<()> {
    let layer = Linear::new(3, 2, 1);
    let bound = 1.0 / 3f64.sqrt();
    let all = weights(&layer);
    assert!(
        all.len() == 8
            && all.iter().all(|w| w.abs() <= bound)
            && all.iter().any(|w| w.abs() > bound / 4.0)
    );
    assert_eq!(all, weights(&Linear::new(3, 2, 1)), "the same seed");
    assert_ne!(all, weights(&Linear::new(3, 2, 2)), "another seed");
    let large = weights(&Linear::new(100, 200, 3));
    let mean = large.iter().sum::<f64>() / large.len() as f64;
    let variance = large.iter().map(|w| w * w).sum::<f64>() / large.len() as f64;
    assert!(
        mean.abs() < 2e-3 && (variance - 0.01 / 3.0).abs() < 1e-4,
        "{mean} {variance}"
    );
    let g = Graph::new();
    let x = [[0.5f32, -1.0, 2.0]];
    let y = layer.forward(g.constant(x)).value()?.to_f64s();
    for (j, y) in y.iter().enumerate() {
        let expected: f64 = (0..3)
            .map(|i| f64::from(x[0][i]) * all[i * 2 + j])
            .sum::<f64>()
            + all[6 + j];
        assert!((y - expected).abs() < 1e-6);
    }
    assert_eq!(
        layer
            .forward(g.constant(Tensor::zeros([4, 5, 3], DType::F32)?))
            .dims(),
        Some([4, 5, 2])
    );
    Ok(())
}

#[test]
fn a_wrong_input_shape_names_the_layer_and_its_line() {
    let g = Graph::new();
    let (model, model_line) = (nn::mlp(&[3, 4, 2], Activation::Relu, 1), line!());
    let (output, call_line) = (model.forward(g.constant([[1f32, 2.0]])), line!());
    let e = output.value().expect_err("three features expected");
    assert_eq!(e.scope(), "mlp.0.linear");
    let text = e.to_string();
    assert!(
        text.contains("expected an input [.., 3]") && text.contains("f32[1, 2]"),
        "{text}"
    );
    assert!(
        text.contains(&format!("training.rs:{model_line}")),
        "{text}"
    );
    assert!(
        e.location()
            .is_some_and(|l| l.file().ends_with("training.rs") && l.line() == call_line),
        "{text}"
    );
}

#[test]
fn dropout_preserves_the_mean_and_is_off_in_evaluation() -> Result<()> {
    let x = Tensor::full([100, 100], 1f32)?;
    let layer = Dropout::new(0.25);
    let g = Graph::new();
    assert_eq!(layer.forward(g.constant(&x)).value()?, x);
    let g = Graph::training(3);
    let y = layer.forward(g.constant(&x)).value()?;
    let (nonzero, scale) = (
        y.to_f64s().iter().filter(|&&v| v != 0.0).count(),
        1.0 / 0.75,
    );
    assert!((7300..7700).contains(&nonzero), "{nonzero}");
    assert!(
        y.to_f64s()
            .iter()
            .all(|&v| v == 0.0 || (v - scale).abs() < 1e-6)
    );
    let g = Graph::training(3);
    assert_eq!(layer.forward(g.constant(&x)).value()?, y, "the same seed");
    for rate in [1.0, -0.1, f64::NAN] {
        assert!(Dropout::new(rate).forward(g.constant(&x)).value().is_err());
    }
    Ok(())
}

#[test]
fn sgd_follows_its_formula() -> Result<()> {
    let (rate, momentum, decay) = (0.02, 0.9, 0.01);
    let plain = [
        (0.0, 0.0, false),
        (momentum, 0.0, false),
        (0.0, decay, false),
        (momentum, decay, false),
    ];
    for (momentum, decay, nesterov) in plain.into_iter().chain([(momentum, decay, true)]) {
        let w = Param::new([1.0, -2.0, 0.5]);
        let mut sgd = Sgd::new(rate).momentum(momentum).weight_decay(decay);
        if nesterov {
            sgd = sgd.nesterov();
        }
        let (mut expected, mut velocity) = ([1.0, -2.0, 0.5f64], [0.0; 3]);
        for _ in 0..5 {
            let g = Graph::new();
            let loss = g.param(&w).powi(4).sum();
            sgd.step(loss);
            g.run(loss)?;
            for (w, v) in expected.iter_mut().zip(&mut velocity) {
                let d = 4.0 * w.powi(3) + decay * *w;
                *v = momentum * *v + d;
                *w -= rate * if nesterov { d + momentum * *v } else { *v };
            }
        }
        let got = w.value().to_f64s();
        assert!(
            got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12),
            "{got:?} {expected:?}"
        );
    }
    Ok(())
}

#[test]
fn gradients_are_clipped_together() -> Result<()> {
    for (limit, scale) in [(1.0, 0.2), (10.0, 1.0)] {
        let (a, b) = (Param::new([0.0]), Param::new([0.0]));
        let g = Graph::new();
        let loss = (g.param(&a) * 3.0 + g.param(&b) * 4.0).sum(); // gradients 3 and 4: a norm of 5
        Sgd::new(1.0).clip_norm(limit).step(loss);
        g.run(loss)?;
        assert_eq!(
            (a.value().scalar()?, b.value().scalar()?),
            (-3.0 * scale, -4.0 * scale)
        );
    }
    let w = Param::new([1.0]);
    let g = Graph::new();
    let loss = (g.param(&w) * 0.0).sum();
    Sgd::new(1.0).clip_norm(1.0).step(loss);
    g.run(loss)?;
    assert_eq!(w.value().scalar()?, 1.0, "a gradient of 0 stays 0");
    Ok(())
}

#[test]
fn losses_follow_their_formulas() -> Result<()> {
    let (x, t) = (
        Tensor::from([0.3, -1.7, 2.5]),
        Tensor::from([0.0, 1.0, 0.4]),
    );
    let pairs: Vec<(f64, f64)> = x.to_f64s().into_iter().zip(t.to_f64s()).collect();
    let mean = |f: &dyn Fn(f64, f64) -> f64| pairs.iter().map(|&(x, t)| f(x, t)).sum::<f64>() / 3.0;
    let s = |x: f64| 1.0 / (1.0 + (-x).exp());
    let g = Graph::new();
    let (vx, vt) = (g.input(&x), g.constant(&t));
    let close = |loss: autograd::Var<'_>, expected: f64| {
        let got = loss.value().and_then(|t| t.scalar()).expect("a number");
        assert!((got - expected).abs() < 1e-14, "{got} {expected}");
    };
    close(nn::loss::mse(vx, vt), mean(&|x, t| (x - t).powi(2)));
    close(nn::loss::mae(vx, vt), mean(&|x, t| (x - t).abs()));
    let huber = |d: f64| {
        if d.abs() <= 1.0 {
            d * d / 2.0
        } else {
            d.abs() - 0.5
        }
    };
    close(nn::loss::huber(1.0)(vx, vt), mean(&|x, t| huber(x - t)));
    close(
        nn::loss::bce_with_logits(vx, vt),
        mean(&|x, t| -t * s(x).ln() - (1.0 - t) * (1.0 - s(x)).ln()),
    );
    for loss in [nn::loss::mse, nn::loss::mae, nn::loss::bce_with_logits] {
        autograd::check_grads(|v| loss(v[0], v[1]), &[x.clone(), t.clone()])?;
        let e = loss(vx, g.constant(0.0))
            .value()
            .expect_err("no broadcasting here");
        assert!(e.message().contains("the target's shape []"), "{e}");
    }
    autograd::check_grads(|v| nn::loss::huber(1.0)(v[0], v[1]), &[x, t])
}

#[test]
fn initialisers_have_the_published_variances() -> nn::Result<()> {
    use nn::init;
    let shape = [300, 200];
    let variance = |t: Tensor| t.to_f64s().iter().map(|v| v * v).sum::<f64>() / t.len() as f64;
    let cases = [
        (init::uniform(&shape, 0.3, 1)?, 0.03),
        (init::normal(&shape, 0.5, 1)?, 0.25),
        (init::xavier_uniform(&shape, 1)?, 2.0 / 500.0),
        (init::xavier_normal(&shape, 1)?, 2.0 / 500.0),
        (init::kaiming_uniform(&shape, 1)?, 2.0 / 300.0),
        (init::kaiming_normal(&shape, 1)?, 2.0 / 300.0),
    ];
    for (t, expected) in cases {
        assert_eq!((t.shape(), t.dtype()), (&shape[..], DType::F32));
        assert!((variance(t) / expected - 1.0).abs() < 0.03);
    }
    assert_eq!(init::normal(&[5], 1.0, 9)?, init::normal(&[5], 1.0, 9)?);
    assert!(
        init::kaiming_normal(&[5], 1).is_err() && init::uniform(&[usize::MAX, 3], 1.0, 1).is_err()
    );
    assert!(
        Linear::from_tensors(init::normal(&[3, 2], 1.0, 1)?, init::normal(&[3], 1.0, 1)?).is_err()
    );
    Ok(())
}

#[test]
fn frozen_parameters_do_not_change() -> nn::Result<()> {
    let model = nn::mlp(&[2, 8, 3], Activation::Tanh, 1);
    let params = model.parameters();
    params[0].1.freeze(true);
    let before = params[0].1.value();
    Trainer::new(&model, Sgd::new(0.1).weight_decay(0.1))
        .quiet()
        .fit(&blobs(90))?;
    assert_eq!(params[0].1.value(), before);
    assert_eq!(model.num_parameters(), 8 + 8 * 3 + 3);
    Ok(())
}

#[test]
fn a_small_training_learns() -> nn::Result<()> {
    let (train, test) = (blobs(300), blobs(99));
    for activation in Activation::ALL {
        let model = nn::mlp(&[2, 16, 3], activation, 5);
        let history = Trainer::new(&model, Sgd::new(0.1).momentum(0.9))
            .batch_size(16)
            .epochs(15)
            .schedule(nn::schedule::cosine)
            .validate(&test)
            .quiet()
            .fit(&train)?;
        assert_eq!(history.len(), 15);
        let last = history[14].validation.expect("validated");
        assert!(
            last.accuracy > Some(0.97) && history[14].train.loss < history[0].train.loss,
            "{activation}: {last}"
        );
        assert_eq!(nn::evaluate(&model, &test, nn::loss::cross_entropy)?, last);
        assert_eq!(nn::predict(&model, &test.inputs()?)?.shape(), [99, 3]);
    }
    Ok(())
}

#[test]
fn the_same_seed_gives_the_same_bits_on_any_number_of_threads() -> nn::Result<()> {
    let train = |seed: u64, threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .expect("threads");
        pool.install(|| -> nn::Result<Vec<u64>> {
            // wide enough for matrix products to run on several threads
            let model = nn::mlp(&[2, 600, 600, 3], Activation::Relu, seed).dropout(0.1);
            let sgd = Sgd::new(0.05).momentum(0.9);
            Trainer::new(&model, sgd)
                .batch_size(64)
                .seed(seed)
                .quiet()
                .fit(&blobs(150))?;
            Ok(weights(&model).iter().map(|w| w.to_bits()).collect())
        })
    };
    let expected = train(1, 1)?;
    for threads in [2, 3, 8] {
        assert!(expected == train(1, threads)?, "{threads} threads");
    }
    assert!(expected != train(2, 1)?, "another seed");
    Ok(())
}

#[test]
fn batches_contain_every_sample_once() -> nn::Result<()> {
    let data = Dataset::new(
        Tensor::new([10, 1], (0..10).map(|k| k as f32).collect())?,
        Tensor::new([10], (0..10i64).collect())?,
    )?;
    let order = |seed| -> nn::Result<Vec<i64>> {
        let mut all = Vec::new();
        for batch in data.shuffled_batches(4, seed) {
            let (x, y) = batch?;
            assert_eq!(x.to_f64s(), y.to_f64s(), "rows stay together");
            all.extend_from_slice(y.as_slice::<i64>()?);
        }
        Ok(all)
    };
    let mut first = order(1)?;
    assert_ne!(first, order(2)?);
    assert_eq!(first, order(1)?);
    first.sort_unstable();
    assert_eq!(first, (0..10).collect::<Vec<i64>>());
    assert_eq!(data.batches(4).len(), 3);
    Ok(())
}

#[test]
fn invalid_settings_are_errors() {
    let (model, data) = (nn::mlp(&[2, 3], Activation::Relu, 1), blobs(9));
    let before = weights(&model);
    for sgd in [
        Sgd::new(f64::NAN),
        Sgd::new(-0.1),
        Sgd::new(f64::INFINITY),
        Sgd::new(0.1).momentum(-1.0),
    ] {
        assert!(Trainer::new(&model, sgd).quiet().fit(&data).is_err());
    }
    assert!(
        Trainer::new(&model, Sgd::new(0.1))
            .batch_size(0)
            .quiet()
            .fit(&data)
            .is_err()
    );
    let labels =
        Dataset::new(data.inputs().expect("fits"), Tensor::from(vec![7i64; 9])).expect("fits");
    let e = Trainer::new(&model, Sgd::new(0.1))
        .quiet()
        .fit(&labels)
        .expect_err("no such class");
    assert!(e.to_string().contains("label 7"), "{e}");
    let other = nn::mlp(&[5, 3], Activation::Relu, 1);
    assert!(
        Trainer::new(&other, Sgd::new(0.1))
            .quiet()
            .fit(&data)
            .is_err_and(|e| e.to_string().contains("expected an input [.., 5]"))
    );
    assert!(Dataset::new(Tensor::from([1.0]), Tensor::from([1, 2])).is_err());
    let panics = Trainer::new(&model, Sgd::new(0.1))
        .loss(|_, _| panic!("in the loss"))
        .quiet()
        .fit(&data);
    assert!(panics.is_err_and(|e| e.to_string().contains("in the loss")));
    assert_eq!(weights(&model), before, "nothing was changed");
}

#[test]
fn parameter_names_are_paths_and_tied_parameters_are_listed_once() {
    struct Tied(Linear);
    impl Module for Tied {
        fn forward<'g>(&self, x: autograd::Var<'g>) -> autograd::Var<'g> {
            self.0.forward(self.0.forward(x))
        }
        fn params(&self, p: &mut nn::Params) {
            p.module("encoder", &self.0).module("decoder", &self.0);
        }
    }
    let tied = Tied(Linear::new(3, 3, 1));
    let names = |m: &dyn Module| {
        m.parameters()
            .into_iter()
            .map(|(n, _)| n)
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&tied), ["encoder.weight", "encoder.bias"]);
    assert_eq!(tied.num_parameters(), 12);
    let model = Sequential::new()
        .then(tied)
        .then(Activation::Relu)
        .then(nn::mlp(&[3, 2], Activation::Relu, 1));
    assert_eq!(
        names(&model),
        [
            "0.encoder.weight",
            "0.encoder.bias",
            "2.layers.0.weight",
            "2.layers.0.bias"
        ]
    );
    // a tied parameter is updated once, with the sum of both gradients
    let g = Graph::new();
    let loss = model.forward(g.constant([[1f32, 2.0, 3.0]])).sum();
    Sgd::new(0.1).step(loss);
    g.run(loss).expect("one update each");
}
