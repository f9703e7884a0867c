//! `openwork prune`: find a circuit.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use openwork_project::find_circuit;

use crate::ui::{
    args::{SearchArgs, check_folder, check_outputs, describe_annotations, describe_circuit},
    interrupt,
    progress::SearchProgress,
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// The circuit file to write [default: circuits/TASK.json beside the model]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, project, device) = args.search.open()?;
    let out = args.out.unwrap_or_else(|| project.circuit_path(task.name()));
    check_folder(out.parent().unwrap_or(Path::new("")))?;
    if out.parent().is_some_and(Path::exists) {
        check_outputs([out.as_path()])?;
    }
    let settings = args.search.settings();
    let splits = project.splits(task, settings.seed)?;
    let progress = SearchProgress::default();
    let found = find_circuit(&project, task.name(), &splits, &settings, &device, &mut |p| progress.step(p))?;
    progress.finish();
    let Some(circuit) = found else {
        eprintln!("interrupted before the first search was finished: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    project.save_circuit(&circuit, &out)?;
    say!("{}", describe_circuit(&circuit));
    for line in describe_annotations(&circuit.circuit) {
        say!("{line}");
    }
    say!("{}", out.display());
    if interrupt::requested() {
        eprintln!("interrupted: this is the best of the searches that were finished");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}
