//! What models, columns and results are in words.

use nn::{
    Result,
    data::{ColumnKind, Columns, Frame, Target, TargetKind},
    metrics::ConfusionMatrix,
};
use std::fmt::Write;
use train::{Data, Inputs, SavedModel};

/// A number and what it counts: `1 row`, `2 rows`.
pub(crate) fn counted(count: usize, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// At most so many names.
const MOST_NAMES: usize = 6;

/// The first of some names.
pub(crate) fn listed(names: &[String]) -> String {
    let first = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>();
    let more = names.len() - first.len();
    match more {
        0 => first.join(", "),
        _ => format!("{}, and {more} more", first.join(", ")),
    }
}

/// What a table has, and what became of its columns: lines to read before a training.
pub(crate) fn table(frame: &Frame, columns: &Columns, verbose: bool) -> String {
    let of_numbers = |c: &&nn::data::Column| matches!(c.kind, ColumnKind::Number { .. });
    let numbers = columns.columns.iter().filter(of_numbers).count();
    let categories = columns.columns.len() - numbers;
    let mut text = format!(
        "{}: {} of numbers, {} of categories, which are {}",
        counted(frame.len(), "row"),
        counted(numbers, "column"),
        counted(categories, "column"),
        counted(columns.width(), "input"),
    );
    for (name, why) in &columns.skipped {
        let _ = write!(text, "\n  {name}: left out, {why}");
    }
    for column in &columns.columns {
        let missing = frame
            .position(&column.name)
            .map_or(0, |at| frame.column(at).filter(|c| c.is_missing()).count());
        if !verbose && missing == 0 {
            continue;
        }
        let what = match &column.kind {
            ColumnKind::Number {
                mean,
                deviation,
                median,
                ..
            } => match missing {
                0 => format!("numbers, mean {mean:.4}, deviation {deviation:.4}"),
                _ => format!(
                    "{} missing, filled in with the median {median}",
                    counted(missing, "number")
                ),
            },
            ColumnKind::Category {
                values, embedding, ..
            } => {
                let how = match embedding {
                    Some(size) => format!("vectors of {size} numbers"),
                    None => "one-hot".into(),
                };
                let missing = match missing {
                    0 => String::new(),
                    n => format!("; {n} missing, a category of their own"),
                };
                let count = values.len();
                format!("{count} categories ({}), {how}{missing}", listed(values))
            }
        };
        let _ = write!(text, "\n  {}: {what}", column.name);
    }
    text
}

/// What is predicted.
pub(crate) fn target(target: &Target, is_detected: bool) -> String {
    let what = match &target.kind {
        TargetKind::Classes(names) => {
            format!(
                "classification, {} classes ({})",
                names.len(),
                listed(names)
            )
        }
        TargetKind::Number { mean, deviation } => {
            format!("regression, mean {mean:.4}, deviation {deviation:.4}")
        }
    };
    let are_numbers = |names: &[String]| names.iter().all(|name| name.parse::<f64>().is_ok());
    let hint = match &target.kind {
        TargetKind::Classes(names) if is_detected && are_numbers(names) => {
            "; --task regression would take them for numbers"
        }
        _ => "",
    };
    format!("predicting {}: {what}{hint}", target.name)
}

/// The network, and the parts of the data.
pub(crate) fn network(model: &SavedModel, data: &Data, threads: usize) -> String {
    use nn::Module;
    let held_out = data.validation.as_ref().map_or(0, nn::Dataset::len);
    let what = match model.inputs {
        Inputs::Table(_) => "row",
        Inputs::Images { .. } => "image",
    };
    format!(
        "network {} with {}: {}; {} to train on, {held_out} held out; {}",
        model.shape(),
        model.activation,
        counted(model.net.num_parameters(), "parameter"),
        counted(data.train.len(), what),
        counted(threads, "thread"),
    )
}

/// Unseen categories, in a sentence for each column.
pub(crate) fn unseen(unseen: &[(String, usize)]) -> Vec<String> {
    let sentence = |(name, count): &(String, usize)| {
        let cells = counted(*count, "cell");
        format!("note: {cells} of column {name:?} with values that the training data did not have")
    };
    unseen.iter().map(sentence).collect()
}

/// A confusion matrix with the names of classes.
pub(crate) fn confusion(matrix: &ConfusionMatrix, names: &[String]) -> Result<String> {
    let short = |name: &str| name.chars().take(14).collect::<String>();
    let names: Vec<String> = names.iter().map(|name| short(name)).collect();
    let wide = names
        .iter()
        .map(|n| n.chars().count())
        .max()
        .unwrap_or(0)
        .max(6);
    let cell = |text: &str| format!("  {text:>wide$}");
    let mut text = format!("{:wide$}", "");
    names.iter().for_each(|name| text += &cell(name));
    text += &format!("{}{}\n", cell("recall"), cell("prec."));
    let fraction = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.3}"));
    for (k, name) in names.iter().enumerate() {
        text += &format!("{name:wide$}");
        (0..names.len()).for_each(|other| text += &cell(&matrix.count(k, other).to_string()));
        text += &cell(&fraction(matrix.recall(k)));
        text += &format!("{}\n", cell(&fraction(matrix.precision(k))));
    }
    Ok(text)
}
