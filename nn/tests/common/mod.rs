//! What the tests of the trainer share: some data, a small model, its values, and messages of errors.

#![allow(dead_code)] // each test program uses some of it

use autograd::Tensor;
use nn::{Activation, Dataset, Module, Result};

/// Samples of four numbers in three classes.
pub(crate) fn data(n: usize) -> Dataset {
    let numbers = (0..n * 4).map(|k| ((k * 37 % 101) as f32 / 50.0) - 1.0);
    let inputs = Tensor::new([n, 4], numbers.collect::<Vec<_>>()).expect("fits");
    let labels: Vec<i64> = (0..n as i64).map(|k| k * 7 % 3).collect();
    Dataset::new(inputs, labels.into()).expect("as many rows")
}

pub(crate) fn model() -> nn::Mlp {
    nn::mlp(&[4, 5, 3], Activation::Tanh, 1)
}

pub(crate) fn values(model: &impl Module) -> Vec<Tensor> {
    let params = model.parameters().into_iter();
    params.map(|(_, param)| param.value()).collect()
}

/// The message of an error.
pub(crate) fn message<T>(result: Result<T>) -> String {
    match result {
        Ok(_) => "no error".into(),
        Err(e) => e.to_string(),
    }
}
