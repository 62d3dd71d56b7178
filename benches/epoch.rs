//! The overhead of the trainer: `cargo bench --bench epoch`.
//!
//! It compares an epoch with the default settings of `mnist_mlp` with the same number of steps on
//! prepared batches, with one thread and with all threads.

use autograd::Graph;
use nn::{Activation, Module, Optimizer, Sgd, Trainer, data, loss};
use std::{path::Path, time::Instant};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data/mnist");
    let (train, _) = data::read_mnist(directory)?;
    for threads in [1, std::thread::available_parallelism()?.get()] {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()?;
        let (mut epoch, mut steps) = (f64::MAX, f64::MAX);
        for _ in 0..5 {
            let (a, b) = pool.install(|| measure(&train))?;
            (epoch, steps) = (epoch.min(a), steps.min(b));
        }
        println!(
            "{threads} thread(s): epoch {:.1} ms, steps only {:.1} ms, ratio {:.3}",
            epoch * 1e3,
            steps * 1e3,
            epoch / steps
        );
    }
    Ok(())
}

/// The time of an epoch and of its steps only, in seconds.
fn measure(train: &nn::Dataset) -> nn::Result<(f64, f64)> {
    let model = nn::mlp(&[784, 128, 10], Activation::Relu, 42);
    let history = Trainer::new(&model, Sgd::new(0.07).momentum(0.9))
        .quiet()
        .fit(train)?;
    let sgd = Sgd::new(0.07).momentum(0.9);
    let batches: Vec<_> = train.shuffled_batches(64, 1).collect::<nn::Result<_>>()?;
    let start = Instant::now();
    for (step, (images, labels)) in batches.into_iter().enumerate() {
        let g = Graph::training(step as u64);
        let loss = loss::cross_entropy(model.forward(g.constant(images)), g.constant(labels));
        sgd.step(loss);
        g.run(loss)?;
    }
    Ok((history[0].time.as_secs_f64(), start.elapsed().as_secs_f64()))
}
