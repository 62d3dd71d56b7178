//! Measuring a model on data.

use crate::{
    data::Dataset,
    error::{Result, catch},
    module::Module,
};
use autograd::{DType, Graph, Tensor, Var};
use std::fmt;

/// Loss and accuracy over some samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The mean loss of a sample.
    pub loss: f64,
    /// The share of samples whose largest output is at the label, if the targets are labels.
    pub accuracy: Option<f64>,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        self.accuracy
            .map_or(Ok(()), |a| write!(f, ", accuracy {a:.4}"))
    }
}

/// Sums up batches.
#[derive(Default)]
pub(crate) struct Meter {
    loss: f64,
    hits: Option<f64>,
    samples: usize,
}

impl Meter {
    pub(crate) fn add(
        &mut self,
        samples: usize,
        loss: &Tensor,
        hits: Option<&Tensor>,
    ) -> Result<()> {
        self.loss += loss.scalar()? * samples as f64;
        if let Some(hits) = hits {
            *self.hits.get_or_insert(0.0) += hits.scalar()?;
        }
        self.samples += samples;
        Ok(())
    }

    /// What has been summed up, as numbers.
    pub(crate) fn numbers(&self) -> [f64; 3] {
        [
            self.loss,
            self.hits.unwrap_or(f64::NAN),
            self.samples as f64,
        ]
    }

    /// The inverse of [`numbers`](Meter::numbers).
    pub(crate) fn of(numbers: &[f64]) -> Option<Meter> {
        let &[loss, hits, samples] = numbers else {
            return None;
        };
        Some(Meter {
            loss,
            hits: Some(hits).filter(|h| !h.is_nan()),
            samples: samples as usize,
        })
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let samples = self.samples.max(1) as f64;
        Metrics {
            loss: self.loss / samples,
            accuracy: self.hits.map(|h| h / samples),
        }
    }
}

/// How many samples of a batch are right, if outputs `[batch, classes]` and labels `[batch]` make that a question.
pub(crate) fn hits<'g>(outputs: Var<'g>, targets: Var<'g>) -> Option<Var<'g>> {
    let labelled = targets.dtype().is_ok_and(|d| d == DType::I64)
        && targets.dims::<1>().is_some()
        && outputs.dims::<2>().is_some();
    labelled.then(|| outputs.argmax(-1).eq(targets).sum())
}

/// Batches for evaluation: large, since nothing has to be kept.
const BATCH: usize = 1000;

/// Loss and accuracy of a model on data, without training.
///
/// ```
/// # use autograd::Tensor;
/// # let data = nn::Dataset::new(Tensor::from([[0.1f32, 0.2]]), Tensor::from([0]))?;
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let metrics = nn::evaluate(&model, &data, nn::loss::cross_entropy)?;
/// assert!(metrics.accuracy.is_some());
/// # Ok::<(), nn::Error>(())
/// ```
pub fn evaluate(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> Result<Metrics> {
    let mut meter = Meter::default();
    each_batch(
        model,
        data,
        |outputs, targets| {
            [Some(loss(outputs, targets)), hits(outputs, targets)]
                .into_iter()
                .flatten()
                .collect()
        },
        |samples, values| meter.add(samples, &values[0], values.get(1)),
    )?;
    Ok(meter.metrics())
}

/// Computes some values of outputs and targets, at least one, batch by batch, without training. `take` gets the number of
/// samples and the values.
pub(crate) fn each_batch(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    f: impl for<'g> Fn(Var<'g>, Var<'g>) -> Vec<Var<'g>>,
    mut take: impl FnMut(usize, &[Tensor]) -> Result<()>,
) -> Result<()> {
    for batch in data.batches(BATCH) {
        let (inputs, targets) = batch?;
        let (g, samples) = (Graph::new(), inputs.shape()[0]);
        let values = catch(|| f(model.forward(g.constant(inputs)), g.constant(targets)))?;
        take(samples, &g.run(values)?)?;
    }
    Ok(())
}

/// The outputs of a model for inputs of any number, row by row.
pub fn predict(model: &(impl Module + ?Sized), inputs: &Tensor) -> Result<Tensor> {
    let count = inputs.shape().first().copied().unwrap_or(0);
    let rows: Vec<usize> = (0..count).collect();
    let batch = |rows: &[usize]| {
        let g = Graph::new();
        let inputs = inputs.rows(rows)?;
        Ok(catch(|| model.forward(g.constant(inputs)))?.value()?)
    };
    let parts: Vec<Tensor> = match rows.len() {
        0 => vec![batch(&[])?],
        _ => rows.chunks(BATCH).map(batch).collect::<Result<_>>()?,
    };
    Ok(Tensor::from_rows(&parts)?)
}
