//! Files and rows that are no document, counted by reason.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// Cases of a reason that are named.
const NAMED: usize = 3;

/// Reason that a file or a row is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reason {
    /// A file of another kind than rows of JSON and the extensions of text.
    OtherKind,
    /// A pipe, socket or device inside a folder.
    Special,
    /// A link inside a folder, where links are not followed.
    Link,
    /// A folder that was visited before, by another way.
    FolderAgain,
    /// A file that was named before, itself or by a folder.
    FileAgain,
    /// A file or folder that cannot be opened.
    Unreadable,
    /// A document that contains a NUL byte.
    Binary,
    /// A document that is not UTF-8.
    NotUtf8,
    /// A document, or a line, that is longer than the limit.
    TooLarge,
    /// A document of nothing but white space.
    Empty,
    /// A document that occurred before; byte order mark and line ends make no difference.
    Duplicate,
    /// A line that is not JSON.
    NotJson,
    /// A line of JSON without a text in the field.
    NoText,
}

impl Reason {
    /// Something that a person can do about it, where there is something.
    pub fn remedy(self) -> Option<&'static str> {
        Some(match self {
            Self::OtherKind => "--extensions names the extensions that are text",
            Self::Link => "--follow-symlinks follows links",
            Self::NotUtf8 => "convert them to UTF-8",
            Self::TooLarge => "--max-file-bytes moves the limit",
            Self::NotJson => "every line has to be one JSON object",
            Self::NoText => "--field names the field that holds the text",
            _ => return None,
        })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherKind => "other kinds of files",
            Self::Special => "pipes, sockets, devices",
            Self::Link => "links, not followed",
            Self::FolderAgain => "folders visited before",
            Self::FileAgain => "files named before",
            Self::Unreadable => "unreadable",
            Self::Binary => "binary",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLarge => "too large",
            Self::Empty => "empty",
            Self::Duplicate => "duplicates",
            Self::NotJson => "lines that are not JSON",
            Self::NoText => "rows without the text",
        })
    }
}

/// Cases of one reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cases {
    /// Number of them.
    pub count: u64,
    /// Place of each of the first three, and what is wrong with it where that is more than the reason.
    pub first: Vec<String>,
}

/// Everything that was left out of a corpus.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeftOut(BTreeMap<Reason, Cases>);

impl LeftOut {
    /// The reasons that occurred, with their cases.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, &Cases)> {
        self.0.iter().map(|(&reason, cases)| (reason, cases))
    }

    /// Number of cases of a reason.
    pub fn count(&self, reason: Reason) -> u64 {
        self.0.get(&reason).map_or(0, |cases| cases.count)
    }

    /// True if everything was used.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Counts a case.
    pub(super) fn add(&mut self, reason: Reason, place: &Place<'_>, fault: &str) {
        let cases = self.0.entry(reason).or_default();
        cases.count += 1;
        if cases.first.len() < NAMED {
            let colon = if fault.is_empty() { "" } else { ": " };
            cases.first.push(format!("{place}{colon}{fault}"));
        }
    }

    /// Counts a generated program that was generated before.
    pub(super) fn add_program(&mut self, number: usize) {
        self.add(Reason::Duplicate, &Place::file(Path::new(&format!("program {number}"))), "");
    }
}

impl fmt::Display for LeftOut {
    /// A line for each reason: count, reason, first cases, and what can be done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (reason, cases) in self.iter() {
            let more = if cases.count > cases.first.len() as u64 { "; .." } else { "" };
            write!(f, "\n  {} {reason}: {}{more}", cases.count, cases.first.join("; "))?;
            if let Some(remedy) = reason.remedy() {
                write!(f, " ({remedy})")?;
            }
        }
        Ok(())
    }
}

/// A file, or a line of it. Bytes of its name that are not UTF-8 are shown as `\xE9`.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) line: Option<u64>,
}

impl<'a> Place<'a> {
    pub(super) fn file(path: &'a Path) -> Self {
        Self { path, line: None }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.path.as_os_str().as_encoded_bytes().utf8_chunks() {
            f.write_str(chunk.valid())?;
            chunk.invalid().iter().try_for_each(|byte| write!(f, "\\x{byte:02X}"))?;
        }
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}
