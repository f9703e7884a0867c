//! `cargo xtask reproduce frontier`: tables and drawings of the study's records.

mod compare;
mod record;

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use clap::Parser;
use openwork_benches::{Table, exit};
use openwork_chart::{Axis, Chart, Curve, Mark, Point, Scale, grid};

use crate::{
    compare::Study,
    record::{Model, Record, Search, Verdict, read},
};

#[derive(Parser)]
#[command(bin_name = "frontier", about = "Writes frontier.md and frontier.svg beside records.jsonl")]
struct Cli {
    /// Folder of the study
    folder: PathBuf,
}

/// Target losses, nats per sequence.
const TARGETS: [&str; 4] = ["0.5", "0.35", "0.15", "0.05"];
/// Target of baselines and verdicts.
const JUDGED: &str = "0.15";

fn main() -> std::process::ExitCode {
    exit(run(&Cli::parse().folder))
}

fn run(folder: &Path) -> Result<()> {
    let records = folder.join("records.jsonl");
    let (mut models, mut searches, mut verdicts) = (vec![], vec![], vec![]);
    for record in read(&records)? {
        match record {
            Record::Model(model) => models.push(model),
            Record::Search(search) => searches.push(search),
            Record::Verdict(verdict) => verdicts.push(*verdict),
        }
    }
    ensure!(!models.is_empty(), "{} has no model yet", records.display());
    let study = Study { models, searches };
    let text = format!(
        "# Models\n\n{}\n# Sparse models and dense ones of the same loss\n\n{}\n# Baselines, edges at {JUDGED} nats\n\n{}\n\
         # Verdicts on circuits at {JUDGED} nats\n\n{}\n# Every search\n\n{}",
        trained(&study).markdown(),
        ratios(&study).markdown(),
        baselines(&study).markdown(),
        judged(&verdicts).markdown(),
        every_search(&study.searches).markdown(),
    );
    for (name, text) in [("frontier.md", Some(text)), ("frontier.svg", drawing(&study)?)] {
        let (path, Some(text)) = (folder.join(name), text) else { continue };
        openwork_benches::write(&path, &text)?;
        println!("{}", path.display());
    }
    Ok(())
}

fn trained(study: &Study) -> Table {
    let columns = ["model", "nonzeros of the matrices", "tokens, millions", "validation, nats per token"];
    let tasks = TARGETS.map(|target| format!("tasks below {target} nats"));
    let mut table = Table::new(columns.into_iter().chain(tasks.iter().map(String::as_str)));
    for model in &study.models {
        let fresh = model.scores.tasks.iter().filter_map(|score| score.fresh.as_ref());
        let below = TARGETS.map(|target| {
            let target: f64 = target.parse().expect("targets are numbers");
            fresh.clone().filter(|loss| loss.loss_nats < target).count().to_string()
        });
        let row = [
            model.model.clone(),
            model.nonzeros.to_string(),
            format!("{:.1}", model.tokens as f64 / 1e6),
            format!("{:.4}", model.validation_nats),
        ];
        table.row(row.into_iter().chain(below).collect());
    }
    table
}

fn ratios(study: &Study) -> Table {
    let mut table = Table::new([
        "sparse model",
        "target, nats",
        "between the dense models",
        "shared tasks",
        "edges, sparse",
        "edges, dense",
        "dense / sparse [95 %]",
    ]);
    for model in study.models.iter().filter(|model| model.pfrac.is_some()) {
        let bracket = study.bracket(model);
        let names = bracket.map_or("no dense losses bracket its own".into(), |(above, below)| {
            format!("{} and {}", above.model, below.model)
        });
        for target in TARGETS {
            let row = match study.ratio(model, target) {
                Some(ratio) => vec![
                    ratio.tasks.to_string(),
                    format!("{:.1}", ratio.sparse),
                    format!("{:.1}", ratio.dense),
                    format!("{:.1} [{:.1}, {:.1}]", ratio.dense / ratio.sparse, ratio.interval.0, ratio.interval.1),
                ],
                None => vec!["0".into(), "–".into(), "–".into(), "–".into()],
            };
            table.row([vec![model.model.clone(), target.into(), names.clone()], row].concat());
        }
    }
    table
}

/// One row a model and task: edges by learned masks (median over seeds) and by the rankings.
fn baselines(study: &Study) -> Table {
    let mut table = Table::new(["model", "task", "masks", "gradient", "random"]);
    let at = |kind: &str, model: &Model, task: &str| {
        let of = |s: &&Search| s.kind == kind && s.model == model.model && s.task == task && s.target == JUDGED;
        let searches: Vec<&Search> = study.searches.iter().filter(of).collect();
        let edges: Vec<f64> = searches.iter().filter_map(|s| s.edges).map(|edges| edges as f64).collect();
        match (searches.is_empty(), edges.is_empty()) {
            (true, _) => None,
            (false, true) => Some("not reached".into()),
            (false, false) => Some(format!("{}", openwork_benches::stats::median(&edges))),
        }
    };
    for model in &study.models {
        for score in &model.scores.tasks {
            let cells = ["masks", "gradient", "random"].map(|kind| at(kind, model, &score.task));
            if cells.iter().any(Option::is_some) {
                let cells = cells.map(|cell| cell.unwrap_or("–".into()));
                table.row([vec![model.model.clone(), score.task.clone()], cells.to_vec()].concat());
            }
        }
    }
    table
}

fn judged(verdicts: &[Verdict]) -> Table {
    let mut table = Table::new([
        "model",
        "task",
        "verdict, level 4",
        "edges",
        "nonsense labels, edges",
        "random weights, edges",
        "required checks that failed",
    ]);
    for Verdict { model, task, verdict, controls } in verdicts {
        let control = |kind: &str| {
            let found = controls.iter().find(|control| control.kind == kind);
            found.map_or("–".into(), |c| if c.reached_target { c.edges.to_string() } else { "not reached".into() })
        };
        let failed = verdict["failed_required"].as_array().map_or(0, Vec::len);
        table.row(vec![
            model.clone(),
            task.clone(),
            verdict["verdict"].as_str().unwrap_or("–").to_uppercase(),
            verdict["size"]["edges"].to_string(),
            control("nonsense_labels"),
            control("random_weights"),
            failed.to_string(),
        ]);
    }
    table
}

fn every_search(searches: &[Search]) -> Table {
    let mut table = Table::new(["model", "task", "method", "target, nats", "edges"]);
    for s in searches {
        let edges = s.edges.map_or("not reached".into(), |edges| edges.to_string());
        table.row(vec![s.model.clone(), s.task.clone(), s.kind.clone(), s.target.clone(), edges]);
    }
    table
}

/// Validation loss against edges, one chart a target, over the tasks that have a circuit in every model. None if no task has.
fn drawing(study: &Study) -> Result<Option<String>> {
    let charts = TARGETS.map(|target| {
        let models: Vec<&Model> = study.models.iter().collect();
        let shared = study.shared_tasks(&models, target);
        let families = [
            ("dense", study.models.iter().filter(|m| m.pfrac.is_none()).collect::<Vec<_>>()),
            ("sparse, 64 channels", study.models.iter().filter(|m| m.pfrac.is_some() && m.width == 64).collect()),
            ("sparse, 128 channels", study.models.iter().filter(|m| m.pfrac.is_some() && m.width == 128).collect()),
        ];
        let curves = families.into_iter().map(|(name, mut models)| {
            models.sort_by(|a, b| a.validation_nats.total_cmp(&b.validation_nats));
            let point = |model: &&Model| Point::new(model.validation_nats, study.mean_edges(model, &shared, target));
            let points = if shared.is_empty() { vec![] } else { models.iter().map(point).collect() };
            Curve { name: name.into(), points, mark: Mark::Line }
        });
        Chart {
            title: format!("{target} nats, {} tasks of all models", shared.len()),
            x: Axis::new("validation loss, nats per token", Scale::Linear),
            y: Axis::new("edges, geometric mean", Scale::Decades),
            curves: curves.filter(|curve| !curve.points.is_empty()).collect(),
        }
    });
    let drawn: Vec<Chart> = charts.into_iter().filter(|chart| !chart.curves.is_empty()).collect();
    Ok(if drawn.is_empty() { None } else { Some(grid(&drawn, 2)?) })
}
