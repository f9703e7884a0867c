//! Models as arguments: published folders, files and runs are the same to every command, and say the same when they do not fit.

use std::{collections::BTreeMap, fs, path::Path};

use openwork_model::Model;

use crate::{circuits::young_model, ok, run, stderr};

#[track_caller]
fn refused(dir: &Path, line: &str, words: &[&str]) {
    let output = run(dir, line);
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{line}: {message}");
    for words in words {
        assert!(message.contains(words), "{line}: {words:?} is not in {message}");
    }
}

#[test]
fn a_published_folder_is_an_argument_like_any_other() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    ok(dir, "export run --out pub");
    let mut names: Vec<_> = fs::read_dir(dir.join("pub")).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["beeg_config.json", "final_model.pt"]);

    let with = "--tokenizer tokenizer.json";
    let scores = |model: &str| ok(dir, &format!("tasks eval {model} --task for_while --pairs 8 {with}"));
    assert_eq!(scores("pub"), scores("run"));
    let text = |model: &str| ok(dir, &format!("generate {model} --prompt def --tokens 9 {with}"));
    assert_eq!(text("pub"), text("run"));
    // Nobody says how long training sequences were, until somebody does; then means remember it.
    let prune = format!("prune pub --task for_while {with} --data data");
    refused(dir, &prune, &["--trained-context", "its n_ctx of 128"]);
    refused(dir, &format!("{prune} --trained-context 500"), &["at most 128"]);
    refused(dir, &format!("{prune} --trained-context 64"), &["in sequences of 64", "above the target"]);
    refused(dir, &prune, &["above the target"]);
    refused(dir, &format!("{prune} --trained-context 32"), &["--trained-context is 32", "taken at 64"]);
    // A file remembers it, too.
    ok(dir, "import pub --out model.safetensors --trained-context 64");
    refused(dir, "prune model.safetensors --task for_while --data data", &["in sequences of 64", "above the target"]);
    refused(dir, "prune run --task for_while --trained-context 64", &["the model records 128"]);

    // The same configuration from any of them.
    let config = |model: &str| ok(dir, &format!("config {model} --json"));
    assert_eq!(config("run"), config("model.safetensors"));
    assert!(
        ok(dir, "config run").contains("sequences of 128 tokens") && ok(dir, "config pub").contains("not recorded")
    );

    // What is no model is refused in the same words by every command.
    fs::create_dir(dir.join("empty")).unwrap();
    fs::write(dir.join("junk"), b"junk").unwrap();
    for command in [
        "prune MODEL --task for_while",
        "stability MODEL --task for_while",
        "verify MODEL c.json",
        "watch MODEL c.json",
        "replay MODEL v.json",
        "dissociate MODEL a.json b.json",
        "report MODEL",
        "tasks eval MODEL",
        "generate MODEL --prompt x",
        "hypothesis MODEL h.toml --task for_while",
        "export MODEL --out exported",
    ] {
        refused(dir, &command.replace("MODEL", "empty"), &["empty is neither a model file"]);
        refused(dir, &command.replace("MODEL", "junk"), &["junk is cut off, or no safetensors file"]);
        refused(dir, &command.replace("MODEL", "none"), &["none"]);
    }
}

#[test]
fn values_that_are_not_finite_are_an_error_in_every_command_that_runs_the_model() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    let loaded = Model::load(dir.join("run/model.safetensors")).unwrap();
    let mut model = loaded.model;
    // Finite weights whose scores are not.
    model.params.blocks[0].qkv.weight.update(|w| {
        let rows = w.nrows() / 3 * 2;
        w.slice_mut(ndarray::s![..rows, ..]).mapv_inplace(|x| x * 1e25);
    });
    let metadata: BTreeMap<String, String> = loaded.metadata;
    fs::create_dir(dir.join("large")).unwrap();
    model.save(dir.join("large/model.safetensors"), &metadata).unwrap();
    let with = "--tokenizer tokenizer.json";
    for line in [
        "generate large --prompt def",
        "tasks eval large --task for_while --pairs 8",
        "prune large --task for_while --data data",
        "forward large --prompt for_i_in_range(10):print(i)",
    ] {
        refused(dir, &format!("{line} {with}"), &["attention scores of block 0", "not finite"]);
    }
    assert!(!dir.join("large/means.safetensors").exists());
}

#[test]
fn models_that_come_with_the_program_are_taken_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    young_model(dir);
    fs::create_dir(dir.join("models")).unwrap();
    fs::rename(dir.join("run"), dir.join("models/young")).unwrap();
    let run = |line: &str| {
        let mut command = crate::openwork(dir, &line.split_whitespace().collect::<Vec<_>>());
        let output = command.env("OPENWORK_MODELS", dir.join("models")).output().unwrap();
        let said = stderr(&output);
        (output.status.code(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let (code, listed, _) = run("models");
    assert!(code == Some(0) && listed.starts_with("young: 1 layers, 16 channels, "), "{listed}");
    let by_name = run("config young");
    assert!(by_name.0 == Some(0) && by_name == run("config models/young"), "{by_name:?}");
    // A name of the user's own comes first.
    fs::create_dir(dir.join("young")).unwrap();
    let (code, _, said) = run("config young");
    assert!(code == Some(2) && said.contains("young is neither a model file"), "{said}");
    fs::remove_dir_all(dir.join("models/young")).unwrap();
    let (code, _, said) = run("models");
    assert!(code == Some(2) && said.contains("there are no models in"), "{said}");
}

#[test]
fn recipes_are_listed_and_what_is_shown_is_a_recipe() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path();
    let listed = ok(dir, "recipe list");
    for name in ["quickstart", "python-small", "python-1x", "gao-4x"] {
        assert!(listed.contains(name), "{listed}");
        let shown = ok(dir, &format!("recipe show {name}"));
        fs::write(dir.join("mine.toml"), &shown).unwrap();
        assert_eq!(ok(dir, "recipe show mine.toml"), shown);
    }
    refused(dir, "recipe show none", &["there is no recipe none", "quickstart"]);
}
