//! Draws a figure over scenarios as an SVG: one line a policy, one place a scenario, and nothing that has to be loaded.

use std::fmt::Write as _;

/// A policy's line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name.
    pub name: String,
    /// A value for each place, `None` where there is none.
    pub values: Vec<Option<f64>>,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// What the values are.
    pub axis: String,
    /// What stands under the places.
    pub places: Vec<String>,
    /// The lines, ours last so that it lies on top.
    pub series: Vec<Series>,
    /// Whether each tenfold is as high as the next.
    pub is_logarithmic: bool,
}

const WIDTH: f64 = 940.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 64.0;
/// Room for the names.
const RIGHT: f64 = 190.0;
const TOP: f64 = 44.0;
/// Room for the places' names, which stand at an angle.
const BOTTOM: f64 = 96.0;
/// Colours that people who see few of them tell apart, with dashes for those who print.
const STROKES: [(&str, &str); 8] = [
    ("#999999", "2 3"),
    ("#56b4e9", "6 3"),
    ("#0072b2", ""),
    ("#e69f00", "8 3 2 3"),
    ("#cc79a7", "4 4"),
    ("#444444", "1 3"),
    ("#009e73", "10 4"),
    ("#d55e00", ""),
];

impl Chart {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"13\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>\n",
            escaped(&self.title)
        );
        self.draw_grid(&mut text);
        for (number, series) in self.series.iter().enumerate() {
            self.draw(&mut text, number, series);
        }
        text + "</svg>\n"
    }

    /// The least and the most that is drawn.
    fn range(&self) -> (f64, f64) {
        let values = || self.series.iter().flat_map(|series| series.values.iter().flatten().copied());
        let most = values().fold(f64::MIN_POSITIVE, f64::max);
        if !self.is_logarithmic {
            return (0.0, most * 1.05);
        }
        let least = values().filter(|value| *value > 0.0).fold(most, f64::min);
        (10_f64.powf(least.log10().floor()), 10_f64.powf(most.log10().ceil()))
    }

    fn y(&self, value: f64) -> f64 {
        let (least, most) = self.range();
        let part = if self.is_logarithmic {
            (value.max(least).log10() - least.log10()) / (most.log10() - least.log10()).max(1e-9)
        } else {
            value / most
        };
        HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)
    }

    fn x(&self, place: usize) -> f64 {
        let count = self.places.len().max(1) as f64;
        LEFT + (place as f64 + 0.5) / count * (WIDTH - LEFT - RIGHT)
    }

    /// Where lines lie across the picture.
    fn ticks(&self) -> Vec<f64> {
        let (least, most) = self.range();
        if self.is_logarithmic {
            #[expect(clippy::cast_possible_truncation, reason = "logarithms of seconds are small")]
            let decades = (most / least).log10().round() as i32;
            let of = |decade: i32| [1.0, 2.0, 5.0].map(|step| step * least * 10_f64.powi(decade));
            return (0..decades).flat_map(of).chain([most]).collect();
        }
        let step = 10_f64.powf(most.log10().floor());
        let step = [0.1, 0.2, 0.5, 1.0].map(|part| part * step).into_iter().find(|step| most / step <= 8.0);
        let step = step.unwrap_or(most);
        (0..).map(|number| f64::from(number) * step).take_while(|tick| *tick <= most).collect()
    }

    fn draw_grid(&self, text: &mut String) {
        let right = WIDTH - RIGHT;
        for tick in self.ticks() {
            let y = self.y(tick);
            let _infallible = writeln!(
                text,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{right}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                plain(tick)
            );
        }
        for (number, place) in self.places.iter().enumerate() {
            let (x, y) = (self.x(number), HEIGHT - BOTTOM + 16.0);
            let _infallible = writeln!(
                text,
                "<text transform=\"translate({x:.1} {y:.1}) rotate(-30)\" text-anchor=\"end\">{}</text>",
                escaped(place)
            );
        }
        let middle = f64::midpoint(TOP, HEIGHT - BOTTOM);
        let _infallible = writeln!(
            text,
            "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            escaped(&self.axis)
        );
    }

    fn draw(&self, text: &mut String, number: usize, series: &Series) {
        let (colour, dashes) = STROKES[number % STROKES.len()];
        let points: Vec<(f64, f64, f64)> = series
            .values
            .iter()
            .enumerate()
            .filter_map(|(place, value)| value.map(|value| (self.x(place), self.y(value), value)))
            .collect();
        let line: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _infallible = writeln!(
            text,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>",
            line.join(" ")
        );
        for (x, y, value) in points {
            let _infallible = writeln!(
                text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"><title>{}: {}</title></circle>",
                escaped(&series.name),
                plain(value)
            );
        }
        let (x, y) = (WIDTH - RIGHT + 14.0, TOP + 8.0 + 20.0 * number as f64);
        let _infallible = writeln!(
            text,
            "<line x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\" stroke=\"{colour}\" stroke-width=\"2\" \
             stroke-dasharray=\"{dashes}\"/><text x=\"{}\" y=\"{}\">{}</text>",
            x + 28.0,
            x + 34.0,
            y + 4.0,
            escaped(&series.name)
        );
    }
}

/// A number with no more digits than it needs.
fn plain(value: f64) -> String {
    let text = if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn escaped(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(is_logarithmic: bool) -> Chart {
        let series =
            |name: &str, values: [Option<f64>; 2]| Series { name: name.to_owned(), values: values.to_vec() };
        Chart {
            title: "wait & load".to_owned(),
            axis: "seconds".to_owned(),
            places: vec!["0.5".to_owned(), "0.8".to_owned()],
            series: vec![series("a", [Some(2.0), Some(400.0)]), series("b", [Some(3.0), None])],
            is_logarithmic,
        }
    }

    #[test]
    fn more_is_higher_up_and_what_is_missing_is_left_out() {
        for is_logarithmic in [false, true] {
            let chart = chart(is_logarithmic);
            assert!(chart.y(400.0) < chart.y(3.0) && chart.y(400.0) >= TOP - 0.1);
            assert!(chart.x(0) < chart.x(1));
            let picture = chart.svg();
            assert!(picture.contains("wait &amp; load") && picture.matches("<circle").count() == 3);
        }
        assert_eq!(
            (plain(0.50), plain(1_000.0), plain(12.25)),
            ("0.5".into(), "1000".into(), "12.25".into())
        );
    }
}
