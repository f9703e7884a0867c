//! The JSON header of a safetensors file: reading it strictly, writing it reproducibly.
//!
//! The layout itself (offsets without gaps or overlaps, shapes that match them, the file's length) is judged
//! by the `safetensors` crate. On top of that we refuse a name that occurs twice, which that crate lets the
//! last one win, and we name the tensor and the numbers in errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::{Metadata, TensorInfo};
use serde::de::{DeserializeSeed, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{MAX_HEADER, ReadError};
use crate::source::Source;

/// Bytes of the number before the header, its length.
const PREFIX: u64 = 8;

/// Kind, shape and place of one tensor.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
    /// Offsets into the whole file.
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A header that has been checked against the file it belongs to.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, Info>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads and checks the header of a file.
    pub(crate) fn read(source: &Source, path: &Path) -> Result<Self, ReadError> {
        let path = || path.to_owned();
        let io = |source| ReadError::Io { path: path(), source };
        let len = source.len();
        let truncated = |need| ReadError::Truncated { path: path(), need, len };
        if len < PREFIX {
            return Err(truncated(PREFIX));
        }
        let mut prefix = [0; PREFIX as usize];
        source.read_at(0, &mut prefix).map_err(io)?;
        let n = u64::from_le_bytes(prefix);
        if n > MAX_HEADER {
            return Err(ReadError::HeaderTooLarge { path: path(), len: n });
        }
        let data = PREFIX.saturating_add(n);
        if data > len {
            return Err(truncated(data));
        }
        let bad = |reason: String| ReadError::BadHeader { path: path(), reason };
        let text = String::from_utf8(source.bytes(PREFIX..data).map_err(io)?).map_err(|e| bad(e.to_string()))?;
        if !text.starts_with('{') {
            return Err(bad("it does not start with `{`".to_owned()));
        }

        let mut strict = Strict::default();
        let mut json = serde_json::Deserializer::from_str(&text);
        let walked = json.deserialize_map(&mut strict).and_then(|()| json.end());
        if let Some(name) = strict.duplicate {
            return Err(ReadError::DuplicateName { path: path(), name });
        }
        walked.map_err(|e| bad(e.to_string()))?;
        if let Some(name) = misplaced(&mut strict.tensors) {
            return Err(ReadError::BadOffsets { path: path(), name });
        }
        // Judges shapes against offsets.
        let layout: Metadata = serde_json::from_str(&text).map_err(|e| bad(e.to_string()))?;
        if data.checked_add(layout.data_len() as u64) != Some(len) {
            return Err(ReadError::WrongLength { path: path() });
        }
        let tensors = layout.tensors().into_iter().map(|(name, info)| {
            let [start, end] =
                [info.data_offsets.0, info.data_offsets.1].map(|offset| data.saturating_add(offset as u64));
            let info = Info { dtype: info.dtype, shape: info.shape.clone(), start, end };
            (name, info)
        });
        Ok(Self { tensors: tensors.collect(), metadata: strict.metadata })
    }
}

/// The first tensor whose data does not start where the one before it ends, or ends before it starts.
fn misplaced(tensors: &mut [((usize, usize), String)]) -> Option<String> {
    tensors.sort_unstable();
    let mut at = 0;
    for ((start, end), name) in tensors {
        if *start != at || end < start {
            return Some(std::mem::take(name));
        }
        at = *end;
    }
    None
}

/// Renders a header: the metadata sorted by key, then the tensors in the order of their data, padded with
/// spaces so that the data starts at a multiple of eight. The same contents give the same bytes.
pub(crate) fn render(metadata: &BTreeMap<String, String>, tensors: &[(&str, TensorInfo)]) -> Vec<u8> {
    struct Map<'a>(&'a BTreeMap<String, String>, &'a [(&'a str, TensorInfo)]);
    impl Serialize for Map<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            let mut map = serializer.serialize_map(None)?;
            if !self.0.is_empty() {
                map.serialize_entry("__metadata__", self.0)?;
            }
            for (name, info) in self.1 {
                map.serialize_entry(name, info)?;
            }
            map.end()
        }
    }
    let mut text = serde_json::to_vec(&Map(metadata, tensors)).expect("text, numbers and text keys only");
    text.resize(text.len().next_multiple_of(8), b' ');
    text
}

/// Walks the header's JSON once: keeps the metadata and the offsets, notices names that occur twice.
#[derive(Default)]
struct Strict {
    metadata: BTreeMap<String, String>,
    tensors: Vec<((usize, usize), String)>,
    duplicate: Option<String>,
}

impl<'de> Visitor<'de> for &mut Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                self.duplicate = Some(name);
                return Err(A::Error::custom("a name occurs twice"));
            }
            if name == "__metadata__" {
                map.next_value_seed(Pairs(self))?;
            } else {
                let Offsets { data_offsets } = map.next_value()?;
                self.tensors.push((data_offsets, name.clone()));
            }
            seen.insert(name);
        }
        Ok(())
    }
}

/// The offsets of a tensor; the rest of its entry is the `safetensors` crate's to judge.
#[derive(Deserialize)]
struct Offsets {
    data_offsets: (usize, usize),
}

/// The `__metadata__` object: text to text.
struct Pairs<'a>(&'a mut Strict);

impl<'de> DeserializeSeed<'de> for Pairs<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Pairs<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of texts as `__metadata__`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if self.0.metadata.contains_key(&key) {
                self.0.duplicate = Some(format!("__metadata__.{key}"));
                return Err(A::Error::custom("a key occurs twice"));
            }
            let value = map.next_value()?;
            self.0.metadata.insert(key, value);
        }
        Ok(())
    }
}
