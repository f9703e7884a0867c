//! y = W x + b, on a dense or a sparse W.

use ndarray::{ArrayView2, linalg::general_mat_mul};
use openwork_sparse::Csr;

use crate::{Matrix, math, row, row_mut, simd};

/// A parameter: the dense f32 master, and its nonzeros in CSR form where it is sparse enough for the
/// sparse products to win.
#[derive(Clone, Debug)]
pub struct Weight {
    dense: Matrix,
    csr: Option<Csr>,
}

impl Weight {
    /// Below this density the sparse products take less time than the dense ones: the plain loops over
    /// nonzeros reach about a fifth of the GEMM's flop rate. Measured on one machine with AVX-512, forward and
    /// backward together, for every layer of the `quickstart` and `python-1x` recipes and chunks of 128 and
    /// 256 tokens: 0.184 to 0.215, median 0.203 (`cargo bench -p openwork-ops --bench linear`;
    /// `benches/runs/2026-11-22-cpu-2core/linear.txt`).
    pub const CROSSOVER: f64 = 0.2;

    /// Wraps a dense matrix; counts its nonzeros to choose the product.
    pub fn new(dense: Matrix) -> Self {
        let mut weight = Self { dense, csr: None };
        weight.update(|_| ());
        weight
    }

    /// The dense values.
    pub fn dense(&self) -> &Matrix {
        &self.dense
    }

    /// The nonzeros, where the sparse product is the faster one.
    pub fn csr(&self) -> Option<&Csr> {
        self.csr.as_ref()
    }

    /// Number of nonzero entries.
    pub fn nnz(&self) -> usize {
        match &self.csr {
            Some(csr) => csr.pattern().nnz(),
            None => self.dense.iter().filter(|&&x| x != 0.0).count(),
        }
    }

    /// Changes the values and brings the sparse form up to date.
    pub fn update<R>(&mut self, f: impl FnOnce(&mut Matrix) -> R) -> R {
        let result = f(&mut self.dense);
        let nnz = self.dense.iter().filter(|&&x| x != 0.0).count();
        let sparse = self.dense.ncols() > 1 && (nnz as f64) < Self::CROSSOVER * self.dense.len() as f64;
        self.csr = sparse.then(|| Csr::from_dense(self.dense.view()));
        result
    }
}

/// `y = W x + b` (Gao et al. 2025, released `nn.Linear`).
///
/// `W [out, in]`, `b [out, 1]` or none, `x [in, tokens]`, `y [out, tokens]` overwritten.
#[track_caller]
pub fn linear(w: &Weight, b: Option<&Weight>, x: &Matrix, y: &mut Matrix) {
    let (out, input) = w.dense.dim();
    assert!(
        x.nrows() == input && y.dim() == (out, x.ncols()),
        "linear: W is [{out}, {input}] but x is {:?} and y is {:?}",
        x.shape(),
        y.shape()
    );
    match &w.csr {
        Some(csr) => {
            y.fill(0.0);
            openwork_sparse::spmm(csr, x.view(), &mut y.view_mut());
        }
        None => general_mat_mul(1.0, &w.dense, x, 0.0, y),
    }
    if let Some(b) = b {
        simd(|| {
            for r in 0..out {
                let bias = b.dense[[r, 0]];
                row_mut(y, r).iter_mut().for_each(|y| *y += bias);
            }
        });
    }
}

/// `dx += Wᵀ dy`: `dy [out, tokens]`, `dx [in, tokens]`.
#[track_caller]
pub fn linear_backward_input(w: &Weight, dy: &Matrix, dx: &mut Matrix) {
    match &w.csr {
        Some(csr) => openwork_sparse::spmm_transposed(csr, dy.view(), &mut dx.view_mut()),
        None => general_mat_mul(1.0, &w.dense.t(), dy, 1.0, dx),
    }
}

/// `dW += dy xᵀ` for every entry of W (exact mode), and `db += Σ_tokens dy`.
///
/// `dy [out, tokens]`, `x [in, tokens]`, `dW [out, in]`, `db [out, 1]`.
#[track_caller]
pub fn linear_backward_weight(dy: &Matrix, x: ArrayView2<'_, f32>, dw: &mut Matrix, db: Option<&mut Matrix>) {
    general_mat_mul(1.0, dy, &x.t(), 1.0, dw);
    if let Some(db) = db {
        simd(|| {
            for r in 0..dy.nrows() {
                db[[r, 0]] += math::sum(row(dy, r));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{close, gradient, random, random_sparse};

    #[test]
    fn matches_the_reference_dense_and_sparse() {
        for density in [1.0, 0.3, 0.05, 0.0] {
            let w = Weight::new(random_sparse(24, 13, density, 1));
            assert_eq!(w.csr().is_some(), density < Weight::CROSSOVER);
            let (b, x, dy) = (Weight::new(random(24, 1, 2)), random(13, 37, 3), random(24, 37, 4));
            let mut y = Matrix::ones((24, 37));
            linear(&w, Some(&b), &x, &mut y);
            let plain = |w: &_, b: &_, x: &_| crate::reference::linear(w, Some(b), x);
            let (wd, bd, xd) = (w.dense().mapv(f64::from), b.dense().mapv(f64::from), x.mapv(f64::from));
            close(&y, &plain(&wd, &bd, &xd), 13.0);

            let (mut dx, mut dw, mut db) = (Matrix::zeros((13, 37)), Matrix::zeros((24, 13)), Matrix::zeros((24, 1)));
            linear_backward_input(&w, &dy, &mut dx);
            linear_backward_weight(&dy, x.view(), &mut dw, Some(&mut db));
            gradient(&dx, &xd, &dy, |x| plain(&wd, &bd, x));
            gradient(&dw, &wd, &dy, |w| plain(w, &bd, &xd));
            gradient(&db, &bd, &dy, |b| plain(&wd, b, &xd));
        }
    }

    #[test]
    #[should_panic(expected = "linear: W is [2, 3] but x is [4, 1]")]
    fn shape_mismatch_panics() {
        linear(&Weight::new(Matrix::zeros((2, 3))), None, &Matrix::zeros((4, 1)), &mut Matrix::zeros((2, 1)));
    }
}
