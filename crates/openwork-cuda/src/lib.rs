//! The GPU: device memory, embedded PTX, one safe function per hand-written kernel (`kernels/*.cu`).
//!
//! No CUDA toolkit is needed to build this crate or to use it: NVIDIA's driver is loaded when [`Gpu::open`] asks for it,
//! and a machine without one gets an [`OpenError`].
//!
//! Conventions are those of `openwork-ops`: activations are feature-major, `[features, tokens]`, weights `[out, in]`,
//! gradients of weights are added to. Two differ: rows of activations are padded ([`Array`]), and errors come late
//! ([`Gpu::check`]). A shape mismatch is a programmer's error and panics.
//!
//! ```no_run
//! use openwork_cuda::{Array, Gpu, Operand, Parameters, Shape, linear};
//!
//! let gpu = Gpu::open(0)?;
//! // W [2, 3] with two nonzeros, and x [3, 1].
//! let mut parameters = Parameters::new(&gpu, &[Shape { rows: 2, cols: 3, room: 2 }]);
//! parameters.set_weights(0, &[0.0, 2.0, 0.0, 0.5, 0.0, 0.0]);
//! parameters.build_sparse(&[2], &[true]);
//! let x = Array::upload(&gpu, [3, 1], &[1.0, 2.0, 3.0]);
//! let mut y = Array::new(&gpu, [2, 1]);
//! linear(&parameters.get(0), None, Operand::F32(&x), &mut y);
//! assert_eq!(y.download()?, [4.0, 0.5]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The same functions run on the simulator of `openwork-cuda-sim`, which is another [`Driver`]; that is how they are
//! tested where there is no GPU.

mod array;
mod attention;
mod driver;
mod elementwise;
mod error;
mod gpu;
mod kernel;
mod nvidia;
mod parameters;
mod products;
mod rehearsal;
mod tokens;

pub use array::{Array, Kept, Operand, Packed, ROW, Statistics};
pub use attention::{Attention, attention, attention_backward, supports_heads};
pub use driver::{Address, Arg, Driver, Factor, Gemm, Launch};
pub use elementwise::{
    Activation, FUSED_NORM, Mask, abs_top_k, abs_top_k_backward, activate, add, mark_active, multiply, norm,
    norm_abs_top_k, norm_backward, supports_features,
};
pub use error::{GpuError, OpenError};
pub use gpu::{Buffer, Gpu};
pub use kernel::{KERNELS, Kernel, ptx};
pub use nvidia::{DeviceInfo, devices};
pub use parameters::{AdamConstants, Floor, MOST_PER_UNIT, Outcome, Parameter, Parameters, Selection, Shape};
pub use products::{bias_gradient, linear, linear_gradient, linear_input};
pub use tokens::{Columns, Losses, Tokens, cross_entropy, look_up, look_up_backward};
