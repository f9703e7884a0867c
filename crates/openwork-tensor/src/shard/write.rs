//! Writing a dataset.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{FORMAT_VERSION, MANIFEST, Manifest, ShardError, ShardInfo, at, shard_name};
use crate::atomic::{hex, write_bytes};
use crate::element::encode;

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
    pub fn create(dir: impl AsRef<Path>, tokenizer_sha256: &str, tokens_per_shard: u64) -> Result<Self, ShardError> {
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
                drawn_from: None,
                shards: Vec::new(),
            },
            open: None,
        })
    }

    /// Records that the tokens are a sample of the dataset with this manifest.
    #[must_use]
    pub fn drawn_from(mut self, dataset: &Manifest) -> Self {
        self.manifest.drawn_from = Some(dataset.sha256());
        self
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
        let mut json = serde_json::to_vec_pretty(&self.manifest).expect("a manifest is text and numbers");
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
        Ok(Self { path, out: BufWriter::with_capacity(1 << 20, file), hash: Sha256::new(), tokens: 0 })
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
        Ok(ShardInfo { file, tokens: self.tokens, sha256: hex(self.hash) })
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
