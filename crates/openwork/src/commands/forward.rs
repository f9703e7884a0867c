//! `openwork forward`: one forward (and backward) pass over given tokens, written under published names.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::Result;
use openwork_model::Ties;
use openwork_project::{TokenBatch, TokenFileError, named_pass};

use crate::ui::{
    args::{check_outputs, open_model},
    show::{count, say},
};

/// Text that `--help` adds.
const NAMES: &str = "\
Written are
  logits          [batch, time, vocab]
  loss            [1], the mean cross-entropy in nats, where FILE has `targets`
  act.HOOK        [batch, time, features], as values pass the hooks of the published code
  grad.PARAMETER  of the loss, for trained parameters under their published names

Where AbsTopK meets equal magnitudes this command chooses as PyTorch does, so that gradients agree
with the original implementation. All other commands choose by index.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = NAMES)]
pub struct Args {
    /// A model file, a finished run's folder or a published folder
    model: PathBuf,
    /// A safetensors file with `tokens` (and `targets`), [batch, time], I64, I32 or U16
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// The safetensors file to write
    #[arg(long)]
    out: PathBuf,
    /// Also write activations
    #[arg(long)]
    activations: bool,
    /// Also write gradients of the loss against `targets`
    #[arg(long)]
    gradients: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    check_outputs([args.out.as_path()])?;
    let mut model = open_model(&args.model)?.model;
    model.ties = Ties::AsPyTorch;
    let batch = TokenBatch::read(&args.tokens, &model)?;
    if args.gradients && !batch.has_targets() {
        return Err(TokenFileError::NoTargets { path: args.tokens }.into());
    }
    let tensors = named_pass(&model, &batch, args.activations, args.gradients)?;
    openwork_tensor::write(&args.out, &tensors, &BTreeMap::new())?;
    say!("{}: {} tensors", args.out.display(), count(tensors.len() as u64));
    Ok(ExitCode::SUCCESS)
}
