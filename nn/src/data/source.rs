//! Where samples come from: the trait of everything that a trainer can draw batches from, and parts of
//! it. [`Dataset`](crate::Dataset) is the source in memory.

use crate::{
    error::{Error, Result, catch},
    seed,
};
use autograd::Tensor;
use rand::seq::SliceRandom;
use std::ops::Deref;

/// Some samples: row `k` of each tensor belongs to sample `k`.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The inputs `[batch, ..]`; most models have one.
    pub inputs: Vec<Tensor>,
    /// The targets `[batch, ..]`; most models have one.
    pub targets: Vec<Tensor>,
    /// How much each sample counts in the loss: `[batch]`, numbers from 0 on. `None`: all the same.
    pub weights: Option<Tensor>,
}

impl Batch {
    /// A batch of one input and one target per sample, all with the same weight.
    pub fn new(inputs: Tensor, targets: Tensor) -> Batch {
        Batch {
            inputs: vec![inputs],
            targets: vec![targets],
            weights: None,
        }
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        let first = self.inputs.first().map(Tensor::shape);
        first.and_then(|shape| shape.first().copied()).unwrap_or(0)
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All its tensors.
    pub(crate) fn tensors(&self) -> impl Iterator<Item = &Tensor> {
        let targets = self.targets.iter().chain(&self.weights);
        self.inputs.iter().chain(targets)
    }

    /// The bytes of its tensors.
    pub(crate) fn bytes(&self) -> usize {
        self.tensors().map(|t| t.len() * t.dtype().size()).sum()
    }

    /// What the samples weigh together: their number, if there are no weights.
    pub(crate) fn weight(&self) -> f64 {
        let weights = self.weights.as_ref();
        weights.map_or(self.len() as f64, |w| w.to_f64s().iter().sum())
    }

    /// One batch of all samples of these.
    pub(crate) fn join(batches: &[Batch]) -> Result<Batch> {
        let join = |of: &dyn Fn(&Batch) -> Option<&Tensor>| -> Result<Option<Tensor>> {
            let parts: Option<Vec<Tensor>> = batches.iter().map(|b| of(b).cloned()).collect();
            let parts = parts.filter(|parts| !parts.is_empty());
            Ok(parts.map(|parts| Tensor::from_rows(&parts)).transpose()?)
        };
        // until one of the batches has no tensor of this number
        let all = |of: &dyn Fn(&Batch) -> &[Tensor]| -> Result<Vec<Tensor>> {
            let joined = (0..).map_while(|k| join(&|b| of(b).get(k)).transpose());
            joined.collect()
        };
        Ok(Batch {
            inputs: all(&|b| &b.inputs)?,
            targets: all(&|b| &b.targets)?,
            weights: join(&|b| b.weights.as_ref())?,
        })
    }

    /// Checks that this is a batch of so many samples.
    fn check(&self, samples: usize) -> Result<()> {
        if self.inputs.is_empty() || self.targets.is_empty() {
            let message = "a batch needs an input and a target at least";
            return Err(Error::invalid(message));
        }
        let rows = |t: &Tensor| t.shape().first().copied();
        if let Some(other) = self.tensors().find(|t| rows(t) != Some(samples)) {
            let message = format!(
                "the source gave a tensor of shape {:?} for {samples} samples",
                other.shape()
            );
            return Err(Error::invalid(message));
        }
        self.weights
            .as_ref()
            .map_or(Ok(()), |w| check_weights(w, samples))
    }
}

/// Checks that there is a weight for each of so many samples.
pub(crate) fn check_weights(weights: &Tensor, samples: usize) -> Result<()> {
    if *weights.shape() != [samples] || !weights.dtype().is_float() {
        return Err(Error::invalid(format!(
            "expected a number for each of {samples} samples as its weight, got {} {:?}",
            weights.dtype(),
            weights.shape()
        )));
    }
    let weights = weights.to_f64s();
    let wrong = weights
        .iter()
        .position(|w| !(0.0..f64::INFINITY).contains(w));
    match wrong {
        None => Ok(()),
        Some(at) => Err(Error::invalid(format!(
            "weights are finite numbers from 0 on: {} at {at}",
            weights[at]
        ))),
    }
}

/// Samples that a [`Trainer`](crate::Trainer) can draw batches from: a [`Dataset`](crate::Dataset) in
/// memory, files that are read piece by piece, a generator. References, `Box` and `Arc` of a source
/// are sources, too.
///
/// ```
/// use autograd::Tensor;
/// use nn::data::{Batch, Source};
/// /// Numbers and their sines, computed when they are asked for.
/// struct Sine;
/// impl Source for Sine {
///     fn len(&self) -> usize {
///         1000
///     }
///     fn batch(&self, samples: &[usize]) -> nn::Result<Batch> {
///         let x: Vec<f32> = samples.iter().map(|&k| k as f32 / 500.0 - 1.0).collect();
///         let y = x.iter().map(|x| (3.0 * x).sin()).collect();
///         let shape = [samples.len(), 1];
///         Ok(Batch::new(Tensor::new(shape, x)?, Tensor::new(shape, y)?))
///     }
/// }
/// let model = nn::mlp(&[1, 16, 1], nn::Activation::Tanh, 1);
/// let history = nn::Trainer::new(&model, nn::Adam::new(1e-2))
///     .loss(nn::loss::mse)
///     .epochs(20)
///     .quiet()
///     .fit(&Sine)?;
/// assert!(history[19].train.loss < 0.1);
/// # Ok::<(), nn::Error>(())
/// ```
pub trait Source: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// These samples, in this order. An index is below [`len`](Source::len); it can come twice. It is
    /// called from another thread than that of the training.
    fn batch(&self, samples: &[usize]) -> Result<Batch>;
}

/// A pointer to a source is a source: `&S`, `Box<S>`, `Arc<S>`.
impl<P: Deref<Target: Source> + Send + Sync> Source for P {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        (**self).batch(samples)
    }
}

/// A batch that is known to have what it should.
pub(crate) fn checked_batch(source: &dyn Source, samples: &[usize]) -> Result<Batch> {
    let count = source.len();
    if let Some(wrong) = samples.iter().find(|&&k| k >= count) {
        let message = format!("there is no sample {wrong}: there are {count}");
        return Err(Error::invalid(message));
    }
    let batch = catch("the source", || source.batch(samples))??;
    batch.check(samples.len())?;
    Ok(batch)
}

/// All samples of a source in this order, in batches of this size. The last batch may be smaller.
///
/// ```
/// # use autograd::Tensor;
/// # let data = nn::Dataset::new(Tensor::from([0.1f32, 0.2, 0.3]), Tensor::from([0, 1, 0]))?;
/// use nn::data::{batches, order};
/// for batch in batches(&data, order::shuffled(3, 7), 2) {
///     println!("{:?}", batch?.inputs);
/// }
/// # Ok::<(), nn::Error>(())
/// ```
pub fn batches<S: Source>(
    source: &S,
    order: Vec<usize>,
    size: usize,
) -> impl ExactSizeIterator<Item = Result<Batch>> {
    let size = size.max(1);
    (0..order.len().div_ceil(size)).map(move |k| {
        let rest = &order[k * size..];
        checked_batch(source, &rest[..size.min(rest.len())])
    })
}

/// Some samples of a source, such as its training part. Nothing is read before it is used.
#[derive(Clone, Debug)]
pub struct Subset<S> {
    of: S,
    samples: Vec<usize>,
}

impl<S: Source> Subset<S> {
    /// The samples with these indices, in this order.
    pub fn new(of: S, samples: Vec<usize>) -> Result<Subset<S>> {
        let count = of.len();
        match samples.iter().find(|&&k| k >= count) {
            None => Ok(Subset { of, samples }),
            Some(wrong) => {
                let message = format!("there is no sample {wrong}: there are {count}");
                Err(Error::invalid(message))
            }
        }
    }
}

impl<S: Source> Source for Subset<S> {
    fn len(&self) -> usize {
        self.samples.len()
    }
    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        let samples: Vec<usize> = samples.iter().map(|&k| self.samples[k]).collect();
        self.of.batch(&samples)
    }
}

/// Splits a source at random into two, without reading it: this fraction of the samples, and the
/// others. A [`Dataset`](crate::Dataset) has [its own](crate::Dataset::split), with the same parts.
///
/// ```
/// # use autograd::Tensor;
/// # let files = nn::Dataset::new(Tensor::from([0.1f32; 10]), Tensor::from([0; 10]))?;
/// use nn::data::{Source, split};
/// let (train, validation) = split(&files, 0.8, 42)?;
/// assert_eq!((train.len(), validation.len()), (8, 2));
/// # Ok::<(), nn::Error>(())
/// ```
pub fn split<S: Source>(source: &S, fraction: f64, seed: u64) -> Result<(Subset<&S>, Subset<&S>)> {
    let [first, second] = split_order(source.len(), fraction, seed)?;
    Ok((Subset::new(source, first)?, Subset::new(source, second)?))
}

/// So many indices in random order: this fraction of them, and the others.
pub(crate) fn split_order(count: usize, fraction: f64, seed: u64) -> Result<[Vec<usize>; 2]> {
    check_fraction(fraction)?;
    let mut first: Vec<usize> = (0..count).collect();
    first.shuffle(&mut seed::generator(seed));
    let second = first.split_off((fraction * count as f64).round() as usize);
    Ok([first, second])
}

pub(crate) fn check_fraction(fraction: f64) -> Result<()> {
    if (0.0..=1.0).contains(&fraction) {
        return Ok(());
    }
    let message = format!("expected a fraction from 0 to 1, got {fraction}");
    Err(Error::invalid(message))
}
