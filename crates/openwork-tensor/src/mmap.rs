//! The bytes of a file, memory-mapped or owned: the only `unsafe` of this crate.

use std::fs::{self, File};
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// Bytes that stay where they are as long as this value lives.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// A file mapped into memory; pages are read when touched.
    Mapped(Mmap),
    /// Bytes that were in memory already.
    Owned(Vec<u8>),
}

impl Bytes {
    /// Maps a regular file (not a folder, pipe or device).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path)?.is_file() {
            let reason = "not a regular file";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let file = File::open(path)?;
        if file.metadata()?.len() == 0 {
            return Ok(Self::Owned(Vec::new())); // some systems cannot map nothing
        }
        Ok(Self::Mapped(map(&file)?))
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Owned(bytes) => bytes,
        }
    }
}

#[allow(unsafe_code)]
fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the map is private to this process and read-only, and its length is fixed here, so no
    // slice of it ever reaches past it. What Rust cannot rule out is *another process* changing the file
    // while it is mapped, which the crate's documentation forbids:
    // - truncating it: the pages past the new end vanish, and touching one raises SIGBUS, which ends the
    //   process. Nothing is read or written out of bounds.
    // - overwriting it in place: the bytes change under a `&[u8]`, which the language calls undefined. We
    //   keep that harmless in practice: headers, directories and manifests are parsed and checked once
    //   into memory of our own, later accesses use only those checked offsets, all element kinds accept
    //   every bit pattern, and every tensor is copied out; so the worst case is wrong numbers.
    // This crate itself never does either: it replaces files by rename (`write_atomic`), which leaves the
    // mapped file untouched.
    unsafe { Mmap::map(file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_no_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("empty");
        fs::write(&path, b"").unwrap();
        assert!(Bytes::open(&path).unwrap().is_empty());
    }

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Bytes::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_replaced_file_keeps_its_mapped_contents() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        crate::atomic::write_bytes(&path, b"first").unwrap();
        let bytes = Bytes::open(&path).unwrap();
        crate::atomic::write_bytes(&path, b"2").unwrap();
        assert_eq!(&*bytes, b"first");
    }
}
