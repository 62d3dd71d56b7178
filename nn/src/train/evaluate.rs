//! Evaluation: metrics and predictions of a model.

use crate::{
    data::Dataset,
    error::{Result, catch},
    module::Module,
};
use autograd::{DType, Graph, Tensor, Var, called_from};
use std::{fmt, panic::Location};

/// Loss and accuracy over a set of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Metrics {
    /// The mean loss per sample.
    pub loss: f64,
    /// The fraction of samples whose largest logit is that of the label; `None` if the targets are
    /// not class labels.
    pub accuracy: Option<f64>,
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "loss {:.4}", self.loss)?;
        self.accuracy
            .map_or(Ok(()), |a| write!(f, ", accuracy {a:.4}"))
    }
}

/// Accumulates loss and accuracy over batches.
#[derive(Default)]
pub(crate) struct Meter {
    loss_sum: f64,
    correct: Option<f64>,
    samples: usize,
}

impl Meter {
    /// Adds a batch: its number of samples, its mean loss, and its number of correct predictions.
    pub(crate) fn add(
        &mut self,
        samples: usize,
        loss: &Tensor,
        correct: Option<&Tensor>,
    ) -> Result<()> {
        self.loss_sum += loss.scalar()? * samples as f64;
        if let Some(correct) = correct {
            *self.correct.get_or_insert(0.0) += correct.scalar()?;
        }
        self.samples += samples;
        Ok(())
    }

    /// The accumulated sums, for a checkpoint; NaN stands for no accuracy.
    pub(crate) fn to_array(&self) -> [f64; 3] {
        [
            self.loss_sum,
            self.correct.unwrap_or(f64::NAN),
            self.samples as f64,
        ]
    }

    /// The inverse of [`to_array`](Meter::to_array).
    pub(crate) fn from_slice(sums: &[f64]) -> Option<Meter> {
        let &[loss_sum, correct, samples] = sums else {
            return None;
        };
        let is_count = samples >= 0.0 && samples.fract() == 0.0;
        let is_part = correct.is_nan() || (0.0..=samples).contains(&correct);
        (is_count && is_part).then_some(Meter {
            loss_sum,
            correct: Some(correct).filter(|c| !c.is_nan()),
            samples: samples as usize,
        })
    }

    pub(crate) fn metrics(&self) -> Metrics {
        let samples = self.samples.max(1) as f64;
        Metrics {
            loss: self.loss_sum / samples,
            accuracy: self.correct.map(|c| c / samples),
        }
    }
}

/// The number of correct predictions in a batch, if the outputs are logits `[batch, classes]` and
/// the targets are labels `[batch]`.
pub(crate) fn count_correct<'g>(outputs: Var<'g>, targets: Var<'g>) -> Option<Var<'g>> {
    let is_classification = targets.dtype().is_ok_and(|d| d == DType::I64)
        && targets.dims::<1>().is_some()
        && outputs.dims::<2>().is_some();
    is_classification.then(|| outputs.argmax(-1).eq(targets).sum())
}

/// The batch size of evaluation. It can be large, because nothing is stored for a backward pass.
const EVALUATION_BATCH_SIZE: usize = 1000;

/// The most bytes of outputs that are kept, so that the loss can be computed of all of them at once.
const MAX_OUTPUTS: usize = 1 << 28;

/// Computes loss and accuracy of a model on a dataset, in evaluation mode.
///
/// The model runs in batches, and the loss is computed of all outputs at once: a weighted mean or a
/// sum is that of the whole dataset. If the outputs have more than 256 MiB, or not one row for each
/// sample, it is the mean over batches of 1,000 samples instead.
///
/// ```
/// # use autograd::Tensor;
/// # let data = nn::Dataset::new(Tensor::from([[0.1f32, 0.2]]), Tensor::from([0]))?;
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let metrics = nn::evaluate(&model, &data, nn::loss::cross_entropy)?;
/// assert!(metrics.accuracy.is_some());
/// # Ok::<(), nn::Error>(())
/// ```
#[track_caller]
pub fn evaluate(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> Result<Metrics> {
    let _call = called_from(Location::caller());
    let (scores, accuracy) = evaluate_scores(model, data, |outputs, targets| {
        Ok(vec![catch("the loss", || loss(outputs, targets))?])
    })?;
    let loss = scores.first().copied().unwrap_or(f64::NAN);
    Ok(Metrics { loss, accuracy })
}

/// Numbers of a dataset, such as the loss, and the accuracy: see [`evaluate`].
pub(crate) fn evaluate_scores(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    scores: impl for<'g> Fn(Var<'g>, Var<'g>) -> Result<Vec<Var<'g>>>,
) -> Result<(Vec<f64>, Option<f64>)> {
    let numbers = |values: &[Tensor]| -> Result<Vec<f64>> {
        let numbers = values.iter().map(Tensor::scalar);
        Ok(numbers.collect::<autograd::Result<_>>()?)
    };
    let (mut sums, mut correct, mut all_outputs) = (Vec::new(), None, Vec::new());
    let at_once = can_be_kept(model, data)?;
    for_each_batch(
        model,
        data,
        |outputs, targets| {
            let values = match at_once {
                true => vec![outputs],
                false => scores(outputs, targets)?,
            };
            Ok((values, count_correct(outputs, targets)))
        },
        |samples, values, counted| {
            if let Some(counted) = counted {
                *correct.get_or_insert(0.0) += counted.scalar()?;
            }
            if at_once {
                all_outputs.extend(values);
                return Ok(());
            }
            let values = numbers(&values)?;
            sums.resize(values.len(), 0.0);
            let pairs = sums.iter_mut().zip(values);
            pairs.for_each(|(sum, value): (&mut f64, f64)| *sum += value * samples as f64);
            Ok(())
        },
    )?;
    let count = data.len().max(1) as f64;
    let accuracy = correct.map(|correct: f64| correct / count);
    if !at_once {
        return Ok((sums.into_iter().map(|sum| sum / count).collect(), accuracy));
    }
    let g = Graph::new();
    let outputs = g.constant(Tensor::from_rows(&all_outputs)?);
    let values = scores(outputs, g.constant(data.targets()))?;
    Ok((numbers(&g.run(values)?)?, accuracy))
}

/// Whether the outputs of all samples can be kept: one row for each, and not too many bytes.
fn can_be_kept(model: &(impl Module + ?Sized), data: &Dataset) -> Result<bool> {
    if data.is_empty() {
        return Ok(false);
    }
    let (g, (inputs, _)) = (Graph::new(), data.rows(&[0])?);
    let outputs = catch("the model", || model.forward(g.constant(inputs)))?;
    let (Ok(shape), Ok(dtype)) = (outputs.shape(), outputs.dtype()) else {
        return Ok(false); // the first batch says what is wrong
    };
    let bytes = shape.count().saturating_mul(dtype.size());
    let fits = bytes.saturating_mul(data.len()) <= MAX_OUTPUTS;
    Ok(shape.first() == Some(&1) && fits)
}

/// What is computed of a batch: some values, and the number of correct predictions if that is wanted.
type OfBatch<'g> = (Vec<Var<'g>>, Option<Var<'g>>);

/// Evaluates a function of outputs and targets on each batch. `consume` receives the number of samples
/// in the batch, and the values of what the function returns.
pub(crate) fn for_each_batch(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    f: impl for<'g> Fn(Var<'g>, Var<'g>) -> Result<OfBatch<'g>>,
    mut consume: impl FnMut(usize, Vec<Tensor>, Option<Tensor>) -> Result<()>,
) -> Result<()> {
    for batch in data.batches(EVALUATION_BATCH_SIZE) {
        let (inputs, targets) = batch?;
        let (g, samples) = (Graph::new(), inputs.shape()[0]);
        let outputs = catch("the model", || model.forward(g.constant(inputs)))?;
        let (values, correct) = g.run(f(outputs, g.constant(targets))?)?;
        consume(samples, values, correct)?;
    }
    Ok(())
}

/// The outputs of a model, one row per row of `inputs`. Runs in batches, so `inputs` can have any
/// number of rows.
#[track_caller]
#[doc(alias = "eval")]
pub fn predict(model: &(impl Module + ?Sized), inputs: &Tensor) -> Result<Tensor> {
    let _call = called_from(Location::caller());
    let count = inputs.shape().first().copied().unwrap_or(0);
    let rows: Vec<usize> = (0..count).collect();
    let predict_batch = |rows: &[usize]| {
        let g = Graph::new();
        let inputs = inputs.rows(rows)?;
        Ok(catch("the model", || model.forward(g.constant(inputs)))?.value()?)
    };
    let outputs: Vec<Tensor> = match rows.len() {
        0 => vec![predict_batch(&[])?],
        _ => rows
            .chunks(EVALUATION_BATCH_SIZE)
            .map(predict_batch)
            .collect::<Result<_>>()?,
    };
    Ok(Tensor::from_rows(&outputs)?)
}
