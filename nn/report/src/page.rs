//! A page of HTML with nothing from outside: style, headings, figures, tables.

use crate::chart::Chart;
use std::fmt::{Display, Write};

const STYLE: &str = include_str!("style.css");

/// A text inside HTML or SVG, and inside a quoted attribute of them.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            // what XML does not allow, and a browser complains about
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A number with six digits at most.
pub(crate) fn number(x: f64) -> String {
    if !x.is_finite() {
        return x.to_string();
    }
    let rounded: f64 = format!("{x:.5e}").parse().unwrap_or(x);
    match rounded.abs() {
        0.0 => "0".into(),
        size if (1e-4..1e7).contains(&size) => rounded.to_string(),
        _ => format!("{rounded:e}"),
    }
}

/// A page that grows.
pub(crate) struct Page {
    title: String,
    body: String,
    /// The seconds after which it loads itself again.
    pub(crate) reload: Option<usize>,
}

impl Page {
    pub(crate) fn new(title: &str, subtitle: &str) -> Page {
        let (heading, subtitle) = (escaped(title), escaped(subtitle));
        Page {
            title: title.into(),
            body: format!("<header><h1>{heading}</h1><p>{subtitle}</p></header>\n"),
            reload: None,
        }
    }

    /// A part of the page; nothing if it is empty.
    pub(crate) fn section(&mut self, title: &str, contents: &str) {
        if !contents.is_empty() {
            let title = escaped(title);
            let _ = writeln!(self.body, "<section><h2>{title}</h2>\n{contents}</section>");
        }
    }

    pub(crate) fn html(&self) -> String {
        let reload = self
            .reload
            .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">\n"));
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<link rel=\"icon\" href=\"data:,\">\n{}<title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}</main>\n</body>\n</html>\n",
            reload.unwrap_or_default(),
            escaped(&self.title),
            self.body
        )
    }
}

/// Figures side by side where there is room.
pub(crate) fn gallery(figures: impl IntoIterator<Item = String>) -> String {
    let figures: String = figures.into_iter().collect();
    match figures.is_empty() {
        true => figures,
        false => format!("<div class=\"gallery\">\n{figures}</div>\n"),
    }
}

/// A chart with what it means and its numbers.
pub(crate) fn figure(chart: &Chart, meaning: &str) -> String {
    let (title, meaning) = (escaped(&chart.title), escaped(meaning));
    let (legend, svg) = (chart.legend(), chart.svg());
    let table = chart.table().html(&chart.title);
    format!(
        "<figure><h3>{title}</h3>{legend}{svg}<figcaption>{meaning}</figcaption><details><summary>Numbers</summary>{table}</details></figure>\n"
    )
}

/// A table of texts and numbers.
pub(crate) struct Table {
    header: Vec<String>,
    rows: Vec<String>,
}

impl Table {
    pub(crate) fn new(header: impl IntoIterator<Item = String>) -> Table {
        Table {
            header: header.into_iter().collect(),
            rows: Vec::new(),
        }
    }

    /// A row of numbers, the first of which says what the row is about. The page has all their digits,
    /// and shows some of them.
    pub(crate) fn numbers(&mut self, numbers: impl IntoIterator<Item = Option<f64>>) {
        let cell = |x: Option<f64>| match x {
            Some(x) => format!("<data value=\"{x}\">{}</data>", number(x)),
            None => "–".into(),
        };
        let cells = numbers.into_iter().map(cell).collect();
        self.row(cells);
    }

    /// A row of texts, the first of which says what it is about.
    pub(crate) fn texts<T: Display>(&mut self, texts: impl IntoIterator<Item = T>) {
        let cells = texts.into_iter().map(|t| escaped(&t.to_string())).collect();
        self.row(cells);
    }

    /// A row of HTML.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        let cell = |(k, cell): (usize, String)| match k {
            0 => format!("<th scope=\"row\">{cell}</th>"),
            _ => format!("<td>{cell}</td>"),
        };
        self.rows
            .push(cells.into_iter().enumerate().map(cell).collect());
    }

    /// The table; wide ones scroll inside the page.
    pub(crate) fn html(&self, caption: &str) -> String {
        let header: String = self
            .header
            .iter()
            .map(|h| format!("<th scope=\"col\">{}</th>", escaped(h)))
            .collect();
        let rows: String = self
            .rows
            .iter()
            .map(|row| format!("<tr>{row}</tr>\n"))
            .collect();
        let caption = escaped(caption);
        format!(
            "<p class=\"caption\">{caption}</p><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{caption}\"><table aria-label=\"{caption}\"><thead><tr>{header}</tr></thead><tbody>\n{rows}</tbody></table></div>\n"
        )
    }
}

#[test]
fn nothing_that_is_shown_can_be_markup() {
    assert_eq!(
        escaped("<a href='x'>\"&\u{1}"),
        "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\u{fffd}"
    );
    let mut table = Table::new(["<b>".into()]);
    table.texts(["<i>"]);
    table.numbers([Some(0.1 + 0.2), None]);
    let mut page = Page::new("<title>", "<p>");
    page.section("<h2>", &table.html("<caption>"));
    let html = page.html();
    for text in ["title", "p", "h2", "b", "i", "caption"] {
        assert!(html.contains(&format!("&lt;{text}&gt;")), "{text}");
    }
    assert!(html.contains("<data value=\"0.30000000000000004\">0.3</data>"));
}

#[test]
fn numbers_have_few_digits() {
    let texts = [0.0, 1.0 / 3.0, 12345678.0, 1.5e-9, -2.5, f64::NAN].map(number);
    assert_eq!(
        texts,
        ["0", "0.333333", "1.23457e7", "1.5e-9", "-2.5", "NaN"]
    );
}
