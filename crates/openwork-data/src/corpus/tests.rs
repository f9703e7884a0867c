//! Documents that are kept and counted; an interrupted or refused build leaves nothing behind.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use openwork_tensor::TokenShards;

use super::*;

mod places;

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

/// The documents of `sources`, and what was left out.
fn read(sources: &Sources) -> (Vec<String>, LeftOut) {
    let mut documents = Documents::open(sources).expect("opens");
    let texts = documents.by_ref().collect::<Result<_, _>>().expect("whole files");
    (texts, documents.left_out().clone())
}

fn counts(left_out: &LeftOut) -> Vec<(Reason, u64)> {
    left_out.iter().map(|(reason, cases)| (reason, cases.count)).collect()
}

fn sources(root: &Path) -> Sources {
    Sources { max_file_bytes: 1000, ..Sources::new(vec![root.to_owned()]) }
}

fn options(root: &Path) -> CorpusOptions {
    CorpusOptions { validation_fraction: 0.0, ..CorpusOptions::new(sources(root)) }
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
    put(&root.join("picture.png"), b"no text");
    put(
        &root.join("rows.jsonl"),
        b"{\"text\": \"from_rows = 1\\n\"}\n\nnonsense\n{\"content\": 1, \"id\": 2}\n{\"text\": 3}\n[]\n",
    );
}

#[test]
fn keeps_counts_and_orders() {
    let root = folder();
    let input = root.path().join("in");
    mixed_sources(&input);
    let out = root.path().join("out");
    let report = build(&options(&input), tokenizer(), &out, &|_| {}).expect("builds");
    let expected = [
        (Reason::OtherKind, 1),
        (Reason::Binary, 1),
        (Reason::NotUtf8, 1),
        (Reason::TooLarge, 1),
        (Reason::Empty, 1),
        (Reason::Duplicate, 1),
        (Reason::NotJson, 1),
        (Reason::NoText, 3),
    ];
    assert_eq!(counts(&report.left_out), expected);
    let words = report.left_out.to_string();
    let rows = input.join("rows.jsonl");
    for line in ["4: its fields are `content`, `id`", "5: its `text` is no text", "6: it is no object"] {
        assert!(words.contains(&format!("{}:{line}", rows.display())), "{words}");
    }
    assert!(words.contains("--field names the field") && words.contains("--extensions"), "{words}");
    assert_eq!(documents_of(&out.join("train")), ["x = '<|endoftext|>'\n", "print('b')\n", "from_rows = 1\n"]);
    assert_eq!(report.train.documents, 3);
    assert!(documents_of(&out.join("validation")).is_empty());
    let written = fs::read(out.join("report.json")).expect("reads");
    assert_eq!(serde_json::from_slice::<CorpusReport>(&written).expect("parses"), report);
    let left: Vec<_> = fs::read_dir(root.path()).expect("lists").collect();
    assert_eq!(left.len(), 2, "only in and out: {left:?}");
}

#[test]
fn text_of_all_extensions_and_rows_of_any_field_are_read() {
    let root = folder();
    for name in ["a.md", "b.TXT", "c.py", "d.rs", "e.d.ts"] {
        put(&root.path().join(name), name.as_bytes());
    }
    put(&root.path().join("f.jsonl"), b"{\"content\": \"row\", \"text\": \"other\"}\n");
    assert_eq!(read(&sources(root.path())).0, ["a.md", "b.TXT", "c.py", "other"]);
    let extensions = ["rs", "d.ts"].map(str::to_owned).to_vec();
    let others = Sources { extensions, field: "content".into(), ..sources(root.path()) };
    assert_eq!(read(&others).0, ["d.rs", "e.d.ts", "row"]);
    assert_eq!(counts(&read(&others).1), [(Reason::OtherKind, 3)]);
}

#[test]
fn copies_that_differ_in_byte_order_mark_or_line_ends_are_one_document() {
    let root = folder();
    let text = "a = 1\nb = 2\n";
    for (i, copy) in
        [text, &format!("\u{feff}{text}"), &text.replace('\n', "\r\n"), &text.replace('\n', "\r"), text.trim_end()]
            .iter()
            .enumerate()
    {
        put(&root.path().join(format!("{i}.py")), copy.as_bytes());
    }
    put(&root.path().join("row.jsonl"), b"\xEF\xBB\xBF{\"text\": \"\\ufeffa = 1\\r\\nb = 2\"}\n");
    let (texts, left_out) = read(&sources(root.path()));
    assert_eq!(texts, [text]);
    assert_eq!(counts(&left_out), [(Reason::Duplicate, 5)]);
    for fraction in [0.1, 0.5, 0.9] {
        let split = |text: &str| Split::of(text, fraction, 7);
        assert_eq!(split(&format!("\u{feff}{}", text.replace('\n', "\r\n"))), split(text));
    }
}

#[test]
fn compressed_files_are_read_and_damaged_ones_are_errors() {
    let root = folder();
    let gzip = |text: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(text).expect("compresses");
        gzip.finish().expect("compresses")
    };
    let zstd = |text: &[u8]| ruzstd::encoding::compress_to_vec(text, ruzstd::encoding::CompressionLevel::Uncompressed);
    let rows = gzip(b"{\"text\": \"gz = 1\"}\n{\"text\": \"gz = 2\"}");
    put(&root.path().join("a.jsonl.gz"), &rows);
    let frames = [zstd(b"{\"text\": \"zst = 1\"}\n"), zstd(b"{\"text\": \"zst = 2\"}\n")].concat();
    put(&root.path().join("b.jsonl.zst"), &frames);
    put(&root.path().join("d.py.gz"), &gzip(b"py = 1\n"));
    let (texts, left_out) = read(&sources(root.path()));
    assert_eq!(texts, ["gz = 1", "gz = 2", "zst = 1", "zst = 2", "py = 1\n"]);
    assert!(left_out.is_empty(), "{left_out}");
    let out = root.path().join("out");
    let garbage = [&zstd(b"py = 2\n")[..], b"garbage"].concat();
    let garbage_error = format!("the bytes from byte {} on are not zstd", garbage.len() - 7);
    for (name, bytes, fault) in [
        ("broken.jsonl.gz", &rows[..rows.len() / 2], "the gzip member at byte 0 is cut off"),
        ("c.jsonl.zst", b"not zstd", "the file is not zstd"),
        ("e.py.zst", &garbage, &garbage_error),
    ] {
        let damaged = root.path().join("in").join(name);
        put(&damaged, bytes);
        put(&root.path().join("in/whole.py"), b"whole = 1\n");
        let sources = sources(&root.path().join("in"));
        let options = CorpusOptions { sources: sources.clone(), ..options(root.path()) };
        let built = build(&options, tokenizer(), &out, &|_| ()).map(|_| ());
        let trained = train_tokenizer(&sources, 300).map(|_| ());
        for result in [built, trained] {
            match result.unwrap_err() {
                CorpusError::Damaged { path, source } => {
                    assert_eq!((path, source.to_string()), (damaged.clone(), fault.to_owned()))
                }
                other => panic!("{name}: {other}"),
            }
        }
        assert!(!out.exists());
        std::fs::remove_file(damaged).expect("removes");
    }
}

#[test]
fn a_line_without_end_does_not_fill_the_memory() {
    let root = folder();
    let mut rows = vec![b'x'; 200_000];
    rows.extend_from_slice(b"\n{\"text\": \"after\"}\n");
    put(&root.path().join("rows.jsonl"), &rows);
    let (texts, left_out) = read(&sources(root.path()));
    assert_eq!((texts, counts(&left_out)), (vec!["after".to_owned()], vec![(Reason::TooLarge, 1)]));
}

#[test]
fn without_a_document_the_error_says_why() {
    let root = folder();
    let refused =
        |root: &Path| build(&options(root), tokenizer(), &root.join("../out"), &|_| {}).unwrap_err().to_string();
    fs::create_dir(root.path().join("in")).expect("makes a folder");
    let input = root.path().join("in");
    assert_eq!(refused(&input), "no usable document was found: there is no file");
    for i in 0..5 {
        put(&input.join(format!("{i}.py")), b"caf\xe9");
    }
    put(&input.join("a.rs"), b"fn main() {}");
    put(&input.join("rows.jsonl"), b"{\"content\": \"x\"}");
    let message = refused(&input);
    for words in ["1 other kinds of files", "a.rs", "5 not UTF-8", "2.py; ..", "its fields are `content`", "--field"] {
        assert!(message.contains(words), "{message}");
    }
    let message = train_tokenizer(&sources(&input), 300).unwrap_err().to_string();
    assert!(message.contains("5 not UTF-8"), "{message}");
    put(&input.join("good.py"), "letters = 'abcdefgh'\n".repeat(20).as_bytes());
    let (tokenizer, left_out) = train_tokenizer(&sources(&input), 260).expect("trains");
    assert_eq!((tokenizer.vocab_size(), left_out.count(Reason::NotUtf8)), (260, 5));
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
