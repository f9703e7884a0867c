//! Everything a caller can see of this crate: round trips, files made by other programs, and attacks.

mod mutate;
mod pt;
mod pt_attacks;
mod round_trip;
mod safetensors_attacks;
mod shards;
mod zip_file;

use std::collections::BTreeMap;
use std::path::PathBuf;

/// The error with everything that caused it, as a user would see it.
fn report(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// A file beside these tests; `tests/data/make.py` made it.
fn data(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// A map from pairs.
fn map<T>(pairs: impl IntoIterator<Item = (&'static str, T)>) -> BTreeMap<String, T> {
    pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()
}
