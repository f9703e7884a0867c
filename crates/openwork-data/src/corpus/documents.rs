//! Documents of files and rows, without duplicates, with every refusal counted.

use std::collections::HashSet;
use std::io::{self, BufRead, Read};

use openwork_tensor::without_bom;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::left_out::{LeftOut, Place, Reason};
use super::source::{Input, Sources};
use super::{CorpusError, canonical};

/// The texts of a corpus in the order of the sorted paths; no text comes twice, byte order mark and line ends aside.
///
/// Nothing is tokenized: this is also what a tokenizer is trained on. A file that cannot be read to its end is an error,
/// [`CorpusError::Damaged`]: how much of the corpus is missing is not known.
pub struct Documents {
    sources: Sources,
    inputs: std::vec::IntoIter<Input>,
    rows: Option<Rows>,
    seen: HashSet<[u8; 32]>,
    left_out: LeftOut,
}

/// Rows being read.
struct Rows {
    input: Input,
    line: u64,
    reader: Box<dyn BufRead + Send>,
}

impl Documents {
    /// Lists the files of `sources`, without reading them yet.
    ///
    /// # Errors
    /// [`CorpusError::NotFound`] when one of the sources does not exist. What cannot be opened inside a source is counted,
    /// not an error.
    pub fn open(sources: &Sources) -> Result<Self, CorpusError> {
        let mut left_out = LeftOut::default();
        let inputs = sources.list(&mut left_out)?.into_iter();
        Ok(Self { sources: sources.clone(), inputs, rows: None, seen: HashSet::new(), left_out })
    }

    /// Everything left out so far; complete once the iterator has ended.
    pub fn left_out(&self) -> &LeftOut {
        &self.left_out
    }

    /// Accepts `bytes` as a document, or counts why not.
    fn accept(&mut self, bytes: &[u8], place: &Place<'_>) -> Option<String> {
        let text = self.check(bytes).map_err(|reason| self.left_out.add(reason, place, "")).ok()?;
        // The last line may end or not: a copy stays a copy.
        let content = canonical(text);
        let new = self.seen.insert(Sha256::digest(content.trim_end_matches('\n').as_bytes()).into());
        if !new {
            self.left_out.add(Reason::Duplicate, place, "");
        }
        new.then(|| text.to_owned())
    }

    fn check<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Reason> {
        if bytes.len() as u64 > self.sources.max_file_bytes {
            return Err(Reason::TooLarge);
        }
        let utf16 = bytes.starts_with(b"\xFF\xFE") || bytes.starts_with(b"\xFE\xFF");
        if bytes.contains(&0) && !utf16 {
            return Err(Reason::Binary);
        }
        let text = std::str::from_utf8(without_bom(bytes)).map_err(|_| Reason::NotUtf8)?;
        if text.trim().is_empty() { Err(Reason::Empty) } else { Ok(text) }
    }

    fn next_input(&mut self, input: Input) -> Option<Result<String, CorpusError>> {
        let place = Place::file(input.path());
        let reader = match input.open() {
            Ok(reader) => reader,
            Err(error) => {
                self.left_out.add(Reason::Unreadable, &place, &error.to_string());
                return None;
            }
        };
        if input.has_rows() {
            self.rows = Some(Rows { input, line: 0, reader });
            return None;
        }
        let mut bytes = Vec::new();
        let limit = self.sources.max_file_bytes.saturating_add(1);
        match reader.take(limit).read_to_end(&mut bytes) {
            Ok(_) => self.accept(&bytes, &place).map(Ok),
            Err(source) => Some(Err(CorpusError::Damaged { path: input.path().to_owned(), source })),
        }
    }

    /// The next row being read; `None` also when that line gave no document.
    fn next_row(&mut self, mut rows: Rows) -> Option<Result<String, CorpusError>> {
        // A JSON text is at most six times as long as what it stands for; the rest is for other fields.
        let most = self.sources.max_file_bytes.saturating_mul(6).saturating_add(65_536);
        let mut line = Vec::new();
        let read = (&mut rows.reader).take(most).read_until(b'\n', &mut line);
        rows.line += 1;
        let (path, number) = (rows.input.path().to_owned(), rows.line);
        let place = Place { path: &path, line: Some(number) };
        match read {
            Ok(0) => return None,
            Ok(_) if line.len() as u64 == most && line.last() != Some(&b'\n') => {
                self.left_out.add(Reason::TooLarge, &place, "");
                if let Err(source) = skip_line(&mut rows.reader) {
                    return Some(Err(CorpusError::Damaged { path, source }));
                }
                self.rows = Some(rows);
                return None;
            }
            Ok(_) => self.rows = Some(rows),
            Err(source) => return Some(Err(CorpusError::Damaged { path, source })),
        }
        let line = if number == 1 { without_bom(&line) } else { &line };
        if line.trim_ascii().is_empty() {
            return None;
        }
        match text_of_row(line, &self.sources.field) {
            Ok(text) => self.accept(text.as_bytes(), &place).map(Ok),
            Err((reason, fault)) => {
                self.left_out.add(reason, &place, &fault);
                None
            }
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String, CorpusError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let document = match self.rows.take() {
                Some(rows) => self.next_row(rows),
                None => {
                    let input = self.inputs.next()?;
                    self.next_input(input)
                }
            };
            if document.is_some() {
                return document;
            }
        }
    }
}

/// The text in a field of a row, or the reason that there is none.
fn text_of_row(line: &[u8], field: &str) -> Result<String, (Reason, String)> {
    let line = std::str::from_utf8(line).map_err(|_| (Reason::NotUtf8, String::new()))?;
    let row = openwork_tensor::parse_json(line).map_err(|error| (Reason::NotJson, error.to_string()))?;
    let fault = match row {
        Value::Object(mut row) => match row.remove(field) {
            Some(Value::String(text)) => return Ok(text),
            Some(_) => format!("its `{field}` is no text"),
            None if row.is_empty() => "it has no field".into(),
            None => {
                format!("its fields are {}", row.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
            }
        },
        _ => "it is no object".into(),
    };
    Err((Reason::NoText, fault))
}

/// Reads on to the end of the line, keeping nothing.
fn skip_line(reader: &mut dyn BufRead) -> io::Result<()> {
    reader.skip_until(b'\n').map(|_| ())
}
