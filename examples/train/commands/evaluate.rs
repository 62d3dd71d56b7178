//! Measures a model on samples whose target is known.

use crate::{options::Evaluate, text};
use examples::terminal::{self, Ended, complain, say};
use nn::{
    Dataset, Metrics, Result,
    data::{TargetKind, Task},
    metrics::ConfusionMatrix,
};
use std::fmt;
use train::{Data, SavedModel, Source};

pub(crate) fn run(options: &Evaluate) -> Result<Ended> {
    terminal::start_threads(options.with.threads)?;
    let model = SavedModel::load(&options.with.model)?;
    let source = Source::read(&options.with.data)?;
    let (data, unseen) = Data::for_model(&source, &model)?;
    text::unseen(&unseen).iter().for_each(|note| complain(note));
    let metrics = nn::evaluate(
        &model.net,
        &data,
        match model.target.task() {
            Task::Classification => nn::loss::cross_entropy,
            Task::Regression => nn::loss::mse,
        },
    )?;
    let scores = scores(&model, &data, &metrics)?;
    if options.json {
        return say(&scores.to_json(data.len())).map(|()| Ended::Finished);
    }
    if let TargetKind::Classes(names) = &model.target.kind {
        let outputs = model.outputs(&data.inputs()?)?;
        let matrix = ConfusionMatrix::new(&outputs, data.targets())?;
        say(&format!(
            "rows: actual {}, columns: predicted",
            model.target.name
        ))?;
        say(&text::confusion(&matrix, names)?)?;
    }
    say(&format!(
        "{}: {scores}",
        text::counted(data.len(), "sample")
    ))?;
    Ok(Ended::Finished)
}

/// The numbers that say how good a model is.
pub(crate) enum Scores {
    /// Of a classification: with the accuracy of always saying the most frequent class.
    Classes {
        accuracy: f64,
        loss: f64,
        most_frequent: f64,
    },
    /// Of a regression, in the units of the target.
    Numbers {
        r_squared: f64,
        mean_absolute_error: f64,
        root_mean_square_error: f64,
    },
}

/// Those of a model on some samples, with its loss and accuracy on them.
pub(crate) fn scores(model: &SavedModel, data: &Dataset, metrics: &Metrics) -> Result<Scores> {
    let TargetKind::Number { deviation, .. } = model.target.kind else {
        let labels = data.targets().as_slice::<i64>()?;
        let mut counts = vec![0usize; model.target.outputs()];
        labels.iter().for_each(|&label| counts[label as usize] += 1);
        let most = counts.into_iter().max().unwrap_or(0);
        return Ok(Scores::Classes {
            accuracy: metrics.accuracy.unwrap_or(f64::NAN),
            loss: metrics.loss,
            most_frequent: most as f64 / labels.len() as f64,
        });
    };
    let outputs = model.outputs(&data.inputs()?)?.to_f64s();
    let targets = data.targets().to_f64s();
    let count = targets.len() as f64;
    let mean = targets.iter().sum::<f64>() / count;
    let errors = || outputs.iter().zip(&targets).map(|(y, t)| y - t);
    let (rest, all) = (
        errors().map(|e| e * e).sum::<f64>(),
        targets.iter().map(|t| (t - mean).powi(2)).sum::<f64>(),
    );
    Ok(Scores::Numbers {
        r_squared: 1.0 - rest / all,
        mean_absolute_error: errors().map(f64::abs).sum::<f64>() / count * deviation,
        root_mean_square_error: (rest / count).sqrt() * deviation,
    })
}

impl Scores {
    /// One object; NaN is `null`.
    fn to_json(&self, samples: usize) -> String {
        let number = |v: f64| {
            if v.is_finite() {
                v.to_string()
            } else {
                "null".into()
            }
        };
        let pairs: Vec<(&str, f64)> = match *self {
            Scores::Classes {
                accuracy,
                loss,
                most_frequent,
            } => vec![
                ("accuracy", accuracy),
                ("loss", loss),
                ("accuracy_of_most_frequent_class", most_frequent),
            ],
            Scores::Numbers {
                r_squared,
                mean_absolute_error,
                root_mean_square_error,
            } => vec![
                ("r_squared", r_squared),
                ("mean_absolute_error", mean_absolute_error),
                ("root_mean_square_error", root_mean_square_error),
            ],
        };
        let pairs = pairs.into_iter().chain([("samples", samples as f64)]);
        let pairs: Vec<String> = pairs
            .map(|(k, v)| format!("\"{k}\":{}", number(v)))
            .collect();
        format!("{{{}}}", pairs.join(","))
    }
}

impl fmt::Display for Scores {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Scores::Classes {
                accuracy,
                loss,
                most_frequent,
            } => write!(
                f,
                "accuracy {accuracy:.4} (always the most frequent class: {most_frequent:.4}), loss {loss:.4}"
            ),
            Scores::Numbers {
                r_squared,
                mean_absolute_error,
                root_mean_square_error,
            } => write!(
                f,
                "R² {r_squared:.4} (always the mean: 0), mean absolute error {mean_absolute_error:.4}, root mean square error {root_mean_square_error:.4}"
            ),
        }
    }
}
