//! The circuit among random node sets: a dot per set on a line.

use std::fmt::Write as _;

use openwork_verify::{Draw, Report};

const WIDTH: f64 = 980.0;
const LEFT: f64 = 250.0;
const ROW: f64 = 46.0;

/// A strip per draw of random sets.
pub fn random_sets(out: &mut String, report: &Report) {
    if report.random_sets.is_empty() {
        return;
    }
    let values = || report.random_sets.iter().flat_map(|r| r.random.iter().chain([&r.circuit]));
    let high = values().fold(std::f64::consts::LN_2, |m, &x| m.max(x)) * 1.05;
    let x = |loss: f64| LEFT + (loss / high).clamp(0.0, 1.0) * (WIDTH - LEFT - 20.0);
    let height = ROW * report.random_sets.len() as f64 + 34.0;
    out.push_str("<h3>Among random sets</h3>");
    let _ = write!(
        out,
        "<figure><svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" font-family=\"system-ui, sans-serif\" font-size=\"12\">"
    );
    let chance = x(std::f64::consts::LN_2);
    let bottom = height - 30.0;
    let _ = write!(
        out,
        "<line x1=\"{chance:.1}\" x2=\"{chance:.1}\" y1=\"4\" y2=\"{bottom}\" stroke=\"#98a2b3\" stroke-dasharray=\"3 3\"/>\
         <text x=\"{chance:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#667085\">chance</text>\
         <text x=\"{LEFT}\" y=\"{:.1}\" fill=\"#667085\">0</text>\
         <text x=\"{WIDTH}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#667085\">task loss, nats</text>",
        bottom + 14.0,
        bottom + 14.0,
        bottom + 28.0
    );
    for (i, set) in report.random_sets.iter().enumerate() {
        let y = ROW * i as f64 + ROW / 2.0;
        let what = if set.ablated { "only these ablated" } else { "only these kept" };
        let from = match set.draw {
            Draw::Any => "from all nodes",
            Draw::Others => "from other nodes",
            Draw::ActiveOthers => "from other active nodes",
        };
        let _ = write!(
            out,
            "<text x=\"0\" y=\"{:.1}\" fill=\"#1f2430\">{what}</text><text x=\"0\" y=\"{:.1}\" fill=\"#667085\">{from}, p = {:.3}</text>\
             <line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y}\" y2=\"{y}\" stroke=\"#e3e6eb\"/>",
            y - 2.0,
            y + 13.0,
            set.p_value,
            WIDTH - 20.0
        );
        for (j, loss) in set.random.iter().enumerate() {
            // Spread by index, so that equal values can be told apart.
            let jitter = (j * 7 % 13) as f64 - 6.0;
            let _ = write!(
                out,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.4\" fill=\"#98a2b3\" fill-opacity=\"0.55\"/>",
                x(*loss),
                y + jitter
            );
        }
        let cx = x(set.circuit);
        let _ = write!(
            out,
            "<path d=\"M{cx:.1} {:.1} l6 6 l-6 6 l-6 -6 z\" fill=\"#d16116\"><title>the circuit: {:.3} nats</title></path>",
            y - 6.0,
            set.circuit
        );
    }
    out.push_str(
        "</svg><figcaption>Grey: random node sets with as many nodes per site as the circuit. Orange: the \
         circuit.</figcaption></figure>",
    );
}
