//! Draws build time against round trip as an SVG that looks the same everywhere: lines with their names at their ends,
//! and nothing that has to be loaded.
//!
//! Times go from a second to many minutes, so their axis is logarithmic.

use std::fmt::Write as _;

/// A line with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What stands at its end.
    pub name: String,
    /// Its points from left to right.
    pub points: Vec<Point>,
}

/// A measured point.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The round trip, in milliseconds.
    pub round_trip_ms: f64,
    /// The build's time, in seconds.
    pub seconds: f64,
    /// Whether it was ended by then, and would have taken longer.
    pub is_cut: bool,
}

/// The longest name that has room at a line's end, in letters.
pub const NAME_LEN_MAX: usize = 40;
const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 460.0;
const LEFT: f64 = 64.0;
/// Room for the names at the lines' ends.
const RIGHT: f64 = 310.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 56.0;
/// How far apart two names are at least.
const NAME_GAP: f64 = 17.0;
/// Colours that people who see few of them tell apart, with dashes for those who print.
const STROKES: [(&str, &str); 7] = [
    ("#0072b2", ""),
    ("#d55e00", "6 3"),
    ("#009e73", "2 3"),
    ("#cc79a7", "8 3 2 3"),
    ("#56b4e9", "4 4"),
    ("#e69f00", "1 3"),
    ("#444444", "10 4"),
];

/// Where values lie on the picture.
struct Scale {
    round_trip_ms_max: f64,
    /// Powers of ten.
    decades: (i32, i32),
}

impl Scale {
    fn of(series: &[Series]) -> Self {
        let points = || series.iter().flat_map(|series| &series.points);
        let round_trip_ms_max = points().map(|point| point.round_trip_ms).fold(1.0, f64::max);
        let logarithms = || points().map(|point| point.seconds.max(1e-3).log10());
        let lowest = logarithms().fold(f64::INFINITY, f64::min).min(0.0).floor();
        let highest = logarithms().fold(f64::NEG_INFINITY, f64::max).max(1.0).ceil();
        #[expect(clippy::cast_possible_truncation, reason = "logarithms of seconds are small")]
        let decades = (lowest as i32, highest as i32);
        Self { round_trip_ms_max, decades }
    }

    fn x(&self, round_trip_ms: f64) -> f64 {
        LEFT + round_trip_ms / self.round_trip_ms_max * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, seconds: f64) -> f64 {
        let (lowest, highest) = (f64::from(self.decades.0), f64::from(self.decades.1));
        let part = (seconds.max(1e-3).log10() - lowest) / (highest - lowest);
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }
}

/// The picture. A series without points is left out.
#[must_use]
pub fn svg(title: &str, series: &[Series]) -> String {
    let series: Vec<Series> = series.iter().filter(|series| !series.points.is_empty()).cloned().collect();
    let scale = Scale::of(&series);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    draw_grid(&mut text, &scale, &series);
    let names = name_heights(&scale, &series);
    for (number, series) in series.iter().enumerate() {
        draw_series(&mut text, &scale, series, names[number], STROKES[number % STROKES.len()]);
    }
    text + "</svg>\n"
}

fn draw_grid(text: &mut String, scale: &Scale, series: &[Series]) {
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for decade in scale.decades.0..=scale.decades.1 {
        for step in [1.0, 2.0, 5.0] {
            let seconds = step * 10_f64.powi(decade);
            let y = scale.y(seconds);
            if y < TOP - 0.5 {
                continue;
            }
            let colour = if step == 1.0 { "#bbbbbb" } else { "#e6e6e6" };
            line(text, [LEFT, y, right, y], colour);
            label(text, LEFT - 8.0, y + 4.0, "end", &plain(seconds));
        }
    }
    let mut ticks: Vec<f64> =
        series.iter().flat_map(|series| &series.points).map(|point| point.round_trip_ms).collect();
    ticks.sort_by(f64::total_cmp);
    ticks.dedup();
    let mut written_to = f64::NEG_INFINITY;
    for tick in ticks {
        let x = scale.x(tick);
        line(text, [x, bottom, x, bottom + 5.0], "#666666");
        // Round trips that are close together would be written over each other.
        if x - written_to >= 22.0 {
            label(text, x, bottom + 19.0, "middle", &plain(tick));
            written_to = x;
        }
    }
    line(text, [LEFT, bottom, right, bottom], "#666666");
    label(text, f64::midpoint(LEFT, right), HEIGHT - 14.0, "middle", "round trip in milliseconds");
    let middle = f64::midpoint(TOP, bottom);
    let _infallible = writeln!(
        text,
        "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">build in seconds</text>"
    );
}

fn draw_series(text: &mut String, scale: &Scale, series: &Series, name_y: f64, stroke: (&str, &str)) {
    let (colour, dashes) = stroke;
    let places: Vec<String> = series
        .points
        .iter()
        .map(|point| format!("{:.1},{:.1}", scale.x(point.round_trip_ms), scale.y(point.seconds)))
        .collect();
    let _infallible = writeln!(
        text,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
        places.join(" ")
    );
    for point in &series.points {
        let (x, y) = (scale.x(point.round_trip_ms), scale.y(point.seconds));
        // An open circle would have been higher up.
        let fill = if point.is_cut { "#ffffff" } else { colour };
        let _infallible = writeln!(
            text,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{fill}\" stroke=\"{colour}\"><title>{}: {} s at {} ms</title></circle>",
            escaped(&series.name),
            plain(point.seconds),
            plain(point.round_trip_ms)
        );
    }
    if let Some(last) = series.points.last() {
        let (x, y) = (scale.x(last.round_trip_ms), scale.y(last.seconds));
        line(text, [x + 5.0, y, WIDTH - RIGHT + 14.0, name_y - 4.0], colour);
        label(text, WIDTH - RIGHT + 18.0, name_y, "start", &series.name);
    }
}

/// Where each name stands: beside its line's end, or as far below as the names before it need.
fn name_heights(scale: &Scale, series: &[Series]) -> Vec<f64> {
    let end = |series: &Series| series.points.last().map_or(HEIGHT, |point| scale.y(point.seconds) + 4.0);
    let mut order: Vec<usize> = (0..series.len()).collect();
    order.sort_by(|one, other| end(&series[*one]).total_cmp(&end(&series[*other])));
    let mut heights = vec![0.0; series.len()];
    let mut free_from = TOP;
    for index in order {
        heights[index] = end(&series[index]).max(free_from);
        free_from = heights[index] + NAME_GAP;
    }
    heights
}

fn line(text: &mut String, [x1, y1, x2, y2]: [f64; 4], colour: &str) {
    let _infallible = writeln!(
        text,
        "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" stroke=\"{colour}\"/>"
    );
}

fn label(text: &mut String, x: f64, y: f64, anchor: &str, words: &str) {
    let _infallible =
        writeln!(text, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>", escaped(words));
}

/// A number with no more digits than it needs.
fn plain(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(name: &str, points: &[(f64, f64, bool)]) -> Series {
        let point = |&(round_trip_ms, seconds, is_cut)| Point { round_trip_ms, seconds, is_cut };
        Series { name: name.to_owned(), points: points.iter().map(point).collect() }
    }

    #[test]
    fn longer_builds_are_higher_up_and_longer_ways_further_right() {
        let far = series("far", &[(0.0, 1.0, false), (300.0, 600.0, true)]);
        let scale = Scale::of(std::slice::from_ref(&far));
        assert_eq!(scale.decades, (0, 3));
        assert!(scale.y(600.0) < scale.y(1.0) && scale.y(600.0) >= TOP);
        assert_eq!((scale.x(0.0), scale.x(300.0)), (LEFT, WIDTH - RIGHT));
    }

    #[test]
    fn names_are_told_apart_and_cut_builds_are_open_circles() {
        let lines = [
            series("a <& b", &[(0.0, 2.0, false), (150.0, 2.1, false)]),
            series("c", &[(0.0, 2.0, false), (150.0, 2.1, true)]),
            series("nobody", &[]),
        ];
        let picture = svg("build & wait", &lines);
        assert!(picture.contains("a &lt;&amp; b</text>") && picture.contains("build &amp; wait"));
        assert!(!picture.contains("nobody"));
        assert_eq!(picture.matches("<circle").count(), 4);
        assert_eq!(picture.matches("fill=\"#ffffff\" stroke=").count(), 1);
        let heights = name_heights(&Scale::of(&lines[..2]), &lines[..2]);
        assert!((heights[0] - heights[1]).abs() >= NAME_GAP - 0.01, "{heights:?}");
    }
}
