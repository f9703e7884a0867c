//! `openwork train`: a run of a recipe, with progress, interruption and resume.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use openwork_ops::DeviceChoice;
use openwork_project::{TrainingRun, find_recipe};
use openwork_train::Stopped;

use crate::ui::{
    args::{open_device, open_tokenizer},
    interrupt,
    ranges::between,
    training,
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// A recipe file, or the name of a shipped recipe: quickstart, python-small, python-1x, gao-4x
    recipe: PathBuf,
    /// Folder with train/ and validation/ shards, as `openwork data` writes it
    #[arg(long)]
    data: PathBuf,
    /// The tokenizer.json that made the data
    #[arg(long)]
    tokenizer: PathBuf,
    /// Folder of the run: recipe, log, checkpoint, tokenizer, and in the end model.safetensors
    #[arg(long)]
    out: PathBuf,
    /// Go on from the last checkpoint in the folder
    #[arg(long)]
    resume: bool,
    /// Threads; the result does not depend on their number [default: all]
    #[arg(long, value_parser = between::<usize>(1, 4096))]
    threads: Option<usize>,
    /// Device to train on: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices` lists them)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    use_threads(args.threads)?;
    let device = open_device(args.device)?;
    let recipe = find_recipe(&args.recipe)?;
    let tokenizer = open_tokenizer(&args.tokenizer, "--generated")?;
    let run = TrainingRun::open(recipe, &args.data, &tokenizer, &args.out, args.resume, device)?;
    match training::show(run)? {
        Stopped::Finished => Ok(ExitCode::SUCCESS),
        Stopped::Interrupted { step } => {
            eprintln!(
                "interrupted after step {step}; a checkpoint is written. To go on:\n  \
                 openwork train {} --data {} --tokenizer {} --out {} --resume",
                args.recipe.display(),
                args.data.display(),
                args.tokenizer.display(),
                args.out.display()
            );
            Ok(ExitCode::from(interrupt::INTERRUPTED))
        }
    }
}

/// Sets the number of threads of everything that runs in parallel.
fn use_threads(threads: Option<usize>) -> Result<()> {
    let Some(threads) = threads else { return Ok(()) };
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("cannot start the threads")
}
