//! Samples whose inputs and targets stay on the disk.

use super::{
    array_file::ArrayFile,
    source::{Batch, Source},
};
use crate::error::{Error, Result};
use autograd::{DType, Tensor};

/// A [`Source`] of two files, of which only the rows of a batch are read: data that are larger than the
/// memory. Give the trainer an order that goes by [blocks](super::order::blocks) if the disk is slow.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = |name: &str| directory.path().join(name);
/// # std::fs::write(path("images"), [&[0, 0, 8, 2, 0, 0, 0, 4, 0, 0, 0, 2][..], &[7; 8]].concat())?;
/// # std::fs::write(path("labels"), [0, 0, 8, 1, 0, 0, 0, 4, 1, 0, 1, 0])?;
/// use nn::{Activation, Sgd, Trainer, data};
/// let images = data::ArrayFile::open(path("images"))?; // bytes [4, 2]
/// let labels = data::ArrayFile::open(path("labels"))?; // [4]
/// let files = data::FileDataset::new(images, labels)?.divide_by(255.0)?;
/// let (train, held_out) = data::split(&files, 0.5, 1)?;
/// let model = nn::mlp(&[2, 2], Activation::Relu, 1);
/// Trainer::new(&model, Sgd::new(0.1))
///     .order(data::order::blocks(4096, 16))
///     .validate(&held_out)
///     .quiet()
///     .fit(&train)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FileDataset {
    inputs: ArrayFile,
    targets: ArrayFile,
    divisor: Option<f32>,
}

impl FileDataset {
    /// From files with the same number of rows.
    pub fn new(inputs: ArrayFile, targets: ArrayFile) -> Result<FileDataset> {
        if inputs.len() != targets.len() {
            return Err(Error::invalid(format!(
                "there are {} inputs and {} targets",
                inputs.len(),
                targets.len()
            )));
        }
        Ok(FileDataset {
            inputs,
            targets,
            divisor: None,
        })
    }

    /// Inputs of integers, such as pixels, become f32 and are divided by this number.
    pub fn divide_by(mut self, divisor: f32) -> Result<FileDataset> {
        if !divisor.is_finite() || divisor == 0.0 {
            return Err(Error::invalid(format!(
                "expected a finite divisor other than 0, got {divisor}"
            )));
        }
        self.divisor = Some(divisor);
        Ok(self)
    }
}

impl Source for FileDataset {
    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn batch(&self, samples: &[usize]) -> Result<Batch> {
        let mut inputs = self.inputs.rows(samples)?;
        if let (Some(divisor), DType::I64) = (self.divisor, inputs.dtype()) {
            let numbers = inputs.as_slice::<i64>()?.iter();
            let divided = numbers.map(|&n| n as f32 / divisor).collect();
            inputs = Tensor::new(inputs.shape().to_vec(), divided)?;
        }
        Ok(Batch::new(inputs, self.targets.rows(samples)?))
    }
}
