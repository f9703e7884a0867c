//! `openwork prune`: find a circuit.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_circuit::{CircuitFile, Claim};
use openwork_project::{OutputKind, check_outputs, find_circuit};

use crate::ui::{
    args::{SearchArgs, check_folder, describe_annotations, describe_circuit},
    interrupt,
    progress::SearchProgress,
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// The circuit file to write [default: circuits/TASK.json beside the model]
    #[arg(long, conflicts_with = "name")]
    out: Option<PathBuf>,
    /// Name of the circuit: it is written to circuits/NAME.json beside the model
    #[arg(long, value_parser = circuit_name)]
    name: Option<String>,
    /// Claim of the circuit: the model's answer, threshold included, or the contrast, which of the two prompts of a pair gets
    /// which answer; the weaker claim, as every verdict on it says. The search is the same
    #[arg(long, default_value_t = Claim::Answer, value_name = "answer|contrast")]
    claim: Claim,
    /// Replace the circuit that lies there; its verdict, pairs and certificates are removed with it
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    search: SearchArgs,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, project, device) = args.search.open()?;
    let name = args.name.as_deref().unwrap_or(task.name());
    let out = args.out.unwrap_or_else(|| project.circuit_path(name));
    match out.parent().filter(|folder| !folder.as_os_str().is_empty() && !folder.exists()) {
        Some(folder) => check_folder(folder)?,
        None => check_outputs(&[(OutputKind::Circuit, &out)], &[])?,
    }
    match args.force {
        true => project.check_beside(&out)?,
        false => project.check_free(&out)?,
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
    let circuit = CircuitFile { claim: args.claim, ..circuit };
    project.save_circuit(&circuit, &out, args.force)?;
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

/// A name that is one file's, and none of those that lie beside circuits.
fn circuit_name(name: &str) -> Result<String, String> {
    let plain = |c: char| c.is_alphanumeric() || "_-+".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => Ok(name.to_owned()),
        false => Err("a name has letters, digits, _, - and + only".into()),
    }
}
