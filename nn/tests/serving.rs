//! A model that is used by several threads while another one trains it: each answer is that of one
//! completed step.

use autograd::{Graph, Tensor, compile};
use nn::{
    Activation, Adam, BatchNorm1d, Dataset, Linear, Module, Optimizer, Result, Sequential, Weights,
};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

fn model() -> Sequential {
    Sequential::new()
        .then(Linear::new(4, 8, 1))
        .then(BatchNorm1d::new(8))
        .then(Activation::Tanh)
        .then(Linear::new(8, 8, 2))
        .then(Activation::Relu)
        .then(Linear::new(8, 3, 3))
}

/// So many rows, of which each third is the same.
fn inputs(rows: usize) -> Tensor {
    let number = |k: usize| (k % 12 * 37 % 101) as f32 / 50.0 - 1.0;
    let numbers: Vec<f32> = (0..rows * 4).map(number).collect();
    Tensor::new([rows, 4], numbers).expect("fits")
}

fn hash(outputs: &Tensor) -> u64 {
    let mut hasher = DefaultHasher::new();
    for number in outputs.to_f64s() {
        number.to_bits().hash(&mut hasher);
    }
    hasher.finish()
}

/// A way to ask a model for its outputs for `inputs(3)`.
type Ask<'a> = &'a (dyn Fn() -> Result<Tensor> + Sync);

/// So many predictions in all, of four threads, while another one trains. The number of steps.
fn serve(predictions: usize) -> Result<usize> {
    let (model, adam, x) = (model(), Adam::new(0.01), inputs(3));
    let by_graph = || {
        let g = Graph::new();
        let outputs = model.forward(g.constant(&x));
        let again = outputs * 1.0 + 0.0 * model.forward(g.constant(&x));
        let (first, again) = (outputs.value()?, again.value()?);
        assert!(first == again, "what a graph has read stays");
        Ok(first)
    };
    let function = compile(|[x]| [model.forward(x)]);
    let by_function = || Ok(function.call([&x])?[0].clone());
    let by_predict = || nn::predict(&model, &x);
    let (large, step) = (inputs(2001), AtomicUsize::new(0));
    let in_other_ways = || match step.fetch_add(1, SeqCst) % 64 {
        0 => {
            // three batches with the same weights
            let outputs = nn::predict(&model, &large)?;
            let first = outputs.rows(&[0, 1, 2])?;
            let all = Tensor::from_rows(&vec![first.clone(); 667])?;
            assert!(all == outputs);
            Ok(first)
        }
        1 => {
            let directory = tempfile::tempdir().expect("a directory");
            let (file, copy) = (directory.path().join("weights"), self::model());
            nn::save(&model, &file)?;
            nn::load(&copy, &file)?;
            nn::predict(&copy, &x)
        }
        2 => {
            let data = Dataset::new(x.clone(), vec![0i64, 1, 2].into())?;
            nn::evaluate(&model, &data, nn::loss::cross_entropy)?;
            by_predict()
        }
        _ => nn::predict_with(&model, &Weights::of(&model), &x),
    };
    let readers: [Ask<'_>; 4] = [&by_graph, &by_function, &by_predict, &in_other_ways];
    let asked = &AtomicUsize::new(0);
    let (mut committed, mut seen) = (HashSet::new(), Vec::new());
    std::thread::scope(|scope| -> Result<()> {
        let ask = |ask: Ask<'_>| -> HashSet<u64> {
            let numbers = std::iter::repeat_with(|| asked.fetch_add(1, SeqCst));
            let numbers = numbers.take_while(|&number| number < predictions);
            let answers = numbers.map(|_| hash(&ask().expect("never an error")));
            answers.collect()
        };
        let threads = readers.map(|reader| scope.spawn(move || ask(reader)));
        committed.insert(hash(&by_predict()?));
        while !threads.iter().all(|thread| thread.is_finished()) {
            let g = Graph::training(1);
            let outputs = model.forward(g.constant(inputs(12)));
            let labels = g.constant((0..12).map(|k| k * 7 % 3).collect::<Vec<i64>>());
            let loss = nn::loss::cross_entropy(outputs, labels);
            adam.step(loss);
            g.run(loss)?; // nobody else updates the model
            committed.insert(hash(&by_predict()?));
        }
        let answers = threads.map(|thread| thread.join().expect("no panic"));
        seen.extend(answers);
        Ok(())
    })?;
    for (k, answers) in seen.iter().enumerate() {
        let unknown = answers.difference(&committed).count();
        assert_eq!(
            unknown,
            0,
            "mixtures of {} answers in way {k}",
            answers.len()
        );
        assert!(answers.len() > 10, "many versions in way {k}");
    }
    Ok(committed.len() - 1)
}

#[test]
fn each_prediction_is_that_of_one_step() -> Result<()> {
    let steps = serve(100_000)?;
    println!("{steps} steps");
    assert!(steps > 100, "the training goes on");
    Ok(())
}

#[test]
#[ignore = "a minute"]
fn each_of_a_million_predictions_is_that_of_one_step() -> Result<()> {
    println!("{} steps", serve(1_000_000)?);
    Ok(())
}
