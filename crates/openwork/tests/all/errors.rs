//! User errors end with exit code 2 and a sentence, and leaves nothing behind.

use std::{collections::BTreeMap, path::Path};

use ndarray::ArrayD;
use openwork_tensor::Tensor;

use crate::{passes, run, stderr};

/// Runs `line` in `dir`; it must fail with `words` in its message and change nothing in the folder.
#[track_caller]
fn fails(dir: &Path, line: &str, words: &[&str]) {
    let listing = || {
        let mut names: Vec<_> = walk(dir);
        names.sort();
        names
    };
    let before = listing();
    let output = run(dir, line);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "openwork {line}: {message}");
    assert!(message.contains("error: ") && !message.contains("panicked"), "openwork {line}: {message}");
    for word in words {
        assert!(message.contains(word), "openwork {line}: {word:?} is not in {message}");
    }
    assert_eq!(listing(), before, "openwork {line}");
}

/// Files below a folder.
pub fn walk(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn missing_and_foreign_files_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("junk"), b"junk").unwrap();
    std::fs::create_dir(dir.join("empty")).unwrap();
    std::fs::write(dir.join("recipe.toml"), "seed = 0\n[model]\nshark = 1\n").unwrap();

    fails(dir, "train recipe.toml --data d --tokenizer t --out run", &["recipe.toml", "shark", "line 3"]);
    fails(dir, "train no.toml --data d --tokenizer t --out run", &["no.toml", "quickstart", "gao-4x"]);
    fails(dir, "train quickstart --data d --tokenizer t.json --out run", &["t.json", "tokenizer train"]);
    fails(dir, "train quickstart --data d --tokenizer junk --out run", &["junk", "not a usable tokenizer"]);
    fails(dir, "train quickstart --data d --tokenizer t --out r --threads 0", &["--threads"]);
    fails(dir, "data generate --out d --tokenizer t.json", &["tokenizer train --generated --out t.json"]);
    fails(dir, "data build --from code --out d --tokenizer t.json", &["tokenizer train --from code --out t.json"]);
    fails(dir, "tokenizer train --out t.json", &["--generated"]);
    fails(dir, "tokenizer train --from nowhere --out t.json", &["there is no nowhere"]);
    fails(dir, "tokenizer train --from empty --out t.json", &["no usable document was found: there is no file"]);
    fails(dir, "tokenizer import vocab.bpe encoder.json --out t.json", &["vocab.bpe"]);
    fails(dir, "generate no.safetensors --prompt x", &["no.safetensors"]);
    fails(dir, "generate junk --prompt x", &["junk"]);
    fails(dir, "generate empty --prompt x", &["neither a model file"]);
    fails(dir, "import empty --out m", &["beeg_config.json"]);
    fails(dir, "export junk --out p", &["junk"]);
    fails(dir, "plot empty", &["no training run", "log.jsonl"]);
    fails(dir, "no-such-command", &["no-such-command"]);
}

#[test]
fn tokens_that_a_model_cannot_take_are_refused() {
    let folder = passes().remove(0);
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let cases: [(&str, Vec<usize>, i64, &[&str]); 5] = [
        ("flat", vec![4], 1, &["[4]", "[batch, time]"]),
        ("none", vec![0, 4], 1, &["holds nothing"]),
        ("long", vec![1, 100_000], 1, &["longer than the model's"]),
        ("outside", vec![1, 4], 60_000, &["outside the vocabulary"]),
        ("negative", vec![1, 4], -1, &["outside the vocabulary"]),
    ];
    for (name, shape, value, _) in &cases {
        let tokens = ArrayD::from_elem(shape.clone(), *value);
        let tensors = BTreeMap::from([("tokens".to_owned(), Tensor::from(tokens))]);
        openwork_tensor::write(dir.join(name), &tensors, &BTreeMap::new()).unwrap();
    }
    let floats = BTreeMap::from([("tokens".to_owned(), Tensor::from(ndarray::arr2(&[[1.0_f32]])))]);
    openwork_tensor::write(dir.join("floats"), &floats, &BTreeMap::new()).unwrap();
    let tokens = BTreeMap::from([("tokens".to_owned(), Tensor::from(ArrayD::from_elem(vec![1, 4], 1_u16)))]);
    openwork_tensor::write(dir.join("good"), &tokens, &BTreeMap::new()).unwrap();
    let model = folder.display();
    for (name, _, _, words) in cases {
        fails(dir, &format!("forward {model} --tokens {name} --out out"), words);
    }
    fails(dir, &format!("forward {model} --tokens floats --out out"), &["F32"]);
    fails(dir, &format!("forward {model} --tokens good --gradients --out out"), &["--gradients needs `targets`"]);
    fails(dir, &format!("forward {model} --tokens good --out no/such/folder/out"), &["cannot write"]);
    crate::ok(dir, &format!("forward {model} --tokens good --out out"));
    fails(dir, &format!("generate {model} --prompt x"), &["--tokenizer"]);
    fails(dir, &format!("generate {model} --prompt x --temperature nan"), &["temperature"]);
    fails(dir, &format!("export {model} --out ."), &["not empty"]);
}

#[test]
fn a_name_that_is_a_shipped_recipe_and_a_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("quickstart"), "seed = 0\n").unwrap();
    for line in ["recipe show quickstart", "train quickstart --data d --tokenizer t --out run"] {
        fails(dir.path(), line, &["a shipped recipe and a file", "./quickstart"]);
    }
    fails(dir.path(), "recipe show ./quickstart", &["./quickstart", "model"]);
    std::fs::create_dir(dir.path().join("python-1x")).unwrap();
    assert!(run(dir.path(), "recipe show python-1x").status.success());
}
