//! From nothing to text: tokenizer, data, training with an interruption, sampling, curves.

use std::{path::Path, process::Command, time::Duration};

use crate::{ok, openwork, run, stderr};

pub const RECIPE: &str = r#"
seed = 5
[model]
vocab_size = 320
n_ctx = 32
n_layer = 1
n_head = 2
d_head = 8
d_model = 16
d_mlp = 64
norm = "rms"
linear_bias = true
activation = "gelu"
act_density = 0.25
act_sites = "all"
positions = "none"
position_channels = 0
sink = true
bigram = "learned"
tied_unembed = false
[batch]
sequences = 16
chunk_sequences = 4
lanes = 2
[optimizer]
steps = 240
peak_lr = 0.02
warmup_fraction = 0.1
beta1 = 0.9
beta2 = 0.95
eps = 0.1
weight_decay = 0.1
sharkfin = true
[sparsity]
expansion_factor = 2
pfrac = 0.25
anneal = "linear"
anneal_start = 0.0
anneal_stop = 0.5
min_per_unit = 4
gradient = "exact"
refresh_every = 0
regrow = 0.0
sparse_biases = false
[run]
validation_every = 30
validation_sequences = 4
checkpoint_every = 1000
"#;

pub fn prepare(dir: &Path) {
    std::fs::write(dir.join("tiny.toml"), RECIPE).unwrap();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    ok(dir, "data generate --megabytes 1 --validation-fraction 0.1 --tokenizer tokenizer.json --out data");
}

pub const TRAIN: &str = "train tiny.toml --data data --tokenizer tokenizer.json";

#[test]
fn fewer_validation_sequences_than_the_recipe_asks_for_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    let recipe = RECIPE.replace("validation_sequences = 4", "validation_sequences = 1000000");
    std::fs::write(dir.join("tiny.toml"), recipe.replace("steps = 240", "steps = 2")).unwrap();
    let output = run(dir, &format!("{TRAIN} --out run"));
    assert!(output.status.success() && stderr(&output).contains("the data have no 1000000"), "{}", stderr(&output));
}

/// Presses Ctrl-C as soon as the run in `out` has logged a step; returns the exit code and the messages.
fn interrupted(dir: &Path, out: &str) -> (Option<i32>, String) {
    let line = format!("{TRAIN} --threads 1 --out {out}");
    let args: Vec<&str> = line.split_whitespace().collect();
    let child = openwork(dir, &args).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let log = dir.join(out).join("log.jsonl");
    for _ in 0..10_000 {
        if std::fs::metadata(&log).is_ok_and(|m| m.len() > 0) {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    (output.status.code(), stderr(&output))
}

#[test]
fn train_interrupt_resume_generate_and_plot() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    let straight = run(dir, &format!("{TRAIN} --out straight"));
    let notes = stderr(&straight);
    assert!(straight.status.success(), "{notes}");
    assert_eq!(notes.matches("min_per_unit").count(), 1, "lowered floors are told once: {notes}");

    let (code, message) = interrupted(dir, "run");
    assert_eq!(code, Some(130), "{message}");
    let resume = format!("{TRAIN} --out run --resume");
    assert!(message.contains(&format!("openwork {resume}")), "{message}");
    assert!(!dir.join("run/model.safetensors").exists());
    let again = run(dir, &format!("{TRAIN} --out run"));
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("already holds a run"));
    let generate = run(dir, "generate run --prompt def");
    assert_eq!(generate.status.code(), Some(2));
    assert!(stderr(&generate).contains("has not finished"));
    ok(dir, &resume);
    for file in ["model.safetensors", "tokenizer.json", "recipe.toml"] {
        let bytes = |run: &str| std::fs::read(dir.join(run).join(file)).unwrap();
        assert!(bytes("run") == bytes("straight"), "{file} depends on the interruption");
    }

    // The tokenizer lies beside the model; the same seed gives the same text.
    let text = ok(dir, "generate run --prompt def --tokens 20 --seed 3");
    assert!(text.starts_with("def"), "{text}");
    assert_eq!(text, ok(dir, "generate run/model.safetensors --prompt def --tokens 20 --seed 3 --top-k 320"));
    assert_ne!(text, ok(dir, "generate run --prompt def --tokens 20 --seed 4"));
    assert_eq!(ok(dir, "generate run --prompt def --tokens 0").trim_end(), "def");

    ok(dir, "plot run");
    let svg = std::fs::read_to_string(dir.join("run/curves.svg")).unwrap();
    assert!(svg.starts_with("<svg") && svg.contains("validation"));
}

#[test]
fn a_tokenizer_that_is_not_the_models_or_the_datas_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prepare(dir);
    ok(dir, "tokenizer train --generated --seed 9 --megabytes 1 --vocab-size 300 --out other.json");
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 400 --out large.json");
    let fails = |line: &str, word: &str| {
        let output = run(dir, line);
        let message = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{line}: {message}");
        assert!(message.contains(word), "{line}: {message}");
    };
    fails("train tiny.toml --data data --tokenizer other.json --out run", "was made with tokenizer");
    fails("train tiny.toml --data data --tokenizer large.json --out run", "400 tokens");
    fails("train tiny.toml --data data/train --tokenizer tokenizer.json --out run", "is not a folder that");
    fails("train tiny.toml --data data --tokenizer tokenizer.json --out run --resume", "no checkpoint");
    assert!(!dir.join("run").exists());
    ok(dir, &format!("{TRAIN} --out run"));
    fails("generate run --prompt x --tokenizer other.json", "was trained with tokenizer");
    fails("data generate --megabytes 1 --tokenizer tokenizer.json --out data", "exists already");
}

#[test]
fn real_files_give_a_table_of_what_was_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    ok(dir, "tokenizer train --generated --megabytes 1 --vocab-size 320 --out tokenizer.json");
    std::fs::create_dir(dir.join("code")).unwrap();
    let files: [(&str, &[u8]); 6] = [
        ("a.py", b"print('a')\n"),
        ("b.py", b"print('a')\n"),
        ("c.py", b"x = '\xff'\n"),
        ("d.py", b"\0"),
        ("e.rs", b"fn main() {}"),
        ("f.py", b"# a long line of words that goes over the limit\n"),
    ];
    for (name, bytes) in files {
        std::fs::write(dir.join("code").join(name), bytes).unwrap();
    }
    let table = ok(dir, "data build --from code --max-file-bytes 30 --out data --tokenizer tokenizer.json");
    for row in ["duplicates 1", "not UTF-8 1", "binary 1", "other kinds of files 1", "too large 1"] {
        let words: Vec<&str> = row.split(' ').collect();
        assert!(table.lines().any(|line| line.split_whitespace().eq(words.iter().copied())), "{row}: {table}");
    }
    ok(dir, "data build --from code --out data --tokenizer tokenizer.json --replace");
}
