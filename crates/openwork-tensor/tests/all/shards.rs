//! Token shards: round trips across borders, and datasets that must be refused.

use std::fs;
use std::path::Path;

use openwork_tensor::{ShardError, ShardWriter, TokenShards, sha256_file};
use proptest::prelude::*;

use crate::report;

const TOKENIZER: &str = "0123abcd";

fn dataset(dir: &Path, tokens: &[u16], per_shard: u64) {
    let mut writer = ShardWriter::create(dir, TOKENIZER, per_shard).unwrap();
    writer.push(tokens).unwrap();
    writer.finish().unwrap();
}

/// A dataset of ten tokens in shards of four, after `damage`.
fn damaged(damage: impl FnOnce(&Path)) -> ShardError {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &(0..10).collect::<Vec<_>>(), 4);
    damage(dir.path());
    match TokenShards::open(dir.path(), TOKENIZER).and_then(|shards| shards.verify_hashes()) {
        Err(error) => error,
        Ok(()) => panic!("the dataset has to be refused"),
    }
}

fn edit_manifest(from: &'static str, to: &'static str) -> impl FnOnce(&Path) {
    move |dir| {
        let path = dir.join("manifest.json");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(path, text.replace(from, to)).unwrap();
    }
}

proptest! {
    #[test]
    fn tokens_come_back_from_any_place(
        pieces in prop::collection::vec(prop::collection::vec(any::<u16>(), 0..20), 0..8),
        per_shard in 1u64..15,
        places in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(dir.path(), TOKENIZER, per_shard).unwrap();
        for piece in &pieces {
            writer.push(piece).unwrap();
        }
        let manifest = writer.finish().unwrap();
        let all = pieces.concat();
        let shards = TokenShards::open(dir.path(), TOKENIZER).unwrap();
        prop_assert_eq!(shards.manifest(), &manifest);
        prop_assert_eq!(shards.len(), all.len() as u64);
        prop_assert_eq!(shards.is_empty(), all.is_empty());
        shards.verify_hashes().unwrap();
        for (start, len) in places {
            let start = start.index(all.len() + 1);
            let len = len.index(all.len() - start + 1);
            let mut out = vec![0; len];
            shards.read(start as u64, &mut out).unwrap();
            prop_assert_eq!(&out, &all[start..start + len]);
        }
    }
}

#[test]
fn the_layout_is_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &[1, 0x0203, 0xffff], 2);
    assert_eq!(fs::read(dir.path().join("shard-00000.bin")).unwrap(), [1, 0, 3, 2]);
    let last = dir.path().join("shard-00001.bin");
    assert_eq!(fs::read(&last).unwrap(), [0xff, 0xff]);
    let text = fs::read_to_string(dir.path().join("manifest.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["format_version"], 1);
    assert_eq!(json["tokenizer_sha256"], TOKENIZER);
    assert_eq!(json["shards"][0]["tokens"], 2);
    assert_eq!(json["shards"][1]["file"], "shard-00001.bin");
    assert_eq!(json["shards"][1]["sha256"], sha256_file(last).unwrap());
}

#[test]
#[should_panic(expected = "read: tokens 2.. (2 of them) but there are 3")]
fn reading_past_the_end_panics() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &[1, 2, 3], 2);
    TokenShards::open(dir.path(), TOKENIZER).unwrap().read(2, &mut [0; 2]).unwrap();
}

#[test]
#[should_panic(expected = "but there are 3")]
fn a_start_near_the_end_of_u64_panics_too() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &[1, 2, 3], 2);
    TokenShards::open(dir.path(), TOKENIZER).unwrap().read(u64::MAX, &mut [0; 2]).unwrap();
}

#[test]
fn an_unfinished_dataset_is_refused_and_can_be_started_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path(), TOKENIZER, 2).unwrap();
    writer.push(&[1, 2, 3, 4, 5]).unwrap();
    drop(writer);
    let error = TokenShards::open(dir.path(), TOKENIZER).unwrap_err();
    assert!(matches!(error, ShardError::NoManifest { .. }));
    dataset(dir.path(), &[7], 2);
    let shards = TokenShards::open(dir.path(), TOKENIZER).unwrap();
    shards.verify_hashes().unwrap();
    assert_eq!(shards.len(), 1);
}

#[test]
fn a_finished_dataset_is_not_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &[1], 2);
    let error = ShardWriter::create(dir.path(), TOKENIZER, 2).unwrap_err();
    assert!(matches!(error, ShardError::AlreadyExists { .. }));
}

#[test]
fn another_tokenizer_is_refused() {
    let error = damaged(edit_manifest(TOKENIZER, "beef"));
    assert!(report(&error).ends_with("was made with tokenizer beef, not 0123abcd"), "{error}");
}

#[test]
fn a_missing_shard_is_refused() {
    let error = damaged(|dir| fs::remove_file(dir.join("shard-00001.bin")).unwrap());
    assert!(matches!(error, ShardError::MissingShard { path } if path.ends_with("shard-00001.bin")));
}

#[test]
fn a_shard_of_wrong_length_is_refused() {
    for len in [0, 7, 9, 10] {
        let error = damaged(|dir| fs::write(dir.join("shard-00000.bin"), vec![0; len]).unwrap());
        assert!(matches!(error, ShardError::WrongLength { tokens: 4, found, .. } if found == len as u64));
    }
    let error = damaged(edit_manifest("\"tokens\": 2", "\"tokens\": 9223372036854775809"));
    assert!(matches!(error, ShardError::WrongLength { .. }));
}

#[test]
fn a_shard_that_shrinks_while_it_is_open_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &(0..10).collect::<Vec<_>>(), 4);
    let shards = TokenShards::open(dir.path(), TOKENIZER).unwrap();
    fs::OpenOptions::new().write(true).open(dir.path().join("shard-00001.bin")).unwrap().set_len(2).unwrap();
    let mut out = [0; 5];
    shards.read(0, &mut out).unwrap();
    assert_eq!(out, [0, 1, 2, 3, 4]);
    for error in [shards.read(4, &mut out).unwrap_err(), shards.verify_hashes().unwrap_err()] {
        assert!(matches!(&error, ShardError::Changed { path } if path.ends_with("shard-00001.bin")), "{error}");
    }
}

#[test]
fn a_manifest_with_a_byte_order_mark_is_read() {
    let dir = tempfile::tempdir().unwrap();
    dataset(dir.path(), &[1, 2, 3], 2);
    let path = dir.path().join("manifest.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("\u{feff}{text}")).unwrap();
    assert_eq!(TokenShards::open(dir.path(), TOKENIZER).unwrap().len(), 3);
}

#[test]
fn a_changed_token_is_found() {
    let error = damaged(|dir| fs::write(dir.join("shard-00002.bin"), [9; 4]).unwrap());
    assert!(matches!(error, ShardError::WrongHash { path, .. } if path.ends_with("shard-00002.bin")));
}

#[test]
fn a_shard_outside_the_folder_is_refused() {
    let error = damaged(edit_manifest("shard-00001.bin", "../shard-00001.bin"));
    assert!(matches!(error, ShardError::BadManifest { .. }), "{error}");
    let error = damaged(edit_manifest("shard-00001.bin", "shard-00000.bin"));
    assert!(matches!(error, ShardError::BadManifest { .. }), "{error}");
}

#[test]
fn a_damaged_or_later_manifest_is_refused() {
    let error = damaged(edit_manifest("\"format_version\": 1", "\"format_version\": 2"));
    assert!(matches!(error, ShardError::Version { found: 2, .. }));
    let error = damaged(edit_manifest("\"tokens\": 2", "\"tokens\": -2"));
    assert!(matches!(error, ShardError::BadManifest { .. }));
    let error = damaged(edit_manifest("{", "("));
    assert!(matches!(error, ShardError::BadManifest { .. }));
}
