//! Formats that are no zip file, by name.

use super::PtProblem;

/// Refuses a file by its first bytes, in the words of whoever wrote it; a zip file passes.
pub(super) fn check(start: &[u8]) -> Result<(), PtProblem> {
    let length_then_json = start.len() > 8 && start[8] == b'{' && start[4..8] == [0; 4];
    match start {
        [b'P', b'K', 3, 4, ..] => Ok(()),
        // A pickle starts with 0x80 and its protocol: the format of torch.save before 1.6.
        [0x80, 0..=5, ..] => Err(PtProblem::Legacy),
        _ if start.get(257..262) == Some(b"ustar") => Err(PtProblem::Tar),
        [0x1f, 0x8b, ..] => Err(PtProblem::OtherFormat { found: "a gzip file: unpack it first" }),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(PtProblem::OtherFormat { found: "a zstd file: unpack it first" }),
        [0x89, b'H', b'D', b'F', ..] => Err(PtProblem::OtherFormat { found: "an HDF5 file" }),
        _ if length_then_json => {
            Err(PtProblem::OtherFormat { found: "a safetensors file: call it final_model.safetensors" })
        }
        _ if start.starts_with(b"version https://git-lfs") => {
            Err(PtProblem::OtherFormat { found: "a pointer of Git LFS: `git lfs pull` fetches the file" })
        }
        _ => Err(PtProblem::NotZip),
    }
}
