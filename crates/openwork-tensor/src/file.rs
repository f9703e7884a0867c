//! Reading safetensors files.
//!
//! The file is memory-mapped and its header checked once, in [`TensorFile::open`]; after that, every access
//! copies one tensor out. No reader in this crate allocates more than the file justifies: a tensor can only
//! be as large as the bytes that hold it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn};

use crate::csr::{CsrTensor, part};
use crate::element::{Element, decode};
use crate::error::ReadError;
use crate::header::{Header, Info};
use crate::mmap::Bytes;
use crate::tensor::{Tensor, ensure_finite};

/// An open safetensors file.
///
/// No other process may write to the file in place while this value lives (replacing it by a rename, as
/// [`write_atomic`](crate::write_atomic) does, is fine): a file truncated under a memory map ends the
/// process when the lost part is touched.
#[derive(Debug)]
pub struct TensorFile {
    bytes: Bytes,
    header: Header,
    path: PathBuf,
}

impl TensorFile {
    /// Opens a file and checks its header.
    ///
    /// # Errors
    /// The file cannot be opened, or is not a sound safetensors file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref().to_owned();
        match Bytes::open(&path) {
            Ok(bytes) => Self::new(bytes, path),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Reads a file that is in memory already. Errors call it `(memory)`.
    ///
    /// # Errors
    /// The bytes are not a sound safetensors file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::new(Bytes::Owned(bytes), "(memory)".into())
    }

    fn new(bytes: Bytes, path: PathBuf) -> Result<Self, ReadError> {
        let header = Header::read(&bytes, &path)?;
        Ok(Self { bytes, header, path })
    }

    /// The names of all stored arrays, sorted. A CSR tensor `w` shows as its parts (`w.csr.values`, ..); see
    /// [`csr_names`](Self::csr_names).
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.header.tensors.keys().map(String::as_str)
    }

    /// The names of the CSR tensors, sorted.
    pub fn csr_names(&self) -> impl Iterator<Item = &str> {
        self.names().filter_map(|name| name.strip_suffix(part::SHAPE))
    }

    /// True if there is an array of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.header.tensors.contains_key(name)
    }

    /// The file's own key-value texts.
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.header.metadata
    }

    /// The shape of an array, without reading it; `None` if there is none of this name.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.header.tensors.get(name)?.shape)
    }

    /// Copies one tensor out, bit for bit.
    ///
    /// # Errors
    /// No such tensor, or an element kind this crate does not read.
    pub fn tensor(&self, name: &str) -> Result<Tensor, ReadError> {
        use safetensors::Dtype as Kind;
        let info = self.info(name)?;
        Ok(match info.dtype {
            Kind::F32 => Tensor::F32(self.array::<f32>(name, info)?),
            Kind::F16 => Tensor::F16(self.array::<f16>(name, info)?),
            Kind::BF16 => Tensor::Bf16(self.array::<bf16>(name, info)?),
            Kind::I64 => Tensor::I64(self.array::<i64>(name, info)?),
            Kind::U16 => Tensor::U16(self.array::<u16>(name, info)?),
            other => {
                return Err(ReadError::UnsupportedDtype {
                    path: self.path.clone(),
                    name: name.to_owned(),
                    dtype: other.to_string(),
                });
            }
        })
    }

    /// A tensor of any float kind as 32-bit floats; the widening is exact.
    ///
    /// # Errors
    /// No such tensor, or not of a float kind.
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>, ReadError> {
        match self.tensor(name)? {
            Tensor::F32(array) => Ok(array),
            other => other.to_f32().ok_or_else(|| self.wrong_dtype(name, "F32, F16 or BF16", &other)),
        }
    }

    /// A two-dimensional float tensor; a one-dimensional one becomes a column `[n, 1]`.
    ///
    /// # Errors
    /// As [`f32`](Self::f32), or the tensor has another number of axes.
    pub fn matrix(&self, name: &str) -> Result<Array2<f32>, ReadError> {
        let mut array = self.f32(name)?;
        if array.ndim() == 1 {
            array = array.insert_axis(Axis(1));
        }
        let shape = array.shape().to_vec();
        array.into_dimensionality::<Ix2>().map_err(|_| self.wrong_shape(name, &shape, "a matrix or a vector"))
    }

    /// A tensor of 64-bit integers.
    ///
    /// # Errors
    /// No such tensor, or of another kind.
    pub fn i64(&self, name: &str) -> Result<ArrayD<i64>, ReadError> {
        match self.tensor(name)? {
            Tensor::I64(array) => Ok(array),
            other => Err(self.wrong_dtype(name, "I64", &other)),
        }
    }

    /// A tensor of 16-bit unsigned integers.
    ///
    /// # Errors
    /// No such tensor, or of another kind.
    pub fn u16(&self, name: &str) -> Result<ArrayD<u16>, ReadError> {
        match self.tensor(name)? {
            Tensor::U16(array) => Ok(array),
            other => Err(self.wrong_dtype(name, "U16", &other)),
        }
    }

    /// True if there is a CSR tensor of this name.
    #[must_use]
    pub fn is_csr(&self, name: &str) -> bool {
        self.contains(&format!("{name}{}", part::SHAPE))
    }

    /// Reads a CSR tensor and checks all its rules (see [`CsrTensor`]).
    ///
    /// # Errors
    /// One of the four arrays is missing or of the wrong kind, or a rule is broken.
    pub fn csr(&self, name: &str) -> Result<CsrTensor, ReadError> {
        if !self.is_csr(name) {
            return Err(self.not_found(name));
        }
        let load = |suffix: &str| self.tensor(&format!("{name}{suffix}"));
        CsrTensor::from_parts(&load(part::SHAPE)?, &load(part::ROW_PTR)?, &load(part::COL_IDX)?, load(part::VALUES)?)
            .map_err(|source| ReadError::Csr { path: self.path.clone(), name: name.to_owned(), source })
    }

    /// Checks that no tensor holds NaN or an infinity.
    ///
    /// # Errors
    /// [`ReadError::NotFinite`] names the first one that does; tensors of a kind this crate does not read
    /// are errors too.
    pub fn check_finite(&self) -> Result<(), ReadError> {
        for name in self.names() {
            let tensor = self.tensor(name)?;
            ensure_finite(&tensor, name).map_err(|source| ReadError::NotFinite { path: self.path.clone(), source })?;
        }
        Ok(())
    }

    fn info(&self, name: &str) -> Result<&Info, ReadError> {
        let info = self.header.tensors.get(name);
        info.ok_or_else(|| self.not_found(name))
    }

    fn array<T: Element>(&self, name: &str, info: &Info) -> Result<ArrayD<T>, ReadError> {
        let data = decode(&self.bytes[info.start..info.end]);
        // Fails only for shapes such as [0, 2^40, 2^40], which hold nothing and overflow an address.
        ArrayD::from_shape_vec(IxDyn(&info.shape), data)
            .map_err(|_| self.wrong_shape(name, &info.shape, "a shape that fits an address space"))
    }

    fn not_found(&self, name: &str) -> ReadError {
        ReadError::NotFound { path: self.path.clone(), name: name.to_owned() }
    }

    fn wrong_dtype(&self, name: &str, expected: &'static str, found: &Tensor) -> ReadError {
        ReadError::WrongDtype { path: self.path.clone(), name: name.to_owned(), expected, found: found.dtype() }
    }

    fn wrong_shape(&self, name: &str, shape: &[usize], expected: &'static str) -> ReadError {
        ReadError::WrongShape { path: self.path.clone(), name: name.to_owned(), shape: shape.to_vec(), expected }
    }
}
