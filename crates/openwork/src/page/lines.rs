//! Interpolation curves and faithfulness curves of a report.

use std::fmt::Write as _;

use openwork_chart::{Axis, Chart, Point, Scale};
use openwork_verify::{Curve, Report};

use super::escape;

/// All curves of a report, side by side where there is room.
pub fn curves(out: &mut String, report: &Report) {
    if report.curves.is_empty() {
        return;
    }
    out.push_str("<h3>Interpolation curves</h3><div class=\"figures\">");
    for curve in &report.curves {
        let areas = match report.findings.cpr_cmd {
            Some((cpr, cmd)) if scale(curve) == Scale::Decades => {
                format!("CPR {cpr:.3} (area under the curve), CMD {cmd:.3} (area of its distance from 1). ")
            }
            _ => String::new(),
        };
        // A drawing that fails leaves the numbers, which are in the verdict file too.
        let drawing = openwork_chart::grid(&[chart(curve)], 1).unwrap_or_else(|error| escape(&error.to_string()));
        let _ =
            write!(out, "<figure>{drawing}<figcaption>{areas}{}</figcaption></figure>", escape(curve.kind.reading()));
    }
    out.push_str("</div>");
}

fn chart(curve: &Curve) -> Chart {
    Chart {
        title: String::new(),
        x: Axis::new(curve.kind.axis(), scale(curve)),
        y: Axis::new(curve.kind.measure(), Scale::Linear),
        curves: vec![openwork_chart::Curve::new(
            curve.kind.measure(),
            curve.points.iter().map(|&(x, y)| Point::new(x, y)).collect(),
        )],
    }
}

/// Logarithmic where the parameter spans hundreds: shares of nodes from a thousandth to all.
fn scale(curve: &Curve) -> Scale {
    let low = curve.points.iter().fold(f64::MAX, |m, p| m.min(p.0));
    let high = curve.points.iter().fold(f64::MIN, |m, p| m.max(p.0));
    if low > 0.0 && high / low >= 100.0 { Scale::Decades } else { Scale::Linear }
}

#[cfg(test)]
mod tests {
    use openwork_verify::CurveKind;

    use super::*;

    fn curve(points: Vec<(f64, f64)>) -> Curve {
        Curve { kind: CurveKind::RestRestored, points }
    }

    #[test]
    fn shares_over_decades_get_a_logarithmic_axis_and_others_do_not() {
        assert_eq!(scale(&curve(vec![(0.001, -0.5), (0.1, 0.5), (1.0, 1.0)])), Scale::Decades);
        assert_eq!(scale(&curve(vec![(0.0, 1.0), (1.0, 1.0)])), Scale::Linear);
    }

    #[test]
    fn a_single_point_and_infinity_are_drawn_without_nonsense() {
        let svg = chart(&curve(vec![(0.5, 0.0), (0.6, f64::INFINITY)])).svg().unwrap();
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(
            svg.contains(CurveKind::RestRestored.axis()) && svg.contains(CurveKind::RestRestored.measure()),
            "{svg}"
        );
    }
}
