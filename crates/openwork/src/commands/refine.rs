//! `openwork refine`: a circuit less the edges and nodes that it does not need.

use std::{ops::ControlFlow, path::PathBuf, process::ExitCode};

use anyhow::{Result, bail};
use openwork_circuit::{Hold, LearnedMasks};
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
    /// Method: greedy tries every edge, those of least gradient first; learned has masks over the edges, learned by gradient descent, choose
    /// before, and then does the same
    #[arg(long, value_enum, default_value_t = MethodName::Greedy)]
    method: MethodName,
    /// Optimizer steps of --method learned [default: 300]
    #[arg(long, value_parser = between::<usize>(1, 1 << 20))]
    steps: Option<usize>,
    /// Price of an edge in nats, for --method learned [default: 0.001]
    #[arg(long, value_parser = between(0.0, 1.0))]
    k_coef: Option<f64>,
    /// Replace the circuit that lies there; its verdict, pairs and certificates are removed with it
    #[arg(long)]
    force: bool,
}

/// Method of a refinement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum MethodName {
    /// Edge by edge, those of least gradient first
    Greedy,
    /// Masks over edges, learned by gradient descent, then edge by edge
    Learned,
}

impl Args {
    /// Settings of masks over edges, where they are asked for.
    fn edge_masks(&self) -> Result<Option<LearnedMasks>> {
        if self.method == MethodName::Greedy {
            let given = [(self.steps.is_some(), "--steps"), (self.k_coef.is_some(), "--k-coef")];
            if let Some((_, option)) = given.into_iter().find(|(given, _)| *given) {
                bail!("{option} is an option of --method learned: leave it out or say --method learned");
            }
            return Ok(None);
        }
        let default = LearnedMasks { restarts: 1, steps: 300, ..LearnedMasks::default() };
        let (steps, k_coef) = (self.steps.unwrap_or(default.steps), self.k_coef.unwrap_or(default.k_coef));
        Ok(Some(LearnedMasks { steps, k_coef, ..default }))
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let edge_masks = args.edge_masks()?;
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
    let refined = refine_circuit(&project, &circuit, hold, edge_masks.as_ref(), &mut |edges| {
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
