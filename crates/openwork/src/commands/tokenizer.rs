//! `openwork tokenizer`: train one, or import the published vocabulary.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{ArgGroup, Subcommand};
use openwork_data::{CorpusOptions, Documents, PUBLISHED_VOCAB_SIZE, Tokenizer};

use crate::ui::{
    args::check_outputs,
    ranges::{between, seed},
    show::{count, say},
};

/// The commands of the group.
#[derive(Subcommand)]
pub enum Command {
    /// Train a byte-level BPE tokenizer on files or on generated programs
    #[command(group(ArgGroup::new("source").required(true).args(["from", "generated"])))]
    Train {
        /// The tokenizer.json to write
        #[arg(long)]
        out: PathBuf,
        /// Folders, .py files and JSONL files (plain, .gz or .zst) to train on
        #[arg(long, num_args = 1..)]
        from: Vec<PathBuf>,
        /// Train on generated programs
        #[arg(long)]
        generated: bool,
        /// Seed of the generated programs
        #[arg(long, default_value_t = 0, requires = "generated", value_parser = seed)]
        seed: u64,
        /// Megabytes of generated programs
        #[arg(long, default_value_t = 8, requires = "generated", value_parser = between::<u64>(1, 1 << 20))]
        megabytes: u64,
        /// Number of tokens, <|endoftext|> included
        #[arg(long, default_value_t = PUBLISHED_VOCAB_SIZE, value_parser = between::<usize>(257, 1 << 16))]
        vocab_size: usize,
    },
    /// Import the published vocabulary (vocab.bpe and encoder.json)
    Import {
        /// The merges
        vocab_bpe: PathBuf,
        /// The ids
        encoder_json: PathBuf,
        /// The tokenizer.json to write
        #[arg(long)]
        out: PathBuf,
    },
}

/// Runs a command of the group.
pub fn run(command: Command) -> Result<ExitCode> {
    let (Command::Train { out, .. } | Command::Import { out, .. }) = &command;
    check_outputs([out.as_path()])?;
    let (tokenizer, out) = match command {
        Command::Train { out, from, generated, seed, megabytes, vocab_size } => {
            let tokenizer = match generated {
                true => Tokenizer::train_on_programs(seed, megabytes * 1_000_000, vocab_size)?,
                false => {
                    let documents = Documents::open(&CorpusOptions::new(from))?;
                    Tokenizer::train(documents.map(|document| document.text), vocab_size)?
                }
            };
            (tokenizer, out)
        }
        Command::Import { vocab_bpe, encoder_json, out } => {
            (Tokenizer::import_published(&vocab_bpe, &encoder_json)?, out)
        }
    };
    tokenizer.save(&out)?;
    say!("{}: {} tokens, sha256 {}", out.display(), count(tokenizer.vocab_size() as u64), tokenizer.sha256());
    Ok(ExitCode::SUCCESS)
}
