//! The folder of a corpus: it appears whole or not at all, and takes the place of nothing but another corpus.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use openwork_tensor::rename_folder;

use super::{CorpusError, REPORT};

/// A folder that is made beside its place and moved there when it is whole; removed when it never is.
///
/// It is locked while it is made, so that leftovers of builds that were killed are told from those that go on.
pub(super) struct Unfinished {
    pub(super) path: PathBuf,
    out: PathBuf,
    replace: bool,
    /// Folders around it that were made for it, the innermost first.
    made: Vec<PathBuf>,
    _lock: Option<File>,
}

impl Unfinished {
    /// Begins the folder `out`; removes what interrupted builds of it have left behind.
    ///
    /// # Errors
    /// `out` is there already and is not to be replaced, is no corpus, holds or lies inside one of the `inputs`, or
    /// somebody else is making it.
    pub(super) fn start(out: &Path, replace: bool, inputs: &[PathBuf]) -> Result<Self, CorpusError> {
        let io = |source| CorpusError::Io { path: out.to_owned(), source };
        if out.file_name().is_none() {
            return Err(CorpusError::NoName { path: out.to_owned() });
        }
        check_inputs(out, inputs)?;
        clear_leftovers(out)?;
        check_place(out, replace)?;
        let path = sibling(out, PARTIAL);
        let around = path.ancestors().skip(1);
        let missing = around.take_while(|dir| !dir.as_os_str().is_empty() && dir.symlink_metadata().is_err());
        let made = missing.map(Path::to_owned).collect();
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(io)?;
        }
        fs::create_dir(&path).map_err(|source| CorpusError::Io { path: path.clone(), source })?;
        let lock = lock(&path).map_err(|error| io(error.into()))?;
        Ok(Self { path, out: out.to_owned(), replace, made, _lock: lock })
    }

    /// Moves the folder to its place.
    pub(super) fn finish(self) -> Result<(), CorpusError> {
        let io = |source| CorpusError::Io { path: self.out.clone(), source };
        let old = sibling(&self.out, OLD);
        // Again: the place may have been taken meanwhile.
        check_place(&self.out, self.replace)?;
        let replaced = self.out.symlink_metadata().is_ok();
        if replaced {
            rename_folder(&self.out, &old).map_err(io)?;
        }
        if let Err(source) = rename_folder(&self.path, &self.out) {
            if replaced {
                let _ = rename_folder(&old, &self.out);
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
        for folder in &self.made {
            let _ = fs::remove_dir(folder); // fails where something is in it
        }
    }
}

/// Ending of a folder that is being made.
const PARTIAL: &str = "partial";
/// Ending of a folder that has been replaced.
const OLD: &str = "old";

/// A hidden name next to `path`, for what is not finished yet.
fn sibling(path: &Path, ending: &str) -> PathBuf {
    let mut hidden = prefix(path.file_name().unwrap_or_default(), ending);
    hidden.push(std::process::id().to_string());
    path.with_file_name(hidden)
}

/// `.NAME.ENDING-`, which the number of the process follows.
fn prefix(name: &OsStr, ending: &str) -> OsString {
    let mut prefix = OsString::from(".");
    prefix.push(name);
    prefix.push(format!(".{ending}-"));
    prefix
}

/// Refuses an `out` that holds an input, is one, or lies inside one.
fn check_inputs(out: &Path, inputs: &[PathBuf]) -> Result<(), CorpusError> {
    let place = resolved(out)?;
    for input in inputs {
        let Ok(resolved) = fs::canonicalize(input) else { continue };
        if place.starts_with(&resolved) || resolved.starts_with(&place) {
            return Err(CorpusError::OverInput { path: out.to_owned(), input: input.clone() });
        }
    }
    Ok(())
}

/// The path without links and dots, as far as it exists.
fn resolved(path: &Path) -> Result<PathBuf, CorpusError> {
    if let Ok(found) = fs::canonicalize(path) {
        return Ok(found);
    }
    let name = path.file_name().ok_or_else(|| CorpusError::NoName { path: path.to_owned() })?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => Ok(resolved(parent)?.join(name)),
        _ => {
            let here = fs::canonicalize(".").map_err(|source| CorpusError::Io { path: path.to_owned(), source })?;
            Ok(here.join(name))
        }
    }
}

/// Refuses an `out` that is there, unless it is an empty folder, or a corpus that is to be replaced.
fn check_place(out: &Path, replace: bool) -> Result<(), CorpusError> {
    let path = || out.to_owned();
    let Ok(metadata) = out.symlink_metadata() else { return Ok(()) };
    if !metadata.is_dir() {
        let kind = if metadata.is_symlink() { "a link" } else { "no folder" };
        return Err(CorpusError::NotReplaced { path: path(), reason: format!("it is {kind}") });
    }
    let empty = fs::read_dir(out).map_err(|source| CorpusError::Io { path: path(), source })?.next().is_none();
    if empty {
        return Ok(());
    }
    if !replace {
        return Err(CorpusError::Exists { path: path() });
    }
    if let Some(foreign) = foreign(out) {
        let reason = format!("{} is no part of a corpus", foreign.display());
        return Err(CorpusError::NotReplaced { path: path(), reason });
    }
    let parts = [REPORT, "train/manifest.json", "validation/manifest.json"];
    match parts.into_iter().find(|part| !out.join(part).is_file()) {
        Some(part) => Err(CorpusError::NotReplaced { path: path(), reason: format!("it has no {part}") }),
        None => Ok(()),
    }
}

/// Something in a folder that no build writes, if there is something. A folder that cannot be listed is foreign.
fn foreign(dir: &Path) -> Option<PathBuf> {
    let temporary = |name: &str, of: &str| name.starts_with(&format!(".{of}.")) && name.ends_with(".tmp");
    let shard = |name: &str| {
        let number = name.strip_prefix("shard-").and_then(|rest| rest.strip_suffix(".bin"));
        number.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    };
    let is_part = |name: &str| name == "manifest.json" || temporary(name, "manifest.json") || shard(name);
    find(dir, &|name, folder| match folder {
        true => ["train", "validation"].contains(&name),
        false => name == REPORT || temporary(name, REPORT),
    })
    .or_else(|| {
        let splits = ["train", "validation"].map(|split| dir.join(split));
        splits
            .iter()
            .filter(|split| split.exists())
            .find_map(|split| find(split, &|name, folder| !folder && is_part(name)))
    })
}

/// The first entry of a folder that `fits` does not know; it is told the name and whether it is a folder.
fn find(dir: &Path, fits: &dyn Fn(&str, bool) -> bool) -> Option<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Some(dir.to_owned()) };
    let paths = entries.map(|entry| entry.map_or_else(|_| dir.to_owned(), |entry| entry.path()));
    let mut foreign = paths.filter(|path| {
        let kind = path.symlink_metadata().map(|metadata| metadata.file_type());
        let known = kind.is_ok_and(|kind| !kind.is_symlink() && (kind.is_dir() || kind.is_file()));
        let name = path.file_name().and_then(OsStr::to_str);
        !(known && name.is_some_and(|name| fits(name, path.is_dir())))
    });
    foreign.next()
}

/// Removes the folders that builds of `out` have left behind that were killed. A corpus that was moved out of the way of
/// one that never came is moved back.
fn clear_leftovers(out: &Path) -> Result<(), CorpusError> {
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = out.file_name().unwrap_or_default();
    // Partial ones first: the old corpus of a build that goes on is not to be touched.
    for ending in [PARTIAL, OLD] {
        let prefix = prefix(name, ending);
        let Ok(entries) = fs::read_dir(parent) else { return Ok(()) };
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let process = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes());
            let ours = process.is_some_and(|id| !id.is_empty() && id.iter().all(u8::is_ascii_digit));
            if ours && !path.is_symlink() && foreign(&path).is_none() {
                clear(&path, out)?;
            }
        }
    }
    Ok(())
}

/// Removes a leftover, or moves it back, unless the build that made it goes on.
fn clear(leftover: &Path, out: &Path) -> Result<(), CorpusError> {
    let io = |source| CorpusError::Io { path: leftover.to_owned(), source };
    match lock(leftover) {
        Err(TryLockError::WouldBlock) => Err(CorpusError::Busy { path: out.to_owned() }),
        Err(TryLockError::Error(source)) => Err(io(source)),
        Ok(None) => Ok(()), // nobody can tell whose it is
        Ok(Some(_)) if leftover.join(REPORT).is_file() && out.symlink_metadata().is_err() => {
            rename_folder(leftover, out).map_err(io)
        }
        Ok(Some(_)) => fs::remove_dir_all(leftover).map_err(io),
    }
}

/// Locks a folder until the file is dropped, or the process ends; none where the system has no such locks.
fn lock(folder: &Path) -> Result<Option<File>, TryLockError> {
    if !cfg!(unix) {
        return Ok(None); // folders cannot be opened
    }
    let file = File::open(folder).map_err(TryLockError::Error)?;
    match file.try_lock() {
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
        locked => locked.map(|()| Some(file)),
    }
}
