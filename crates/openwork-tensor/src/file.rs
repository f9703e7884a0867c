//! Reading safetensors files.
//!
//! The header is read and checked once, in [`TensorFile::open`]; after that, every access reads one tensor. No
//! reader in this crate allocates more than the file justifies: a tensor can only be as large as the bytes that
//! hold it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use ndarray::{Array2, ArrayD, Axis, Ix2, IxDyn};

use crate::csr::{CsrTensor, part};
use crate::element::{self, Element};
use crate::error::ReadError;
use crate::header::{Header, Info};
use crate::source::Source;
use crate::tensor::{Tensor, ensure_finite};

/// An open safetensors file.
///
/// A file that is replaced by a rename, as [`write_atomic`](crate::write_atomic) does, stays what it was for this value;
/// one that another process shortens in place is an error.
#[derive(Debug)]
pub struct TensorFile {
    source: Source,
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
        match Source::open(&path) {
            Ok(source) => Self::new(source, path),
            Err(source) => Err(ReadError::Io { path, source }),
        }
    }

    /// Reads a file that is in memory already. Errors call it `(memory)`.
    ///
    /// # Errors
    /// The bytes are not a sound safetensors file.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, ReadError> {
        Self::new(Source::Memory(bytes), "(memory)".into())
    }

    fn new(source: Source, path: PathBuf) -> Result<Self, ReadError> {
        let header = Header::read(&source, &path)?;
        Ok(Self { source, header, path })
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

    /// The file's path; `(memory)` for one that was never on disk.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
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
            Kind::F64 => Tensor::F64(self.array::<f64>(name, info)?),
            Kind::F32 => Tensor::F32(self.array::<f32>(name, info)?),
            Kind::F16 => Tensor::F16(self.array::<f16>(name, info)?),
            Kind::BF16 => Tensor::Bf16(self.array::<bf16>(name, info)?),
            Kind::I64 => Tensor::I64(self.array::<i64>(name, info)?),
            Kind::I32 => Tensor::I32(self.array::<i32>(name, info)?),
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

    /// A tensor of any float kind as 32-bit floats: exact, except that 64-bit floats are rounded to the nearest.
    ///
    /// # Errors
    /// No such tensor, or not of a float kind.
    pub fn f32(&self, name: &str) -> Result<ArrayD<f32>, ReadError> {
        match self.tensor(name)? {
            Tensor::F32(array) => Ok(array),
            other => other.to_f32().ok_or_else(|| self.wrong_dtype(name, "F64, F32, F16 or BF16", &other)),
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
        // The header has been checked against the file: the bytes are whole elements, as many as the shape says.
        let count = ((info.end - info.start) / T::SIZE as u64) as usize;
        let data = element::read(&self.source, info.start, count)
            .map_err(|source| ReadError::Io { path: self.path.clone(), source })?;
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
