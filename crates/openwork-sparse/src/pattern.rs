//! Positions of the nonzeros of a matrix, in compressed sparse row form.

/// Positions of the nonzeros of a `[rows, cols]` matrix.
///
/// Invariants, checked by the only constructor:
/// * `row_ptr.len() == rows + 1`, `row_ptr[0] == 0`, nondecreasing, `row_ptr[rows] == col_idx.len()`;
/// * within a row `col_idx` is strictly increasing and below `cols`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    rows: usize,
    cols: usize,
    row_ptr: Vec<u32>,
    col_idx: Vec<u32>,
}

/// Reason that `row_ptr` and `col_idx` are not a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PatternError {
    /// `row_ptr` does not run from 0 to `nnz` without falling.
    RowPtr {
        /// Index into `row_ptr` of the first bad entry.
        at: usize,
    },
    /// A column index is out of range or not above its left neighbour.
    ColIdx {
        /// Row of the offending entry.
        row: usize,
        /// Index into `col_idx` of the offending entry.
        at: usize,
    },
}

impl std::fmt::Display for PatternError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RowPtr { at } => write!(f, "row_ptr must rise from 0 to nnz; entry {at} does not"),
            Self::ColIdx { row, at } => {
                write!(f, "columns of row {row} must rise and stay below cols; col_idx[{at}] does not")
            }
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Checks the invariants and takes the vectors over.
    ///
    /// # Errors
    /// When a rule of the pattern is broken.
    pub fn new(rows: usize, cols: usize, row_ptr: Vec<u32>, col_idx: Vec<u32>) -> Result<Self, PatternError> {
        if row_ptr.first() != Some(&0) || row_ptr.len() != rows + 1 {
            return Err(PatternError::RowPtr { at: 0 });
        }
        if let Some(at) = (1..=rows).find(|&r| row_ptr[r] < row_ptr[r - 1] || row_ptr[r] as usize > col_idx.len()) {
            return Err(PatternError::RowPtr { at });
        }
        if row_ptr[rows] as usize != col_idx.len() {
            return Err(PatternError::RowPtr { at: rows });
        }
        for row in 0..rows {
            let (start, end) = (row_ptr[row] as usize, row_ptr[row + 1] as usize);
            for at in start..end {
                if col_idx[at] as usize >= cols || (at > start && col_idx[at] <= col_idx[at - 1]) {
                    return Err(PatternError::ColIdx { row, at });
                }
            }
        }
        Ok(Self { rows, cols, row_ptr, col_idx })
    }

    /// Number of rows (output features).
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns (input features).
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of positions.
    pub fn nnz(&self) -> usize {
        self.col_idx.len()
    }

    /// `nnz / (rows * cols)`; 0 for an empty matrix.
    pub fn density(&self) -> f64 {
        self.nnz() as f64 / (self.rows * self.cols).max(1) as f64
    }

    /// Start of each row in [`Pattern::col_idx`], and the total at the end.
    pub fn row_ptr(&self) -> &[u32] {
        &self.row_ptr
    }

    /// Column of every position, row after row.
    pub fn col_idx(&self) -> &[u32] {
        &self.col_idx
    }

    /// Range of row `row` in [`Pattern::col_idx`].
    pub fn row(&self, row: usize) -> std::ops::Range<usize> {
        self.row_ptr[row] as usize..self.row_ptr[row + 1] as usize
    }

    /// Sets every entry of `w` outside the pattern to zero.
    ///
    /// # Panics
    /// When `w` is not `[rows, cols]`.
    #[track_caller]
    pub fn project(&self, w: &mut ndarray::Array2<f32>) {
        assert_eq!(w.dim(), (self.rows, self.cols), "project: pattern and matrix differ in shape");
        for (r, mut row) in w.rows_mut().into_iter().enumerate() {
            let mut kept = self.col_idx[self.row(r)].iter().peekable();
            for (c, value) in row.iter_mut().enumerate() {
                if kept.next_if(|&&k| k as usize == c).is_none() {
                    *value = 0.0;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_a_pattern() {
        assert!(Pattern::new(2, 3, vec![0, 1, 2], vec![2, 0]).is_ok());
        assert_eq!(Pattern::new(2, 3, vec![0, 2, 1], vec![0]), Err(PatternError::RowPtr { at: 1 }));
        assert_eq!(Pattern::new(2, 3, vec![1, 1, 1], vec![0]), Err(PatternError::RowPtr { at: 0 }));
        assert_eq!(Pattern::new(1, 3, vec![0, 1], vec![0, 1]), Err(PatternError::RowPtr { at: 1 }));
        assert_eq!(Pattern::new(1, 3, vec![0, 1], vec![3]), Err(PatternError::ColIdx { row: 0, at: 0 }));
        assert_eq!(Pattern::new(1, 3, vec![0, 2], vec![1, 1]), Err(PatternError::ColIdx { row: 0, at: 1 }));
    }

    #[test]
    fn project_zeroes_the_rest() {
        let p = Pattern::new(2, 2, vec![0, 1, 2], vec![1, 0]).unwrap();
        let mut w = ndarray::array![[1.0, 2.0], [3.0, 4.0]];
        p.project(&mut w);
        assert_eq!(w, ndarray::array![[0.0, 2.0], [3.0, 0.0]]);
    }
}
