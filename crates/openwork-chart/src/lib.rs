#![doc = include_str!("../README.md")]

use plotters::{
    coord::{
        Shift,
        ranged1d::{DefaultFormatting, KeyPointHint, Ranged},
    },
    prelude::*,
};

/// Axis: a label, and the scale of its values.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Measure and unit.
    pub label: String,
    /// Scale of the values.
    pub scale: Scale,
}

/// Scale of an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Equal distances are equal differences.
    Linear,
    /// Equal distances are equal ratios; 1, 2 and 5 times powers of ten are marked. Linear where a value is not positive.
    Decades,
    /// Equal distances are equal ratios; powers of two are marked. Linear where a value is not positive.
    Doublings,
}

/// Point with its error bar.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Place on the horizontal axis.
    pub x: f64,
    /// Value.
    pub y: f64,
    /// Lower and upper end of the bar; both are the value for none.
    pub bar: (f64, f64),
}

impl Point {
    /// A point without an error bar.
    pub fn new(x: f64, y: f64) -> Self {
        Self { x, y, bar: (y, y) }
    }
}

/// Named curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Points by rising x; those with a number that is not finite, or not between 1e-100 and 1e100 in size (and not 0), are
    /// left out: scales and ticks are computed from the others without overflow.
    pub points: Vec<Point>,
    /// Drawing of the points.
    pub mark: Mark,
}

/// Drawing of a curve's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A line through the points, by rising x; few points are dots on it.
    Line,
    /// Dots alone.
    Dots,
    /// Circles that are not filled.
    Rings,
    /// Crosses.
    Crosses,
}

/// Largest number of points of a thinned curve, which is about two a pixel of a panel.
const MAX_POINTS: usize = 400;

impl Curve {
    /// A curve through `points`.
    pub fn new(name: impl Into<String>, points: Vec<Point>) -> Self {
        Self { name: name.into(), points, mark: Mark::Line }
    }

    /// Separate points, drawn as `mark`.
    pub fn scattered(name: impl Into<String>, points: Vec<Point>, mark: Mark) -> Self {
        Self { name: name.into(), points, mark }
    }

    /// The curve with 400 points at most, each the mean of neighbours: small drawings of long runs.
    pub fn thinned(self) -> Self {
        let group = self.points.len().div_ceil(MAX_POINTS).max(1);
        let mean = |chunk: &[Point], of: fn(&Point) -> f64| chunk.iter().map(of).sum::<f64>() / chunk.len() as f64;
        let point = |chunk: &[Point]| Point {
            x: mean(chunk, |p| p.x),
            y: mean(chunk, |p| p.y),
            bar: (mean(chunk, |p| p.bar.0), mean(chunk, |p| p.bar.1)),
        };
        Self { points: self.points.chunks(group).map(point).collect(), ..self }
    }
}

/// Chart of one panel.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Curves, seven at most: as many as colours tell apart.
    pub curves: Vec<Curve>,
}

/// Reason that a chart cannot be drawn.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChartError {
    /// The chart has more curves than colours tell apart.
    #[error("{title}: {curves} curves, at most {} can be told apart", COLORS.len())]
    TooManyCurves {
        /// Heading of the chart.
        title: String,
        /// Number of its curves.
        curves: usize,
    },
    /// The drawing library failed.
    #[error("cannot draw {title}: {reason}")]
    Draw {
        /// Heading of the chart.
        title: String,
        /// Message of the library.
        reason: String,
    },
}

/// Size of a panel in SVG pixels.
const PANEL: (u32, u32) = (760, 480);
/// Size of a panel of a grid.
const GRID_PANEL: (u32, u32) = (480, 320);
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
/// Points are marked on curves of so many at most.
const MARKED: usize = 60;

impl Axis {
    /// An axis with this label.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self { label: label.into(), scale }
    }

    /// The range that holds all values, with a margin, and the values that are marked on it.
    fn range(&self, values: impl Iterator<Item = f64> + Clone) -> AxisRange {
        let scale = match values.clone().any(|value| value <= 0.0) {
            true => Scale::Linear,
            false => self.scale,
        };
        let logarithmic = scale != Scale::Linear;
        let place = |value: f64| if logarithmic { value.log10() } else { value };
        let (low, high) = values
            .map(place)
            .filter(|&place| drawable(place))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), place| (low.min(place), high.max(place)));
        let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
        let margin = match high - low {
            0.0 if logarithmic || low == 0.0 => 0.5,
            0.0 => low.abs() / 2.0,
            length => length / 20.0,
        };
        let (low, high) = (low - margin, high + margin);
        let (low, high) = if logarithmic { (10_f64.powf(low), 10_f64.powf(high)) } else { (low, high) };
        let ticks = match scale {
            Scale::Linear => linear_ticks(low, high),
            Scale::Decades => logarithmic_ticks(low, high, 10.0, &[1.0, 2.0, 5.0]),
            Scale::Doublings => logarithmic_ticks(low, high, 2.0, &[1.0]),
        };
        AxisRange { low, high, logarithmic, ticks }
    }
}

/// Coordinates of an axis for the drawing library: linear and logarithmic ones in one type.
struct AxisRange {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Ranged for AxisRange {
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

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

/// The charts as one SVG element, in rows of `columns`.
///
/// # Errors
/// When a chart has more than seven curves, or the drawing library fails.
///
/// # Panics
/// When `columns` is 0.
pub fn grid(charts: &[Chart], columns: usize) -> Result<String, ChartError> {
    let rows = charts.len().div_ceil(columns);
    let size = (GRID_PANEL.0 * columns as u32, GRID_PANEL.1 * rows.max(1) as u32);
    draw(charts, (rows.max(1), columns), size)
}

impl Chart {
    /// The chart as an SVG element.
    ///
    /// # Errors
    /// When the chart has more than seven curves, or the drawing library fails.
    pub fn svg(&self) -> Result<String, ChartError> {
        draw(std::slice::from_ref(self), (1, 1), PANEL)
    }

    fn draw<'a>(&self, area: &Area<'a>) -> Drawn<'a> {
        let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
        let finite = |p: &&Point| drawable(p.x) && drawable(p.y);
        let points = || self.curves.iter().flat_map(|curve| &curve.points).filter(finite);
        let x = self.x.range(points().map(|p| p.x));
        let y = self.y.range(points().flat_map(|p| [p.y, p.bar.0, p.bar.1]).filter(|&y| drawable(y)));
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, text(17))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .bold_line_style(GRID)
            .axis_style(INK.mix(0.6))
            .label_style(text(12))
            .axis_desc_style(text(13))
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|value| label(*value))
            .y_label_formatter(&|value| label(*value))
            .draw()?;
        for (curve, color) in self.curves.iter().zip(COLORS) {
            let places = |p: &Point| (p.x, p.y);
            let points = || curve.points.iter().filter(finite);
            let dots = || points().map(|p| Circle::new(places(p), 3, color.filled()));
            let (ring, cross) = (color.stroke_width(2), color.stroke_width(2));
            match curve.mark {
                Mark::Line => {
                    chart
                        .draw_series(LineSeries::new(points().map(places), color.stroke_width(2)))?
                        .label(&curve.name)
                        .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
                    if curve.points.len() <= MARKED {
                        chart.draw_series(dots())?;
                    }
                }
                Mark::Dots => {
                    let legend = move |(x, y)| Circle::new((x + 9, y), 3, color.filled());
                    chart.draw_series(dots())?.label(&curve.name).legend(legend);
                }
                Mark::Rings => {
                    let rings = points().map(|p| Circle::new(places(p), 4, ring));
                    chart.draw_series(rings)?.label(&curve.name).legend(move |(x, y)| Circle::new((x + 9, y), 4, ring));
                }
                Mark::Crosses => {
                    let crosses = points().map(|p| Cross::new(places(p), 4, cross));
                    let legend = move |(x, y)| Cross::new((x + 9, y), 4, cross);
                    chart.draw_series(crosses)?.label(&curve.name).legend(legend);
                }
            }
            let bars = points().filter(|p| p.bar.0 < p.bar.1 && drawable(p.bar.0) && drawable(p.bar.1));
            chart.draw_series(
                bars.map(|p| PathElement::new([(p.x, p.bar.0), (p.x, p.bar.1)], color.mix(0.6).stroke_width(1))),
            )?;
        }
        if self.curves.len() > 1 {
            // Separate points often crowd at the ends of an axis.
            let scattered = self.curves.iter().any(|curve| curve.mark != Mark::Line);
            let place = if scattered { SeriesLabelPosition::MiddleMiddle } else { SeriesLabelPosition::UpperRight };
            chart
                .configure_series_labels()
                .position(place)
                .label_font(text(13))
                .background_style(WHITE.mix(0.85))
                .draw()?;
        }
        Ok(())
    }
}

fn draw(charts: &[Chart], cells: (usize, usize), size: (u32, u32)) -> Result<String, ChartError> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
    let failed = |title: &str, reason: &dyn std::fmt::Display| ChartError::Draw {
        title: title.to_owned(),
        reason: reason.to_string(),
    };
    root.fill(&WHITE).map_err(|error| failed("the background", &error))?;
    for (area, chart) in root.split_evenly(cells).iter().zip(charts) {
        if chart.curves.len() > COLORS.len() {
            return Err(ChartError::TooManyCurves { title: chart.title.clone(), curves: chart.curves.len() });
        }
        chart.draw(area).map_err(|error| failed(&chart.title, &error))?;
    }
    root.present().map_err(|error| failed("the drawing", &error))?;
    drop(root);
    Ok(svg)
}

/// True for numbers that a chart shows: see [`Curve::points`].
fn drawable(value: f64) -> bool {
    value == 0.0 || (1e-100..1e100).contains(&value.abs())
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

/// `1/64`, `0.05`, `3e-5`, `12k`, `1.5M`.
fn label(value: f64) -> String {
    let plain = |value: f64| {
        let text = format!("{value:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let inverse = 1.0 / value;
    let is_power_of_two =
        inverse.round() >= 4.0 && (inverse - inverse.round()).abs() < 1e-9 && inverse.log2().fract().abs() < 1e-9;
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 1e9 => format!("{value:.0e}"),
        size if size >= 1e6 => plain(value / 1e6) + "M",
        size if size >= 1e4 => plain(value / 1e3) + "k",
        size if size < 1.0 && is_power_of_two => format!("1/{}", inverse.round()),
        size if size < 1e-3 => format!("{value:.0e}"),
        _ => plain(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(scale: Scale, n: usize) -> Chart {
        let axis = |label: &str| Axis::new(label, scale);
        let point = |i: usize| Point { x: (i + 1) as f64, y: 2.0, bar: (1.5, 2.5) };
        let curves = vec![Curve::new("a curve", (0..n).map(point).collect()), Curve::new("another", vec![])];
        Chart { title: "title".into(), x: axis("across"), y: axis("up"), curves }
    }

    #[test]
    fn numbers_of_any_size_are_drawn_or_left_out() {
        for scale in [Scale::Linear, Scale::Decades, Scale::Doublings] {
            for values in
                [[1.0, 1e308], [1.7e308, -1.7e308], [0.0, 5e-324], [1e308, 1e308], [1e99, 1e-99], [f64::NAN, 1.0]]
            {
                let points =
                    values.iter().zip(0..).map(|(&y, x)| Point { bar: (0.0, f64::MAX), ..Point::new(f64::from(x), y) });
                let axis = || Axis::new("", scale);
                let curves = vec![Curve::new("a", points.collect()).thinned()];
                let svg = Chart { title: String::new(), x: axis(), y: axis(), curves }.svg().unwrap();
                assert!(svg.len() < 100_000 && !svg.contains("NaN"), "{values:?}");
            }
        }
    }

    #[test]
    fn no_point_one_and_many_can_be_drawn() {
        for scale in [Scale::Linear, Scale::Decades, Scale::Doublings] {
            for n in [0, 1, 20] {
                let svg = chart(scale, n).svg().unwrap();
                for text in ["<svg", "title", "across", "up", "a curve"] {
                    assert!(svg.contains(text), "{n}: {text}");
                }
            }
        }
        let mut many = chart(Scale::Linear, 1);
        many.curves = vec![many.curves[0].clone(); 8];
        assert!(many.svg().unwrap_err().to_string().contains("at most 7"));
    }

    #[test]
    fn separate_points_have_no_line_through_them() {
        let points = || vec![Point::new(1.0, 1.0), Point::new(2.0, 4.0), Point::new(3.0, 2.0)];
        let svg = |mark| {
            let mut chart = chart(Scale::Linear, 0);
            chart.curves = vec![Curve::scattered("points", points(), mark)];
            chart.svg().unwrap()
        };
        for (mark, circles, filled) in
            [(Mark::Line, 3, 3), (Mark::Dots, 3, 3), (Mark::Rings, 3, 0), (Mark::Crosses, 0, 0)]
        {
            let svg = svg(mark);
            let circle = |l: &&str| l.starts_with("<circle");
            assert_eq!(svg.lines().filter(circle).count(), circles, "{mark:?}: {svg}");
            assert_eq!(svg.lines().filter(circle).filter(|l| !l.contains("fill=\"none\"")).count(), filled, "{mark:?}");
            let through = svg.lines().filter(|l| l.starts_with("<polyline") && l.contains("#0072B2")).count();
            assert_eq!(
                through,
                match mark {
                    Mark::Line => 1,
                    Mark::Crosses => 0,
                    _ => 0,
                },
                "{mark:?}: {svg}"
            );
        }
    }

    #[test]
    fn values_that_a_scale_cannot_hold_are_drawn_without_nonsense() {
        let mut chart = chart(Scale::Decades, 3);
        chart.curves[0].points[1] = Point::new(0.0, f64::INFINITY);
        chart.curves[0].points[2] = Point::new(5.0, -1.0);
        let svg = chart.svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_grid_has_every_panel_and_thinned_curves_are_short() {
        let svg = grid(&[chart(Scale::Linear, 2), chart(Scale::Decades, 3), chart(Scale::Linear, 4)], 2).unwrap();
        assert_eq!(svg.matches("title").count(), 3, "{svg}");
        let thinned = Curve::new("long", (0..5000).map(|i| Point::new(f64::from(i), 1.0)).collect()).thinned();
        assert!(thinned.points.len() <= 400 && (thinned.points[0].x - 6.0).abs() < 1e-9);
    }

    #[test]
    fn labels_are_short_and_ticks_round() {
        let labels = [1.0 / 64.0, 0.25, 0.05, 12_000.0, 1_500_000.0, 3.5, 0.0, 3e-5].map(label);
        assert_eq!(labels, ["1/64", "1/4", "0.05", "12k", "1.5M", "3.5", "0", "3e-5"]);
        assert_eq!(linear_ticks(0.9, 3.1), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(logarithmic_ticks(0.2, 1.1, 2.0, &[1.0]), [0.25, 0.5, 1.0]);
        assert_eq!(logarithmic_ticks(1500.0, 12_000.0, 10.0, &[1.0, 2.0, 5.0]), [2000.0, 5000.0, 10_000.0]);
        assert_eq!(logarithmic_ticks(0.5, 20_000.0, 10.0, &[1.0, 2.0, 5.0]), [1.0, 10.0, 100.0, 1000.0, 10_000.0]);
    }
}
