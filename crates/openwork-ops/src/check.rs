//! Helpers of this crate's tests: random matrices, closeness, finite differences.

use ndarray::Array2;
use rand::{RngExt, SeedableRng};

use crate::Matrix;

pub fn random(rows: usize, cols: usize, seed: u64) -> Matrix {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
    Matrix::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

pub fn random_sparse(rows: usize, cols: usize, density: f64, seed: u64) -> Matrix {
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    random(rows, cols, seed).mapv(|x| if rng.random_bool(density) { x } else { 0.0 })
}

/// Entries agree to `4 · eps · terms · scale`: each of `terms` additions of numbers up to `scale`
/// (the largest entry) rounds once, and so does each product under it.
#[track_caller]
pub fn close(fast: &Matrix, exact: &Array2<f64>, terms: f64) {
    assert_eq!(fast.dim(), exact.dim());
    let scale = exact.iter().fold(1.0_f64, |m, x| m.max(x.abs()));
    let tolerance = 4.0 * f64::from(f32::EPSILON) * terms * scale;
    for (at, x) in exact.indexed_iter() {
        let error = (f64::from(fast[at]) - x).abs();
        assert!(error <= tolerance, "at {at:?}: {} instead of {x} (off by {error:e}, allowed {tolerance:e})", fast[at]);
    }
}

/// Checks `grad` = ∂⟨dy, f(at)⟩/∂at entry by entry against central differences of the f64 `f`.
///
/// Step h = 1e-5 in f64: truncation h² · f''' ≈ 1e-10 and cancellation 1e-16/h ≈ 1e-11 both vanish beside
/// the f32 rounding of `grad` (1e-7 a term), for which 2e-5 of the largest entry is allowed.
#[track_caller]
pub fn gradient(grad: &Matrix, at: &Array2<f64>, dy: &Matrix, f: impl Fn(&Array2<f64>) -> Array2<f64>) {
    assert_eq!(grad.dim(), at.dim());
    let dy = dy.mapv(f64::from);
    let loss = |x: &Array2<f64>| (&f(x) * &dy).sum();
    let h = 1e-5;
    let exact = Array2::from_shape_fn(at.dim(), |i| {
        let (mut up, mut down) = (at.clone(), at.clone());
        up[i] += h;
        down[i] -= h;
        (loss(&up) - loss(&down)) / (2.0 * h)
    });
    let scale = exact.iter().fold(1e-3_f64, |m, x| m.max(x.abs()));
    for (i, x) in exact.indexed_iter() {
        let error = (f64::from(grad[i]) - x).abs();
        assert!(error <= 2e-5 * scale, "gradient at {i:?}: {} instead of {x} (scale {scale})", grad[i]);
    }
}
