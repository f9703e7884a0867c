//! Reading a dataset.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::{FORMAT_VERSION, MANIFEST, Manifest, ShardError, at, shard_name};
use crate::atomic::hex;
use crate::source::Source;
use crate::text::without_bom;

/// A folder of token shards, open for reading: one long row of tokens.
///
/// Shards are read where they are asked for, and not mapped into memory: a shard that somebody cuts off meanwhile gives an
/// error.
#[derive(Debug)]
pub struct TokenShards {
    dir: PathBuf,
    manifest: Manifest,
    shards: Vec<Source>,
    /// Number of tokens before each shard, and the total at the end.
    starts: Vec<u64>,
}

impl TokenShards {
    /// Opens a dataset. Lengths are checked here, contents by [`verify_hashes`](Self::verify_hashes).
    ///
    /// # Errors
    /// No finished dataset, another tokenizer than `expected_tokenizer_sha256`, a missing shard, or one of
    /// the wrong length.
    pub fn open(dir: impl AsRef<Path>, expected_tokenizer_sha256: &str) -> Result<Self, ShardError> {
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
                let reason = format!("shard {i} is called `{}`, expected `{}`", info.file, shard_name(i));
                return Err(ShardError::BadManifest { path, reason });
            }
            shards.push(open_shard(dir.join(&info.file), info.tokens)?);
            // Each length has been matched to a file's, so the sum stays far from overflow.
            starts.push(starts[i] + info.tokens);
        }
        Ok(Self { dir, manifest, shards, starts })
    }

    /// Number of tokens.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.starts[self.shards.len()]
    }

    /// True if there are no tokens.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies tokens `start .. start + out.len()`, across shard borders.
    ///
    /// # Errors
    /// [`ShardError::Changed`] where a shard has become shorter since it was opened.
    ///
    /// # Panics
    /// If that range reaches past the end.
    #[track_caller]
    pub fn read(&self, start: u64, mut out: &mut [u16]) -> Result<(), ShardError> {
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
            let left = self.starts[shard + 1] - self.starts[shard] - skip;
            let n = usize::try_from(left).map_or(out.len(), |left| left.min(out.len()));
            let (now, later) = out.split_at_mut(n);
            let read = self.shards[shard].read_at(2 * skip, bytemuck::cast_slice_mut(now));
            read.map_err(|source| self.failed(shard, source))?;
            now.iter_mut().for_each(|token| *token = u16::from_le(*token));
            (out, shard, skip) = (later, shard + 1, 0);
        }
        Ok(())
    }

    /// Reads every shard and compares its SHA-256 with the manifest.
    ///
    /// # Errors
    /// [`ShardError::WrongHash`] names the first shard that differs.
    pub fn verify_hashes(&self) -> Result<(), ShardError> {
        for (shard, info) in self.manifest.shards.iter().enumerate() {
            let mut hash = Sha256::new();
            let whole = self.shards[shard].for_each_part(0..2 * info.tokens, |part| hash.update(part));
            whole.map_err(|source| self.failed(shard, source))?;
            let found = hex(hash);
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

    fn failed(&self, shard: usize, source: io::Error) -> ShardError {
        let path = self.dir.join(&self.manifest.shards[shard].file);
        match source.kind() {
            io::ErrorKind::UnexpectedEof => ShardError::Changed { path },
            _ => ShardError::Io { path, source },
        }
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
        io::ErrorKind::NotFound => ShardError::NoManifest { path: path.to_owned() },
        _ => at(path)(source),
    })?;
    let text = without_bom(&text);
    let bad = |error: serde_json::Error| ShardError::BadManifest { path: path.to_owned(), reason: error.to_string() };
    let version: Version = serde_json::from_slice(text).map_err(bad)?;
    if version.format_version != FORMAT_VERSION {
        return Err(ShardError::Version { path: path.to_owned(), found: version.format_version });
    }
    serde_json::from_slice(text).map_err(bad)
}

fn open_shard(path: PathBuf, tokens: u64) -> Result<Source, ShardError> {
    let source = match Source::open(&path) {
        Ok(source) => source,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(ShardError::MissingShard { path }),
        Err(source) => return Err(ShardError::Io { path, source }),
    };
    match tokens.checked_mul(2) == Some(source.len()) {
        true => Ok(source),
        false => Err(ShardError::WrongLength { path, tokens, found: source.len() }),
    }
}
