//! Digest of everything in a safetensors file, kept in the file itself: any change of a name, a shape, a number or a text of
//! the metadata is noticed on reading.

use std::collections::BTreeMap;
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::atomic::hex;
use crate::error::ReadError;
use crate::file::TensorFile;
use crate::tensor::Tensor;
use crate::write::write_data;

/// Metadata key of the digest.
pub const DIGEST_KEY: &str = "sha256";

/// Reason that a file does not hold what was written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The file records no digest.
    #[error("{} records no digest of its contents", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The contents have another digest.
    #[error("{} is damaged: its contents have SHA-256 {found}, and it records {recorded}", path.display())]
    Differs {
        /// The file.
        path: PathBuf,
        /// Digest of the contents.
        found: String,
        /// Digest that is recorded.
        recorded: String,
    },
}

/// Digest of tensors and metadata, apart from [`DIGEST_KEY`]: SHA-256 over every text with its length, and every tensor with
/// name, kind, shape and little-endian elements, in the order of the keys.
#[must_use]
pub fn digest(tensors: &BTreeMap<String, Tensor>, metadata: &BTreeMap<String, String>) -> String {
    let mut hash = of_metadata(metadata);
    tensors.iter().for_each(|(name, tensor)| of_tensor(&mut hash, name, tensor));
    hex(hash)
}

/// Compares the contents of a file with the digest that it records.
///
/// # Errors
/// There is none, it differs, or the file cannot be read.
pub fn check_digest(file: &TensorFile) -> Result<(), DigestError> {
    let path = || file.path().to_owned();
    let recorded = file.metadata().get(DIGEST_KEY).ok_or_else(|| DigestError::Missing { path: path() })?;
    let mut hash = of_metadata(file.metadata());
    for name in file.names() {
        of_tensor(&mut hash, name, &file.tensor(name)?);
    }
    let found = hex(hash);
    match found == *recorded {
        true => Ok(()),
        false => Err(DigestError::Differs { path: path(), found, recorded: recorded.clone() }),
    }
}

fn of_metadata(metadata: &BTreeMap<String, String>) -> Sha256 {
    let mut hash = Sha256::new();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != DIGEST_KEY) {
        text(&mut hash, key);
        text(&mut hash, value);
    }
    hash
}

fn of_tensor(hash: &mut Sha256, name: &str, tensor: &Tensor) {
    text(hash, name);
    text(hash, tensor.dtype().name());
    hash.update((tensor.shape().len() as u64).to_le_bytes());
    tensor.shape().iter().for_each(|&n| hash.update((n as u64).to_le_bytes()));
    write_data(tensor, &mut HashWriter(hash)).expect("a hash takes everything");
}

fn text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::write;

    #[test]
    fn every_byte_of_the_data_and_every_text_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let tensors = BTreeMap::from([("a".to_owned(), ndarray::arr2(&[[1.0_f32, 0.0], [-2.5, 3.0]]).into())]);
        let mut metadata = BTreeMap::from([("k".to_owned(), "value".to_owned())]);
        let check = || TensorFile::open(&path).map_err(DigestError::from).and_then(|file| check_digest(&file));
        write(&path, &tensors, &metadata).unwrap();
        assert!(matches!(check(), Err(DigestError::Missing { .. })));
        metadata.insert(DIGEST_KEY.to_owned(), digest(&tensors, &metadata));
        write(&path, &tensors, &metadata).unwrap();
        check().unwrap();
        // Any bit of any byte: refused as no safetensors file, or as other contents. Blanks that pad the header say nothing.
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert!(check().is_err(), "byte {at}, {:?}", whole[at] as char);
        }
    }
}
