//! `openwork plot`: the curves of a training run, from its log.

use std::{io::Write, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use openwork_project::{DRAWING_MARK, OutputKind, check_outputs, read_log};

use crate::{page, ui::show::say};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run
    run: PathBuf,
    /// The SVG file to write [default: curves.svg in the run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let out = args.out.unwrap_or_else(|| args.run.join("curves.svg"));
    if args.run.is_dir() {
        check_outputs(&[(OutputKind::Drawing, &out)], &[])?;
    }
    let log = read_log(&args.run)?;
    ensure!(!log.steps.is_empty(), "the log in {} has no steps yet", args.run.display());
    if log.cut {
        eprintln!("note: the last line of the log is incomplete and is left out");
    }
    let title = format!("Training of {}, {} steps", args.run.display(), log.steps.len());
    // By its mark the next one knows that it may replace it.
    let head = format!(">{DRAWING_MARK}<title>{}</title>", page::escape(&title));
    let svg = page::training_curves(&log.steps)?.replacen('>', &head, 1);
    openwork_tensor::write_atomic(&out, |w| w.write_all(svg.as_bytes()))
        .with_context(|| format!("cannot write {}", out.display()))?;
    say!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
