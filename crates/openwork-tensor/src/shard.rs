//! Token shards: a tokenised corpus on disk, read through a memory map.
//!
//! A dataset is a folder of `shard-00000.bin`, `shard-00001.bin`, .. (tokens as raw little-endian 16-bit
//! numbers) and a `manifest.json` with the number of tokens and the SHA-256 of each shard and the SHA-256 of
//! the tokenizer that made them. The manifest is written last and atomically: a folder without one is no
//! dataset, so a tokenisation that was interrupted cannot be mistaken for a short corpus.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::atomic::{hex, sha256_bytes, write_bytes};
use crate::element::{Element, encode};
use crate::mmap::Bytes;

const MANIFEST: &str = "manifest.json";
const FORMAT_VERSION: u32 = 1;

/// What a folder of token shards holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout; this crate reads and writes version 1.
    pub format_version: u32,
    /// SHA-256 of the tokenizer file that made the tokens.
    pub tokenizer_sha256: String,
    /// The shards, in order.
    pub shards: Vec<ShardInfo>,
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

/// Why token shards could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The folder has no manifest: it is no dataset, or writing it was never finished.
    #[error("{} is missing: the folder holds no finished token shards", path.display())]
    NoManifest {
        /// Where the manifest would be.
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
        /// What is wrong with it.
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
        /// Where the shard would be.
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

/// Writes a folder of token shards.
#[derive(Debug)]
pub struct ShardWriter {
    dir: PathBuf,
    tokens_per_shard: u64,
    manifest: Manifest,
    open: Option<OpenShard>,
}

#[derive(Debug)]
struct OpenShard {
    path: PathBuf,
    out: BufWriter<File>,
    hash: Sha256,
    tokens: u64,
}

impl ShardWriter {
    /// Starts a dataset in `dir`, which is made if need be. Shards of an unfinished attempt there are
    /// overwritten.
    ///
    /// # Errors
    /// The folder cannot be made, or holds a finished dataset already.
    ///
    /// # Panics
    /// If `tokens_per_shard` is 0.
    #[track_caller]
    pub fn create(
        dir: impl AsRef<Path>,
        tokenizer_sha256: &str,
        tokens_per_shard: u64,
    ) -> Result<Self, ShardError> {
        assert!(tokens_per_shard > 0, "ShardWriter: tokens_per_shard is 0");
        let dir = dir.as_ref().to_owned();
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let manifest = dir.join(MANIFEST);
        if manifest.exists() {
            return Err(ShardError::AlreadyExists { path: manifest });
        }
        Ok(Self {
            dir,
            tokens_per_shard,
            manifest: Manifest {
                format_version: FORMAT_VERSION,
                tokenizer_sha256: tokenizer_sha256.to_owned(),
                shards: Vec::new(),
            },
            open: None,
        })
    }

    /// Appends tokens, starting new shards as they fill up.
    ///
    /// # Errors
    /// A shard cannot be written. The dataset is then lost: start again.
    pub fn push(&mut self, mut tokens: &[u16]) -> Result<(), ShardError> {
        while !tokens.is_empty() {
            if self.open.is_none() {
                let path = self.dir.join(shard_name(self.manifest.shards.len()));
                self.open = Some(OpenShard::create(path)?);
            }
            let shard = self.open.as_mut().expect("opened above");
            let room = self.tokens_per_shard - shard.tokens;
            let n = usize::try_from(room).map_or(tokens.len(), |room| room.min(tokens.len()));
            let (now, later) = tokens.split_at(n);
            shard.push(now)?;
            tokens = later;
            if shard.tokens == self.tokens_per_shard {
                self.close()?;
            }
        }
        Ok(())
    }

    /// Syncs the last shard and writes the manifest, which makes the folder a dataset.
    ///
    /// # Errors
    /// A file cannot be written.
    pub fn finish(mut self) -> Result<Manifest, ShardError> {
        self.close()?;
        let path = self.dir.join(MANIFEST);
        let mut json =
            serde_json::to_vec_pretty(&self.manifest).expect("a manifest is text and numbers");
        json.push(b'\n');
        write_bytes(&path, &json).map_err(at(&path))?;
        Ok(self.manifest)
    }

    fn close(&mut self) -> Result<(), ShardError> {
        if let Some(shard) = self.open.take() {
            let file = shard_name(self.manifest.shards.len());
            self.manifest.shards.push(shard.close(file)?);
        }
        Ok(())
    }
}

impl OpenShard {
    fn create(path: PathBuf) -> Result<Self, ShardError> {
        // A new file, not the old one truncated: somebody may still have that one mapped.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&path)(error)),
            _ => {}
        }
        let file = File::create_new(&path).map_err(at(&path))?;
        Ok(Self {
            path,
            out: BufWriter::with_capacity(1 << 20, file),
            hash: Sha256::new(),
            tokens: 0,
        })
    }

    fn push(&mut self, tokens: &[u16]) -> Result<(), ShardError> {
        let mut both = Tee(&mut self.hash, &mut self.out);
        encode(tokens, &mut both).map_err(at(&self.path))?;
        self.tokens += tokens.len() as u64;
        Ok(())
    }

    fn close(self, file: String) -> Result<ShardInfo, ShardError> {
        let synced = match self.out.into_inner() {
            Ok(file) => file.sync_all(),
            Err(error) => Err(error.into_error()),
        };
        synced.map_err(at(&self.path))?;
        Ok(ShardInfo {
            file,
            tokens: self.tokens,
            sha256: hex(self.hash),
        })
    }
}

/// Hashes what it writes.
struct Tee<'a>(&'a mut Sha256, &'a mut BufWriter<File>);

impl Write for Tee<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.1.write(bytes)?;
        self.0.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.1.flush()
    }
}

/// A folder of token shards, open for reading: one long row of tokens.
#[derive(Debug)]
pub struct TokenShards {
    dir: PathBuf,
    manifest: Manifest,
    shards: Vec<Bytes>,
    /// Number of tokens before each shard, and the total at the end.
    starts: Vec<u64>,
}

impl TokenShards {
    /// Opens a dataset. Lengths are checked here, contents by [`verify_hashes`](Self::verify_hashes).
    ///
    /// # Errors
    /// No finished dataset, another tokenizer than `expected_tokenizer_sha256`, a missing shard, or one of
    /// the wrong length.
    pub fn open(
        dir: impl AsRef<Path>,
        expected_tokenizer_sha256: &str,
    ) -> Result<Self, ShardError> {
        let dir = dir.as_ref().to_owned();
        let path = dir.join(MANIFEST);
        let manifest = read_manifest(&path)?;
        if manifest.tokenizer_sha256 != expected_tokenizer_sha256 {
            return Err(ShardError::OtherTokenizer {
                path,
                expected: expected_tokenizer_sha256.to_owned(),
                found: manifest.tokenizer_sha256,
            });
        }
        let (mut shards, mut starts) = (Vec::new(), vec![0u64]);
        for (i, info) in manifest.shards.iter().enumerate() {
            // The name is fixed, so that a manifest cannot point outside its folder.
            if info.file != shard_name(i) {
                let reason = format!("shard {i} is called {:?}", info.file);
                return Err(ShardError::BadManifest { path, reason });
            }
            shards.push(open_shard(dir.join(&info.file), info.tokens)?);
            // Each length has been matched to a file's, so the sum stays far from overflow.
            starts.push(starts[i] + info.tokens);
        }
        Ok(Self {
            dir,
            manifest,
            shards,
            starts,
        })
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.starts[self.shards.len()]
    }

    /// Whether there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies tokens `start .. start + out.len()`, across shard borders.
    ///
    /// # Panics
    /// If that range reaches past the end.
    #[track_caller]
    pub fn read(&self, start: u64, mut out: &mut [u16]) {
        let end = start.checked_add(out.len() as u64);
        assert!(
            end.is_some_and(|end| end <= self.len()),
            "read: tokens {start}.. ({} of them) but there are {}",
            out.len(),
            self.len()
        );
        // The last shard that starts at or before `start`.
        let mut shard = self.starts.partition_point(|&s| s <= start) - 1;
        let mut skip = start - self.starts[shard];
        while !out.is_empty() {
            let bytes = &self.shards[shard][2 * skip as usize..];
            let (now, later) = out.split_at_mut(out.len().min(bytes.len() / 2));
            copy_tokens(bytes, now);
            (out, shard, skip) = (later, shard + 1, 0);
        }
    }

    /// Reads every shard and compares its SHA-256 with the manifest.
    ///
    /// # Errors
    /// [`ShardError::WrongHash`] names the first shard that differs.
    pub fn verify_hashes(&self) -> Result<(), ShardError> {
        for (info, bytes) in self.manifest.shards.iter().zip(&self.shards) {
            let found = sha256_bytes(bytes);
            if found != info.sha256 {
                return Err(ShardError::WrongHash {
                    path: self.dir.join(&info.file),
                    expected: info.sha256.clone(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// The manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }
}

fn read_manifest(path: &Path) -> Result<Manifest, ShardError> {
    /// Read first, so that a later version is reported as such and not as bad JSON.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let text = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => ShardError::NoManifest {
            path: path.to_owned(),
        },
        _ => at(path)(source),
    })?;
    let bad = |error: serde_json::Error| ShardError::BadManifest {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let version: Version = serde_json::from_slice(&text).map_err(bad)?;
    if version.format_version != FORMAT_VERSION {
        return Err(ShardError::Version {
            path: path.to_owned(),
            found: version.format_version,
        });
    }
    serde_json::from_slice(&text).map_err(bad)
}

fn open_shard(path: PathBuf, tokens: u64) -> Result<Bytes, ShardError> {
    let bytes = match Bytes::open(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            return Err(ShardError::MissingShard { path });
        }
        Err(source) => return Err(ShardError::Io { path, source }),
    };
    let found = bytes.len() as u64;
    if tokens.checked_mul(2) != Some(found) {
        return Err(ShardError::WrongLength {
            path,
            tokens,
            found,
        });
    }
    Ok(bytes)
}

fn copy_tokens(bytes: &[u8], out: &mut [u16]) {
    let bytes = &bytes[..2 * out.len()];
    if cfg!(target_endian = "little")
        && let Ok(tokens) = bytemuck::try_cast_slice(bytes)
    {
        out.copy_from_slice(tokens);
        return;
    }
    for (token, pair) in out.iter_mut().zip(bytes.chunks_exact(2)) {
        *token = Element::from_le(pair);
    }
}

fn shard_name(index: usize) -> String {
    format!("shard-{index:05}.bin")
}

fn at(path: &Path) -> impl Fn(io::Error) -> ShardError {
    move |source| ShardError::Io {
        path: path.to_owned(),
        source,
    }
}
