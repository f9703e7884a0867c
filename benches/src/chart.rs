//! One panel of curves with error bars, as an SVG file.

use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use plotters::{
    coord::ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
    prelude::*,
};

use crate::save;

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// Where values lie on it.
    pub kind: Kind,
}

/// Where values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios; 1, 2 and 5 times powers of ten are marked.
    Decades,
    /// Equal distances are equal ratios; powers of two are marked.
    Doublings,
}

/// A point with its error bar.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Where.
    pub x: f64,
    /// The value.
    pub y: f64,
    /// Lower and upper end of the bar; both the value for none.
    pub bar: (f64, f64),
}

/// A named curve, its points by rising x.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// The points.
    pub points: Vec<Point>,
}

/// The panel.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// At most as many as can be told apart by colour and marker.
    pub curves: Vec<Curve>,
}

const SIZE: (u32, u32) = (760, 480);
const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(225, 228, 232);
/// Okabe and Ito's colours, which stay apart for the colour-blind.
const COLORS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(90, 90, 90),
];

impl Axis {
    /// An axis called `label`.
    pub fn new(label: impl Into<String>, kind: Kind) -> Self {
        Self { label: label.into(), kind }
    }

    /// The scale that holds all values.
    fn scale(&self, values: impl Iterator<Item = f64>) -> Scale {
        let logarithmic = self.kind != Kind::Linear;
        let place = |value: f64| if logarithmic { value.log10() } else { value };
        let (low, high) = values
            .map(place)
            .filter(|place| place.is_finite())
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = if low < high { (high - low) / 20.0 } else { 0.5 };
        let (low, high) = (low - margin, high + margin);
        let (low, high) = if logarithmic { (10_f64.powf(low), 10_f64.powf(high)) } else { (low, high) };
        let ticks = match self.kind {
            Kind::Linear => linear_ticks(low, high),
            Kind::Decades => logarithmic_ticks(low, high, 10.0, &[1.0, 2.0, 5.0]),
            Kind::Doublings => logarithmic_ticks(low, high, 2.0, &[1.0]),
        };
        Scale { low, high, logarithmic, ticks }
    }
}

/// The values of an axis on paper: linear and logarithmic ones in one type.
struct Scale {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let along = match self.logarithmic {
            true => (value / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        first + (along * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.low..self.high
    }
}

impl Chart {
    /// Writes the drawing to an SVG file.
    pub fn save(&self, path: &Path) -> Result<()> {
        save::write(path, &self.svg()?)
    }

    /// The drawing as SVG.
    pub fn svg(&self) -> Result<String> {
        ensure!(self.curves.len() <= COLORS.len(), "{}: more than {} curves", self.title, COLORS.len());
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("cannot draw {}: {error}", self.title))?;
        Ok(svg)
    }

    fn draw<'a>(
        &self,
        svg: &'a mut String,
    ) -> Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>> {
        let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = self.x.scale(points().map(|p| p.x));
        let y = self.y.scale(points().flat_map(|p| [p.y, p.bar.0, p.bar.1]));
        let mut chart = ChartBuilder::on(&root)
            .caption(&self.title, text(18))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK.mix(0.6))
            .label_style(text(12))
            .axis_desc_style(text(14))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| label(*value))
            .y_label_formatter(&|value| label(*value))
            .draw()?;
        for (curve, color) in self.curves.iter().zip(COLORS) {
            let places = |p: &Point| (p.x, p.y);
            chart
                .draw_series(LineSeries::new(curve.points.iter().map(places), color.stroke_width(2)))?
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            chart.draw_series(curve.points.iter().map(|p| Circle::new(places(p), 3, color.filled())))?;
            let bars = curve.points.iter().filter(|p| p.bar.0 < p.bar.1 && p.bar.0.is_finite() && p.bar.1.is_finite());
            chart.draw_series(
                bars.map(|p| PathElement::new([(p.x, p.bar.0), (p.x, p.bar.1)], color.mix(0.6).stroke_width(1))),
            )?;
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(text(13))
            .background_style(WHITE.mix(0.85))
            .draw()?;
        root.present()
    }
}

/// Round numbers, about seven of them.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 7.0;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|&step| step >= rough);
    let step = step.unwrap_or(10.0 * power);
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    (first..=last).map(|n| n as f64 * step).collect()
}

/// Powers of `base` times `factors`, or the powers alone where that would be too many.
fn logarithmic_ticks(low: f64, high: f64, base: f64, factors: &[f64]) -> Vec<f64> {
    let (first, last) = (low.log(base).floor() as i32, high.log(base).ceil() as i32);
    let times = |factors: &[f64]| -> Vec<f64> {
        let powers = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * base.powi(power)));
        powers.filter(|tick| (low..=high).contains(tick)).collect()
    };
    let ticks = times(factors);
    if ticks.len() <= 10 { ticks } else { times(&[1.0]) }
}

/// `1/64`, `0.05`, `12k`, `1.5M`.
fn label(value: f64) -> String {
    let plain = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let inverse = 1.0 / value;
    match value.abs() {
        size if size >= 1e6 => plain(value / 1e6) + "M",
        size if size >= 1e4 => plain(value / 1e3) + "k",
        size if size < 1.0
            && inverse.round() >= 4.0
            && (inverse - inverse.round()).abs() < 1e-9
            && inverse.log2().fract().abs() < 1e-9 =>
        {
            format!("1/{}", inverse.round())
        }
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(kind: Kind, n: usize) -> Chart {
        let axis = |label: &str| Axis::new(label, kind);
        let point = |i: usize| Point { x: (i + 1) as f64, y: 2.0, bar: (1.5, 2.5) };
        let curves = vec![Curve { name: "a curve".into(), points: (0..n).map(point).collect() }];
        Chart { title: "title".into(), x: axis("across"), y: axis("up"), curves }
    }

    #[test]
    fn no_point_one_and_many_can_be_drawn() {
        for kind in [Kind::Linear, Kind::Decades, Kind::Doublings] {
            for n in [0, 1, 20] {
                let svg = chart(kind, n).svg().unwrap();
                for text in ["<svg", "title", "across", "up", "a curve"] {
                    assert!(svg.contains(text), "{n}: {text}");
                }
            }
        }
        let mut many = chart(Kind::Linear, 1);
        many.curves = vec![many.curves[0].clone(); 8];
        assert!(many.svg().unwrap_err().to_string().contains("more than 7"));
    }

    #[test]
    fn labels_are_short_and_ticks_round() {
        let labels = [1.0 / 64.0, 0.25, 0.05, 12_000.0, 1_500_000.0, 3.5, 0.0].map(label);
        assert_eq!(labels, ["1/64", "1/4", "0.05", "12k", "1.5M", "3.5", "0"]);
        assert_eq!(linear_ticks(0.9, 3.1), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(logarithmic_ticks(0.2, 1.1, 2.0, &[1.0]), [0.25, 0.5, 1.0]);
        assert_eq!(logarithmic_ticks(1500.0, 12_000.0, 10.0, &[1.0, 2.0, 5.0]), [2000.0, 5000.0, 10_000.0]);
        assert_eq!(logarithmic_ticks(0.5, 20_000.0, 10.0, &[1.0, 2.0, 5.0]), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }
}
