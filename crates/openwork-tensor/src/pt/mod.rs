//! Reading PyTorch checkpoints (`torch.save`, zip format) without running anything in them.
//!
//! A `.pt` file is a zip of raw storages and a pickle that says which tensors lie in them. Unpickling in
//! Python runs whatever the file asks for; this reader knows a short list of harmless names and refuses
//! every other one, by name. Nested dictionaries are flattened: `{"model": {"w": ..}}` gives `model.w`;
//! numbers, texts and other settings in the file are passed over. Every tensor is checked against its
//! storage when the file is opened, and no tensor can be larger than the storage it lies in.
//!
//! Checksums of the zip entries are compared when the file is opened, unless all of them are 0: PyTorch can be told to leave
//! them out.

mod error;
mod flatten;
#[deny(clippy::arithmetic_side_effects)]
mod form;
mod kind;
mod locate;
mod machine;
mod pickle;
mod rebuild;
mod tree;
mod value;
mod write;
#[deny(clippy::arithmetic_side_effects)]
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};

pub use self::error::{PtError, PtProblem};
use self::flatten::flatten;
use self::locate::Located;
use self::pickle::Pickle;
pub use self::tree::PtNode;
pub use self::write::write_pt;
use crate::source::Source;
use crate::tensor::{Dtype, Tensor};

/// The longest pickle that is read, in bytes. A state dict takes about 150 bytes for each tensor.
const MAX_PICKLE: u64 = 64 << 20;

/// An open PyTorch checkpoint.
///
/// A file that another process shortens in place is an error; see [`TensorFile`](crate::TensorFile).
#[derive(Debug)]
pub struct PtFile {
    source: Source,
    path: PathBuf,
    tensors: BTreeMap<String, Located>,
    skipped: Vec<String>,
}

impl PtFile {
    /// Opens a checkpoint, reads its pickle and checks every tensor against its storage.
    ///
    /// # Errors
    /// The file cannot be opened, or is refused; see [`PtProblem`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, PtError> {
        let path = path.as_ref().to_owned();
        match Source::open(&path) {
            Ok(source) => Self::new(source, path),
            Err(source) => Err(PtError::Io { path, source }),
        }
    }

    /// Reads a checkpoint that is in memory already. Errors call it `(memory)`.
    ///
    /// # Errors
    /// The bytes are refused; see [`PtProblem`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, PtError> {
        Self::new(Source::Memory(bytes), "(memory)".into())
    }

    fn new(source: Source, path: PathBuf) -> Result<Self, PtError> {
        match locate_all(&source) {
            Ok((tensors, skipped)) => Ok(Self { source, path, tensors, skipped }),
            Err(source) => Err(PtError::Refused { path, source }),
        }
    }

    /// The names of all tensors, sorted. A file that is one bare tensor gives it the empty name.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Dictionaries that were passed over with the tensors in them, because of a key that is neither text nor a number.
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// Copies one tensor out in row-major order, whatever its strides, bit for bit.
    ///
    /// # Errors
    /// No such tensor, or an element kind this crate does not read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, PtError> {
        let Some(located) = self.tensors.get(name) else {
            return Err(PtError::NotFound { path: self.path.clone(), name: name.to_owned() });
        };
        gathered(located, &self.source, &self.path, name)
    }
}

/// Copies a tensor out in row-major order.
fn gathered(located: &Located, source: &Source, path: &Path, name: &str) -> Result<Tensor, PtError> {
    let tensor = match located.kind.dtype {
        Some(Dtype::F64) => located.gather::<f64>(source).map(Tensor::from),
        Some(Dtype::F32) => located.gather::<f32>(source).map(Tensor::from),
        Some(Dtype::F16) => located.gather::<f16>(source).map(Tensor::from),
        Some(Dtype::Bf16) => located.gather::<bf16>(source).map(Tensor::from),
        Some(Dtype::I64) => located.gather::<i64>(source).map(Tensor::from),
        Some(Dtype::I32) => located.gather::<i32>(source).map(Tensor::from),
        Some(Dtype::U16) => located.gather::<u16>(source).map(Tensor::from),
        None => {
            let (path, name, dtype) = (path.to_owned(), name.to_owned(), located.kind.name);
            return Err(PtError::UnsupportedDtype { path, name, dtype });
        }
    };
    tensor.map_err(|source| PtError::Io { path: path.to_owned(), source })
}

/// Storages of a file by their keys.
type Storages = BTreeMap<String, Range<u64>>;

/// The pickle of a file, its length, and the storages beside it.
fn opened(source: &Source) -> Result<(Pickle, usize, Storages), PtProblem> {
    form::check(&source.bytes(0..source.len().min(512))?)?;
    let directory = zip::directory(source)?;
    let mut folders = directory.keys().filter_map(|name| name.strip_suffix("/data.pkl"));
    let found = folders.clone().count();
    let (1, Some(folder)) = (found, folders.next()) else {
        return Err(PtProblem::NoPickle { found });
    };
    if let Some(record) = directory.get(&format!("{folder}/byteorder")) {
        let record = source.bytes(record.start..record.end.min(record.start + 16))?;
        if record != b"little" {
            return Err(PtProblem::ByteOrder { found: String::from_utf8_lossy(&record).into_owned() });
        }
    }
    let pickle = directory[&format!("{folder}/data.pkl")].clone();
    let len = pickle.end - pickle.start;
    if len > MAX_PICKLE {
        return Err(PtProblem::PickleTooLarge { len });
    }
    let pickle = Pickle::read(&source.bytes(pickle)?)?;
    let prefix = format!("{folder}/data/");
    let storage = |(name, range): (&String, &Range<u64>)| Some((name.strip_prefix(&prefix)?.to_owned(), range.clone()));
    Ok((pickle, len as usize, directory.iter().filter_map(storage).collect()))
}

/// All tensors of a file by flattened name, and the dictionaries that were skipped.
fn locate_all(source: &Source) -> Result<(BTreeMap<String, Located>, Vec<String>), PtProblem> {
    let (pickle, len, storages) = opened(source)?;
    let storages = storages.iter().map(|(name, range)| (name.as_str(), range.clone())).collect();
    let mut tensors = BTreeMap::new();
    let (views, skipped) = flatten(&pickle, len)?;
    for (name, view) in views {
        let located = Located::new(&name, &pickle, view, &storages)?;
        tensors.insert(name, located);
    }
    Ok((tensors, skipped))
}
