//! The pattern of a transposed matrix, with the way back.

use crate::Pattern;

/// The pattern of Wᵀ and where each of its positions is in that of W.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transposed {
    /// Positions of Wᵀ, `[cols, rows]`.
    pub pattern: Pattern,
    /// Position `i` of Wᵀ is position `source[i]` of W: the values of Wᵀ are `source.map(|s| values[s])`.
    pub source: Vec<u32>,
}

impl Pattern {
    /// The pattern of the transposed matrix, by counting: O(nnz + rows + cols).
    pub fn transpose(&self) -> Transposed {
        let (rows, cols) = (self.rows(), self.cols());
        let mut row_ptr = vec![0_u32; cols + 1];
        for &c in self.col_idx() {
            row_ptr[c as usize + 1] += 1;
        }
        for c in 0..cols {
            row_ptr[c + 1] += row_ptr[c];
        }
        let mut next = row_ptr.clone();
        let (mut col_idx, mut source) = (vec![0; self.nnz()], vec![0; self.nnz()]);
        // Rows rise, so within a column they come out in order.
        for r in 0..rows {
            for i in self.row(r) {
                let next = &mut next[self.col_idx()[i] as usize];
                col_idx[*next as usize] = r as u32;
                source[*next as usize] = i as u32;
                *next += 1;
            }
        }
        let pattern = Pattern::new(cols, rows, row_ptr, col_idx).expect("rows were visited in order");
        Transposed { pattern, source }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use proptest::prelude::*;

    use crate::Csr;

    proptest! {
        #[test]
        fn is_the_pattern_of_the_transposed_matrix(rows in 1_usize..9, cols in 1_usize..9,
                                                   seed in prop::collection::vec(-2_i8..=2, 64)) {
            let w = Array2::from_shape_fn((rows, cols), |(r, c)| f32::from(seed[r * cols + c - r]));
            let (csr, expected) = (Csr::from_dense(w.view()), Csr::from_dense(w.t()));
            let transposed = csr.pattern().transpose();
            prop_assert_eq!(&transposed.pattern, &**expected.pattern());
            let values: Vec<f32> = transposed.source.iter().map(|&s| csr.values()[s as usize]).collect();
            prop_assert_eq!(&values[..], expected.values());
            prop_assert_eq!(transposed.pattern.transpose().pattern, (**csr.pattern()).clone());
        }
    }
}
