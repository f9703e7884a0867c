//! `openwork data`: token shards from generated programs or from files.

use std::{
    io::{BufWriter, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Result;
use clap::Subcommand;
use openwork_data::{CorpusOptions, CorpusReport, GeneratedOptions, Programs, corpus};

use crate::ui::{
    args::open_tokenizer,
    progress::Progress,
    ranges::{between, fraction, seed},
    show::{count, say, table},
    sources::{DocumentArgs, show_left_out},
};

/// The commands of the group.
#[derive(Subcommand)]
pub enum Command {
    /// Generate Python programs from a seed and write them as token shards
    Generate {
        /// Folder for the shards (train/ and validation/)
        #[arg(long)]
        out: PathBuf,
        /// Megabytes of programs
        #[arg(long, default_value_t = 50, value_parser = between::<u64>(1, 1 << 20))]
        megabytes: u64,
        /// Seed of the programs
        #[arg(long, default_value_t = 0, value_parser = seed)]
        seed: u64,
        /// The tokenizer.json
        #[arg(long)]
        tokenizer: PathBuf,
        /// Part of the programs that is only validated on
        #[arg(long, default_value_t = 0.01, value_parser = fraction::<f64>())]
        validation_fraction: f64,
        /// Replace the folder if it holds a corpus; other folders are never replaced
        #[arg(long)]
        replace: bool,
    },
    /// Write generated programs to standard output as rows of JSON, for a corpus of several sources: `.. | openwork data build --from src - ..`
    Programs {
        /// Megabytes of programs
        #[arg(long, default_value_t = 50, value_parser = between::<u64>(1, 1 << 20))]
        megabytes: u64,
        /// Seed of the programs
        #[arg(long, default_value_t = 0, value_parser = seed)]
        seed: u64,
    },
    /// Write real code as token shards
    Build {
        /// Folders, files and pipes (- is standard input): text, or rows of JSON (.jsonl and pipes), plain, .gz or .zst
        #[arg(long, num_args = 1.., required = true)]
        from: Vec<PathBuf>,
        /// Folder for the shards (train/ and validation/), apart from the inputs
        #[arg(long)]
        out: PathBuf,
        /// The tokenizer.json
        #[arg(long)]
        tokenizer: PathBuf,
        #[command(flatten)]
        documents: DocumentArgs,
        /// Part of the documents that is only validated on; chosen by a hash of the content
        #[arg(long, default_value_t = 0.01, value_parser = fraction::<f64>())]
        validation_fraction: f64,
        /// Replace the folder if it holds a corpus; other folders are never replaced
        #[arg(long)]
        replace: bool,
    },
}

/// Runs a command of the group.
pub fn run(command: Command) -> Result<ExitCode> {
    let (report, out) = match command {
        Command::Generate { out, megabytes, seed, tokenizer, validation_fraction, replace } => {
            let tokenizer = open_tokenizer(&tokenizer, "--generated")?;
            let options =
                GeneratedOptions { validation_fraction, replace, ..GeneratedOptions::new(seed, megabytes * 1_000_000) };
            let progress = Progress::new(Some(options.target_bytes), 0);
            (corpus::write_generated(&options, &tokenizer, &out, &|p| progress.documents(p))?, out)
        }
        Command::Programs { megabytes, seed } => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            for text in Programs::of_bytes(seed, megabytes * 1_000_000) {
                writeln!(out, "{}", serde_json::json!({ "text": text }))?;
            }
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Build { from, out, tokenizer, documents, validation_fraction, replace } => {
            let paths = from.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
            let tokenizer = open_tokenizer(&tokenizer, &format!("--from {paths}"))?;
            let sources = documents.sources(from);
            let options = CorpusOptions { validation_fraction, replace, ..CorpusOptions::new(sources) };
            let progress = Progress::new(None, 0);
            let report = corpus::build(&options, &tokenizer, &out, &|p| progress.documents(p))?;
            (report, out)
        }
    };
    say!("{}", out.display());
    print(&report)?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &CorpusReport) -> Result<()> {
    let row = |name: &str, part: &corpus::SplitReport| {
        [name.to_owned(), count(part.documents), count(part.bytes), count(part.tokens)]
    };
    let rows = [row("train", &report.train), row("validation", &report.validation)];
    table(["kept", "documents", "bytes", "tokens"], &rows)?;
    for (half, part) in [("training", &report.train), ("validation", &report.validation)] {
        if part.documents == 0 {
            eprintln!(
                "note: no document went to {half}, and training needs some; another --validation-fraction moves the share"
            );
        }
    }
    show_left_out(&report.left_out)
}
