//! Prints a chart of two losses as SVG: `cargo run --example loss > loss.svg`

use openwork_chart::{Axis, Chart, ChartError, Curve, Point, Scale};

fn main() -> Result<(), ChartError> {
    let curve = |name: &str, floor: f64| {
        let point = |step: u32| Point::new(f64::from(step), floor + 5.0 / f64::from(step).sqrt());
        Curve::new(name, (1..=2000).map(point).collect()).thinned()
    };
    let chart = Chart {
        title: "Loss".into(),
        x: Axis::new("step", Scale::Decades),
        y: Axis::new("nats per token", Scale::Linear),
        curves: vec![curve("training", 2.0), curve("validation", 2.2)],
    };
    println!("{}", chart.svg()?);
    Ok(())
}
