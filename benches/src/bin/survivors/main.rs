//! `cargo xtask reproduce survivors`: tables and drawings of the study's records.

mod record;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Parser;
use openwork_benches::{Table, exit};
use openwork_chart::{Axis, Chart, Curve, Mark, Point, Scale, grid};

use crate::record::{Cell, Judged, Outcome, read};

#[derive(Parser)]
#[command(bin_name = "survivors", about = "Writes survivors.md, frontier.svg and cost.svg beside records.jsonl")]
struct Cli {
    /// Folder of the study
    folder: PathBuf,
}

fn main() -> std::process::ExitCode {
    exit(run(&Cli::parse().folder))
}

fn run(folder: &Path) -> Result<()> {
    let cells = read(&folder.join("records.jsonl"))?;
    ensure!(!cells.is_empty(), "{} has no cells yet", folder.join("records.jsonl").display());
    let text = format!(
        "# Verdicts: nodes and verdict of every seed\n\n{}\n# Localised models\n\n{}\n# Every cell\n\n{}",
        verdicts(&cells).markdown(),
        costs(&cells).markdown(),
        every_cell(&cells).markdown()
    );
    for (name, text) in [("survivors.md", text), ("frontier.svg", frontier(&cells)?), ("cost.svg", cost(&cells).svg()?)]
    {
        let path = folder.join(name);
        openwork_benches::write(&path, &text)?;
        println!("{}", path.display());
    }
    Ok(())
}

/// Kinds of cells, in the order of the table.
const KINDS: [&str; 5] = ["masks", "masks-answer", "grown-contrast", "grown-answer", "localised"];

/// One row a task, one column a kind of cell; seeds by rising number.
fn verdicts(cells: &[Cell]) -> Table {
    let mut table = Table::new(std::iter::once("task").chain(KINDS));
    let mut tasks: Vec<&str> = cells.iter().map(|cell| &cell.task[..]).collect();
    tasks.dedup();
    let mut seen = std::collections::HashSet::new();
    tasks.retain(|task| seen.insert(*task));
    for task in tasks {
        let of = |kind: &str| {
            let mut found: Vec<&Cell> = cells.iter().filter(|cell| cell.task == task && cell.kind == kind).collect();
            found.sort_by_key(|cell| cell.seed);
            let words: Vec<_> = found.iter().map(|cell| format!("{}: {}", cell.seed, cell.short())).collect();
            if words.is_empty() { "–".into() } else { words.join("; ") }
        };
        table.row(std::iter::once(task.to_owned()).chain(KINDS.map(of)).collect());
    }
    table
}

/// Costs of localisation: one row a localised model.
fn costs(cells: &[Cell]) -> Table {
    let mut table = Table::new(["cell", "nodes", "verdict", "text over the twin, nats", "KL from the original"]);
    for (cell, judged) in judged(cells) {
        let Some(text) = &cell.text else { continue };
        table.row(vec![
            cell.cell.clone(),
            judged.size.nodes.to_string(),
            judged.word(),
            format!("{:+.4}", text.over_twin()),
            format!("{:.4}", text.kl),
        ]);
    }
    table
}

fn every_cell(cells: &[Cell]) -> Table {
    let mut table = Table::new([
        "cell",
        "outcome",
        "nodes",
        "edges",
        "level",
        "adversary, shift-free",
        "equal size, shift-free",
        "completeness",
        "required checks that failed",
    ]);
    for cell in cells {
        let row = match &cell.outcome {
            Outcome::NotReached { message } => vec![format!("not reached: {message}")],
            Outcome::OutOfTime => vec!["out of time".into()],
            Outcome::Judged { verdict } => {
                let both = |raw: &Option<record::Estimate>, shifted: &Option<record::Estimate>| {
                    let figure =
                        |e: &Option<record::Estimate>| e.as_ref().map_or("–".into(), |e| format!("{:.2}", e.mean));
                    format!("{}; {}", figure(raw), figure(shifted))
                };
                vec![
                    verdict.word(),
                    verdict.size.nodes.to_string(),
                    verdict.size.edges.to_string(),
                    verdict.level_reached.to_string(),
                    both(&verdict.adversary, &verdict.adversary_shifted),
                    both(&verdict.larger_adversary, &verdict.larger_adversary_shifted),
                    verdict.completeness.as_ref().map_or("–".into(), |e| format!("{:.2}", e.mean)),
                    verdict.failed_required.len().to_string(),
                ]
            }
        };
        let mut row = [vec![cell.cell.clone()], row].concat();
        row.resize(9, "–".into());
        table.row(row);
    }
    table
}

fn judged(cells: &[Cell]) -> impl Iterator<Item = (&Cell, &Judged)> {
    cells.iter().filter_map(|cell| match &cell.outcome {
        Outcome::Judged { verdict } => Some((cell, &**verdict)),
        Outcome::NotReached { .. } | Outcome::OutOfTime => None,
    })
}

/// Curves of a drawing: one a verdict; rings were judged without control searches, crosses are controls of localisation.
fn by_verdict(cells: &[Cell], point: impl Fn(&Cell, &Judged) -> Option<Point>) -> Vec<Curve> {
    type Class = (&'static str, Mark, fn(&Cell, &Judged) -> bool);
    let classes: [Class; 5] = [
        ("refuted", Mark::Rings, |cell, j| !cell.is_control() && j.verdict == "refuted"),
        ("incomplete", Mark::Rings, |cell, j| !cell.is_control() && !j.passed() && j.verdict != "refuted"),
        ("weak", Mark::Dots, |cell, j| !cell.is_control() && j.passed() && !j.is_strong()),
        ("strong", Mark::Dots, |cell, j| !cell.is_control() && j.is_strong()),
        ("random circuit trained in", Mark::Crosses, |cell, _| cell.is_control()),
    ];
    let curve = |(name, mark, belongs): Class| {
        let points = judged(cells).filter(|(cell, j)| belongs(cell, j)).filter_map(|(cell, j)| point(cell, j));
        Curve::scattered(name, points.collect(), mark)
    };
    classes.map(curve).into_iter().filter(|curve| !curve.points.is_empty()).collect()
}

/// Size against agreement under the adversary of the circuit's size: raw and shift-free.
fn frontier(cells: &[Cell]) -> Result<String> {
    let chart = |title: &str, of: fn(&Judged) -> &Option<record::Estimate>| Chart {
        title: title.into(),
        x: Axis::new("nodes", Scale::Decades),
        y: Axis::new("agreement under the equal-size adversary", Scale::Linear),
        curves: by_verdict(cells, |_, judged| {
            let e = of(judged).as_ref()?;
            Some(Point { x: judged.size.nodes as f64, y: e.mean, bar: e.ci95 })
        }),
    };
    let charts =
        [chart("raw", |j| &j.larger_adversary), chart("after the best common shift", |j| &j.larger_adversary_shifted)];
    Ok(grid(&charts, 2)?)
}

/// Validation cost of localisation against agreement under the adversary of the circuit's size.
fn cost(cells: &[Cell]) -> Chart {
    Chart {
        title: "Localised models".into(),
        x: Axis::new("validation loss over the twin, nats", Scale::Linear),
        y: Axis::new("agreement under the equal-size adversary", Scale::Linear),
        curves: by_verdict(cells, |cell, judged| {
            let e = judged.larger_adversary.as_ref()?;
            Some(Point { x: cell.text.as_ref()?.over_twin(), y: e.mean, bar: e.ci95 })
        }),
    }
}
