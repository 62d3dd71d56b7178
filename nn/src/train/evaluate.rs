//! Evaluation: metrics and predictions of a model.

use crate::{
    data::{Batch, Source, checked_batch},
    error::{Error, Result, catch},
    loss::weighted_mean,
    module::Module,
    team::{
        Agreement, Alone,
        wire::{Reader, Writer},
    },
    weights::Weights,
};
use autograd::{DType, Graph, Param, Tensor, Var, called_from};
use std::{borrow::Cow, fmt, panic::Location};

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

/// How outputs are computed from the inputs of a batch.
pub(crate) type Forward<'f> = dyn for<'g> Fn(&[Var<'g>]) -> Result<Vec<Var<'g>>> + 'f;

/// That of a model of one input and one output.
pub(crate) fn forward_of(model: &(impl Module + ?Sized)) -> Box<Forward<'_>> {
    Box::new(|inputs| {
        let input = only(
            inputs,
            "inputs: `Trainer::forward` says how a model takes them",
        )?;
        Ok(vec![catch("the model", || model.forward(input))?])
    })
}

/// The only one of these; an error if there are several.
pub(crate) fn only<'g>(vars: &[Var<'g>], several: &str) -> Result<Var<'g>> {
    match *vars {
        [var] => Ok(var),
        _ => Err(Error::invalid(format!(
            "the samples have {} {several}",
            vars.len()
        ))),
    }
}

/// A batch as constants of a graph.
pub(crate) struct BatchVars<'g> {
    pub(crate) inputs: Vec<Var<'g>>,
    pub(crate) targets: Vec<Var<'g>>,
    pub(crate) weights: Option<Var<'g>>,
}

impl<'g> BatchVars<'g> {
    pub(crate) fn new(g: &'g Graph, batch: &Batch) -> BatchVars<'g> {
        let constants = |tensors: &[Tensor]| tensors.iter().map(|t| g.constant(t)).collect();
        BatchVars {
            inputs: constants(&batch.inputs),
            targets: constants(&batch.targets),
            weights: batch.weights.as_ref().map(|w| g.constant(w)),
        }
    }
}

/// Accumulates loss and accuracy over batches.
#[derive(Default)]
pub(crate) struct Meter {
    loss_sum: f64,
    /// What the samples weigh, by which the loss is divided.
    weight: f64,
    correct: Option<f64>,
    samples: usize,
}

impl Meter {
    /// Adds a batch with its mean loss and its number of correct predictions.
    pub(crate) fn add(
        &mut self,
        batch: &Batch,
        loss: &Tensor,
        correct: Option<&Tensor>,
    ) -> Result<()> {
        self.merge(&Meter::of(batch, loss, correct)?);
        Ok(())
    }

    /// Of one batch, with its mean loss and its number of correct predictions.
    pub(crate) fn of(batch: &Batch, loss: &Tensor, correct: Option<&Tensor>) -> Result<Meter> {
        let weight = batch.weight();
        Ok(Meter {
            loss_sum: loss.scalar()? * weight,
            weight,
            correct: correct.map(Tensor::scalar).transpose()?,
            samples: batch.len(),
        })
    }

    /// Adds what another one has.
    pub(crate) fn merge(&mut self, other: &Meter) {
        self.loss_sum += other.loss_sum;
        self.weight += other.weight;
        self.samples += other.samples;
        if let Some(correct) = other.correct {
            *self.correct.get_or_insert(0.0) += correct;
        }
    }

    /// What the samples weigh, which their sums are divided by: 1 if nothing weighs anything, since a
    /// batch of that has the loss 0.
    pub(crate) fn divisor(&self) -> f64 {
        if self.weight == 0.0 { 1.0 } else { self.weight }
    }

    /// The number of samples.
    pub(crate) fn samples(&self) -> usize {
        self.samples
    }

    /// The accumulated sums, for a checkpoint; NaN stands for no accuracy.
    pub(crate) fn to_array(&self) -> [f64; 4] {
        [
            self.loss_sum,
            self.correct.unwrap_or(f64::NAN),
            self.samples as f64,
            self.weight,
        ]
    }

    /// The inverse of [`to_array`](Meter::to_array).
    pub(crate) fn from_slice(sums: &[f64]) -> Option<Meter> {
        let &[loss_sum, correct, samples, weight] = sums else {
            return None;
        };
        let is_count = samples >= 0.0 && samples.fract() == 0.0;
        let is_part = correct.is_nan() || (0.0..=samples).contains(&correct);
        let is_weight = (0.0..f64::INFINITY).contains(&weight);
        (is_count && is_part && is_weight).then_some(Meter {
            loss_sum,
            weight,
            correct: Some(correct).filter(|c| !c.is_nan()),
            samples: samples as usize,
        })
    }

    pub(crate) fn metrics(&self) -> Metrics {
        Metrics {
            loss: self.loss_sum / self.divisor(),
            accuracy: self.correct.map(|c| c / self.samples.max(1) as f64),
        }
    }
}

/// The number of correct predictions in a batch, if the outputs are logits `[batch, classes]` and
/// the targets are labels `[batch]`; of the first outputs and targets, if there are several.
pub(crate) fn count_correct<'g>(outputs: &[Var<'g>], targets: &[Var<'g>]) -> Option<Var<'g>> {
    let (outputs, targets) = (*outputs.first()?, *targets.first()?);
    let is_classification = targets.dtype().is_ok_and(|d| d == DType::I64)
        && targets.dims::<1>().is_some()
        && outputs.dims::<2>().is_some();
    is_classification.then(|| outputs.argmax(-1).eq(targets).sum())
}

/// The batch size of evaluation. It can be large, because nothing is stored for a backward pass.
const EVALUATION_BATCH_SIZE: usize = 1000;

/// The most bytes of outputs that are kept, so that the loss can be computed of all of them at once.
const MAX_OUTPUTS: usize = 1 << 28;

/// A model with weights that stay as they are while other threads train it.
pub(crate) struct Fixed<'m> {
    forward: Box<Forward<'m>>,
    params: Vec<(String, Param)>,
    weights: Cow<'m, Weights>,
}

impl<'m> Fixed<'m> {
    /// A model of one input and one output, with the weights that it has now.
    pub(crate) fn now(model: &'m (impl Module + ?Sized)) -> Fixed<'m> {
        Fixed::new(forward_of(model), model.parameters(), None)
    }

    /// With these weights for its parameters, or those that they have now.
    pub(crate) fn new(
        forward: Box<Forward<'m>>,
        params: Vec<(String, Param)>,
        weights: Option<&'m Weights>,
    ) -> Fixed<'m> {
        let now = || Cow::Owned(Weights::of_parameters(&params));
        let weights = weights.map_or_else(now, Cow::Borrowed);
        Fixed {
            forward,
            params,
            weights,
        }
    }

    /// The outputs for some inputs, in a graph of their own.
    fn outputs<'g>(&self, g: &'g Graph, inputs: &[Var<'g>]) -> Result<Vec<Var<'g>>> {
        self.weights.bind_parameters(g, &self.params)?;
        (self.forward)(inputs)
    }

    /// The first outputs, one row per row of the inputs.
    fn predict(&self, inputs: &Tensor) -> Result<Tensor> {
        let count = inputs.shape().first().copied().unwrap_or(0);
        let rows: Vec<usize> = (0..count).collect();
        let predict_batch = |rows: &[usize]| {
            let g = Graph::new();
            let inputs = g.constant(inputs.rows(rows)?);
            Ok(self.outputs(&g, &[inputs])?[0].value()?)
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
}

/// Computes loss and accuracy of a model on a dataset, in evaluation mode. All of it is with the
/// weights of one moment, also if another thread trains the model meanwhile.
///
/// The model runs in batches, and the loss is computed of all outputs at once: a weighted mean or a
/// sum is that of the whole dataset. If the outputs have more than 256 MiB, or not one row for each
/// sample, it is the mean over batches of 1,000 samples instead. Of a loss that gives a number for
/// each sample, it is the mean, with the [weights](crate::Dataset::with_weights) of the samples.
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
    data: &(impl Source + ?Sized),
    loss: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> Result<Metrics> {
    let _call = called_from(Location::caller());
    let (alone, model) = (Agreement::new(&Alone), Fixed::now(model));
    let (metrics, _) = evaluate_scores(&alone, &model, &data, |outputs, batch| {
        let target = only(&batch.targets, "targets: `Trainer::loss_of` takes several")?;
        let loss = catch("the loss", || loss(outputs[0], target))?;
        Ok(Scores {
            loss: weighted_mean(loss, batch.weights),
            metrics: Vec::new(),
        })
    })?;
    Ok(metrics)
}

/// What is computed of outputs and targets: the loss, and metrics of one's own.
pub(crate) struct Scores<'g> {
    pub(crate) loss: Var<'g>,
    pub(crate) metrics: Vec<Var<'g>>,
}

impl<'g> Scores<'g> {
    /// The loss, then the metrics.
    fn all(self) -> Vec<Var<'g>> {
        [vec![self.loss], self.metrics].concat()
    }
}

/// Loss and accuracy of a source, and metrics of one's own: see [`evaluate`]. The ranks of a team share
/// the work.
pub(crate) fn evaluate_scores(
    agreement: &Agreement<'_>,
    model: &Fixed<'_>,
    source: &dyn Source,
    scores: impl for<'g> Fn(&[Var<'g>], &BatchVars<'g>) -> Result<Scores<'g>>,
) -> Result<(Metrics, Vec<f64>)> {
    let numbers = |values: &[Tensor]| -> Result<Vec<f64>> {
        let numbers = values.iter().map(Tensor::scalar);
        Ok(numbers.collect::<autograd::Result<_>>()?)
    };
    let (mut meter, mut sums, mut kept) = (Meter::default(), Vec::new(), Vec::new());
    let at_once = can_be_kept(model, source)?;
    for_each_batch_on_ranks(
        agreement,
        model,
        source,
        |outputs, batch| {
            let values = match at_once {
                true => outputs.to_vec(),
                false => scores(outputs, batch)?.all(),
            };
            Ok((values, count_correct(outputs, &batch.targets)))
        },
        |batch, values, correct| {
            if at_once {
                meter.add(&batch, &0.0.into(), correct.as_ref())?;
                // outputs in the place of inputs, which are not needed any more
                kept.push(Batch {
                    inputs: values,
                    ..batch
                });
                return Ok(());
            }
            meter.add(&batch, &values[0], correct.as_ref())?;
            let metrics = numbers(&values[1..])?;
            sums.resize(metrics.len(), 0.0);
            let pairs = sums.iter_mut().zip(metrics);
            pairs.for_each(|(sum, value): (&mut f64, f64)| *sum += value * batch.len() as f64);
            Ok(())
        },
    )?;
    if !at_once {
        let count = source.len().max(1) as f64;
        let metrics = sums.into_iter().map(|sum| sum / count).collect();
        return Ok((meter.metrics(), metrics));
    }
    let (g, all) = (Graph::new(), Batch::join(&kept)?);
    let batch = BatchVars::new(&g, &all);
    let mut values = numbers(&g.run(scores(&batch.inputs, &batch)?.all())?)?;
    let metrics = values.split_off(1);
    Ok((
        Metrics {
            loss: values[0],
            ..meter.metrics()
        },
        metrics,
    ))
}

/// Whether the outputs of all samples can be kept: one row for each, and not too many bytes.
fn can_be_kept(model: &Fixed<'_>, source: &dyn Source) -> Result<bool> {
    if source.is_empty() {
        return Ok(false);
    }
    let (g, sample) = (Graph::new(), checked_batch(source, &[0])?);
    let batch = BatchVars::new(&g, &sample);
    let mut bytes: usize = 0;
    for output in model
        .outputs(&g, &batch.inputs)?
        .iter()
        .chain(&batch.targets)
    {
        let (Ok(shape), Ok(dtype)) = (output.shape(), output.dtype()) else {
            return Ok(false); // the first batch says what is wrong
        };
        if shape.first() != Some(&1) {
            return Ok(false);
        }
        bytes = bytes.saturating_add(shape.count().saturating_mul(dtype.size()));
    }
    Ok(bytes.saturating_mul(source.len()) <= MAX_OUTPUTS)
}

/// What is computed of a batch: some values, and the number of correct predictions if that is wanted.
type OfBatch<'g> = (Vec<Var<'g>>, Option<Var<'g>>);

/// What was computed of a batch.
pub(crate) type Evaluated = (Batch, Vec<Tensor>, Option<Tensor>);

/// Evaluates a function of outputs and targets on each batch. `consume` receives the batch, the values
/// of what the function returns, and the number of correct predictions.
pub(crate) fn for_each_batch(
    model: &Fixed<'_>,
    source: &dyn Source,
    f: impl for<'g> Fn(&[Var<'g>], &BatchVars<'g>) -> Result<OfBatch<'g>>,
    mut consume: impl FnMut(Batch, Vec<Tensor>, Option<Tensor>) -> Result<()>,
) -> Result<()> {
    let samples: Vec<usize> = (0..source.len()).collect();
    for samples in samples.chunks(EVALUATION_BATCH_SIZE) {
        let (batch, values, correct) = evaluate_batch(model, source, samples, &f)?;
        consume(batch, values, correct)?;
    }
    Ok(())
}

fn evaluate_batch(
    model: &Fixed<'_>,
    source: &dyn Source,
    samples: &[usize],
    f: &impl for<'g> Fn(&[Var<'g>], &BatchVars<'g>) -> Result<OfBatch<'g>>,
) -> Result<Evaluated> {
    let (g, batch) = (Graph::new(), checked_batch(source, samples)?);
    let vars = BatchVars::new(&g, &batch);
    let outputs = model.outputs(&g, &vars.inputs)?;
    let (values, correct) = g.run(f(&outputs, &vars)?)?;
    Ok((batch, values, correct))
}

/// The same for the ranks of a team: each evaluates one batch of as many as there are ranks, and all of
/// them consume all results in the order of the batches. These have no inputs any more.
fn for_each_batch_on_ranks(
    agreement: &Agreement<'_>,
    model: &Fixed<'_>,
    source: &dyn Source,
    f: impl for<'g> Fn(&[Var<'g>], &BatchVars<'g>) -> Result<OfBatch<'g>>,
    mut consume: impl FnMut(Batch, Vec<Tensor>, Option<Tensor>) -> Result<()>,
) -> Result<()> {
    let (rank, ranks) = (agreement.team().rank(), agreement.team().size());
    if ranks == 1 {
        return for_each_batch(model, source, f, consume);
    }
    let samples: Vec<usize> = (0..source.len()).collect();
    let batches: Vec<&[usize]> = samples.chunks(EVALUATION_BATCH_SIZE).collect();
    let mut own = Writer::default();
    for samples in batches.iter().skip(rank).step_by(ranks) {
        write_evaluated(&mut own, &evaluate_batch(model, source, samples, &f)?)?;
    }
    let all = agreement.gather("a validation", &own.finish())?;
    let mut readers: Vec<Reader<'_>> = all.iter().map(|bytes| Reader::new(bytes)).collect();
    for (k, samples) in batches.iter().enumerate() {
        let (batch, values, correct) = read_evaluated(&mut readers[k % ranks], samples.len())?;
        consume(batch, values, correct)?;
    }
    Ok(())
}

fn write_evaluated(to: &mut Writer, (batch, values, correct): &Evaluated) -> Result<()> {
    let lists = [&batch.targets, values];
    let optional = [&batch.weights, correct].map(|tensor| tensor.iter().cloned().collect());
    for tensors in lists.into_iter().chain(&optional) {
        to.count(tensors.len());
        tensors.iter().try_for_each(|t| to.tensor(t).map(drop))?;
    }
    Ok(())
}

/// The inverse of [`write_evaluated`], for so many samples.
fn read_evaluated(from: &mut Reader<'_>, samples: usize) -> Result<Evaluated> {
    let mut list = || -> Result<Vec<Tensor>> {
        let count = from.count()?;
        (0..count).map(|_| from.tensor()).collect()
    };
    let (targets, values) = (list()?, list()?);
    let (weights, correct) = (list()?.pop(), list()?.pop());
    let batch = Batch {
        inputs: vec![Tensor::zeros([samples], DType::Bool)?], // says how many there are
        targets,
        weights,
    };
    Ok((batch, values, correct))
}

/// The outputs of a model, one row per row of `inputs`. Runs in batches, so `inputs` can have any
/// number of rows.
///
/// All rows are with the weights of one moment. Other threads may train the model meanwhile: each of
/// their steps is in all of the outputs, or in none.
#[track_caller]
#[doc(alias = "eval")]
pub fn predict(model: &(impl Module + ?Sized), inputs: &Tensor) -> Result<Tensor> {
    let _call = called_from(Location::caller());
    Fixed::now(model).predict(inputs)
}

/// The outputs of a model with these weights instead of its own: to serve one version for a while, or
/// to compare several.
///
/// ```
/// use nn::{Activation, Weights};
/// let model = nn::mlp(&[2, 3], Activation::Relu, 1);
/// let (version, x) = (Weights::of(&model), autograd::Tensor::from([[0.5f32, 1.0]]));
/// let before = nn::predict(&model, &x)?;
/// version.with_flat(&[0.25; 9])?.copy_to(&model)?;
/// assert_eq!(nn::predict_with(&model, &version, &x)?, before);
/// assert_ne!(nn::predict(&model, &x)?, before);
/// # Ok::<(), nn::Error>(())
/// ```
#[track_caller]
pub fn predict_with(
    model: &(impl Module + ?Sized),
    weights: &Weights,
    inputs: &Tensor,
) -> Result<Tensor> {
    let _call = called_from(Location::caller());
    Fixed::new(forward_of(model), model.parameters(), Some(weights)).predict(inputs)
}
