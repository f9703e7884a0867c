//! A sparse matrix: a shared pattern and one value per position.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use crate::Pattern;

/// A `[rows, cols]` matrix in compressed sparse row form; `values[i]` sits at position `i` of the pattern.
#[derive(Clone, Debug, PartialEq)]
pub struct Csr {
    pattern: Arc<Pattern>,
    values: Vec<f32>,
}

impl Csr {
    /// `values[i]` at position `i` of `pattern`.
    ///
    /// # Panics
    /// When there are more or fewer values than positions.
    #[track_caller]
    pub fn new(pattern: impl Into<Arc<Pattern>>, values: Vec<f32>) -> Self {
        let pattern = pattern.into();
        assert_eq!(values.len(), pattern.nnz(), "csr: values and positions differ in number");
        Self { pattern, values }
    }

    /// The entries of `w` at the positions of `pattern`.
    ///
    /// # Panics
    /// When `w` and `pattern` differ in shape.
    #[track_caller]
    pub fn gather(pattern: impl Into<Arc<Pattern>>, w: ArrayView2<'_, f32>) -> Self {
        let pattern = pattern.into();
        assert_eq!(w.dim(), (pattern.rows(), pattern.cols()), "gather: pattern and matrix differ in shape");
        let mut values = Vec::with_capacity(pattern.nnz());
        for (r, row) in w.rows().into_iter().enumerate() {
            values.extend(pattern.col_idx()[pattern.row(r)].iter().map(|&c| row[c as usize]));
        }
        Self { pattern, values }
    }

    /// All nonzero entries of `w`.
    pub fn from_dense(w: ArrayView2<'_, f32>) -> Self {
        let mut row_ptr = vec![0_u32];
        let (mut col_idx, mut values) = (Vec::new(), Vec::new());
        for row in w.rows() {
            for (c, &value) in row.iter().enumerate() {
                if value != 0.0 {
                    col_idx.push(c as u32);
                    values.push(value);
                }
            }
            row_ptr.push(col_idx.len() as u32);
        }
        let pattern = Pattern::new(w.nrows(), w.ncols(), row_ptr, col_idx).expect("built in order");
        Self { pattern: Arc::new(pattern), values }
    }

    /// The positions.
    pub fn pattern(&self) -> &Arc<Pattern> {
        &self.pattern
    }

    /// The values, in the order of [`Pattern::col_idx`].
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The matrix with its zeros written out.
    pub fn to_dense(&self) -> Array2<f32> {
        let mut w = Array2::zeros((self.pattern.rows(), self.pattern.cols()));
        for r in 0..self.pattern.rows() {
            for i in self.pattern.row(r) {
                w[[r, self.pattern.col_idx()[i] as usize]] = self.values[i];
            }
        }
        w
    }
}
