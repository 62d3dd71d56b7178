//! Charts as SVG: lines, points and bars over axes. Colours come from the page's style, so that they
//! suit a light and a dark page, and text is text.

use crate::page::{Table, escaped, number};
use std::fmt::Write;

/// The size of a chart in its own units. A page shows it at about this size, so that its text is
/// about as large as that of the page.
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 250.0;
/// The margins around the area of the data: for the numbers of the axes.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 40.0;

/// What is drawn at the points of a series.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// A line through them.
    Line,
    /// A dot at each of them.
    Dots,
    /// Steps from the axis, as wide as the points are apart: a histogram.
    Bars,
}

/// Points with a name.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
    pub(crate) mark: Mark,
}

impl Series {
    /// A line through points; what is no number interrupts it.
    pub(crate) fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
        Series {
            name: name.into(),
            points,
            mark: Mark::Line,
        }
    }
}

/// A chart with its axes.
pub(crate) struct Chart {
    pub(crate) title: String,
    pub(crate) x: String,
    pub(crate) y: String,
    pub(crate) series: Vec<Series>,
    /// Whether a logarithmic axis is used if the values differ much.
    pub(crate) may_be_log: bool,
}

impl Chart {
    /// The drawing. Its title is read in its place where it cannot be seen; the numbers are in its
    /// [table](Chart::table).
    pub(crate) fn svg(&self) -> String {
        let (x, y) = (self.x_axis(), self.y_axis());
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">",
            escaped(&format!("{}: {}", self.title, self.summary()))
        );
        self.draw_axes(&mut svg, &x, &y);
        for (k, series) in self.series.iter().enumerate() {
            let at = |&(px, py): &(f64, f64)| (x.place(px), y.place(py));
            draw_series(&mut svg, series, k, at, y.bottom());
        }
        svg += "</svg>";
        svg
    }

    /// In words: the last value of each series.
    fn summary(&self) -> String {
        let last = |s: &Series| {
            let (x, y) = s.points.iter().rev().find(|p| p.1.is_finite())?;
            Some(format!(
                "{} is {} at {} {}",
                s.name,
                number(*y),
                self.x,
                number(*x)
            ))
        };
        let of = self.series.iter().filter(|s| s.mark == Mark::Line);
        let of: Vec<String> = of.take(8).filter_map(last).collect();
        match of.is_empty() {
            true => format!("{} over {}", self.y, self.x),
            false => of.join("; "),
        }
    }

    fn x_axis(&self) -> Axis {
        let numbers = self.series.iter().flat_map(|s| {
            // bars reach half a width beyond their points
            let half = match (s.mark, &s.points[..]) {
                (Mark::Bars, [(a, _), (b, _), ..]) => (b - a) / 2.0,
                _ => 0.0,
            };
            s.points.iter().flat_map(move |p| [p.0 - half, p.0 + half])
        });
        Axis::linear(numbers, (LEFT, WIDTH - RIGHT), false)
    }

    fn y_axis(&self) -> Axis {
        let all = || {
            self.series
                .iter()
                .flat_map(|s| s.points.iter().map(|p| p.1))
        };
        let ends = (HEIGHT - BOTTOM, TOP);
        match self.may_be_log {
            true => Axis::log(all(), ends).unwrap_or_else(|| Axis::linear(all(), ends, true)),
            false => {
                let from_0 = self.series.iter().any(|s| s.mark == Mark::Bars);
                Axis::linear(all().chain(from_0.then_some(0.0)), ends, true)
            }
        }
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in &y.ticks {
            let at = y.place(*tick);
            let _ = write!(
                svg,
                "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                tick_text(*tick)
            );
        }
        for tick in &x.ticks {
            let at = x.place(*tick);
            let _ = write!(
                svg,
                "<path class=\"axis\" d=\"M{at:.1} {bottom}v4\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 17.0,
                tick_text(*tick)
            );
        }
        let log = if y.is_log { ", logarithmic" } else { "" };
        let _ = write!(
            svg,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text><text class=\"unit\" x=\"10\" y=\"{:.1}\" text-anchor=\"middle\" transform=\"rotate(-90 10 {:.1})\">{}{log}</text>",
            (LEFT + right) / 2.0,
            HEIGHT - 6.0,
            escaped(&self.x),
            (TOP + bottom) / 2.0,
            (TOP + bottom) / 2.0,
            escaped(&self.y)
        );
    }

    /// The names of the series with their colours, if there are several.
    pub(crate) fn legend(&self) -> String {
        if self.series.len() < 2 {
            return String::new();
        }
        let key = |(k, s): (usize, &Series)| {
            format!(
                "<span class=\"key {}\">{}</span>",
                class(k),
                escaped(&s.name)
            )
        };
        let keys: String = self.series.iter().enumerate().map(key).collect();
        format!("<p class=\"legend\">{keys}</p>")
    }

    /// The numbers: a row for each place on the horizontal axis.
    pub(crate) fn table(&self) -> Table {
        let mut places: Vec<f64> = self
            .series
            .iter()
            .flat_map(|s| s.points.iter().map(|p| p.0))
            .collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let mut table = Table::new(
            [self.x.clone()]
                .into_iter()
                .chain(self.series.iter().map(|s| s.name.clone())),
        );
        for x in places {
            let value = |s: &Series| s.points.iter().find(|p| p.0 == x).map(|p| p.1);
            table.numbers([Some(x)].into_iter().chain(self.series.iter().map(value)));
        }
        table
    }
}

/// The class of a series: eight colours, and other strokes when they come again.
fn class(k: usize) -> String {
    format!("s{} d{}", k % 8, k / 8 % 3)
}

fn draw_series(
    svg: &mut String,
    series: &Series,
    k: usize,
    at: impl Fn(&(f64, f64)) -> (f64, f64),
    bottom: f64,
) {
    let is_number = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
    match series.mark {
        Mark::Line => {
            let runs = series.points.split(|p| !is_number(&p));
            for run in runs.filter(|run| !run.is_empty()) {
                let places: Vec<String> = run
                    .iter()
                    .map(&at)
                    .map(|(x, y)| format!("{x:.1} {y:.1}"))
                    .collect();
                match &places[..] {
                    [_] => dot(svg, k, at(&run[0]), 3.0),
                    _ => {
                        let _ = write!(
                            svg,
                            "<path class=\"line {}\" d=\"M{}\"/>",
                            class(k),
                            places.join("L")
                        );
                    }
                }
            }
        }
        Mark::Dots => {
            let points = series.points.iter().filter(is_number);
            points.for_each(|p| dot(svg, k, at(p), 2.0));
        }
        Mark::Bars => {
            let points: Vec<(f64, f64)> = series.points.iter().filter(is_number).map(at).collect();
            let wide = points
                .windows(2)
                .map(|w| w[1].0 - w[0].0)
                .reduce(f64::min)
                .unwrap_or(8.0);
            for (x, y) in points {
                let (left, high) = (x - wide / 2.0, (bottom - y).max(0.0));
                let _ = write!(
                    svg,
                    "<rect class=\"bar {}\" x=\"{left:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{high:.1}\"/>",
                    class(k)
                );
            }
        }
    }
}

fn dot(svg: &mut String, k: usize, (x, y): (f64, f64), radius: f64) {
    let class = class(k);
    let _ = write!(
        svg,
        "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius}\"/>"
    );
}

/// An axis: which numbers are where.
struct Axis {
    /// The least and the largest number, or their logarithms.
    range: (f64, f64),
    ends: (f64, f64),
    is_log: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// From the least to the largest of the numbers; to round numbers beyond them if they are values.
    fn linear(numbers: impl Iterator<Item = f64>, ends: (f64, f64), rounded: bool) -> Axis {
        let (min, max) = range(numbers).unwrap_or((0.0, 1.0));
        let margin = match max > min {
            true => 0.0,
            false if min == 0.0 => 0.5,
            false => min.abs() * 0.5,
        };
        let (min, max) = (min - margin, max + margin);
        let step = step((max - min) / 5.0);
        let (first, last) = match rounded {
            true => ((min / step).floor(), (max / step).ceil()),
            false => ((min / step).ceil(), (max / step).floor()),
        };
        // few steps: the numbers are at most five steps apart
        let ticks: Vec<f64> = (0..=(last - first).clamp(0.0, 12.0) as usize)
            .map(|k| (first + k as f64) * step)
            .collect();
        let range = match rounded {
            true => (first * step, last * step),
            false => (min, max),
        };
        Axis {
            range,
            ends,
            is_log: false,
            ticks,
        }
    }

    /// Logarithmic, if all numbers are positive and differ enough for it.
    fn log(numbers: impl Iterator<Item = f64>, ends: (f64, f64)) -> Option<Axis> {
        let (min, max) = range(numbers)?;
        if min <= 0.0 || max / min < 30.0 || !(max / min).is_finite() {
            return None;
        }
        let (low, high) = (min.log10().floor(), max.log10().ceil());
        let each = ((high - low) / 5.0).ceil().max(1.0) as usize;
        let exponents = (low as i32..=high as i32).step_by(each);
        Some(Axis {
            range: (low, high),
            ends,
            is_log: true,
            ticks: exponents.map(|e| 10f64.powi(e)).collect(),
        })
    }

    fn place(&self, number: f64) -> f64 {
        let number = if self.is_log { number.log10() } else { number };
        let (min, max) = self.range;
        self.ends.0 + (number - min) / (max - min) * (self.ends.1 - self.ends.0)
    }

    /// Where bars begin.
    fn bottom(&self) -> f64 {
        match self.is_log {
            true => self.ends.0,
            false => self.place(0f64.clamp(self.range.0, self.range.1)),
        }
    }
}

/// The least and the largest finite number.
fn range(numbers: impl Iterator<Item = f64>) -> Option<(f64, f64)> {
    let finite = numbers.filter(|x| x.is_finite());
    finite.fold(None, |range: Option<(f64, f64)>, x| {
        let (min, max) = range.unwrap_or((x, x));
        Some((min.min(x), max.max(x)))
    })
}

/// The next of 1, 2, 5 times a power of ten.
fn step(about: f64) -> f64 {
    let power = 10f64.powf(about.max(f64::MIN_POSITIVE).log10().floor());
    let steps = [1.0, 2.0, 5.0].map(|k| k * power);
    steps
        .into_iter()
        .find(|s| *s >= about)
        .unwrap_or(10.0 * power)
}

/// A number at an axis: with few digits, since ticks are round.
fn tick_text(tick: f64) -> String {
    let size = tick.abs();
    match size {
        0.0 => "0".into(),
        _ if !(1e-3..1e5).contains(&size) => format!("{:e}", round_to(tick, 3)),
        _ => round_to(tick, 4).to_string(),
    }
}

/// Rounds to so many significant digits.
fn round_to(x: f64, digits: usize) -> f64 {
    format!("{x:.*e}", digits - 1).parse().unwrap_or(x)
}

#[test]
fn axes_end_at_round_numbers_and_have_few_of_them() {
    let axis = Axis::linear([0.13, 0.87].into_iter(), (100.0, 0.0), true);
    assert_eq!(axis.ticks.len(), 6);
    assert!((axis.place(0.0) - 100.0).abs() < 1e-9 && axis.place(1.0).abs() < 1e-9);
    let equal = Axis::linear([3.0, 3.0].into_iter(), (0.0, 1.0), true);
    assert!(equal.place(3.0) > 0.0 && equal.place(3.0) < 1.0);
    let none = Axis::linear([f64::NAN].into_iter(), (0.0, 1.0), true);
    assert!(none.place(0.5).is_finite());
    assert!(Axis::log([0.1, 1.0].into_iter(), (0.0, 1.0)).is_none());
    let log = Axis::log([1e-4, 1.0].into_iter(), (0.0, 1.0)).expect("four decades");
    assert!((log.place(1e-2) - 0.5).abs() < 1e-9);
}

#[test]
fn what_is_no_number_interrupts_a_line() {
    let points = vec![
        (1.0, 1.0),
        (2.0, 2.0),
        (3.0, f64::NAN),
        (4.0, 1.0),
        (5.0, 1.0),
    ];
    let chart = Chart {
        title: "<Loss>".into(),
        x: "epoch".into(),
        y: "loss".into(),
        series: vec![Series::line("a & b", points)],
        may_be_log: false,
    };
    let svg = chart.svg();
    assert_eq!(svg.matches("class=\"line").count(), 2);
    assert!(!svg.contains("NaN") && svg.contains("&lt;Loss&gt;") && svg.contains("a &amp; b is 1"));
}
