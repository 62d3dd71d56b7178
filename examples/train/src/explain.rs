//! Which columns matter to a model.

use crate::{fit::metrics_on, model::SavedModel};
use autograd::{Graph, Tensor};
use nn::{
    Dataset, Result,
    data::{Task, order},
};
use std::ops::Range;

/// How much a column matters to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Importance {
    /// The column.
    pub name: String,
    /// What its values are worth: by how much the accuracy falls, or the loss rises in a regression,
    /// when they are shuffled over the rows; the mean over some shuffles.
    pub permutation: f64,
    /// Its part, from 0 to 1, of the sum over all columns of `|gradient·input|`, of the output of the
    /// predicted class or number with respect to the inputs.
    pub gradient: f64,
}

/// The number of shuffles of each column.
const SHUFFLES: u64 = 5;

/// How much each column matters, the one that matters most first: by permutation (Breiman 2001), and by
/// gradients times inputs (Shrikumar et al. 2016).
pub fn importances(model: &SavedModel, data: &Dataset, seed: u64) -> Result<Vec<Importance>> {
    let spans = model.inputs.spans();
    let by_gradient = by_gradient(model, data, &spans)?;
    let before = score(model, data)?;
    let importance = |((name, span), gradient): (&(String, Range<usize>), f64)| {
        let mut permutation = 0.0;
        for shuffle in 0..SHUFFLES {
            let shuffled = shuffled(data, span, seed.wrapping_add(shuffle))?;
            permutation += (before - score(model, &shuffled)?) / SHUFFLES as f64;
        }
        Ok(Importance {
            name: name.clone(),
            permutation,
            gradient,
        })
    };
    let all = spans.iter().zip(by_gradient).map(importance);
    let mut all: Vec<Importance> = all.collect::<Result<_>>()?;
    all.sort_by(|a, b| b.permutation.total_cmp(&a.permutation));
    Ok(all)
}

/// The accuracy, or the loss with the opposite sign: larger is better.
fn score(model: &SavedModel, data: &Dataset) -> Result<f64> {
    let metrics = metrics_on(model, data)?;
    Ok(metrics.accuracy.unwrap_or(-metrics.loss))
}

/// The data with these inputs of each row in the place of those of another row.
fn shuffled(data: &Dataset, span: &Range<usize>, seed: u64) -> Result<Dataset> {
    let inputs = data.inputs()?;
    let width: usize = data.sample_shape().iter().product();
    let from = inputs.as_slice::<f32>()?;
    let mut to = from.to_vec();
    for (row, other) in order::shuffled(data.len(), seed).into_iter().enumerate() {
        let own = row * width + span.start..row * width + span.end;
        to[own].copy_from_slice(&from[other * width + span.start..other * width + span.end]);
    }
    let inputs = Tensor::new(inputs.shape(), to)?;
    Dataset::new(inputs, data.targets().clone())
}

/// The rows of a graph.
const BATCH: usize = 1000;

fn by_gradient(
    model: &SavedModel,
    data: &Dataset,
    spans: &[(String, Range<usize>)],
) -> Result<Vec<f64>> {
    let of_inputs: Vec<Range<usize>> = spans.iter().map(|(_, span)| span.clone()).collect();
    let spans = model.net.embedded_spans(&of_inputs);
    let mut sums = vec![0.0; spans.len()];
    for batch in data.batches(BATCH) {
        let g = Graph::new();
        // vectors in the place of categories have gradients, indices have none
        let embedded = model.net.embedded(g.constant(batch?.0)).value()?;
        let x = g.input(embedded);
        let outputs = model.net.after_embedding(x);
        let predicted = match model.target.task() {
            Task::Classification => outputs.max_axis(-1),
            Task::Regression => outputs.squeeze(-1),
        };
        let [gradient] = g.grad(predicted.sum(), &[x]);
        let products = (gradient * x).value()?;
        let width = products.shape()[1];
        for row in products.as_slice::<f32>()?.chunks(width) {
            for (sum, span) in sums.iter_mut().zip(&spans) {
                *sum += f64::from(row[span.clone()].iter().sum::<f32>().abs());
            }
        }
    }
    let all: f64 = sums.iter().sum();
    let part = |sum: f64| if all > 0.0 { sum / all } else { 0.0 };
    Ok(sums.into_iter().map(part).collect())
}
