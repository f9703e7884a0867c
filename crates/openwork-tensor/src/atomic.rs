//! Files that are either whole or absent, and SHA-256 digests.
//!
//! Every file this project writes and later reads back goes through [`write_atomic`]: a crash, a full disk
//! or a killed process leaves the old file (or none), never half of a new one. Because the old file is
//! replaced by a rename and never truncated in place, a reader that has it memory-mapped keeps the old
//! contents.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

/// Writes a file so that `path` holds either its old contents or all of the new ones.
///
/// `f` writes to a temporary file in the same folder, which is then synced to disk and renamed to `path`;
/// the folder is synced last, so that the new name survives a power cut. The temporary file is removed if
/// `f` fails or panics, or if any of these steps fails.
///
/// A link stays one: the file that it leads to is replaced. A device or a pipe is written to as it is.
///
/// # Errors
/// The error that `f` returns, the failure to create, sync or rename the temporary file, or a link that leads nowhere.
pub fn write_atomic(path: &Path, f: impl FnOnce(&mut BufWriter<File>) -> io::Result<()>) -> io::Result<()> {
    let path = match place(path)? {
        Place::File(path) => path,
        Place::Stream => {
            let mut writer = BufWriter::new(OpenOptions::new().write(true).open(path)?);
            f(&mut writer)?;
            return writer.flush();
        }
    };
    let path = path.as_path();
    let folder = parent(path);
    let (file, mut temp) = create_temp(folder, path)?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    f(&mut writer)?;
    let file = writer.into_inner().map_err(|e| e.into_error())?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temp.path, path)?;
    temp.keep = true;
    sync_folder(folder)
}

/// Checks that [`write_atomic`] can make a file at `path`, so that hours of work do not end in an error that could have been
/// told before: makes and removes a temporary file where that one will be.
///
/// # Errors
/// The folder is missing or takes no files, or `path` is a folder itself or a link that leads nowhere.
pub fn check_writable(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a folder"));
    }
    match place(path)? {
        Place::File(path) if !parent(&path).as_os_str().is_empty() && !parent(&path).exists() => {
            let missing = format!("there is no folder {}; make it first", parent(&path).display());
            Err(io::Error::new(io::ErrorKind::NotFound, missing))
        }
        Place::File(path) => create_temp(parent(&path), &path).map(drop),
        Place::Stream => Ok(()),
    }
}

/// Place that a path names.
enum Place {
    /// A file, there or not, by a path that is no link.
    File(PathBuf),
    /// A device or a pipe.
    Stream,
}

fn place(path: &Path) -> io::Result<Place> {
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() && !metadata.is_dir() => return Ok(Place::Stream),
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is a link that leads nowhere"));
        }
        _ => (),
    }
    Ok(Place::File(if path.is_symlink() { fs::canonicalize(path)? } else { path.to_owned() }))
}

/// Removes the temporary files that processes killed inside [`write_atomic`] left beside `path`. Nobody
/// else may be writing `path` meanwhile. A folder that does not exist has none.
///
/// # Errors
/// The folder cannot be listed, or such a file not removed.
pub fn remove_leftovers(path: &Path) -> io::Result<()> {
    let own = path.file_name().unwrap_or_default();
    remove_temporary(parent(path), |name| name == own.as_encoded_bytes())
}

/// Removes the temporary files of all files of a folder, as [`remove_leftovers`] does those of one.
///
/// # Errors
/// As [`remove_leftovers`].
pub fn remove_leftovers_in(folder: &Path) -> io::Result<()> {
    remove_temporary(folder, |_| true)
}

/// Removes the temporary files in `folder` of those files whose name `of` accepts.
fn remove_temporary(folder: &Path, of: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = match fs::read_dir(folder) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if temporary_of(entry.file_name().as_encoded_bytes()).is_some_and(&of) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// The file that a temporary file is for: `.NAME.PID-NUMBER.tmp`.
fn temporary_of(name: &[u8]) -> Option<&[u8]> {
    let rest = name.strip_prefix(b".")?.strip_suffix(b".tmp")?;
    let at = rest.iter().rposition(|&byte| byte == b'.')?;
    let (own, ids) = (&rest[..at], &rest[at + 1..]);
    let dash = ids.iter().position(|&byte| byte == b'-')?;
    let digits = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    (digits(&ids[..dash]) && digits(&ids[dash + 1..])).then_some(own)
}

/// Gives a folder another name, for good: both places are synced to disk.
///
/// # Errors
/// The folder cannot be renamed, or a place not be synced.
pub fn rename_folder(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_folder(parent(to))?;
    if parent(from) != parent(to) {
        sync_folder(parent(from))?;
    }
    Ok(())
}

/// SHA-256 of a file's contents, in lower-case hexadecimal.
///
/// # Errors
/// The file cannot be opened or read.
pub fn sha256_file(path: impl AsRef<Path>) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(hex(hash)),
            Ok(n) => hash.update(&buffer[..n]),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// SHA-256 of some bytes, in lower-case hexadecimal.
///
/// ```
/// let empty = openwork_tensor::sha256_bytes(b"");
/// assert_eq!(empty, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
/// ```
#[must_use]
pub fn sha256_bytes(bytes: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hex(hash)
}

/// The digest of what `hash` has seen, in lower-case hexadecimal.
pub(crate) fn hex(hash: Sha256) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = hash.finalize();
    let mut text = String::with_capacity(2 * digest.len());
    for &byte in digest.iter() {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    text
}

/// The folder a file lies in; `.` for a bare file name.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A temporary file that removes itself unless told to keep.
struct Temp {
    path: PathBuf,
    keep: bool,
}

impl Drop for Temp {
    fn drop(&mut self) {
        if !self.keep {
            // Nothing better can be done here: the write has failed already and that error is reported.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Makes a new file beside `path`; the name tells whose it is, should a crash leave it behind.
fn create_temp(folder: &Path, path: &Path) -> io::Result<(File, Temp)> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidInput, format!("{} does not end in a file name", path.display()))
    })?;
    loop {
        let mut temp = OsString::from(".");
        temp.push(name);
        let n = COUNTER.fetch_add(1, Ordering::Relaxed);
        temp.push(format!(".{}-{n}.tmp", std::process::id()));
        let temp = folder.join(temp);
        match OpenOptions::new().write(true).create_new(true).open(&temp) {
            Ok(file) => {
                return Ok((file, Temp { path: temp, keep: false }));
            }
            // Left behind by an earlier process with the same id: take the next number.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Makes the folder's list of names durable. Other systems than Unix cannot open a folder for this.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Writes `bytes` atomically.
pub(crate) fn write_bytes(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_atomic(path, |file| file.write_all(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<OsString> {
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect()
    }

    #[test]
    fn the_file_appears_whole_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_bytes(&path, b"one").unwrap();
        write_bytes(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        write_bytes(&path, b"old").unwrap();
        let failed = write_atomic(&path, |file| {
            file.write_all(&[7; 3_000_000])?;
            Err(io::Error::other("disk full"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "disk full");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(dir.path()), ["a.json"]);
    }

    #[test]
    fn a_panicking_writer_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let result = std::panic::catch_unwind(|| write_atomic(&path, |_| panic!("writer")));
        assert!(result.is_err());
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn a_rename_that_fails_leaves_no_temporary() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::create_dir(&path).unwrap();
        assert!(write_bytes(&path, b"x").is_err());
        assert_eq!(names(dir.path()), ["a"]);
    }

    #[test]
    fn leftovers_of_this_file_and_no_other_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.json");
        let (file, temp) = create_temp(dir.path(), &path).unwrap();
        // As if the process had been killed here.
        std::mem::forget(temp);
        drop(file);
        for name in ["a.json", ".a.json.notes.tmp", ".b.json.1-0.tmp"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        remove_leftovers(&path).unwrap();
        let mut left = names(dir.path());
        left.sort();
        assert_eq!(left, [".a.json.notes.tmp", ".b.json.1-0.tmp", "a.json"]);
        remove_leftovers(&dir.path().join("nowhere/a.json")).unwrap();
    }

    #[test]
    fn all_leftovers_of_a_folder_and_nothing_else_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let keep = [".hidden.tmp", ".a.1-.tmp", ".a.x-1.tmp", "a.1-1.tmp", ".a.1-1.tmp.txt"];
        for name in keep.into_iter().chain([".a.json.1-0.tmp", ".b..20-31.tmp"]) {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        remove_leftovers_in(dir.path()).unwrap();
        let mut left = names(dir.path());
        left.sort();
        let mut keep = keep.map(OsString::from);
        keep.sort();
        assert_eq!(left, keep);
        remove_leftovers_in(&dir.path().join("nowhere")).unwrap();
    }

    #[test]
    fn what_cannot_be_written_is_found_out_before() {
        let dir = tempfile::tempdir().unwrap();
        check_writable(&dir.path().join("a")).unwrap();
        assert!(names(dir.path()).is_empty());
        assert!(check_writable(dir.path()).is_err());
        assert!(check_writable(&dir.path().join("none/a")).is_err());
        fs::write(dir.path().join("file"), b"").unwrap();
        assert!(check_writable(&dir.path().join("file/a")).is_err());
        check_writable(&dir.path().join("file")).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn leftovers_of_a_name_that_is_not_utf8_are_removed() {
        use std::os::unix::ffi::OsStrExt;
        let dir = tempfile::tempdir().unwrap();
        let name = |bytes: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(bytes));
        fs::write(name(b".caf\xE9.7-0.tmp"), b"").unwrap();
        fs::write(name(b".caf\xEA.7-0.tmp"), b"").unwrap();
        remove_leftovers(&name(b"caf\xE9")).unwrap();
        assert_eq!(names(dir.path()), [name(b".caf\xEA.7-0.tmp").file_name().unwrap()]);
    }

    #[test]
    fn a_path_without_file_name_is_refused() {
        let error = write_bytes(Path::new("/"), b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn digests_match_the_standard_vector() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_bytes(b"abc"), abc);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("abc");
        fs::write(&path, b"abc").unwrap();
        assert_eq!(sha256_file(&path).unwrap(), abc);
    }

    #[cfg(unix)]
    #[test]
    fn links_stay_links_and_devices_are_written_to() {
        use std::os::unix::fs::{FileTypeExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let (target, link, nowhere) = (dir.path().join("target"), dir.path().join("link"), dir.path().join("nowhere"));
        fs::write(&target, "old").unwrap();
        symlink(&target, &link).unwrap();
        symlink("gone", &nowhere).unwrap();
        write_bytes(&link, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&target).unwrap(), b"new");
        for result in [write_bytes(&nowhere, b"new"), check_writable(&nowhere)] {
            assert!(result.unwrap_err().to_string().contains("leads nowhere"));
        }
        // Anybody may write to the device, and nobody may replace it.
        let null = Path::new("/dev/null");
        check_writable(null).unwrap();
        write_bytes(null, b"new").unwrap();
        assert!(fs::metadata(null).unwrap().file_type().is_char_device());
        assert!(write_bytes(Path::new("/dev/full"), b"new").is_err());
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
        assert!(check_writable(&dir.path().join("no/file")).unwrap_err().to_string().contains("make it first"));
    }
}
