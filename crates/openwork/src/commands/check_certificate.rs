//! `openwork check-certificate`: re-derive what a certificate claims.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_check::Rejected;

use openwork_project::model_file;

use crate::ui::show::say;

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Certificate that `openwork verify` wrote
    certificate: PathBuf,
    /// Model file or folder of a finished run
    model: PathBuf,
}

/// Runs the command: exit code 0 if everything claimed is so, 1 with the reason if not.
pub fn run(args: Args) -> Result<ExitCode> {
    match openwork_check::check(&args.certificate, model_file(&args.model)?) {
        Ok(checked) => {
            say!("accepted: {}", checked.statement);
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ Rejected::Unreadable { .. }) => Err(error.into()),
        Err(rejected) => {
            say!("rejected: {rejected}");
            Ok(ExitCode::FAILURE)
        }
    }
}
