//! Draws a graph as SVG. The layered layout of `rust-sugiyama` places the boxes. Long arrows pass
//! through points of their own in the layers between, so that they do not cross boxes.

use super::{
    picture::{Arrow, BoxId, DrawnBox, Part, Picture},
    text::shortened,
};
use crate::{
    error::{OpError, Result, catch},
    graph::Graph,
    index::{Index, IndexVec, index},
};
use rust_sugiyama::{
    configure::{Config, CrossingMinimization, RankingType},
    from_vertices_and_edges,
};
use std::fmt::Write;

type Point = (f64, f64);

index! {
    /// A vertex of the layout: first all boxes, then the points that arrows pass through.
    Vertex,
}

impl Vertex {
    fn of(b: BoxId) -> Vertex {
        Vertex::new(b.index())
    }

    /// The id for the layout library.
    fn number(self) -> u32 {
        self.index() as u32
    }
}

/// The height of a line of text, and the space between boxes.
const LINE_HEIGHT: f64 = 15.0;
const BOX_GAP: f64 = 16.0;
/// The largest number of characters in a line.
const MAX_CHARS: usize = 34;

impl Graph {
    /// The graph as an SVG drawing, without Graphviz: a [`picture`](Graph::picture) with default
    /// options. Needs the feature `svg`.
    #[track_caller]
    pub fn to_svg(&self) -> Result<String> {
        self.picture().to_svg()
    }
}

impl Picture<'_> {
    /// The drawing as SVG, without Graphviz. Needs the feature `svg`.
    #[track_caller]
    pub fn to_svg(&self) -> Result<String> {
        let (boxes, arrows) = self.drawn();
        let sizes = IndexVec::from_vec(boxes.iter().map(size).collect());
        let layout = catch(|| Layout::new(&sizes, &arrows));
        let layout = layout
            .map_err(|e| OpError::new(format!("the layout {}", e.message)).at_caller("to_svg"))?;
        Ok(draw(&boxes, &sizes, &arrows, &layout))
    }
}

/// The width and height of a box. Characters are about 6.5 wide.
fn size(b: &DrawnBox) -> Point {
    let longest = b
        .label
        .iter()
        .map(|l| shortened(l, MAX_CHARS).chars().count())
        .max()
        .unwrap_or(0);
    (
        6.5 * longest as f64 + 20.0,
        LINE_HEIGHT * b.label.len() as f64 + 10.0,
    )
}

/// The centres of boxes, and the points that arrows pass through.
struct Layout {
    boxes: IndexVec<BoxId, Point>,
    paths: Vec<Vec<Point>>,
}

impl Layout {
    fn new(boxes: &IndexVec<BoxId, Point>, arrows: &[Arrow]) -> Layout {
        let rank = ranks(boxes.len(), arrows);
        let mut sizes: IndexVec<Vertex, Point> = IndexVec::from_vec(boxes.to_vec());
        let (mut edges, mut paths) = (Vec::new(), Vec::new());
        for arrow in arrows {
            let mut path = vec![Vertex::of(arrow.from)];
            // one point between adjacent layers, where the first arrow's type is written, and one
            // in each layer
            for k in 1..2 * (rank[arrow.to] - rank[arrow.from]) {
                let width = if k == 1 {
                    5.2 * arrow.label.len() as f64 + 4.0
                } else {
                    4.0
                };
                let height = if k % 2 == 1 { 10.0 } else { LINE_HEIGHT };
                path.push(sizes.push((width, height)));
            }
            path.push(Vertex::of(arrow.to));
            let pairs = path.windows(2);
            edges.extend(pairs.map(|pair| (pair[0].number(), pair[1].number())));
            paths.push(path);
        }
        let config = Config {
            minimum_length: 1,
            vertex_spacing: BOX_GAP,
            dummy_vertices: true,
            dummy_size: 1.0,
            ranking_type: RankingType::Original,
            c_minimization: CrossingMinimization::Median,
            transpose: sizes.len() < 400,
        };
        let vertices: Vec<(u32, Point)> = sizes
            .enumerate()
            .map(|(vertex, &size)| (vertex.number(), size))
            .collect();
        let mut at: IndexVec<Vertex, Point> = IndexVec::filled((0.0, 0.0), sizes.len());
        let mut right = 0.0;
        // components that are not connected are placed side by side
        for (places, ..) in from_vertices_and_edges(&vertices, &edges, &config) {
            let left = |&(id, (x, _)): &(usize, Point)| x - sizes[Vertex::new(id)].0 / 2.0;
            let top = |&(id, (_, y)): &(usize, Point)| y - sizes[Vertex::new(id)].1 / 2.0;
            let (x0, y0) = (
                places.iter().map(left).fold(f64::MAX, f64::min),
                places.iter().map(top).fold(f64::MAX, f64::min),
            );
            let mut end: f64 = right;
            for (id, (x, y)) in places {
                let vertex = Vertex::new(id);
                at[vertex] = (x - x0 + right, y - y0);
                end = end.max(at[vertex].0 + sizes[vertex].0 / 2.0);
            }
            right = end + 2.0 * BOX_GAP;
        }
        let paths = paths
            .iter()
            .map(|path| path.iter().map(|&vertex| at[vertex]).collect())
            .collect();
        let boxes = boxes.indices().map(|b| at[Vertex::of(b)]).collect();
        Layout {
            boxes: IndexVec::from_vec(boxes),
            paths,
        }
    }
}

/// The layer of each box: below all boxes that it reads. A box that reads nothing is right above
/// the first one that reads it.
fn ranks(count: usize, arrows: &[Arrow]) -> IndexVec<BoxId, usize> {
    let mut rank = IndexVec::filled(0, count);
    for arrow in arrows {
        // arrows are sorted by the box that they lead to, and boxes only use older ones
        rank[arrow.to] = rank[arrow.to].max(rank[arrow.from] + 1);
    }
    let mut reads = IndexVec::filled(false, count);
    // by box: the topmost layer of the boxes that read it
    let mut lowest: IndexVec<BoxId, Option<usize>> = IndexVec::filled(None, count);
    for arrow in arrows {
        let (before, new) = (lowest[arrow.from], rank[arrow.to]);
        reads[arrow.to] = true;
        lowest[arrow.from] = Some(before.map_or(new, |before| before.min(new)));
    }
    for (own, &lowest) in lowest.enumerate().filter(|&(own, _)| !reads[own]) {
        if let Some(lowest) = lowest {
            rank[own] = lowest - 1;
        }
    }
    rank
}

fn draw(
    boxes: &[DrawnBox],
    sizes: &IndexVec<BoxId, Point>,
    arrows: &[Arrow],
    layout: &Layout,
) -> String {
    let (mut width, mut height): Point = (0.0, 0.0);
    for ((x, y), (w, h)) in layout.boxes.iter().zip(sizes.iter()) {
        (width, height) = (width.max(x + w / 2.0), height.max(y + h / 2.0));
    }
    for (x, _) in layout.paths.iter().flatten() {
        width = width.max(x + 20.0);
    }
    let (width, height) = (
        width.max(150.0) + 2.0 * BOX_GAP,
        height + 2.0 * BOX_GAP + 24.0,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
         viewBox=\"-{BOX_GAP} -{BOX_GAP} {width:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"11.5\" text-anchor=\"middle\">\n\
         <defs><marker id=\"tip\" markerWidth=\"7\" markerHeight=\"6\" refX=\"6\" refY=\"3\" orient=\"auto\">\
         <path d=\"M0 0 7 3 0 6z\" fill=\"#889099\"/></marker></defs>\n\
         <rect x=\"-{BOX_GAP}\" y=\"-{BOX_GAP}\" width=\"{width:.0}\" height=\"{height:.0}\" fill=\"#ffffff\"/>\n"
    );
    for (arrow, path) in arrows.iter().zip(&layout.paths) {
        let tall = |b: BoxId| sizes[b].1 / 2.0;
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
    for ((b, &(x, y)), &(w, h)) in boxes.iter().zip(layout.boxes.iter()).zip(sizes.iter()) {
        let (left, top, fill) = (x - w / 2.0, y - h / 2.0, b.part.fill());
        let _ = write!(
            svg,
            "<g><title>{}</title><rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{w:.1}\" height=\"{h:.1}\" rx=\"6\" \
             fill=\"{fill}\" stroke=\"#445566\"/>",
            escaped(&b.source)
        );
        for (k, line) in b.label.iter().enumerate() {
            let (y, style) = (
                top + LINE_HEIGHT * k as f64 + 16.0,
                if k == 0 {
                    ""
                } else {
                    " font-size=\"9.5\" fill=\"#556069\""
                },
            );
            let _ = write!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y:.1}\"{style}>{}</text>",
                escaped(&shortened(line, MAX_CHARS))
            );
        }
        svg.push_str("</g>\n");
    }
    legend(&mut svg, boxes, height - BOX_GAP - 18.0);
    svg.push_str("</svg>\n");
    svg
}

/// Which colour is what, for the colours that occur.
fn legend(svg: &mut String, boxes: &[DrawnBox], y: f64) {
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

/// A smooth curve through these points, from the lower edge of the first box to the upper edge of
/// the last one.
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
