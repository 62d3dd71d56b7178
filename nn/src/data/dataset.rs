//! Samples in memory: inputs and targets, row by row, and their order in an epoch.

use crate::{
    error::{Error, Result, reserve},
    seed,
};
use autograd::{DType, Tensor};
use rand::seq::SliceRandom;
use std::sync::Arc;

/// Inputs and targets: row `k` of one belongs to row `k` of the other.
///
/// ```
/// use autograd::Tensor;
/// let data = nn::Dataset::new(Tensor::from([[0.1f32], [0.2], [0.3]]), Tensor::from([0, 1, 0]))?;
/// let sizes: Vec<usize> = data.batches(2).map(|b| b.map(|(x, _)| x.shape()[0])).collect::<Result<_, _>>()?;
/// assert_eq!(sizes, [2, 1]);
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Dataset {
    inputs: Inputs,
    targets: Tensor,
}

/// Inputs, a row a sample.
#[derive(Clone, Debug)]
enum Inputs {
    Numbers(Tensor),
    /// f32 of one byte each: what they are divided by makes numbers of them.
    Bytes {
        shape: Vec<usize>,
        bytes: Arc<Vec<u8>>,
        divisor: f32,
    },
}

impl Inputs {
    fn shape(&self) -> &[usize] {
        match self {
            Inputs::Numbers(tensor) => tensor.shape(),
            Inputs::Bytes { shape, .. } => shape,
        }
    }

    /// These rows, kept as they are here.
    fn rows(&self, rows: &[usize]) -> Result<Inputs> {
        match self {
            Inputs::Numbers(tensor) => Ok(Inputs::Numbers(tensor.rows(rows)?)),
            Inputs::Bytes {
                shape,
                bytes,
                divisor,
            } => {
                let width: usize = shape[1..].iter().product();
                if let Some(bad) = rows.iter().find(|&&row| row >= shape[0]) {
                    return Err(Error::invalid(format!(
                        "there is no row {bad} in {shape:?}"
                    )));
                }
                let mut chosen = reserve(rows.len().saturating_mul(width))?;
                rows.iter().for_each(|&row| {
                    chosen.extend_from_slice(&bytes[row * width..(row + 1) * width])
                });
                let shape = [&[rows.len()], &shape[1..]].concat();
                Ok(Inputs::Bytes {
                    shape,
                    bytes: Arc::new(chosen),
                    divisor: *divisor,
                })
            }
        }
    }

    fn numbers(&self) -> Result<Tensor> {
        match self {
            Inputs::Numbers(tensor) => Ok(tensor.clone()),
            Inputs::Bytes {
                shape,
                bytes,
                divisor,
            } => {
                let mut numbers = reserve(bytes.len())?;
                numbers.extend(bytes.iter().map(|&b| f32::from(b) / divisor));
                Ok(Tensor::new(shape, numbers)?)
            }
        }
    }
}

impl Dataset {
    /// From tensors with equally many rows.
    pub fn new(inputs: Tensor, targets: Tensor) -> Result<Dataset> {
        Dataset::of(Inputs::Numbers(inputs), targets)
    }

    /// From inputs of one byte each, such as the grey values of images. They stay bytes, which takes a quarter of the
    /// memory and of the time to read it; a batch of them is f32, each byte divided by `divisor`.
    ///
    /// ```
    /// let grey = nn::Dataset::from_bytes(&[2, 3], vec![0, 51, 255, 102, 0, 0], 255.0, vec![7i64, 1].into())?;
    /// assert_eq!(grey.rows(&[0])?.0.as_slice::<f32>()?, [0.0, 0.2, 1.0]);
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
                "{} bytes do not fill {shape:?}",
                bytes.len()
            )));
        }
        if !divisor.is_finite() || divisor == 0.0 {
            return Err(Error::invalid(format!(
                "bytes cannot be divided by {divisor}"
            )));
        }
        Dataset::of(
            Inputs::Bytes {
                shape: shape.into(),
                bytes: Arc::new(bytes),
                divisor,
            },
            targets,
        )
    }

    fn of(inputs: Inputs, targets: Tensor) -> Result<Dataset> {
        match (inputs.shape().first(), targets.shape().first()) {
            (Some(a), Some(b)) if a == b => Ok(Dataset { inputs, targets }),
            _ => Err(Error::invalid(format!(
                "inputs {:?} and targets {:?} must have equally many rows",
                inputs.shape(),
                targets.shape()
            ))),
        }
    }

    /// The inputs, a row a sample. Those that are kept as bytes are made numbers at each call.
    pub fn inputs(&self) -> Result<Tensor> {
        self.inputs.numbers()
    }

    /// The shape of one input.
    pub fn sample_shape(&self) -> &[usize] {
        &self.inputs.shape()[1..]
    }

    /// The targets, a row a sample.
    pub fn targets(&self) -> &Tensor {
        &self.targets
    }

    /// The number of samples.
    pub fn len(&self) -> usize {
        self.inputs.shape()[0]
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of classes if the targets are labels: the largest one plus 1.
    pub fn classes(&self) -> Option<usize> {
        let labels = if self.targets.dtype() == DType::I64 {
            self.targets.as_slice::<i64>().ok()?
        } else {
            return None;
        };
        usize::try_from(*labels.iter().max()?).ok()?.checked_add(1)
    }

    /// The samples with these numbers, in this order.
    pub fn rows(&self, rows: &[usize]) -> Result<(Tensor, Tensor)> {
        Ok((self.inputs.rows(rows)?.numbers()?, self.targets.rows(rows)?))
    }

    /// Two parts, drawn by a seed: this share of the samples, and the others.
    ///
    /// ```
    /// # use autograd::Tensor;
    /// # let data = nn::Dataset::new(Tensor::from(vec![0.5f32; 10]), Tensor::from(vec![0i64; 10]))?;
    /// let (train, validation) = data.split(0.8, 42)?;
    /// assert_eq!((train.len(), validation.len()), (8, 2));
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn split(&self, share: f64, seed: u64) -> Result<(Dataset, Dataset)> {
        if !(0.0..=1.0).contains(&share) {
            return Err(Error::invalid(format!(
                "a share of {share} is not between 0 and 1"
            )));
        }
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut seed::generator(seed));
        let (first, second) = order.split_at((share * self.len() as f64).round() as usize);
        let part = |rows: &[usize]| Dataset::of(self.inputs.rows(rows)?, self.targets.rows(rows)?);
        Ok((part(first)?, part(second)?))
    }

    /// All samples in their order, in batches; the last one may be smaller.
    pub fn batches(&self, size: usize) -> Batches<'_> {
        Batches {
            data: self,
            order: (0..self.len()).collect(),
            size: size.max(1),
            next: 0,
        }
    }

    /// All samples in an order drawn from a seed, in batches; the last one may be smaller.
    pub fn shuffled_batches(&self, size: usize, seed: u64) -> Batches<'_> {
        let mut batches = self.batches(size);
        batches.order.shuffle(&mut seed::generator(seed));
        batches
    }
}

/// Goes through a dataset batch by batch: pairs of inputs and targets.
pub struct Batches<'d> {
    data: &'d Dataset,
    order: Vec<usize>,
    size: usize,
    next: usize,
}

impl Batches<'_> {
    /// From this batch on: those before it are left out.
    pub(crate) fn starting_at(mut self, batch: usize) -> Self {
        self.next = batch.saturating_mul(self.size).min(self.order.len());
        self
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<(Tensor, Tensor)>;

    fn next(&mut self) -> Option<Self::Item> {
        let rows = self.order.get(self.next..)?.chunks(self.size).next()?;
        self.next += rows.len();
        Some(self.data.rows(rows))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.next).div_ceil(self.size);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Batches<'_> {}
