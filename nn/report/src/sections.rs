//! The parts of a report that are made of the history and the layers.

use crate::{
    chart::{Chart, Mark, Series},
    page::{Table, figure, gallery, number},
    statistics::{Histogram, LayerSample},
};
use autograd::Param;
use nn::{CallbackContext, Epoch};

/// What the first step of an epoch says about a layer.
pub(crate) struct LayerPoint {
    epoch: usize,
    /// The step, counted over all epochs from 1.
    step: usize,
    name: String,
    norm: f64,
    update_ratio: Option<f64>,
}

impl LayerPoint {
    pub(crate) fn new(epoch: usize, step: usize, sample: &LayerSample) -> LayerPoint {
        LayerPoint {
            epoch,
            step,
            name: sample.name.clone(),
            norm: sample.norm,
            update_ratio: sample.update_ratio,
        }
    }
}

/// How a training with some epochs has ended: within one, if steps were done after the last one.
pub(crate) fn end(context: &CallbackContext<'_>, last: Option<&LayerPoint>) -> String {
    let epochs = context.history.len();
    match last {
        Some(last) if last.epoch > epochs => {
            let steps = context.step + 1 - last.step;
            format!(
                "It ended within epoch {}, after {steps} of its steps.",
                epochs + 1
            )
        }
        _ => format!("It ended after {epochs} epochs."),
    }
}

/// The names and values of an epoch, as a log has them.
pub(crate) fn values(epoch: &Epoch) -> Vec<(String, f64)> {
    let validation = epoch.validation;
    let own = [
        ("training loss", Some(epoch.train.loss)),
        ("training accuracy", epoch.train.accuracy),
        ("validation loss", validation.map(|v| v.loss)),
        ("validation accuracy", validation.and_then(|v| v.accuracy)),
    ];
    let own = own
        .into_iter()
        .filter_map(|(name, v)| Some((name.to_string(), v?)));
    let metrics = epoch
        .metrics
        .iter()
        .map(|(name, v)| (format!("validation {name}"), *v));
    own.chain(metrics).collect()
}

/// The best and the last epoch.
pub(crate) fn summary(history: &[Epoch]) -> String {
    let loss = |e: &Epoch| e.validation.map_or(e.train.loss, |v| v.loss);
    let best = history.iter().min_by(|a, b| loss(a).total_cmp(&loss(b)));
    let (Some(best), Some(last)) = (best, history.last()) else {
        return "<p>No epoch is complete.</p>".into();
    };
    let names = values(last).into_iter().map(|(name, _)| name);
    let mut table = Table::new(["epoch".to_string()].into_iter().chain(names));
    for epoch in [best, last] {
        let numbers = values(epoch).into_iter().map(|(_, v)| Some(v));
        table.numbers([Some(epoch.number as f64)].into_iter().chain(numbers));
    }
    let what = match last.validation {
        Some(_) => "the epoch with the smallest validation loss, and the last one",
        None => "the epoch with the smallest training loss, and the last one",
    };
    table.html(&format!("In the first row {what}."))
}

/// A series of the epochs that have this value.
fn over_epochs(
    history: &[Epoch],
    name: &str,
    value: impl Fn(&Epoch) -> Option<f64>,
) -> Option<Series> {
    let points = history
        .iter()
        .filter_map(|e| Some((e.number as f64, value(e)?)));
    let points: Vec<(f64, f64)> = points.collect();
    (!points.is_empty()).then(|| Series::line(name, points))
}

/// Losses, accuracies, other metrics and the learning rate.
pub(crate) fn curves(history: &[Epoch]) -> String {
    let chart =
        |title: &str, y: &str, series: Vec<Option<Series>>, may_be_log: bool, meaning: &str| {
            let series: Vec<Series> = series.into_iter().flatten().collect();
            let chart = Chart {
                title: title.into(),
                x: "epoch".into(),
                y: y.into(),
                series,
                may_be_log,
            };
            (!chart.series.is_empty()).then(|| figure(&chart, meaning))
        };
    let over = |name, value: &dyn Fn(&Epoch) -> Option<f64>| over_epochs(history, name, value);
    let mut figures = vec![
        chart(
            "Loss",
            "loss",
            vec![
                over("training", &|e| Some(e.train.loss)),
                over("validation", &|e| Some(e.validation?.loss)),
            ],
            true,
            "What the training makes small. If the validation loss rises while the training loss falls, the model learns the training samples by heart. The training loss is the mean over an epoch in which the weights change.",
        ),
        chart(
            "Accuracy",
            "accuracy",
            vec![
                over("training", &|e| e.train.accuracy),
                over("validation", &|e| e.validation?.accuracy),
            ],
            false,
            "The part of the samples whose largest output is that of their class.",
        ),
    ];
    let names = history.last().map_or(&[][..], |e| &e.metrics);
    for (name, _) in names {
        let series = vec![over("validation", &|e| e.metric(name))];
        figures.push(chart(
            name,
            name,
            series,
            false,
            "A metric of the validation samples.",
        ));
    }
    figures.push(chart(
        "Learning rate",
        "rate",
        vec![over("learning rate", &|e| e.learning_rate)],
        false,
        "The learning rate of the last step of each epoch.",
    ));
    gallery(figures.into_iter().flatten())
}

/// At most so many layers have a curve or a histogram of their own.
const MOST_LAYERS: usize = 16;

/// The norms of gradients and the sizes of updates.
pub(crate) fn layers(points: &[LayerPoint]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for point in points {
        if !names.contains(&point.name.as_str()) {
            names.push(&point.name);
        }
    }
    let note = match names.len() > MOST_LAYERS {
        true => format!(
            " Shown are the first {MOST_LAYERS} of {} parameters.",
            names.len()
        ),
        false => String::new(),
    };
    let chart =
        |title: &str, y: &str, meaning: &str, value: &dyn Fn(&LayerPoint) -> Option<f64>| {
            let series = names.iter().take(MOST_LAYERS).map(|name| {
                let own = points.iter().filter(|p| p.name == *name);
                Series::line(
                    *name,
                    own.filter_map(|p| Some((p.epoch as f64, value(p)?)))
                        .collect(),
                )
            });
            let chart = Chart {
                title: title.into(),
                x: "epoch".into(),
                y: y.into(),
                series: series.filter(|s| !s.points.is_empty()).collect(),
                may_be_log: true,
            };
            (!chart.series.is_empty()).then(|| figure(&chart, &format!("{meaning}{note}")))
        };
    let norms = chart(
        "Norms of gradients",
        "norm",
        "The Euclidean norm of the gradient of each parameter, in the first step of each epoch, before clipping. One that falls to 0 does not learn; one that grows without end diverges.",
        &|p| Some(p.norm),
    );
    let updates = chart(
        "Sizes of updates",
        "update / weight",
        "The norm of the update of each parameter, divided by the norm of its values, in the first step of each epoch. About 0.001 is typical of a healthy training; about 1 forgets what was learnt.",
        &|p| p.update_ratio,
    );
    gallery(norms.into_iter().chain(updates))
}

/// The distributions of the values of parameters, now and in the beginning.
pub(crate) fn weights(
    params: &[(String, Param)],
    initial: &[(String, Histogram)],
    bins: usize,
) -> String {
    let figure_of = |(name, param): &(String, Param)| {
        let now = Histogram::of_at_most(&param.value(), bins)?;
        let before = initial.iter().find(|(other, _)| other == name);
        // equal numbers, such as initial biases of 0, have no density
        let before = before
            .filter(|(_, h)| h.max > h.min)
            .map(|(_, h)| Series::line("in the beginning", density(h)));
        let now_series = Series {
            name: "now".into(),
            points: density(&now),
            mark: Mark::Bars,
        };
        let chart = Chart {
            title: name.clone(),
            x: "value".into(),
            y: "density".into(),
            series: [now_series].into_iter().chain(before).collect(),
            may_be_log: false,
        };
        let meaning = format!(
            "{} values of mean {} and deviation {}, as the area of bars: all bars together are 1.",
            now.count,
            number(now.mean),
            number(now.deviation)
        );
        Some(figure(&chart, &meaning))
    };
    gallery(params.iter().take(MOST_LAYERS).filter_map(figure_of))
}

/// The distributions of gradients in one step.
pub(crate) fn gradients(gradients: &[(String, Histogram)]) -> String {
    let figure_of = |(name, histogram): &(String, Histogram)| {
        let series = Series {
            name: name.clone(),
            points: density(histogram),
            mark: Mark::Bars,
        };
        let chart = Chart {
            title: format!("Gradient of {name}"),
            x: "value".into(),
            y: "density".into(),
            series: vec![series],
            may_be_log: false,
        };
        let meaning = "The elements of the gradient in the first step of the last epoch that was begun. A bar at 0 alone is a part that does not learn.";
        figure(&chart, meaning)
    };
    gallery(gradients.iter().take(MOST_LAYERS).map(figure_of))
}

/// The bars of a histogram: all of them together have the area 1.
fn density(h: &Histogram) -> Vec<(f64, f64)> {
    let bounds = h.bounds();
    let centres = bounds.windows(2).map(|b| (b[0] + b[1]) / 2.0);
    let width = (bounds[1] - bounds[0]) * h.count as f64;
    centres
        .zip(&h.counts)
        .map(|(x, &n)| (x, n as f64 / width))
        .collect()
}

/// The time of each epoch.
pub(crate) fn times(history: &[Epoch]) -> String {
    let seconds = over_epochs(history, "training", |e| Some(e.time.as_secs_f64()));
    let chart = Chart {
        title: "Time of an epoch".into(),
        x: "epoch".into(),
        y: "seconds".into(),
        series: seconds.into_iter().collect(),
        may_be_log: false,
    };
    match chart.series.is_empty() {
        true => String::new(),
        false => gallery([figure(
            &chart,
            "The time of all training steps of each epoch, without validation and without this report.",
        )]),
    }
}

/// Names and values.
pub(crate) fn facts(caption: &str, facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["name".into(), "value".into()]);
    facts
        .iter()
        .for_each(|(name, value)| table.texts([name, value]));
    format!("<div class=\"facts\">{}</div>", table.html(caption))
}
