//! Orders: which samples an epoch goes through. An order is a function of the number of samples and of
//! a seed, another one for each epoch, and has as many entries as there are samples. So there is
//! nothing to store when a training is interrupted.
//!
//! ```
//! # use autograd::Tensor;
//! # let inputs = Tensor::full([100, 4], 0.5f32)?;
//! use nn::{Activation, Dataset, Sgd, Trainer, data::order};
//! let labels = [vec![0; 95], vec![1; 5]].concat(); // one class is rare
//! let data = Dataset::new(inputs, labels.clone().into())?;
//! let model = nn::mlp(&[4, 2], Activation::Relu, 1);
//! Trainer::new(&model, Sgd::new(0.1)).order(order::balanced(&labels)?).quiet().fit(&data)?;
//! # Ok::<(), nn::Error>(())
//! ```

use crate::{
    error::{Error, Result},
    seed,
};
use rand::{RngExt, seq::SliceRandom};
use std::collections::HashMap;

/// Every sample once, shuffled: what the trainer does by default.
pub fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    order.shuffle(&mut seed::generator(seed));
    order
}

/// Every sample once, as they come.
pub fn in_order(count: usize, _seed: u64) -> Vec<usize> {
    (0..count).collect()
}

/// Every sample once, shuffled for files that are read piece by piece: blocks of `block` neighbours
/// come in random order, and the samples of `window` blocks at a time are mixed.
///
/// ```
/// let order = nn::data::order::blocks(4, 2)(20, 7);
/// let mut first: Vec<usize> = order[..8].iter().map(|k| k / 4).collect();
/// first.sort();
/// first.dedup();
/// assert!(first.len() <= 3); // eight samples of two blocks, or of three if the last one is among them
/// ```
pub fn blocks(block: usize, window: usize) -> impl Fn(usize, u64) -> Vec<usize> {
    let (block, window) = (block.max(1), window.max(1));
    move |count, seed| {
        let mut rng = seed::generator(seed);
        let mut blocks: Vec<usize> = (0..count.div_ceil(block)).collect();
        blocks.shuffle(&mut rng);
        let mut order = Vec::with_capacity(count);
        for together in blocks.chunks(window) {
            let start = order.len();
            let samples = together
                .iter()
                .map(|&b| b * block..count.min((b + 1) * block));
            order.extend(samples.flatten());
            order[start..].shuffle(&mut rng);
        }
        order
    }
}

/// As many draws as there are samples, with repetition: each sample with a probability that is
/// proportional to its weight, as PyTorch's `WeightedRandomSampler`.
pub fn weighted(weights: &[f64]) -> Result<impl Fn(usize, u64) -> Vec<usize> + use<>> {
    let mut sum = 0.0;
    let mut ends = Vec::with_capacity(weights.len());
    for (at, weight) in weights.iter().enumerate() {
        if !(0.0..f64::INFINITY).contains(weight) {
            let message = format!("weights are finite numbers from 0 on: {weight} at {at}");
            return Err(Error::invalid(message));
        }
        sum += weight;
        ends.push(sum);
    }
    if !(sum > 0.0 && sum.is_finite()) {
        let message = format!("expected weights with a finite sum above 0, got {sum}");
        return Err(Error::invalid(message));
    }
    Ok(move |_, seed| {
        let mut rng = seed::generator(seed);
        let mut draw = || {
            let at = rng.random::<f64>() * sum;
            // the first sample that ends after this place: one without weight never does
            ends.partition_point(|&end| end <= at).min(ends.len() - 1)
        };
        ends.iter().map(|_| draw()).collect()
    })
}

/// As many draws as there are samples, with repetition, so that all classes come equally often.
pub fn balanced(labels: &[i64]) -> Result<impl Fn(usize, u64) -> Vec<usize> + use<>> {
    let mut counts: HashMap<i64, f64> = HashMap::new();
    labels
        .iter()
        .for_each(|label| *counts.entry(*label).or_default() += 1.0);
    let weights: Vec<f64> = labels.iter().map(|label| 1.0 / counts[label]).collect();
    weighted(&weights)
}
