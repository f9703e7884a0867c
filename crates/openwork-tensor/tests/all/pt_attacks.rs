//! Checkpoints that must be refused, each test named after the attack.

use std::path::Path;
use std::time::Instant;

use openwork_tensor::{PtError, PtFile, PtNode, PtProblem};

use crate::zip_file::{Entry, checkpoint, dict, entry, pickle, tensor, zip};
use crate::{data, report};

fn problem(file: Vec<u8>) -> PtProblem {
    match PtFile::from_bytes(file) {
        Err(PtError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    }
}

fn problem_of(name: &str) -> PtProblem {
    problem(std::fs::read(data(name)).unwrap())
}

/// The problem of a checkpoint whose pickle holds this value; its storage has four floats.
fn problem_with(value: &[u8]) -> PtProblem {
    problem(checkpoint(&pickle(value), &[0; 16]))
}

#[track_caller]
fn is_forbidden(problem: PtProblem, expected: &str) {
    match problem {
        PtProblem::ForbiddenGlobal { global, .. } => assert_eq!(global, expected),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_that_runs_a_command_is_refused_by_name() {
    is_forbidden(problem_of("evil.pt"), "posix.system");
    assert!(!Path::new("/tmp/openwork-was-here").exists());
    let error = PtFile::open(data("evil.pt")).unwrap_err();
    let text = report(&error);
    for words in ["evil.pt", "it uses posix.system", "not on the list of harmless names; nothing was run"] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
}

#[test]
fn a_forbidden_name_is_refused_even_if_nothing_calls_it() {
    is_forbidden(problem_with(b"cos\nsystem\n"), "os.system");
    let stacked = b"X\x08\0\0\0builtinsX\x04\0\0\0eval\x93";
    is_forbidden(problem_with(stacked), "builtins.eval");
    is_forbidden(problem_with(b"ctorch\nload\n"), "torch.load");
    // Kinds without a storage class must not be reachable under the empty name.
    is_forbidden(problem_with(b"ctorch\n\n"), "torch.");
}

#[test]
fn a_whole_module_is_refused_by_name() {
    is_forbidden(problem_of("module.pt"), "torch.nn.modules.linear.Linear");
}

#[test]
fn an_object_beside_the_weights_is_named_with_its_key_and_what_helps() {
    let weight = tensor(4, 0, &[4], &[1]);
    for (key, object) in [
        ("best_val_loss", &b"cnumpy.core.multiarray\nscalar\n"[..]),
        ("args", b"X\x08\0\0\0argparseX\x09\0\0\0Namespace\x93"),
    ] {
        let text = problem_with(&dict(&[("w", &weight), (key, object)])).to_string();
        let words = if key == "args" { "argparse.Namespace" } else { "numpy.core.multiarray.scalar" };
        for words in [words, &format!("at the key `{key}`"), "torch.is_tensor"] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
    }
}

#[test]
fn the_opcodes_that_make_instances_are_refused() {
    for op in [b'i', b'o', 0x81, 0x92, 0x82, b'P', b'S', b'V', b'I'] {
        let problem = problem_with(&[b"ctorch\nSize\n)".as_slice(), &[op]].concat());
        assert!(matches!(problem, PtProblem::BadPickle { .. }), "{op:#x}: {problem:?}");
    }
}

#[test]
fn the_old_format_is_refused() {
    assert_eq!(problem_of("legacy.pt"), PtProblem::Legacy);
    assert_eq!(problem(Vec::new()), PtProblem::NotZip);
    assert_eq!(problem(b"hello".to_vec()), PtProblem::NotZip);
}

#[test]
fn other_formats_are_called_what_they_are() {
    let mut tar = vec![0; 512];
    tar[..8].copy_from_slice(b"sys_info");
    tar[257..262].copy_from_slice(b"ustar");
    assert_eq!(problem(tar), PtProblem::Tar);
    let safetensors = [&2_u64.to_le_bytes()[..], b"{}"].concat();
    for (bytes, word) in [
        (safetensors, "safetensors"),
        (b"\x1f\x8b\x08".to_vec(), "gzip"),
        (b"\x89HDF\r\n".to_vec(), "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1".to_vec(), "Git LFS"),
    ] {
        let text = problem(bytes).to_string();
        assert!(text.contains(word), "{word} is not in {text}");
    }
}

#[test]
fn truncated_file_is_refused() {
    let whole = std::fs::read(data("plain.pt")).unwrap();
    for len in 0..whole.len() {
        let problem = problem(whole[..len].to_vec());
        let expected = [PtProblem::Truncated, PtProblem::NotZip];
        assert!(expected.contains(&problem), "{len}: {problem:?}");
    }
    assert_eq!(problem([&whole[..], b"x"].concat()), PtProblem::Truncated);
}

#[test]
fn compressed_and_encrypted_entries_are_refused() {
    let packed = Entry { method: 8, ..entry("a/data.pkl", b"") };
    let expected = PtProblem::Compressed { entry: "a/data.pkl".to_owned() };
    assert_eq!(problem(zip(&[packed])), expected);
    let secret = Entry { flags: 1, ..entry("a/data.pkl", b"") };
    let expected = PtProblem::Encrypted { entry: "a/data.pkl".to_owned() };
    assert_eq!(problem(zip(&[secret])), expected);
}

#[test]
fn path_traversal_names_are_refused() {
    for name in ["../x", "a/../../x", "/etc/x", "a\\..\\x", "C:/x", "a\0b", ""] {
        let expected = PtProblem::UnsafeName { entry: name.to_owned() };
        let pickle = pickle(b"N");
        let file = zip(&[entry("a/data.pkl", &pickle), entry(name, b"")]);
        assert_eq!(problem(file), expected);
    }
}

#[test]
fn duplicate_entries_are_refused() {
    let (one, two) = (pickle(b"N"), pickle(b"}"));
    let file = zip(&[entry("a/data.pkl", &one), entry("a/data.pkl", &two)]);
    let expected = PtProblem::DuplicateEntry { entry: "a/data.pkl".to_owned() };
    assert_eq!(problem(file), expected);
}

#[test]
fn an_entry_longer_than_the_file_is_refused() {
    let bomb = Entry { len: Some(4_000_000_000), ..entry("a/data.pkl", b"N.") };
    let expected = PtProblem::EntryPastEnd { entry: "a/data.pkl".to_owned() };
    assert_eq!(problem(zip(&[bomb])), expected);
}

#[test]
fn overlapping_entries_are_refused() {
    let pickle = pickle(b"N");
    let long = Entry { len: Some(20), ..entry("a/data.pkl", &pickle) };
    let problem = problem(zip(&[long, entry("a/data/0", &[0; 16])]));
    assert!(matches!(problem, PtProblem::BadZip { .. }), "{problem:?}");
}

#[test]
fn an_entry_with_two_names_is_refused() {
    let mut file = checkpoint(&pickle(b"N"), b"");
    file[30] = b'b'; // the name beside the data; the directory still says `a/data.pkl`
    let problem = problem(file);
    assert!(matches!(problem, PtProblem::BadZip { .. }), "{problem:?}");
}

#[test]
fn no_pickle_or_two_are_refused() {
    let pickle = pickle(b"N");
    let none = zip(&[entry("a/other", b"")]);
    assert_eq!(problem(none), PtProblem::NoPickle { found: 0 });
    let two = zip(&[entry("a/data.pkl", &pickle), entry("b/data.pkl", &pickle)]);
    assert_eq!(problem(two), PtProblem::NoPickle { found: 2 });
}

#[test]
fn big_endian_numbers_are_refused() {
    let pickle = pickle(b"N");
    let file = zip(&[entry("a/data.pkl", &pickle), entry("a/byteorder", b"big")]);
    let expected = PtProblem::ByteOrder { found: "big".to_owned() };
    assert_eq!(problem(file), expected);
}

#[test]
fn an_expanded_view_cannot_claim_memory() {
    let expected = || PtProblem::Expanded { name: "w".to_owned() };
    assert_eq!(problem_of("expanded.pt"), expected());
    let value = tensor(4, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0]);
    assert_eq!(problem_with(&dict(&[("w", &value)])), expected());
}

#[test]
fn a_tensor_past_its_storage_is_refused() {
    let past = PtProblem::PastStorage { name: "w".to_owned() };
    let cases: [(u32, &[i32], &[i32]); 6] = [
        (0, &[5], &[1]),
        (1, &[4], &[1]),
        (0, &[2, 2], &[3, 1]),
        (4, &[], &[]),
        (0, &[2], &[i32::MAX]),
        (0, &[0, i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0, 0]),
    ];
    for (offset, shape, strides) in cases {
        let value = tensor(4, offset, shape, strides);
        let problem = problem_with(&dict(&[("w", &value)]));
        assert_eq!(problem, past, "{offset} {shape:?} {strides:?}");
    }
}

#[test]
fn negative_sizes_are_refused() {
    for (shape, strides) in [(&[-1], &[1]), (&[1], &[-1])] {
        let problem = problem_with(&tensor(4, 0, shape, strides));
        assert!(matches!(problem, PtProblem::BadPickle { .. }));
    }
}

#[test]
fn a_storage_of_another_length_or_none_is_refused() {
    let problem = problem_with(&dict(&[("w", &tensor(5, 0, &[1], &[1]))]));
    let expected = PtProblem::StorageLength { name: "w".to_owned(), expected: 20, found: 16 };
    assert_eq!(problem, expected);
    let alone = pickle(&dict(&[("w", &tensor(4, 0, &[1], &[1]))]));
    let expected = PtProblem::MissingStorage { name: "w".to_owned(), storage: "0".to_owned() };
    let file = zip(&[entry("a/data.pkl", &alone)]);
    assert_eq!(crate::pt_attacks::problem(file), expected);
}

#[test]
fn a_negated_view_is_refused() {
    let problem = problem_of("negated.pt");
    assert!(matches!(problem, PtProblem::BadPickle { .. }), "{problem:?}");
}

#[test]
fn a_dictionary_inside_itself_is_refused() {
    let expected = PtProblem::Cycle { name: "self".to_owned() };
    assert_eq!(problem_of("cycle.pt"), expected);
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let deep = [vec![b'('; 1_000_000], vec![b't'; 1_000_000]].concat();
    assert_eq!(problem_with(&deep), PtProblem::TooDeep);
}

#[test]
fn lists_of_lists_of_one_list_do_not_take_forever() {
    let start = Instant::now();
    // Each level is the pair of the level below it: 2^60 leaves in 300 bytes.
    let mut value = b"]q\0".to_vec();
    for level in 0..60u8 {
        value.extend([b'h', level, 0x86, b'q', level + 1]);
    }
    let problem = problem_with(&value);
    assert!(matches!(problem, PtProblem::TooManyNames { .. }), "{problem:?}");
    assert!(start.elapsed().as_secs() < 5);
}

#[test]
fn one_long_key_over_many_tensors_cannot_claim_memory() {
    let key = "k".repeat(100_000);
    let value = tensor(4, 0, &[1], &[1]);
    let mut list = value.clone();
    list.extend(b"q\0");
    for _ in 0..50_000 {
        list.extend(b"h\0");
    }
    let value = dict(&[(&key, &[b"(", list.as_slice(), b"t"].concat())]);
    let problem = problem_with(&value);
    assert!(matches!(problem, PtProblem::TooManyNames { .. }), "{problem:?}");
}

#[test]
fn one_long_storage_name_used_often_cannot_claim_memory() {
    // ("storage", FloatStorage, <1 MB>, "cpu", 1) once, then made into a storage a hundred thousand times:
    // 100 GB, were each to copy the name.
    let mut value = b"](X\x07\0\0\0storagectorch\nFloatStorage\nX".to_vec();
    value.extend(1_000_000u32.to_le_bytes());
    value.extend(vec![b'k'; 1_000_000]);
    value.extend(b"X\x03\0\0\0cpuK\x01tq\0Qa");
    for _ in 0..100_000 {
        value.extend(b"h\0Qa");
    }
    assert!(PtFile::from_bytes(checkpoint(&pickle(&value), b"")).is_ok());
}

#[test]
fn two_tensors_of_one_flattened_name_are_refused() {
    let w = tensor(4, 0, &[1], &[1]);
    let expected = PtProblem::DuplicateTensor { name: "a.b".to_owned() };
    let nested = dict(&[("b", &w)]);
    assert_eq!(problem_with(&dict(&[("a.b", &w), ("a", &nested)])), expected);
    let twice = dict(&[("a.b", &w), ("a.b", &w)]);
    assert_eq!(problem_with(&twice), expected);
}

#[test]
fn a_tensor_under_an_odd_key_is_not_silently_lost() {
    let w = tensor(4, 0, &[1], &[1]);
    // {"a": {(): w, 0.125: w}, "b": w}
    let odd = [b"})".as_slice(), &w, b"sG", &0.125_f64.to_be_bytes(), &w, b"s"].concat();
    let file = checkpoint(&pickle(&dict(&[("a", &odd), ("b", &w)])), &[0; 16]);
    let file = PtFile::from_bytes(file).unwrap();
    assert_eq!(file.names().collect::<Vec<_>>(), ["a.0.125", "b"]);
    assert_eq!(file.skipped(), ["a"]);
}

#[test]
fn damaged_bytes_and_headers_that_differ_from_the_directory_are_refused() {
    let w = tensor(4, 0, &[4], &[1]);
    let pickle = pickle(&dict(&[("w", &w)]));
    let summed = |name, data| Entry { summed: true, ..entry(name, data) };
    let whole = zip(&[summed("a/data.pkl", &pickle), summed("a/data/0", &[0; 16])]);
    assert!(PtFile::from_bytes(whole.clone()).is_ok());
    let local = whole.windows(4).rposition(|bytes| bytes == b"PK\x03\x04").unwrap();
    let data = local + 30 + "a/data/0".len();
    // A byte of the data; flags, method, checksum, length of the entry's own header.
    for at in [data + 5, local + 6, local + 8, local + 14, local + 18, local + 22] {
        let mut file = whole.clone();
        file[at] ^= 8;
        let problem = problem(file);
        let expected = matches!(problem, PtProblem::Checksum { .. } | PtProblem::BadZip { .. });
        assert!(expected, "byte {at}: {problem:?}");
    }
}

#[test]
fn a_damaged_pickle_is_refused_with_its_place() {
    let cases: [(&[u8], usize); 8] = [
        (b"", 2),                                        // nothing on the stack at the end
        (b"NN", 4),                                      // too much
        (b"t", 2),                                       // no mark
        (b"Na", 3),                                      // append to nothing
        (b"NNa", 4),                                     // append to what is no list
        (b"h\x07", 2),                                   // never memoized
        (b"(N\x86", 4),                                  // reaches below a mark
        (b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffabc", 2), // a text longer than memory
    ];
    for (value, at) in cases {
        match problem_with(value) {
            PtProblem::BadPickle { at: found, .. } => assert_eq!(found, at, "{value:?}"),
            other => panic!("{value:?}: {other:?}"),
        }
    }
}

#[test]
fn a_nested_value_is_refused_where_it_unfolds() {
    let read = |value: &[u8]| match PtNode::from_bytes(zip(&[
        entry("a/data.pkl", &pickle(value)),
        entry("a/data/0", &[0; 16]),
    ])) {
        Err(PtError::Refused { source, .. }) => source,
        other => panic!("{other:?}"),
    };
    let mut value = b"]q\0".to_vec();
    for level in 0..60u8 {
        value.extend([b'h', level, 0x86, b'q', level + 1]);
    }
    assert!(matches!(read(&value), PtProblem::TooManyNames { .. }));
    assert_eq!(read(&[vec![b'('; 1_000_000], vec![b't'; 1_000_000]].concat()), PtProblem::TooDeep);
    // One long text, many times.
    let mut list = [b"(X".as_slice(), &50_000_u32.to_le_bytes(), &[b'x'; 50_000], b"q\0"].concat();
    list.extend(b"h\0".repeat(10_000));
    list.push(b't');
    assert!(matches!(read(&list), PtProblem::TooManyNames { .. }));
}
