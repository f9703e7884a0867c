//! `openwork tokenizer`: train one, or import the published vocabulary.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Result, ensure};
use clap::{ArgGroup, Subcommand, ValueEnum};
use openwork_data::{Imported, PUBLISHED_VOCAB_SIZE, SplitRule, Tokenizer, corpus};
use openwork_project::{OutputKind, check_free, check_outputs};

use crate::ui::{
    ranges::{between, seed},
    show::{count, say},
    sources::{DocumentArgs, show_left_out},
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
        /// Replace a tokenizer that is there
        #[arg(long)]
        force: bool,
        /// Folders, files and pipes (- is standard input) to train on: text, or rows of JSON, plain, .gz or .zst
        #[arg(long, num_args = 1..)]
        from: Vec<PathBuf>,
        #[command(flatten)]
        documents: DocumentArgs,
        /// Train on generated programs
        #[arg(long)]
        generated: bool,
        /// Seed of the generated programs
        #[arg(long, default_value_t = 0, requires = "generated", conflicts_with = "from", value_parser = seed)]
        seed: u64,
        /// Megabytes of generated programs
        #[arg(long, default_value_t = 8, requires = "generated", conflicts_with = "from", value_parser = between::<u64>(1, 1 << 20))]
        megabytes: u64,
        /// Number of tokens, <|endoftext|> included
        #[arg(long, default_value_t = PUBLISHED_VOCAB_SIZE, value_parser = between::<usize>(257, 1 << 16))]
        vocab_size: usize,
    },
    /// Import a vocabulary in the format of GPT-2, such as the published one (vocab.bpe and encoder.json)
    Import {
        /// The merges: vocab.bpe, or merges.txt
        vocab_bpe: PathBuf,
        /// The ids: encoder.json, or vocab.json
        encoder_json: PathBuf,
        /// Rule that splits texts before merges: that of the published models, or of GPT-2
        /// [default: the one that leaves more of the vocabulary's tokens in one piece]
        #[arg(long, value_enum)]
        split: Option<Split>,
        /// The tokenizer.json to write
        #[arg(long)]
        out: PathBuf,
        /// Replace a tokenizer that is there
        #[arg(long)]
        force: bool,
    },
}

/// Rules that split texts.
#[derive(Clone, Copy, ValueEnum)]
pub enum Split {
    /// That of the published models
    #[value(name = "tinypython")]
    TinyPython,
    /// That of GPT-2
    Gpt2,
}

/// Runs a command of the group.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Train { out, force, from, documents, generated, seed, megabytes, vocab_size } => {
            let inputs: Vec<&Path> = from.iter().map(PathBuf::as_path).collect();
            check_outputs(&[(OutputKind::Tokenizer, &out)], &inputs)?;
            check_free(&out, force)?;
            ensure!(!generated || !documents.is_given(), "{}", DocumentArgs::UNUSED);
            let (tokenizer, left_out) = match generated {
                true => (Tokenizer::train_on_programs(seed, megabytes * 1_000_000, vocab_size)?, Default::default()),
                false => corpus::train_tokenizer(&documents.sources(from), vocab_size)?,
            };
            tokenizer.save(&out)?;
            say!("{}", described(&tokenizer, &out));
            show_left_out(&left_out)?;
        }
        Command::Import { vocab_bpe, encoder_json, split, out, force } => {
            check_outputs(&[(OutputKind::Tokenizer, &out)], &[&vocab_bpe, &encoder_json])?;
            check_free(&out, force)?;
            let split = split.map(|split| match split {
                Split::TinyPython => SplitRule::TinyPython,
                Split::Gpt2 => SplitRule::Gpt2,
            });
            let imported = Tokenizer::import_published(&vocab_bpe, &encoder_json, split)?;
            let Imported { tokenizer, split, whole: (whole, all) } = imported;
            tokenizer.save(&out)?;
            say!("{}", described(&tokenizer, &out));
            say!(
                "texts are split as by {split}, which leaves {} of {} tokens in one piece",
                count(whole as u64),
                count(all as u64)
            );
        }
    };
    Ok(ExitCode::SUCCESS)
}

fn described(tokenizer: &Tokenizer, path: &Path) -> String {
    format!("{}: {} tokens, sha256 {}", path.display(), count(tokenizer.vocab_size() as u64), tokenizer.sha256())
}
