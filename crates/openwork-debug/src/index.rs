//! Index of activations: contexts of every node over all windows of a data set, in a file with one record a node.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom, Write},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use openwork_circuit::{Node, NodeSpace};
use openwork_model::{Model, Record, Tokens};
use openwork_tensor::{ShardError, TokenShards, write_atomic};
use rayon::prelude::*;
use serde::Serialize;

use crate::{Fired, Vocabulary};

/// First bytes of a file.
const MAGIC: &[u8; 16] = b"openwork-index1\n";
/// Bytes before the records: the magic, two hashes of 64 digits, and three numbers.
const HEADER: usize = 16 + 2 * 64 + 3 * 8;
/// Entries that a record keeps of the largest values, and of every class.
const KEPT: usize = 8;
/// Classes of one sign: powers of two from 2^-12 to 2^11; smaller and larger values are in the outermost ones.
const POWERS: usize = 24;
const LEAST_POWER: i32 = -12;
const CLASSES: usize = 2 * POWERS;
/// Bytes of an entry (window, position, value) and of a record.
const ENTRY: usize = 12;
const RECORD: usize = KEPT * ENTRY + CLASSES * (8 + KEPT * ENTRY);
/// Windows that are run before their values are sorted in: what a build holds in memory.
const BATCH: usize = 32;
/// Position of an entry that is not used.
const NONE: u32 = u32::MAX;
/// Tokens of a context that are shown before its own, and contexts of each kind.
const BEFORE: usize = 16;
const SHOWN: usize = 5;

/// Reason that an index cannot be made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The file cannot be read or written.
    #[error("index {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The file is no index of this format, or has another length than its header says.
    #[error("{} is no index of activations: delete it, and it is built anew", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
    /// The index is of another model, other data or other windows.
    #[error("the index {} is of {what} {found}, and this is {expected}: delete it, and it is built anew", path.display())]
    Stale {
        /// The file.
        path: PathBuf,
        /// Model, data or windows.
        what: &'static str,
        /// Hash or number in the file.
        found: String,
        /// That at hand.
        expected: String,
    },
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] ShardError),
    /// The data have no whole window.
    #[error("the data have {tokens} tokens, and a window has {length}")]
    Short {
        /// Tokens of the data.
        tokens: u64,
        /// Tokens of a window.
        length: usize,
    },
    /// A token of the data is none of the model's.
    #[error("token {token} of the data is none of the model's {vocab_size}")]
    Vocabulary {
        /// The token.
        token: u16,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// The build was ended before it was whole; nothing is written.
    #[error("the index is not whole and was not written")]
    Interrupted,
}

/// Data that an index is of: all whole windows of `length` tokens of the shards.
pub struct IndexData {
    shards: TokenShards,
    sha256: String,
    length: usize,
}

impl IndexData {
    /// Windows of `length` tokens of these shards.
    ///
    /// # Errors
    /// When there is no whole window.
    ///
    /// # Panics
    /// When `length` is 0.
    pub fn new(shards: TokenShards, length: usize) -> Result<Self, IndexError> {
        assert!(length > 0, "windows have tokens");
        if shards.len() < length as u64 {
            return Err(IndexError::Short { tokens: shards.len(), length });
        }
        let sha256 = shards.manifest().sha256();
        Ok(Self { shards, sha256, length })
    }

    /// Number of windows.
    pub fn windows(&self) -> usize {
        (self.shards.len() / self.length as u64) as usize
    }
}

/// A position of the data at which a node has a value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    window: u32,
    position: u32,
    value: f32,
}

const EMPTY: Entry = Entry { window: 0, position: NONE, value: 0.0 };

impl Entry {
    /// Order of a draw: a function of the place alone, so that what is drawn depends on no order of work (SplitMix64).
    fn lot(self) -> u64 {
        let mut z = (u64::from(self.window) << 32 | u64::from(self.position)).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

/// Class of a value that is not zero: its sign, and its power of two.
fn class(value: f32) -> usize {
    // The exponent of the number: a logarithm would round some values to the next power.
    let exponent = (value.to_bits() >> 23 & 0xff) as i32 - 127;
    let power = (exponent - LEAST_POWER).clamp(0, POWERS as i32 - 1) as usize;
    if value > 0.0 { POWERS + power } else { POWERS - 1 - power }
}

/// Contexts that are kept of one node.
#[derive(Clone, Debug, PartialEq)]
struct Kept {
    /// Largest positive values, at most one a window, the largest first.
    top: Vec<Entry>,
    counts: [u64; CLASSES],
    /// Values of every class, drawn uniformly.
    drawn: Vec<Vec<Entry>>,
}

impl Kept {
    fn new() -> Self {
        Self { top: vec![], counts: [0; CLASSES], drawn: vec![vec![]; CLASSES] }
    }

    /// Sorts one window of values in.
    fn add(&mut self, window: u32, values: impl Iterator<Item = f32>) {
        let mut best: Option<Entry> = None;
        for (position, value) in (0..).zip(values).filter(|(_, value)| *value != 0.0 && value.is_finite()) {
            let entry = Entry { window, position, value };
            if value > 0.0 && best.is_none_or(|best| value > best.value) {
                best = Some(entry);
            }
            let class = class(value);
            self.counts[class] += 1;
            insert(&mut self.drawn[class], entry, |a, b| a.lot() < b.lot());
        }
        // Of equal values the earlier window stays first.
        best.into_iter().for_each(|best| insert(&mut self.top, best, |a, b| a.value > b.value));
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD);
        let entries = |bytes: &mut Vec<u8>, list: &[Entry]| {
            for entry in list.iter().copied().chain(std::iter::repeat(EMPTY)).take(KEPT) {
                bytes.extend(entry.window.to_le_bytes());
                bytes.extend(entry.position.to_le_bytes());
                bytes.extend(entry.value.to_le_bytes());
            }
        };
        entries(&mut bytes, &self.top);
        for (count, drawn) in self.counts.iter().zip(&self.drawn) {
            bytes.extend(count.to_le_bytes());
            entries(&mut bytes, drawn);
        }
        bytes
    }

    fn read(bytes: &[u8; RECORD]) -> Self {
        let entries = |at: usize| {
            let word = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).expect("four bytes");
            let entry = |at: usize| Entry {
                window: u32::from_le_bytes(word(at)),
                position: u32::from_le_bytes(word(at + 4)),
                value: f32::from_le_bytes(word(at + 8)),
            };
            (0..KEPT).map(|i| entry(at + i * ENTRY)).take_while(|entry| entry.position != NONE).collect::<Vec<_>>()
        };
        let mut kept = Self { top: entries(0), ..Self::new() };
        for class in 0..CLASSES {
            let at = KEPT * ENTRY + class * (8 + KEPT * ENTRY);
            kept.counts[class] = u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            kept.drawn[class] = entries(at + 8);
        }
        kept
    }
}

/// Puts an entry into a sorted list of the first [`KEPT`].
fn insert(list: &mut Vec<Entry>, entry: Entry, before: impl Fn(&Entry, &Entry) -> bool) {
    let at = list.partition_point(|kept| !before(&entry, kept));
    if at < KEPT {
        list.insert(at, entry);
        list.truncate(KEPT);
    }
}

/// An index of activations, open for reading. It is of one model and one data set, which it names by hash; a record of fixed
/// size is read for every question.
pub struct Index {
    path: PathBuf,
    data: IndexData,
    space: NodeSpace,
}

/// Contexts of all data on which a node has a value, from an [`Index`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IndexedContexts {
    /// The node.
    pub node: String,
    /// It fires where its value is above this.
    pub above: f32,
    /// Windows of the data.
    pub windows: usize,
    /// Positions of the data.
    pub positions: u64,
    /// Least and largest number of positions at which it fires: both are the same but for a bound inside a power of two.
    pub firing: [u64; 2],
    /// Largest values above the bound, one a window.
    pub top: Vec<Fired>,
    /// Some of those above the bound, drawn uniformly; of the bound's own power of two, among the eight that are kept.
    pub drawn: Vec<Fired>,
    /// Nearest to the bound among those that are kept of each power of two.
    pub near: Vec<Fired>,
}

impl Index {
    /// Builds the index of `model` over `data` in a file, which is complete or not there. `after` hears of windows that are done, and
    /// may end the build. The same model and data give the same bytes on any number of threads.
    ///
    /// # Errors
    /// When data cannot be read or the file not written, or `after` ended it.
    pub fn build(
        path: &Path,
        model: &Model,
        model_sha256: &str,
        data: &IndexData,
        mut after: impl FnMut(usize) -> ControlFlow<()>,
    ) -> Result<(), IndexError> {
        let space = NodeSpace::new(&model.config);
        let (length, windows, vocab_size) = (data.length, data.windows(), model.config.vocab_size);
        let mut kept = vec![Kept::new(); space.len()];
        let mut tokens = vec![0; BATCH * length];
        for first in (0..windows).step_by(BATCH) {
            let tokens = &mut tokens[..BATCH.min(windows - first) * length];
            data.shards.read((first * length) as u64, tokens)?;
            if let Some(&token) = tokens.iter().find(|token| usize::from(**token) >= vocab_size) {
                return Err(IndexError::Vocabulary { token, vocab_size });
            }
            let records: Vec<Record> = tokens
                .par_chunks(length)
                .map(|window| {
                    let mut record = Record::of_kinds(&NodeSpace::KINDS);
                    model.forward(Tokens::new(window, length), Some(&[0]), &mut record);
                    record
                })
                .collect();
            kept.par_iter_mut().enumerate().for_each(|(number, kept)| {
                let Node { site, index } = space.node(number);
                for (window, record) in (first..).zip(&records) {
                    let values = record.at(site).expect("every site of nodes is recorded").row(index);
                    kept.add(window as u32, values.iter().copied());
                }
            });
            if after((first + BATCH).min(windows)).is_break() {
                return Err(IndexError::Interrupted);
            }
        }
        let written = write_atomic(path, |file| {
            file.write_all(&header(model_sha256, data, space.len()))?;
            kept.iter().try_for_each(|kept| file.write_all(&kept.bytes()))
        });
        written.map_err(|source| IndexError::File { path: path.to_owned(), source })
    }

    /// Opens an index of this model and these data.
    ///
    /// # Errors
    /// When the file cannot be read, is no index, or is of another model, other data or other windows.
    pub fn open(path: &Path, model: &Model, model_sha256: &str, data: IndexData) -> Result<Self, IndexError> {
        let failed = |source| IndexError::File { path: path.to_owned(), source };
        let format = || IndexError::Format { path: path.to_owned() };
        let space = NodeSpace::new(&model.config);
        let mut file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        let mut found = [0; HEADER];
        if length < HEADER as u64 {
            return Err(format());
        }
        file.read_exact(&mut found).map_err(failed)?;
        if !found.starts_with(MAGIC) {
            return Err(format());
        }
        let expected = header(model_sha256, &data, space.len());
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes")).to_string();
        for (what, range) in [("model", 16..80), ("data", 80..144)] {
            if found[range.clone()] != expected[range.clone()] {
                let (found, expected) = (text(&found[range.clone()]), text(&expected[range]));
                return Err(IndexError::Stale { path: path.to_owned(), what, found, expected });
            }
        }
        for (what, range) in [("windows of so many tokens:", 144..152), ("windows:", 152..160)] {
            if found[range.clone()] != expected[range.clone()] {
                let (found, expected) = (number(&found[range.clone()]), number(&expected[range]));
                return Err(IndexError::Stale { path: path.to_owned(), what, found, expected });
            }
        }
        if found[..] != expected[..] || length != (HEADER + space.len() * RECORD) as u64 {
            return Err(format());
        }
        Ok(Self { path: path.to_owned(), data, space })
    }

    /// Contexts of a node; none where the index has no such node (it has those of circuits).
    ///
    /// # Errors
    /// When the file or the data cannot be read any more.
    pub fn contexts(
        &self,
        vocabulary: &dyn Vocabulary,
        node: Node,
        above: f32,
    ) -> Result<Option<IndexedContexts>, IndexError> {
        let Some(number) = self.space.number(node) else { return Ok(None) };
        let kept = self.record(number)?;
        let top: Vec<Entry> = kept.top.iter().copied().filter(|entry| entry.value > above).collect();
        let all: Vec<Entry> = kept.drawn.concat();
        let mut drawn: Vec<Entry> = all.iter().copied().filter(|entry| entry.value > above).collect();
        // The first lots of all are among the first lots of every class.
        drawn.sort_by_key(|entry| entry.lot());
        let mut near: Vec<Entry> = all.into_iter().filter(|entry| entry.value != above).collect();
        near.sort_by(|a, b| (a.value - above).abs().total_cmp(&(b.value - above).abs()).then(a.lot().cmp(&b.lot())));
        let shown = |list: &[Entry]| -> Result<Vec<Fired>, IndexError> {
            list.iter().take(SHOWN).map(|entry| self.fired(vocabulary, *entry)).collect()
        };
        Ok(Some(IndexedContexts {
            node: node.to_string(),
            above,
            windows: self.data.windows(),
            positions: (self.data.windows() * self.data.length) as u64,
            firing: firing(&kept.counts, above),
            top: shown(&top)?,
            drawn: shown(&drawn)?,
            near: shown(&near)?,
        }))
    }

    fn record(&self, number: usize) -> Result<Kept, IndexError> {
        let read = || {
            let mut file = File::open(&self.path)?;
            file.seek(SeekFrom::Start((HEADER + number * RECORD) as u64))?;
            let mut bytes = [0; RECORD];
            file.read_exact(&mut bytes)?;
            Ok(Kept::read(&bytes))
        };
        let kept = read().map_err(|source| IndexError::File { path: self.path.clone(), source })?;
        let inside = |entry: &Entry| {
            (entry.window as usize) < self.data.windows() && (entry.position as usize) < self.data.length
        };
        match kept.top.iter().chain(kept.drawn.iter().flatten()).all(inside) {
            true => Ok(kept),
            false => Err(IndexError::Format { path: self.path.clone() }),
        }
    }

    fn fired(&self, vocabulary: &dyn Vocabulary, entry: Entry) -> Result<Fired, IndexError> {
        let (window, position) = (entry.window as usize, entry.position as usize);
        let mut tokens = vec![0; position.min(BEFORE) + 1];
        let first = window * self.data.length + position + 1 - tokens.len();
        self.data.shards.read(first as u64, &mut tokens)?;
        let (token, before) = tokens.split_last().expect("a token");
        let (before, token) = (vocabulary.decode(before), vocabulary.quoted(*token));
        Ok(Fired { window, position, value: entry.value, before, token })
    }
}

/// Least and largest number of values above a bound. Those of classes that lie on one side of it count on one side; those of its own
/// class may be on either.
fn firing(counts: &[u64; CLASSES], above: f32) -> [u64; 2] {
    if above == 0.0 {
        return [counts[POWERS..].iter().sum(); 2];
    }
    let own = class(above);
    let beyond: u64 = counts[own + 1..].iter().sum();
    [beyond, beyond + counts[own]]
}

fn header(model_sha256: &str, data: &IndexData, nodes: usize) -> [u8; HEADER] {
    let mut bytes = MAGIC.to_vec();
    for hash in [model_sha256, &data.sha256] {
        assert_eq!(hash.len(), 64, "a hash has 64 digits");
        bytes.extend(hash.as_bytes());
    }
    for number in [data.length, data.windows(), nodes] {
        bytes.extend((number as u64).to_le_bytes());
    }
    bytes.try_into().expect("a header of this length")
}
