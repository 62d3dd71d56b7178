//! Where the time and the memory of a training step go.

use crate::{
    flame::{flame, timeline},
    page::{Table, escaped, number},
};
use autograd::{Graph, Row, SavedValue, Var};
use nn::Result;

/// At most so many rows of a table.
const MOST_ROWS: usize = 15;
/// At most so many characters of a name.
const MOST_CHARS: usize = 60;

/// Runs the forward and the backward pass of a loss of so many samples, and says where time and memory
/// go.
pub(crate) fn section(g: &Graph, loss: Var<'_>, samples: usize) -> Result<String> {
    let gradients = nn::gradients(loss).into_iter().map(|d| d.gradient);
    let all = (loss, gradients.collect::<Vec<Var<'_>>>());
    let saved = g.saved_for_backward((all.0, all.1.clone()))?;
    let (_, profile) = g.profile(all)?;
    let total = profile.total().as_secs_f64();
    Ok(format!(
        "<p>Where the time of one forward and one backward pass of {samples} samples goes, without the update. The time of operations that run together in one kernel is divided among them by an estimate.</p>\
        <h3>Scopes</h3><p>Each box is a scope, as wide as its part of the time, with the scopes inside of it below; what is left of its width is its own.</p>{}\
        <div class=\"gallery shares\"><div>{}</div><div>{}</div></div>\
        <h3>Kernels</h3><p>The kernels in the order in which they ran, as wide as their part of the time.</p>{}\
        <div class=\"shares\">{}</div>\
        {}",
        flame(&profile.scopes),
        times("By layer", "layer", &profile.scopes, total),
        times("By operation", "operation", &profile.ops, total),
        timeline(&profile.kernels),
        times(
            "By kernel, in the order of execution",
            "operations of the kernel",
            &profile.kernels,
            total
        ),
        memory(&saved),
    ))
}

/// A bar as wide as a part, in a table.
fn bar(part: f64) -> String {
    let width = 100.0 * part;
    format!("<span class=\"share\" style=\"width:{width:.1}px\"></span>")
}

fn shortened(name: &str) -> String {
    match name.chars().count() > MOST_CHARS {
        true => name.chars().take(MOST_CHARS).chain(['…']).collect(),
        false => name.into(),
    }
}

fn times(title: &str, what: &str, rows: &[Row], total: f64) -> String {
    let mut table = Table::new([what.to_string(), "µs".into(), "%".into(), "part".into()]);
    for row in rows.iter().take(MOST_ROWS) {
        let seconds = row.time.as_secs_f64();
        let part = seconds / total.max(f64::MIN_POSITIVE);
        table.row(vec![
            escaped(&shortened(&row.name)),
            number((seconds * 1e8).round() / 100.0),
            format!("{:.1}", 100.0 * part),
            bar(part),
        ]);
    }
    let more = match rows.len() > MOST_ROWS {
        true => format!(", the first {MOST_ROWS} of {}", rows.len()),
        false => String::new(),
    };
    table.html(&format!("{title}{more}"))
}

/// What the forward pass keeps for the backward pass.
fn memory(saved: &[SavedValue]) -> String {
    if saved.is_empty() {
        return String::new();
    }
    let total: usize = saved.iter().map(|s| s.bytes).sum();
    let header = ["value", "layer", "bytes", "%", "part"].map(String::from);
    let mut table = Table::new(header);
    for value in saved.iter().take(MOST_ROWS) {
        let part = value.bytes as f64 / total.max(1) as f64;
        table.row(vec![
            escaped(&format!("{} {}", value.op, value.ty)),
            escaped(&value.scope),
            value.bytes.to_string(),
            format!("{:.1}", 100.0 * part),
            bar(part),
        ]);
    }
    format!(
        "<h3>Memory</h3><p>What the forward pass keeps for the backward pass, {total} bytes in all: most of the memory of a step.</p><div class=\"shares\">{}</div>",
        table.html("Values kept for the backward pass, the largest first")
    )
}
