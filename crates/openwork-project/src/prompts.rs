//! Streams of prompts: lines of text, or of JSON.
//!
//! A line that is no prompt is counted and said, and the next one is read: only a stream that cannot be read ends it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use openwork_tensor::without_bom;
use serde_json::Value;

/// Longest line in bytes: as long as nobody's prompt, and short enough to keep in memory.
pub const LONGEST_LINE: u64 = 1 << 20;

/// Form of the lines of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// A line is a prompt.
    Text,
    /// A line is a JSON string, or an object with a string `prompt`.
    Json,
}

/// A prompt and the number of its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptLine {
    /// Number of the line.
    pub number: usize,
    /// The prompt.
    pub prompt: String,
}

/// A line that is no prompt.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {number}: {fault}")]
pub struct BadLine {
    /// Number of the line, from 1.
    pub number: usize,
    /// Reason that it is none.
    pub fault: LineFault,
}

/// Reason that a line is no prompt.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// It is longer than [`LONGEST_LINE`].
    #[error("it is longer than {} bytes", LONGEST_LINE)]
    TooLong,
    /// It is not UTF-8.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// It is not JSON.
    #[error("it is not JSON: {0}")]
    NotJson(String),
    /// It is JSON and holds no prompt.
    #[error("it is neither a text nor an object with a text `prompt`")]
    NoPrompt,
    /// Its prompt is empty.
    #[error("its prompt is empty")]
    Empty,
}

/// Reason that a stream cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PromptError {
    /// The file cannot be opened.
    #[error("cannot read {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A line cannot be read.
    #[error("cannot read {stream}, line {number}")]
    Read {
        /// Name of the stream.
        stream: String,
        /// Number of the line.
        number: usize,
        /// The system's answer.
        source: io::Error,
    },
}

/// Prompts of a stream, line after line.
pub struct PromptLines {
    reader: Box<dyn BufRead>,
    stream: String,
    format: LineFormat,
    number: usize,
    blank: usize,
    /// True while the rest of a line that is too long is still to come.
    within_long: bool,
}

impl PromptLines {
    /// Opens a file of prompts, or standard input under the name `-`.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path, format: LineFormat) -> Result<Self, PromptError> {
        if path.as_os_str() == "-" {
            return Ok(Self::new(BufReader::new(io::stdin()), "standard input".into(), format));
        }
        let open = |source| PromptError::Open { path: path.to_owned(), source };
        let file = File::open(path).map_err(open)?;
        if file.metadata().map_err(open)?.is_dir() {
            return Err(open(io::ErrorKind::IsADirectory.into()));
        }
        Ok(Self::new(BufReader::new(file), path.display().to_string(), format))
    }

    /// Prompts of the lines of `reader`; `stream` names it in errors.
    pub fn new(reader: impl BufRead + 'static, stream: String, format: LineFormat) -> Self {
        Self { reader: Box::new(reader), stream, format, number: 0, blank: 0, within_long: false }
    }

    /// Lines of nothing but blanks so far. They separate prompts and are none.
    pub fn blank(&self) -> usize {
        self.blank
    }

    /// The next line without its end; `None` at the end of the stream.
    fn next_line(&mut self) -> io::Result<Option<Result<Vec<u8>, LineFault>>> {
        // Only now: whoever reads the lines has heard of the long one before its end comes, if it ever does.
        if std::mem::take(&mut self.within_long) {
            self.reader.skip_until(b'\n')?;
        }
        let mut line = Vec::new();
        self.reader.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line)?;
        self.number += 1;
        if line.is_empty() {
            return Ok(None);
        }
        if line.pop_if(|last| *last == b'\n').is_none() && line.len() as u64 > LONGEST_LINE {
            self.within_long = true;
            return Ok(Some(Err(LineFault::TooLong)));
        }
        line.pop_if(|last| *last == b'\r');
        Ok(Some(Ok(if self.number == 1 { without_bom(&line).to_owned() } else { line })))
    }
}

impl Iterator for PromptLines {
    type Item = Result<Result<PromptLine, BadLine>, PromptError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let read = self.next_line();
            let number = self.number;
            let line = match read {
                Ok(line) => line?,
                Err(source) => return Some(Err(PromptError::Read { stream: self.stream.clone(), number, source })),
            };
            if line.as_ref().is_ok_and(|line| line.trim_ascii().is_empty()) {
                self.blank += 1;
                continue;
            }
            let prompt = line.and_then(|line| prompt(line, self.format));
            let prompt = prompt.map(|prompt| PromptLine { number, prompt }).map_err(|fault| BadLine { number, fault });
            return Some(Ok(prompt));
        }
    }
}

fn prompt(line: Vec<u8>, format: LineFormat) -> Result<String, LineFault> {
    let line = String::from_utf8(line).map_err(|_| LineFault::NotUtf8)?;
    if format == LineFormat::Text {
        return Ok(line);
    }
    let value = openwork_tensor::parse_json(&line).map_err(|error| LineFault::NotJson(error.to_string()))?;
    let text = match value {
        Value::String(text) => text,
        Value::Object(mut object) => match object.remove("prompt") {
            Some(Value::String(text)) => text,
            _ => return Err(LineFault::NoPrompt),
        },
        _ => return Err(LineFault::NoPrompt),
    };
    if text.is_empty() { Err(LineFault::Empty) } else { Ok(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Line = Result<(usize, String), String>;

    /// Prompts and messages, and the number of blank lines.
    fn read(bytes: &[u8], format: LineFormat) -> (Vec<Line>, usize) {
        let mut lines = PromptLines::new(io::Cursor::new(bytes.to_vec()), "s".into(), format);
        let found = lines.by_ref().map(|line| match line.unwrap() {
            Ok(PromptLine { number, prompt }) => Ok((number, prompt)),
            Err(bad) => Err(bad.to_string()),
        });
        (found.collect(), lines.blank())
    }

    fn line(number: usize, prompt: &str) -> Line {
        Ok((number, prompt.into()))
    }

    fn bad(message: &str) -> Line {
        Err(message.into())
    }

    #[test]
    fn lines_are_prompts_and_blank_ones_are_counted() {
        let (found, blank) = read(b"\xEF\xBB\xBFa\r\n \n\"b\"\n\r\n  c \r\n\n", LineFormat::Text);
        assert_eq!((found, blank), (vec![line(1, "a"), line(3, "\"b\""), line(5, "  c ")], 3));
        assert_eq!(read(b"", LineFormat::Text), (vec![], 0));
        assert_eq!(read(b"last", LineFormat::Text).0, [line(1, "last")]);
    }

    #[test]
    fn a_bad_line_is_named_and_the_next_ones_are_read() {
        let (found, _) = read(b"one\ncaf\xE9\nthree\n", LineFormat::Text);
        assert_eq!(found, [line(1, "one"), bad("line 2: it is not UTF-8"), line(3, "three")]);
        let json = b"\"a\\nb\"\n{\"prompt\": \"c\"}\r\n{\n{\"prompt\": \"\"}\n3\n{\"text\": \"d\"}\n{\"prompt\": 1}\n\"\"\n\"e\"";
        let (found, _) = read(json, LineFormat::Json);
        assert_eq!(found[..2], [line(1, "a\nb"), line(2, "c")]);
        assert!(found[2].as_ref().unwrap_err().starts_with("line 3: it is not JSON: "), "{found:?}");
        assert_eq!(found[3], bad("line 4: its prompt is empty"));
        for (i, message) in found[4..7].iter().enumerate() {
            assert_eq!(
                *message,
                bad(&format!("line {}: it is neither a text nor an object with a text `prompt`", i + 5))
            );
        }
        assert_eq!(found[7..], [bad("line 8: its prompt is empty"), line(9, "e")]);
    }

    #[test]
    fn a_line_without_end_is_said_before_its_end() {
        /// Blanks for ever.
        struct Endless;
        impl Read for Endless {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                out.fill(b' ');
                Ok(out.len())
            }
        }
        let mut lines = PromptLines::new(BufReader::new(Endless), "s".into(), LineFormat::Text);
        let bad = lines.next().unwrap().unwrap().unwrap_err();
        assert_eq!(bad, BadLine { number: 1, fault: LineFault::TooLong });
        let long = "x".repeat(LONGEST_LINE as usize);
        let (found, _) = read(format!("{long}\n{long}x\nnext").as_bytes(), LineFormat::Text);
        assert_eq!(found[1..], [super::tests::bad("line 2: it is longer than 1048576 bytes"), line(3, "next")]);
        assert_eq!(found[0].as_ref().unwrap().1.len(), long.len());
    }
}
