//! `openwork data`: token shards from generated programs or from files.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::Subcommand;
use openwork_data::{
    CorpusOptions, CorpusReport, GeneratedOptions,
    corpus::{self, Skipped},
};

use crate::ui::{
    args::open_tokenizer,
    progress::Progress,
    ranges::{between, fraction, positive, seed},
    show::{count, say, table},
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
        /// Replace the folder if it exists
        #[arg(long)]
        replace: bool,
    },
    /// Write real code as token shards
    Build {
        /// Folders, .py files and JSONL files with a field `text` (plain, .gz or .zst)
        #[arg(long, num_args = 1.., required = true)]
        from: Vec<PathBuf>,
        /// Folder for the shards (train/ and validation/)
        #[arg(long)]
        out: PathBuf,
        /// The tokenizer.json
        #[arg(long)]
        tokenizer: PathBuf,
        /// Longer documents are left out
        #[arg(long, default_value_t = 1 << 20, value_parser = positive::<u64>())]
        max_file_bytes: u64,
        /// Part of the documents that is only validated on; chosen by a hash of the content
        #[arg(long, default_value_t = 0.01, value_parser = fraction::<f64>())]
        validation_fraction: f64,
        /// Replace the folder if it exists
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
        Command::Build { from, out, tokenizer, max_file_bytes, validation_fraction, replace } => {
            let paths = from.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(" ");
            let tokenizer = open_tokenizer(&tokenizer, &format!("--from {paths}"))?;
            let options = CorpusOptions { max_file_bytes, validation_fraction, replace, ..CorpusOptions::new(from) };
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
    let rows = reasons(&report.skipped);
    if !rows.is_empty() {
        say!();
        table(["left out", "documents"], &rows)?;
    }
    for (what, first) in [
        ("could not be read", &report.skipped.first_unreadable),
        ("is no JSON object with a text in the field `text`", &report.skipped.first_bad_json_line),
    ] {
        if let Some(first) = first {
            eprintln!("note: the first that {what}: {first}");
        }
    }
    Ok(())
}

/// The reasons that occurred, with their counts.
fn reasons(skipped: &Skipped) -> Vec<[String; 2]> {
    [
        ("other kinds of files", skipped.other_files),
        ("binary", skipped.binary),
        ("not UTF-8", skipped.invalid_utf8),
        ("too large", skipped.too_large),
        ("empty", skipped.empty),
        ("duplicates", skipped.duplicates),
        ("unreadable", skipped.unreadable),
        ("bad JSON lines", skipped.bad_json_lines),
    ]
    .into_iter()
    .filter(|&(_, n)| n > 0)
    .map(|(reason, n)| [reason.to_owned(), count(n)])
    .collect()
}
