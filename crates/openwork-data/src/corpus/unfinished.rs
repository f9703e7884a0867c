//! A folder that appears whole or not at all.

use std::fs;
use std::path::{Path, PathBuf};

use super::CorpusError;

/// A folder that is made beside its place and moved there when it is whole; removed when it never is.
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
    out: PathBuf,
}

impl Unfinished {
    pub(super) fn start(out: &Path, replace: bool) -> Result<Self, CorpusError> {
        if out.symlink_metadata().is_ok() && !replace {
            return Err(CorpusError::Exists { path: out.to_owned() });
        }
        let path = sibling(out, "partial");
        let out = out.to_owned();
        let _ = fs::remove_dir_all(&path);
        match fs::create_dir_all(&path) {
            Ok(()) => Ok(Self { path, out }),
            Err(source) => Err(CorpusError::Io { path, source }),
        }
    }

    pub(super) fn finish(self) -> Result<(), CorpusError> {
        let io = |source| CorpusError::Io { path: self.out.clone(), source };
        let old = sibling(&self.out, "old");
        let replaced = self.out.symlink_metadata().is_ok();
        if replaced {
            fs::rename(&self.out, &old).map_err(io)?;
        }
        if let Err(source) = fs::rename(&self.path, &self.out) {
            if replaced {
                let _ = fs::rename(&old, &self.out);
            }
            return Err(io(source));
        }
        if replaced {
            fs::remove_dir_all(&old).map_err(io)?;
        }
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Gone already after `finish`; otherwise what is left of a failed attempt.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A hidden name next to `path`, for what is not finished yet.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{ending}-{}", std::process::id()))
}
