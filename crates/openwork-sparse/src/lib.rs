//! Sparse matrices of a weight-sparse model: where the nonzeros are ([`Pattern`]), what they hold
//! ([`Csr`]), how they are chosen ([`top_magnitude`]) and the products that use them.
//!
//! Stands under every numeric crate of the workspace and depends on none of them. Activations are
//! feature-major, `[features, tokens]`: one nonzero weight is then an axpy over contiguous tokens.
//!
//! ```
//! use ndarray::array;
//! use openwork_sparse::{Csr, Start, spmm, top_magnitude};
//!
//! let w = array![[0.1_f32, -3.0], [2.0, 0.5]];
//! let pattern = top_magnitude(w.view(), 2, None);
//! let w = Csr::gather(pattern, w.view());
//! let x = array![[1.0_f32, 10.0], [2.0, 20.0]]; // two features, two tokens
//! let mut y = ndarray::Array2::zeros((2, 2));
//! spmm(&w, Start::Zero, &x, &mut y);
//! assert_eq!(y, array![[-6.0, -60.0], [2.0, 20.0]]);
//! ```

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
pub use select::{Cuts, Scan};
pub use simd::InstructionSet;
pub use support::{Kept, Part, Support};
pub use top::{MinPerUnit, Unit, floor_that_fits, top_magnitude};
pub use transpose::Transposed;
