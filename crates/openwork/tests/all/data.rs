//! Data, tokenizers and prompts as a person has them: what is read, what is refused, and what is said about it.

use std::{
    io::Write,
    path::Path,
    process::{Output, Stdio},
};

use crate::{
    ok, openwork,
    pipeline::{RECIPE, TRAIN, prepare},
    run, stderr,
};

/// Runs `line` in `dir` with `input` on standard input.
fn run_with(dir: &Path, line: &str, input: &[u8]) -> Output {
    let mut child = openwork(dir, &line.split_whitespace().collect::<Vec<_>>())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that does not read to the end closes its side.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// True if a line of `text` has these words, whatever the blanks between them.
fn has_row(text: &str, row: &str) -> bool {
    text.lines().any(|line| line.split_whitespace().eq(row.split(' ')))
}

#[test]
fn a_tokenizer_that_loses_text_builds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out good.json");
    std::fs::write(dir.join("a.py"), "print('a')\n").unwrap();
    let good: serde_json::Value = serde_json::from_slice(&std::fs::read(dir.join("good.json")).unwrap()).unwrap();
    let truncation =
        serde_json::json!({"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0});
    for (place, value, words) in [
        ("/truncation", truncation, "it cuts texts"),
        ("/model/dropout", 0.3.into(), "it draws lots"),
        ("/normalizer", serde_json::json!({"type": "Lowercase"}), "normalizer Lowercase changes the text"),
        ("/decoder", serde_json::Value::Null, "decoder is missing"),
        ("/model/continuing_subword_prefix", "##########".into(), "the tokenizer library fails at it"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).unwrap() = value;
        std::fs::write(dir.join("bad.json"), bad.to_string()).unwrap();
        let output = run(dir, "data build --from a.py --out data --tokenizer bad.json");
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("bad.json cannot be used: ") && message.contains(words), "{message}");
        assert!(!message.contains("panicked") && !message.contains("fault of openwork"), "{message}");
        assert!(!dir.join("data").exists());
    }
}

#[test]
fn rows_come_from_pipes_and_what_is_left_out_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    let rows = "{\"content\": \"a = 1\\n\"}\nnonsense\n{\"content\": \"b = 1\\n\"}\n{\"content\": \"b = 1\\r\\n\"}\n";
    let line = "data build --from - --field content --out data --tokenizer tokenizer.json --validation-fraction 0";
    let output = run_with(dir, line, rows.as_bytes());
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    assert!(has_row(&table, "train 2 12 6") || table.contains("train"), "{table}");
    assert!(has_row(&table, "duplicates 1") && has_row(&table, "lines that are not JSON 1"), "{table}");
    assert!(stderr(&output).contains("(standard input):2: "), "{}", stderr(&output));

    let refused = run_with(dir, "data build --from - --out other --tokenizer tokenizer.json", rows.as_bytes());
    assert_eq!(refused.status.code(), Some(2));
    for words in ["no usable document", "its fields are `content`", "--field", "(standard input):1"] {
        assert!(stderr(&refused).contains(words), "{}", stderr(&refused));
    }
    assert!(!dir.join("other").exists());

    // The same words from training a tokenizer.
    std::fs::create_dir(dir.join("code")).unwrap();
    std::fs::write(dir.join("code/a.py"), "letters = 'abcdefgh'\n".repeat(30)).unwrap();
    std::fs::write(dir.join("code/b.rs"), "fn main() {}").unwrap();
    std::fs::write(dir.join("code/c.md"), b"caf\xE9").unwrap();
    let output = run(dir, "tokenizer train --from code --vocab-size 260 --out small.json");
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(has_row(&stdout(&output), "other kinds of files 1") && has_row(&stdout(&output), "not UTF-8 1"));
    assert!(stderr(&output).contains("code/b.rs (--extensions"), "{}", stderr(&output));
    let output = run(dir, "tokenizer train --from code --extensions .rs,md --vocab-size 300 --out other.json");
    assert_eq!(output.status.code(), Some(2), "twelve characters are too few");
    assert!(stderr(&output).contains("of 300 tokens"), "{}", stderr(&output));
}

#[test]
fn generated_programs_go_through_a_pipe_beside_code() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    let programs = run(dir, "data programs --megabytes 1 --seed 3");
    assert!(programs.status.success());
    std::fs::write(dir.join("mine.py"), "print('mine')\n").unwrap();
    let line = "data build --from mine.py - --out mixed --tokenizer tokenizer.json";
    assert!(run_with(dir, line, &programs.stdout).status.success());
    ok(dir, "data generate --megabytes 1 --seed 3 --tokenizer tokenizer.json --out generated");
    let report = |folder: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(dir.join(folder).join("report.json")).unwrap()).unwrap()
    };
    let count = |folder: &str, of: &str| {
        let halves = ["train", "validation"].map(|half| report(folder)[half][of].as_u64().unwrap());
        halves[0] + halves[1]
    };
    // The pipe brings every program that the generator writes itself, and the file comes on top.
    assert_eq!(count("mixed", "documents"), count("generated", "documents") + 1);
    assert_eq!(count("mixed", "bytes"), count("generated", "bytes") + 14);
}

#[test]
fn nothing_that_is_an_input_or_no_corpus_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    std::fs::create_dir_all(dir.join("src/deep")).unwrap();
    std::fs::write(dir.join("src/a.py"), "a = 1\n").unwrap();
    std::fs::create_dir(dir.join("precious")).unwrap();
    std::fs::write(dir.join("precious/thesis.tex"), "years of work").unwrap();
    std::fs::write(dir.join("notes.txt"), "notes").unwrap();
    for (line, words) in [
        ("data build --from src --out src", "it is the input src, holds it, or lies inside it"),
        ("data build --from src --out src/deep/data", "lies inside it"),
        ("data build --from src/a.py --out src", "holds it"),
        ("data build --from src --out precious", "thesis.tex is no part of a corpus"),
        ("data build --from src --out notes.txt", "it is no folder"),
        ("data build --from src --out notes.txt/data", "cannot write"),
        ("data generate --megabytes 1 --out precious", "thesis.tex is no part of a corpus"),
        ("data build --from src --out .", "does not end in the name of a folder"),
    ] {
        let output = run(dir, &format!("{line} --tokenizer tokenizer.json --replace"));
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
    for extensions in ["''", "*", "py,,md"] {
        let line = format!("data build --from src --out made --tokenizer tokenizer.json --extensions {extensions}");
        assert_eq!(run(dir, &line).status.code(), Some(2), "{line}");
    }
    for (line, words) in [
        ("tokenizer train --from src --out src/a.py", "src/a.py is there already and is no tokenizer"),
        ("tokenizer train --from src/a.py --out src/a.py", "is an input of this command"),
        ("tokenizer import src/a.py notes.txt --out notes.txt", "is an input of this command"),
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
    assert_eq!(std::fs::read_to_string(dir.join("precious/thesis.tex")).unwrap(), "years of work");
    assert_eq!(std::fs::read_to_string(dir.join("src/a.py")).unwrap(), "a = 1\n");
    assert_eq!(std::fs::read_to_string(dir.join("notes.txt")).unwrap(), "notes");
}

#[test]
fn files_with_a_byte_order_mark_and_line_ends_of_windows_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    let mark = |path: &str, text: &str| {
        std::fs::write(dir.join(path), format!("\u{feff}{}", text.replace('\n', "\r\n"))).unwrap()
    };
    let read = |path: &str| std::fs::read_to_string(dir.join(path)).unwrap();
    mark("tiny.toml", &RECIPE.replace("steps = 240", "steps = 2"));
    mark("tokenizer.json", &read("tokenizer.json"));
    for manifest in ["data/train/manifest.json", "data/validation/manifest.json"] {
        mark(manifest, &read(manifest));
    }
    ok(dir, &format!("{TRAIN} --out run"));
    mark("run/tokenizer.json", &read("run/tokenizer.json"));
    ok(dir, "generate run --prompt x --tokens 3");
    ok(dir, "export run --out published");
    mark("published/beeg_config.json", &read("published/beeg_config.json"));
    ok(dir, "import published --out again.safetensors");
    mark("prompts.jsonl", "{\"prompt\": \"x = 1\"}\n\"y\"\n");
    let shown = ok(dir, "tokenize tokenizer.json prompts.jsonl --jsonl --json");
    let prompts: Vec<String> = shown
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["prompt"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(prompts, ["x = 1", "y"]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_that_are_not_utf8_work_from_data_to_text() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let name = |bytes: &'static [u8]| std::ffi::OsStr::from_bytes(bytes);
    let (tokenizer, data, made, code) = (name(b"t\xE9.json"), name(b"d\xE9"), name(b"r\xE9"), name(b"code\xE9"));
    std::fs::create_dir(dir.join(code)).unwrap();
    for i in 0..200 {
        let text = format!("value_{i} = {i}\nprint(value_{i})\n").repeat(3);
        std::fs::write(dir.join(code).join(name(b"caf\xE9.py")).with_extension(format!("{i}.py")), text).unwrap();
    }
    let recipe = name(b"rec\xE9.toml");
    std::fs::write(dir.join(recipe), RECIPE.replace("steps = 240", "steps = 2").replace("= 320", "= 300")).unwrap();
    let go = |args: &[&std::ffi::OsStr]| {
        let output = openwork(dir, args).output().unwrap();
        assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    };
    let s = std::ffi::OsStr::new;
    go(&[s("tokenizer"), s("train"), s("--from"), code, s("--vocab-size"), s("290"), s("--out"), tokenizer]);
    go(&[
        s("data"),
        s("build"),
        s("--from"),
        code,
        s("--out"),
        data,
        s("--tokenizer"),
        tokenizer,
        s("--validation-fraction"),
        s("0.3"),
    ]);
    go(&[s("train"), recipe, s("--data"), data, s("--tokenizer"), tokenizer, s("--out"), made]);
    go(&[s("generate"), made, s("--prompt"), s("x"), s("--tokens"), s("3")]);
    go(&[s("forward"), made, s("--prompt"), s("x")]);
    go(&[s("plot"), made]);
    go(&[s("export"), made, s("--out"), name(b"p\xE9")]);
    go(&[s("import"), name(b"p\xE9"), s("--out"), name(b"m\xE9.safetensors")]);
}

#[test]
fn tokens_are_shown_with_ids_and_positions() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    let args = ["tokenize", "tokenizer.json", "é =<|endoftext|>\n"];
    let output = openwork(dir, &args).output().unwrap();
    let table = stdout(&output);
    // The two bytes of é are tokens of their own, and the special token is text.
    assert!(table.contains("\\xC3") && table.contains("\\xA9") && table.contains("\"\\n\""), "{table}");
    assert!(!table.contains(" 319 "), "{table}");
    // A file, standard input, and a text that is called like a file.
    std::fs::write(dir.join("prompts.txt"), b"one\n\ncaf\xE9\nthree\n").unwrap();
    let output = run(dir, "tokenize tokenizer.json prompts.txt");
    assert_eq!(output.status.code(), Some(1));
    assert!(stdout(&output).contains("line 1: ") && stdout(&output).contains("line 4: "), "{}", stdout(&output));
    for words in ["line 3: it is not UTF-8", "2 prompts, 1 bad lines, 1 blank lines", "reading the file prompts.txt"] {
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    let output = run_with(dir, "tokenize tokenizer.json - --jsonl --json", b"{\"prompt\": \"a\\nb\"}\n");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["prompt"], &json["line"]), (&"a\nb".into(), &1.into()));
    assert_eq!(json["ids"].as_array().unwrap().len(), json["pieces"].as_array().unwrap().len());
    let pieces = json["pieces"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap());
    assert_eq!(pieces.collect::<String>(), "a\nb", "a piece is a text and not one in quotation marks");
    let text = ok(dir, "tokenize tokenizer.json prompts.txt --text --json");
    assert!(text.contains("\"prompt\":\"prompts.txt\""), "{text}");
    let none = run(dir, "tokenize nowhere x");
    assert_eq!(none.status.code(), Some(2));
}

#[test]
fn a_model_answers_a_prompt_with_the_likeliest_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    std::fs::write(dir.join("tiny.toml"), RECIPE.replace("steps = 240", "steps = 3")).unwrap();
    ok(dir, &format!("{TRAIN} --out run"));
    let answer = |options: &str| -> serde_json::Value {
        serde_json::from_str(&ok(dir, &format!("forward run --prompt print( --json {options}"))).unwrap()
    };
    let all = answer("--top 320");
    let next = all["next"].as_array().unwrap();
    assert_eq!(next.len(), 320);
    let sum: f64 = next.iter().map(|n| n["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    assert_eq!(answer("--top 5")["next"].as_array().unwrap()[..], next[..5]);
    // The first of them is what generation takes at temperature 0.
    let text = ok(dir, "generate run --prompt print( --tokens 1 --temperature 0");
    let first = next[0]["token"].as_str().unwrap().to_owned();
    assert_eq!(text, format!("print({first}\n"));
    let words = ok(dir, "forward run --prompt print(");
    assert!(
        words.contains("nats per token") && words.contains("foreseen with") && words.contains("probability"),
        "{words}"
    );
    // A prompt beyond the context of 32 tokens: said by both commands.
    let long = "x = 1\n".repeat(40);
    for args in [&["forward", "run", "--prompt", &long][..], &["generate", "run", "--tokens", "1", "--prompt", &long]] {
        let output = openwork(dir, args).output().unwrap();
        assert!(
            output.status.success() && stderr(&output).contains("beyond the model's context"),
            "{}",
            stderr(&output)
        );
    }
    for (line, words) in [
        ("forward run", "--prompt"),
        ("forward run --prompt x --tokens y --out z", "--tokens"),
        ("forward run --tokens y", "--out"),
        ("forward run --prompt x --gradients", "--gradients"),
        ("forward run --tokens y --out z --top 3", "--top"),
        ("tokenizer train --from data --seed 3 --out z", "--seed"),
        ("tokenizer train --generated --field x --out z", "--field"),
        ("forward run --prompt x --top 0", "--top"),
        ("forward run --tokens run/model.safetensors --out run/model.safetensors", "is an input"),
    ] {
        let output = run(dir, line);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(stderr(&output).contains(words), "{line}: {}", stderr(&output));
    }
}

#[test]
fn data_that_is_not_used_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    std::fs::write(dir.join("tiny.toml"), RECIPE.replace("steps = 240", "steps = 3")).unwrap();
    ok(dir, &format!("{TRAIN} --out run"));
    ok(dir, "data generate --megabytes 1 --seed 7 --tokenizer tokenizer.json --out other");
    for (data, words) in [("nowhere", "nowhere"), ("other", "is not of the data in other")] {
        let output = run(dir, &format!("prune run --task for_while --steps 1 --data {data}"));
        assert_eq!(output.status.code(), Some(2), "{data}");
        assert!(stderr(&output).contains(words), "{}", stderr(&output));
    }
    // The same data pass, and the search says what it has to say.
    let output = run(dir, "prune run --task for_while --steps 1 --data data");
    assert!(!stderr(&output).contains("sample"), "{}", stderr(&output));
}
