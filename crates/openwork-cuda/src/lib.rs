#![doc = include_str!("../README.md")]
//!
//! Conventions are those of `openwork-ops`. The same functions run on the simulator of `openwork-cuda-sim`, which is
//! another [`Driver`]; that is how they are tested where there is no GPU.

mod array;
mod attention;
mod driver;
mod elementwise;
mod error;
mod gpu;
mod kernel;
mod loader;
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
