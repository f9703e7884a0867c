//! Faults of a checkpoint.

use std::io;
use std::path::PathBuf;

use super::MAX_PICKLE;
use super::flatten::MAX_DEPTH;

/// Reason that a checkpoint, or a tensor in it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PtError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file is not one this reader takes.
    #[error("cannot read {}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
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
    #[error("{}: `{name}` is of kind torch.{dtype}; float64, float32, float16, bfloat16, int64, int32 and uint16 can be read", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its kind, as PyTorch spells it.
        dtype: &'static str,
    },
}

/// Fault of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PtProblem {
    /// Not a zip file at all.
    #[error("it is no zip file, so torch.save has not written it")]
    NotZip,
    /// The format of PyTorch before 1.6.
    #[error("it is a bare pickle, the format of PyTorch before 1.6; in PyTorch: torch.save(torch.load(PATH), PATH)")]
    Legacy,
    /// The format of PyTorch before 0.2.
    #[error("it is a tar archive, the format of PyTorch before 0.2; in PyTorch: torch.save(torch.load(PATH), PATH)")]
    Tar,
    /// A format that others write.
    #[error("it is {found}")]
    OtherFormat {
        /// The format, and what helps.
        found: &'static str,
    },
    /// The file has become shorter, or the device fails.
    #[error("reading it failed: {reason}")]
    Read {
        /// Answer of the system.
        reason: String,
    },
    /// An entry's bytes are not those that were written.
    #[error("entry {entry:?} is damaged: its bytes do not have the checksum (CRC-32) that the file records")]
    Checksum {
        /// The entry.
        entry: String,
    },
    /// The zip directory is cut off.
    #[error("it is cut off, or bytes follow its end")]
    Truncated,
    /// The zip directory contradicts itself.
    #[error("its zip directory is damaged: {reason}")]
    BadZip {
        /// Fault that was found.
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
        /// Number that there is.
        found: usize,
    },
    /// The pickle is longer than this reader takes.
    #[error("its data.pkl has {len} bytes; at most {MAX_PICKLE} are read")]
    PickleTooLarge {
        /// Its length.
        len: u64,
    },
    /// The numbers lie in another byte order.
    #[error("its byte order is {found:?}; only \"little\" can be read")]
    ByteOrder {
        /// The record's contents.
        found: String,
    },
    /// The pickle names something outside the list of harmless names.
    #[error(
        "it uses {global}{}, which is not on the list of harmless names; nothing was run. If you trust it (PyTorch \
         would run it), keep the tensors alone: d = torch.load(PATH, weights_only=False); torch.save({{k: v for k, v in d.items() if \
         torch.is_tensor(v)}}, PATH)", match key { Some(key) => format!(" at the key `{key}`"), None => String::new() }
    )]
    ForbiddenGlobal {
        /// Module and name.
        global: String,
        /// The last key of a dictionary before it.
        key: Option<String>,
    },
    /// The pickle is damaged or not of PyTorch's making.
    #[error("its data.pkl is wrong at byte {at}: {reason}")]
    BadPickle {
        /// Offset in data.pkl, in bytes.
        at: usize,
        /// Fault that was found.
        reason: &'static str,
    },
    /// A dictionary or list contains itself.
    #[error("`{name}` contains itself")]
    Cycle {
        /// The flattened name at which it shows up again.
        name: String,
    },
    /// Dictionaries or lists nest too deep.
    #[error("its dictionaries nest deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// A small file that unfolds to very many tensors.
    #[error("its data.pkl of {len} bytes unfolds to unreasonably many or long names")]
    TooManyNames {
        /// Length of the pickle.
        len: usize,
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

impl From<io::Error> for PtProblem {
    fn from(error: io::Error) -> Self {
        Self::Read { reason: error.to_string() }
    }
}
