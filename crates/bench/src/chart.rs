//! The history as a drawing: for each call, how many echoes' processor time it takes, from run to run.

use std::fmt::Write as _;

use serde_json::Value;

use crate::report::field;

/// The figure that is drawn.
const UNIT: &str = "server CPU µs/call";

const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = WIDTH - 220.0;
const TOP: f64 = 64.0;
const BOTTOM: f64 = HEIGHT - 84.0;
/// The least distance between labels.
const LABEL_HEIGHT: f64 = 18.0;
/// With more, they would overlap below the axis.
const DATES_MAX: usize = 7;

/// Colours that are distinct for people with colour blindness, for a light and for a dark page.
const STYLE: &str = "\
svg { background: #ffffff; font: 13px system-ui, sans-serif; }
text { fill: #24292f; }
.soft { fill: #57606a; font-size: 12px; }
.grid { stroke: #d0d7de; }
.s0 { --c: #0072b2; } .s1 { --c: #c04a00; } .s2 { --c: #007a59; } .s3 { --c: #a5427f; }
.line { fill: none; stroke: var(--c); stroke-width: 2; }
.range { stroke: var(--c); stroke-opacity: .5; }
.point, .name { fill: var(--c); }
@media (prefers-color-scheme: dark) {
svg { background: #0d1117; }
text { fill: #e6edf3; }
.soft { fill: #9da7b3; }
.grid { stroke: #30363d; }
.s0 { --c: #56b4e9; } .s1 { --c: #f0a04b; } .s2 { --c: #3fcf9f; } .s3 { --c: #e59cc4; }
.point, .name { fill: var(--c); }
}";
/// The number of colours.
const SERIES_MAX: usize = 4;

/// One figure of one run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    run: usize,
    median: f64,
    least: f64,
    greatest: f64,
}

/// One call over all runs.
struct Series<'a> {
    name: &'a str,
    points: Vec<Point>,
}

/// The coordinates of the drawing.
struct Scale {
    runs: usize,
    top: f64,
}

/// The runs, oldest first, as an SVG document.
pub(crate) fn draw(runs: &[Value]) -> String {
    let series = series(runs);
    let greatest = series
        .iter()
        .flat_map(|series| &series.points)
        .map(|point| point.greatest);
    let scale = Scale {
        runs: runs.len(),
        top: greatest.fold(1.0, f64::max).ceil(),
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-labelledby=\"title about\">\n<title id=\"title\">Server CPU a call, in echoes</title>\n<desc id=\"about\">\
         Median and range of the processor time of each call beside that of a bare tonic echo, in {} runs. Lower is \
         better.</desc>\n<style>\n{STYLE}\n</style>\n",
        runs.len()
    );
    text(
        &mut svg,
        (LEFT, 28.0),
        "",
        "start",
        "Server CPU a call / that of a bare tonic echo",
    );
    let about =
        "median, least to greatest of the rounds; lower is better; a line ends where the machine changes";
    text(&mut svg, (LEFT, 46.0), "soft", "start", about);
    axes(&mut svg, &scale, runs);
    for (number, series) in series.iter().enumerate() {
        draw_series(&mut svg, &scale, number, series, runs);
    }
    names(&mut svg, &scale, &series);
    svg + "</svg>\n"
}

/// The calls in the order in which they first appear.
fn series(runs: &[Value]) -> Vec<Series<'_>> {
    let mut all: Vec<Series<'_>> = Vec::new();
    for (run, figure) in runs.iter().enumerate().flat_map(|(run, document)| {
        let figures = field(document, "figures").as_array().into_iter().flatten();
        figures.map(move |figure| (run, figure))
    }) {
        let Some((name, point)) = point(run, figure) else {
            continue;
        };
        let known = all.iter().position(|series| series.name == name);
        if let Some(series) = known.and_then(|at| all.get_mut(at)) {
            series.points.push(point);
        } else if all.len() < SERIES_MAX {
            all.push(Series {
                name,
                points: vec![point],
            });
        }
    }
    all
}

/// The drawn part of a figure; `None` if it is another figure.
fn point(run: usize, figure: &Value) -> Option<(&str, Point)> {
    if *field(figure, "unit") != UNIT {
        return None;
    }
    let ratio = |name: &str| field(field(figure, "ratio"), name).as_f64();
    let point = Point {
        run,
        median: ratio("median")?,
        least: ratio("least")?,
        greatest: ratio("greatest")?,
    };
    Some((field(figure, "what").as_str()?, point))
}

impl Scale {
    #[expect(clippy::cast_precision_loss, reason = "nobody keeps so many runs")]
    fn x(&self, run: usize) -> f64 {
        LEFT + (RIGHT - LEFT) * (run as f64 + 0.5) / (self.runs.max(1) as f64)
    }

    fn y(&self, value: f64) -> f64 {
        BOTTOM - (BOTTOM - TOP) * value / self.top
    }
}

fn axes(svg: &mut String, scale: &Scale, runs: &[Value]) {
    let step = (scale.top / 6.0).ceil().max(1.0);
    let mut value = 0.0;
    while value <= scale.top {
        let y = scale.y(value);
        add(
            svg,
            format_args!("<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>"),
        );
        text(svg, (LEFT - 10.0, y + 4.0), "soft", "end", &format!("{value:.0}"));
        value += step;
    }
    let step = runs.len().div_ceil(DATES_MAX).max(1);
    // It begins with the newest, so that this one always has a label.
    for (run, document) in runs.iter().enumerate().rev().step_by(step) {
        let x = scale.x(run);
        text(
            svg,
            (x, BOTTOM + 22.0),
            "",
            "middle",
            cut(field(document, "commit"), 8),
        );
        text(
            svg,
            (x, BOTTOM + 40.0),
            "soft",
            "middle",
            cut(field(document, "date"), 10),
        );
    }
    text(
        svg,
        (LEFT, HEIGHT - 16.0),
        "soft",
        "start",
        "runs, oldest first: commit and date",
    );
}

fn draw_series(svg: &mut String, scale: &Scale, number: usize, series: &Series<'_>, runs: &[Value]) {
    add(svg, format_args!("<g class=\"s{number}\">"));
    for line in series
        .points
        .chunk_by(|one, next| machine(runs, *one) == machine(runs, *next))
    {
        let points = line
            .iter()
            .map(|point| format!("{:.1},{:.1}", scale.x(point.run), scale.y(point.median)));
        let points = points.collect::<Vec<_>>().join(" ");
        add(
            svg,
            format_args!("<polyline class=\"line\" points=\"{points}\"/>"),
        );
    }
    for point in &series.points {
        let (x, y) = (scale.x(point.run), scale.y(point.median));
        let (from, to) = (scale.y(point.least), scale.y(point.greatest));
        let run = runs.get(point.run).unwrap_or(&Value::Null);
        let about = format!(
            "{}: {:.2} ({:.2}–{:.2}), {}, {}",
            series.name,
            point.median,
            point.least,
            point.greatest,
            cut(field(run, "commit"), 12),
            cut(field(run, "date"), 20),
        );
        add(
            svg,
            format_args!(
                "<line class=\"range\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{from:.1}\" y2=\"{to:.1}\"/>\
                 <circle class=\"point\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>",
                escaped(&about)
            ),
        );
    }
    add(svg, format_args!("</g>"));
}

/// What the figures of a run depend on, besides Tessera.
fn machine(runs: &[Value], point: Point) -> Option<&Value> {
    runs.get(point.run).map(|run| field(run, "machine"))
}

/// The names of the calls beside their last points, without overlap.
fn names(svg: &mut String, scale: &Scale, series: &[Series<'_>]) {
    let mut names: Vec<_> = series
        .iter()
        .enumerate()
        .filter_map(|(number, series)| {
            let last = series.points.last()?;
            let name = format!("{} {:.2}", series.name, last.median);
            Some((scale.y(last.median), number, name))
        })
        .collect();
    names.sort_by(|one, other| other.0.total_cmp(&one.0));
    // From the axis upwards, as the free space is above.
    let mut lowest = f64::INFINITY;
    for (y, number, name) in names {
        let y = y.min(lowest);
        lowest = y - LABEL_HEIGHT;
        let class = format!("name s{number}");
        text(svg, (RIGHT + 12.0, y + 4.0), &class, "start", &name);
    }
}

fn text(svg: &mut String, (x, y): (f64, f64), class: &str, anchor: &str, words: &str) {
    let words = escaped(words);
    add(
        svg,
        format_args!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\" text-anchor=\"{anchor}\">{words}</text>"
        ),
    );
}

fn add(svg: &mut String, line: std::fmt::Arguments<'_>) {
    // Writing to memory can't fail.
    let _ = writeln!(svg, "{line}");
}

/// The beginning of a text.
fn cut(value: &Value, length: usize) -> &str {
    let text = value.as_str().unwrap_or("?");
    text.get(..length).unwrap_or(text)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn figure(what: &str, median: f64) -> Value {
        let ratio = json!({ "median": median, "least": median - 0.5, "greatest": median + 0.5 });
        json!({ "what": what, "unit": UNIT, "ratio": ratio })
    }

    fn run(commit: &str, processors: u8, figures: &[Value]) -> Value {
        json!({
            "commit": commit,
            "date": "2026-01-01T00:00:00Z",
            "machine": { "processors": processors },
            "figures": figures,
        })
    }

    #[test]
    fn a_line_ends_where_the_machine_changes() {
        let runs: Vec<_> = [("a", 2), ("b", 2), ("c", 4), ("d", 4)]
            .into_iter()
            .map(|(commit, processors)| {
                run(
                    commit,
                    processors,
                    &[figure("issue", 5.0), figure("refresh", 5.1)],
                )
            })
            .collect();
        let svg = draw(&runs);
        assert_eq!(svg.matches("<polyline").count(), 4);
        assert_eq!(svg.matches("<circle").count(), 8);
        assert!(
            svg.contains("issue: 5.00 (4.50–5.50), a, 2026-01-01T00:00:00Z"),
            "{svg}"
        );
    }

    #[test]
    fn a_figure_that_was_not_measured_has_no_point() {
        let unknown = json!({ "what": "issue", "unit": UNIT, "ratio": null });
        let other = json!({ "what": "issue", "unit": "calls/s", "ratio": { "median": 1.0, "least": 1.0, "greatest": 1.0 } });
        let runs = [
            run("a", 2, &[figure("issue", 3.0)]),
            run("b", 2, &[unknown, other]),
            run("c", 2, &[figure("issue", 4.0)]),
        ];
        let series = series(&runs);
        let of: Vec<_> = series
            .iter()
            .flat_map(|series| &series.points)
            .map(|point| point.run)
            .collect();
        assert_eq!(of, [0, 2]);
        assert!(draw(&[]).ends_with("</svg>\n"));
    }

    #[test]
    fn labels_do_not_cover_each_other_and_names_are_escaped() {
        let calls: Vec<_> = ["a<b", "c", "d"].iter().map(|name| figure(name, 2.0)).collect();
        let svg = draw(&[run("a", 2, &calls)]);
        let labels = svg.lines().filter(|line| line.contains("class=\"name"));
        let mut heights: Vec<f64> = labels
            .map(|line| {
                line.split("y=\"")
                    .nth(1)
                    .unwrap()
                    .split('"')
                    .next()
                    .unwrap()
                    .parse()
                    .unwrap()
            })
            .collect();
        heights.sort_by(f64::total_cmp);
        assert_eq!(heights.len(), 3);
        assert!(
            heights
                .windows(2)
                .all(|pair| pair[1] - pair[0] >= LABEL_HEIGHT - 0.2),
            "{heights:?}"
        );
        assert!(svg.contains("a&lt;b 2.00") && !svg.contains("a<b"));
    }
}
