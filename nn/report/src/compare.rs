//! Compares runs by their logs.

use crate::{
    chart::{Chart, Series},
    page::{Page, Table, figure, gallery, number},
};
use nn::{Error, Result, write_file};
use serde_json::{Map, Value};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// A log, and the settings beside it.
struct Run {
    name: String,
    epochs: Vec<Map<String, Value>>,
    settings: BTreeMap<String, String>,
}

/// Writes a page that compares runs: their curves over each other, the settings in which they differ,
/// and how they ended. The logs are JSON lines, as [`Logger::json_lines`](nn::Logger::json_lines)
/// writes them; [`write_settings`] puts settings beside a log.
///
/// ```
/// let directory = tempfile::tempdir()?;
/// let [a, b, page] = ["a.jsonl", "b.jsonl", "page.html"].map(|name| directory.path().join(name));
/// std::fs::write(&a, "{\"epoch\":1,\"loss\":0.5}\n{\"epoch\":2,\"loss\":0.25}\n")?;
/// std::fs::write(&b, "{\"epoch\":1,\"loss\":0.75}\n")?;
/// nn_report::write_settings(&a, [("seed", "1")])?;
/// nn_report::write_settings(&b, [("seed", "2")])?;
/// nn_report::compare(&[&a, &b], &page)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn compare(logs: &[impl AsRef<Path>], page: impl AsRef<Path>) -> Result<()> {
    let mut runs = Vec::new();
    for log in logs {
        runs.push(read(log.as_ref())?);
    }
    name_apart(&mut runs, logs);
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let count = runs.len();
    let mut html = Page::new("Comparison", &format!("{count} runs: {}", names.join(", ")));
    html.section("How they ended", &ends(&runs));
    html.section("Curves", &curves(&runs));
    html.section("Settings", &differences(&runs));
    write_file(page, html.html().as_bytes())
}

/// Writes the settings of a run beside its log, where [`compare`] finds them: for `run.jsonl`, in the
/// file `run.jsonl.settings`.
pub fn write_settings<N: Into<String>, V: Into<String>>(
    log: impl AsRef<Path>,
    settings: impl IntoIterator<Item = (N, V)>,
) -> Result<()> {
    let path = settings_path(log.as_ref());
    let settings = settings.into_iter().map(|(n, v)| (n.into(), v.into()));
    let settings: BTreeMap<String, String> = settings.collect();
    let text = serde_json::to_string_pretty(&settings).map_err(|e| wrong(&path, e))?;
    write_file(&path, text.as_bytes())
}

fn settings_path(log: &Path) -> PathBuf {
    let mut path = log.as_os_str().to_owned();
    path.push(".settings");
    path.into()
}

fn wrong(path: &Path, message: impl ToString) -> Error {
    Error::File {
        path: path.display().to_string(),
        message: message.to_string(),
    }
}

fn read(path: &Path) -> Result<Run> {
    let text =
        std::fs::read_to_string(path).map_err(|e| wrong(path, format!("cannot be read: {e}")))?;
    let mut epochs = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (k, line) in lines
        .iter()
        .enumerate()
        .filter(|(_, l)| !l.trim().is_empty())
    {
        match serde_json::from_str(line) {
            Ok(Value::Object(epoch)) => epochs.push(epoch),
            // a run that is going on may just be writing its last line
            Err(_) if k + 1 == lines.len() && k > 0 && !text.ends_with('\n') => {}
            _ => {
                return Err(wrong(
                    path,
                    format!(
                        "line {} is no JSON object: expected a log of JSON lines",
                        k + 1
                    ),
                ));
            }
        }
    }
    if epochs.is_empty() {
        return Err(wrong(path, "has no epoch"));
    }
    let beside = settings_path(path);
    let settings = match std::fs::read_to_string(&beside) {
        Ok(text) => serde_json::from_str(&text).map_err(|e| wrong(&beside, e))?,
        Err(_) => BTreeMap::new(),
    };
    let name = path
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into();
    Ok(Run {
        name,
        epochs,
        settings,
    })
}

/// Runs of equal names get their paths.
fn name_apart(runs: &mut [Run], logs: &[impl AsRef<Path>]) {
    let names: Vec<String> = runs.iter().map(|run| run.name.clone()).collect();
    for (run, log) in runs.iter_mut().zip(logs) {
        if names.iter().filter(|name| **name == run.name).count() > 1 {
            run.name = log.as_ref().display().to_string();
        }
    }
}

/// What is logged, in the order of the first log that has it, except for the epochs themselves.
fn columns(runs: &[Run]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for epoch in runs.iter().flat_map(|run| &run.epochs) {
        for name in epoch.keys().filter(|name| *name != "epoch") {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
        }
    }
    // what matters most comes first, whatever the order in which objects are kept
    let order = [
        "validation_loss",
        "validation_accuracy",
        "loss",
        "accuracy",
        "learning_rate",
        "seconds",
    ];
    columns.sort_by_key(|name| order.iter().position(|o| o == name).unwrap_or(order.len()));
    columns
}

fn points(run: &Run, column: &str) -> Vec<(f64, f64)> {
    let numbered = run.epochs.iter().enumerate();
    let point = |(k, epoch): (usize, &Map<String, Value>)| {
        let number = epoch.get("epoch").and_then(Value::as_f64);
        Some((
            number.unwrap_or(k as f64 + 1.0),
            epoch.get(column)?.as_f64()?,
        ))
    };
    numbered.filter_map(point).collect()
}

fn curves(runs: &[Run]) -> String {
    let chart = |column: &String| {
        let title = column.replace('_', " ");
        let series = runs
            .iter()
            .map(|run| Series::line(run.name.clone(), points(run, column)));
        let chart = Chart {
            x: "epoch".into(),
            y: title.clone(),
            may_be_log: title.ends_with("loss"),
            series: series.filter(|s| !s.points.is_empty()).collect(),
            title,
        };
        let meaning = format!("The {} of each run after each of its epochs.", chart.title);
        (!chart.series.is_empty()).then(|| figure(&chart, &meaning))
    };
    gallery(columns(runs).iter().filter_map(chart))
}

/// The last and the best epoch of each run.
fn ends(runs: &[Run]) -> String {
    let columns: Vec<String> = columns(runs)
        .into_iter()
        .filter(|c| c != "seconds")
        .collect();
    let names = columns.iter().map(|c| c.replace('_', " "));
    let first = ["run", "epochs", "seconds", "best epoch"].map(String::from);
    let mut table = Table::new(first.into_iter().chain(names));
    for run in runs {
        let loss = |k: usize| {
            let epoch = &run.epochs[k];
            let loss = epoch.get("validation_loss").and_then(Value::as_f64);
            loss.or_else(|| epoch.get("loss").and_then(Value::as_f64))
                .unwrap_or(f64::INFINITY)
        };
        let best = (0..run.epochs.len())
            .min_by(|&a, &b| loss(a).total_cmp(&loss(b)))
            .unwrap_or(0);
        let seconds: f64 = points(run, "seconds").iter().map(|p| p.1).sum();
        let values = columns
            .iter()
            .map(|c| run.epochs[best].get(c).and_then(Value::as_f64));
        let cell = |x: Option<f64>| match x {
            Some(x) => format!("<data value=\"{x}\">{}</data>", number(x)),
            None => "–".into(),
        };
        let number_of = run.epochs[best].get("epoch").and_then(Value::as_f64);
        let own = [
            Some(run.epochs.len() as f64),
            Some(seconds),
            number_of.or(Some(best as f64 + 1.0)),
        ];
        let cells = own.into_iter().chain(values).map(cell);
        table.row(
            [crate::page::escaped(&run.name)]
                .into_iter()
                .chain(cells)
                .collect(),
        );
    }
    table.html("Each run with its best epoch: that with the smallest validation loss, or training loss if there is no validation")
}

/// The settings that are not the same in all runs, and those that are.
fn differences(runs: &[Run]) -> String {
    let mut names: Vec<&String> = runs.iter().flat_map(|run| run.settings.keys()).collect();
    names.sort();
    names.dedup();
    if names.is_empty() {
        return "<p>No settings are beside the logs.</p>".into();
    }
    let header = |first: &str| {
        [first.to_string()]
            .into_iter()
            .chain(runs.iter().map(|r| r.name.clone()))
    };
    let (mut differing, mut equal) = (
        Table::new(header("setting")),
        Table::new(["setting".into(), "value".into()]),
    );
    let mut count = [0, 0];
    for name in names {
        let values: Vec<&str> = runs
            .iter()
            .map(|run| run.settings.get(name).map_or("–", String::as_str))
            .collect();
        let is_equal = values.iter().all(|v| *v == values[0]);
        count[usize::from(is_equal)] += 1;
        match is_equal {
            true => equal.texts([name.as_str(), values[0]]),
            false => differing.texts([name.as_str()].into_iter().chain(values)),
        }
    }
    let differing = match count[0] {
        0 => "<p>All settings are the same.</p>".to_string(),
        _ => differing.html("Settings that differ"),
    };
    let equal = match count[1] {
        0 => String::new(),
        _ => format!(
            "<details><summary>Settings that are the same</summary>{}</details>",
            equal.html("The same in all runs")
        ),
    };
    format!("<div class=\"facts\">{differing}{equal}</div>")
}
