//! `openwork import` and `openwork export`: to and from the published format.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use openwork_model::WITH_NOT_FINITE;
use openwork_project::{OpenModel, OutputKind, TRAINED_CONTEXT_KEY, check_free, check_outputs};

use crate::ui::{
    args::{check_folder, open_model},
    ranges::at_least,
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
    /// Tokens of the sequences that the model was trained on, which ablation means need (256 for the published models); its
    /// block_size is only the most that it takes
    #[arg(long, value_parser = at_least::<usize>(2))]
    trained_context: Option<usize>,
    /// Replace a model file that is there
    #[arg(long)]
    force: bool,
    /// Take weights that are NaN or infinite; refused otherwise
    #[arg(long)]
    allow_not_finite: bool,
}

/// Arguments of `openwork export`.
#[derive(clap::Args)]
pub struct ExportArgs {
    /// A model file or a finished run's folder
    model: PathBuf,
    /// Folder to make: beeg_config.json and final_model.pt, which the original's load_model reads
    #[arg(long)]
    out: PathBuf,
}

/// Runs `openwork import`.
pub fn import(args: ImportArgs) -> Result<ExitCode> {
    check_outputs(&[(OutputKind::Model, &args.out)], &[])?;
    check_free(&args.out, args.force)?;
    let OpenModel { model, notices, .. } = OpenModel::import(&args.dir, args.allow_not_finite)?;
    notices.iter().for_each(|notice| eprintln!("note: {notice}"));
    let n_ctx = model.config.n_ctx;
    let mut metadata = BTreeMap::new();
    if let Some(context) = args.trained_context {
        ensure!(context <= n_ctx, "--trained-context is {context}, and the model takes at most {n_ctx} tokens");
        metadata.insert(TRAINED_CONTEXT_KEY.to_owned(), context.to_string());
    } else {
        eprintln!(
            "note: the length of its training sequences is not recorded (--trained-context records it); prune will ask for it"
        );
    }
    if args.allow_not_finite {
        let (key, value) = WITH_NOT_FINITE;
        metadata.insert(key.to_owned(), value.to_owned());
    }
    model.save(&args.out, &metadata)?;
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
    check_folder(&args.out)?;
    open.model.export(&args.out)?;
    if open.tokenizer_sha256.is_some() {
        eprintln!(
            "note: the published format has no place for the tokenizer; keep {}",
            open.dir.join("tokenizer.json").display()
        );
    }
    if open.model.config.sink {
        eprintln!("note: the original leaves attention sinks out unless asked: load_model(.., flash=True)");
    }
    say!("{out}: beeg_config.json, final_model.pt");
    Ok(ExitCode::SUCCESS)
}
