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
    let imported = Tokenizer::import_published(&vocab_bpe, &encoder_json, None).expect("imports");
    assert_eq!(imported.split, SplitRule::TinyPython);
    let imported = imported.tokenizer;
    assert_eq!(imported.vocab_size(), 2048);
    for program in Programs::new(8).take(100) {
        assert_eq!(imported.encode(&program), tokenizer.encode(&program));
    }
    assert_eq!(imported.decode(&[2047]), END_OF_TEXT);
    assert!(!imported.encode(END_OF_TEXT).contains(&2047));
}

/// A small tokenizer's file, after `change`; the error of loading it.
#[track_caller]
fn refused(change: impl FnOnce(&mut serde_json::Value)) -> String {
    match load_changed(change) {
        Ok(_) => panic!("the tokenizer has to be refused"),
        Err(error) => error.to_string().split_once("tokenizer.json ").expect("names the file").1.to_owned(),
    }
}

fn load_changed(change: impl FnOnce(&mut serde_json::Value)) -> Result<Tokenizer, TokenizerError> {
    let mut json = serde_json::from_str(&trained().json).expect("is JSON");
    change(&mut json);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).expect("writes");
    Tokenizer::load(&path)
}

#[test]
fn files_that_are_no_tokenizer_are_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::load(&path), Err(TokenizerError::Io { .. })));
    for (bytes, words) in [
        (&b"{}"[..], "has no `model`"),
        (b"{\n\"a\": ", "line 2"),
        (b"", "EOF"),
        (b"{\"model\": {\"type\": \"BPE\"}, \"decoder\": {\"type\": \"ByteLevel\"}}", "not a usable tokenizer"),
    ] {
        fs::write(&path, bytes).expect("writes");
        let error = Tokenizer::load(&path).expect_err("no tokenizer").to_string();
        assert!(error.contains(words), "{error}");
    }
    fs::write(&path, b"\xFF\xFE{\0}\0").expect("writes");
    let error = Tokenizer::load(&path).expect_err("UTF-16");
    assert!(std::error::Error::source(&error).expect("a cause").to_string().contains("UTF-16"));
}

#[test]
fn a_byte_order_mark_makes_no_other_tokenizer() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("tokenizer.json");
    fs::write(&path, format!("\u{feff}{}", trained().json)).expect("writes");
    assert_eq!(Tokenizer::load(&path).expect("loads").sha256(), trained().sha256());
}

#[test]
fn a_tokenizer_that_loses_text_is_refused_by_the_property_it_lacks() {
    use serde_json::json;
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let normalizers = [
        json!({"type": "Strip", "strip_left": true, "strip_right": true}),
        json!({"type": "Lowercase"}),
        json!({"type": "NFC"}),
        json!({"type": "StripAccents"}),
        json!({"type": "Replace", "pattern": {"String": "a rare text"}, "content": ""}),
        json!({"type": "Prepend", "prepend": "_"}),
    ];
    for normalizer in normalizers {
        let name = normalizer["type"].as_str().expect("a name").to_owned();
        let message = refused(|json| json["normalizer"] = normalizer.clone());
        assert!(message.contains(&format!("normalizer {name} changes the text")), "{message}");
        let nested = json!({"type": "Sequence", "normalizers": [normalizer]});
        assert!(refused(|json| json["normalizer"] = nested).contains(&name));
    }
    let split =
        |behavior: &str| json!({"type": "Split", "pattern": {"String": " "}, "behavior": behavior, "invert": false});
    let with_prefix = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    for (pre_tokenizer, words) in [
        (json!({"type": "Whitespace"}), "pre-tokenizer Whitespace is not known to keep the text"),
        (json!({"type": "WhitespaceSplit"}), "pre-tokenizer WhitespaceSplit"),
        (json!({"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": true}), "Metaspace"),
        (with_prefix, "ByteLevel adds a blank to the text (`add_prefix_space`)"),
        (json!({"type": "Sequence", "pretokenizers": [split("Removed"), byte_level]}), "Split drops what it splits at"),
        (json!({"type": "FixedLength", "length": 0}), "pre-tokenizer FixedLength"),
        // Bytes without the table of bytes: known only by trying.
        (split("Isolated"), "loses text"),
        (serde_json::Value::Null, "loses text"),
    ] {
        let message = refused(|json| json["pre_tokenizer"] = pre_tokenizer);
        assert!(message.contains(words), "{message}");
    }
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    for (decoder, words) in [
        (serde_json::Value::Null, "decoder is missing"),
        (json!({"type": "BPEDecoder", "suffix": "</w>"}), "decoder is BPEDecoder"),
        (json!({"type": "Sequence", "decoders": [byte_level, strip]}), "decoder is Strip"),
        (json!({"type": "Fuse"}), "decoder is missing"),
    ] {
        let message = refused(|json| json["decoder"] = decoder);
        assert!(message.contains(words), "{message}");
    }
    let truncation = json!({"direction": "Right", "max_length": 16, "strategy": "LongestFirst", "stride": 0});
    assert!(refused(|json| json["truncation"] = truncation).contains("cuts texts (`truncation` is set)"));
    let padding = json!({"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                         "pad_type_id": 0, "pad_token": "a"});
    assert!(refused(|json| json["padding"] = padding).contains("adds tokens (`padding` is set)"));
    for dropout in [0.3, 1e-6, 1.0] {
        assert!(refused(|json| json["model"]["dropout"] = dropout.into()).contains("draws lots"));
    }
    assert!(refused(|json| json["model"]["type"] = "WordLevel".into()).contains("its model is WordLevel"));
    // A post-processor that repeats the text.
    let twice = json!({"type": "TemplateProcessing", "single": [{"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": {}});
    assert!(refused(|json| json["post_processor"] = twice).contains("loses text"));
}

/// Adds a token that is not special at the first free id, and moves the end of text behind it.
fn add_token(json: &mut serde_json::Value, content: &str, property: &str) {
    let id = 2047;
    json["added_tokens"][0]["id"] = (id + 1).into();
    let mut token = json["added_tokens"][0].clone();
    token["id"] = id.into();
    token["content"] = content.into();
    token["special"] = false.into();
    if !property.is_empty() {
        token[property] = true.into();
    }
    json["added_tokens"].as_array_mut().expect("a list").insert(0, token);
}

#[test]
fn added_tokens_keep_the_blanks_beside_them() {
    assert!(load_changed(|json| add_token(json, "<tool>", "")).is_ok());
    for property in ["lstrip", "rstrip"] {
        let message = refused(|json| add_token(json, "<tool>", property));
        assert!(message.contains(&format!("`<tool>` takes the blanks beside it (`{property}`)")), "{message}");
    }
    // The byte table takes these characters for two bytes E9, which are no text.
    assert!(refused(|json| add_token(json, "\u{e9}\u{e9}", "")).contains("loses text"));
}

#[test]
fn the_end_of_a_document_cannot_be_written_in_a_text() {
    let message = refused(|json| json["added_tokens"][0]["special"] = false.into());
    assert!(message.contains("<|endoftext|> in a text becomes the end of a document"), "{message}");
    assert!(
        refused(|json| json["added_tokens"][0]["content"] = "<|other|>".into()).contains("has no token <|endoftext|>")
    );
    let followed = refused(|json| {
        json["model"]["vocab"][END_OF_TEXT] = 2047.into();
        json["model"]["vocab"]["zz"] = 2048.into();
    });
    assert!(followed.contains("has id 2047, not the last one (2048)"), "{followed}");
    let gap = refused(|json| {
        json["model"]["vocab"][END_OF_TEXT] = 2047.into();
        json["model"]["vocab"]["zz"] = 4000.into();
    });
    assert!(gap.contains("no token has id 2048"), "{gap}");
    for id in [65_536_u64, 4_294_967_295, u64::MAX] {
        let large = refused(|json| json["model"]["vocab"]["zz"] = id.into());
        assert!(large.contains(&format!("`zz` has id {id}")), "{large}");
        assert!(refused(|json| json["added_tokens"][0]["id"] = id.into()).contains("ids have to run from 0 to 65535"));
    }
    for id in [5, 3000] {
        let other = refused(|json| json["added_tokens"][0]["id"] = id.into());
        assert!(other.contains(&format!("`<|endoftext|>` cannot have id {id}")), "{other}");
    }
}

#[test]
fn a_panic_of_the_library_is_an_error() {
    // Merges shorter than the prefix that is cut off them.
    let message = refused(|json| json["model"]["continuing_subword_prefix"] = "##########".into());
    assert!(message.contains("the tokenizer library fails at it: "), "{message}");
}

#[test]
fn a_vocabulary_of_gpt2_keeps_its_split_rule() {
    let mut inner = assemble(BPE::default()).expect("assembles");
    inner.with_pre_tokenizer(Some(ByteLevel::new(false, true, true)));
    let mut trainer: TrainerWrapper = BpeTrainer::builder()
        .vocab_size(599)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    let texts = (1000..3000).map(|year| format!("It's {year}, and {} is not 19{year}; we don't.\n", year * 7));
    inner.train(&mut trainer, texts).expect("trains");
    let json: serde_json::Value = serde_json::from_str(&inner.to_string(false).expect("writes")).expect("is JSON");
    let mut encoder = json["model"]["vocab"].clone();
    encoder[END_OF_TEXT] = 599.into();
    let merges = json["model"]["merges"].as_array().expect("merges").iter();
    let merges = merges.map(|m| format!("{} {}\r\n", m[0].as_str().expect("a"), m[1].as_str().expect("b")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (vocab_bpe, encoder_json) = (folder.path().join("merges.txt"), folder.path().join("vocab.json"));
    fs::write(&vocab_bpe, format!("\u{feff}#version: 0.2\n{}", merges.collect::<String>())).expect("writes");
    fs::write(&encoder_json, format!("\u{feff}{encoder}")).expect("writes");
    let imported = Tokenizer::import_published(&vocab_bpe, &encoder_json, None).expect("imports");
    assert_eq!(imported.split, SplitRule::Gpt2);
    assert_eq!(imported.whole.0, imported.whole.1, "all tokens were merged within pieces");
    for text in ["It's 1999, and we'll see 2024.", "  x = [1,\n\n  2]\n"] {
        let expected = inner.encode(text, false).expect("encodes");
        let ids: Vec<u32> = imported.tokenizer.encode(text).into_iter().map(u32::from).collect();
        assert_eq!(ids, expected.get_ids());
    }
    let asked = Tokenizer::import_published(&vocab_bpe, &encoder_json, Some(SplitRule::TinyPython)).expect("imports");
    assert_eq!(asked.split, SplitRule::TinyPython);
    assert!(asked.whole.0 < asked.whole.1);

    fs::write(&vocab_bpe, "#version: 0.2\na b\nab\n").expect("writes");
    let error = Tokenizer::import_published(&vocab_bpe, &encoder_json, None).err().expect("a bad line").to_string();
    assert!(error.contains("merges.txt") && error.contains("line 3 is no merge"), "{error}");
    fs::write(&encoder_json, "[1, 2, 3]").expect("writes");
    let error = Tokenizer::import_published(&encoder_json, &encoder_json, None).err().expect("no merges").to_string();
    assert!(error.contains("line 1 is no merge"), "{error}");
}

#[test]
fn tokens_have_bytes() {
    let ids = trained().encode("x = 'é'\n");
    let bytes: Vec<u8> = ids.iter().flat_map(|&id| trained().bytes(id)).collect();
    assert_eq!(bytes, "x = 'é'\n".as_bytes());
    assert_eq!(trained().bytes(trained().end_of_text()), END_OF_TEXT.as_bytes());
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
