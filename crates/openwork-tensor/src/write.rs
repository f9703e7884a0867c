//! Writing safetensors files, atomically and reproducibly: the same tensors give the same bytes.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorInfo;

use crate::atomic::write_atomic;
use crate::csr::{CsrError, CsrTensor};
use crate::element::encode;
use crate::error::MAX_HEADER;
use crate::header::render;
use crate::tensor::{Dtype, NotFinite, Tensor, row_major};

/// Reason that a safetensors file could not be written. Nothing has been changed on disk.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file could not be written or renamed into place.
    #[error("cannot write {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// A tensor holds NaN or an infinity, which its reader would refuse.
    #[error("{} is not written", path.display())]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor, and the index in it.
        source: NotFinite,
    },
    /// `__metadata__` is the format's own and cannot name a tensor.
    #[error("{}: no tensor can be called `__metadata__`", path.display())]
    ReservedName {
        /// The file.
        path: PathBuf,
    },
    /// A CSR tensor, or one of its arrays, has the name of another tensor.
    #[error("{}: two tensors are called `{name}`", path.display())]
    NameTaken {
        /// The file.
        path: PathBuf,
        /// The name.
        name: String,
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
    /// So many tensors or so much metadata that no reader would take the file.
    #[error("{}: the header has {len} bytes, more than is read back ({MAX_HEADER})", path.display())]
    HeaderTooLarge {
        /// The file.
        path: PathBuf,
        /// Length of the header in bytes.
        len: u64,
    },
}

/// Writes tensors and metadata as a safetensors file, through [`write_atomic`].
///
/// # Errors
/// See [`WriteError`]; the old file, if any, is then untouched.
pub fn write(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WriteError> {
    let named = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    write_all(path.as_ref(), named.collect(), metadata)
}

/// As [`write()`], with sparse tensors beside the dense ones. How they lie in the file is described in
/// [`csr`](crate::csr).
///
/// # Errors
/// See [`WriteError`]; the old file, if any, is then untouched.
pub fn write_with_csr(
    path: impl AsRef<Path>,
    tensors: &BTreeMap<String, Tensor>,
    csr: &BTreeMap<String, CsrTensor>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WriteError> {
    let path = path.as_ref();
    let mut parts = BTreeMap::new();
    for (name, tensor) in csr {
        if tensors.contains_key(name) {
            return Err(name_taken(path, name));
        }
        let arrays = tensor.to_parts(name).map_err(|source| WriteError::Csr {
            path: path.to_owned(),
            name: name.clone(),
            source,
        })?;
        for (name, array) in arrays {
            if tensors.contains_key(&name) || parts.contains_key(&name) {
                return Err(name_taken(path, &name));
            }
            parts.insert(name, array);
        }
    }
    let named = tensors.iter().chain(&parts);
    let named = named.map(|(name, tensor)| (name.as_str(), tensor));
    write_all(path, named.collect(), metadata)
}

fn name_taken(path: &Path, name: &str) -> WriteError {
    WriteError::NameTaken { path: path.to_owned(), name: name.to_owned() }
}

fn write_all(
    path: &Path,
    mut tensors: Vec<(&str, &Tensor)>,
    metadata: &BTreeMap<String, String>,
) -> Result<(), WriteError> {
    if tensors.iter().any(|&(name, _)| name == "__metadata__") {
        return Err(WriteError::ReservedName { path: path.to_owned() });
    }
    // The order of the `safetensors` crate: wide elements first, so that all data is aligned; then names.
    tensors.sort_by(|(a, x), (b, y)| {
        let by_kind = kind(y.dtype()).cmp(&kind(x.dtype()));
        by_kind.then_with(|| a.cmp(b))
    });
    let mut offset = 0;
    let infos = tensors.iter().map(|&(name, tensor)| {
        let len: usize = tensor.shape().iter().product();
        let start = offset;
        offset += len * tensor.dtype().size();
        let info =
            TensorInfo { dtype: kind(tensor.dtype()), shape: tensor.shape().to_vec(), data_offsets: (start, offset) };
        (name, info)
    });
    let header = render(metadata, &infos.collect::<Vec<_>>());
    let len = header.len() as u64;
    if len > MAX_HEADER {
        return Err(WriteError::HeaderTooLarge { path: path.to_owned(), len });
    }
    write_atomic(path, |out| {
        out.write_all(&len.to_le_bytes())?;
        out.write_all(&header)?;
        let mut data = tensors.iter();
        data.try_for_each(|(_, tensor)| write_data(tensor, out))
    })
    .map_err(|source| WriteError::Io { path: path.to_owned(), source })
}

pub(crate) fn write_data(tensor: &Tensor, out: &mut impl Write) -> io::Result<()> {
    macro_rules! elements {
        ($array:expr) => {
            encode(row_major($array).as_slice().expect("row-major"), out)
        };
    }
    match tensor {
        Tensor::F64(a) => elements!(a),
        Tensor::F32(a) => elements!(a),
        Tensor::F16(a) => elements!(a),
        Tensor::Bf16(a) => elements!(a),
        Tensor::I64(a) => elements!(a),
        Tensor::I32(a) => elements!(a),
        Tensor::U16(a) => elements!(a),
    }
}

fn kind(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F64 => safetensors::Dtype::F64,
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::Bf16 => safetensors::Dtype::BF16,
        Dtype::I64 => safetensors::Dtype::I64,
        Dtype::I32 => safetensors::Dtype::I32,
        Dtype::U16 => safetensors::Dtype::U16,
    }
}
