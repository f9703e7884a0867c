//! Sparse products on feature-major activations, single-threaded.
//!
//! Floor: `2 · nnz · tokens` flops; bound by loads of the activation rows, which should sit in cache.

use ndarray::{ArrayView2, ArrayViewMut2};

use crate::Csr;

/// `y += W x`: `W [out, in]` sparse, `x [in, tokens]`, `y [out, tokens]`.
///
/// # Panics
/// When the shapes do not fit, or rows of `x` or `y` are not contiguous.
#[track_caller]
pub fn spmm(w: &Csr, x: ArrayView2<'_, f32>, y: &mut ArrayViewMut2<'_, f32>) {
    let p = w.pattern();
    assert!(
        x.nrows() == p.cols() && y.dim() == (p.rows(), x.ncols()),
        "spmm: W is [{}, {}] but x is {:?} and y is {:?}",
        p.rows(),
        p.cols(),
        x.shape(),
        y.shape()
    );
    pulp::Arch::new().dispatch(|| {
        for r in 0..p.rows() {
            let mut out = y.row_mut(r);
            let out = out.as_slice_mut().expect("rows of y are contiguous");
            for i in p.row(r) {
                let row = x.row(p.col_idx()[i] as usize);
                axpy(w.values()[i], row.to_slice().expect("rows of x are contiguous"), out);
            }
        }
    });
}

/// `dx += Wᵀ dy`: `W [out, in]` sparse, `dy [out, tokens]`, `dx [in, tokens]`.
///
/// # Panics
/// When the shapes do not fit, or rows of `dy` or `dx` are not contiguous.
#[track_caller]
pub fn spmm_transposed(w: &Csr, dy: ArrayView2<'_, f32>, dx: &mut ArrayViewMut2<'_, f32>) {
    let p = w.pattern();
    assert!(
        dy.nrows() == p.rows() && dx.dim() == (p.cols(), dy.ncols()),
        "spmm_transposed: W is [{}, {}] but dy is {:?} and dx is {:?}",
        p.rows(),
        p.cols(),
        dy.shape(),
        dx.shape()
    );
    pulp::Arch::new().dispatch(|| {
        for r in 0..p.rows() {
            let row = dy.row(r);
            let row = row.to_slice().expect("rows of dy are contiguous");
            for i in p.row(r) {
                let mut out = dx.row_mut(p.col_idx()[i] as usize);
                axpy(w.values()[i], row, out.as_slice_mut().expect("rows of dx are contiguous"));
            }
        }
    });
}

#[inline(always)]
fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y += a * x;
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::{reference, top_magnitude};

    #[test]
    fn products_match_the_reference() {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        for (out, input, tokens) in [(1, 1, 1), (7, 5, 3), (64, 33, 17), (96, 64, 130)] {
            for density in [0.0, 0.02, 0.25, 1.0] {
                let w = Array2::from_shape_simple_fn((out, input), || rng.random_range(-1.0..1.0_f32));
                let w = Csr::gather(top_magnitude(w.view(), (density * w.len() as f64) as usize, None), w.view());
                let x = Array2::from_shape_simple_fn((input, tokens), || rng.random_range(-1.0..1.0_f32));
                let dy = Array2::from_shape_simple_fn((out, tokens), || rng.random_range(-1.0..1.0_f32));
                let mut y = Array2::zeros((out, tokens));
                spmm(&w, x.view(), &mut y.view_mut());
                let mut dx = Array2::zeros((input, tokens));
                spmm_transposed(&w, dy.view(), &mut dx.view_mut());
                // eps · terms: every term is below 1 and rounds twice.
                let tolerance = f64::from(f32::EPSILON) * 2.0 * (input.max(out) as f64);
                for (a, b) in y.iter().zip(&reference::spmm(&w, x.view())) {
                    assert!((f64::from(*a) - b).abs() <= tolerance, "{a} {b}");
                }
                for (a, b) in dx.iter().zip(&reference::spmm_transposed(&w, dy.view())) {
                    assert!((f64::from(*a) - b).abs() <= tolerance, "{a} {b}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "spmm: W is [2, 2] but x is [3, 1]")]
    fn shape_mismatch_panics() {
        let w = Csr::from_dense(ndarray::array![[1.0, 0.0], [0.0, 1.0]].view());
        spmm(&w, Array2::zeros((3, 1)).view(), &mut Array2::zeros((2, 1)).view_mut());
    }
}
