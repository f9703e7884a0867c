//! `openwork report`: a page on a model and its circuits.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_project::{ModelReport, OutputKind, check_outputs};

use crate::{
    page,
    ui::{args::ProjectArgs, show::say},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// The HTML file to write [default: report.html beside the model]
    #[arg(long)]
    out: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = args.project.open()?;
    let out = args.out.unwrap_or_else(|| project.dir.join("report.html"));
    check_outputs(&[(OutputKind::Page, &out)], &[])?;
    let report = ModelReport::new(&project)?;
    for circuit in &report.unjudged {
        say!("{}: {}", circuit.path.display(), circuit.words());
    }
    page::Page::of_model(report, &project.dir)?.write(&out)?;
    say!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
