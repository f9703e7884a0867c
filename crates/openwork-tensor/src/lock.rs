//! Locks on folders: who works in one keeps others out.
//!
//! The lock is the operating system's, on the folder itself: it ends with the process, however that ends, leaves no file
//! behind, and works where files cannot be written.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// A folder that this process works in, until this value is dropped.
#[derive(Debug)]
pub struct FolderLock {
    /// Holds the lock while it is open; `None` where the system cannot lock folders.
    _folder: Option<File>,
}

/// Reason that a folder cannot be locked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another process works in it.
    #[error("{} is in use by {holder}; wait until it is done, or stop it", dir.display())]
    Held {
        /// The folder.
        dir: PathBuf,
        /// The process, as far as the system tells.
        holder: String,
    },
    /// The folder cannot be opened.
    #[error("cannot lock {}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
}

impl FolderLock {
    /// Locks a folder for this process alone.
    ///
    /// # Errors
    /// [`LockError::Held`] names who works in it, alone or with others.
    pub fn exclusive(dir: &Path) -> Result<Self, LockError> {
        Self::new(dir, File::try_lock)
    }

    /// Locks a folder for this process and others that ask for no more.
    ///
    /// # Errors
    /// [`LockError::Held`] names who works in it alone.
    pub fn shared(dir: &Path) -> Result<Self, LockError> {
        Self::new(dir, File::try_lock_shared)
    }

    fn new(dir: &Path, lock: fn(&File) -> Result<(), TryLockError>) -> Result<Self, LockError> {
        // Other systems than Unix cannot open a folder for this.
        if !cfg!(unix) {
            return Ok(Self { _folder: None });
        }
        let named = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        let io = |source| LockError::Io { dir: named.to_owned(), source };
        let folder = File::open(named).map_err(io)?;
        match lock(&folder) {
            Ok(()) => Ok(Self { _folder: Some(folder) }),
            Err(TryLockError::WouldBlock) => {
                Err(LockError::Held { dir: named.to_owned(), holder: holder(&folder).unwrap_or_else(unknown) })
            }
            Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(Self { _folder: None }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

fn unknown() -> String {
    "another process".to_owned()
}

/// The process that holds a lock on `folder`, where the system lists locks (Linux): `process 12 (COMMAND) on HOST, started N min ago`.
#[cfg(target_os = "linux")]
fn holder(folder: &File) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let inode = format!(":{}", folder.metadata().ok()?.ino());
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF
    let process = locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ours = fields.get(1) == Some(&"FLOCK") && fields.get(5)?.ends_with(&inode);
        fields.get(4)?.parse::<u32>().ok().filter(|&id| ours && id != 0)
    })?;
    let folder = PathBuf::from(format!("/proc/{process}"));
    let command = std::fs::read(folder.join("cmdline")).ok()?;
    let words = command.split(|&byte| byte == 0).filter(|word| !word.is_empty());
    let command = words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let started = std::fs::metadata(&folder).and_then(|metadata| metadata.modified()).ok();
    let since = started
        .and_then(|at| at.elapsed().ok())
        .map_or(String::new(), |ago| format!(", started {} min ago", ago.as_secs() / 60));
    Some(format!("process {process} ({command}) on {}{since}", host.trim()))
}

#[cfg(not(target_os = "linux"))]
fn holder(_: &File) -> Option<String> {
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn one_works_alone_or_several_together() {
        let dir = tempfile::tempdir().unwrap();
        let alone = FolderLock::exclusive(dir.path()).unwrap();
        for lock in [FolderLock::exclusive, FolderLock::shared] {
            let error = lock(dir.path()).unwrap_err().to_string();
            assert!(error.contains("is in use by"), "{error}");
        }
        drop(alone);
        let together = [FolderLock::shared(dir.path()).unwrap(), FolderLock::shared(dir.path()).unwrap()];
        assert!(matches!(FolderLock::exclusive(dir.path()), Err(LockError::Held { .. })));
        drop(together);
        FolderLock::exclusive(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(matches!(FolderLock::shared(&dir.path().join("none")), Err(LockError::Io { .. })));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_holder_is_named_where_locks_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let _alone = FolderLock::exclusive(dir.path()).unwrap();
        let error = FolderLock::shared(dir.path()).unwrap_err().to_string();
        let listed = std::fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.contains("FLOCK"));
        let id = format!("process {} (", std::process::id());
        assert_eq!(error.contains(&id), listed, "{error}");
    }
}
