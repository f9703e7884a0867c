//! `cargo xtask bench quality`: is the fast mode as good?
//!
//! Trains the same small model on the same tokens with exact gradients and with cheaper ones, several seeds
//! each ([`design`]). Runs are trained one at a time with all threads; each that is finished has a file, and
//! what has a file is not trained again. `--circuits` prunes the models, `--report` makes tables and drawings of
//! the files.

mod cell;
mod circuits;
mod design;
mod report;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cell::{Data, Outcome, Study};
use clap::Parser;
use design::{Anneal, Cell, STEPS};
use openwork_benches::{Machine, Mode, exit, latest_folder, repository, stats::median, today, use_threads};

#[derive(Parser)]
#[command(bin_name = "cargo xtask bench quality", about = "Validation loss of the training modes, over seeds")]
struct Args {
    /// Folder with train/ and validation/ token shards of a vocabulary of at most 2048
    #[arg(long, required_unless_present_any = ["report", "list"])]
    data: Option<PathBuf>,
    /// Folder of the finished runs [default: the latest benches/runs/*-DEVICE/quality, else today's]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Start no run that would not be finished after so many hours
    #[arg(long)]
    hours: Option<f64>,
    /// Threads [default: all cores]
    #[arg(long)]
    threads: Option<usize>,
    /// Steps of a run; another number than usual is another study
    #[arg(long, default_value_t = STEPS)]
    steps: u64,
    /// When the runs are done, bring docs/quality.md and docs/quality/*.svg up to date
    #[arg(long)]
    save: bool,
    /// Train nothing, only find circuits of the models of finished runs; needs --data, too
    #[arg(long, value_name = "TOKENIZER.json", requires = "data", conflicts_with_all = ["report", "list"])]
    circuits: Option<PathBuf>,
    /// Train nothing, only bring docs/quality.md and docs/quality/*.svg up to date
    #[arg(long)]
    report: bool,
    /// Train nothing, only list the runs
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    exit(run(Args::parse()))
}

fn run(args: Args) -> Result<()> {
    let machine = Machine::here();
    let threads = args.threads.unwrap_or(machine.cores);
    ensure!(threads > 0, "--threads is 0; right would be 1 to {}", machine.cores);
    ensure!(args.steps > 0, "--steps is 0; right would be {STEPS}");
    ensure!(args.hours.is_none_or(|hours| hours > 0.0), "--hours must be positive");
    let device = machine.device();
    // The latest folder and not today's: a study may go on after midnight.
    let latest = || latest_folder(&device, "quality").map(|folder| folder.join("quality"));
    let today = || repository().join(format!("benches/runs/{}-{device}/quality", today()));
    let out = args.out.clone().unwrap_or_else(|| latest().unwrap_or_else(today));
    if args.list {
        design::cells().iter().for_each(|cell| println!("{}", cell.name()));
        design::left_out().iter().for_each(|text| println!("left out: {text}"));
        return Ok(());
    }
    if !args.report {
        use_threads(threads)?;
        let folder = args.data.as_ref().context("--data is missing")?;
        let study = Study { data: Data::open(folder)?, out: out.clone(), device, threads };
        match args.circuits {
            Some(tokenizer) => circuits::find(&study, &tokenizer, &report::read(&out)?)?,
            None => train(&study, args.steps, args.hours)?,
        }
    }
    match args.report || args.save {
        true => report::write(&out, &repository().join("docs")),
        false => Ok(()),
    }
}

/// Trains what is not finished yet.
fn train(study: &Study, steps: u64, hours: Option<f64>) -> Result<()> {
    println!("runs in {}", study.out.display());
    let started = Instant::now();
    let (mut outcomes, mut longest) = (Vec::new(), Duration::ZERO);
    let cells = design::cells();
    for (number, cell) in cells.iter().enumerate() {
        let name = format!("{}/{} {}", number + 1, cells.len(), cell.name());
        let Some(steps) = length(cell, steps, &outcomes) else {
            println!("{name} skipped: the runs that its length comes from are not all there");
            continue;
        };
        if let Some(outcome) = study.finished(cell, steps)? {
            println!("{name} was finished before");
            outcomes.push(outcome);
            continue;
        }
        if hours.is_some_and(|hours| (started.elapsed() + longest).as_secs_f64() > hours * 3600.0) {
            println!("{name} and what follows left for another time (--hours)");
            break;
        }
        println!("{name}");
        let begun = Instant::now();
        outcomes.push(study.train(cell, steps)?);
        longest = longest.max(begun.elapsed());
    }
    Ok(())
}

/// Steps of a cell: the usual number, or as many as take the time of exact gradients, going by the median
/// speeds of the runs with linear anneal at the same density, which must all be there.
fn length(cell: &Cell, steps: u64, outcomes: &[Outcome]) -> Option<u64> {
    if !cell.equal_time {
        return Some(steps);
    }
    let speed = |mode: Mode| {
        let runs = design::SEEDS.map(|seed| Cell { mode, seed, anneal: Anneal::Linear, equal_time: false, ..*cell });
        let speeds = runs.iter().map(|run| outcomes.iter().find(|outcome| outcome.is(run))?.speed());
        speeds.collect::<Option<Vec<f64>>>().map(|speeds| median(&speeds))
    };
    Some((steps as f64 * speed(cell.mode)? / speed(Mode::Exact)?).round() as u64)
}
