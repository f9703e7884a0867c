//! The bytes of a file or of memory, read by offset.
//!
//! Files are read with positioned reads into memory of the caller, and not mapped: a file that another process shortens
//! meanwhile is an error with its name, where touching the lost part of a map would end the process.

use std::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

/// A file, or bytes that are in memory already. Its length is that of the moment it was opened.
#[derive(Debug)]
pub(crate) enum Source {
    /// A regular file.
    File {
        /// The file.
        file: File,
        /// Its length in bytes.
        len: u64,
    },
    /// Bytes in memory.
    Memory(Vec<u8>),
}

impl Source {
    /// Opens a regular file (not a folder, pipe or device).
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // Asked first: opening a pipe would wait for its other end.
        if !fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let file = File::open(path)?;
        let len = file.metadata()?.len();
        Ok(Self::File { file, len })
    }

    /// Number of bytes.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::File { len, .. } => *len,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Fills `out` with the bytes from `start` on.
    ///
    /// # Errors
    /// They cannot be read, or lie past the end: the file has become shorter since it was opened, if the range is inside
    /// [`len`](Self::len).
    pub(crate) fn read_at(&self, start: u64, out: &mut [u8]) -> io::Result<()> {
        match self {
            Self::File { file, .. } => read_exact_at(file, out, start).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    io::Error::new(io::ErrorKind::UnexpectedEof, "the file has become shorter while it was read")
                }
                _ => error,
            }),
            Self::Memory(bytes) => {
                let start = usize::try_from(start).ok();
                let found = start.and_then(|start| bytes.get(start..start.checked_add(out.len())?));
                out.copy_from_slice(found.ok_or(io::ErrorKind::UnexpectedEof)?);
                Ok(())
            }
        }
    }

    /// The bytes of a range, which has to lie inside the file: no more memory is taken than the file has.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub(crate) fn bytes(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        let inside = range.start <= range.end && range.end <= self.len();
        let len = usize::try_from(range.end.wrapping_sub(range.start)).ok().filter(|_| inside);
        let mut bytes = vec![0; len.ok_or(io::ErrorKind::UnexpectedEof)?];
        self.read_at(range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// Shows all bytes of a range to `f`, some at a time.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub(crate) fn for_each_part(&self, range: Range<u64>, mut f: impl FnMut(&[u8])) -> io::Result<()> {
        const PART: u64 = 1 << 20;
        let mut start = range.start;
        while start < range.end {
            let end = start.saturating_add(PART).min(range.end);
            f(&self.bytes(start..end)?);
            start = end;
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut start: u64) -> io::Result<()> {
    use std::os::windows::fs::FileExt;
    while !out.is_empty() {
        match file.seek_read(out, start) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => (out, start) = (&mut out[n..], start.saturating_add(n as u64)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let error = Source::open(dir.path()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error_and_a_replaced_one_stays_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        crate::atomic::write_bytes(&path, b"first").unwrap();
        let source = Source::open(&path).unwrap();
        crate::atomic::write_bytes(&path, b"2").unwrap();
        assert_eq!(source.bytes(0..5).unwrap(), b"first");
        let source = Source::open(&path).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(0).unwrap();
        let error = source.bytes(0..1).unwrap_err().to_string();
        assert!(error.contains("has become shorter"), "{error}");
    }

    #[test]
    fn ranges_outside_take_no_memory() {
        let source = Source::Memory(vec![1, 2, 3]);
        for range in [0..u64::MAX, 2..4, Range { start: 3, end: 2 }] {
            assert!(source.bytes(range).is_err());
        }
        let mut seen = vec![];
        source.for_each_part(1..3, |part| seen.extend_from_slice(part)).unwrap();
        assert_eq!(seen, [2, 3]);
    }
}
