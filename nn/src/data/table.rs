//! CSV files (feature `csv`).

use crate::error::{Error, Result};
use autograd::Tensor;
use std::path::Path;

/// What the targets of a table are.
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
