//! `openwork verdict`: a verdict that was written before, as `openwork verify` shows it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_project::VerdictFile;

use crate::ui::{
    args::{ProjectArgs, note_if_stale},
    show::say,
};

/// Text that `--help` adds.
const EXIT_CODES: &str = "\
Exit codes: 0 the verdict was shown, whatever it says; 2 it cannot be read, is of another model's means or tokenizer, or was
edited. `openwork verify` ends with a code for the verdict itself.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// Verdict file, such as run/circuits/for_while.verdict.json
    verdict: PathBuf,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = args.project.open()?;
    let file = VerdictFile::read(&args.verdict)?;
    note_if_stale(&project, &args.verdict, &file);
    say!("{}", file.text());
    Ok(ExitCode::SUCCESS)
}
