//! Places that are read, and places that are written.

use super::*;

#[test]
fn nothing_is_overwritten_unless_asked_and_failures_leave_nothing() {
    let root = folder();
    let (input, out) = (root.path().join("in"), root.path().join("out"));
    put(&input.join("a.py"), b"a = 1\n");
    let mut options = options(&input);
    build(&options, tokenizer(), &out, &|_| {}).expect("builds");
    let first = fs::read(out.join("report.json")).expect("reads");
    let refused = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(refused, Err(CorpusError::Exists { .. })));

    options.replace = true;
    put(&input.join("a.py"), b"");
    let empty = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(empty, Err(CorpusError::NoDocuments { left_out }) if left_out.count(Reason::Empty) == 1));
    assert_eq!(fs::read(out.join("report.json")).expect("reads"), first);
    assert!(build(&options, tokenizer(), &root.path().join("new/deep/out"), &|_| {}).is_err());
    assert!(!root.path().join("new").exists(), "nothing is left around it either");

    put(&input.join("a.py"), b"a = 1\nb = 2\n");
    build(&options, tokenizer(), &out, &|_| {}).expect("replaces");
    assert_eq!(documents_of(&out.join("train")), ["a = 1\nb = 2\n"]);
    let deep = root.path().join("in/../deep/out");
    build(&options, tokenizer(), &deep, &|_| {}).expect("builds");
    fs::remove_dir_all(root.path().join("deep")).expect("was made");
    options.sources.from.push(root.path().join("missing"));
    let missing = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(missing, Err(CorpusError::NotFound { path }) if path.ends_with("missing")));
    options.validation_fraction = f64::NAN;
    let fraction = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(fraction, Err(CorpusError::ValidationFraction { .. })));
    assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 2);
}

#[test]
fn only_a_corpus_is_replaced() {
    let root = folder();
    let input = root.path().join("in");
    put(&input.join("a.py"), b"a = 1\n");
    let options = CorpusOptions { replace: true, ..options(&input) };
    let refused = |out: &Path, words: &str| {
        let before = listing(root.path());
        let error = build(&options, tokenizer(), out, &|_| {}).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        let generated = write_generated(
            &GeneratedOptions { replace: true, ..GeneratedOptions::new(1, 1000) },
            tokenizer(),
            out,
            &|_| {},
        );
        assert!(generated.is_err() || !words.contains("is no part") && !words.contains("it is"));
        assert_eq!(listing(root.path()), before);
    };
    let precious = root.path().join("precious");
    put(&precious.join("thesis.tex"), b"x");
    refused(&precious, "thesis.tex is no part of a corpus");
    let notes = root.path().join("notes.txt");
    put(&notes, b"x");
    refused(&notes, "it is no folder");

    // A corpus with something else in it, at either depth, or with a part missing.
    let out = root.path().join("out");
    build(&options, tokenizer(), &out, &|_| {}).expect("builds");
    for foreign in ["tokenizer.json", "train/notes.md", "validation/shard-one.bin"] {
        put(&out.join(foreign), b"x");
        refused(&out, foreign);
        fs::remove_file(out.join(foreign)).expect("removes");
    }
    let manifest = fs::read(out.join("train/manifest.json")).expect("reads");
    fs::remove_file(out.join("train/manifest.json")).expect("removes");
    refused(&out, "it has no train/manifest.json");
    put(&out.join("train/manifest.json"), &manifest);
    build(&options, tokenizer(), &out, &|_| {}).expect("replaces");

    let empty = root.path().join("empty");
    fs::create_dir(&empty).expect("makes a folder");
    build(&CorpusOptions { replace: false, ..options.clone() }, tokenizer(), &empty, &|_| {})
        .expect("fills an empty folder");
    let nameless = build(&options, tokenizer(), &root.path().join(".."), &|_| {});
    assert!(matches!(nameless, Err(CorpusError::NoName { .. })));
}

/// Every path under a folder.
fn listing(root: &Path) -> Vec<PathBuf> {
    walkdir::WalkDir::new(root).sort_by_file_name().into_iter().map(|entry| entry.expect("lists").into_path()).collect()
}

#[cfg(unix)]
#[test]
fn a_link_is_not_replaced() {
    let root = folder();
    let (input, real, link) = (root.path().join("in"), root.path().join("real"), root.path().join("link"));
    put(&input.join("a.py"), b"a = 1\n");
    let options = CorpusOptions { replace: true, ..options(&input) };
    build(&options, tokenizer(), &real, &|_| {}).expect("builds");
    std::os::unix::fs::symlink(&real, &link).expect("links");
    let error = build(&options, tokenizer(), &link, &|_| {}).unwrap_err().to_string();
    assert!(error.contains("it is a link"), "{error}");
    assert!(real.join("report.json").exists() && link.is_symlink());
}

#[test]
fn an_input_is_never_written_to() {
    let root = folder();
    let input = root.path().join("src");
    put(&input.join("a.py"), b"a = 1\n");
    put(&input.join("sub/b.jsonl"), b"{\"text\": \"b = 1\"}\n");
    let file = input.join("sub/b.jsonl");
    let before = listing(root.path());
    let around = root.path().join("src/../src/sub");
    for (from, out) in [
        (&input, input.clone()),
        (&input, input.join("data")),
        (&input, around.join("deep/data")),
        (&file, root.path().join("src")),
        (&file, file.clone()),
        (&file, file.join("data")),
    ] {
        let options = CorpusOptions { replace: true, ..options(from) };
        let error = build(&options, tokenizer(), &out, &|_| {}).unwrap_err();
        assert!(matches!(error, CorpusError::OverInput { .. }), "{error}");
        assert_eq!(listing(root.path()), before);
    }
}

#[test]
fn leftovers_of_killed_builds_are_removed_and_an_old_corpus_comes_back() {
    let root = folder();
    let (input, out) = (root.path().join("in"), root.path().join("out"));
    put(&input.join("a.py"), b"a = 1\n");
    let options = options(&input);
    build(&options, tokenizer(), &out, &|_| {}).expect("builds");
    // Killed between the two renames: the old corpus is aside, the new one not there yet.
    fs::rename(&out, root.path().join(".out.old-999999")).expect("moves");
    put(&root.path().join(".out.partial-999999/train/shard-00000.bin"), b"x");
    put(&root.path().join(".out.partial-77/photo.jpg"), b"not ours");
    put(&root.path().join(".other.partial-77/train/shard-00000.bin"), b"of another");
    let refused = build(&options, tokenizer(), &out, &|_| {});
    assert!(matches!(refused, Err(CorpusError::Exists { .. })));
    assert_eq!(documents_of(&out.join("train")), ["a = 1\n"]);
    let names = |root: &Path| {
        let mut names: Vec<_> = fs::read_dir(root).expect("lists").map(|e| e.expect("lists").file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(root.path()), [".other.partial-77", ".out.partial-77", "in", "out"]);

    // A build that goes on holds its folder.
    let unfinished = Unfinished::start(&root.path().join("new"), false, &[]).expect("starts");
    let busy = Unfinished::start(&root.path().join("new"), false, &[]);
    assert!(matches!(busy, Err(CorpusError::Busy { .. })));
    drop(unfinished);
    assert_eq!(names(root.path()), [".other.partial-77", ".out.partial-77", "in", "out"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_only_when_asked_and_no_folder_is_visited_twice() {
    let root = folder();
    let (input, outside) = (root.path().join("in"), root.path().join("outside"));
    put(&input.join("a.py"), b"a = 1\n");
    put(&outside.join("b.py"), b"b = 1\n");
    let link = |from: &Path, to: &str| std::os::unix::fs::symlink(from, input.join(to)).expect("links");
    link(&input, "loop");
    link(&outside, "there");
    link(&outside, "there_again");
    link(&outside.join("b.py"), "c.py");
    link(Path::new("nowhere.py"), "gone.py");
    let (texts, left_out) = read(&sources(&input));
    assert_eq!((texts, counts(&left_out)), (vec!["a = 1\n".to_owned()], vec![(Reason::Link, 5)]));
    let (texts, left_out) = read(&Sources { follow_symlinks: true, ..sources(&input) });
    assert_eq!(texts, ["a = 1\n", "b = 1\n"]);
    assert_eq!(counts(&left_out), [(Reason::FolderAgain, 2), (Reason::Unreadable, 1), (Reason::Duplicate, 1)]);
    // A file that is named twice is one document, and that is said.
    let (texts, left_out) = read(&Sources { from: vec![input.clone(), input.join("a.py")], ..sources(&input) });
    assert_eq!(texts, ["a = 1\n"]);
    assert_eq!(counts(&left_out), [(Reason::Link, 5), (Reason::FileAgain, 1)]);
    // What is named itself is read, link or not.
    let (texts, left_out) = read(&sources(&input.join("there")));
    assert_eq!((texts, left_out.is_empty()), (vec!["b = 1\n".to_owned()], true));
    let twice = Sources { from: vec![input.join("c.py"), input.join("c.py")], ..sources(&input) };
    assert_eq!(read(&twice).0, ["b = 1\n"]);
}

#[cfg(unix)]
#[test]
fn folders_that_link_to_each_other_are_listed_in_no_time() {
    // Each of 30 folders has two links to the next: 2^30 ways lead to the last.
    let root = folder();
    for i in 0..30 {
        fs::create_dir(root.path().join(i.to_string())).expect("makes a folder");
        for name in ["x", "y"] {
            let next = root.path().join((i + 1).to_string());
            std::os::unix::fs::symlink(next, root.path().join(format!("{i}/{name}"))).expect("links");
        }
    }
    put(&root.path().join("30/a.py"), b"a = 1\n");
    let first = Sources { follow_symlinks: true, ..sources(&root.path().join("0")) };
    assert_eq!(read(&first).0, ["a = 1\n"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_are_read_and_written() {
    use std::os::unix::ffi::OsStrExt;
    let root = folder();
    let name = |bytes: &[u8]| root.path().join(std::ffi::OsStr::from_bytes(bytes));
    let (input, out) = (name(b"no\xE9"), name(b"out\xE9"));
    put(&input.join(std::ffi::OsStr::from_bytes(b"caf\xE9.py")), b"a = 1\n");
    put(&input.join(std::ffi::OsStr::from_bytes(b"rows\xFF.jsonl")), b"nonsense\n{\"text\": \"b = 1\"}\n");
    let report = build(&options(&input), tokenizer(), &out, &|_| {}).expect("builds");
    assert_eq!(documents_of(&out.join("train")), ["a = 1\n", "b = 1"]);
    assert!(report.left_out.to_string().contains("rows\\xFF.jsonl:1"), "{}", report.left_out);
    put(&name(b".out\xE9.partial-999999/train/shard-00000.bin"), b"x");
    build(&CorpusOptions { replace: true, ..options(&input) }, tokenizer(), &out, &|_| {}).expect("replaces");
    assert_eq!(fs::read_dir(root.path()).expect("lists").count(), 2);
    let tokenizer_path = name(b"tok\xE9.json");
    tokenizer().save(&tokenizer_path).expect("saves");
    assert_eq!(Tokenizer::load(&tokenizer_path).expect("loads").sha256(), tokenizer().sha256());
}

#[cfg(unix)]
#[test]
fn a_pipe_is_read_as_rows_and_inside_a_folder_counted() {
    let root = folder();
    let (pipe, zipped) = (root.path().join("pipe"), root.path().join("zipped.py"));
    for path in [&pipe, &zipped] {
        assert!(std::process::Command::new("mkfifo").arg(path).status().expect("mkfifo is there").success());
    }
    let (texts, left_out) = read(&sources(root.path()));
    assert_eq!((texts.len(), counts(&left_out)), (0, vec![(Reason::Special, 2)]));
    let rows = b"{\"text\": \"one\"}\nbad\n{\"text\": \"two\"}".to_vec();
    let frames =
        ruzstd::encoding::compress_to_vec(&b"{\"text\": \"three\"}\n"[..], ruzstd::encoding::CompressionLevel::Fastest);
    let writers = [(pipe.clone(), rows), (zipped.clone(), frames)]
        .map(|(path, bytes)| std::thread::spawn(move || fs::write(path, bytes).expect("writes")));
    let (texts, left_out) = read(&Sources { from: vec![pipe, zipped], ..sources(root.path()) });
    writers.into_iter().for_each(|writer| writer.join().expect("has written"));
    assert_eq!(
        (texts, counts(&left_out)),
        (["one", "two", "three"].map(str::to_owned).to_vec(), vec![(Reason::NotJson, 1)])
    );
    let twice = Sources { from: vec!["-".into(), "-".into()], ..sources(root.path()) };
    assert!(matches!(Documents::open(&twice), Err(CorpusError::Repeated { .. })));
}
