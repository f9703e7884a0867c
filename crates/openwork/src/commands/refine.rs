//! `openwork refine`: a circuit less the edges and nodes that it does not need.

use std::{ops::ControlFlow, path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_circuit::Hold;
use openwork_project::{OutputKind, check_outputs, refine_circuit};

use crate::ui::{
    args::{ProjectArgs, describe_circuit, describe_parameters, note_if_empty},
    interrupt,
    progress::Progress,
    ranges::{between, up_to},
    show::say,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    project: ProjectArgs,
    /// The circuit file
    circuit: PathBuf,
    /// The circuit file to write
    #[arg(long)]
    out: PathBuf,
    /// Loss that holds, in nats per sequence [default: the circuit's own target]
    #[arg(long, value_parser = up_to(1.0), conflicts_with = "agreement")]
    target_loss: Option<f64>,
    /// Share of answers that hold as the model's, in place of the loss
    #[arg(long, value_parser = between(0.5, 1.0))]
    agreement: Option<f64>,
    /// Replace the circuit that lies there; its verdict, pairs and certificates are removed with it
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    check_outputs(&[(OutputKind::Circuit, &args.out)], &[&args.circuit])?;
    let project = args.project.open()?;
    match args.force {
        true => project.check_beside(&args.out)?,
        false => project.check_free(&args.out)?,
    }
    let circuit = project.circuit(&args.circuit)?;
    interrupt::listen()?;
    let loss = args.target_loss.unwrap_or(circuit.target_loss);
    let hold = args.agreement.map_or(Hold::Loss(loss), Hold::Agreement);
    let progress = Progress::new(None, 0);
    let mut tried = 0;
    let refined = refine_circuit(&project, &circuit, hold, &mut |edges| {
        tried += 1;
        progress.update(tried, || format!("{}: {edges} edges", circuit.task));
        if interrupt::requested() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    drop(progress);
    let Some(refined) = refined else {
        eprintln!("interrupted: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    project.save_circuit(&refined, &args.out, args.force)?;
    note_if_empty(&refined);
    for circuit in [&circuit, &refined] {
        say!("{}\n  {}", describe_circuit(circuit), describe_parameters(&circuit.circuit, &project.model));
    }
    say!("{}", args.out.display());
    Ok(ExitCode::SUCCESS)
}
