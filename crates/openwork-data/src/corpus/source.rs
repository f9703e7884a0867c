//! Sources of documents: the files under the folders that were named, in sorted order, and pipes.

use std::collections::HashSet;
use std::fs::{self, File, FileType};
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::CorpusError;
use super::compressed::Compression;
use super::left_out::{LeftOut, Place, Reason};

/// The path that stands for standard input.
pub const STANDARD_INPUT: &str = "-";

/// Places that documents come from, and the rules that say what is one.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Folders, files and pipes; `-` is standard input, and pipes are rows. Rows of JSON are files that end in `.jsonl`,
    /// plain or compressed (`.gz`, `.zst`).
    pub from: Vec<PathBuf>,
    /// Extensions of the files that are one document each, without the dot; they may be compressed, too.
    pub extensions: Vec<String>,
    /// Field of a row that holds the document.
    pub field: String,
    /// Longer documents are left out.
    pub max_file_bytes: u64,
    /// True if links inside the folders are followed. Those that are named themselves always are.
    pub follow_symlinks: bool,
}

impl Sources {
    /// The usual rules: `.py`, `.txt` and `.md` are text, rows have a field `text`, documents have up to 1 MiB, no links.
    pub fn new(from: Vec<PathBuf>) -> Self {
        let extensions = ["py", "txt", "md"].map(str::to_owned).to_vec();
        Self { from, extensions, field: "text".into(), max_file_bytes: 1 << 20, follow_symlinks: false }
    }

    /// Lists the files, sorted by path, and then the pipes; counts what is left out.
    ///
    /// # Errors
    /// [`CorpusError::NotFound`] when one of the sources does not exist, and [`CorpusError::Repeated`] when standard input is
    /// named twice.
    pub(super) fn list(&self, left_out: &mut LeftOut) -> Result<Vec<Input>, CorpusError> {
        let (mut files, mut pipes, mut visited) = (Vec::new(), Vec::new(), HashSet::new());
        for source in &self.from {
            if source.as_os_str() == STANDARD_INPUT {
                if pipes.contains(&Input::Stdin) {
                    return Err(CorpusError::Repeated { path: source.clone() });
                }
                pipes.push(Input::Stdin);
                continue;
            }
            let metadata = fs::metadata(source).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => CorpusError::NotFound { path: source.clone() },
                _ => CorpusError::Unreadable { path: source.clone(), source: error },
            })?;
            // A redirected file has a name that says nothing, too.
            match is_pipe(metadata.file_type()) || ["/dev/stdin", "/dev/fd"].iter().any(|dir| source.starts_with(dir)) {
                true => pipes.push(Input::Pipe(source.clone())),
                false => self.walk(source, &mut visited, &mut files, left_out),
            }
        }
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files.dedup_by(|a, b| {
            let again = a.0 == b.0;
            if again {
                left_out.add(Reason::FileAgain, &Place::file(&a.0), "");
            }
            again
        });
        Ok(files.into_iter().map(|(path, kind)| Input::File(path, kind)).chain(pipes).collect())
    }

    /// Lists what is in one source. No folder is visited twice, whatever links lead to it.
    fn walk(
        &self,
        source: &Path,
        visited: &mut HashSet<PathBuf>,
        files: &mut Vec<(PathBuf, Kind)>,
        left_out: &mut LeftOut,
    ) {
        let mut entries = WalkDir::new(source).follow_links(self.follow_symlinks).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    let (path, again) = (error.path().unwrap_or(source), error.loop_ancestor().is_some());
                    let reason = if again { Reason::FolderAgain } else { Reason::Unreadable };
                    let fault = error.io_error().map(ToString::to_string).unwrap_or_default();
                    left_out.add(reason, &Place::file(path), &fault);
                    continue;
                }
            };
            let (path, place) = (entry.path(), Place::file(entry.path()));
            let named = entry.depth() == 0;
            match entry.file_type() {
                kind if kind.is_dir() || (named && path.is_dir()) => {
                    let seen = fs::canonicalize(path).is_ok_and(|folder| !visited.insert(folder));
                    if seen {
                        left_out.add(Reason::FolderAgain, &place, "");
                        entries.skip_current_dir();
                    }
                }
                kind if kind.is_symlink() && !named => left_out.add(Reason::Link, &place, ""),
                _ if !path.is_file() => left_out.add(Reason::Special, &place, ""),
                _ => match self.kind(path) {
                    Some(kind) => files.push((entry.into_path(), kind)),
                    None => left_out.add(Reason::OtherKind, &place, ""),
                },
            }
        }
    }

    /// The kind of file that the name tells.
    fn kind(&self, path: &Path) -> Option<Kind> {
        let name = path.file_name()?.as_encoded_bytes().to_ascii_lowercase();
        let unpacked = |ending: &[u8]| name.strip_suffix(ending);
        let (name, compression) = match (unpacked(b".gz"), unpacked(b".zst")) {
            (Some(name), _) => (name, Compression::Gzip),
            (_, Some(name)) => (name, Compression::Zstd),
            _ => (&name[..], Compression::None),
        };
        let ends_in = |extension: &str| {
            let stem = name.strip_suffix(extension.to_ascii_lowercase().as_bytes());
            stem.is_some_and(|stem| stem.last() == Some(&b'.'))
        };
        let rows = ends_in("jsonl");
        (rows || self.extensions.iter().any(|extension| ends_in(extension))).then_some(Kind { rows, compression })
    }
}

fn is_pipe(kind: FileType) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::FileTypeExt::is_fifo(&kind);
    #[cfg(not(unix))]
    return {
        let _ = kind;
        false
    };
}

/// Rows or one text, and how they are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) rows: bool,
    compression: Compression,
}

/// A file or pipe to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    File(PathBuf, Kind),
    Pipe(PathBuf),
    Stdin,
}

impl Input {
    /// The path by which messages name it.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::File(path, _) | Self::Pipe(path) => path,
            Self::Stdin => Path::new("(standard input)"),
        }
    }

    pub(super) fn has_rows(&self) -> bool {
        !matches!(self, Self::File(_, Kind { rows: false, .. }))
    }

    /// Opens it for reading, decompressed.
    pub(super) fn open(&self) -> io::Result<Box<dyn BufRead + Send>> {
        match self {
            Self::File(path, kind) => Ok(kind.compression.open(Box::new(BufReader::new(File::open(path)?)))),
            Self::Pipe(path) => open_pipe(File::open(path)?),
            Self::Stdin => open_pipe(io::stdin()),
        }
    }
}

/// A pipe has no name that tells how it is compressed: its first bytes do.
fn open_pipe(mut pipe: impl Read + Send + 'static) -> io::Result<Box<dyn BufRead + Send>> {
    let mut magic = Vec::new();
    pipe.by_ref().take(4).read_to_end(&mut magic)?;
    let compression = Compression::of_magic(&magic);
    Ok(compression.open(Box::new(BufReader::new(Cursor::new(magic).chain(pipe)))))
}
