//! Classification metrics, and the mean of any metric over a dataset.

use crate::{
    data::Source,
    error::{Error, Result, catch},
    module::Module,
    train::evaluate::{Fixed, for_each_batch, only},
};
use autograd::{Graph, Tensor, Var, called_from};
use std::{fmt, panic::Location};

/// The mean of a metric over a dataset. The metric is a function of outputs and targets that
/// returns one value per sample, or the mean over the batch.
///
/// ```
/// # use autograd::Tensor;
/// # let inputs = Tensor::from([[0.1f32, 0.2]]);
/// # let data = nn::Dataset::new(inputs, Tensor::from([[0.5f32, 0.5]]))?;
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let max_error = nn::metrics::evaluate_metric(&model, &data, |outputs, targets| {
///     (outputs - targets).abs().max_axis(-1)
/// })?;
/// println!("the mean of each sample's maximum error: {max_error:.3}");
/// # Ok::<(), nn::Error>(())
/// ```
#[track_caller]
pub fn evaluate_metric(
    model: &(impl Module + ?Sized),
    data: &(impl Source + ?Sized),
    metric: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> Result<f64> {
    let _call = called_from(Location::caller());
    let mut sum = 0.0;
    for_each_batch(
        &Fixed::now(model),
        &data,
        |outputs, batch| {
            let target = only(
                &batch.targets,
                "targets: `Trainer::metric_of` takes several",
            )?;
            let value = catch("the metric", || metric(outputs[0], target))?;
            Ok((vec![value.mean()], None))
        },
        |batch, values, _| {
            sum += values[0].scalar()? * batch.len() as f64;
            Ok(())
        },
    )?;
    Ok(sum / data.len() as f64)
}

/// The fraction of outputs on the same side of 0 as the targets, 0 or 1, of ½: the accuracy of logits
/// of two classes.
///
/// ```
/// # let g = autograd::Graph::new();
/// let (logits, targets) = (g.input([[2.0], [-1.0], [0.5]]), g.constant([[1.0], [1.0], [1.0]]));
/// let accuracy = nn::metrics::binary_accuracy(logits, targets).value()?.scalar()?;
/// assert!((accuracy - 2.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn binary_accuracy<'g>(logits: Var<'g>, targets: Var<'g>) -> Var<'g> {
    let is_right = logits.gt(0.0).eq(targets.gt(0.5));
    is_right.select(logits.ones_like(), 0.0).mean()
}

/// The mean absolute error.
#[track_caller]
pub fn mean_absolute_error<'g>(outputs: Var<'g>, targets: Var<'g>) -> Var<'g> {
    crate::loss::mae(outputs, targets)
}

/// The coefficient of determination `R² = 1 - Σ(t - y)²/Σ(t - mean(t))²`: 1 for perfect outputs, 0 for
/// the mean of the targets everywhere.
///
/// ```
/// # let g = autograd::Graph::new();
/// let targets = g.constant([1.0, 2.0, 3.0]);
/// let r2 = |outputs| nn::metrics::r_squared(outputs, targets).value()?.scalar();
/// assert_eq!((r2(targets)?, r2(g.constant([2.0; 3]))?), (1.0, 0.0));
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn r_squared<'g>(outputs: Var<'g>, targets: Var<'g>) -> Var<'g> {
    let (rest, all) = (targets - outputs, targets - targets.mean());
    1.0 - rest.square().sum() / all.square().sum()
}

/// The F1 score of logits of two classes, with targets 0 or 1: the harmonic mean of precision and
/// recall, `2·true positives/(positives + predicted positives)`; NaN if there are neither.
///
/// ```
/// # let g = autograd::Graph::new();
/// let (logits, targets) = (g.input([2.0, -1.0, 0.5, 1.0]), g.constant([1.0, 1.0, 1.0, 0.0]));
/// let f1 = nn::metrics::f1(logits, targets).value()?.scalar()?;
/// assert!((f1 - 2.0 / 3.0).abs() < 1e-15);
/// # Ok::<(), autograd::Error>(())
/// ```
#[track_caller]
pub fn f1<'g>(logits: Var<'g>, targets: Var<'g>) -> Var<'g> {
    let (one, zero) = (logits.ones_like(), 0.0);
    let predicted = logits.gt(0.0).select(one, zero);
    let actual = targets.gt(0.5).select(one, zero);
    2.0 * (predicted * actual).sum() / (predicted.sum() + actual.sum())
}

/// Top-k accuracy: the fraction of samples whose label is among the `k` largest of their outputs
/// `[samples, classes]`. With `k = 1` it is the accuracy.
///
/// ```
/// use autograd::Tensor;
/// use nn::metrics::top_k_accuracy;
/// let outputs = Tensor::from([[0.1f32, 0.7, 0.2], [0.5, 0.2, 0.3]]);
/// let labels = Tensor::from([2, 0]);
/// assert_eq!(top_k_accuracy(&outputs, &labels, 1)?, 0.5);
/// assert_eq!(top_k_accuracy(&outputs, &labels, 2)?, 1.0);
/// # Ok::<(), nn::Error>(())
/// ```
#[track_caller]
pub fn top_k_accuracy(outputs: &Tensor, labels: &Tensor, k: usize) -> Result<f64> {
    let _call = called_from(Location::caller());
    let rows = match *outputs.shape() {
        [rows, _] => rows,
        _ => 0,
    };
    if *labels.shape() != [rows] {
        return Err(Error::invalid(format!(
            "expected outputs [samples, classes] and a label for each sample, got {:?} and {:?}",
            outputs.shape(),
            labels.shape()
        )));
    }
    let g = Graph::new();
    let (_, top_classes) = g.constant(outputs).topk(k, -1);
    let correct = top_classes.eq(g.constant(labels).unsqueeze(-1)).sum();
    Ok(correct.value()?.scalar()? / labels.len() as f64)
}

/// The confusion matrix of a classifier: one row per actual class, one column per predicted class.
///
/// ```
/// use autograd::Tensor;
/// use nn::metrics::ConfusionMatrix;
/// let outputs = Tensor::from([[0.9f32, 0.1], [0.8, 0.2], [0.3, 0.7]]);
/// let confusion = ConfusionMatrix::new(&outputs, &Tensor::from([0, 1, 1]))?;
/// assert_eq!((confusion.accuracy(), confusion.count(1, 0)), (2.0 / 3.0, 1));
/// assert_eq!((confusion.precision(1), confusion.recall(1)), (Some(1.0), Some(0.5)));
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfusionMatrix {
    counts: Vec<Vec<usize>>,
}

impl ConfusionMatrix {
    /// From outputs `[samples, classes]` and labels `[samples]`. The predicted class of a sample is
    /// that of its largest output.
    #[track_caller]
    pub fn new(outputs: &Tensor, labels: &Tensor) -> Result<ConfusionMatrix> {
        let _call = called_from(Location::caller());
        let g = Graph::new();
        let predicted = g.constant(outputs).argmax(-1).value()?;
        let (predicted, labels) = (predicted.as_slice::<i64>()?, labels.as_slice::<i64>()?);
        let classes = outputs.shape().last().copied().unwrap_or(0);
        if predicted.len() != labels.len() {
            return Err(Error::invalid(format!(
                "expected one label per row of the outputs, got {} rows and {} labels",
                predicted.len(),
                labels.len()
            )));
        }
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &predicted) in labels.iter().zip(predicted) {
            let row = usize::try_from(label)
                .ok()
                .and_then(|label| counts.get_mut(label));
            let row = row.ok_or_else(|| {
                Error::invalid(format!(
                    "the label {label} is out of range for {classes} classes"
                ))
            })?;
            row[predicted as usize] += 1;
        }
        Ok(ConfusionMatrix { counts })
    }

    /// The number of classes.
    pub fn num_classes(&self) -> usize {
        self.counts.len()
    }

    /// The number of samples of class `actual` that were predicted as class `predicted`.
    pub fn count(&self, actual: usize, predicted: usize) -> usize {
        self.counts[actual][predicted]
    }

    /// Correct predictions / all samples; NaN if there are no samples.
    pub fn accuracy(&self) -> f64 {
        let correct: usize = (0..self.num_classes()).map(|k| self.counts[k][k]).sum();
        correct as f64 / self.counts.iter().flatten().sum::<usize>() as f64
    }

    /// True positives / predicted positives of a class; `None` if there are no predicted positives.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let predicted: usize = self.counts.iter().map(|row| row[class]).sum();
        (predicted > 0).then(|| self.counts[class][class] as f64 / predicted as f64)
    }

    /// True positives / actual positives of a class; `None` if there are no actual positives.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let actual: usize = self.counts[class].iter().sum();
        (actual > 0).then(|| self.counts[class][class] as f64 / actual as f64)
    }
}

/// Prints the matrix with the recall of each class at the right and the precision at the bottom.
impl fmt::Display for ConfusionMatrix {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let fraction = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.3}"));
        // a space, and as many digits as the largest number has
        let largest = self.counts.iter().flatten().max().copied().unwrap_or(0);
        let digits = largest.max(self.num_classes()).to_string().len();
        let width = 1 + digits.max(4);
        write!(f, "    ")?;
        (0..self.num_classes()).try_for_each(|class| write!(f, "{class:>width$}"))?;
        writeln!(f, "  recall")?;
        for (class, row) in self.counts.iter().enumerate() {
            write!(f, "{class:>4}")?;
            row.iter().try_for_each(|n| write!(f, "{n:>width$}"))?;
            writeln!(f, "  {}", fraction(self.recall(class)))?;
        }
        write!(f, "prec")?;
        (0..self.num_classes()).try_for_each(|class| {
            write!(
                f,
                "{:>width$}",
                fraction(self.precision(class)).trim_start_matches('0')
            )
        })?;
        writeln!(f)
    }
}
