//! Four threads answer requests while a fifth one trains the same model: no copy, no lock, and each answer
//! is that of one step.

use crate::{Result, expect};
use nn::{Activation, Adam, Trainer, data, loss};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

pub(crate) fn run() -> Result {
    let (train, test) = data::digits()?;
    let model = nn::mlp(&[64, 32, 10], Activation::Relu, 1);
    let request = test.rows(&[0, 1, 2])?.0;
    let (done, answers) = (AtomicBool::new(false), AtomicUsize::new(0));
    let history = std::thread::scope(|threads| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    while !done.load(Relaxed) {
                        nn::predict(&model, &request)?;
                        answers.fetch_add(1, Relaxed);
                    }
                    Ok::<(), nn::Error>(())
                })
            })
            .collect();
        let history = Trainer::new(&model, Adam::new(3e-3))
            .epochs(8)
            .quiet()
            .fit(&train);
        done.store(true, Relaxed);
        for client in clients {
            client.join().map_err(|_| "a client panicked")??;
        }
        Ok::<_, Box<dyn std::error::Error>>(history?)
    })?;
    let answers = answers.into_inner();
    let accuracy = nn::evaluate(&model, &test, loss::cross_entropy)?
        .accuracy
        .unwrap_or(0.0);
    println!(
        "{answers} answers during {} epochs; accuracy then {accuracy:.3}",
        history.len()
    );
    expect(
        answers > 100 && accuracy > 0.84,
        format!("{answers} answers, accuracy {accuracy}"),
    )
}
