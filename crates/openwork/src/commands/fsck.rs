//! `openwork fsck`: compare the files of a run or a corpus with what they record of each other.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Result, ensure};
use openwork_project::{Finding, State, fsck};

use crate::ui::show::say;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a run, of a corpus, or one that holds them
    run: PathBuf,
}

/// Runs the command. Exit code 0: no file is damaged or missing; 1: one is.
pub fn run(args: Args) -> Result<ExitCode> {
    let mut damaged = false;
    let findings = fsck(&args.run)?;
    let told = |finding: &Finding| !matches!(finding.state, State::Unknown { .. });
    ensure!(
        findings.iter().any(told),
        "{} holds no run, no corpus and no folder of one: there is nothing to compare",
        args.run.display()
    );
    for Finding { path, state } in findings {
        let path = path.display();
        match state {
            State::Whole => say!("ok       {path}"),
            State::Unknown { reason } => say!("unknown  {path}: {reason}"),
            State::Damaged { reason } => {
                damaged = true;
                // A damaged text may hold anything.
                let reason = reason.replace(|c: char| c.is_control() && c != '\n', "?");
                say!("damaged  {path}: {reason}");
            }
            State::Missing => {
                damaged = true;
                say!("missing  {path}");
            }
        }
    }
    Ok(ExitCode::from(u8::from(damaged)))
}
