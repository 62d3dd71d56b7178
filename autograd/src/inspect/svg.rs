//! Draws a picture as SVG. Where boxes go is decided by the layered layout of `rust-sugiyama`; long arrows pass through
//! places of their own in the layers between, so that they do not cross boxes.

use super::{
    picture::{Arrow, Drawn, Part, Picture},
    text::shortened,
};
use crate::{
    error::{OpError, Result, catch},
    graph::Graph,
};
use rust_sugiyama::{
    configure::{Config, CrossingMinimization, RankingType},
    from_vertices_and_edges,
};
use std::fmt::Write;

type Point = (f64, f64);

/// The height of a line of text, and the space between boxes.
const LINE: f64 = 15.0;
const GAP: f64 = 16.0;
/// The largest number of letters in a line.
const LONGEST: usize = 34;

impl Graph {
    /// The graph as a drawing, without Graphviz: a [`picture`](Graph::picture) without options. Needs the feature `svg`.
    #[track_caller]
    pub fn to_svg(&self) -> Result<String> {
        self.picture().to_svg()
    }
}

impl Picture<'_> {
    /// As a drawing, without Graphviz. Needs the feature `svg`.
    #[track_caller]
    pub fn to_svg(&self) -> Result<String> {
        let (boxes, arrows) = self.drawn();
        let sizes: Vec<Point> = boxes.iter().map(size).collect();
        let layout = catch(|| Layout::new(&sizes, &arrows));
        let layout = layout
            .map_err(|e| OpError::new(format!("the layout {}", e.message)).at_caller("to_svg"))?;
        Ok(draw(&boxes, &sizes, &arrows, &layout))
    }
}

/// The width and height of a box. Letters are about 6.5 wide.
fn size(b: &Drawn) -> Point {
    let longest = b
        .label
        .iter()
        .map(|l| shortened(l, LONGEST).chars().count())
        .max()
        .unwrap_or(0);
    (
        6.5 * longest as f64 + 20.0,
        LINE * b.label.len() as f64 + 10.0,
    )
}

/// Where the centres of boxes are, and the points that arrows go through.
struct Layout {
    boxes: Vec<Point>,
    paths: Vec<Vec<Point>>,
}

impl Layout {
    fn new(sizes: &[Point], arrows: &[Arrow]) -> Layout {
        let rank = ranks(sizes.len(), arrows);
        let mut vertices: Vec<(u32, Point)> = sizes
            .iter()
            .enumerate()
            .map(|(k, &s)| (k as u32, s))
            .collect();
        let (mut edges, mut paths) = (Vec::new(), Vec::new());
        for arrow in arrows {
            let mut path = vec![arrow.from as u32];
            // one place between neighbouring layers, where the first one's type is written, and one in each layer
            for k in 1..2 * (rank[arrow.to] - rank[arrow.from]) {
                let width = if k == 1 {
                    5.2 * arrow.label.len() as f64 + 4.0
                } else {
                    4.0
                };
                let id = vertices.len() as u32;
                vertices.push((id, (width, if k % 2 == 1 { 10.0 } else { LINE })));
                path.push(id);
            }
            path.push(arrow.to as u32);
            edges.extend(path.windows(2).map(|pair| (pair[0], pair[1])));
            paths.push(path);
        }
        let config = Config {
            minimum_length: 1,
            vertex_spacing: GAP,
            dummy_vertices: true,
            dummy_size: 1.0,
            ranking_type: RankingType::Original,
            c_minimization: CrossingMinimization::Median,
            transpose: vertices.len() < 400,
        };
        let mut at = vec![(0.0, 0.0); vertices.len()];
        let mut right = 0.0;
        // parts that are not connected stand side by side
        for (places, ..) in from_vertices_and_edges(&vertices, &edges, &config) {
            let left = |&(id, (x, _)): &(usize, Point)| x - vertices[id].1.0 / 2.0;
            let top = |&(id, (_, y)): &(usize, Point)| y - vertices[id].1.1 / 2.0;
            let (x0, y0) = (
                places.iter().map(left).fold(f64::MAX, f64::min),
                places.iter().map(top).fold(f64::MAX, f64::min),
            );
            let mut end: f64 = right;
            for (id, (x, y)) in places {
                at[id] = (x - x0 + right, y - y0);
                end = end.max(at[id].0 + vertices[id].1.0 / 2.0);
            }
            right = end + 2.0 * GAP;
        }
        let paths = paths
            .iter()
            .map(|path| path.iter().map(|&id| at[id as usize]).collect())
            .collect();
        at.truncate(sizes.len());
        Layout { boxes: at, paths }
    }
}

/// The layer of each box: below all that it reads; what reads nothing stands right above what reads it.
fn ranks(count: usize, arrows: &[Arrow]) -> Vec<usize> {
    let mut rank = vec![0; count];
    for arrow in arrows {
        // arrows come in the order of the boxes that they lead to, and these use older ones only
        rank[arrow.to] = rank[arrow.to].max(rank[arrow.from] + 1);
    }
    let (mut reads, mut lowest) = (vec![false; count], vec![usize::MAX; count]);
    for arrow in arrows {
        reads[arrow.to] = true;
        lowest[arrow.from] = lowest[arrow.from].min(rank[arrow.to]);
    }
    for k in (0..count).filter(|&k| !reads[k] && lowest[k] != usize::MAX) {
        rank[k] = lowest[k] - 1;
    }
    rank
}

fn draw(boxes: &[Drawn], sizes: &[Point], arrows: &[Arrow], layout: &Layout) -> String {
    let (mut width, mut height): Point = (0.0, 0.0);
    for ((x, y), (w, h)) in layout.boxes.iter().zip(sizes) {
        (width, height) = (width.max(x + w / 2.0), height.max(y + h / 2.0));
    }
    for (x, _) in layout.paths.iter().flatten() {
        width = width.max(x + 20.0);
    }
    let (width, height) = (width.max(150.0) + 2.0 * GAP, height + 2.0 * GAP + 24.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"-{GAP} -{GAP} {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11.5\" text-anchor=\"middle\">\n\
         <defs><marker id=\"tip\" markerWidth=\"7\" markerHeight=\"6\" refX=\"6\" refY=\"3\" orient=\"auto\">\
         <path d=\"M0 0 7 3 0 6z\" fill=\"#889099\"/></marker></defs>\n\
         <rect x=\"-{GAP}\" y=\"-{GAP}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n"
    );
    for (arrow, path) in arrows.iter().zip(&layout.paths) {
        let tall = |k: usize| sizes[k].1 / 2.0;
        let line = curve(path, tall(arrow.from), tall(arrow.to));
        // writing to a string cannot fail
        let _ = writeln!(
            svg,
            "<path d=\"{line}\" fill=\"none\" stroke=\"#889099\" marker-end=\"url(#tip)\"/>"
        );
    }
    for (arrow, path) in arrows.iter().zip(&layout.paths) {
        let (x, y) = path[1];
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{:.1}\" font-size=\"9\" fill=\"#556069\" stroke=\"#ffffff\" stroke-width=\"3\" \
             paint-order=\"stroke\">{}</text>",
            y + 3.0,
            escaped(&arrow.label)
        );
    }
    for ((b, &(x, y)), &(w, h)) in boxes.iter().zip(&layout.boxes).zip(sizes) {
        let (left, top, fill) = (x - w / 2.0, y - h / 2.0, b.part.fill());
        let _ = write!(
            svg,
            "<g><title>{}</title><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"6\" \
             fill=\"{fill}\" stroke=\"#445566\"/>",
            escaped(&b.place)
        );
        for (k, line) in b.label.iter().enumerate() {
            let (y, look) = (
                top + LINE * k as f64 + 16.0,
                if k == 0 {
                    ""
                } else {
                    " font-size=\"9.5\" fill=\"#556069\""
                },
            );
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\"{look}>{}</text>",
                escaped(&shortened(line, LONGEST))
            );
        }
        svg.push_str("</g>\n");
    }
    legend(&mut svg, boxes, height - GAP - 18.0);
    svg.push_str("</svg>\n");
    svg
}

/// Which colour is what, for those that occur.
fn legend(svg: &mut String, boxes: &[Drawn], y: f64) {
    let mut x = 0.0;
    for (part, name) in [
        (Part::Leaf, "leaf"),
        (Part::Forward, "forward"),
        (Part::Backward, "backward"),
        (Part::Error, "error"),
    ] {
        if boxes.iter().any(|b| b.part == part) {
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y:.1}\" width=\"10\" height=\"10\" rx=\"2\" fill=\"{}\" stroke=\"#445566\"/>\
                 <text x=\"{}\" y=\"{:.1}\" font-size=\"9\" text-anchor=\"start\" fill=\"#556069\">{name}</text>",
                part.fill(),
                x + 14.0,
                y + 8.5
            );
            x += 24.0 + 5.5 * name.len() as f64;
        }
    }
}

/// A smooth line through these points, from the lower edge of the first box to the upper edge of the last one.
fn curve(path: &[Point], from: f64, to: f64) -> String {
    let mut points = path.to_vec();
    if let Some(first) = points.first_mut() {
        first.1 += from;
    }
    if let Some(last) = points.last_mut() {
        last.1 -= to + 1.0;
    }
    let mut line = format!("M{:.1} {:.1}", points[0].0, points[0].1);
    for pair in points.windows(2) {
        let [(x0, y0), (x1, y1)] = [pair[0], pair[1]];
        let middle = (y0 + y1) / 2.0;
        // writing to a string cannot fail
        let _ = write!(
            line,
            " C{x0:.1} {middle:.1} {x1:.1} {middle:.1} {x1:.1} {y1:.1}"
        );
    }
    line
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
