#![doc = include_str!("../README.md")]

mod atomic;
mod canonical;
pub mod csr;
mod digest;
mod element;
mod error;
mod file;
#[deny(clippy::arithmetic_side_effects)]
mod header;
mod json;
mod lock;
pub mod pt;
pub mod shard;
#[deny(clippy::arithmetic_side_effects)]
mod source;
mod tensor;
pub mod text;
mod write;

pub use atomic::{
    check_writable, remove_leftovers, remove_leftovers_in, rename_folder, sha256_bytes, sha256_file, write_atomic,
};
pub use canonical::canonical_json;
pub use csr::{CsrError, CsrTensor};
pub use digest::{DIGEST_KEY, DigestError, check_digest, digest};
pub use error::ReadError;
pub use file::TensorFile;
pub use half::{bf16, f16};
pub use json::parse_json;
pub use lock::{FolderLock, LockError};
pub use pt::{PtError, PtFile, PtNode, PtProblem, write_pt};
pub use shard::{Manifest, ShardError, ShardInfo, ShardWriter, TokenShards};
pub use tensor::{Dtype, NotFinite, Tensor, ensure_finite};
pub use text::{quoted, quoted_bytes, quoted_list, read_text, without_bom};
pub use write::{WriteError, write, write_with_csr};
