//! Reading a dataset.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{FORMAT_VERSION, MANIFEST, Manifest, ShardError, at, shard_name};
use crate::atomic::sha256_bytes;
use crate::element::Element;
use crate::mmap::Bytes;

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
                let reason = format!("shard {i} is called {:?}", info.file);
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
        io::ErrorKind::NotFound => ShardError::NoManifest { path: path.to_owned() },
        _ => at(path)(source),
    })?;
    let bad = |error: serde_json::Error| ShardError::BadManifest { path: path.to_owned(), reason: error.to_string() };
    let version: Version = serde_json::from_slice(&text).map_err(bad)?;
    if version.format_version != FORMAT_VERSION {
        return Err(ShardError::Version { path: path.to_owned(), found: version.format_version });
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
        return Err(ShardError::WrongLength { path, tokens, found });
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
