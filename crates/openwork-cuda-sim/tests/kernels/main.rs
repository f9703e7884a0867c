//! The kernels under the simulator, held to the CPU's operations.

mod abs_top_k;
mod attention;
mod embed;
mod loss;
mod matmul;
mod norm;
mod planted;
mod pointwise;
mod sddmm;
mod sites;
mod spmm;
mod update;

use ndarray::Array2;
use openwork_cuda_sim::Config;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Random numbers between -1 and 1.
fn random(rows: usize, cols: usize, seed: u64) -> Array2<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    Array2::from_shape_simple_fn((rows, cols), || rng.random_range(-1.0..1.0))
}

/// A launch of `grid` blocks of `threads` threads.
fn config(grid: [usize; 2], threads: u32) -> Config {
    Config { grid: [grid[0] as u32, grid[1] as u32, 1], block: [threads, 1, 1], shared: 0 }
}

/// Sums of `terms` products in another order: a few roundings each of the largest number.
fn close(name: &str, a: &[f32], b: &[f32], terms: f32) {
    let scale = b.iter().fold(1.0_f32, |m, x| m.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 4.0 * f32::EPSILON * terms * scale, "{name}: {a} {b}");
    }
}

/// The numbers of a matrix, row by row.
fn vec(x: &Array2<f32>) -> Vec<f32> {
    x.iter().copied().collect()
}
