//! The column of a table that a model predicts.

use super::{
    columns::{categories, exact, mean_and_deviation, number, places},
    frame::{Cell, Frame},
};
use crate::error::{Error, Result};
use autograd::Tensor;
use serde::{Deserialize, Serialize};

/// What kind of target a column is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// Labels.
    Classification,
    /// Numbers.
    Regression,
}

/// The column that a model predicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub kind: TargetKind,
}

/// What a [`Target`] holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TargetKind {
    /// The names of the classes, sorted: a label is a position in it.
    Classes(Vec<String>),
    /// Numbers, which are standardised.
    Number {
        /// The mean of the training data, which becomes 0.
        #[serde(with = "exact")]
        mean: f64,
        /// Their standard deviation, which becomes 1.
        #[serde(with = "exact")]
        deviation: f64,
    },
}

/// A column of whole numbers with at most so many values is one of classes, unless one says otherwise.
const MOST_NUMBERED_CLASSES: usize = 20;

impl Target {
    /// What the target of a table is: text, and whole numbers of few values, are classes, other numbers
    /// a regression, unless `task` says what it is. The target of every row is needed.
    ///
    /// ```
    /// use nn::data::{Frame, Target, TargetKind};
    /// let table = Frame::from_csv(b"x,kind\n1,cat\n2,dog\n3,cat\n", "table.csv")?;
    /// let target = Target::of(&table, "kind", None)?;
    /// assert_eq!(target.kind, TargetKind::Classes(vec!["cat".into(), "dog".into()]));
    /// assert_eq!(target.encode(&table)?.as_slice::<i64>()?, [0, 1, 0]);
    /// # Ok::<(), nn::Error>(())
    /// ```
    pub fn of(frame: &Frame, name: &str, task: Option<Task>) -> Result<Target> {
        let at = frame.position(name)?;
        if frame.is_empty() {
            return Err(frame.error("has no rows"));
        }
        if let Some(row) = (0..frame.len()).find(|&row| frame.cell(row, at).is_missing()) {
            let message = "the target is missing; leave out the row, or fill it in";
            return Err(frame.error_at(row, at, message));
        }
        let rows: Vec<usize> = (0..frame.len()).collect();
        let values = categories(frame, at, &rows);
        let is_whole = |cell: Cell| cell.number().is_some_and(|n| n.fract() == 0.0);
        let are_numbers = frame.column(at).all(|cell| cell.number().is_some());
        let few = values.len() <= MOST_NUMBERED_CLASSES && values.len() * 2 <= frame.len();
        let is_class = !are_numbers || (few && frame.column(at).all(is_whole));
        let is_class = task.map_or(is_class, |task| task == Task::Classification);
        let kind = match is_class {
            true if values.len() < 2 => {
                let message = format!("the target {name:?} has only one value, {:?}", values[0]);
                return Err(frame.error(message));
            }
            true if values.len() > 2 && values.len() * 2 > frame.len() => {
                let message = format!(
                    "the target {name:?} has {} different texts in {} rows: there is nothing to learn about most of them",
                    values.len(),
                    frame.len()
                );
                return Err(frame.error(message));
            }
            true => TargetKind::Classes(values),
            false => {
                let numbers = rows.iter().map(|&row| number(frame, row, at));
                let numbers: Vec<f64> = numbers
                    .filter_map(Result::transpose)
                    .collect::<Result<_>>()?;
                let (mean, deviation) = mean_and_deviation(&numbers).unwrap_or((0.0, 1.0));
                TargetKind::Number { mean, deviation }
            }
        };
        Ok(Target {
            name: name.into(),
            kind,
        })
    }

    /// Classification or regression.
    pub fn task(&self) -> Task {
        match self.kind {
            TargetKind::Classes(_) => Task::Classification,
            TargetKind::Number { .. } => Task::Regression,
        }
    }

    /// The number of outputs of a model: one per class, or one.
    pub fn outputs(&self) -> usize {
        match &self.kind {
            TargetKind::Classes(names) => names.len(),
            TargetKind::Number { .. } => 1,
        }
    }

    /// The targets of a table: labels, i64 `[rows]`, or standardised numbers, f32 `[rows, 1]`.
    pub fn encode(&self, frame: &Frame) -> Result<Tensor> {
        let at = frame.position(&self.name)?;
        match &self.kind {
            TargetKind::Classes(names) => {
                let places = places(names);
                let label = |row: usize| {
                    let text = frame.cell(row, at).text();
                    let place = places.get(text).map(|&place| place as i64);
                    place.ok_or_else(|| {
                        let message = format!("{text:?} is none of the classes of the model");
                        frame.error_at(row, at, &message)
                    })
                };
                Ok((0..frame.len())
                    .map(label)
                    .collect::<Result<Vec<i64>>>()?
                    .into())
            }
            TargetKind::Number { mean, deviation } => {
                let scaled = |row: usize| match number(frame, row, at)? {
                    Some(x) => Ok(((x - mean) / deviation) as f32),
                    None => Err(frame.error_at(row, at, "the target is missing")),
                };
                let numbers: Vec<f32> = (0..frame.len()).map(scaled).collect::<Result<_>>()?;
                Ok(Tensor::new([frame.len(), 1], numbers)?)
            }
        }
    }

    /// Predictions in the words of the table: the class with the largest output, or the number. From
    /// outputs `[rows, outputs]`.
    pub fn decode(&self, outputs: &Tensor) -> Result<Vec<String>> {
        let wide = self.outputs();
        if outputs.shape().get(1) != Some(&wide) {
            let message = format!("expected outputs [rows, {wide}], got {:?}", outputs.shape());
            return Err(Error::invalid(message));
        }
        let rows = outputs.to_f64s();
        let text = |row: &[f64]| match &self.kind {
            TargetKind::Classes(names) => {
                let better = |best: usize, k: usize| if row[k] > row[best] { k } else { best };
                names[(0..wide).fold(0, better)].clone()
            }
            // in the precision of f32, in which it was computed
            TargetKind::Number { mean, deviation } => {
                ((row[0] * deviation + mean) as f32).to_string()
            }
        };
        Ok(rows.chunks(wide).map(text).collect())
    }
}
