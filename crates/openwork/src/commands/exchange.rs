//! `openwork import` and `openwork export`: to and from the published format.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use openwork_project::OpenModel;

use crate::ui::{
    args::open_model,
    show::{count, say},
};

/// Arguments of `openwork import`.
#[derive(clap::Args)]
pub struct ImportArgs {
    /// Folder with beeg_config.json and final_model.pt (or final_model.safetensors)
    dir: PathBuf,
    /// The model file to write
    #[arg(long)]
    out: PathBuf,
}

/// Arguments of `openwork export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// A model file or a finished run's folder
    model: PathBuf,
    /// Folder to make: beeg_config.json and final_model.safetensors, which the original code loads
    #[arg(long)]
    out: PathBuf,
}

/// Runs `openwork import`.
pub fn import(args: ImportArgs) -> Result<ExitCode> {
    let OpenModel { model, notices, .. } = OpenModel::import(&args.dir)?;
    notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    model.save(&args.out, &BTreeMap::new())?;
    let values = model.params.values();
    let (all, nonzero) = values.iter().fold((0, 0), |(all, nonzero), weight| {
        let weight = weight.dense();
        (all + weight.len(), nonzero + weight.iter().filter(|&&x| x != 0.0).count())
    });
    say!("{}: {} parameters, {} of them nonzero", args.out.display(), count(all as u64), count(nonzero as u64));
    Ok(ExitCode::SUCCESS)
}

/// Runs `openwork export`.
pub fn export(args: ExportArgs) -> Result<ExitCode> {
    let open = open_model(&args.model)?;
    let out = args.out.display();
    if args.out.exists() {
        let mut entries = std::fs::read_dir(&args.out).with_context(|| format!("{out} is not a folder"))?;
        ensure!(entries.next().is_none(), "{out} exists and is not empty; choose another folder");
    }
    open.model.export(&args.out)?;
    if open.tokenizer_sha256.is_some() {
        eprintln!(
            "note: the published format has no place for the tokenizer; keep {}",
            open.dir.join("tokenizer.json").display()
        );
    }
    say!("{out}: beeg_config.json, final_model.safetensors");
    Ok(ExitCode::SUCCESS)
}
