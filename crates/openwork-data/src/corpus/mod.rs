//! From documents to token shards: what is kept, how it is split, and a report of both.
//!
//! Documents are kept in the order of their sorted paths, encoded in parallel and written in order, each followed by
//! [`END_OF_TEXT`](crate::END_OF_TEXT). Training and validation are told apart by a hash of the content, so a document
//! stays where it is when others come or go. The folder appears whole or not at all.

mod compressed;
mod documents;
mod error;
mod folder;
mod left_out;
mod source;

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::Path;

use openwork_tensor::{ShardError, ShardWriter, write_atomic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::generate::Programs;
use crate::tokenizer::Tokenizer;
pub use documents::Documents;
pub use error::CorpusError;
use folder::Unfinished;
pub use left_out::{Cases, LeftOut, Reason};
pub use source::{STANDARD_INPUT, Sources};

/// Documents are encoded in batches of about this many bytes.
const BATCH_BYTES: usize = 4 << 20;

/// File with the [`CorpusReport`], written last.
const REPORT: &str = "report.json";

/// Sources and settings of a corpus from files.
#[derive(Clone, Debug)]
pub struct CorpusOptions {
    /// Files and pipes, and what of them is a document.
    pub sources: Sources,
    /// Part of the documents that goes to validation, 0 to 1.
    pub validation_fraction: f64,
    /// Decides, together with the content, which documents go to validation.
    pub seed: u64,
    /// Length of a shard.
    pub tokens_per_shard: u64,
    /// True if an existing corpus is replaced. Other folders never are.
    pub replace: bool,
}

impl CorpusOptions {
    /// The usual options: 1 % validation, shards of 2^26 tokens (128 MiB), nothing replaced.
    pub fn new(sources: Sources) -> Self {
        Self { sources, validation_fraction: 0.01, seed: 0, tokens_per_shard: 1 << 26, replace: false }
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
    /// True if an existing corpus is replaced. Other folders never are.
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
    /// Decided by the content and the seed alone: the first 8 bytes of SHA-256(seed, text), as a fraction of 2^64. Byte order
    /// mark and line ends are no content.
    pub fn of(text: &str, validation_fraction: f64, seed: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        hash.update(canonical(text).as_bytes());
        let digest = hash.finalize();
        let first = digest.iter().take(8).fold(0_u64, |word, &byte| (word << 8) | u64::from(byte));
        if (first as f64) < validation_fraction * 2_f64.powi(64) { Split::Validation } else { Split::Train }
    }
}

/// The text without a byte order mark and with `\n` as its line ends: copies that differ in those alone are one document.
fn canonical(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text.into() }
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
    /// Files, folders and pipes that it is made from, as they were named; none of generated programs.
    #[serde(default)]
    pub from: Vec<String>,
    /// Part of the documents that goes to validation; not recorded in reports of before.
    #[serde(default)]
    pub validation_fraction: Option<f64>,
    /// Seed that decides, together with the content, which documents these are; likewise.
    #[serde(default)]
    pub split_seed: Option<u64>,
    /// Files and rows left out, by reason.
    pub left_out: LeftOut,
}

impl CorpusReport {
    /// Reads the report in the folder of a corpus.
    ///
    /// # Errors
    /// [`CorpusError::Unreadable`] when there is none, or it is not one.
    pub fn read(corpus: &Path) -> Result<Self, CorpusError> {
        let path = corpus.join(REPORT);
        let read = || serde_json::from_str(&openwork_tensor::read_text(&path)?).map_err(io::Error::from);
        read().map_err(|source| CorpusError::Unreadable { path: path.clone(), source })
    }
}

/// Builds `out/train`, `out/validation` and `out/report.json` from files.
///
/// # Errors
/// See [`CorpusError`]; `out` is then as it was. Whether `out` can be written is found out before anything is read.
pub fn build(
    options: &CorpusOptions,
    tokenizer: &Tokenizer,
    out: &Path,
    progress: &dyn Fn(Progress),
) -> Result<CorpusReport, CorpusError> {
    let CorpusOptions { validation_fraction, seed, .. } = *options;
    check_fraction(validation_fraction)?;
    let folder = Unfinished::start(out, options.replace, &options.sources.from)?;
    let mut documents = Documents::open(&options.sources)?;
    let mut writer = Writer::create(&folder, tokenizer, options.tokens_per_shard, progress)?;
    writer.report.from = options.sources.from.iter().map(|path| path.display().to_string()).collect();
    writer.records_split(validation_fraction, seed);
    for text in documents.by_ref() {
        let text = text?;
        let split = Split::of(&text, validation_fraction, seed);
        writer.push(text, split)?;
    }
    writer.report.left_out = documents.left_out().clone();
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
    let folder = Unfinished::start(out, options.replace, &[])?;
    let mut writer = Writer::create(&folder, tokenizer, options.tokens_per_shard, progress)?;
    writer.report.generated_seed = Some(options.seed);
    writer.records_split(options.validation_fraction, options.seed);
    let mut seen: HashSet<[u8; 32]> = HashSet::new();
    let mut bytes = 0;
    for (number, text) in Programs::new(options.seed).enumerate() {
        if bytes >= options.target_bytes {
            break;
        }
        if !seen.insert(Sha256::digest(text.as_bytes()).into()) {
            writer.report.left_out.add_program(number);
            continue;
        }
        bytes += text.len() as u64;
        let split = Split::of(&text, options.validation_fraction, options.seed);
        writer.push(text, split)?;
    }
    let report = writer.finish(&folder)?;
    folder.finish()?;
    Ok(report)
}

/// Trains a tokenizer on the documents of files; returns it with what was left out.
///
/// # Errors
/// See [`CorpusError`]: there is no usable document, or too little text for `vocab_size` tokens.
pub fn train_tokenizer(sources: &Sources, vocab_size: usize) -> Result<(Tokenizer, LeftOut), CorpusError> {
    let mut documents = Documents::open(sources)?;
    let mut damaged = None;
    let mut texts = documents.by_ref().map_while(|text| text.map_err(|error| damaged = Some(error)).ok()).peekable();
    let none = texts.peek().is_none();
    let tokenizer = (!none).then(|| Tokenizer::train(texts, vocab_size));
    match (damaged, tokenizer) {
        (Some(error), _) => Err(error),
        (None, Some(tokenizer)) => Ok((tokenizer?, documents.left_out().clone())),
        (None, None) => Err(CorpusError::NoDocuments { left_out: Box::new(documents.left_out().clone()) }),
    }
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

    fn records_split(&mut self, validation_fraction: f64, seed: u64) {
        self.report.validation_fraction = Some(validation_fraction);
        self.report.split_seed = Some(seed);
    }

    fn push(&mut self, text: String, split: Split) -> Result<(), ShardError> {
        self.batch_bytes += text.len();
        self.texts.push(text);
        self.splits.push(split);
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
            return Err(CorpusError::NoDocuments { left_out: Box::new(self.report.left_out) });
        }
        for shards in self.shards {
            shards.finish()?;
        }
        let path = folder.path.join(REPORT);
        let mut json = serde_json::to_vec_pretty(&self.report).expect("a report is plain data");
        json.push(b'\n');
        write_atomic(&path, |file| file.write_all(&json)).map_err(|source| CorpusError::Io { path, source })?;
        Ok(self.report)
    }
}

#[cfg(test)]
mod tests;
