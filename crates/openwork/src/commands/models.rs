//! `openwork models`: the models that come with the program, and what is known of their circuits.

use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use openwork_ops::Weight;
use openwork_project::{MODELS_VARIABLE, OpenModel, models_folder, shipped_models};

use crate::ui::{
    args::say_verdicts,
    show::{count, say},
};

/// Text that `--help` adds.
const NAMES: &str = "\
Every command takes such a name where it takes a model: openwork verify NAME CIRCUIT, openwork report NAME.
A file or folder of that name is taken first. OPENWORK_MODELS names another folder of models.";

/// Arguments of the command.
#[derive(clap::Args)]
#[command(after_help = NAMES)]
pub struct Args {}

/// Runs the command.
pub fn run(Args {}: Args) -> Result<ExitCode> {
    let folder = models_folder();
    let listed = || format!("cannot list {}", folder.display());
    let names = shipped_models(&folder).with_context(listed)?;
    ensure!(!names.is_empty(), "there are no models in {}; {MODELS_VARIABLE} names another folder", folder.display());
    for name in names {
        let dir = folder.join(&name);
        let open = OpenModel::open(&dir)?;
        let config = &open.model.config;
        let nonzero = |weight: &Weight| weight.dense().iter().filter(|&&x| x != 0.0).count();
        let params = &open.model.params;
        let table = params.bigram.as_ref();
        let all: usize = params.values().into_iter().map(nonzero).sum();
        say!(
            "{name}: {} layers, {} channels, {} nonzero weights{}; {}",
            config.n_layer,
            config.d_model,
            count((all - table.map_or(0, nonzero)) as u64),
            if table.is_some() { " and a bigram table" } else { "" },
            dir.display()
        );
        say_verdicts(&dir)?;
    }
    Ok(ExitCode::SUCCESS)
}
