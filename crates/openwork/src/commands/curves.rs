//! `openwork curves`: size against loss, divergence and agreement of the circuits that rankings make.

use std::{
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result, ensure};
use openwork_chart::{Axis, Chart, Curve, Point, Scale};
use openwork_circuit::{Parts, Score, Scored};
use openwork_extract::{CurvePoint, ScoreStage};
use openwork_project::{
    DRAWING_MARK, OutputKind, ScoreCurve, check_free, check_outputs, curves_csv, find_task, score_curves,
};

use crate::ui::{
    args::ProjectArgs,
    interrupt,
    progress::Progress,
    ranges::{between, seed, up_to},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Task that the circuits are for (see `openwork tasks list`)
    #[arg(long)]
    task: String,
    /// The SVG file to write; the table of the figures is written beside it, as .csv
    #[arg(long)]
    out: PathBuf,
    /// Scores, separated by commas: gradient, integrated, inputs, patching, weights, acdc, random [default: all that rank the parts]
    #[arg(long, value_delimiter = ',')]
    score: Vec<Score>,
    /// Parts that are ranked: nodes or edges
    #[arg(long, default_value_t)]
    parts: Parts,
    /// Training pairs that scores are taken on
    #[arg(long, default_value_t = Scored::default().pairs, value_parser = between::<usize>(1, 1 << 20))]
    score_pairs: usize,
    /// Points of the paths of integrated gradients
    #[arg(long, default_value_t = Scored::default().points, value_parser = between::<usize>(1, 1 << 10))]
    points: usize,
    /// Rise of the distance from the model, in nats, below which acdc removes a part
    #[arg(long, default_value_t = Scored::default().threshold, value_parser = up_to(100.0))]
    threshold: f64,
    /// Replace the drawing and the table that lie there
    #[arg(long)]
    force: bool,
    /// Seed of pairs and of the random order
    #[arg(long, default_value_t = 0, value_parser = seed)]
    seed: u64,
}

impl Args {
    /// Settings of every score that is asked for.
    fn scores(&self) -> Result<Vec<Scored>> {
        let &Self { parts, score_pairs: pairs, points, threshold, .. } = self;
        let of = |score| Scored { score, parts, pairs, points, threshold };
        if self.score.is_empty() {
            return Ok(Score::ALL.map(of).into_iter().filter(|scored| scored.fault().is_none()).collect());
        }
        let mut scores: Vec<Scored> = vec![];
        for scored in self.score.iter().copied().map(of) {
            let fault = scored.fault();
            ensure!(fault.is_none(), "--score {} --parts {parts}: {}", scored.score, fault.unwrap_or_default());
            ensure!(!scores.contains(&scored), "--score {} is named twice", scored.score);
            scores.push(scored);
        }
        Ok(scores)
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, scores, table) = (find_task(&args.task)?, args.scores()?, args.out.with_extension("csv"));
    check_outputs(&[(OutputKind::Drawing, &args.out), (OutputKind::Curves, &table)], &[])?;
    [&args.out, &table].into_iter().try_for_each(|path| check_free(path, args.force))?;
    let project = args.project.open()?;
    interrupt::listen()?;
    let splits = project.splits(task, args.seed)?;
    let progress = Progress::new(None, 0);
    let curves = score_curves(&project, task.name(), &splits, &scores, args.seed, &mut |scored, step| {
        let doing = match step.stage {
            ScoreStage::Measuring => format!("measuring the top {}", step.parts),
            _ => format!("{} scored", step.parts),
        };
        progress.update(step.parts as u64, || format!("{}: {} {doing}", scored.score, scored.parts));
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let Some(curves) = curves else {
        eprintln!("interrupted: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    write(&table, &curves_csv(&curves))?;
    // By its mark the next one knows that it may replace it.
    write(&args.out, &drawing(task.name(), args.parts, &curves)?.replacen('>', &format!(">{DRAWING_MARK}"), 1))?;
    for line in sums(&curves) {
        say!("{line}");
    }
    say!("{}\n{}", args.out.display(), table.display());
    Ok(ExitCode::SUCCESS)
}

/// Sums of scores over the nodes of each site beside the effect of ablating the site, a line for each site; none where no score
/// estimates effects.
fn sums(curves: &[ScoreCurve]) -> Vec<String> {
    let with: Vec<&ScoreCurve> = curves.iter().filter(|curve| !curve.sums.is_empty()).collect();
    let Some(first) = with.first() else { return vec![] };
    let names: String = with.iter().map(|curve| format!("{:>12}", curve.settings.score.to_string())).collect();
    let head =
        ["sum of the scores of a site's nodes, nats".to_owned(), format!("{:<22}{:>12}{names}", "site", "effect")];
    let line = |i: usize| {
        let sums: String = with.iter().map(|curve| format!("{:>12.3}", curve.sums[i].sum)).collect();
        format!("{:<22}{:>12.3}{sums}", first.sums[i].site.to_string(), first.sums[i].effect)
    };
    head.into_iter().chain((0..first.sums.len()).map(line)).collect()
}

fn write(path: &Path, text: &str) -> Result<()> {
    openwork_tensor::write_atomic(path, |w| w.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Four panels over the size, a curve for each score: task loss, divergence, agreement, and agreement under attack.
fn drawing(task: &str, parts: Parts, curves: &[ScoreCurve]) -> Result<String> {
    let size = |p: &CurvePoint| match parts {
        Parts::Nodes => p.nodes as f64,
        Parts::Edges => p.edges as f64,
    };
    let panel = |title: &str, unit: &str, scale, value: fn(&CurvePoint) -> f64| Chart {
        title: format!("{task}: {title}"),
        x: Axis::new(parts.to_string(), Scale::Doublings),
        y: Axis::new(unit, scale),
        curves: curves
            .iter()
            .map(|curve| {
                let points = curve.points.iter().map(|p| Point::new(size(p), value(p)));
                Curve::new(curve.settings.score.to_string(), points.collect())
            })
            .collect(),
    };
    let panels = [
        panel("task loss, calibrated", "nats per sequence", Scale::Linear, |p| p.loss),
        panel("KL(model ‖ circuit)", "nats per sequence", Scale::Linear, |p| p.kl),
        panel("agreement with the model", "share of answers", Scale::Linear, |p| p.agreement),
        panel("agreement under attack, equal size", "share of answers", Scale::Linear, |p| p.attacked_equal),
    ];
    Ok(openwork_chart::grid(&panels, 2)?)
}
