//! The time of nested scopes as nested boxes, as wide as their part of the time.

use crate::page::{escaped, number};
use autograd::Row;
use std::fmt::Write;

/// A scope: the time of all that happens in it, and the scopes in it.
#[derive(Default)]
struct Scope {
    name: String,
    seconds: f64,
    inner: Vec<Scope>,
}

impl Scope {
    fn add(&mut self, path: &[&str], seconds: f64) {
        self.seconds += seconds;
        let Some((name, rest)) = path.split_first() else {
            return;
        };
        let at = self.inner.iter().position(|scope| scope.name == *name);
        let at = at.unwrap_or_else(|| {
            self.inner.push(Scope {
                name: (*name).into(),
                ..Scope::default()
            });
            self.inner.len() - 1
        });
        self.inner[at].add(rest, seconds);
    }

    /// The box of this scope inside of one of `outer` seconds, with those in it below its name. What is
    /// left is its own.
    fn draw(&self, all: f64, outer: f64, html: &mut String) {
        let percent = 100.0 * self.seconds / all;
        let (name, micros) = (
            escaped(&self.name),
            number((self.seconds * 1e8).round() / 100.0),
        );
        let _ = write!(
            html,
            "<div class=\"scope\" style=\"flex:{:.4} 1 0\" title=\"{name}: {micros} µs, {percent:.1} %\"><span>{name} {percent:.0} %</span>",
            self.seconds / outer
        );
        if !self.inner.is_empty() {
            let inside = self.seconds.max(f64::MIN_POSITIVE);
            *html += "<div class=\"scopes\">";
            self.inner
                .iter()
                .for_each(|scope| scope.draw(all, inside, html));
            let own = self.seconds - self.inner.iter().map(|s| s.seconds).sum::<f64>();
            let _ = write!(
                html,
                "<div style=\"flex:{:.4} 1 0\"></div></div>",
                (own / inside).max(0.0)
            );
        }
        *html += "</div>";
    }
}

/// The boxes of the scopes of a [profile](autograd::Profile), whose names are paths.
pub(crate) fn flame(scopes: &[Row]) -> String {
    let mut root = Scope {
        name: "all".into(),
        ..Scope::default()
    };
    for row in scopes {
        let path: Vec<&str> = row.name.split('.').collect();
        root.add(&path, row.time.as_secs_f64());
    }
    let mut html = "<div class=\"flame\" aria-hidden=\"true\"><div class=\"scopes\">".to_string();
    let all = root.seconds.max(f64::MIN_POSITIVE);
    root.draw(all, all, &mut html);
    html + "</div></div>"
}

/// Kernels in the order in which they ran, side by side, as wide as their part of the time.
pub(crate) fn timeline(kernels: &[Row]) -> String {
    let all: f64 = kernels.iter().map(|k| k.time.as_secs_f64()).sum();
    let mut html =
        "<div class=\"flame timeline\" aria-hidden=\"true\"><div class=\"scopes\">".to_string();
    let all = all.max(f64::MIN_POSITIVE);
    for kernel in kernels {
        let seconds = kernel.time.as_secs_f64();
        let scope = Scope {
            name: kernel.name.clone(),
            seconds,
            inner: Vec::new(),
        };
        scope.draw(all, all, &mut html);
    }
    html + "</div></div>"
}

#[test]
fn boxes_are_nested_as_scopes_are() {
    let row = |name: &str, micros| Row {
        name: name.into(),
        time: std::time::Duration::from_micros(micros),
        estimated: false,
    };
    let html = flame(&[
        row("mlp.0.linear", 60),
        row("mlp.1", 20),
        row("mlp.0", 10),
        row("<x>", 10),
    ]);
    let names: Vec<&str> = html
        .split("title=\"")
        .skip(1)
        .filter_map(|t| t.split('"').next())
        .collect();
    let expected = [
        "all: 100 µs, 100.0 %",
        "mlp: 90 µs, 90.0 %",
        "0: 70 µs, 70.0 %",
        "linear: 60 µs, 60.0 %",
        "1: 20 µs, 20.0 %",
        "&lt;x&gt;: 10 µs, 10.0 %",
    ];
    assert_eq!(names, expected);
    // widths are parts of the box outside: 60 of 70, and what is left
    assert!(html.contains("flex:0.8571 1 0") && html.contains("<div style=\"flex:0.1429 1 0\">"));
    let html = timeline(&[row("matmul", 30), row("add relu", 10)]);
    assert!(html.contains("flex:0.7500 1 0") && html.contains("add relu: 10 µs, 25.0 %"));
    assert_eq!(html.matches("<div").count(), html.matches("</div>").count());
}
