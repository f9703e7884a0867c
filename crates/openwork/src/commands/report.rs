//! `openwork report`: a page on a model and its circuits.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_project::ModelReport;

use crate::{
    page,
    ui::{args::open_project, show::say},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// Folder of a finished run
    run: PathBuf,
    /// The HTML file to write [default: report.html in the run's folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Data the model was trained on; needed once if the run has no sample of it
    #[arg(long)]
    data: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let project = open_project(&args.run, None, args.data.as_deref())?;
    let out = args.out.unwrap_or_else(|| args.run.join("report.html"));
    let report = ModelReport::new(&project)?;
    for circuit in &report.unjudged {
        say!("{}: {}", circuit.path.display(), circuit.words());
    }
    page::Page::of_model(report, &project.dir)?.write(&out)?;
    say!("{}", out.display());
    Ok(ExitCode::SUCCESS)
}
