//! Tables of text: what a CSV file holds before its columns are numbers and categories.

use crate::error::{Error, Result};
use std::path::Path;

/// A table of text with named columns, such as a CSV file holds. [`Columns`](super::Columns) says how
/// its columns become the inputs of a model, [`Target`](super::Target) what is to be predicted.
///
/// ```
/// let text = "length;kind\n5,1;setosa\n;virginica\n"; // semicolons, decimal commas, a missing value
/// let flowers = nn::data::Frame::from_csv(text.as_bytes(), "flowers.csv")?;
/// assert_eq!((flowers.len(), flowers.names()), (2, &["length".to_string(), "kind".into()][..]));
/// assert_eq!(flowers.cell(0, 0).number(), Some(5.1));
/// assert!(flowers.cell(1, 0).is_missing());
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Frame {
    /// What it was read from, for error messages.
    source: String,
    names: Vec<String>,
    /// All cells, row by row.
    cells: Vec<String>,
    /// The line of each row in its file.
    lines: Vec<u64>,
    /// Whether a comma can be the decimal mark: not where it separates the cells.
    decimal_comma: bool,
}

/// A cell of a [`Frame`].
#[derive(Clone, Copy, Debug)]
pub struct Cell<'f> {
    text: &'f str,
    decimal_comma: bool,
}

/// What stands for a missing value, in small letters.
const MISSING: [&str; 7] = ["", "na", "n/a", "nan", "null", "?", "-"];

impl<'f> Cell<'f> {
    /// The text, without spaces around it.
    pub fn text(self) -> &'f str {
        self.text
    }

    /// Whether it is empty or says that a value is missing: `NA`, `NaN`, `null`, `?` and others.
    pub fn is_missing(self) -> bool {
        MISSING.iter().any(|m| self.text.eq_ignore_ascii_case(m))
    }

    /// The number, if it is a finite one.
    pub fn number(self) -> Option<f64> {
        let with_comma = || match self.decimal_comma && self.text.matches(',').count() == 1 {
            true => self.text.replace(',', ".").parse().ok(),
            false => None,
        };
        let number: Option<f64> = self.text.parse().ok().or_else(with_comma);
        number.filter(|n| n.is_finite())
    }
}

impl Frame {
    /// Reads a CSV file with a header line. Cells are separated by commas, semicolons or tabs, whatever
    /// the header line has most of.
    pub fn read_csv(path: impl AsRef<Path>) -> Result<Frame> {
        let path = path.as_ref();
        let bytes =
            std::fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
        Frame::from_csv(&bytes, &path.display().to_string())
    }

    /// The same for the contents of a file. Error messages name the `source`.
    pub fn from_csv(bytes: &[u8], source: &str) -> Result<Frame> {
        let failed = |message: String| Error::File {
            path: source.into(),
            message,
        };
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes); // a byte order mark
        let delimiter = delimiter(bytes);
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .delimiter(delimiter)
            .from_reader(bytes);
        let wrong = |e: csv::Error| failed(explained(&e));
        let names = reader.headers().map_err(wrong)?;
        let names: Vec<String> = names.iter().map(str::to_string).collect();
        if names.iter().all(String::is_empty) {
            return Err(failed(
                "has no header line with the names of the columns".into(),
            ));
        }
        let twice = |k: &usize| names[..*k].contains(&names[*k]);
        if let Some(k) = (1..names.len()).find(twice) {
            return Err(failed(format!("two columns are called {:?}", names[k])));
        }
        let (mut cells, mut lines) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record.map_err(wrong)?;
            lines.push(record.position().map_or(0, |p| p.line()));
            cells.extend(record.iter().map(str::to_string));
        }
        Ok(Frame {
            source: source.into(),
            names,
            cells,
            lines,
            decimal_comma: delimiter != b',',
        })
    }

    /// The names of the columns.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The number of rows.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The position of a column; an error that lists the columns, if it has none of this name.
    pub fn position(&self, name: &str) -> Result<usize> {
        let position = self.names.iter().position(|other| other == name);
        position.ok_or_else(|| {
            let names = self.names.join(", ");
            self.error(format!("has no column {name:?}; its columns are {names}"))
        })
    }

    /// The cell of a row and a column. Panics if there is none, as indices do.
    pub fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        assert!(column < self.names.len(), "column {column} is out of range");
        Cell {
            text: &self.cells[row * self.names.len() + column],
            decimal_comma: self.decimal_comma,
        }
    }

    /// The cells of a column, from the first row on.
    pub fn column(&self, column: usize) -> impl Iterator<Item = Cell<'_>> {
        (0..self.len()).map(move |row| self.cell(row, column))
    }

    /// An error about the table as a whole.
    pub(crate) fn error(&self, message: impl Into<String>) -> Error {
        Error::File {
            path: self.source.clone(),
            message: message.into(),
        }
    }

    /// An error about a cell: it names the line of the file and the column.
    pub(crate) fn error_at(&self, row: usize, column: usize, message: &str) -> Error {
        let (line, name) = (self.lines[row], &self.names[column]);
        self.error(format!("line {line}, column {name:?}: {message}"))
    }
}

/// The separator of which the header line has most.
fn delimiter(bytes: &[u8]) -> u8 {
    let header = bytes.split(|&b| b == b'\n').next().unwrap_or_default();
    let count = |separator: u8| header.iter().filter(|&&b| b == separator).count();
    // the last of equal ones is taken
    [b'\t', b';', b',']
        .into_iter()
        .max_by_key(|&separator| count(separator))
        .unwrap_or(b',')
}

/// An error of the CSV reader in the words of someone who has a table.
fn explained(e: &csv::Error) -> String {
    match e.kind() {
        csv::ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => {
            let line = pos.as_ref().map_or(0, |p| p.line());
            format!("line {line} has {len} cells, the header line has {expected_len}")
        }
        csv::ErrorKind::Utf8 { pos, .. } => {
            let line = pos.as_ref().map_or(1, |p| p.line());
            format!("line {line} is not UTF-8 text")
        }
        _ => e.to_string(),
    }
}
