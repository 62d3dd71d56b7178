//! Datasets from tables of numbers: CSV (feature `csv`) and NumPy's npy (feature `npy`).

use crate::error::{Error, Result};
use autograd::Tensor;
use std::path::Path;

/// A table of numbers with a line of names at the top: all columns but the one called `target` are inputs (f32, a row a
/// line). If every target is a whole number from 0 on, targets are labels (i64), otherwise numbers (f32).
///
/// ```
/// let folder = tempfile::tempdir()?;
/// let file = folder.path().join("flowers.csv");
/// std::fs::write(&file, "length,kind,width\n5.1,0,3.5\n6.2,1,2.9\n")?;
/// let data = nn::data::read_csv(&file, "kind")?;
/// assert_eq!((data.inputs()?.shape(), data.classes()), (&[2, 2][..], Some(2)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[cfg(feature = "csv")]
pub fn read_csv(path: impl AsRef<Path>, target: &str) -> Result<crate::data::Dataset> {
    let path = path.as_ref();
    let failed = |e: csv::Error| Error::file(path, e);
    let mut reader = csv::ReaderBuilder::new()
        .trim(csv::Trim::All)
        .from_path(path)
        .map_err(failed)?;
    let names = reader.headers().map_err(failed)?.clone();
    let place = names.iter().position(|name| name == target);
    let place = place
        .ok_or_else(|| Error::file(path, format!("has no column {target:?}, but {:?}", &names)))?;
    let (mut inputs, mut targets) = (Vec::new(), Vec::new());
    for (line, record) in reader.records().enumerate() {
        for (column, text) in record.map_err(failed)?.iter().enumerate() {
            let number: f64 = text.parse().map_err(|_| {
                Error::file(
                    path,
                    format!(
                        "{text:?} in column {:?} of record {} is not a number",
                        &names[column],
                        line + 1
                    ),
                )
            })?;
            if column == place {
                targets.push(number)
            } else {
                inputs.push(number as f32)
            }
        }
    }
    let rows = targets.len();
    let inputs = Tensor::new([rows, names.len() - 1], inputs)?;
    let are_labels = targets
        .iter()
        .all(|t| t.fract() == 0.0 && (0.0..1e9).contains(t));
    let targets: Tensor = match are_labels {
        true => targets.iter().map(|&t| t as i64).collect::<Vec<_>>().into(),
        false => targets.iter().map(|&t| t as f32).collect::<Vec<_>>().into(),
    };
    crate::data::Dataset::new(inputs, targets)
}

/// An array of f32, f64, i64 or bool in NumPy's format, as `numpy.save` writes it.
#[cfg(feature = "npy")]
pub fn read_npy(path: impl AsRef<Path>) -> Result<Tensor> {
    use ndarray::ArrayD;
    use ndarray_npy::{ReadNpyError, ReadNpyExt};
    let path = path.as_ref();
    let bytes =
        std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    let wrong_type = |e: &ReadNpyError| matches!(e, ReadNpyError::WrongDescriptor(_));
    macro_rules! try_as {
        ($($T:ty)*) => { $(
            match ArrayD::<$T>::read_npy(&bytes[..]) {
                Ok(array) => return Ok(array.try_into()?),
                Err(e) if wrong_type(&e) => {}
                Err(e) => return Err(Error::file(path, format!("is not a whole npy file: {e}"))),
            }
        )* };
    }
    try_as!(f32 f64 i64 bool);
    Err(Error::file(
        path,
        "holds elements of a type other than f32, f64, i64 and bool",
    ))
}
