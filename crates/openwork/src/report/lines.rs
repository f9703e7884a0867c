//! Curves as small line drawings.

use std::fmt::Write as _;

use openwork_verify::{Curve, Report};

use super::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 270.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 30.0;
const BOTTOM: f64 = 46.0;

/// All curves of a report, side by side where there is room.
pub fn curves(out: &mut String, report: &Report) {
    if report.curves.is_empty() {
        return;
    }
    out.push_str("<h3>Along a dial</h3><div class=\"figures\">");
    for curve in &report.curves {
        let areas = match report.findings.cpr_cmd {
            Some((cpr, cmd)) if is_logarithmic(curve) => {
                format!("CPR {cpr:.3} (area under the curve), CMD {cmd:.3} (area of its distance from 1). ")
            }
            _ => String::new(),
        };
        let (drawing, reading) = (draw(curve), escape(curve.kind.reading()));
        let _ = write!(out, "<figure>{drawing}<figcaption>{areas}{reading}</figcaption></figure>");
    }
    out.push_str("</div>");
}

/// Whether the dial spans hundreds: shares of nodes from a thousandth to all.
fn is_logarithmic(curve: &Curve) -> bool {
    let low = curve.points.iter().fold(f64::MAX, |m, p| m.min(p.0));
    let high = curve.points.iter().fold(f64::MIN, |m, p| m.max(p.0));
    low > 0.0 && high / low >= 100.0
}

/// From numbers to places on an axis.
struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    start: f64,
    end: f64,
}

impl Axis {
    fn place(&self, x: f64) -> f64 {
        let scale = |x: f64| if self.logarithmic { x.log10() } else { x };
        let (low, high) = (scale(self.low), scale(self.high));
        let part = if high > low { (scale(x) - low) / (high - low) } else { 0.5 };
        self.start + part * (self.end - self.start)
    }

    /// Round numbers along it.
    fn ticks(&self) -> Vec<f64> {
        if self.logarithmic {
            let powers = self.low.log10().ceil() as i32..=self.high.log10().floor() as i32;
            return powers.map(|p| 10_f64.powi(p)).collect();
        }
        let rough = (self.high - self.low).max(1e-9) / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil() as i64;
        (first..).map(|i| i as f64 * step).take_while(|x| *x <= self.high + 1e-9 * step).collect()
    }
}

fn axes(curve: &Curve) -> (Axis, Axis) {
    let range = |of: &dyn Fn(&(f64, f64)) -> f64, from: (f64, f64)| {
        curve.points.iter().map(of).filter(|x| x.is_finite()).fold(from, |(a, b), x| (a.min(x), b.max(x)))
    };
    let (x0, x1) = range(&|p| p.0, (f64::MAX, f64::MIN));
    let (y0, y1) = range(&|p| p.1, (0.0, 1e-3));
    let (start, end) = (LEFT, WIDTH - RIGHT);
    let x = Axis { low: x0, high: x1, logarithmic: is_logarithmic(curve), start, end };
    let y = Axis { low: y0, high: y1 * 1.04, logarithmic: false, start: HEIGHT - BOTTOM, end: TOP };
    (x, y)
}

fn draw(curve: &Curve) -> String {
    let (dial, measure) = (escape(curve.kind.axis()), escape(curve.kind.measure()));
    let mut svg = format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{measure} by {dial}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    let (x, y) = axes(curve);
    frame(&mut svg, &x, &y);
    let finite = || curve.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite());
    let line: Vec<String> = finite().map(|p| format!("{:.1},{:.1}", x.place(p.0), y.place(p.1))).collect();
    let _ =
        write!(svg, "<polyline points=\"{}\" fill=\"none\" stroke=\"#1f5fa0\" stroke-width=\"2\"/>", line.join(" "));
    for p in finite() {
        let _ = write!(
            svg,
            "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"4\" fill=\"#fff\" stroke=\"#1f5fa0\" stroke-width=\"2\">\
             <title>{dial} {}: {:.4}</title></circle>",
            x.place(p.0),
            y.place(p.1),
            number(p.0),
            p.1
        );
    }
    let _ = write!(
        svg,
        "<text x=\"0\" y=\"14\" fill=\"#1f2430\" font-weight=\"600\">{measure}</text>\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#667085\">{dial}</text></svg>",
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 8.0
    );
    svg
}

/// Lines and numbers of both axes.
fn frame(svg: &mut String, x: &Axis, y: &Axis) {
    for tick in y.ticks() {
        let at = y.place(tick);
        let _ = write!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#667085\">{}</text>",
            WIDTH - RIGHT,
            if tick == 0.0 { "#98a2b3" } else { "#e3e6eb" },
            LEFT - 6.0,
            at + 4.0,
            number(tick)
        );
    }
    for tick in x.ticks() {
        let at = x.place(tick);
        let _ = write!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#98a2b3\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#667085\">{}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 4.0,
            HEIGHT - BOTTOM + 17.0,
            number(tick)
        );
    }
}

/// Three digits at most, without the noise of binary fractions.
fn number(x: f64) -> String {
    format!("{}", (x * 1000.0).round() / 1000.0 + 0.0)
}

#[cfg(test)]
mod tests {
    use openwork_verify::CurveKind;

    use super::*;

    fn curve(points: Vec<(f64, f64)>) -> Curve {
        Curve { kind: CurveKind::RestRestored, points }
    }

    #[test]
    fn shares_over_decades_get_a_logarithmic_axis() {
        let (x, y) = axes(&curve(vec![(0.001, -0.5), (0.1, 0.5), (1.0, 1.0)]));
        assert_eq!(x.ticks().iter().map(|t| number(*t)).collect::<Vec<_>>(), ["0.001", "0.01", "0.1", "1"]);
        assert!((x.place(0.1) - (LEFT + 2.0 / 3.0 * (WIDTH - RIGHT - LEFT))).abs() < 1e-9);
        assert!(y.place(-0.5) > y.place(0.0) && y.place(0.0) > y.place(1.0), "values below 0 are drawn below 0");
    }

    #[test]
    fn a_single_point_and_infinity_are_drawn_without_nonsense() {
        let svg = draw(&curve(vec![(0.5, 0.0), (0.6, f64::INFINITY)]));
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}
