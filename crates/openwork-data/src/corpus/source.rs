//! Sources of documents: folders of `.py` files and JSONL files, in sorted order, with every refusal counted.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::{CorpusError, CorpusOptions, Document, Split};

/// Counts of documents left out of a corpus, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Files that are neither `.py` nor `.jsonl`, `.jsonl.gz` or `.jsonl.zst`.
    pub other_files: u64,
    /// Documents that contain a NUL byte.
    pub binary: u64,
    /// Documents that are not UTF-8.
    pub invalid_utf8: u64,
    /// Documents longer than the limit.
    pub too_large: u64,
    /// Documents of nothing but white space.
    pub empty: u64,
    /// Documents that occurred before, byte for byte.
    pub duplicates: u64,
    /// Files and folders that could not be read (to their end), dangling links and loops of links.
    pub unreadable: u64,
    /// The first of them, and why.
    pub first_unreadable: Option<String>,
    /// JSONL lines that are no object with a text in the field `text`.
    pub bad_json_lines: u64,
    /// The first of them, as `file:line`.
    pub first_bad_json_line: Option<String>,
}

impl Skipped {
    fn unreadable(&mut self, path: &Path, why: &dyn std::fmt::Display) {
        self.unreadable += 1;
        self.first_unreadable.get_or_insert_with(|| format!("{}: {why}", path.display()));
    }
}

/// The documents of a corpus, without duplicates, in the order of the sorted paths.
///
/// Nothing is tokenized: this is also what a tokenizer is trained on.
pub struct Documents {
    max_bytes: u64,
    validation_fraction: f64,
    seed: u64,
    files: std::vec::IntoIter<PathBuf>,
    rows: Option<Rows>,
    seen: HashSet<[u8; 32]>,
    skipped: Skipped,
}

/// A JSONL file being read.
struct Rows {
    path: PathBuf,
    line: u64,
    reader: Box<dyn BufRead + Send>,
}

#[derive(Deserialize)]
struct Row {
    text: String,
}

impl Documents {
    /// Lists the files of `options.from`, without reading them yet.
    ///
    /// # Errors
    /// [`CorpusError::NotFound`] when one of the sources does not exist. What cannot be read inside a source is counted,
    /// not an error.
    pub fn open(options: &CorpusOptions) -> Result<Self, CorpusError> {
        let mut skipped = Skipped::default();
        let mut files = Vec::new();
        for source in &options.from {
            if !source.exists() {
                return Err(CorpusError::NotFound { path: source.clone() });
            }
            for entry in WalkDir::new(source).follow_links(true) {
                match entry {
                    Ok(entry) if !entry.file_type().is_file() => {}
                    Ok(entry) if kind(entry.path()).is_some() => files.push(entry.into_path()),
                    Ok(_) => skipped.other_files += 1,
                    Err(error) => {
                        let path = error.path().unwrap_or(source).to_owned();
                        skipped.unreadable(&path, &error);
                    }
                }
            }
        }
        files.sort();
        files.dedup();
        Ok(Self {
            max_bytes: options.max_file_bytes,
            validation_fraction: options.validation_fraction,
            seed: options.seed,
            files: files.into_iter(),
            rows: None,
            seen: HashSet::new(),
            skipped,
        })
    }

    /// Counts of documents left out so far; complete once the iterator has ended.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Accepts `bytes` as a document, or counts why not.
    fn accept(&mut self, bytes: Vec<u8>) -> Option<Document> {
        if bytes.len() as u64 > self.max_bytes {
            self.skipped.too_large += 1;
            return None;
        }
        if bytes.contains(&0) {
            self.skipped.binary += 1;
            return None;
        }
        let Ok(text) = String::from_utf8(bytes) else {
            self.skipped.invalid_utf8 += 1;
            return None;
        };
        if text.trim().is_empty() {
            self.skipped.empty += 1;
            return None;
        }
        if !self.seen.insert(Sha256::digest(text.as_bytes()).into()) {
            self.skipped.duplicates += 1;
            return None;
        }
        let split = Split::of(&text, self.validation_fraction, self.seed);
        Some(Document { text, split })
    }

    fn next_file(&mut self, path: PathBuf) -> Option<Document> {
        match kind(&path)? {
            Kind::Python => match read_at_most(&path, self.max_bytes) {
                Ok(bytes) => self.accept(bytes),
                Err(error) => {
                    self.skipped.unreadable(&path, &error);
                    None
                }
            },
            rows => {
                match open_rows(&path, rows) {
                    Ok(reader) => {
                        let line = 0;
                        self.rows = Some(Rows { path, line, reader });
                    }
                    Err(error) => self.skipped.unreadable(&path, &error),
                }
                None
            }
        }
    }

    /// The next line of the JSONL file being read; `None` also when that line gave no document.
    fn next_row(&mut self, mut rows: Rows) -> Option<Document> {
        let most = self.max_bytes.saturating_mul(6).saturating_add(65_536);
        let mut line = Vec::new();
        let read = (&mut rows.reader).take(most).read_until(b'\n', &mut line);
        match read {
            Ok(0) => return None,
            Ok(_) => rows.line += 1,
            Err(error) => {
                self.skipped.unreadable(&rows.path, &error);
                return None;
            }
        }
        if line.len() as u64 == most && line.last() != Some(&b'\n') {
            self.skipped.too_large += 1;
            match skip_line(&mut rows.reader) {
                Ok(()) => self.rows = Some(rows),
                Err(error) => self.skipped.unreadable(&rows.path, &error),
            }
            return None;
        }
        let place = || format!("{}:{}", rows.path.display(), rows.line);
        let row = if line.trim_ascii().is_empty() {
            None
        } else {
            let row: Option<Row> = serde_json::from_slice(&line).ok();
            if row.is_none() {
                self.skipped.bad_json_lines += 1;
                self.skipped.first_bad_json_line.get_or_insert_with(place);
            }
            row
        };
        self.rows = Some(rows);
        self.accept(row?.text.into_bytes())
    }
}

impl Iterator for Documents {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        loop {
            let document = match self.rows.take() {
                Some(rows) => self.next_row(rows),
                None => {
                    let path = self.files.next()?;
                    self.next_file(path)
                }
            };
            if document.is_some() {
                return document;
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Python,
    Rows,
    GzipRows,
    ZstdRows,
}

fn kind(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    [(".py", Kind::Python), (".jsonl", Kind::Rows), (".jsonl.gz", Kind::GzipRows), (".jsonl.zst", Kind::ZstdRows)]
        .into_iter()
        .find(|(ending, _)| name.ends_with(ending))
        .map(|(_, kind)| kind)
}

/// The file, or its first `most + 1` bytes when it is longer.
fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let size = fs::metadata(path)?.len().min(most.saturating_add(1));
    let mut bytes = Vec::with_capacity(size as usize);
    File::open(path)?.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn open_rows(path: &Path, kind: Kind) -> io::Result<Box<dyn BufRead + Send>> {
    let file = BufReader::new(File::open(path)?);
    Ok(match kind {
        Kind::GzipRows => Box::new(BufReader::new(flate2::bufread::MultiGzDecoder::new(file))),
        Kind::ZstdRows => {
            let decoder = ruzstd::decoding::StreamingDecoder::new(file)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            Box::new(BufReader::new(decoder))
        }
        Kind::Rows | Kind::Python => Box::new(file),
    })
}

/// Reads on to the end of the line, keeping nothing.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    loop {
        let available = reader.fill_buf()?;
        if available.is_empty() {
            return Ok(());
        }
        let end = available.iter().position(|&byte| byte == b'\n');
        let used = end.map_or(available.len(), |at| at + 1);
        reader.consume(used);
        if end.is_some() {
            return Ok(());
        }
    }
}
