#![doc = include_str!("../README.md")]
//!
//! Stands under every numeric crate of the workspace and depends on none of them. Activations are
//! feature-major, `[features, tokens]`: one nonzero weight is then a multiply-add over contiguous tokens.

mod csr;
mod dense_transpose;
mod nonzeros;
mod packed;
mod panel;
mod pattern;
mod product;
pub mod reference;
mod select;
pub mod simd;
mod support;
mod top;
mod transpose;

pub use csr::Csr;
pub use dense_transpose::transpose;
pub use nonzeros::{Nonzeros, Rows};
pub use packed::{Packed, sddmm_packed, spmm_packed};
pub use panel::{Panel, PanelMut};
pub use pattern::{Pattern, PatternError};
pub use product::{Start, matmul, sddmm, spmm};
pub use simd::InstructionSet;
pub use support::{ForEach, Keep, Kept, Support, in_order};
pub use top::{MinPerUnit, Unit, floor_that_fits, top_magnitude};
pub use transpose::Transposed;
