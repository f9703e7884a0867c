//! The nonzeros of a dense matrix, row by row: what the sparse product goes over when it is the activations
//! that are sparse.

use crate::{Csr, InstructionSet, Panel};

/// A sparse left factor, borrowed: rows of positions and values.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    pub(crate) cols: usize,
    pub(crate) row_ptr: &'a [u32],
    pub(crate) col_idx: &'a [u32],
    pub(crate) values: &'a [f32],
}

impl<'a> From<&'a Csr> for Rows<'a> {
    fn from(w: &'a Csr) -> Self {
        let p = w.pattern();
        Self { cols: p.cols(), row_ptr: p.row_ptr(), col_idx: p.col_idx(), values: w.values() }
    }
}

impl Rows<'_> {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.row_ptr.len() - 1
    }

    /// True if there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of nonzeros.
    pub fn nnz(&self) -> usize {
        self.row_ptr[self.len()] as usize
    }

    /// Columns and values of row `r`, columns rising.
    #[inline(always)]
    pub fn row(&self, r: usize) -> (&[u32], &[f32]) {
        let row = self.row_ptr[r] as usize..self.row_ptr[r + 1] as usize;
        (&self.col_idx[row.clone()], &self.values[row])
    }
}

/// Room behind the last nonzero, so that a whole register can be stored wherever one begins.
const SLACK: usize = 16;

/// The nonzeros of a matrix that is dense in memory. Keeps its buffers from one matrix to the next.
#[derive(Clone, Debug, Default)]
pub struct Nonzeros {
    cols: usize,
    row_ptr: Vec<u32>,
    col_idx: Vec<u32>,
    values: Vec<f32>,
}

impl Nonzeros {
    /// Takes the nonzeros of `x [rows, cols]` instead of those it held.
    ///
    /// Floor: one read of `x`, and two writes a nonzero. Without AVX-512 every entry is written and only
    /// nonzeros advance, so that no branch depends on the data.
    ///
    /// # Panics
    /// When rows of `x` are not contiguous.
    #[track_caller]
    pub fn collect<'a>(&mut self, x: impl Into<Panel<'a>>) {
        self.collect_with(InstructionSet::current(), x.into(), usize::MAX);
    }

    /// [`Nonzeros::collect`] if fewer than a fraction `density` of the entries are nonzero. Otherwise gives up as
    /// soon as there are that many, says so, and holds none.
    #[track_caller]
    pub fn collect_below<'a>(&mut self, density: f64, x: impl Into<Panel<'a>>) -> bool {
        let x = x.into();
        let limit = (density * (x.rows * x.cols) as f64).ceil() as usize;
        self.collect_with(InstructionSet::current(), x, limit);
        self.row_ptr.len() == x.rows + 1
    }

    /// Stops at `limit` nonzeros.
    fn collect_with(&mut self, set: InstructionSet, x: Panel<'_>, limit: usize) {
        self.cols = x.cols;
        self.row_ptr.clear();
        self.row_ptr.push(0);
        let mut n = 0;
        for r in 0..x.rows {
            if self.values.len() < n + x.cols + SLACK {
                let len = (n + x.cols + SLACK).max(self.values.len() * 3 / 2);
                self.values.resize(len, 0.0);
                self.col_idx.resize(len, 0);
            }
            n += compress(set, x.row(r), &mut self.col_idx[n..], &mut self.values[n..]);
            if n >= limit {
                return self.row_ptr.truncate(1);
            }
            self.row_ptr.push(n as u32);
        }
    }

    /// Bytes of its buffers.
    pub fn bytes(&self) -> usize {
        4 * (self.row_ptr.capacity() + self.col_idx.capacity() + self.values.capacity())
    }

    /// The nonzeros as a factor of a product.
    pub fn rows(&self) -> Rows<'_> {
        let n = self.row_ptr[self.row_ptr.len() - 1] as usize;
        let (col_idx, values) = (&self.col_idx[..n], &self.values[..n]);
        Rows { cols: self.cols, row_ptr: &self.row_ptr, col_idx, values }
    }
}

/// Writes places and values of the nonzeros of `x` to the front of `places` and `values`; returns their number.
#[inline(always)]
fn compress(set: InstructionSet, x: &[f32], places: &mut [u32], values: &mut [f32]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if set == InstructionSet::Avx512
        && let Some(simd) = pulp::x86::V4::try_new()
    {
        return pulp::Simd::vectorize(simd, Avx512 { simd, x, places, values });
    }
    let _ = set;
    let mut n = 0;
    for (i, &x) in x.iter().enumerate() {
        (places[n], values[n]) = (i as u32, x);
        n += usize::from(x != 0.0);
    }
    n
}

#[cfg(target_arch = "x86_64")]
struct Avx512<'a> {
    simd: pulp::x86::V4,
    x: &'a [f32],
    places: &'a mut [u32],
    values: &'a mut [f32],
}

#[cfg(target_arch = "x86_64")]
impl pulp::WithSimd for Avx512<'_> {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, _: S) -> usize {
        use crate::simd::load;
        let f = self.simd.avx512f;
        let (zero, sixteen) = (f._mm512_setzero_ps(), f._mm512_set1_epi32(16));
        let mut at = f._mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
        let mut n = 0;
        for x in self.x.chunks(16) {
            let x = pulp::cast(load(self.simd, x));
            let mask = f._mm512_cmpneq_ps_mask(x, zero);
            // To a register first: compressing straight to memory is several times slower on Zen processors.
            let values: [f32; 16] = pulp::cast(f._mm512_maskz_compress_ps(mask, x));
            let places: [u32; 16] = pulp::cast(f._mm512_maskz_compress_epi32(mask, at));
            self.values[n..n + 16].copy_from_slice(&values);
            self.places[n..n + 16].copy_from_slice(&places);
            n += mask.count_ones() as usize;
            at = f._mm512_add_epi32(at, sixteen);
        }
        n
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    #[test]
    fn finds_what_a_csr_holds_with_every_instruction_set() {
        for (rows, cols) in [(1, 1), (3, 16), (7, 45), (2, 300)] {
            let x = Array2::from_shape_fn((rows, cols), |(r, c)| match (r * 31 + c * 17) % 4 {
                0 => 1.0 + c as f32,
                1 => -0.0,
                _ => 0.0,
            });
            let expected = Csr::from_dense(x.view());
            for set in InstructionSet::available() {
                let mut found = Nonzeros::default();
                // Twice: the second time the buffers hold something.
                found.collect_with(set, Panel::from(&Array2::ones((rows, cols))), usize::MAX);
                found.collect_with(set, Panel::from(&x), usize::MAX);
                let (found, expected) = (found.rows(), Rows::from(&expected));
                assert_eq!((found.nnz(), found.len()), (expected.nnz(), rows));
                for r in 0..rows {
                    assert_eq!(found.row(r), expected.row(r), "{set}");
                }
                let density = expected.nnz() as f64 / x.len() as f64;
                let mut found = Nonzeros::default();
                assert!(!found.collect_below(density, &x) && found.rows().is_empty(), "fewer than that many");
                assert!(found.collect_below(density + 1.5 / x.len() as f64, &x));
                assert_eq!(found.rows().nnz(), expected.nnz());
            }
        }
    }
}
