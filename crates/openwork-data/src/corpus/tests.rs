//! Documents that are kept and counted; an interrupted or refused build leaves nothing behind.

use std::io::Write;
use std::sync::OnceLock;

use openwork_tensor::TokenShards;

use super::*;

fn tokenizer() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| Tokenizer::train(Programs::new(1).take(300), 400).expect("trains"))
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("has a parent")).expect("makes folders");
    fs::write(path, bytes).expect("writes");
}

fn documents_of(dir: &Path) -> Vec<String> {
    let shards = TokenShards::open(dir, tokenizer().sha256()).expect("opens");
    let mut tokens = vec![0; shards.len() as usize];
    shards.read(0, &mut tokens).expect("reads");
    tokens
        .split_inclusive(|&id| id == tokenizer().end_of_text())
        .map(|document| tokenizer().decode(document.strip_suffix(&[399]).expect("ends")))
        .collect()
}

/// One file for every reason to leave a document out, and what is to be kept.
fn mixed_sources(root: &Path) {
    put(&root.join("b.py"), b"print('b')\n");
    put(&root.join("a/deep/first.py"), b"x = '<|endoftext|>'\n");
    put(&root.join("copy.py"), b"print('b')\n");
    put(&root.join("nul.py"), b"x\0y");
    put(&root.join("latin.py"), b"# caf\xe9\n");
    put(&root.join("empty.py"), b" \n\n");
    put(&root.join("large.py"), &[b'x'; 2000]);
    put(&root.join("notes.txt"), b"not code");
    put(&root.join("rows.jsonl"), b"{\"text\": \"from_rows = 1\\n\"}\n\nnonsense\n{\"no_text\": 1}\n");
}

fn options(root: &Path) -> CorpusOptions {
    CorpusOptions { max_file_bytes: 1000, validation_fraction: 0.0, ..CorpusOptions::new(vec![root.to_owned()]) }
}

#[test]
fn keeps_counts_and_orders() {
    let root = folder();
    mixed_sources(&root.path().join("in"));
    let out = root.path().join("out");
    let report = build(&options(&root.path().join("in")), tokenizer(), &out, &|_| {}).expect("builds");
    let expected = Skipped {
        other_files: 1,
        binary: 1,
        invalid_utf8: 1,
        too_large: 1,
        empty: 1,
        duplicates: 1,
        bad_json_lines: 2,
        first_bad_json_line: Some(format!("{}:3", root.path().join("in/rows.jsonl").display())),
        ..Skipped::default()
    };
    assert_eq!(report.skipped, expected);
    assert_eq!(documents_of(&out.join("train")), ["x = '<|endoftext|>'\n", "print('b')\n", "from_rows = 1\n"]);
    assert_eq!(report.train.documents, 3);
    assert!(documents_of(&out.join("validation")).is_empty());
    let written = fs::read(out.join("report.json")).expect("reads");
    assert_eq!(serde_json::from_slice::<CorpusReport>(&written).expect("parses"), report);
    let left: Vec<_> = fs::read_dir(root.path()).expect("lists").collect();
    assert_eq!(left.len(), 2, "only in and out: {left:?}");
}

#[test]
fn compressed_rows_are_read_and_broken_ones_counted() {
    let root = folder();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(b"{\"text\": \"gz = 1\"}\n{\"text\": \"gz = 2\"}").expect("compresses");
    let gzip = gzip.finish().expect("compresses");
    put(&root.path().join("a.jsonl.gz"), &gzip);
    let broken: Vec<u8> = gzip[..gzip.len() / 2].to_vec();
    put(&root.path().join("broken.jsonl.gz"), &broken);
    let zstd = ruzstd::encoding::compress_to_vec(
        b"{\"text\": \"zst = 1\"}\n".as_slice(),
        ruzstd::encoding::CompressionLevel::Uncompressed,
    );
    put(&root.path().join("b.jsonl.zst"), &zstd);
    put(&root.path().join("c.jsonl.zst"), b"not zstd");
    let mut documents = Documents::open(&options(root.path())).expect("opens");
    let texts: Vec<String> = documents.by_ref().map(|d| d.text).collect();
    assert_eq!(texts, ["gz = 1", "gz = 2", "zst = 1"]);
    assert_eq!(documents.skipped().unreadable, 2);
    assert!(documents.skipped().first_unreadable.as_ref().is_some_and(|f| f.contains("broken.jsonl.gz")));
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let root = folder();
    let mut rows = vec![b'x'; 200_000];
    rows.extend_from_slice(b"\n{\"text\": \"after\"}\n");
    put(&root.path().join("rows.jsonl"), &rows);
    let mut documents = Documents::open(&options(root.path())).expect("opens");
    assert_eq!(documents.next().expect("one").text, "after");
    assert_eq!((documents.next(), documents.skipped().too_large), (None, 1));
}

#[cfg(unix)]
#[test]
fn loops_of_links_and_dangling_links_are_counted() {
    let root = folder();
    put(&root.path().join("in/a.py"), b"a = 1\n");
    std::os::unix::fs::symlink(root.path().join("in"), root.path().join("in/again")).expect("links");
    std::os::unix::fs::symlink("nowhere.py", root.path().join("in/gone.py")).expect("links");
    let mut documents = Documents::open(&options(&root.path().join("in"))).expect("opens");
    assert_eq!(documents.by_ref().count(), 1);
    assert_eq!(documents.skipped().unreadable, 2);
}

#[test]
fn nothing_is_overwritten_unless_asked_and_failures_leave_nothing() {
    let root = folder();
    let (input, out) = (root.path().join("in"), root.path().join("out"));
    put(&input.join("a.py"), b"a = 1\n");
    put(&out.join("precious"), b"keep me");
    let mut options = options(&input);
    let refused = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(refused, Err(CorpusError::Exists { .. })));
    assert!(out.join("precious").exists());

    options.replace = true;
    put(&input.join("a.py"), b"");
    let empty = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(empty, Err(CorpusError::NoDocuments { skipped }) if skipped.empty == 1));
    assert!(out.join("precious").exists());

    put(&input.join("a.py"), b"a = 1\n");
    build(&options, tokenizer(), &out, &|_| {}).expect("replaces");
    assert!(!out.join("precious").exists());
    options.from.push(root.path().join("missing"));
    let missing = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(missing, Err(CorpusError::NotFound { path }) if path.ends_with("missing")));
    options.validation_fraction = f64::NAN;
    let fraction = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(fraction, Err(CorpusError::ValidationFraction { .. })));
    assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 2);
}

#[test]
fn the_split_depends_on_content_and_seed_only() {
    let texts: Vec<String> = Programs::new(6).take(4000).collect();
    let held_out = texts.iter().filter(|t| Split::of(t, 0.1, 1) == Split::Validation).count();
    // Binomial(4000, 0.1): mean 400, standard deviation 19; five of them.
    assert!((305..=495).contains(&held_out), "{held_out}");
    assert!(texts.iter().any(|t| Split::of(t, 0.1, 1) != Split::of(t, 0.1, 2)));
    assert!(texts.iter().all(|t| Split::of(t, 0.0, 1) == Split::Train));
    assert!(texts.iter().all(|t| Split::of(t, 1.0, 1) == Split::Validation));
}

#[test]
fn generated_corpora_repeat_whatever_the_number_of_threads() {
    let root = folder();
    let options = GeneratedOptions { validation_fraction: 0.1, ..GeneratedOptions::new(3, 200_000) };
    let seen = std::cell::Cell::new(Progress::default());
    let one = root.path().join("one");
    let report = write_generated(&options, tokenizer(), &one, &|p| seen.set(p)).expect("writes");
    assert_eq!(seen.get().tokens, report.train.tokens + report.validation.tokens);
    assert!(seen.get().bytes >= 200_000 && seen.get().bytes < 220_000);
    let two = root.path().join("two");
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a pool");
    pool.install(|| {
        // `Fn(Progress)` need not be `Sync`: the work runs on the pool's one thread.
        write_generated(&options, tokenizer(), &two, &|_| {}).expect("writes")
    });
    for split in ["train", "validation"] {
        let (a, b) = (documents_of(&one.join(split)), documents_of(&two.join(split)));
        assert!(!a.is_empty());
        assert_eq!(a, b);
    }
    let first = Programs::new(3).find(|t| Split::of(t, 0.1, 3) == Split::Train);
    assert_eq!(documents_of(&one.join("train")).first(), first.as_ref());
}
