//! Reading PyTorch checkpoints (`torch.save`, zip format) without running anything in them.
//!
//! A `.pt` file is a zip of raw storages and a pickle that says which tensors lie in them. Unpickling in
//! Python runs whatever the file asks for; this reader knows a short list of harmless names and refuses
//! every other one, by name. Nested dictionaries are flattened: `{"model": {"w": ..}}` gives `model.w`;
//! numbers, texts and other settings in the file are passed over. Every tensor is checked against its
//! storage when the file is opened, and no tensor can be larger than the storage it lies in.
//!
//! Checksums of the zip entries are not compared: PyTorch can be told to leave them out.

mod error;
mod flatten;
mod kind;
mod locate;
mod machine;
mod pickle;
mod rebuild;
mod value;
mod zip;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

pub use self::error::{PtError, PtProblem};
use self::flatten::flatten;
use self::locate::Located;
use self::pickle::Pickle;
use crate::mmap::Bytes;
use crate::tensor::{Dtype, Tensor};

/// The longest pickle that is read, in bytes. A state dict takes about 150 bytes for each tensor.
const MAX_PICKLE: usize = 64 << 20;

/// An open PyTorch checkpoint.
///
/// No other process may write to the file in place while this value lives; see
/// [`TensorFile`](crate::TensorFile).
#[derive(Debug)]
pub struct PtFile {
    bytes: Bytes,
    path: PathBuf,
    tensors: BTreeMap<String, Located>,
}

impl PtFile {
    /// Opens a checkpoint, reads its pickle and checks every tensor against its storage.
    ///
    /// # Errors
    /// The file cannot be opened, or is refused; see [`PtProblem`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PtError> {
        let path = path.as_ref().to_owned();
        match Bytes::open(&path) {
            Ok(bytes) => Self::new(bytes, path),
            Err(source) => Err(PtError::Io { path, source }),
        }
    }

    /// Reads a checkpoint that is in memory already. Errors call it `(memory)`.
    ///
    /// # Errors
    /// The bytes are refused; see [`PtProblem`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PtError> {
        Self::new(Bytes::Owned(bytes), "(memory)".into())
    }

    fn new(bytes: Bytes, path: PathBuf) -> Result<Self, PtError> {
        match locate_all(&bytes) {
            Ok(tensors) => Ok(Self { bytes, path, tensors }),
            Err(source) => Err(PtError::Refused { path, source }),
        }
    }

    /// The names of all tensors, sorted. A file that is one bare tensor gives it the empty name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Copies one tensor out in row-major order, whatever its strides, bit for bit.
    ///
    /// # Errors
    /// No such tensor, or an element kind this crate does not read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, PtError> {
        let Some(located) = self.tensors.get(name) else {
            return Err(PtError::NotFound { path: self.path.clone(), name: name.to_owned() });
        };
        Ok(match located.kind.dtype {
            Some(Dtype::F32) => located.gather::<f32>(&self.bytes).into(),
            Some(Dtype::F16) => located.gather::<f16>(&self.bytes).into(),
            Some(Dtype::Bf16) => located.gather::<bf16>(&self.bytes).into(),
            Some(Dtype::I64) => located.gather::<i64>(&self.bytes).into(),
            Some(Dtype::U16) => located.gather::<u16>(&self.bytes).into(),
            None => {
                return Err(PtError::UnsupportedDtype {
                    path: self.path.clone(),
                    name: name.to_owned(),
                    dtype: located.kind.name,
                });
            }
        })
    }
}

/// All tensors of a file, by flattened name.
fn locate_all(bytes: &[u8]) -> Result<BTreeMap<String, Located>, PtProblem> {
    let directory = zip::directory(bytes)?;
    let mut folders = directory.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
    let found = folders.clone().count();
    let (1, Some(folder)) = (found, folders.next()) else {
        return Err(PtProblem::NoPickle { found });
    };
    if let Some(record) = directory.get(&format!("{folder}/byteorder"))
        && &bytes[record.clone()] != b"little"
    {
        let record = &bytes[record.clone()];
        let found = String::from_utf8_lossy(&record[..record.len().min(16)]).into_owned();
        return Err(PtProblem::ByteOrder { found });
    }
    let pickle = &bytes[directory[&format!("{folder}/data.pkl")].clone()];
    let len = pickle.len();
    if len > MAX_PICKLE {
        return Err(PtProblem::PickleTooLarge { len });
    }
    let pickle = Pickle::read(pickle)?;
    let prefix = format!("{folder}/data/");
    let storages =
        directory.iter().filter_map(|(name, range)| Some((name.strip_prefix(&prefix)?, range.clone()))).collect();
    let mut tensors = BTreeMap::new();
    for (name, view) in flatten(&pickle, len)? {
        let located = Located::new(&name, &pickle, view, &storages)?;
        tensors.insert(name, located);
    }
    Ok(tensors)
}
