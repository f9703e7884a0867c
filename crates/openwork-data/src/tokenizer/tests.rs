//! Round trips, ids, saved files, and the published format.

use std::fs;
use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;
use crate::Programs;

/// The published vocabulary size, on generated programs.
fn trained() -> &'static Tokenizer {
    static TRAINED: OnceLock<Tokenizer> = OnceLock::new();
    TRAINED.get_or_init(|| {
        Tokenizer::train(Programs::new(1).take(3000), PUBLISHED_VOCAB_SIZE).expect("3000 programs fill 2048 tokens")
    })
}

#[test]
fn the_end_of_text_is_the_last_id() {
    let tokenizer = trained();
    assert_eq!(tokenizer.vocab_size(), 2048);
    assert_eq!(tokenizer.end_of_text(), 2047);
    assert_eq!(tokenizer.decode(&[2047]), END_OF_TEXT);
}

#[test]
fn written_out_end_of_text_is_only_text() {
    let ids = trained().encode("a = 1\n<|endoftext|>\nb = 2\n");
    assert!(!ids.contains(&2047), "{ids:?}");
    assert_eq!(trained().decode(&ids), "a = 1\n<|endoftext|>\nb = 2\n");
}

#[test]
fn pieces_follow_the_published_split() {
    let tokenizer = trained();
    let pieces =
        |text: &str| -> Vec<String> { tokenizer.encode(text).iter().map(|&id| tokenizer.decode(&[id])).collect() };
    assert_eq!(pieces("print(\"red\")\n"), ["print", "(\"", "red", "\")\n"]);
    assert_eq!(pieces("    return True\n"), ["   ", " return", " True", "\n"]);
    assert_eq!(pieces("x = [[1, 2]]\n"), ["x", " =", " [[", "1", ",", " ", "2", "]]\n"]);
}

#[test]
fn training_twice_gives_the_same_file() {
    let once = Tokenizer::train(Programs::new(4).take(200), 400).expect("trains");
    let again = Tokenizer::train(Programs::new(4).take(200), 400).expect("trains");
    assert_eq!(once.sha256(), again.sha256());
}

#[test]
fn saved_and_loaded_is_the_same_tokenizer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    trained().save(&path).expect("saves");
    let loaded = Tokenizer::load(&path).expect("loads");
    assert_eq!(loaded.sha256(), trained().sha256());
    // The same JSON without line breaks, and the other way round.
    let value: std::collections::BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&trained().json).expect("is JSON");
    let text = value.iter().rev().map(|(key, value)| format!("\"{key}\":{value}")).collect::<Vec<_>>().join(",");
    let written_anew = format!("{{{text}}}");
    assert_ne!(written_anew, trained().json);
    fs::write(&path, written_anew).expect("writes");
    assert_eq!(Tokenizer::load(&path).expect("loads").sha256(), trained().sha256());
    let other = Tokenizer::train(Programs::new(4).take(200), 400).expect("trains");
    assert_ne!(other.sha256(), trained().sha256());
    for program in Programs::new(2).take(50) {
        assert_eq!(loaded.encode(&program), trained().encode(&program));
    }
}

#[test]
fn the_published_format_gives_the_same_ids() {
    let tokenizer = trained();
    let json: serde_json::Value = serde_json::from_str(&tokenizer.json).expect("is JSON");
    let mut encoder = json["model"]["vocab"].clone();
    encoder[END_OF_TEXT] = 2047.into();
    let mut merges = String::from("#version: 0.2\n");
    for merge in json["model"]["merges"].as_array().expect("merges") {
        let [left, right] = [&merge[0], &merge[1]].map(|s| s.as_str().expect("a token"));
        merges.push_str(&format!("{left} {right}\n"));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (vocab_bpe, encoder_json) = (folder.path().join("vocab.bpe"), folder.path().join("encoder.json"));
    fs::write(&vocab_bpe, merges).expect("writes");
    fs::write(&encoder_json, encoder.to_string()).expect("writes");
    let imported = Tokenizer::import_published(&vocab_bpe, &encoder_json).expect("imports");
    assert_eq!(imported.vocab_size(), 2048);
    for program in Programs::new(8).take(100) {
        assert_eq!(imported.encode(&program), tokenizer.encode(&program));
    }
    assert_eq!(imported.decode(&[2047]), END_OF_TEXT);
    assert!(!imported.encode(END_OF_TEXT).contains(&2047));
}

#[test]
fn unusable_files_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::load(&path), Err(TokenizerError::Io { .. })));
    fs::write(&path, "{}").expect("writes");
    assert!(matches!(Tokenizer::load(&path), Err(TokenizerError::Malformed { .. })));
    let renamed = trained().json.replace("<|endoftext|>", "<|other|>");
    fs::write(&path, renamed).expect("writes");
    let error = Tokenizer::load(&path).expect_err("no end of text");
    assert!(error.to_string().contains("<|endoftext|> has id None"), "{error}");
}

#[test]
fn too_little_text_and_impossible_sizes_are_errors() {
    let few = Tokenizer::train(std::iter::once("a b".to_owned()), 2048);
    assert!(matches!(few, Err(TokenizerError::TooLittleText { wanted: 2048, .. })));
    for wanted in [0, 256, 65_537] {
        let none = Tokenizer::train(std::iter::empty(), wanted);
        assert!(matches!(none, Err(TokenizerError::VocabSize { .. })));
    }
}

#[test]
fn a_text_on_which_the_regex_gives_up_still_comes_back() {
    let text = format!("x{}y", " ".repeat(1_500_000));
    assert_eq!(trained().decode(&trained().encode(&text)), text);
}

#[test]
fn a_byte_for_each_symbol() {
    let alphabet: std::collections::HashSet<char> = ByteLevel::alphabet().into_iter().collect();
    let ours: std::collections::HashSet<char> = (0..=255).map(byte_symbol).collect();
    assert_eq!(ours, alphabet);
    assert_eq!(trained().decode(&trained().encode_bytes("a é\n")), "a é\n");
}

/// Python's `tokenizers` reads the file and gives the same ids; said aloud when it is not installed.
#[test]
fn python_gives_the_same_ids() {
    const SCRIPT: &str = "
import json, sys
try:
    from tokenizers import Tokenizer
except ImportError:
    sys.exit(77)
t = Tokenizer.from_file(sys.argv[1])
t.encode_special_tokens = True
for line in open(sys.argv[2]):
    print(json.dumps(t.encode(json.loads(line)).ids))
";
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (saved, texts) = (folder.path().join("tokenizer.json"), folder.path().join("texts"));
    trained().save(&saved).expect("saves");
    let mut documents: Vec<String> = Programs::new(3).take(300).collect();
    documents.push("naïve = '日本語'  \r\n\t\u{1F600} <|endoftext|>\n\n\n   x".to_owned());
    let lines: String = documents.iter().map(|d| serde_json::to_string(d).expect("is JSON") + "\n").collect();
    fs::write(&texts, lines).expect("writes");
    let python = std::env::var("OPENWORK_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let output = std::process::Command::new(python).args(["-c", SCRIPT]).args([&saved, &texts]).output();
    let output = match output {
        Ok(output) if output.status.code() != Some(77) => output,
        _ => {
            eprintln!(
                "SKIPPED python_gives_the_same_ids: no Python with `tokenizers` here (OPENWORK_PYTHON names one)"
            );
            return;
        }
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answer = String::from_utf8_lossy(&output.stdout);
    let theirs: Vec<Vec<u16>> = answer.lines().map(|line| serde_json::from_str(line).expect("a list of ids")).collect();
    assert_eq!(theirs, trained().encode_all(&documents));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_decodes_to_itself(text in any::<String>()) {
        prop_assert_eq!(trained().decode(&trained().encode(&text)), text);
    }

    #[test]
    fn text_full_of_blanks_and_marks_decodes_to_itself(text in "[ \t\r\n\"'a-c0-9\\]\\[(){}|<>é日]{0,80}") {
        prop_assert_eq!(trained().decode(&trained().encode(&text)), text);
    }
}
