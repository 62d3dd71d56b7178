//! How the columns of a table become numbers: scaling, categories, missing values.

use super::frame::{Cell, Frame};
use crate::error::{Result, reserve};
use autograd::Tensor;
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, ops::Range};

/// How the columns of a [`Frame`] become the inputs of a model, as learnt from training data:
///
/// - a number becomes `(x - mean) / deviation`; a missing one becomes the median, and another input
///   says that it was missing;
/// - a category becomes one input per category, of which one is 1 (one-hot), or the index of a vector
///   that the model learns ([`Embedding`](crate::Embedding)), from 1 on. A missing value is a category
///   of its own; one that the training data do not have is all zeros, or the index 0.
///
/// It can be written into the file of a model: it implements serde's traits.
///
/// ```
/// use nn::data::{Columns, ColumnOptions, Frame};
/// let text = "size,colour,price\n1,red,5\n2,blue,7\n,red,9\n";
/// let table = Frame::from_csv(text.as_bytes(), "table.csv")?;
/// let columns = Columns::fit(&table, &[0, 1, 2], &ColumnOptions::new("price"))?;
/// assert_eq!(columns.width(), 4); // the size, whether it is missing, red, blue
/// let encoded = columns.encode(&table)?;
/// assert_eq!(encoded.inputs.shape(), [3, 4]);
/// assert_eq!(encoded.inputs.to_f64s()[8..], [0.0, 1.0, 0.0, 1.0]); // the last row: blue comes first
/// # Ok::<(), nn::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Columns {
    /// The columns that are inputs, in the order of the inputs.
    pub columns: Vec<Column>,
    /// Columns that are no inputs, and why.
    pub skipped: Vec<(String, String)>,
    missing: Missing,
}

/// A column that is an input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// What a column holds, and how it is encoded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ColumnKind {
    /// Numbers.
    Number {
        /// The mean, which becomes 0.
        #[serde(with = "exact")]
        mean: f64,
        /// The standard deviation, which becomes 1; 1 for a column of equal numbers.
        #[serde(with = "exact")]
        deviation: f64,
        /// What stands for a missing number: the median.
        #[serde(with = "exact")]
        median: f64,
        /// Whether there is an input that says that a number is missing.
        indicator: bool,
    },
    /// Categories.
    Category {
        /// The categories, sorted.
        values: Vec<String>,
        /// Whether missing values are a category, the last one.
        missing: bool,
        /// The length of the vectors that stand for the categories; none for one-hot inputs.
        embedding: Option<usize>,
    },
}

impl Column {
    /// The number of inputs that it becomes.
    pub fn width(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { indicator, .. } => 1 + usize::from(*indicator),
            ColumnKind::Category {
                embedding: Some(_), ..
            } => 1,
            ColumnKind::Category { .. } => self.categories(),
        }
    }

    /// The number of its categories, with that of missing values; 0 for numbers.
    pub fn categories(&self) -> usize {
        match &self.kind {
            ColumnKind::Number { .. } => 0,
            ColumnKind::Category {
                values, missing, ..
            } => values.len() + usize::from(*missing),
        }
    }
}

/// What becomes of missing values.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Missing {
    /// Something stands for them, and an input says so.
    #[default]
    Impute,
    /// They are an error that names the line and the column.
    Refuse,
}

/// How categories become inputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Categories {
    /// One-hot up to 32 categories, else embedded.
    #[default]
    Auto,
    /// One input per category.
    OneHot,
    /// A learnt vector per category.
    Embedded,
}

/// More categories than these are embedded by default.
const MOST_ONE_HOT: usize = 32;

/// What [`Columns::fit`] is told about a table.
#[derive(Clone, Debug, Default)]
pub struct ColumnOptions {
    /// The column to predict, which is no input.
    pub target: String,
    /// Other columns that are no inputs.
    pub ignored: Vec<String>,
    /// Columns of numbers that are categories: codes.
    pub as_categories: Vec<String>,
    /// What becomes of missing values.
    pub missing: Missing,
    /// How categories become inputs.
    pub categories: Categories,
}

impl ColumnOptions {
    /// All columns but the target are inputs.
    pub fn new(target: &str) -> ColumnOptions {
        ColumnOptions {
            target: target.into(),
            ..ColumnOptions::default()
        }
    }
}

/// What [`Columns::encode`] returns.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The inputs of a model: f32 `[rows, width]`.
    pub inputs: Tensor,
    /// The columns with categories that the training data did not have, and how many such cells.
    pub unseen: Vec<(String, usize)>,
}

impl Columns {
    /// Decides what the columns are, from all rows, and computes means, deviations, medians and
    /// categories from these rows, the training data.
    ///
    /// A column of numbers only is one of numbers, any other one of categories. Skipped are columns of
    /// one value, and those of text that differs in almost every row, such as names. A number of
    /// cells of text among many numbers is an error: it is more likely a mistake than a category.
    pub fn fit(frame: &Frame, rows: &[usize], options: &ColumnOptions) -> Result<Columns> {
        if frame.is_empty() || rows.is_empty() {
            return Err(frame.error("has no rows"));
        }
        let named = options.ignored.iter().chain(&options.as_categories);
        named
            .chain(Some(&options.target))
            .try_for_each(|name| frame.position(name).map(drop))?;
        let (mut columns, mut skipped) = (Vec::new(), Vec::new());
        for (at, name) in frame.names().iter().enumerate() {
            if *name == options.target || options.ignored.contains(name) {
                continue;
            }
            match fit_column(frame, at, rows, options)? {
                Fitted::Column(kind) => columns.push(Column {
                    name: name.clone(),
                    kind,
                }),
                Fitted::Skipped(why) => skipped.push((name.clone(), why)),
            }
        }
        if columns.is_empty() {
            return Err(frame.error("has no column that can be an input"));
        }
        Ok(Columns {
            columns,
            skipped,
            missing: options.missing,
        })
    }

    /// The number of inputs.
    pub fn width(&self) -> usize {
        self.columns.iter().map(Column::width).sum()
    }

    /// The inputs that each column becomes.
    pub fn spans(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let span = |column: &Column| {
            next += column.width();
            next - column.width()..next
        };
        self.columns.iter().map(span).collect()
    }

    /// The inputs of a model for each row of a table that has these columns, in any order. Other
    /// columns do not matter.
    pub fn encode(&self, frame: &Frame) -> Result<Encoded> {
        let width = self.width();
        let mut inputs: Vec<f32> = reserve(frame.len().saturating_mul(width))?;
        inputs.resize(frame.len() * width, 0.0);
        let mut unseen = Vec::new();
        for (column, span) in self.columns.iter().zip(self.spans()) {
            let at = frame.position(&column.name)?;
            let rows = inputs.chunks_mut(width.max(1));
            let rows = rows.map(|row| &mut row[span.clone()]).enumerate();
            let unknown = self.encode_column(frame, column, at, rows)?;
            if unknown > 0 {
                unseen.push((column.name.clone(), unknown));
            }
        }
        Ok(Encoded {
            inputs: Tensor::new([frame.len(), width], inputs)?,
            unseen,
        })
    }

    /// Writes the inputs of a column; how many of its cells hold unseen categories.
    fn encode_column<'i>(
        &self,
        frame: &Frame,
        column: &Column,
        at: usize,
        rows: impl Iterator<Item = (usize, &'i mut [f32])>,
    ) -> Result<usize> {
        let places = match &column.kind {
            ColumnKind::Category { values, .. } => places(values),
            ColumnKind::Number { .. } => HashMap::new(),
        };
        let mut unseen = 0;
        for (row, inputs) in rows {
            let cell = frame.cell(row, at);
            if cell.is_missing() && self.missing == Missing::Refuse {
                return Err(frame.error_at(row, at, "a value is missing"));
            }
            match &column.kind {
                ColumnKind::Number {
                    mean,
                    deviation,
                    median,
                    indicator,
                } => {
                    let number = number(frame, row, at)?;
                    inputs[0] = ((number.unwrap_or(*median) - mean) / deviation) as f32;
                    if *indicator && number.is_none() {
                        inputs[1] = 1.0;
                    }
                }
                ColumnKind::Category {
                    values,
                    missing,
                    embedding,
                } => {
                    let place = match cell.is_missing() {
                        true => missing.then_some(values.len()),
                        false => places.get(cell.text()).copied(),
                    };
                    unseen += usize::from(place.is_none());
                    match (embedding, place) {
                        (Some(_), place) => inputs[0] = place.map_or(0.0, |p| (p + 1) as f32),
                        (None, Some(place)) => inputs[place] = 1.0,
                        (None, None) => {}
                    }
                }
            }
        }
        Ok(unseen)
    }
}

/// What becomes of a column.
enum Fitted {
    Column(ColumnKind),
    Skipped(String),
}

/// The number of a cell, none if it is missing; an error if it is something else.
pub(super) fn number(frame: &Frame, row: usize, at: usize) -> Result<Option<f64>> {
    let cell = frame.cell(row, at);
    match (cell.is_missing(), cell.number()) {
        (true, _) => Ok(None),
        (false, Some(number)) => Ok(Some(number)),
        (false, None) => {
            let message = format!("{:?} is not a finite number", cell.text());
            Err(frame.error_at(row, at, &message))
        }
    }
}

fn fit_column(frame: &Frame, at: usize, rows: &[usize], options: &ColumnOptions) -> Result<Fitted> {
    let there = |cell: &Cell| !cell.is_missing();
    let (present, numbers) = frame.column(at).filter(there).fold((0, 0), |(n, k), cell| {
        (n + 1, k + usize::from(cell.number().is_some()))
    });
    let missing_at = (0..frame.len()).find(|&row| frame.cell(row, at).is_missing());
    if let (Missing::Refuse, Some(row)) = (options.missing, missing_at) {
        return Err(frame.error_at(row, at, "a value is missing"));
    }
    let skipped = |why: &str| Ok(Fitted::Skipped(why.into()));
    if present == 0 {
        return skipped("it is empty");
    }
    let is_code = options.as_categories.contains(&frame.names()[at]);
    if !is_code && numbers == present {
        return fit_numbers(frame, at, rows, missing_at.is_some());
    }
    let values = categories(frame, at, rows);
    // one stray word among numbers is a mistake; words of which some look like numbers are not
    if !is_code && numbers * 10 > present * 9 && values.len() > MOST_ONE_HOT {
        let stray = (0..frame.len()).find(|&row| {
            let cell = frame.cell(row, at);
            there(&cell) && cell.number().is_none()
        });
        let stray = stray.unwrap_or_default();
        let text = frame.cell(stray, at).text();
        let message = format!("{text:?} is no number, as nearly all others of the column are");
        return Err(frame.error_at(stray, at, &message));
    }
    let missing = rows.iter().any(|&row| frame.cell(row, at).is_missing());
    if values.len() + usize::from(missing) < 2 {
        return skipped("it has only one value");
    }
    if !is_code && values.len() > 20 && values.len() * 2 > rows.len() {
        return skipped("nearly every row has another text");
    }
    let embedded = match options.categories {
        Categories::Auto => values.len() > MOST_ONE_HOT,
        Categories::OneHot => false,
        Categories::Embedded => true,
    };
    let count = values.len() + usize::from(missing);
    Ok(Fitted::Column(ColumnKind::Category {
        missing,
        embedding: embedded.then(|| embedding_size(count)),
        values,
    }))
}

/// The length of the vectors of so many categories: the rule of fastai (`emb_sz_rule`), at most 50 here.
fn embedding_size(categories: usize) -> usize {
    ((1.6 * (categories as f64).powf(0.56)).round() as usize).clamp(1, 50)
}

fn fit_numbers(frame: &Frame, at: usize, rows: &[usize], missing: bool) -> Result<Fitted> {
    let numbers = rows.iter().filter_map(|&row| frame.cell(row, at).number());
    let mut numbers: Vec<f64> = numbers.collect();
    let Some((mean, deviation)) = mean_and_deviation(&numbers) else {
        return Ok(Fitted::Skipped("it is empty in the training rows".into()));
    };
    if !deviation.is_finite() {
        let message = format!(
            "the numbers of column {:?} are too large",
            frame.names()[at]
        );
        return Err(frame.error(message));
    }
    numbers.sort_by(f64::total_cmp);
    if numbers.first() == numbers.last() && !missing {
        return Ok(Fitted::Skipped("it has only one value".into()));
    }
    // of an even number of them, the middle of the two in the middle
    let (below, above) = (numbers[(numbers.len() - 1) / 2], numbers[numbers.len() / 2]);
    let median = below / 2.0 + above / 2.0;
    Ok(Fitted::Column(ColumnKind::Number {
        mean,
        deviation,
        median,
        indicator: missing,
    }))
}

/// The mean and the standard deviation; 1 in place of a deviation of 0. None of no numbers.
pub(super) fn mean_and_deviation(numbers: &[f64]) -> Option<(f64, f64)> {
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let squares = numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
    let deviation = (squares / count).sqrt();
    let size = numbers.iter().fold(0.0, |m: f64, x| m.max(x.abs()));
    // equal numbers whose mean is rounded differ from it
    let is_constant = deviation <= 4.0 * f64::EPSILON * size;
    (!numbers.is_empty()).then_some((mean, if is_constant { 1.0 } else { deviation }))
}

/// The categories of these rows, sorted: as numbers if all are, else as texts.
pub(super) fn categories(frame: &Frame, at: usize, rows: &[usize]) -> Vec<String> {
    let cells = rows.iter().map(|&row| frame.cell(row, at));
    let mut values: Vec<Cell<'_>> = cells.filter(|cell| !cell.is_missing()).collect();
    values.sort_by(|a, b| match (a.number(), b.number()) {
        (Some(x), Some(y)) => x.total_cmp(&y).then(a.text().cmp(b.text())),
        // numbers first: an order needs one that does not depend on the neighbours
        (x, y) => y.is_some().cmp(&x.is_some()).then(a.text().cmp(b.text())),
    });
    values.dedup_by(|a, b| a.text() == b.text());
    values.iter().map(|cell| cell.text().to_string()).collect()
}

pub(super) fn places(values: &[String]) -> HashMap<&str, usize> {
    let places = values.iter().enumerate();
    places.map(|(k, value)| (value.as_str(), k)).collect()
}

/// Numbers as texts, from which they are read bit for bit: serde_json rounds those that it reads.
pub(super) mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::data) fn serialize<S: Serializer>(
        number: &f64,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&number.to_string())
    }

    pub(in crate::data) fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<f64, D::Error> {
        let number: f64 = String::deserialize(from)?
            .parse()
            .map_err(D::Error::custom)?;
        match number.is_finite() {
            true => Ok(number),
            false => Err(D::Error::custom("expected a finite number")),
        }
    }
}
