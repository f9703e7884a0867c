//! Messages are for people: whatever a person gets wrong, no command answers in the debug output of Rust.

use std::path::Path;

use crate::{
    ok,
    pipeline::{RECIPE, TRAIN, prepare},
    run, stderr,
};

/// The first piece of debug output in a text: a value in its wrapper, the fields of a struct, an escaped quote, a path of a
/// source file.
fn debug_output(text: &str) -> Option<String> {
    let pieces =
        ["Some(", "None)", " None", "Ok(", "Err(", "Os {", "PathBuf", "kind: ", "\\\"", "panicked", ".rs:", "::"];
    let piece = pieces.into_iter().find(|piece| text.contains(piece)).map(str::to_owned);
    // `Name { field`, as a struct is written.
    let words: Vec<&str> = text.split_whitespace().collect();
    let fields =
        words.windows(2).find(|pair| pair[1] == "{" && pair[0].trim_start_matches('(').starts_with(char::is_uppercase));
    piece.or(fields.map(|pair| pair.join(" ")))
}

#[test]
fn debug_output_is_recognised() {
    for text in ["(Skipped { empty: 1 })", "has id Some(3)", "Os { code: 2 }", "a \"\\\"\" b", "panicked at src/a.rs:3"]
    {
        assert!(debug_output(text).is_some(), "{text}");
    }
    for text in
        ["set `decoder` to {\"type\": ..}", "error: there is no x", "the model answers \"(\"\", the circuit \"\\n\""]
    {
        assert_eq!(debug_output(text), None, "{text}");
    }
}

/// Files that are not what a command asks for.
fn hostile_files(dir: &Path) {
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::create_dir_all(dir.join("folder.json")).unwrap();
    for (name, bytes) in [
        ("nothing", &b""[..]),
        ("binary", b"\0\x01\x02\xFF\xFE{[("),
        ("latin", b"caf\xE9\n"),
        ("utf16", b"\xFF\xFEa\0\n\0"),
        ("text", b"print('a')\n"),
        ("object.json", b"{}"),
        ("nested.json", b"{\"a\": [1, {\"b\": null}], \"format\": \"x\", \"model\": 3}"),
        ("list.json", b"[1, \"two\", null]"),
        ("cut.json", b"{\"format\": \"openwork-circuit 2\", "),
        ("keys.toml", b"seed = 0\n[model]\nshark = 1\n"),
        ("cut.toml", b"name = \"x"),
        ("rows.jsonl", b"nonsense\n{\"a\": 1}\n"),
    ] {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Things that a path can be, for a command that wants another.
const FILES: [&str; 15] = [
    "nothing",
    "binary",
    "latin",
    "utf16",
    "text",
    "object.json",
    "nested.json",
    "list.json",
    "cut.json",
    "keys.toml",
    "cut.toml",
    "rows.jsonl",
    "empty",
    "folder.json",
    "nowhere",
];

/// Command lines in which `@` is the wrong file.
const LINES: [&str; 27] = [
    "data build --from @ --out made --tokenizer tokenizer.json",
    "data build --from src --out made --tokenizer @",
    "data build --from src --out @/made --tokenizer tokenizer.json",
    "data generate --megabytes 1 --out @/made --tokenizer tokenizer.json",
    "tokenizer train --from @ --out made",
    "tokenizer import @ @ --out made",
    "tokenizer import vocab.bpe @ --out made",
    "tokenize @ x",
    "train @ --data data --tokenizer tokenizer.json --out made",
    "train tiny.toml --data @ --tokenizer tokenizer.json --out made",
    "train tiny.toml --data data --tokenizer @ --out made",
    "plot @",
    "generate @ --prompt x",
    "generate run --prompt x --tokenizer @",
    "forward @ --prompt x",
    "forward run --tokens @ --out made",
    "tasks eval @",
    "prune @ --task for_while",
    "verify @ run/circuits/for_while.json",
    "verify run @",
    "replay run @",
    "check-certificate run @",
    "hypothesis run @ --task for_while",
    "watch run @",
    "dissociate run @ @",
    "import @ --out made",
    "export @ --out made",
];

#[test]
fn no_message_holds_debug_output() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    std::fs::write(dir.join("tiny.toml"), RECIPE.replace("steps = 240", "steps = 1")).unwrap();
    ok(dir, &format!("{TRAIN} --out run"));
    std::fs::create_dir(dir.join("src")).unwrap();
    std::fs::write(dir.join("src/a.py"), "a = 1\n").unwrap();
    hostile_files(dir);
    let mut tried = 0;
    for line in LINES {
        for file in FILES {
            let line = line.replace('@', file);
            let output = run(dir, &line);
            let message = stderr(&output);
            // Some are fine: a text is a document.
            if output.status.success() {
                let _ = std::fs::remove_dir_all(dir.join("made"));
                continue;
            }
            tried += 1;
            assert_eq!(debug_output(&message), None, "openwork {line}: {message}");
            assert!(output.status.code().is_some_and(|code| code <= 3), "openwork {line}: {message}");
            assert!(
                message.contains("error: ") || message.contains("REJECTED") || !output.stdout.is_empty(),
                "openwork {line}: {message}"
            );
        }
    }
    assert!(tried > 300, "{tried}");
}

#[test]
fn no_message_on_an_option_holds_debug_output() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for line in [
        "train quickstart --data d --tokenizer t --out r --device gpu",
        "train quickstart --data d --tokenizer t --out r --device cuda:99999999999999999999",
        "train quickstart --data d --tokenizer t --out r --threads many",
        "data generate --out d --tokenizer t --megabytes 0",
        "data generate --out d --tokenizer t --validation-fraction x",
        "data build --from a --out d --tokenizer t --max-file-bytes -1",
        "tokenizer train --generated --field x --out t",
        "tokenizer train --generated --vocab-size 1 --out t",
        "tokenizer train --generated --from x --out t",
        "tokenizer import a b --split gpt3 --out t",
        "generate run --prompt x --temperature nan",
        "generate run --prompt x --top-k none",
        "prune run --task x --objective best",
        "tasks show nothing",
        "tasks eval run --task nothing",
        "quickstart --tasks nothing --out q",
        "verify run c --level 9",
        "verify run c --budget soon",
        "watch run c --margin wide",
        "nothing",
        "",
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(2), "openwork {line}");
        let message = stderr(&output);
        assert_eq!(debug_output(&message), None, "openwork {line}: {message}");
    }
    assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "nothing is left behind");
}
