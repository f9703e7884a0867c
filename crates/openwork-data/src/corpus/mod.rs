//! From documents to token shards: what is kept, how it is split, and a report of both.
//!
//! Documents are kept in the order of their sorted paths, encoded in parallel and written in order, each followed by
//! [`END_OF_TEXT`](crate::END_OF_TEXT). Training and validation are told apart by a hash of the content, so a document
//! stays where it is when others come or go. The folder appears whole or not at all.

mod source;
mod unfinished;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use openwork_tensor::{ShardError, ShardWriter};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::generate::Programs;
use crate::tokenizer::Tokenizer;
pub use source::{Documents, Skipped};
use unfinished::Unfinished;

/// Documents are encoded in batches of about this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// Sources and settings of a corpus from files.
#[derive(Clone, Debug)]
pub struct CorpusOptions {
    /// Folders, `.py` files and JSONL files (plain, `.gz` or `.zst`; the field `text` counts).
    pub from: Vec<PathBuf>,
    /// Longer documents are left out.
    pub max_file_bytes: u64,
    /// Part of the documents that goes to validation, 0 to 1.
    pub validation_fraction: f64,
    /// Decides, together with the content, which documents go to validation.
    pub seed: u64,
    /// Length of a shard.
    pub tokens_per_shard: u64,
    /// True if an existing folder is replaced.
    pub replace: bool,
}

impl CorpusOptions {
    /// The usual options: documents up to 1 MiB, 1 % validation, shards of 2^26 tokens (128 MiB), nothing replaced.
    pub fn new(from: Vec<PathBuf>) -> Self {
        Self {
            from,
            max_file_bytes: 1 << 20,
            validation_fraction: 0.01,
            seed: 0,
            tokens_per_shard: 1 << 26,
            replace: false,
        }
    }
}

/// Settings of a generated corpus.
#[derive(Clone, Debug)]
pub struct GeneratedOptions {
    /// The seed of [`Programs`], and of the split.
    pub seed: u64,
    /// Programs are added until they reach this many bytes.
    pub target_bytes: u64,
    /// Part of the programs that goes to validation, 0 to 1.
    pub validation_fraction: f64,
    /// Length of a shard.
    pub tokens_per_shard: u64,
    /// True if an existing folder is replaced.
    pub replace: bool,
}

impl GeneratedOptions {
    /// The usual options, as in [`CorpusOptions::new`].
    pub fn new(seed: u64, target_bytes: u64) -> Self {
        Self { seed, target_bytes, validation_fraction: 0.01, tokens_per_shard: 1 << 26, replace: false }
    }
}

/// Half of a corpus: training or validation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Trained on.
    Train,
    /// Only measured on.
    Validation,
}

impl Split {
    /// Decided by the content and the seed alone: the first 8 bytes of SHA-256(seed, text), as a fraction of 2^64.
    pub fn of(text: &str, validation_fraction: f64, seed: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(text.as_bytes());
        let digest = hash.finalize();
        let first = digest.iter().take(8).fold(0_u64, |word, &byte| (word << 8) | u64::from(byte));
        if (first as f64) < validation_fraction * 2_f64.powi(64) { Split::Validation } else { Split::Train }
    }
}

/// One document of a corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// The text.
    pub text: String,
    /// Folder that it is written to.
    pub split: Split,
}

/// Progress of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Documents written.
    pub documents: u64,
    /// Their bytes of text.
    pub bytes: u64,
    /// Their tokens, end-of-text included.
    pub tokens: u64,
}

/// Size of one half of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitReport {
    /// Documents.
    pub documents: u64,
    /// Bytes of text.
    pub bytes: u64,
    /// Tokens, end-of-text included.
    pub tokens: u64,
}

/// Contents of a corpus and counts of what was left out; also written to `report.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CorpusReport {
    /// SHA-256 of the tokenizer's file.
    pub tokenizer_sha256: String,
    /// The folder `train`.
    pub train: SplitReport,
    /// The folder `validation`.
    pub validation: SplitReport,
    /// The seed of the generated programs, where there are any.
    pub generated_seed: Option<u64>,
    /// Counts of documents left out.
    pub skipped: Skipped,
}

/// Reason that a corpus could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CorpusError {
    /// A source is not there.
    #[error("there is no {path}", path = path.display())]
    NotFound {
        /// The source.
        path: PathBuf,
    },
    /// The folder to be made is there already.
    #[error("{path} exists already; choose another folder or ask for it to be replaced", path = path.display())]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// The part for validation is not a fraction.
    #[error("a validation fraction of {given} is not between 0 and 1")]
    ValidationFraction {
        /// The fraction given.
        given: f64,
    },
    /// There is not one usable document.
    #[error("no usable document was found ({skipped:?})")]
    NoDocuments {
        /// Counts of documents left out.
        skipped: Box<Skipped>,
    },
    /// A file or folder of the corpus could not be written.
    #[error("cannot write {path}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The token shards could not be written.
    #[error("cannot write the token shards")]
    Shards {
        /// The error.
        #[from]
        source: ShardError,
    },
}

/// Builds `out/train`, `out/validation` and `out/report.json` from files.
///
/// # Errors
/// See [`CorpusError`]; `out` is then as it was.
pub fn build(
    options: &CorpusOptions,
    tokenizer: &Tokenizer,
    out: &Path,
    progress: &dyn Fn(Progress),
) -> Result<CorpusReport, CorpusError> {
    check_fraction(options.validation_fraction)?;
    let folder = Unfinished::start(out, options.replace)?;
    let mut documents = Documents::open(options)?;
    let mut writer = Writer::create(&folder, tokenizer, options.tokens_per_shard, progress)?;
    for document in documents.by_ref() {
        writer.push(document)?;
    }
    writer.report.skipped = documents.skipped().clone();
    let report = writer.finish(&folder)?;
    folder.finish()?;
    Ok(report)
}

/// Builds the same folder from generated programs.
///
/// # Errors
/// See [`CorpusError`]; `out` is then as it was.
pub fn write_generated(
    options: &GeneratedOptions,
    tokenizer: &Tokenizer,
    out: &Path,
    progress: &dyn Fn(Progress),
) -> Result<CorpusReport, CorpusError> {
    check_fraction(options.validation_fraction)?;
    let folder = Unfinished::start(out, options.replace)?;
    let mut writer = Writer::create(&folder, tokenizer, options.tokens_per_shard, progress)?;
    writer.report.generated_seed = Some(options.seed);
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    let mut bytes = 0;
    for text in Programs::new(options.seed) {
        if bytes >= options.target_bytes {
            break;
        }
        if !seen.insert(Sha256::digest(text.as_bytes()).into()) {
            writer.report.skipped.duplicates += 1;
            continue;
        }
        bytes += text.len() as u64;
        let split = Split::of(&text, options.validation_fraction, options.seed);
        writer.push(Document { text, split })?;
    }
    let report = writer.finish(&folder)?;
    folder.finish()?;
    Ok(report)
}

fn check_fraction(given: f64) -> Result<(), CorpusError> {
    if (0.0..=1.0).contains(&given) { Ok(()) } else { Err(CorpusError::ValidationFraction { given }) }
}

/// Encodes documents batch by batch and writes them in order.
struct Writer<'a> {
    tokenizer: &'a Tokenizer,
    progress: &'a dyn Fn(Progress),
    shards: [ShardWriter; 2],
    texts: Vec<String>,
    splits: Vec<Split>,
    batch_bytes: usize,
    report: CorpusReport,
}

impl<'a> Writer<'a> {
    fn create(
        folder: &Unfinished,
        tokenizer: &'a Tokenizer,
        tokens_per_shard: u64,
        progress: &'a dyn Fn(Progress),
    ) -> Result<Self, ShardError> {
        let shards = |name: &str| {
            let dir = folder.path.join(name);
            ShardWriter::create(&dir, tokenizer.sha256(), tokens_per_shard)
        };
        Ok(Self {
            tokenizer,
            progress,
            shards: [shards("train")?, shards("validation")?],
            texts: Vec::new(),
            splits: Vec::new(),
            batch_bytes: 0,
            report: CorpusReport { tokenizer_sha256: tokenizer.sha256().to_owned(), ..CorpusReport::default() },
        })
    }

    fn push(&mut self, document: Document) -> Result<(), ShardError> {
        self.batch_bytes += document.text.len();
        self.texts.push(document.text);
        self.splits.push(document.split);
        if self.batch_bytes >= BATCH_BYTES {
            self.write_batch()?;
        }
        Ok(())
    }

    fn write_batch(&mut self) -> Result<(), ShardError> {
        let encoded = self.tokenizer.encode_all(&self.texts);
        for ((mut tokens, text), split) in encoded.into_iter().zip(&self.texts).zip(&self.splits) {
            tokens.push(self.tokenizer.end_of_text());
            let (shards, report) = match split {
                Split::Train => (&mut self.shards[0], &mut self.report.train),
                Split::Validation => (&mut self.shards[1], &mut self.report.validation),
            };
            shards.push(&tokens)?;
            report.documents += 1;
            report.bytes += text.len() as u64;
            report.tokens += tokens.len() as u64;
        }
        self.texts.clear();
        self.splits.clear();
        self.batch_bytes = 0;
        let (train, validation) = (&self.report.train, &self.report.validation);
        (self.progress)(Progress {
            documents: train.documents + validation.documents,
            bytes: train.bytes + validation.bytes,
            tokens: train.tokens + validation.tokens,
        });
        Ok(())
    }

    fn finish(mut self, folder: &Unfinished) -> Result<CorpusReport, CorpusError> {
        self.write_batch()?;
        if self.report.train.documents + self.report.validation.documents == 0 {
            return Err(CorpusError::NoDocuments { skipped: Box::new(self.report.skipped) });
        }
        for shards in self.shards {
            shards.finish()?;
        }
        let path = folder.path.join("report.json");
        let json = serde_json::to_vec_pretty(&self.report).expect("a report is plain data");
        fs::write(&path, json).map_err(|source| CorpusError::Io { path, source })?;
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests;
