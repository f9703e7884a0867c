//! Tensors on disk: `ndarray` arrays to and from safetensors files, dense and sparse; PyTorch checkpoints,
//! read only; and token shards through a memory map.
//!
//! This is the lowest crate of the workspace: everything above gets its weights and tokens here. It knows
//! no model, only named arrays.
//!
//! - [`write()`], [`TensorFile`]: safetensors. [`CsrTensor`] is a sparse matrix in such a file.
//! - [`PtFile`]: what `torch.save` wrote, without running anything in it.
//! - [`ShardWriter`], [`TokenShards`]: a tokenised corpus.
//! - [`write_atomic`], [`sha256_file`]: files that are whole or absent, and their digests.
//!
//! Promises:
//! - Numbers come back bit for bit, NaN payloads included.
//! - The same contents give the same file, byte for byte.
//! - A damaged or hostile file is an error that names the problem: no panic, and no allocation larger than
//!   the file justifies.
//!
//! One condition: no other process may write *in place* to a file that is open here. Replacing it by a
//! rename is fine. A file that is truncated under its memory map ends the process.
//!
//! ```
//! use std::collections::BTreeMap;
//! use ndarray::array;
//! use openwork_tensor::{CsrTensor, Tensor, TensorFile};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("model.safetensors");
//! let weight = array![[0.0, 1.5], [0.0, 0.0], [-2.0, 0.0]];
//! let dense = BTreeMap::from([("bias".to_owned(), Tensor::from(array![1.0, 2.0]))]);
//! let sparse = BTreeMap::from([("weight".to_owned(), CsrTensor::from_dense(weight.view()))]);
//! let metadata = BTreeMap::from([("made_by".to_owned(), "an example".to_owned())]);
//! openwork_tensor::write_with_csr(&path, &dense, &sparse, &metadata)?;
//!
//! let file = TensorFile::open(&path)?;
//! assert_eq!(file.metadata()["made_by"], "an example");
//! assert_eq!(file.matrix("bias")?, array![[1.0], [2.0]]);
//! assert!(file.is_csr("weight"));
//! assert_eq!(file.csr("weight")?.to_dense(), weight);
//! # Ok(())
//! # }
//! ```

mod atomic;
mod canonical;
pub mod csr;
mod element;
mod error;
mod file;
mod header;
mod mmap;
pub mod pt;
pub mod shard;
mod tensor;
mod write;

pub use atomic::{remove_leftovers, sha256_bytes, sha256_file, write_atomic};
pub use canonical::canonical_json;
pub use csr::{CsrError, CsrTensor};
pub use error::ReadError;
pub use file::TensorFile;
pub use half::{bf16, f16};
pub use pt::{PtError, PtFile, PtProblem};
pub use shard::{Manifest, ShardError, ShardInfo, ShardWriter, TokenShards};
pub use tensor::{Dtype, NotFinite, Tensor, ensure_finite};
pub use write::{WriteError, write, write_with_csr};
