//! Training of the model: facts, and curves from its log.

use anyhow::Result;
use openwork_chart::{Axis, Chart, Curve, Point, Scale};
use openwork_train::LogLine;

use crate::ui::show::count;

/// Facts of the last step.
pub fn facts(log: &[LogLine]) -> Vec<(String, String)> {
    let Some(last) = log.last() else { return vec![] };
    let validation = log.iter().rev().find_map(|l| l.validation_loss);
    let mut facts = vec![
        ("training".into(), format!("{} steps, {} tokens", count(last.step + 1), count(last.tokens))),
        ("nonzero weights".into(), count(last.l0 as u64)),
    ];
    if let Some(loss) = validation {
        facts.push(("validation loss".into(), format!("{loss:.3} nats per token")));
    }
    facts.push(("dead neurons".into(), count(last.dead_neurons as u64)));
    facts
}

/// Four panels over the steps, as one SVG element: loss (training and validation), l0, learning rate and gradient RMS.
///
/// # Errors
/// When the drawing library fails.
pub fn curves(log: &[LogLine]) -> Result<String> {
    let curve = |name: &str, value: fn(&LogLine) -> Option<f64>| {
        let points = log.iter().filter_map(|line| Some(Point::new(line.step as f64 + 1.0, value(line)?)));
        Curve::new(name, points.collect()).thinned()
    };
    let panel = |title: &str, unit: &str, scale, curves| Chart {
        title: title.into(),
        x: Axis::new("step", Scale::Linear),
        y: Axis::new(unit, scale),
        curves,
    };
    let panels = [
        panel(
            "Loss",
            "nats per token",
            Scale::Linear,
            vec![curve("training", |l| Some(l.loss)), curve("validation", |l| l.validation_loss)],
        ),
        panel("Nonzero weights (l0)", "weights", Scale::Decades, vec![curve("l0", |l| Some(l.l0 as f64))]),
        panel("Learning rate", "weight change per step", Scale::Linear, vec![curve("learning rate", |l| Some(l.lr))]),
        panel(
            "Gradient RMS before normalisation",
            "nats per unit of weight",
            Scale::Decades,
            vec![curve("gradient RMS", |l| Some(l.grad_rms))],
        ),
    ];
    Ok(openwork_chart::grid(&panels, 2)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(step: u64) -> LogLine {
        let text = r#"{"step":0,"loss":7.0,"lr":0.0,"pfrac":16.0,"grad_rms":0.001,"l0":100,"churn":0.0,
                       "dead_neurons":0,"tokens":1,"tokens_per_second":1.0}"#;
        LogLine { step, ..serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn one_step_many_steps_and_equal_values_can_be_drawn() {
        for n in [1, 2, 5000] {
            let svg = curves(&(0..n).map(line).collect::<Vec<_>>()).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for text in ["Loss", "nats per token", "step", "validation"] {
                assert!(svg.contains(text), "{text}");
            }
            assert!(svg.len() < 300_000);
        }
    }
}
