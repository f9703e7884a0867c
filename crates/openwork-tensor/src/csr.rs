//! Sparse matrices, and how they lie in ordinary safetensors files.
//!
//! A CSR matrix `w` is stored as four arrays that any safetensors reader can load:
//!
//! | array | kind | shape | contents |
//! |---|---|---|---|
//! | `w.csr.shape` | I64 | `[2]` | rows, cols |
//! | `w.csr.row_ptr` | I64 | `[rows + 1]` | row `r` is entries `row_ptr[r]..row_ptr[r + 1]` |
//! | `w.csr.col_idx` | U16 if cols ≤ 65536, else I64 | `[nnz]` | column of each entry |
//! | `w.csr.values` | F32 | `[nnz]` | the entry |
//!
//! In Python, with numpy alone:
//!
//! ```python
//! import numpy as np
//! from safetensors.numpy import load_file
//! t = load_file("model.safetensors")
//! rows, cols = t["w.csr.shape"]
//! row = np.repeat(np.arange(rows), np.diff(t["w.csr.row_ptr"]))
//! dense = np.zeros((rows, cols), np.float32)
//! dense[row, t["w.csr.col_idx"]] = t["w.csr.values"]
//! # with scipy: scipy.sparse.csr_array(
//! #     (t["w.csr.values"], t["w.csr.col_idx"], t["w.csr.row_ptr"]), shape=(rows, cols))
//! ```

use std::collections::BTreeMap;

use ndarray::{Array1, Array2, ArrayView2};

use crate::tensor::Tensor;

/// Suffixes of a CSR tensor's name, one for each of its arrays.
pub(crate) mod part {
    pub(crate) const SHAPE: &str = ".csr.shape";
    pub(crate) const ROW_PTR: &str = ".csr.row_ptr";
    pub(crate) const COL_IDX: &str = ".csr.col_idx";
    pub(crate) const VALUES: &str = ".csr.values";
}

/// A sparse matrix in compressed sparse row form, as read from or written to a file.
///
/// Rules, checked by [`check`](Self::check) and on every read and write:
/// - `row_ptr` has `rows + 1` entries, starts at 0, never falls, and ends at nnz;
/// - `col_idx` and `values` have nnz entries;
/// - inside a row, `col_idx` strictly rises and stays below `cols`.
///
/// Values may be anything, explicit zeros and NaN included.
#[derive(Debug, Clone, PartialEq)]
pub struct CsrTensor {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns, at most 2³².
    pub cols: usize,
    /// Row `r` is entries `row_ptr[r]..row_ptr[r + 1]`.
    pub row_ptr: Vec<u32>,
    /// Column of each entry.
    pub col_idx: Vec<u32>,
    /// Value of each entry.
    pub values: Vec<f32>,
}

/// A rule that a [`CsrTensor`] breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// One of the four arrays has a kind or shape it must not have.
    #[error("`{part}` has to be {expected}")]
    BadPart {
        /// The end of the array's name.
        part: &'static str,
        /// Values that are accepted.
        expected: &'static str,
    },
    /// `row_ptr` is too long or too short.
    #[error("row_ptr has {found} entries; {rows} rows need one more than that many")]
    RowPtrLength {
        /// Entries there are.
        found: usize,
        /// Rows of the matrix.
        rows: usize,
    },
    /// `row_ptr` does not start at 0, falls, or does not end at the number of entries.
    #[error("row_ptr of row {row} is wrong: it has to rise from 0 to the number of entries, {nnz}")]
    RowPtr {
        /// The first row at fault (`rows` for the last entry).
        row: usize,
        /// Entries of the matrix.
        nnz: usize,
    },
    /// `col_idx` and `values` differ in length.
    #[error("{col_idx} column indices but {values} values")]
    Lengths {
        /// Entries of `col_idx`.
        col_idx: usize,
        /// Entries of `values`.
        values: usize,
    },
    /// A column index is not below `cols`.
    #[error("row {row} has an entry in column {col}, but there are {cols} columns")]
    Column {
        /// The row.
        row: usize,
        /// The column index.
        col: u32,
        /// Columns of the matrix.
        cols: usize,
    },
    /// The column indices of a row do not strictly rise.
    #[error("the column indices of row {row} do not strictly rise at column {col}")]
    Order {
        /// The row.
        row: usize,
        /// The column index that is not above the one before it.
        col: u32,
    },
    /// More rows, columns or entries than 32-bit indices reach.
    #[error("a matrix of {rows} x {cols} with {nnz} entries is beyond 32-bit indices")]
    TooLarge {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
        /// Entries of the matrix.
        nnz: usize,
    },
}

impl CsrTensor {
    /// The entries of a dense matrix that are not zero (`-0.0` is zero, NaN is not).
    ///
    /// # Panics
    /// If the matrix is beyond 32-bit indices.
    #[must_use]
    #[track_caller]
    pub fn from_dense(dense: ArrayView2<'_, f32>) -> Self {
        let (rows, cols) = dense.dim();
        let index = |i: usize| u32::try_from(i).expect("from_dense: beyond 32-bit indices");
        let mut row_ptr = Vec::with_capacity(rows + 1);
        let (mut col_idx, mut values) = (Vec::new(), Vec::new());
        row_ptr.push(0);
        for row in dense.rows() {
            for (col, &value) in row.iter().enumerate() {
                if value != 0.0 {
                    col_idx.push(index(col));
                    values.push(value);
                }
            }
            row_ptr.push(index(values.len()));
        }
        Self { rows, cols, row_ptr, col_idx, values }
    }

    /// The dense matrix, `[rows, cols]`.
    ///
    /// A file of a few bytes can claim any number of columns: compare `rows` and `cols` with what you expect
    /// before calling this on a matrix from elsewhere.
    ///
    /// # Panics
    /// If the matrix breaks a rule; see [`check`](Self::check).
    #[must_use]
    #[track_caller]
    pub fn to_dense(&self) -> Array2<f32> {
        if let Err(error) = self.check() {
            panic!("to_dense: {error}");
        }
        let mut dense = Array2::zeros((self.rows, self.cols));
        for (row, range) in self.row_ptr.windows(2).enumerate() {
            for entry in range[0] as usize..range[1] as usize {
                dense[[row, self.col_idx[entry] as usize]] = self.values[entry];
            }
        }
        dense
    }

    /// Number of entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.values.len()
    }

    /// Checks every rule of the form.
    ///
    /// # Errors
    /// The first rule broken.
    pub fn check(&self) -> Result<(), CsrError> {
        let nnz = self.values.len();
        if self.col_idx.len() != nnz {
            return Err(CsrError::Lengths { col_idx: self.col_idx.len(), values: nnz });
        }
        if self.rows.checked_add(1) != Some(self.row_ptr.len()) {
            return Err(CsrError::RowPtrLength { found: self.row_ptr.len(), rows: self.rows });
        }
        let beyond = |n: usize| u32::try_from(n).is_err();
        if beyond(self.rows) || beyond(self.cols.saturating_sub(1)) || beyond(nnz) {
            return Err(CsrError::TooLarge { rows: self.rows, cols: self.cols, nnz });
        }
        if self.row_ptr[0] != 0 {
            return Err(CsrError::RowPtr { row: 0, nnz });
        }
        if self.row_ptr[self.rows] as usize != nnz {
            return Err(CsrError::RowPtr { row: self.rows, nnz });
        }
        for (row, range) in self.row_ptr.windows(2).enumerate() {
            let entries = self.col_idx.get(range[0] as usize..range[1] as usize);
            check_row(row, entries.ok_or(CsrError::RowPtr { row, nnz })?, self.cols)?;
        }
        Ok(())
    }

    /// The arrays that stand for this matrix in a file.
    pub(crate) fn to_parts(&self, name: &str) -> Result<BTreeMap<String, Tensor>, CsrError> {
        fn i64s(indices: impl Iterator<Item = i64>) -> Tensor {
            Tensor::I64(indices.collect::<Array1<_>>().into_dyn())
        }
        self.check()?;
        let col_idx = if self.cols <= 1 << 16 {
            let narrow = self.col_idx.iter().map(|&c| c as u16);
            Tensor::U16(narrow.collect::<Array1<_>>().into_dyn())
        } else {
            i64s(self.col_idx.iter().map(|&c| i64::from(c)))
        };
        let parts = [
            (part::SHAPE, i64s([self.rows as i64, self.cols as i64].into_iter())),
            (part::ROW_PTR, i64s(self.row_ptr.iter().map(|&p| i64::from(p)))),
            (part::COL_IDX, col_idx),
            (part::VALUES, Array1::from_vec(self.values.clone()).into()),
        ];
        let named = |(suffix, tensor)| (format!("{name}{suffix}"), tensor);
        Ok(parts.into_iter().map(named).collect())
    }

    /// The matrix that four arrays of a file stand for.
    pub(crate) fn from_parts(
        shape: &Tensor,
        row_ptr: &Tensor,
        col_idx: &Tensor,
        values: Tensor,
    ) -> Result<Self, CsrError> {
        const INDICES: &str = "a vector of I64 from 0 to 4294967295";
        let bad = |part, expected| CsrError::BadPart { part, expected };
        let indices = |part, tensor: &Tensor| -> Result<Vec<u32>, CsrError> {
            let Tensor::I64(array) = tensor else {
                return Err(bad(part, INDICES));
            };
            let narrow: Result<_, _> = array.iter().map(|&i| u32::try_from(i)).collect();
            match narrow {
                Ok(indices) if array.ndim() == 1 => Ok(indices),
                _ => Err(bad(part, INDICES)),
            }
        };
        let size = || bad(part::SHAPE, "two I64 numbers, rows and columns");
        let Tensor::I64(shape) = shape else {
            return Err(size());
        };
        let (1, Some(&[rows, cols])) = (shape.ndim(), shape.as_slice()) else {
            return Err(size());
        };
        let rows = usize::try_from(rows).map_err(|_| size())?;
        let cols = usize::try_from(cols).map_err(|_| size())?;
        let col_idx = match col_idx {
            Tensor::U16(array) if cols <= 1 << 16 && array.ndim() == 1 => array.iter().map(|&c| u32::from(c)).collect(),
            wide @ Tensor::I64(_) if cols > 1 << 16 => indices(part::COL_IDX, wide)?,
            _ => {
                let expected = "a vector of U16 for at most 65536 columns, else of I64";
                return Err(bad(part::COL_IDX, expected));
            }
        };
        let values = match values {
            Tensor::F32(array) if array.ndim() == 1 => array.into_raw_vec_and_offset().0,
            _ => return Err(bad(part::VALUES, "a vector of F32")),
        };
        let csr = Self { rows, cols, row_ptr: indices(part::ROW_PTR, row_ptr)?, col_idx, values };
        csr.check()?;
        Ok(csr)
    }
}

fn check_row(row: usize, entries: &[u32], cols: usize) -> Result<(), CsrError> {
    let mut before = None;
    for &col in entries {
        if col as usize >= cols {
            return Err(CsrError::Column { row, col, cols });
        }
        if before >= Some(col) {
            return Err(CsrError::Order { row, col });
        }
        before = Some(col);
    }
    Ok(())
}
