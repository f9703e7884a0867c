#![doc = include_str!("../README.md")]

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
pub mod text;
mod write;

pub use atomic::{remove_leftovers, rename_folder, sha256_bytes, sha256_file, write_atomic};
pub use canonical::canonical_json;
pub use csr::{CsrError, CsrTensor};
pub use error::ReadError;
pub use file::TensorFile;
pub use half::{bf16, f16};
pub use pt::{PtError, PtFile, PtProblem};
pub use shard::{Manifest, ShardError, ShardInfo, ShardWriter, TokenShards};
pub use tensor::{Dtype, NotFinite, Tensor, ensure_finite};
pub use text::{quoted, quoted_bytes, quoted_list, read_text, without_bom};
pub use write::{WriteError, write, write_with_csr};
