//! Valid files with random damage: readers may refuse them or read them, but never panic, and what they read
//! is never larger than the file.

use std::{collections::BTreeMap, sync::LazyLock};

use ndarray::array;
use openwork_tensor::{CsrTensor, PtFile, PtNode, ShardWriter, Tensor, TensorFile, TokenShards, write_with_csr};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{data, map};

/// One damage to a file.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Set(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Remove(prop::sample::Index, usize),
    Insert(prop::sample::Index, Vec<u8>),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    use prop::sample::Index;
    // Bytes that mean something to one of the formats come up often.
    let byte =
        prop_oneof![any::<u8>(), prop::sample::select(b"\0\x01\x7f\x80\xff()}]tuRQbcqhKMJX.{[\",:0123456789".to_vec())];
    prop_oneof![
        4 => (any::<Index>(), 0u8..8).prop_map(|(i, bit)| Damage::Flip(i, bit)),
        8 => (any::<Index>(), byte.clone()).prop_map(|(i, b)| Damage::Set(i, b)),
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => (any::<Index>(), 1usize..16).prop_map(|(i, n)| Damage::Remove(i, n)),
        1 => (any::<Index>(), vec(byte, 1..9)).prop_map(|(i, b)| Damage::Insert(i, b)),
        1 => (any::<Index>(), any::<Index>(), 1usize..64).prop_map(|(i, j, n)| Damage::Copy(i, j, n)),
    ]
}

/// Damages `bytes[from..to]` (the whole file if the range is empty).
fn apply(bytes: &mut Vec<u8>, damages: &[Damage], from: usize, to: usize) {
    for damage in damages {
        if bytes.is_empty() {
            return;
        }
        let place = |index: &prop::sample::Index, len: usize| match to.min(len) {
            to if from < to => from + index.index(to - from),
            _ => index.index(len),
        };
        let len = bytes.len();
        match damage {
            Damage::Flip(i, bit) => bytes[place(i, len)] ^= 1 << bit,
            Damage::Set(i, byte) => bytes[place(i, len)] = *byte,
            Damage::Cut(i) => bytes.truncate(i.index(len)),
            Damage::Remove(i, n) => {
                let at = place(i, len);
                bytes.drain(at..(at + n).min(len));
            }
            Damage::Insert(i, new) => {
                let at = place(i, len);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Copy(i, j, n) => {
                let (from, to) = (place(i, len), place(j, len));
                let n = (*n).min(len - from.max(to));
                bytes.copy_within(from..from + n, to);
            }
        }
    }
}

/// Zeros in place of the checksums of a checkpoint, so that damage gets past them.
fn leave_out_checksums(bytes: &mut [u8]) {
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"PK\x01\x02") {
            bytes[at + 16..at + 20].fill(0);
        }
    }
}

fn size(tensor: &Tensor) -> usize {
    tensor.shape().iter().product::<usize>() * tensor.dtype().size()
}

fn read_pt(bytes: Vec<u8>) {
    let len = bytes.len();
    // Where the tensors can be read one by one and all at once, none is lost.
    let nested = PtNode::from_bytes(bytes.clone()).is_ok();
    let Ok(file) = PtFile::from_bytes(bytes) else {
        return;
    };
    assert!(!nested || file.names().all(|name| file.tensor(name).is_ok()));
    for name in file.names() {
        if let Ok(tensor) = file.tensor(name)
            && !tensor.shape().contains(&0)
        {
            assert!(size(&tensor) <= len);
        }
    }
}

fn read_safetensors(bytes: Vec<u8>) {
    let len = bytes.len();
    let reference = safetensors::SafeTensors::deserialize(&bytes).is_ok();
    let Ok(file) = TensorFile::from_bytes(bytes) else {
        return;
    };
    assert!(reference, "only we accept this file");
    for name in file.names() {
        if let Ok(tensor) = file.tensor(name)
            && !tensor.shape().contains(&0)
        {
            assert!(size(&tensor) <= len);
        }
        let _ = (file.f32(name), file.matrix(name), file.i64(name));
    }
    for name in file.csr_names() {
        if let Ok(csr) = file.csr(name) {
            csr.check().unwrap();
        }
    }
    let _ = file.check_finite();
}

/// A valid file with a tensor of every kind. Made once: each atomic write waits for the disk.
static SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t");
    let dense = map([
        ("a", array![[1.0f32, f32::NAN]].into()),
        ("b", ndarray::ArrayD::from_elem(vec![3], 7i64).into()),
        ("c", ndarray::ArrayD::from_elem(vec![3], 7u16).into()),
    ]);
    let sparse = CsrTensor::from_dense(array![[0.0, 1.0], [2.0, 3.0]].view());
    let metadata: BTreeMap<_, _> = map([("k", "v".to_owned())]);
    write_with_csr(&path, &dense, &map([("s", sparse)]), &metadata).unwrap();
    std::fs::read(path).unwrap()
});

/// A valid dataset of two shards and its manifest, made once for the same reason.
static DATASET: LazyLock<(tempfile::TempDir, Vec<u8>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::create(dir.path(), "ab", 2).unwrap();
    writer.push(&[1, 2, 3]).unwrap();
    writer.finish().unwrap();
    let manifest = std::fs::read(dir.path().join("manifest.json")).unwrap();
    (dir, manifest)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn damaged_safetensors_files_never_panic(
        damages in vec(damage(), 1..6),
        header_only in any::<bool>(),
    ) {
        let mut bytes = SAFETENSORS.clone();
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        apply(&mut bytes, &damages, 8, if header_only { header } else { 0 });
        read_safetensors(bytes);
    }

    #[test]
    fn damaged_checkpoints_never_panic(
        name in prop::sample::select(vec!["nested.pt", "kinds.pt", "views.pt", "protocol4.pt"]),
        damages in vec(damage(), 1..6),
        part in 0usize..3,
    ) {
        let mut bytes = std::fs::read(data(name)).unwrap();
        leave_out_checksums(&mut bytes);
        // The pickle is the first entry, the directory the last 1000 bytes or so.
        let (from, to) = [(0, 0), (0, bytes.len() / 3), (bytes.len() - 900, bytes.len())][part];
        apply(&mut bytes, &damages, from, to);
        read_pt(bytes);
    }

    #[test]
    fn damaged_manifests_never_panic(damages in vec(damage(), 1..4)) {
        // The shards stay as they are. The manifest is a new file every time: some file systems write an old
        // one that is truncated and filled again to the disk at once.
        let (dir, valid) = &*DATASET;
        let mut text = valid.clone();
        apply(&mut text, &damages, 0, 0);
        let path = dir.path().join("manifest.json");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(path, text).unwrap();
        if let Ok(shards) = TokenShards::open(dir, "ab") {
            let mut out = vec![0; shards.len() as usize];
            shards.read(0, &mut out).unwrap();
            let _ = shards.verify_hashes();
        }
    }
}
