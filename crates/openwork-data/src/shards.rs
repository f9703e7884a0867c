//! Writes token shards. A stand-in with the signatures of `openwork_tensor::ShardWriter`, and its layout.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;

/// Why token shards could not be written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ShardError {
    /// A file cannot be read or written.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

pub(crate) struct ShardWriter {
    dir: PathBuf,
    tokenizer_sha256: String,
    tokens_per_shard: u64,
    bytes: Vec<u8>,
    shards: Vec<serde_json::Value>,
}

impl ShardWriter {
    pub(crate) fn create(
        dir: &Path,
        tokenizer_sha256: &str,
        tokens_per_shard: u64,
    ) -> Result<Self, ShardError> {
        let path = dir.to_owned();
        fs::create_dir_all(dir).map_err(|source| ShardError::Io { path, source })?;
        let tokenizer_sha256 = tokenizer_sha256.to_owned();
        let (dir, bytes, shards) = (dir.to_owned(), Vec::new(), Vec::new());
        Ok(Self {
            dir,
            tokenizer_sha256,
            tokens_per_shard,
            bytes,
            shards,
        })
    }

    pub(crate) fn push(&mut self, tokens: &[u16]) -> Result<(), ShardError> {
        for token in tokens {
            self.bytes.extend_from_slice(&token.to_le_bytes());
            if self.bytes.len() as u64 == 2 * self.tokens_per_shard {
                self.close()?;
            }
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<(), ShardError> {
        self.close()?;
        let manifest = serde_json::json!({
            "format_version": 1, "tokenizer_sha256": self.tokenizer_sha256, "shards": self.shards,
        });
        let path = self.dir.join("manifest.json");
        fs::write(&path, manifest.to_string()).map_err(|source| ShardError::Io { path, source })
    }

    fn close(&mut self) -> Result<(), ShardError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let file = format!("shard-{:05}.bin", self.shards.len());
        let path = self.dir.join(&file);
        fs::write(&path, &self.bytes).map_err(|source| ShardError::Io { path, source })?;
        let sha256 = crate::tokenizer::hex(&Sha256::digest(&self.bytes));
        self.shards.push(
            serde_json::json!({"file": file, "tokens": self.bytes.len() / 2, "sha256": sha256}),
        );
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
pub(crate) struct TokenShards(Vec<u16>);

#[cfg(test)]
impl TokenShards {
    pub(crate) fn open(dir: &Path, expected: &str) -> Result<Self, ShardError> {
        let manifest = fs::read_to_string(dir.join("manifest.json")).expect("a manifest");
        assert!(manifest.contains(expected));
        let mut files: Vec<PathBuf> = fs::read_dir(dir)
            .expect("a folder")
            .map(|e| e.expect("an entry").path())
            .collect();
        files.retain(|f| f.extension().is_some_and(|e| e == "bin"));
        files.sort();
        let bytes: Vec<u8> = files
            .iter()
            .flat_map(|f| fs::read(f).expect("a shard"))
            .collect();
        Ok(Self(
            bytes
                .chunks_exact(2)
                .map(|b| u16::from_le_bytes([b[0], b[1]]))
                .collect(),
        ))
    }

    pub(crate) fn len(&self) -> u64 {
        self.0.len() as u64
    }

    pub(crate) fn read(&self, start: u64, out: &mut [u16]) {
        out.copy_from_slice(&self.0[start as usize..start as usize + out.len()]);
    }
}
