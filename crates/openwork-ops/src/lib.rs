#![doc = include_str!("../README.md")]
//!
//! # Conventions
//!
//! * Activations are feature-major [`Matrix`] values, `[features, tokens]`, rows contiguous. The tokens of
//!   a batch lie sequence after sequence: token `t` of sequence `s` is column `s · seq_len + t`.
//! * Weights are `[out, in]`; a vector parameter (bias, gain) is a `[n, 1]` matrix.
//! * Backward functions take `dy`, the gradient of the loss with respect to the output, and *add* to
//!   weight gradients; activation gradients are added to or overwritten as each function says.
//! * Operations are single-threaded; the trainer runs many chunks at once.
//! * A shape mismatch is a programmer's error and panics.
//!
//! # Formulas
//!
//! | operation | formula |
//! |---|---|
//! | [`fn@linear`] | `y = W x + b` |
//! | [`fn@norm`] | `y = x / √(mean x² + ε) · gain`, or LayerNorm |
//! | [`fn@abs_top_k`] | the `k` largest magnitudes of a token stay, the others become 0 |
//! | [`fn@attention`] | `y_q = Σ_{k ≤ q} p_qk v_k`, `p_qk = exp(q·k/√d) / (Σ_{j ≤ q} exp(q·j/√d) + exp(sink))` |
//! | [`path_attention`] | the same, each query with a list of keys of its own |
//! | [`activate`] | GELU `x Φ(x)` or ReLU |
//! | [`fn@embed`], [`fn@position`], [`fn@bigram`] | rows of a table by token, by position, added to the logits |
//! | [`cross_entropy`] | `−log softmax(logits)[target]` |
//! | [`adam_step`] | Adam with bias correction |
//!
//! Source: Gao et al. 2025, A.1 and A.2, and the released code.

mod abs_top_k;
mod activation;
mod adam;
mod attention;
mod cpu;
mod cuda;
mod device;
mod embed;
mod engine;
mod gradient;
mod linear;
mod loss;
mod math;
mod norm;
mod path_attention;
pub mod reference;
mod residual;

#[cfg(test)]
mod check;

pub use abs_top_k::{Kept, Ties, abs_top_k, abs_top_k_backward};
pub use activation::{activate, activate_backward};
pub use adam::{Adam, adam_step, adam_step_at, adam_step_then, sum_of_squares};
pub use attention::{attention, attention_backward};
pub use cpu::{ActivationDtype, Activations, Cpu};
pub use cuda::{Cuda, CudaActivations, CudaGradient};
pub use device::{Device, DeviceChoice, UnknownDevice};
pub use embed::{bigram, bigram_backward, embed, embed_backward, position, position_backward};
pub use engine::Engine;
pub use gradient::Gradient;
pub use linear::{DENSE_GRADIENT_ABOVE, Weight, crossover, linear, linear_backward};
pub use loss::{cross_entropy, log_sum_exp};
pub use norm::{NormKind, norm, norm_backward};
/// Declared where the kernels are, for either device.
pub use openwork_cuda::{Activation, AdamConstants, Attention};
pub use path_attention::{Heads, Paths, path_attention, path_attention_backward};
pub use residual::residual;

/// A dense row-major matrix of f32.
pub type Matrix = ndarray::Array2<f32>;

/// Runs `f` with the widest vector instructions this machine has; `f` and what it inlines are compiled
/// once per instruction set (which is why every call marks it `#[inline(always)]`: a closure that is not inlined
/// keeps the instructions of the base machine). Results do not depend on the choice: multiply-adds are fused exactly
/// where the source says `mul_add`, and the order of every sum is fixed by the source.
#[inline(always)]
fn simd<R>(f: impl FnOnce() -> R) -> R {
    openwork_sparse::simd::dispatch(f)
}

/// The contiguous row of a matrix.
#[inline(always)]
fn row(x: &Matrix, r: usize) -> &[f32] {
    let n = x.ncols();
    &x.as_slice().expect("row-major")[r * n..(r + 1) * n]
}

/// The contiguous row of a matrix, to write.
#[inline(always)]
fn row_mut(x: &mut Matrix, r: usize) -> &mut [f32] {
    let n = x.ncols();
    &mut x.as_slice_mut().expect("row-major")[r * n..(r + 1) * n]
}
