//! Where data come from: a CSV file, standard input, or a directory of IDX files.

use crate::model::{Inputs, SavedModel};
use nn::{
    Dataset, Error, Result,
    data::{self, ColumnOptions, Columns, Frame, Target, TargetKind, Task},
};
use std::{
    io::Read,
    path::{Path, PathBuf},
};

/// What a path leads to.
pub enum Source {
    /// A table.
    Table(Frame),
    /// Images: to train on, and to test with.
    Images {
        /// The training images.
        train: Box<Dataset>,
        /// The test images.
        test: Box<Dataset>,
        /// Their directory.
        directory: PathBuf,
    },
}

impl Source {
    /// Reads a CSV file, standard input for `-`, or a directory with the four IDX files of MNIST.
    pub fn read(path: &Path) -> Result<Source> {
        if path == Path::new("-") {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            read.map_err(|e| Error::Invalid(format!("cannot read standard input: {e}")))?;
            return Ok(Source::Table(Frame::from_csv(&bytes, "standard input")?));
        }
        if path.is_dir() {
            let (train, test) = data::read_mnist(path)?;
            return Ok(Source::Images {
                train: Box::new(train),
                test: Box::new(test),
                directory: path.into(),
            });
        }
        Ok(Source::Table(Frame::read_csv(path)?))
    }
}

/// How a table is taken.
#[derive(Clone, Debug, Default)]
pub struct TableOptions {
    /// The columns; the target may be empty for images.
    pub columns: ColumnOptions,
    /// Classification or regression, if it is not to be detected.
    pub task: Option<Task>,
    /// The part of the samples that validate the training.
    pub validation: f64,
    /// The seed of the random split.
    pub seed: u64,
}

/// Data to train on, and how they were made.
pub struct Data {
    /// What the model is to take.
    pub inputs: Inputs,
    /// What it is to predict.
    pub target: Target,
    /// The samples to train on.
    pub train: Dataset,
    /// The samples that validate the training.
    pub validation: Option<Dataset>,
}

impl Data {
    /// Splits off the validation samples, class by class, and learns the encoding from the others.
    pub fn new(source: &Source, options: &TableOptions) -> Result<Data> {
        match source {
            Source::Table(frame) => Data::of_table(frame, options),
            Source::Images { train, .. } => Data::of_images(train, options),
        }
    }

    fn of_table(frame: &Frame, options: &TableOptions) -> Result<Data> {
        let target = Target::of(frame, &options.columns.target, options.task)?;
        let targets = target.encode(frame)?;
        // a dataset of the numbers of rows, which are split as any other
        let rows: Vec<i64> = (0..frame.len() as i64).collect();
        let rows = Dataset::new(rows.into(), targets)?;
        let (train, validation) = split(&rows, &target, options)?;
        let rows = |part: &Dataset| -> Result<Vec<usize>> {
            let rows = part.inputs()?;
            Ok(rows
                .as_slice::<i64>()?
                .iter()
                .map(|&row| row as usize)
                .collect())
        };
        let (train, validation) = (rows(&train)?, validation.as_ref().map(rows).transpose()?);
        let columns = Columns::fit(frame, &train, &options.columns)?;
        let target = of_training_rows(target, frame, &train)?;
        let all = Dataset::new(columns.encode(frame)?.inputs, target.encode(frame)?)?;
        let part = |rows: &[usize]| {
            let (inputs, targets) = all.rows(rows)?;
            Dataset::new(inputs, targets)
        };
        Ok(Data {
            train: part(&train)?,
            validation: validation.as_deref().map(part).transpose()?,
            inputs: Inputs::Table(columns),
            target,
        })
    }

    fn of_images(images: &Dataset, options: &TableOptions) -> Result<Data> {
        let classes = images.num_classes().unwrap_or(0);
        let names = (0..classes).map(|class| class.to_string());
        let target = Target {
            name: "label".into(),
            kind: TargetKind::Classes(names.collect()),
        };
        let (train, validation) = split(images, &target, options)?;
        let pixels = images.sample_shape().iter().product();
        Ok(Data {
            inputs: Inputs::Images { pixels },
            target,
            train,
            validation,
        })
    }

    /// Labelled samples for a model: all rows of a table, or test images. Also how many cells hold
    /// unseen categories, by column.
    pub fn for_model(
        source: &Source,
        model: &SavedModel,
    ) -> Result<(Dataset, Vec<(String, usize)>)> {
        match source {
            Source::Table(frame) => {
                if frame.is_empty() {
                    return Err(Error::Invalid("the table has no rows".into()));
                }
                let encoded = model.inputs.encode(frame)?;
                let targets = model.target.encode(frame)?;
                Ok((Dataset::new(encoded.inputs, targets)?, encoded.unseen))
            }
            Source::Images { test, .. } => Ok((images_for(model, test)?.clone(), Vec::new())),
        }
    }
}

/// Test images, if they are such as the model takes.
pub(crate) fn images_for<'d>(model: &SavedModel, images: &'d Dataset) -> Result<&'d Dataset> {
    let found: usize = images.sample_shape().iter().product();
    match &model.inputs {
        Inputs::Images { pixels } if *pixels == found => Ok(images),
        Inputs::Images { pixels } => Err(Error::Invalid(format!(
            "the model takes images of {pixels} pixels, these have {found}"
        ))),
        Inputs::Table(_) => Err(Error::Invalid(
            "the model was trained on a table: expected a CSV file".into(),
        )),
    }
}

/// The training part, and the validation part if one is wanted.
fn split(
    data: &Dataset,
    target: &Target,
    options: &TableOptions,
) -> Result<(Dataset, Option<Dataset>)> {
    if options.validation == 0.0 {
        return Ok((data.clone(), None));
    }
    let fraction = 1.0 - options.validation;
    let (train, validation) = match target.task() {
        Task::Classification => data.stratified_split(fraction, options.seed)?,
        Task::Regression => data.split(fraction, options.seed)?,
    };
    if train.is_empty() || validation.is_empty() {
        let message = format!(
            "{} samples are too few to split off a validation part of {}; --validation 0 takes all to train",
            data.len(),
            options.validation
        );
        return Err(Error::Invalid(message));
    }
    Ok((train, Some(validation)))
}

/// The same target, with the scaling of the training rows if it is a number.
fn of_training_rows(target: Target, frame: &Frame, rows: &[usize]) -> Result<Target> {
    let TargetKind::Number { mean, deviation } = target.kind else {
        return Ok(target);
    };
    let scaled = target.encode(frame)?.rows(rows)?.to_f64s();
    let count = scaled.len() as f64;
    let shift = scaled.iter().sum::<f64>() / count;
    let square = scaled.iter().map(|x| (x - shift).powi(2)).sum::<f64>() / count;
    // of equal targets, nothing can be learnt but their mean
    let scale = if square > 1e-12 { square.sqrt() } else { 1.0 };
    let kind = TargetKind::Number {
        mean: mean + deviation * shift,
        deviation: deviation * scale,
    };
    Ok(Target { kind, ..target })
}
