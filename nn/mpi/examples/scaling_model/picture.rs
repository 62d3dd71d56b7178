//! The model as a picture: step time over the number of ranks, both on logarithmic axes.

use crate::{
    model::{Algorithm, Machine, Network},
    ranks,
};
use std::fmt::Write;

const WIDTH: f64 = 360.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 60.0;

/// The lines of a panel: name, colour, dashes.
const LINES: [(&str, &str, &str, Algorithm, bool); 4] = [
    ("ring", "#1f6fb4", "", Algorithm::Ring, false),
    ("ring, overlapped", "#1f6fb4", "5 3", Algorithm::Ring, true),
    ("tree", "#d0641c", "", Algorithm::Tree, false),
    ("tree, overlapped", "#d0641c", "5 3", Algorithm::Tree, true),
];

/// An SVG with a panel for each network.
pub(crate) fn draw(networks: &[Network], machine: &Machine) -> String {
    let width = networks.len() as f64 * (WIDTH + 1.5 * MARGIN) + MARGIN;
    let height = HEIGHT + 2.0 * MARGIN + 20.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (k, network) in networks.iter().enumerate() {
        let left = MARGIN + k as f64 * (WIDTH + 1.5 * MARGIN);
        panel(&mut svg, network, machine, left);
    }
    for (k, (name, colour, dashes, ..)) in LINES.iter().enumerate() {
        let (x, y) = (MARGIN + k as f64 * 150.0, height - 12.0);
        line(
            &mut svg,
            &[(x, y - 4.0), (x + 24.0, y - 4.0)],
            colour,
            dashes,
            2.0,
        );
        text(&mut svg, x + 30.0, y, "start", name);
    }
    let x = MARGIN + LINES.len() as f64 * 150.0;
    line(
        &mut svg,
        &[(x, height - 16.0), (x + 24.0, height - 16.0)],
        "#999",
        "2 3",
        1.0,
    );
    text(
        &mut svg,
        x + 30.0,
        height - 12.0,
        "start",
        "one rank's time / ranks",
    );
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, network: &Network, machine: &Machine, left: f64) {
    let alone = network.step(machine, 1, Algorithm::Ring, false);
    let step = |ranks, algorithm, overlap| network.step(machine, ranks, algorithm, overlap);
    let all = LINES
        .iter()
        .flat_map(|(.., a, o)| ranks().map(move |r| step(r, *a, *o)));
    let (low, high) = all.fold((alone, alone), |(low, high), t| (low.min(t), high.max(t)));
    let (low, high) = ((low / 2.0).log10().floor(), high.log10().ceil());
    let last = ranks().last().unwrap_or(1) as f64;
    let x = |ranks: f64| left + WIDTH * ranks.log2() / last.log2();
    let y = |seconds: f64| MARGIN + HEIGHT * (high - seconds.log10()) / (high - low);
    let title = format!("{}, {} samples per step", network.name, network.batch);
    text(svg, left, MARGIN - 20.0, "start", &title);
    for power in low as i32..=high as i32 {
        let seconds = 10f64.powi(power);
        line(
            svg,
            &[(left, y(seconds)), (left + WIDTH, y(seconds))],
            "#ddd",
            "",
            1.0,
        );
        text(svg, left - 6.0, y(seconds) + 4.0, "end", &label(seconds));
    }
    for ranks in ranks() {
        let at = x(ranks as f64);
        line(svg, &[(at, MARGIN), (at, MARGIN + HEIGHT)], "#eee", "", 1.0);
        text(
            svg,
            at,
            MARGIN + HEIGHT + 16.0,
            "middle",
            &ranks.to_string(),
        );
    }
    text(svg, left + WIDTH, MARGIN + HEIGHT + 32.0, "end", "ranks");
    let ideal = ranks().map(|r| (r, alone / r as f64));
    let ideal = ideal.filter(|(_, t)| t.log10() >= low);
    let ideal: Vec<(f64, f64)> = ideal.map(|(r, t)| (x(r as f64), y(t))).collect();
    line(svg, &ideal, "#999", "2 3", 1.0);
    for (_, colour, dashes, algorithm, overlap) in LINES {
        let points = ranks().map(|r| (x(r as f64), y(step(r, algorithm, overlap))));
        line(svg, &points.collect::<Vec<_>>(), colour, dashes, 2.0);
    }
}

fn label(seconds: f64) -> String {
    match seconds {
        s if s >= 1.0 => format!("{s:.0} s"),
        s if s >= 1e-3 => format!("{:.0} ms", s * 1e3),
        s => format!("{:.0} µs", s * 1e6),
    }
}

fn line(svg: &mut String, points: &[(f64, f64)], colour: &str, dashes: &str, width: f64) {
    let points: Vec<String> = points
        .iter()
        .map(|(x, y)| format!("{x:.1},{y:.1}"))
        .collect();
    // writing to a text cannot fail
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\" stroke-dasharray=\"{dashes}\"/>",
        points.join(" ")
    );
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}
