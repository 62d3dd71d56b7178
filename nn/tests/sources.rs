//! Where samples come from, in which order, and how much each one counts.

mod common;

use autograd::{Tensor, Var};
use common::{message, model, values};
use nn::{
    Activation, Adam, Dataset, Linear, Module, Params, Result, Sgd, Trainer,
    data::{self, Batch, Source, Subset, order},
    loss, metrics,
};
use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

/// A source that counts what is drawn from it.
struct Counting {
    of: Dataset,
    drawn: Mutex<Vec<usize>>,
    most_at_once: AtomicUsize,
}

impl Counting {
    fn new(of: Dataset) -> Counting {
        Counting {
            of,
            drawn: Mutex::default(),
            most_at_once: AtomicUsize::new(0),
        }
    }
}

impl Source for Counting {
    fn len(&self) -> usize {
        Source::len(&self.of)
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        self.drawn.lock().expect("no panic").extend(samples);
        self.most_at_once.fetch_max(samples.len(), SeqCst);
        self.of.batch(samples)
    }
}

#[test]
fn a_source_trains_to_the_bits_of_its_dataset() -> Result<()> {
    let (train, held_out) = (common::data(103), common::data(40));
    let fit = |train: &dyn Source, held_out: &Counting| {
        let m = model();
        let history = Trainer::new(&m, Adam::new(1e-2))
            .batch_size(10)
            .epochs(3)
            .validate(held_out)
            .quiet()
            .fit(train)?;
        let losses: Vec<_> = history.iter().map(|e| (e.train, e.validation)).collect();
        Ok::<_, nn::Error>((values(&m), losses))
    };
    let (counting, held_out) = (Counting::new(train.clone()), Counting::new(held_out));
    let of_dataset = fit(&train, &held_out)?;
    assert!(fit(&counting, &held_out)? == of_dataset);
    assert!(fit(&Box::new(&counting), &held_out)? == of_dataset);
    assert_eq!(counting.most_at_once.load(SeqCst), 10);
    // every sample once in each epoch, beside those that are looked at before the first step
    let mut counts = vec![0; 103];
    let drawn = counting.drawn.lock().expect("no panic");
    drawn.iter().for_each(|&k| counts[k] += 1);
    assert!(counts[10..].iter().all(|&n| n == 6), "{counts:?}");
    Ok(())
}

#[test]
fn subsets_and_splits_read_nothing_themselves() -> Result<()> {
    let files = Counting::new(common::data(50));
    let (train, held_out) = data::split(&files, 0.8, 7)?;
    assert_eq!((train.len(), held_out.len()), (40, 10));
    assert!(files.drawn.lock().expect("no panic").is_empty());
    // the same parts as those of a dataset
    let (first, second) = common::data(50).split(0.8, 7)?;
    let all = |n: usize| (0..n).collect::<Vec<usize>>();
    assert_eq!(train.batch(&all(40))?, first.batch(&all(40))?);
    assert_eq!(held_out.batch(&all(10))?, second.batch(&all(10))?);
    assert_eq!(
        message(Subset::new(&files, vec![3, 50])),
        "there is no sample 50: there are 50"
    );
    let sizes = data::batches(&files, order::in_order(50, 0), 20).map(|b| Ok(b?.len()));
    assert_eq!(sizes.collect::<Result<Vec<_>>>()?, [20, 20, 10]);
    Ok(())
}

#[test]
fn files_train_to_the_bits_of_a_dataset_in_memory() -> Result<()> {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, header: &[u8], elements: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, [header, elements].concat()).expect("writable");
        data::ArrayFile::open(path)
    };
    let pixels: Vec<u8> = (0..200 * 4).map(|k| (k * 37 % 256) as u8).collect();
    let labels: Vec<u8> = (0..200).map(|k| (k * 7 % 3) as u8).collect();
    let images = || write("images", &[0, 0, 8, 2, 0, 0, 0, 200, 0, 0, 0, 4], &pixels);
    let of_labels = |count: u8| {
        write(
            "labels",
            &[0, 0, 8, 1, 0, 0, 0, count],
            &labels[..count.into()],
        )
    };
    let files = data::FileDataset::new(images()?, of_labels(200)?)?.divide_by(255.0)?;
    let in_memory: Vec<i64> = labels.iter().map(|&l| l.into()).collect();
    let in_memory = Dataset::from_bytes(&[200, 4], pixels.clone(), 255.0, in_memory.into())?;
    let fit = |train: &dyn Source| {
        let m = model();
        let trainer = Trainer::new(&m, Adam::new(1e-2)).batch_size(16).epochs(3);
        trainer.order(order::blocks(8, 3)).quiet().fit(train)?;
        Ok::<_, nn::Error>(values(&m))
    };
    assert!(fit(&files)? == fit(&in_memory)?);
    let error = message(data::FileDataset::new(images()?, of_labels(199)?));
    assert_eq!(error, "there are 200 inputs and 199 targets");
    let files = data::FileDataset::new(images()?, of_labels(200)?)?;
    assert!(message(files.divide_by(0.0)).contains("other than 0"));
    Ok(())
}

/// A source that is wrong in some way.
struct Wrong(fn(&[usize]) -> Result<Batch>);

impl Source for Wrong {
    fn len(&self) -> usize {
        20
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        (self.0)(samples)
    }
}

#[test]
fn what_a_source_gives_is_checked() {
    let rows = |n: usize| Tensor::full([n, 4], 0.5f32).expect("fits");
    let fit = |source: &Wrong| {
        let m = model();
        let mut trainer = Trainer::new(&m, Sgd::new(0.1)).batch_size(8).quiet();
        message(trainer.fit(source))
    };
    let short = Wrong(|samples| {
        let n = samples.len() - 1;
        Ok(Batch::new(
            Tensor::full([n, 4], 0.5f32)?,
            vec![0i64; n].into(),
        ))
    });
    assert_eq!(
        fit(&short),
        "the source gave a tensor of shape [7, 4] for 8 samples"
    );
    assert_eq!(
        fit(&Wrong(|_| panic!("no disk"))),
        "the source panicked: no disk"
    );
    let empty = Wrong(|_| {
        Ok(Batch {
            inputs: Vec::new(),
            targets: Vec::new(),
            weights: None,
        })
    });
    assert_eq!(fit(&empty), "a batch needs an input and a target at least");
    let data = Dataset::new(rows(3), vec![0i64; 3].into()).expect("as many");
    for (weights, why) in [
        (Tensor::from([1f32, 2.0]), "expected a number for each of 3"),
        (Tensor::from([1, 2, 3]), "expected a number for each of 3"),
        (Tensor::from([1f32, -1.0, 2.0]), "-1 at 1"),
        (Tensor::from([1f32, 1.0, f32::NAN]), "NaN at 2"),
    ] {
        let error = message(data.clone().with_weights(weights));
        assert!(error.contains(why), "{error}");
    }
    assert!(message(data.clone().and_input(rows(4))).contains("do not match 3 samples"));
    assert!(message(data.and_target(rows(2))).contains("do not match 3 samples"));
}

#[test]
fn orders() -> Result<()> {
    let labels: Vec<i64> = (0..1000).map(|k| i64::from(k % 100 == 0)).collect();
    let is_permutation = |mut order: Vec<usize>| {
        order.sort();
        order == order::in_order(order.len(), 0)
    };
    for (n, block, window) in [(0, 4, 2), (1, 1, 1), (103, 10, 3), (100, 200, 0), (7, 0, 5)] {
        let blocks = order::blocks(block, window);
        assert!(is_permutation(blocks(n, 5)) && is_permutation(order::shuffled(n, 5)));
        assert_eq!(blocks(n, 5), blocks(n, 5));
        assert!(n < 100 || blocks(n, 5) != blocks(n, 6));
    }
    // no more than the blocks of a window at a time
    let order = order::blocks(10, 3)(300, 9);
    for part in order.chunks(30) {
        let mut blocks: Vec<usize> = part.iter().map(|k| k / 10).collect();
        blocks.sort();
        blocks.dedup();
        assert_eq!(blocks.len(), 3);
    }
    let balanced = order::balanced(&labels)?(1000, 3);
    let rare = balanced.iter().filter(|&&k| labels[k] == 1).count();
    assert!((430..570).contains(&rare), "{rare} of 1000"); // 4.4 standard deviations
    let weighted = order::weighted(&[0.0, 1.0, 0.0, 3.0, 0.0])?;
    let drawn: Vec<usize> = (0..400).flat_map(|seed| weighted(5, seed)).collect();
    assert!(drawn.iter().all(|k| [1, 3].contains(k)));
    let third = drawn.iter().filter(|&&k| k == 3).count();
    assert!((1415..1585).contains(&third), "{third} of 2000"); // 4.4 standard deviations
    for weights in [
        &[0.0, 0.0][..],
        &[-1.0, 2.0],
        &[f64::NAN],
        &[],
        &[1e308, 1e308],
    ] {
        assert!(order::weighted(weights).is_err(), "{weights:?}");
    }

    let m = model();
    let trainer = || Trainer::new(&m, Sgd::new(0.1)).quiet();
    let error = message(
        trainer()
            .order(|n, _| vec![0; n - 1])
            .fit(&common::data(20)),
    );
    assert_eq!(error, "the order has 19 entries for 20 samples");
    let error = message(trainer().order(|n, _| vec![n; n]).fit(&common::data(20)));
    assert_eq!(error, "there is no sample 20: there are 20");
    let error = message(
        trainer()
            .order(|_, _| panic!("no order"))
            .fit(&common::data(20)),
    );
    assert_eq!(error, "the order panicked: no order");
    Ok(())
}

#[test]
fn a_weight_counts_as_so_many_samples() -> Result<()> {
    // weights of whole numbers are repetitions, and 0 leaves a sample out
    let few = common::data(12);
    let counts: Vec<usize> = (0..12).map(|k| k % 4).collect();
    let repeated = counts.iter().enumerate();
    let repeated = repeated.flat_map(|(k, &n)| std::iter::repeat_n(k, n));
    let (inputs, labels) = few.rows(&repeated.collect::<Vec<_>>())?;
    let repeated = Dataset::new(inputs, labels)?;
    let weights: Vec<f32> = counts.iter().map(|&n| n as f32).collect();
    let weighted = few.clone().with_weights(weights.into())?;
    let fit = |train: &Dataset| {
        let m = nn::mlp(&[4, 5, 3], Activation::Tanh, 1);
        let history = Trainer::new(&m, Sgd::new(0.5))
            .loss(loss::unreduced::cross_entropy)
            .batch_size(100)
            .epochs(20)
            .validate(train)
            .quiet()
            .fit(train)?;
        let last = history.last().expect("20 epochs").clone();
        let validation = last.validation.map_or(f64::NAN, |v| v.loss);
        Ok::<_, nn::Error>((values(&m), [last.train.loss, validation]))
    };
    let ((a, losses), (b, others)) = (fit(&weighted)?, fit(&repeated)?);
    let near = |a: f64, b: f64| (a - b).abs() < 1e-5;
    assert!(
        losses.iter().zip(others).all(|(a, b)| near(*a, b)),
        "{losses:?} {others:?}"
    );
    let pairs = a
        .iter()
        .zip(&b)
        .flat_map(|(a, b)| a.to_f64s().into_iter().zip(b.to_f64s()));
    assert!(pairs.into_iter().all(|(a, b)| near(a, b)));
    let m = model();
    let evaluated = nn::evaluate(&m, &weighted, loss::unreduced::cross_entropy)?;
    let expected = nn::evaluate(&m, &repeated, loss::cross_entropy)?;
    assert!(near(evaluated.loss, expected.loss));

    // a batch in which nothing counts changes nothing
    let nothing = few.clone().with_weights(Tensor::full([12], 0f32)?)?;
    assert!(fit(&nothing)?.0 == values(&nn::mlp(&[4, 5, 3], Activation::Tanh, 1)));

    // one number for the batch cannot be weighted
    let mut trainer = Trainer::new(&m, Sgd::new(0.1)).quiet();
    let error = message(trainer.fit(&weighted));
    assert!(error.contains("one number for each sample"), "{error}");
    let error = message(nn::evaluate(&m, &weighted, loss::cross_entropy));
    assert!(error.contains("one number for each sample"), "{error}");

    // a loss of several numbers for each sample
    let regression = Dataset::new(few.inputs()?, Tensor::full([12, 3], 0.25f32)?)?;
    let weighted = regression.with_weights(Tensor::full([12], 0.5f32)?)?;
    let (a, b) = (loss::unreduced::mse, loss::mse);
    let a = nn::evaluate(&m, &weighted, a)?;
    let (inputs, targets) = (weighted.inputs()?, weighted.targets().clone());
    let b = nn::evaluate(&m, &Dataset::new(inputs, targets)?, b)?;
    assert!(near(a.loss, b.loss));
    Ok(())
}

/// A model of two inputs and two outputs.
struct Towers {
    left: Linear,
    right: Linear,
}

impl Towers {
    fn outputs<'g>(&self, inputs: &[Var<'g>]) -> Vec<Var<'g>> {
        let left = self.left.forward(inputs[0]);
        let right = self.right.forward(inputs[1]);
        vec![left + right, left.sum_axis(-1) * right.sum_axis(-1)]
    }
}

impl Module for Towers {
    fn forward<'g>(&self, x: Var<'g>) -> Var<'g> {
        self.left.forward(x)
    }
    fn params(&self, p: &mut Params) {
        p.module("left", &self.left).module("right", &self.right);
    }
}

#[test]
fn several_inputs_outputs_and_targets() -> Result<()> {
    let towers = || Towers {
        left: Linear::new(4, 3, 1),
        right: Linear::new(4, 3, 2),
    };
    let data = common::data(64)
        .and_input(Tensor::full([64, 4], 0.25f32)?)?
        .and_target(Tensor::full([64], 1f32)?)?;
    let trainer = |m| {
        Trainer::new(m, Adam::new(1e-2))
            .forward(Towers::outputs)
            .loss_of(|outputs, targets| {
                loss::cross_entropy(outputs[0], targets[0]) + loss::mse(outputs[1], targets[1])
            })
            .metric_of("error", |outputs, targets| {
                metrics::mean_absolute_error(outputs[1], targets[1])
            })
            .epochs(10)
            .batch_size(16)
            .quiet()
    };
    let m = towers();
    let (train, held_out) = data.split(0.75, 1)?;
    let mut fitted = trainer(&m).validate(&held_out);
    let history = fitted.fit(&train)?;
    let (first, last) = (&history[0], &history[9]);
    assert!(last.train.loss < 0.8 * first.train.loss);
    assert!(last.metric("error") < first.metric("error"));
    assert!(last.validation.is_some_and(|v| v.accuracy.is_some()));
    // what the trainer says is what a graph says
    let evaluation = fitted.evaluate(&held_out)?;
    assert_eq!(Some(evaluation.metrics), last.validation);
    assert_eq!(evaluation.values, last.metrics);
    let g = autograd::Graph::new();
    let batch = held_out.batch(&order::in_order(16, 0))?;
    let inputs: Vec<Var<'_>> = batch.inputs.iter().map(|t| g.constant(t)).collect();
    let error = (m.outputs(&inputs)[1] - g.constant(&batch.targets[1]))
        .abs()
        .mean();
    let error = error.value()?.scalar()?;
    assert!(
        last.metric("error")
            .is_some_and(|e| (e - error).abs() < 1e-6)
    );

    // who does not say how several are used is told
    let m = towers();
    let error = message(Trainer::new(&m, Sgd::new(0.1)).quiet().fit(&data));
    assert!(
        error.starts_with("the samples have 2 inputs: `Trainer::forward`"),
        "{error}"
    );
    let one = data.clone();
    let mut trainer = Trainer::new(&m, Sgd::new(0.1))
        .quiet()
        .forward(Towers::outputs);
    let error = message(trainer.fit(&one));
    assert!(
        error.starts_with("the samples have 2 outputs: `Trainer::loss_of`"),
        "{error}"
    );
    let mut trainer = Trainer::new(&m, Sgd::new(0.1))
        .quiet()
        .forward(|_, _| Vec::new());
    assert_eq!(message(trainer.fit(&one)), "the model gives no outputs");
    let error = message(nn::evaluate(&m, &data, loss::cross_entropy));
    assert!(error.starts_with("the samples have 2 inputs"), "{error}");
    Ok(())
}

#[test]
fn a_batch_is_augmented_as_a_whole() -> Result<()> {
    // mixes each sample with the next one, its soft labels too
    let mix = |tensor: &Tensor| -> Result<Tensor> {
        let n = tensor.shape()[0];
        let next: Vec<usize> = (0..n).map(|k| (k + 1) % n).collect();
        let g = autograd::Graph::new();
        let mixed = g.constant(tensor) * 0.75 + g.constant(tensor.rows(&next)?) * 0.25;
        Ok(mixed.value()?)
    };
    let soft = Tensor::from([[1f32, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
    let inputs = common::data(3).inputs()?;
    let (m, by_hand) = (model(), model());
    let fit = |m: &nn::Mlp, data: &Dataset, augment: bool| {
        let trainer = Trainer::new(m, Sgd::new(0.5))
            .epochs(3)
            .order(order::in_order)
            .quiet();
        match augment {
            false => trainer.augment_batch(|batch, _| Ok(batch)).fit(data),
            true => trainer
                .augment_batch(move |batch, _| {
                    Ok(Batch::new(mix(&batch.inputs[0])?, mix(&batch.targets[0])?))
                })
                .fit(data),
        }
    };
    fit(&m, &Dataset::new(inputs.clone(), soft.clone())?, true)?;
    fit(&by_hand, &Dataset::new(mix(&inputs)?, mix(&soft)?)?, false)?;
    assert!(values(&m) == values(&by_hand));
    Ok(())
}
