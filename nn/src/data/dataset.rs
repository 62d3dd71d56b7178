//! Datasets in memory, and their mini-batches.

use super::{
    order,
    source::{Batch, Source, check_fraction, check_weights, split_order},
};
use crate::{
    error::{Error, Result, reserve},
    seed,
};
use autograd::{DType, Tensor};
use rand::seq::SliceRandom;
use std::sync::Arc;

/// A dataset in memory. Row `k` of the inputs and row `k` of the targets are one sample.
///
/// ```
/// use autograd::Tensor;
/// let inputs = Tensor::from([[0.1f32], [0.2], [0.3]]);
/// let data = nn::Dataset::new(inputs, Tensor::from([0, 1, 0]))?;
/// let mut sizes = Vec::new();
/// for batch in data.batches(2) {
///     let (inputs, targets) = batch?;
///     sizes.push(targets.len());
/// }
/// assert_eq!(sizes, [2, 1]);
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug)]
#[doc(alias = "DataLoader")]
#[doc(alias = "TensorDataset")]
pub struct Dataset {
    /// One or more, as the targets.
    inputs: Vec<Inputs>,
    targets: Vec<Tensor>,
    weights: Option<Tensor>,
}

/// Inputs, one row per sample.
#[derive(Clone, Debug)]
enum Inputs {
    Tensor(Tensor),
    /// Bytes that are converted to f32 when they are read: each is divided by `divisor`.
    Bytes {
        shape: Vec<usize>,
        bytes: Arc<Vec<u8>>,
        divisor: f32,
    },
}

impl Inputs {
    fn shape(&self) -> &[usize] {
        match self {
            Inputs::Tensor(tensor) => tensor.shape(),
            Inputs::Bytes { shape, .. } => shape,
        }
    }

    /// Selects rows without conversion to f32.
    fn rows(&self, rows: &[usize]) -> Result<Inputs> {
        match self {
            Inputs::Tensor(tensor) => Ok(Inputs::Tensor(tensor.rows(rows)?)),
            Inputs::Bytes {
                shape,
                bytes,
                divisor,
            } => {
                let width: usize = shape[1..].iter().product();
                if let Some(row) = rows.iter().find(|&&row| row >= shape[0]) {
                    return Err(Error::invalid(format!(
                        "row {row} is out of range for the shape {shape:?}"
                    )));
                }
                let mut selected = reserve(rows.len().saturating_mul(width))?;
                rows.iter().for_each(|&row| {
                    selected.extend_from_slice(&bytes[row * width..(row + 1) * width])
                });
                let shape = [&[rows.len()], &shape[1..]].concat();
                Ok(Inputs::Bytes {
                    shape,
                    bytes: Arc::new(selected),
                    divisor: *divisor,
                })
            }
        }
    }

    fn to_tensor(&self) -> Result<Tensor> {
        match self {
            Inputs::Tensor(tensor) => Ok(tensor.clone()),
            Inputs::Bytes {
                shape,
                bytes,
                divisor,
            } => {
                let mut elements = reserve(bytes.len())?;
                elements.extend(bytes.iter().map(|&b| f32::from(b) / divisor));
                Ok(Tensor::new(shape, elements)?)
            }
        }
    }
}

impl Dataset {
    /// From inputs and targets with the same number of rows.
    pub fn new(inputs: Tensor, targets: Tensor) -> Result<Dataset> {
        Dataset::from_inputs(Inputs::Tensor(inputs), targets)
    }

    /// From inputs of one byte each, such as greyscale images. They are stored as bytes, which
    /// takes a quarter of the memory of f32. A batch is converted to f32: each byte is divided by
    /// `divisor`.
    ///
    /// ```
    /// let (pixels, labels) = (vec![0, 51, 255, 102, 0, 0], vec![7i64, 1]);
    /// let data = nn::Dataset::from_bytes(&[2, 3], pixels, 255.0, labels.into())?;
    /// assert_eq!(data.rows(&[0])?.0.as_slice::<f32>()?, [0.0, 0.2, 1.0]);
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn from_bytes(
        shape: &[usize],
        bytes: Vec<u8>,
        divisor: f32,
        targets: Tensor,
    ) -> Result<Dataset> {
        if shape.iter().try_fold(1, |n: usize, &d| n.checked_mul(d)) != Some(bytes.len()) {
            return Err(Error::invalid(format!(
                "{} bytes do not match the shape {shape:?}",
                bytes.len()
            )));
        }
        if !divisor.is_finite() || divisor == 0.0 {
            return Err(Error::invalid(format!(
                "expected a finite divisor other than 0, got {divisor}"
            )));
        }
        Dataset::from_inputs(
            Inputs::Bytes {
                shape: shape.into(),
                bytes: Arc::new(bytes),
                divisor,
            },
            targets,
        )
    }

    fn from_inputs(inputs: Inputs, targets: Tensor) -> Result<Dataset> {
        match (inputs.shape().first(), targets.shape().first()) {
            (Some(a), Some(b)) if a == b => Ok(Dataset {
                inputs: vec![inputs],
                targets: vec![targets],
                weights: None,
            }),
            _ => Err(Error::invalid(format!(
                "inputs {:?} and targets {:?} must have the same number of rows",
                inputs.shape(),
                targets.shape()
            ))),
        }
    }

    /// Adds another input to each sample, for a model that takes several: see
    /// [`Trainer::forward`](crate::Trainer::forward).
    pub fn and_input(mut self, inputs: Tensor) -> Result<Dataset> {
        self.check_rows("inputs", &inputs)?;
        self.inputs.push(Inputs::Tensor(inputs));
        Ok(self)
    }

    /// Adds another target to each sample, for a loss that takes several: see
    /// [`Trainer::loss_of`](crate::Trainer::loss_of).
    pub fn and_target(mut self, targets: Tensor) -> Result<Dataset> {
        self.check_rows("targets", &targets)?;
        self.targets.push(targets);
        Ok(self)
    }

    /// Says how much each sample counts in the loss: `[samples]`, numbers from 0 on. The loss then is
    /// `Σ weight·loss / Σ weight` over the samples of a batch, and has to be
    /// [one number per sample](crate::loss::unreduced). Metrics do not count weights.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let inputs = Tensor::from([[0.1f32], [0.2], [0.3]]);
    /// use nn::{Activation, Dataset, Sgd, Trainer, loss};
    /// let weights = Tensor::from([1f32, 1.0, 5.0]);
    /// let data = Dataset::new(inputs, Tensor::from([0, 1, 0]))?.with_weights(weights)?;
    /// let model = nn::mlp(&[1, 2], Activation::Relu, 1);
    /// Trainer::new(&model, Sgd::new(0.1)).loss(loss::unreduced::cross_entropy).quiet().fit(&data)?;
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn with_weights(mut self, weights: Tensor) -> Result<Dataset> {
        check_weights(&weights, self.len())?;
        self.weights = Some(weights);
        Ok(self)
    }

    /// With all inputs and targets of numbers with a fraction in this type: what a model of f64 layers
    /// needs. Labels and masks stay as they are.
    pub fn cast(&self, dtype: DType) -> Result<Dataset> {
        let cast = |tensor: Tensor| match tensor.dtype().is_float() {
            true => tensor.cast(dtype),
            false => Ok(tensor),
        };
        let mut data = self.clone();
        for inputs in &mut data.inputs {
            *inputs = Inputs::Tensor(cast(inputs.to_tensor()?)?);
        }
        for targets in &mut data.targets {
            *targets = cast(targets.clone())?;
        }
        Ok(data)
    }

    fn check_rows(&self, what: &str, tensor: &Tensor) -> Result<()> {
        match tensor.shape().first() {
            Some(&rows) if rows == self.len() => Ok(()),
            _ => Err(Error::invalid(format!(
                "{what} of shape {:?} do not match {} samples",
                tensor.shape(),
                self.len()
            ))),
        }
    }

    /// The inputs, one row per sample; the first ones, if a sample has several. Inputs that are stored
    /// as bytes are converted in each call.
    pub fn inputs(&self) -> Result<Tensor> {
        self.inputs[0].to_tensor()
    }

    /// The shape of one input.
    pub fn sample_shape(&self) -> &[usize] {
        &self.inputs[0].shape()[1..]
    }

    /// The targets, one row per sample; the first ones, if a sample has several.
    pub fn targets(&self) -> &Tensor {
        &self.targets[0]
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.inputs[0].shape()[0]
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of classes: the largest label plus 1. `None` if the targets are not labels.
    pub fn num_classes(&self) -> Option<usize> {
        let labels = self.targets().as_slice::<i64>().ok()?;
        usize::try_from(*labels.iter().max()?).ok()?.checked_add(1)
    }

    /// The samples with these indices, in this order: inputs and targets, the first ones if a sample
    /// has several ([`Source::batch`] has all).
    pub fn rows(&self, rows: &[usize]) -> Result<(Tensor, Tensor)> {
        Ok((
            self.inputs[0].rows(rows)?.to_tensor()?,
            self.targets[0].rows(rows)?,
        ))
    }

    /// Splits the dataset at random into two: this fraction of the samples, and the others.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let inputs = Tensor::from(vec![0.5f32; 10]);
    /// # let data = nn::Dataset::new(inputs, Tensor::from(vec![0i64; 10]))?;
    /// let (train, validation) = data.split(0.8, 42)?;
    /// assert_eq!((train.len(), validation.len()), (8, 2));
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        let [first, second] = split_order(self.len(), fraction, seed)?;
        Ok((self.part(&first)?, self.part(&second)?))
    }

    /// The same, with as equal parts of each class as there can be: of a class with `n` samples, the
    /// first dataset has `fraction·n`, rounded down or up. Targets must be labels.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let inputs = Tensor::from(vec![0.5f32; 100]);
    /// let labels = Tensor::from([vec![0i64; 90], vec![1; 10]].concat()); // one class is rare
    /// let (train, validation) = nn::Dataset::new(inputs, labels)?.stratified_split(0.8, 42)?;
    /// assert_eq!((train.len(), validation.len()), (80, 20));
    /// assert_eq!(validation.targets().as_slice::<i64>()?.iter().sum::<i64>(), 2);
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn stratified_split(&self, fraction: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        check_fraction(fraction)?;
        // the first dataset gets a sample when the sum of the fractions passes a whole number; samples
        // go class by class, so each class gets its part, rounded
        let is_first = |k: usize| {
            let before = (fraction * k as f64).round();
            (fraction * (k + 1) as f64).round() > before
        };
        let [mut first, mut second] = [Vec::new(), Vec::new()];
        for (k, row) in self.by_class(seed)?.into_iter().enumerate() {
            let part = if is_first(k) { &mut first } else { &mut second };
            part.push(row);
        }
        for rows in [&mut first, &mut second] {
            rows.shuffle(&mut seed::generator(seed));
        }
        Ok((self.part(&first)?, self.part(&second)?))
    }

    /// For cross-validation: `k` pairs of datasets. Each sample is in the second one, the validation
    /// set, of one pair, and in the first one of all others. Labels are spread evenly over the pairs.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let inputs = Tensor::from(vec![0.5f32; 10]);
    /// # let data = nn::Dataset::new(inputs, Tensor::from(vec![0i64; 10]))?;
    /// for fold in data.k_fold(5, 42)? {
    ///     let (train, validation) = fold?;
    ///     assert_eq!((train.len(), validation.len()), (8, 2));
    /// }
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn k_fold(
        &self,
        k: usize,
        seed: u64,
    ) -> Result<impl ExactSizeIterator<Item = Result<(Dataset, Dataset)>>> {
        if !(2..=self.len()).contains(&k) {
            let n = self.len();
            let message = format!("expected between 2 and {n} folds of {n} samples, got {k}");
            return Err(Error::invalid(message));
        }
        let order = match self.targets().dtype() {
            DType::I64 if self.targets().shape().len() == 1 => self.by_class(seed)?,
            _ => order::shuffled(self.len(), seed),
        };
        Ok((0..k).map(move |fold| {
            let rows = |is_in: bool| {
                let rows = order.iter().enumerate();
                let rows = rows.filter(|(at, _)| (at % k == fold) == is_in);
                rows.map(|(_, &row)| row).collect::<Vec<usize>>()
            };
            Ok((self.part(&rows(false))?, self.part(&rows(true))?))
        }))
    }

    /// All rows, one class after the other, those of a class in random order.
    fn by_class(&self, seed: u64) -> Result<Vec<usize>> {
        let labels = self.targets().as_slice::<i64>().ok();
        let labels = labels.filter(|labels| labels.len() == self.len());
        let labels = labels.ok_or_else(|| Error::invalid("the targets are no labels"))?;
        let mut order = order::shuffled(self.len(), seed);
        order.sort_by_key(|&row| labels[row]);
        Ok(order)
    }

    /// The samples of these rows.
    fn part(&self, rows: &[usize]) -> Result<Dataset> {
        let rows_of = |tensor: &Tensor| Ok(tensor.rows(rows)?);
        let inputs = self.inputs.iter().map(|inputs| inputs.rows(rows));
        Ok(Dataset {
            inputs: inputs.collect::<Result<_>>()?,
            targets: self.targets.iter().map(rows_of).collect::<Result<_>>()?,
            weights: self.weights.as_ref().map(rows_of).transpose()?,
        })
    }

    /// All samples in order, in batches of this size. The last batch may be smaller.
    pub fn batches(&self, size: usize) -> Batches<'_> {
        Batches {
            data: self,
            order: order::in_order(self.len(), 0),
            size: size.max(1),
            next: 0,
        }
    }

    /// All samples, shuffled, in batches of this size. The last batch may be smaller.
    pub fn shuffled_batches(&self, size: usize, seed: u64) -> Batches<'_> {
        let mut batches = self.batches(size);
        batches.order = order::shuffled(self.len(), seed);
        batches
    }
}

impl Source for Dataset {
    fn len(&self) -> usize {
        Dataset::len(self)
    }

    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        let rows = |tensor: &Tensor| Ok(tensor.rows(samples)?);
        let inputs = self.inputs.iter();
        let inputs = inputs.map(|inputs| inputs.rows(samples)?.to_tensor());
        Ok(Batch {
            inputs: inputs.collect::<Result<_>>()?,
            targets: self.targets.iter().map(rows).collect::<Result<_>>()?,
            weights: self.weights.as_ref().map(rows).transpose()?,
        })
    }
}

/// An iterator over mini-batches: pairs of inputs and targets.
pub struct Batches<'d> {
    data: &'d Dataset,
    order: Vec<usize>,
    size: usize,
    next: usize,
}

impl Iterator for Batches<'_> {
    type Item = Result<(Tensor, Tensor)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.order.get(self.next..)?.chunks(self.size).next()?;
        self.next += rows.len();
        Some(self.data.rows(rows))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let remaining = (self.order.len() - self.next).div_ceil(self.size);
        (remaining, Some(remaining))
    }
}

impl ExactSizeIterator for Batches<'_> {}
