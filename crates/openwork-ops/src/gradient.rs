//! The gradient of a parameter.

use std::sync::Arc;

use openwork_sparse::Pattern;

use crate::Matrix;

/// The gradient of the loss with respect to a parameter: of every entry, zero weights included, or of the
/// entries in its support only.
#[derive(Clone, Debug)]
pub enum Gradient {
    /// Of every entry (exact mode), in the shape of the parameter.
    Dense(Matrix),
    /// Of the entries at the positions of a pattern (support mode).
    Support {
        /// The positions.
        pattern: Arc<Pattern>,
        /// One number per position, in the order of [`Pattern::col_idx`].
        values: Vec<f32>,
    },
}

impl Gradient {
    /// Zero for every entry of a `[rows, cols]` parameter.
    pub fn zeros(shape: (usize, usize)) -> Self {
        Self::Dense(Matrix::zeros(shape))
    }

    /// Zero at the positions of `pattern`.
    pub fn on(pattern: Arc<Pattern>) -> Self {
        let values = vec![0.0; pattern.nnz()];
        Self::Support { pattern, values }
    }

    /// The numbers there are, row-major.
    pub fn values(&self) -> &[f32] {
        match self {
            Self::Dense(g) => g.as_slice().expect("row-major"),
            Self::Support { values, .. } => values,
        }
    }

    /// The numbers there are, to change.
    pub fn values_mut(&mut self) -> &mut [f32] {
        match self {
            Self::Dense(g) => g.as_slice_mut().expect("row-major"),
            Self::Support { values, .. } => values,
        }
    }

    /// The gradient of every entry.
    ///
    /// # Panics
    /// When only that of the support was asked for.
    #[track_caller]
    pub fn dense(&self) -> &Matrix {
        match self {
            Self::Dense(g) => g,
            Self::Support { .. } => panic!("the gradient is known at the support only"),
        }
    }

    /// The gradient of every entry, to change.
    ///
    /// # Panics
    /// When only that of the support was asked for.
    #[track_caller]
    pub fn dense_mut(&mut self) -> &mut Matrix {
        match self {
            Self::Dense(g) => g,
            Self::Support { .. } => panic!("the gradient is known at the support only"),
        }
    }
}
