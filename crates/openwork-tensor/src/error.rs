//! Errors of reading safetensors files.

use std::io;
use std::path::PathBuf;

use crate::csr::CsrError;
use crate::tensor::{Dtype, NotFinite};

/// The longest header that is read or written, in bytes: about a hundred thousand tensors. The format allows six times as
/// much, which would take a gigabyte of memory to parse.
pub(crate) const MAX_HEADER: u64 = 1 << 24;

/// Reason that a safetensors file, or a tensor in it, could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// The file ends before its header does.
    #[error("{} is cut off, or no safetensors file: the header needs {need} bytes, the file has {len}", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Least number of bytes that the file would have to have.
        need: u64,
        /// Number of bytes it has.
        len: u64,
    },
    /// The first eight bytes claim a header longer than is read.
    #[error("{} is no safetensors file, or of too many tensors: its header claims {len} bytes, at most {} are read", path.display(), MAX_HEADER)]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// The claimed length in bytes.
        len: u64,
    },
    /// The header is not the JSON the format asks for.
    #[error("{} has a bad header: {reason}", path.display())]
    BadHeader {
        /// The file.
        path: PathBuf,
        /// Fault that was found.
        reason: String,
    },
    /// A name stands twice in the header.
    #[error("{}: `{name}` occurs twice in the header", path.display())]
    DuplicateName {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
    },
    /// A tensor's bytes overlap another's, leave a gap or run backwards.
    #[error("{}: the data of `{name}` does not start where the tensor before it ends, or ends before it starts", path.display())]
    BadOffsets {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// The file is longer or shorter than its tensors.
    #[error("{} is cut off or has bytes that belong to no tensor", path.display())]
    WrongLength {
        /// The file.
        path: PathBuf,
    },
    /// There is no such tensor.
    #[error("{} has no tensor `{name}`", path.display())]
    NotFound {
        /// The file.
        path: PathBuf,
        /// The name asked for.
        name: String,
    },
    /// The tensor has an element kind this crate does not read at all.
    #[error("{}: `{name}` is of kind {dtype}; F64, F32, F16, BF16, I64, I32 and U16 can be read", path.display())]
    UnsupportedDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its kind, as safetensors spells it.
        dtype: String,
    },
    /// The tensor has another element kind than the one asked for.
    #[error("{}: `{name}` is of kind {found}, not {expected}", path.display())]
    WrongDtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Kind, shape or amount asked for.
        expected: &'static str,
        /// Kind in the file.
        found: Dtype,
    },
    /// The tensor's shape is not of the kind asked for.
    #[error("{}: `{name}` has shape {shape:?}, not {expected}", path.display())]
    WrongShape {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Kind, shape or amount asked for.
        expected: &'static str,
    },
    /// A sparse tensor breaks one of its rules.
    #[error("{}: `{name}` is no CSR tensor", path.display())]
    Csr {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The broken rule.
        source: CsrError,
    },
    /// A tensor holds NaN or an infinity, and the caller asked for finite numbers.
    #[error("{}", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor, and the index in it.
        source: NotFinite,
    },
}
