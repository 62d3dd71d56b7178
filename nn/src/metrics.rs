//! How good answers are: accuracy, top-k, confusion, precision and recall. A measure of one's own is a
//! function for [`measure`].

use crate::{
    data::Dataset,
    error::{Error, Result},
    module::Module,
    train::evaluate::each_batch,
};
use autograd::{Graph, Tensor, Var};
use std::fmt;

/// The mean over all samples of a measure of your own: a function of outputs and targets that gives a number a sample, or the
/// mean of a batch.
///
/// ```
/// # use autograd::Tensor;
/// # let data = nn::Dataset::new(Tensor::from([[0.1f32, 0.2]]), Tensor::from([[0.5f32, 0.5]]))?;
/// let model = nn::mlp(&[2, 2], nn::Activation::Relu, 1);
/// let largest = nn::metrics::measure(&model, &data, |outputs, targets| (outputs - targets).abs().max_axis(-1))?;
/// println!("the largest error of a sample is {largest:.3} on average");
/// # Ok::<(), nn::Error>(())
/// ```
pub fn measure(
    model: &(impl Module + ?Sized),
    data: &Dataset,
    f: impl for<'g> Fn(Var<'g>, Var<'g>) -> Var<'g>,
) -> Result<f64> {
    let mut sum = 0.0;
    each_batch(
        model,
        data,
        |outputs, targets| vec![f(outputs, targets).mean()],
        |samples, values| {
            sum += values[0].scalar()? * samples as f64;
            Ok(())
        },
    )?;
    Ok(sum / data.len() as f64)
}

/// The share of rows of outputs `[samples, classes]` whose label is among their `k` largest; `k = 1` is the accuracy.
///
/// ```
/// use autograd::Tensor;
/// let outputs = Tensor::from([[0.1f32, 0.7, 0.2], [0.5, 0.2, 0.3]]);
/// let labels = Tensor::from([2, 0]);
/// assert_eq!((nn::metrics::top_k(&outputs, &labels, 1)?, nn::metrics::top_k(&outputs, &labels, 2)?), (0.5, 1.0));
/// # Ok::<(), nn::Error>(())
/// ```
pub fn top_k(outputs: &Tensor, labels: &Tensor, k: usize) -> Result<f64> {
    let g = Graph::new();
    let (_, best) = g.constant(outputs).topk(k, -1);
    let hits = best.eq(g.constant(labels).unsqueeze(-1)).sum();
    Ok(hits.value()?.scalar()? / labels.len() as f64)
}

/// How often each true class (a row) was taken for each class (a column).
///
/// ```
/// use autograd::Tensor;
/// let outputs = Tensor::from([[0.9f32, 0.1], [0.8, 0.2], [0.3, 0.7]]);
/// let confusion = nn::metrics::Confusion::new(&outputs, &Tensor::from([0, 1, 1]))?;
/// assert_eq!((confusion.accuracy(), confusion.count(1, 0)), (2.0 / 3.0, 1));
/// assert_eq!((confusion.precision(1), confusion.recall(1)), (Some(1.0), Some(0.5)));
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Confusion {
    counts: Vec<Vec<usize>>,
}

impl Confusion {
    /// From outputs `[samples, classes]` and labels `[samples]`.
    pub fn new(outputs: &Tensor, labels: &Tensor) -> Result<Confusion> {
        let g = Graph::new();
        let taken = g.constant(outputs).argmax(-1).value()?;
        let (taken, labels) = (taken.as_slice::<i64>()?, labels.as_slice::<i64>()?);
        let classes = outputs.shape().last().copied().unwrap_or(0);
        if taken.len() != labels.len() {
            return Err(Error::invalid(format!(
                "{} outputs do not belong to {} labels",
                taken.len(),
                labels.len()
            )));
        }
        let mut counts = vec![vec![0; classes]; classes];
        for (&label, &taken) in labels.iter().zip(taken) {
            let row = usize::try_from(label)
                .ok()
                .and_then(|label| counts.get_mut(label));
            let row = row.ok_or_else(|| {
                Error::invalid(format!("{label} is not one of {classes} classes"))
            })?;
            row[taken as usize] += 1;
        }
        Ok(Confusion { counts })
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.counts.len()
    }

    /// How often this class was taken for that one.
    pub fn count(&self, class: usize, taken_for: usize) -> usize {
        self.counts[class][taken_for]
    }

    /// The share of samples that were taken for what they are; NaN if there are none.
    pub fn accuracy(&self) -> f64 {
        let right: usize = (0..self.classes()).map(|k| self.counts[k][k]).sum();
        right as f64 / self.counts.iter().flatten().sum::<usize>() as f64
    }

    /// Of what was taken for this class, the share that is of it; none if nothing was.
    pub fn precision(&self, class: usize) -> Option<f64> {
        let all: usize = self.counts.iter().map(|row| row[class]).sum();
        (all > 0).then(|| self.counts[class][class] as f64 / all as f64)
    }

    /// Of what is of this class, the share that was taken for it; none if there is none.
    pub fn recall(&self, class: usize) -> Option<f64> {
        let all: usize = self.counts[class].iter().sum();
        (all > 0).then(|| self.counts[class][class] as f64 / all as f64)
    }
}

/// A table, with precision and recall of each class.
impl fmt::Display for Confusion {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let share = |v: Option<f64>| v.map_or("-".to_string(), |v| format!("{v:.3}"));
        write!(f, "    ")?;
        (0..self.classes()).try_for_each(|class| write!(f, "{class:>5}"))?;
        writeln!(f, "  recall")?;
        for (class, row) in self.counts.iter().enumerate() {
            write!(f, "{class:>4}")?;
            row.iter().try_for_each(|n| write!(f, "{n:>5}"))?;
            writeln!(f, "  {}", share(self.recall(class)))?;
        }
        write!(f, "prec")?;
        (0..self.classes()).try_for_each(|class| {
            write!(
                f,
                "{:>5}",
                share(self.precision(class)).trim_start_matches('0')
            )
        })?;
        writeln!(f)
    }
}
