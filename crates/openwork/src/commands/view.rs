//! `openwork view` and `openwork import-viz`: models, circuits and runs in a browser.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use openwork_project::DEFAULT_MODEL;
use openwork_view::View;

use crate::ui::page::PageArgs;

/// Text that `--help` adds.
const NOTES: &str = "\
The page is served on 127.0.0.1 alone, under an address with a random token, until Ctrl-C. docs/viewer.md shows
it. --export writes the page as one file that needs no server, with the answers to what it can ask.";

/// Arguments of `openwork view`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct Args {
    /// Models, runs or circuit files [default: quickstart-localised, which comes with the program]
    targets: Vec<PathBuf>,
    #[command(flatten)]
    page: PageArgs,
}

/// Arguments of `openwork import-viz`.
#[derive(clap::Args)]
#[command(after_help = NOTES)]
pub struct VizArgs {
    /// The published viz_data.pt of a circuit
    file: PathBuf,
    /// Tokenizer of its model, without which tokens are shown by their ids
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    page: PageArgs,
}

/// Runs `openwork view`.
pub fn run(mut args: Args) -> Result<ExitCode> {
    if args.targets.is_empty() {
        args.targets.push(DEFAULT_MODEL.into());
    }
    let inputs: Vec<&Path> = args.targets.iter().map(PathBuf::as_path).collect();
    args.page.check(&inputs)?;
    args.page.show(&View::open(&args.targets)?)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `openwork import-viz`.
pub fn import_viz(args: VizArgs) -> Result<ExitCode> {
    args.page.check(&[&args.file])?;
    args.page.show(&View::of_published(&args.file, args.tokenizer.as_deref())?)?;
    Ok(ExitCode::SUCCESS)
}
