//! `openwork plot`: the curves of a training run, from its log.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use openwork_train::LogLine;
use plotters::{
    coord::{
        Shift,
        ranged1d::{AsRangedCoord, Ranged, ValueFormatter},
    },
    prelude::*,
};

use crate::show::say;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run
    run: PathBuf,
    /// The SVG file to write [default: curves.svg in the run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Size of the drawing in SVG pixels.
const SIZE: (u32, u32) = (960, 640);
/// At most this many points are drawn of a curve; each is the mean over the steps it stands for.
const MAX_POINTS: usize = 400;

const BLUE: RGBColor = RGBColor(31, 95, 160);
const ORANGE: RGBColor = RGBColor(209, 97, 22);
const INK: RGBColor = RGBColor(40, 44, 52);
const GRID: RGBColor = RGBColor(225, 228, 232);

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let svg = svg(&read_log(&args.run)?)?;
    let out = args.out.unwrap_or_else(|| args.run.join("curves.svg"));
    openwork_tensor::write_atomic(&out, |w| w.write_all(svg.as_bytes()))
        .with_context(|| format!("cannot write {}", out.display()))?;
    say!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}

/// The steps that the log of the run in `dir` holds.
pub fn read_log(dir: &Path) -> Result<Vec<LogLine>> {
    let path = dir.join("log.jsonl");
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{} is no training run: cannot read {}", dir.display(), path.display()))?;
    let mut log = Vec::new();
    for (number, line) in text.lines().enumerate() {
        match serde_json::from_str(line) {
            Ok(line) => log.push(line),
            // A run that was killed, or that is writing just now.
            Err(_) if number + 1 == text.lines().count() && !text.ends_with('\n') => (),
            Err(error) => bail!(anyhow!(error).context(format!("{}, line {}", path.display(), number + 1))),
        }
    }
    Ok(log)
}

/// Four panels over the steps, as one SVG element: loss (training and validation), l0, learning rate and
/// gradient RMS.
pub fn svg(log: &[LogLine]) -> Result<String> {
    ensure!(!log.is_empty(), "the log has no steps yet");
    let curve = |value: fn(&LogLine) -> f64| thinned(log.iter().map(|line| (line.step as f64 + 1.0, value(line))));
    let validation = log.iter().filter_map(|l| Some((l.step as f64 + 1.0, l.validation_loss?))).collect();
    let panels = [
        Panel {
            title: "Loss",
            unit: "nats per token",
            logarithmic: false,
            curves: vec![("training", BLUE, curve(|l| l.loss)), ("validation", ORANGE, validation)],
        },
        Panel {
            title: "Nonzero weights (l0)",
            unit: "weights",
            logarithmic: true,
            curves: vec![("l0", BLUE, curve(|l| l.l0 as f64))],
        },
        Panel {
            title: "Learning rate",
            unit: "weight change per step",
            logarithmic: false,
            curves: vec![("learning rate", BLUE, curve(|l| l.lr))],
        },
        Panel {
            title: "Gradient RMS before normalisation",
            unit: "nats per unit of weight",
            logarithmic: true,
            curves: vec![("gradient RMS", BLUE, curve(|l| l.grad_rms))],
        },
    ];
    let mut svg = String::new();
    draw(&mut svg, &panels).map_err(|error| anyhow!("cannot draw the curves: {error}"))?;
    Ok(svg)
}

type Points = Vec<(f64, f64)>;

struct Panel {
    title: &'static str,
    unit: &'static str,
    logarithmic: bool,
    curves: Vec<(&'static str, RGBColor, Points)>,
}

type Outcome<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw<'a>(svg: &'a mut String, panels: &[Panel]) -> Outcome<'a> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    for (area, panel) in root.split_evenly((2, 2)).iter().zip(panels) {
        let all = || panel.curves.iter().flat_map(|(_, _, points)| points.iter().copied());
        let (x, y) = (range(all().map(|p| p.0)), range(all().map(|p| p.1)));
        if panel.logarithmic && y.0 > 0.0 {
            let (low, high) = (y.0 / 1.15, y.1 * 1.15);
            draw_panel(area, panel, x, (low..high).log_scale().with_key_points(ticks(low, high)))?;
        } else {
            let margin = match y.1 - y.0 {
                0.0 => y.1.abs().max(1e-6) / 2.0,
                height => height / 20.0,
            };
            let low = if y.0 >= 0.0 { (y.0 - margin).max(0.0) } else { y.0 - margin };
            draw_panel(area, panel, x, low..y.1 + margin)?;
        }
    }
    root.present()
}

fn draw_panel<'a, Y>(area: &DrawingArea<SVGBackend<'a>, Shift>, panel: &Panel, x: (f64, f64), y: Y) -> Outcome<'a>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let text = |size: i32| ("sans-serif", size).into_font().color(&INK);
    let x = if x.0 < x.1 { x.0..x.1 } else { x.0 - 1.0..x.1 + 1.0 };
    let mut chart = ChartBuilder::on(area)
        .caption(panel.title, text(17))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(68)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(WHITE)
        .bold_line_style(GRID)
        .axis_style(INK.mix(0.6))
        .label_style(text(12))
        .axis_desc_style(text(13))
        .x_desc("step")
        .y_desc(panel.unit)
        .x_labels(6)
        .y_labels(9)
        .x_label_formatter(&|v| number(*v))
        .y_label_formatter(&|v| number(*v))
        .draw()?;
    for (name, color, points) in &panel.curves {
        let line = LineSeries::new(points.iter().copied(), color.stroke_width(2));
        let drawn = chart.draw_series(line)?;
        if panel.curves.len() > 1 {
            let color = *color;
            drawn.label(*name).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        if points.len() <= 60 {
            chart.draw_series(points.iter().map(|&point| Circle::new(point, 2, color.filled())))?;
        }
    }
    if panel.curves.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .label_font(text(13))
            .background_style(WHITE.mix(0.85))
            .draw()?;
    }
    Ok(())
}

/// Smallest and largest finite value; 0 and 1 where there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// Labels of a logarithmic axis: 1, 2 and 5 times powers of ten, or the powers alone on a long axis.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let within = |factors: &[f64]| -> Vec<f64> {
        let powers = (first..=last).flat_map(|power| factors.iter().map(move |factor| factor * 10_f64.powi(power)));
        powers.filter(|tick| (low..=high).contains(tick)).collect()
    };
    match within(&[1.0, 2.0, 5.0]) {
        fine if fine.len() > 9 => within(&[1.0]),
        fine if fine.is_empty() => vec![(low * high).sqrt()],
        fine => fine,
    }
}

/// Means over groups of neighbours, so that long runs give small drawings.
fn thinned(points: impl Iterator<Item = (f64, f64)>) -> Points {
    let points: Points = points.collect();
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |values: &mut dyn Iterator<Item = f64>, n: usize| values.sum::<f64>() / n as f64;
    let means = points.chunks(group).map(|chunk| {
        (mean(&mut chunk.iter().map(|p| p.0), chunk.len()), mean(&mut chunk.iter().map(|p| p.1), chunk.len()))
    });
    means.collect()
}

/// A label of an axis: `12,000`, `0.05`, `3e-5`.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1e9 => format!("{value:.0e}"),
        size if size >= 1000.0 => crate::show::count(value.round() as u64),
        size if size >= 1e-3 => {
            let text = format!("{value:.4}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => format!("{value:.0e}"),
    }
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
            let svg = svg(&(0..n).map(line).collect::<Vec<_>>()).unwrap();
            assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"), "{svg}");
            for text in ["Loss", "nats per token", "step", "validation"] {
                assert!(svg.contains(text), "{text}");
            }
            assert!(svg.len() < 200_000);
        }
        assert!(svg(&[]).unwrap_err().to_string().contains("no steps"));
    }

    #[test]
    fn a_log_may_end_in_half_a_line_but_not_hold_one() {
        let dir = tempfile::tempdir().unwrap();
        let whole = serde_json::to_string(&line(0)).unwrap();
        let path = dir.path().join("log.jsonl");
        std::fs::write(&path, format!("{whole}\n{}", &whole[..20])).unwrap();
        assert_eq!(read_log(dir.path()).unwrap().len(), 1);
        std::fs::write(&path, format!("{}\n{whole}\n", &whole[..20])).unwrap();
        assert!(read_log(dir.path()).unwrap_err().to_string().ends_with("line 1"));
    }

    #[test]
    fn labels_are_short() {
        let labels = [0.0, 12_000.0, 0.05, 0.00003, 2.0, 1_000_000.0].map(number);
        assert_eq!(labels, ["0", "12,000", "0.05", "3e-5", "2", "1,000,000"]);
    }
}
