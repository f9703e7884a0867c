//! Drawings from saved samples.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use openwork_benches::{Csv, Fraction, Machine, latest_folder, repository, stats::Spread};
use openwork_chart::{Axis, Chart, Curve, Point, Scale};

use crate::cases::{CONTEXT, SEQUENCES};

/// Options.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with step.csv or step-growth.csv [default: the latest of this machine in benches/runs]
    #[arg(long)]
    from: Option<PathBuf>,
    /// Folder of the drawings [default: docs/bench]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Not drawn by density.
const OURS_BF16: [&str; 2] = ["ours exact bf16", "ours support bf16"];

/// One sample.
#[derive(Clone, Debug, PartialEq)]
struct Sample {
    d_model: usize,
    layers: usize,
    sequences: usize,
    density: Fraction,
    contestant: String,
    seconds: f64,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let out = args.out.unwrap_or_else(|| repository().join("docs/bench"));
    let mut drawn = 0;
    for (name, charts) in [("step.csv", by_density as fn(&[Sample]) -> Charts), ("step-growth.csv", by_size)] {
        let latest = || Some(latest_folder(&Machine::here().device(), name)?.join(name));
        let path = match &args.from {
            Some(folder) => Some(folder.join(name)).filter(|path| path.exists()),
            None => latest(),
        };
        let Some(path) = path else { continue };
        for (file, chart) in charts(&read(&path)?) {
            let file = out.join(file).with_extension("svg");
            openwork_benches::write(&file, &chart.svg()?)?;
            println!("{}", file.display());
            drawn += 1;
        }
    }
    ensure!(drawn > 0, "there is no step.csv and no step-growth.csv; `cargo xtask bench step --save` writes them");
    Ok(())
}

/// Names of files, and what to draw there.
type Charts = Vec<(String, Chart)>;

fn read(path: &Path) -> Result<Vec<Sample>> {
    samples(&Csv::read(path)?).with_context(|| path.display().to_string())
}

fn samples(csv: &Csv) -> Result<Vec<Sample>> {
    let (d_model, layers, sequences) = (csv.numbers("d_model")?, csv.numbers("layers")?, csv.numbers("sequences")?);
    let (density, contestant) = (csv.column("density")?, csv.column("contestant")?);
    let seconds = csv.numbers("seconds")?;
    let sample = |i: usize| {
        Ok(Sample {
            d_model: d_model[i] as usize,
            layers: layers[i] as usize,
            sequences: sequences[i] as usize,
            density: density[i].parse().map_err(anyhow::Error::msg)?,
            contestant: contestant[i].to_owned(),
            seconds: seconds[i],
        })
    };
    (0..csv.len()).map(sample).collect()
}

/// A drawing for every shape: speed by density.
fn by_density(samples: &[Sample]) -> Charts {
    let mut shapes: Vec<(usize, usize)> = samples.iter().map(|s| (s.d_model, s.layers)).collect();
    shapes.sort_unstable();
    shapes.dedup();
    let chart = |(d_model, layers): (usize, usize)| {
        // With bf16 activations ours would lie on the curves of f32 and make them hard to tell apart; step.txt has them.
        let drawn = |s: &&Sample| (s.d_model, s.layers) == (d_model, layers) && !OURS_BF16.contains(&&*s.contestant);
        let of_shape: Vec<&Sample> = samples.iter().filter(drawn).collect();
        let chart = speeds(
            format!("Training step, d_model {d_model}, {layers} layers"),
            Axis::new("fraction of weights that are not zero", Scale::Doublings),
            &of_shape,
            |s| s.density.value,
        );
        (format!("step-{d_model}x{layers}"), chart)
    };
    shapes.into_iter().map(chart).collect()
}

/// Three drawings for every density: speed by width, by layers, by tokens of a step.
fn by_size(samples: &[Sample]) -> Charts {
    type Number = fn(&Sample) -> f64;
    type Keep = fn(&Sample) -> bool;
    let series: [(&str, &str, Number, Keep); 3] = [
        ("width", "width (d_model)", |s| s.d_model as f64, |s| (s.layers, s.sequences) == (4, SEQUENCES)),
        ("layers", "layers", |s| s.layers as f64, |s| (s.d_model, s.sequences) == (256, SEQUENCES)),
        ("tokens", "tokens of a step", |s| (s.sequences * CONTEXT) as f64, |s| (s.d_model, s.layers) == (256, 4)),
    ];
    let mut densities: Vec<&Fraction> = samples.iter().map(|s| &s.density).collect();
    densities.sort_by(|a, b| b.value.total_cmp(&a.value));
    densities.dedup();
    let mut charts = Vec::new();
    for density in densities {
        for (name, label, x, keep) in &series {
            let kept: Vec<&Sample> = samples.iter().filter(|s| s.density == *density && keep(s)).collect();
            let title = format!("Training step by {name}, density {density}");
            let file = format!("growth-{name}-{}", density.to_string().replace('/', "-"));
            charts.push((file, speeds(title, Axis::new(*label, Scale::Doublings), &kept, x)));
        }
    }
    charts
}

/// Tokens a second of every contestant over `x`: medians with p10 to p90.
fn speeds(title: String, axis: Axis, samples: &[&Sample], x: impl Fn(&Sample) -> f64) -> Chart {
    let mut curves: Vec<Curve> = Vec::new();
    let mut names: Vec<&str> = Vec::new();
    samples.iter().for_each(|s| {
        if !names.contains(&s.contestant.as_str()) {
            names.push(&s.contestant)
        }
    });
    for name in names {
        let of_name: Vec<&&Sample> = samples.iter().filter(|s| s.contestant == name).collect();
        let mut places: Vec<f64> = of_name.iter().map(|s| x(s)).collect();
        places.sort_by(f64::total_cmp);
        places.dedup();
        let point = |place: f64| {
            let speeds = of_name.iter().filter(|s| x(s) == place);
            let speeds = speeds.map(|s| (s.sequences * CONTEXT) as f64 / s.seconds).collect::<Vec<_>>();
            let spread = Spread::of(&speeds);
            Point { x: place, y: spread.median, bar: (spread.p10, spread.p90) }
        };
        curves.push(Curve::new(name, places.into_iter().map(point).collect()));
    }
    Chart { title, x: axis, y: Axis::new("tokens per second", Scale::Decades), curves }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(d_model: usize, layers: usize, sequences: usize, contestant: &str, seconds: f64) -> Sample {
        Sample { d_model, layers, sequences, density: "1/64".parse().unwrap(), contestant: contestant.into(), seconds }
    }

    #[test]
    fn samples_become_curves() {
        let samples = [sample(256, 4, 16, "a", 1.0), sample(256, 4, 16, "a", 3.0), sample(512, 4, 16, "b", 2.0)];
        let charts = by_size(&samples);
        assert_eq!(
            charts.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(),
            ["growth-width-1-64", "growth-layers-1-64", "growth-tokens-1-64"]
        );
        let width = &charts[0].1;
        assert_eq!(width.curves.iter().map(|c| c.points[0].x).collect::<Vec<_>>(), [256.0, 512.0]);
        assert_eq!(width.curves[1].points[0].y, 2048.0);
        assert_eq!(charts[1].1.curves.len(), 1);
        assert_eq!(by_density(&samples).len(), 2);
        charts.iter().for_each(|(_, chart)| drop(chart.svg().unwrap()));
    }
}
