//! Reading PyTorch checkpoints (`torch.save`, zip format) without running anything in them.
//!
//! A `.pt` file is a zip of raw storages and a pickle that says which tensors lie in them. Unpickling in
//! Python runs whatever the file asks for; this reader knows a short list of harmless names and refuses
//! every other one, by name. Nested dictionaries are flattened: `{"model": {"w": ..}}` gives `model.w`;
//! numbers, texts and other settings in the file are passed over. Every tensor is checked against its
//! storage when the file is opened, and no tensor can be larger than the storage it lies in.
//!
//! Checksums of the zip entries are not compared: PyTorch can be told to leave them out.

mod kind;
mod pickle;
mod zip;

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::{ArrayD, IxDyn};

use self::kind::Kind;
use self::pickle::{Id, Pickle, Value, View};
use self::zip::Directory;
use crate::element::{Element, decode};
use crate::mmap::Bytes;
use crate::tensor::{Dtype, Tensor};

/// The longest pickle that is read, in bytes. A state dict takes about 150 bytes for each tensor.
const MAX_PICKLE: usize = 64 << 20;
/// How deep dictionaries and lists may nest.
const MAX_DEPTH: usize = 64;

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

/// Why a checkpoint, or a tensor in it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PtError {
    /// The file cannot be opened or mapped.
    #[error("cannot open {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is not one this reader takes.
    #[error("cannot read {}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: PtProblem,
    },
    /// There is no such tensor.
    #[error("{} has no tensor `{name}`", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// The tensor has an element kind this crate does not read.
    #[error("{}: `{name}` is of kind torch.{dtype}; float32, float16, bfloat16, int64 and uint16 can be read", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its kind, as PyTorch spells it.
        dtype: &'static str,
    },
}

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtProblem {
    /// Not a zip file at all.
    #[error("it is no zip file, so torch.save has not written it")]
    NotZip,
    /// The format of PyTorch before 1.6.
    #[error("it has the old format of PyTorch before 1.6; load it in PyTorch and save it again")]
    Legacy,
    /// The zip directory is cut off.
    #[error("it is cut off, or bytes follow its end")]
    Truncated,
    /// The zip directory contradicts itself.
    #[error("its zip directory is damaged: {reason}")]
    BadZip {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// An entry is compressed, which `torch.save` never does.
    #[error("entry {entry:?} is compressed; torch.save stores entries as they are")]
    Compressed {
        /// The entry.
        entry: String,
    },
    /// An entry is encrypted.
    #[error("entry {entry:?} is encrypted")]
    Encrypted {
        /// The entry.
        entry: String,
    },
    /// An entry's name would leave the folder it is unpacked into.
    #[error("entry {entry:?} has an unsafe name")]
    UnsafeName {
        /// The entry.
        entry: String,
    },
    /// Two entries have one name.
    #[error("entry {entry:?} occurs twice")]
    DuplicateEntry {
        /// The entry.
        entry: String,
    },
    /// An entry claims more bytes than the file has.
    #[error("entry {entry:?} reaches past the end of the data")]
    EntryPastEnd {
        /// The entry.
        entry: String,
    },
    /// There is not exactly one `data.pkl`.
    #[error("it has {found} entries `<folder>/data.pkl`; a checkpoint has one")]
    NoPickle {
        /// How many there are.
        found: usize,
    },
    /// The pickle is longer than this reader takes.
    #[error("its data.pkl has {len} bytes; at most {MAX_PICKLE} are read")]
    PickleTooLarge {
        /// Its length.
        len: usize,
    },
    /// The numbers lie in another byte order.
    #[error("its byte order is {found:?}; only \"little\" can be read")]
    ByteOrder {
        /// The record's contents.
        found: String,
    },
    /// The pickle names something outside the list of harmless names.
    #[error("it uses {global}, which is not on the list of harmless names; nothing was run")]
    ForbiddenGlobal {
        /// Module and name.
        global: String,
    },
    /// The pickle is damaged or not of PyTorch's making.
    #[error("its data.pkl is wrong at byte {at}: {reason}")]
    BadPickle {
        /// Where in data.pkl.
        at: usize,
        /// What is wrong.
        reason: &'static str,
    },
    /// Dictionaries nest too deep, or contain themselves.
    #[error("its dictionaries nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A small file that unfolds to very many tensors.
    #[error("its data.pkl of {len} bytes unfolds to unreasonably many or long names")]
    TooManyNames {
        /// Length of the pickle.
        len: usize,
    },
    /// A dictionary with a tensor in it has a key that is neither text nor a whole number.
    #[error("a dictionary inside `{name}` has a key that is neither text nor a whole number")]
    BadKey {
        /// The flattened name of the dictionary.
        name: String,
    },
    /// Two tensors get the same flattened name.
    #[error("two tensors are called `{name}`")]
    DuplicateTensor {
        /// The name.
        name: String,
    },
    /// A tensor's storage is not in the file.
    #[error("`{name}` lies in storage {storage:?}, which is not in the file")]
    MissingStorage {
        /// The tensor.
        name: String,
        /// The storage.
        storage: String,
    },
    /// A storage does not have the length the pickle says.
    #[error("`{name}` needs a storage of {expected} bytes, but it has {found}")]
    StorageLength {
        /// The tensor.
        name: String,
        /// Bytes according to the pickle.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A tensor reaches past the end of its storage.
    #[error("`{name}` reaches past its storage")]
    PastStorage {
        /// The tensor.
        name: String,
    },
    /// A tensor has more elements than its storage (a stride of 0): a few bytes could claim any amount of memory.
    #[error("`{name}` repeats elements (an expanded view); save it with .contiguous()")]
    Expanded {
        /// The tensor.
        name: String,
    },
}

/// A tensor checked against its storage: strides and offset count elements.
#[derive(Debug)]
struct Located {
    kind: Kind,
    storage: Range<usize>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
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
            Ok(tensors) => Ok(Self {
                bytes,
                path,
                tensors,
            }),
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
            return Err(PtError::NotFound {
                path: self.path.clone(),
                name: name.to_owned(),
            });
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
    let mut folders = directory
        .keys()
        .filter_map(|name| name.strip_suffix("/data.pkl"));
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
    let mut flatten = Flatten {
        pickle: &pickle,
        // Generous for a real file, whose names are a fraction of its pickle.
        budget: 16 * len + 4096,
        len,
        name: String::new(),
        found: BTreeMap::new(),
    };
    flatten.walk(pickle.root(), 0)?;
    let mut tensors = BTreeMap::new();
    for (name, view) in flatten.found {
        let located = Located::new(&name, view, folder, &directory)?;
        tensors.insert(name, located);
    }
    Ok(tensors)
}

/// Walks dictionaries and lists down to the tensors.
struct Flatten<'a> {
    pickle: &'a Pickle,
    budget: usize,
    len: usize,
    name: String,
    found: BTreeMap<String, &'a View>,
}

impl<'a> Flatten<'a> {
    fn walk(&mut self, id: Id, depth: usize) -> Result<(), PtProblem> {
        if depth > MAX_DEPTH {
            return Err(PtProblem::TooDeep);
        }
        let pickle = self.pickle;
        match pickle.get(id) {
            Value::Tensor(view) => {
                self.spend(self.name.len())?;
                if self.found.insert(self.name.clone(), view).is_some() {
                    let name = std::mem::take(&mut self.name);
                    return Err(PtProblem::DuplicateTensor { name });
                }
            }
            Value::Dict(items) => {
                for &(key, value) in items {
                    match pickle.get(key) {
                        Value::Text(key) => self.enter(key, value, depth)?,
                        Value::Int(key) => self.enter(&key.to_string(), value, depth)?,
                        _ if self.is_plain(value) => {}
                        _ => {
                            let name = std::mem::take(&mut self.name);
                            return Err(PtProblem::BadKey { name });
                        }
                    }
                }
            }
            Value::List(items) | Value::Tuple(items) => {
                for (i, &item) in items.iter().enumerate() {
                    self.enter(&i.to_string(), item, depth)?;
                }
            }
            Value::Inert
            | Value::Int(_)
            | Value::Text(_)
            | Value::Global(_)
            | Value::Storage(_) => {}
        }
        Ok(())
    }

    fn enter(&mut self, key: &str, value: Id, depth: usize) -> Result<(), PtProblem> {
        self.spend(1)?;
        if self.is_plain(value) {
            return Ok(());
        }
        let before = self.name.len();
        if depth > 0 {
            self.name.push('.');
        }
        self.name.push_str(key);
        self.walk(value, depth + 1)?;
        self.name.truncate(before);
        Ok(())
    }

    /// Whether a value certainly holds no tensor.
    fn is_plain(&self, id: Id) -> bool {
        !matches!(
            self.pickle.get(id),
            Value::Tensor(_) | Value::Dict(_) | Value::List(_) | Value::Tuple(_)
        )
    }

    /// Shared dictionaries can unfold exponentially, and long keys repeat in every name below them: both
    /// draw from one budget.
    fn spend(&mut self, cost: usize) -> Result<(), PtProblem> {
        match self.budget.checked_sub(cost) {
            Some(left) => self.budget = left,
            None => return Err(PtProblem::TooManyNames { len: self.len }),
        }
        Ok(())
    }
}

impl Located {
    fn new(
        name: &str,
        view: &View,
        folder: &str,
        directory: &Directory,
    ) -> Result<Self, PtProblem> {
        let name = || name.to_owned();
        let (storage, kind) = (&view.storage, view.kind);
        let entry = directory.get(&format!("{folder}/data/{}", storage.key));
        let entry = entry.ok_or_else(|| PtProblem::MissingStorage {
            name: name(),
            storage: storage.key.to_string(),
        })?;
        let unit = storage.kind.map_or(1, |kind| kind.size);
        let (expected, found) = (storage.len.saturating_mul(unit), entry.len() as u64);
        if expected != found {
            return Err(PtProblem::StorageLength {
                name: name(),
                expected,
                found,
            });
        }
        let stored = found / kind.size;
        let past = || PtProblem::PastStorage { name: name() };
        if view.shape.contains(&0) {
            // Nothing is stored, so offset and strides say nothing. The other axes still have to be sane.
            let others = view.shape.iter().filter(|&&n| n != 0);
            let product = others.fold(Some(1u64), |p, &n| p?.checked_mul(n));
            product
                .filter(|&n| n <= isize::MAX as u64)
                .ok_or_else(past)?;
        } else {
            let count = view.shape.iter().try_fold(1u64, |p, &n| p.checked_mul(n));
            if count.is_none_or(|n| n > stored) {
                let expanded = view.strides.contains(&0);
                return Err(match expanded {
                    true => PtProblem::Expanded { name: name() },
                    false => past(),
                });
            }
            let mut axes = view.shape.iter().zip(&view.strides);
            axes.try_fold(view.offset, |last, (n, stride)| {
                last.checked_add((n - 1).checked_mul(*stride)?)
            })
            .filter(|&last| last < stored)
            .ok_or_else(past)?;
        }
        // All of these are now below the storage's length, or of no consequence.
        let narrow = |sizes: &[u64]| sizes.iter().map(|&n| n as usize).collect();
        Ok(Self {
            kind,
            storage: entry.clone(),
            offset: view.offset as usize,
            shape: narrow(&view.shape),
            strides: narrow(&view.strides),
        })
    }

    /// Copies the elements out in row-major order.
    fn gather<T: Element>(&self, file: &[u8]) -> ArrayD<T> {
        let storage = &file[self.storage.clone()];
        let count: usize = match self.shape.contains(&0) {
            true => 0,
            false => self.shape.iter().product(),
        };
        let data = if count == 0 {
            Vec::new()
        } else if self.is_row_major() {
            let start = self.offset * T::SIZE;
            decode(&storage[start..start + count * T::SIZE])
        } else {
            self.gather_strided(storage, count)
        };
        ArrayD::from_shape_vec(IxDyn(&self.shape), data).expect("shape was checked on opening")
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        let axes = self.shape.iter().zip(&self.strides).rev();
        for (&n, &stride) in axes {
            if n != 1 && stride != expected {
                return false;
            }
            expected *= n;
        }
        true
    }

    fn gather_strided<T: Element>(&self, storage: &[u8], count: usize) -> Vec<T> {
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0; self.shape.len()];
        let mut at = self.offset;
        for _ in 0..count {
            data.push(T::from_le(&storage[at * T::SIZE..(at + 1) * T::SIZE]));
            // Step the last axis; where it is at its end, go back to its start and step the one before.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    at += self.strides[axis];
                    break;
                }
                at -= (self.shape[axis] - 1) * self.strides[axis];
                index[axis] = 0;
            }
        }
        data
    }
}
