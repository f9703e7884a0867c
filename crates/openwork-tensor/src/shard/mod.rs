//! Token shards: a tokenised corpus on disk.
//!
//! A dataset is a folder of `shard-00000.bin`, `shard-00001.bin`, .. (tokens as raw little-endian 16-bit
//! numbers) and a `manifest.json` with the number of tokens and the SHA-256 of each shard and the SHA-256 of
//! the tokenizer that made them. The manifest is written last and atomically: a folder without one is no
//! dataset, so a tokenisation that was interrupted cannot be mistaken for a short corpus.

mod read;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::atomic::sha256_bytes;

pub use self::read::TokenShards;
pub use self::write::ShardWriter;

const MANIFEST: &str = "manifest.json";
const FORMAT_VERSION: u32 = 1;

/// Contents of a folder of token shards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout; this crate reads and writes version 1.
    pub format_version: u32,
    /// SHA-256 of the tokenizer file that made the tokens.
    pub tokenizer_sha256: String,
    /// Digest of the dataset that the tokens were drawn from, where they are a sample of one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drawn_from: Option<String>,
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
}

impl Manifest {
    /// Digest of the tokens: SHA-256 over tokenizer, lengths and digests of the shards, a line each.
    #[must_use]
    pub fn sha256(&self) -> String {
        let mut lines = vec![self.tokenizer_sha256.clone()];
        lines.extend(self.shards.iter().map(|shard| format!("{} {}", shard.tokens, shard.sha256)));
        sha256_bytes(lines.join("\n").as_bytes())
    }
}

/// One shard of a [`Manifest`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardInfo {
    /// File name inside the folder.
    pub file: String,
    /// Number of tokens; the file has two bytes for each.
    pub tokens: u64,
    /// SHA-256 of the file, in lower-case hexadecimal.
    pub sha256: String,
}

/// Reason that token shards could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The folder has no manifest: it is no dataset, or writing it was never finished.
    #[error("{} is missing: the folder holds no finished token shards", path.display())]
    NoManifest {
        /// Path of the missing manifest.
        path: PathBuf,
    },
    /// There is a finished dataset where a new one was to be made.
    #[error("{} exists: remove the folder first, or write to another", path.display())]
    AlreadyExists {
        /// The manifest found.
        path: PathBuf,
    },
    /// The manifest is not what this crate writes.
    #[error("{} is no manifest of token shards: {reason}", path.display())]
    BadManifest {
        /// The manifest.
        path: PathBuf,
        /// Fault that was found.
        reason: String,
    },
    /// The manifest has another layout version.
    #[error("{} has format version {found}, but only version {FORMAT_VERSION} can be read", path.display())]
    Version {
        /// The manifest.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// The tokens were made by another tokenizer.
    #[error("{} was made with tokenizer {found}, not {expected}", path.display())]
    OtherTokenizer {
        /// The manifest.
        path: PathBuf,
        /// SHA-256 asked for.
        expected: String,
        /// SHA-256 in the manifest.
        found: String,
    },
    /// A shard of the manifest is not there.
    #[error("shard {} is missing", path.display())]
    MissingShard {
        /// Path of the shard.
        path: PathBuf,
    },
    /// A shard is longer or shorter than the manifest says.
    #[error("shard {} has {found} bytes, but {tokens} tokens take twice as many bytes", path.display())]
    WrongLength {
        /// The shard.
        path: PathBuf,
        /// Tokens it has to hold.
        tokens: u64,
        /// Its length in bytes.
        found: u64,
    },
    /// A shard became shorter while it was open.
    #[error("shard {} is shorter than when it was opened: something has changed it meanwhile", path.display())]
    Changed {
        /// The shard.
        path: PathBuf,
    },
    /// A shard's contents are not those that were written.
    #[error("shard {} has SHA-256 {found}, but the manifest says {expected}", path.display())]
    WrongHash {
        /// The shard.
        path: PathBuf,
        /// Digest in the manifest.
        expected: String,
        /// Digest of the file.
        found: String,
    },
}

fn shard_name(index: usize) -> String {
    format!("shard-{index:05}.bin")
}

fn at(path: &Path) -> impl Fn(io::Error) -> ShardError {
    move |source| ShardError::Io { path: path.to_owned(), source }
}
