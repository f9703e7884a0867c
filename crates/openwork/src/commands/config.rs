//! `openwork config`: the configuration of a model.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::ui::{
    args::open_model,
    show::{count, say},
};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// A model file, a finished run's folder or a published folder
    model: PathBuf,
    /// Print the configuration alone, as published JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let open = open_model(&args.model)?;
    let config = open.model.config.to_published();
    if args.json {
        say!("{config}");
        return Ok(ExitCode::SUCCESS);
    }
    let unknown = || "not recorded".to_owned();
    let nonzero: usize = open.model.params.values().iter().map(|w| w.nnz()).sum();
    say!("model             {}", open.sha256);
    say!("tokenizer         {}", open.tokenizer_sha256.unwrap_or_else(unknown));
    say!("trained context   {}", open.trained_context.map_or_else(unknown, |n| format!("sequences of {n} tokens")));
    let parameters = u64::try_from(open.model.config.n_parameters()).unwrap_or(u64::MAX);
    say!("parameters        {}, {} of them nonzero", count(parameters), count(nonzero as u64));
    say!("configuration     {config}");
    Ok(ExitCode::SUCCESS)
}
