//! CSV files (feature `csv`) and NumPy's npy files (feature `npy`).

use crate::error::{Error, Result};
use autograd::Tensor;
use std::path::Path;

/// What the targets of a table are.
#[cfg(feature = "csv")]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Targets {
    /// Labels if all are integers ≥ 0, otherwise numbers.
    #[default]
    Detected,
    /// Labels: i64 `[rows]`, for a classification.
    Labels,
    /// Numbers: f32 `[rows, 1]`, as are the outputs of a model with one output, for a regression.
    Numbers,
}

/// Reads a dataset from a CSV file of numbers with a header line. The column `target` contains the
/// targets, all others are inputs (f32). If all targets are integers ≥ 0, they are labels (i64
/// `[rows]`), otherwise numbers (f32 `[rows, 1]`): see [`read_csv_as`].
///
/// ```
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("flowers.csv");
/// std::fs::write(&file, "length,kind,width\n5.1,0,3.5\n6.2,1,2.9\n")?;
/// let data = nn::data::read_csv(&file, "kind")?;
/// assert_eq!((data.inputs()?.shape(), data.num_classes()), (&[2, 2][..], Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "csv")]
pub fn read_csv(path: impl AsRef<Path>, target: &str) -> Result<crate::data::Dataset> {
    read_csv_as(path, target, Targets::Detected)
}

/// The same, with targets of this kind.
///
/// ```
/// use nn::data::Targets;
/// let directory = tempfile::tempdir()?;
/// let file = directory.path().join("houses.csv");
/// std::fs::write(&file, "rooms,price\n3,250\n5,400\n")?; // whole numbers, and no labels
/// let data = nn::data::read_csv_as(&file, "price", Targets::Numbers)?;
/// assert_eq!(data.targets().shape(), [2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "csv")]
pub fn read_csv_as(
    path: impl AsRef<Path>,
    target: &str,
    kind: Targets,
) -> Result<crate::data::Dataset> {
    let path = path.as_ref();
    let failed = |e: csv::Error| Error::file(path, e);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(failed)?;
    let names = reader.headers().map_err(failed)?.clone();
    let target_column = names.iter().position(|name| name == target);
    let target_column = target_column.ok_or_else(|| {
        let columns: Vec<&str> = names.iter().collect();
        let columns = columns.join(", ");
        Error::file(
            path,
            format!("has no column `{target}`; its columns are {columns}"),
        )
    })?;
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for (line, record) in reader.records().enumerate() {
        for (column, text) in record.map_err(failed)?.iter().enumerate() {
            // what is too large for f32 is no number either
            let number = text.parse().ok().filter(|&n: &f64| (n as f32).is_finite());
            let number = number.ok_or_else(|| {
                let (name, record) = (&names[column], line + 1);
                let message = "is not a finite number";
                Error::file(
                    path,
                    format!("`{text}` in column `{name}` of record {record} {message}"),
                )
            })?;
            if column == target_column {
                targets.push(number)
            } else {
                inputs.push(number as f32)
            }
        }
    }
    let rows = targets.len();
    let inputs = Tensor::new([rows, names.len() - 1], inputs)?;
    let is_label = |t: &f64| t.fract() == 0.0 && (0.0..1e9).contains(t);
    let no_label = targets.iter().position(|t| !is_label(t));
    let targets: Tensor = match (kind, no_label) {
        (Targets::Labels, Some(row)) => {
            let (value, record) = (targets[row], row + 1);
            let message = format!("the target {value} of record {record} is no label");
            return Err(Error::file(path, message));
        }
        (Targets::Labels | Targets::Detected, None) => {
            targets.iter().map(|&t| t as i64).collect::<Vec<_>>().into()
        }
        _ => Tensor::new(
            [rows, 1],
            targets.iter().map(|&t| t as f32).collect::<Vec<_>>(),
        )?,
    };
    crate::data::Dataset::new(inputs, targets)
}

/// Reads an array of f32, f64, i64 or bool from an npy file, as written by `numpy.save`.
#[cfg(feature = "npy")]
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor> {
    use ndarray::ArrayD;
    use ndarray_npy::{ReadNpyError, ReadNpyExt};
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    if let Some(count) = claimed_elements(&bytes)
        && count > bytes.len() as u128
    {
        let message = format!("is truncated: its header says {count} elements");
        return Err(Error::file(path, message));
    }
    let wrong_type = |e: &ReadNpyError| matches!(e, ReadNpyError::WrongDescriptor(_));
    macro_rules! try_as {
        ($($T:ty)*) => { $(
            match ArrayD::<$T>::read_npy(&bytes[..]) {
                Ok(array) => return Ok(array.try_into()?),
                Err(e) if wrong_type(&e) => {}
                Err(e) => return Err(Error::file(path, format!("is not a valid npy file: {e}"))),
            }
        )* };
    }
    try_as!(f32 f64 i64 bool);
    Err(Error::file(
        path,
        "expected elements of type f32, f64, i64 or bool",
    ))
}

/// How many elements the header of an npy file says it has: with that many, memory is reserved. An
/// element has at least a byte. None if that cannot be read; then the file is not a valid one.
#[cfg(feature = "npy")]
fn claimed_elements(bytes: &[u8]) -> Option<u128> {
    const LONGEST: usize = 1 << 16;
    let header = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST)]);
    let (_, shape) = header.split_once("'shape'")?;
    let (shape, _) = shape.split_once('(')?.1.split_once(')')?;
    let sizes = shape.split(',').map(str::trim).filter(|s| !s.is_empty());
    let mut sizes = sizes.map(|size| size.parse::<u128>().ok());
    sizes.try_fold(1u128, |count, size| Some(count.saturating_mul(size?)))
}
