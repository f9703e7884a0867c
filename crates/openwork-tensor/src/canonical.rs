//! Canonical JSON: one text for one value, whatever the order of keys and the spaces.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// The JSON value of `text` as one line with sorted keys: the same for every way of writing it.
///
/// ```
/// let written = openwork_tensor::canonical_json("{ \"b\": [1,\n2], \"a\": null }").unwrap();
/// assert_eq!(written, r#"{"a":null,"b":[1,2]}"#);
/// ```
///
/// # Errors
/// When `text` is not JSON, or an object in it names a key twice.
pub fn canonical_json(text: &str) -> Result<String, serde_json::Error> {
    let value = crate::parse_json(text)?;
    serde_json::to_string(&Sorted::of(&value))
}

/// A value whose objects are sorted, whatever order `serde_json` keeps.
#[derive(Serialize)]
#[serde(untagged)]
enum Sorted<'a> {
    Object(BTreeMap<&'a str, Sorted<'a>>),
    Array(Vec<Sorted<'a>>),
    Plain(&'a Value),
}

impl<'a> Sorted<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Object(map) => Self::Object(map.iter().map(|(k, v)| (k.as_str(), Self::of(v))).collect()),
            Value::Array(items) => Self::Array(items.iter().map(Self::of).collect()),
            plain => Self::Plain(plain),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth_and_values_kept() {
        let text = r#"{"z": {"b": 0.1, "a": [{"y": "é", "x": 18446744073709551615}]}, "A": true}"#;
        let canonical = canonical_json(text).unwrap();
        assert_eq!(canonical, r#"{"A":true,"z":{"a":[{"x":18446744073709551615,"y":"é"}],"b":0.1}}"#);
        assert_eq!(canonical_json(&canonical).unwrap(), canonical);
        assert!(canonical_json("{").is_err());
    }
}
