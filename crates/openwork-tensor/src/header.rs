//! The JSON header of a safetensors file: reading it strictly, writing it reproducibly.
//!
//! The layout itself (offsets without gaps or overlaps, shapes that match them, the file's length) is judged
//! by the `safetensors` crate. On top of that we refuse a name that occurs twice, which that crate lets the
//! last one win, and we name the tensor and the numbers in errors.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use safetensors::tensor::{SafeTensorError, SafeTensors, TensorInfo};
use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserializer, Serialize};

use crate::error::{MAX_HEADER, ReadError};

/// Kind, shape and place of one tensor.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) dtype: safetensors::Dtype,
    pub(crate) shape: Vec<usize>,
    /// Offsets into the whole file.
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// A header that has been checked against the file it belongs to.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) tensors: BTreeMap<String, Info>,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Header {
    /// Reads and checks the header of a whole file.
    pub(crate) fn read(bytes: &[u8], path: &Path) -> Result<Self, ReadError> {
        let path = || path.to_owned();
        let len = bytes.len() as u64;
        let truncated = |need| ReadError::Truncated { path: path(), need, len };
        let (prefix, rest) = bytes.split_first_chunk().ok_or_else(|| truncated(8))?;
        let n = u64::from_le_bytes(*prefix);
        if n > MAX_HEADER {
            return Err(ReadError::HeaderTooLarge { path: path(), len: n });
        }
        let bad = |reason: String| ReadError::BadHeader { path: path(), reason };
        let text = rest
            .get(..n as usize)
            .ok_or_else(|| truncated(8 + n))
            .and_then(|text| std::str::from_utf8(text).map_err(|e| bad(e.to_string())))?;
        if !text.starts_with('{') {
            return Err(bad("it does not start with `{`".to_owned()));
        }

        let mut strict = Strict::default();
        let mut json = serde_json::Deserializer::from_str(text);
        let walked = json.deserialize_map(&mut strict).and_then(|()| json.end());
        if let Some(name) = strict.duplicate {
            return Err(ReadError::DuplicateName { path: path(), name });
        }
        walked.map_err(|e| bad(e.to_string()))?;

        let (n, layout) = SafeTensors::read_metadata(bytes).map_err(|error| match error {
            SafeTensorError::InvalidOffset(name) => ReadError::BadOffsets { path: path(), name },
            SafeTensorError::MetadataIncompleteBuffer => ReadError::WrongLength { path: path() },
            other => bad(other.to_string()),
        })?;
        let data = 8 + n;
        let tensors = layout.tensors().into_iter().map(|(name, info)| {
            let (start, end) = (data + info.data_offsets.0, data + info.data_offsets.1);
            let info = Info { dtype: info.dtype, shape: info.shape.clone(), start, end };
            (name, info)
        });
        Ok(Self { tensors: tensors.collect(), metadata: strict.metadata })
    }
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

/// Walks the header's JSON once: keeps the metadata, notices names that occur twice.
#[derive(Default)]
struct Strict {
    metadata: BTreeMap<String, String>,
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
                map.next_value::<IgnoredAny>()?;
            }
            seen.insert(name);
        }
        Ok(())
    }
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
