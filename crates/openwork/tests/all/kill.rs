//! Leftovers of a run that ends without a chance to clean up, or whose disk is full.

use std::{path::Path, process::Command, process::Stdio, time::Duration};

use crate::{
    ok, openwork,
    pipeline::{RECIPE, TRAIN, prepare},
    stderr,
};

/// Starts `openwork train` with the further arguments `more` and kills it as soon as `ready` says so.
fn killed(dir: &Path, more: &str, ready: impl Fn() -> bool) {
    let line = format!("{TRAIN} {more}");
    let args: Vec<&str> = line.split_whitespace().collect();
    let mut child = openwork(dir, &args).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    while !ready() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // SIGKILL: nothing of the program runs after it.
    child.kill().unwrap();
    child.wait().unwrap();
}

fn log_lines(dir: &Path) -> usize {
    std::fs::read_to_string(dir.join("log.jsonl")).map_or(0, |text| text.lines().count())
}

fn small(dir: &Path) {
    prepare(dir);
    let recipe =
        RECIPE.replace("steps = 240", "steps = 150").replace("checkpoint_every = 1000", "checkpoint_every = 7");
    std::fs::write(dir.join("tiny.toml"), recipe).unwrap();
}

#[test]
fn a_run_that_is_killed_again_and_again_ends_as_if_it_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    small(dir);
    ok(dir, &format!("{TRAIN} --out straight"));

    let run = dir.join("run");
    killed(dir, "--out run", || run.join("checkpoint.safetensors").exists());
    // Steps 10, 33 and 60 lie between two checkpoints.
    for lines in [10, 33, 60] {
        killed(dir, "--out run --resume", || log_lines(&run) >= lines);
        assert!(!run.join("model.safetensors").exists(), "killed too late to mean anything");
    }
    ok(dir, &format!("{TRAIN} --out run --resume"));
    for file in ["model.safetensors", "checkpoint.safetensors", "tokenizer.json", "recipe.toml"] {
        let bytes = |run: &str| std::fs::read(dir.join(run).join(file)).unwrap();
        assert!(bytes("run") == bytes("straight"), "{file} depends on the kills");
    }
    assert_eq!(log_lines(&run), 150);
    let hidden = |e: &std::fs::DirEntry| e.file_name().to_string_lossy().starts_with('.');
    let left: Vec<_> = std::fs::read_dir(&run).unwrap().map(|e| e.unwrap()).filter(hidden).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[cfg(unix)]
fn a_full_disk_is_an_error_that_names_the_file_and_keeps_the_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    small(dir);
    let checkpoint = dir.join("run/checkpoint.safetensors");
    killed(dir, "--out run", || log_lines(&dir.join("run")) > 10);
    let before = std::fs::read(&checkpoint).unwrap();

    // Files may grow to half the length of a checkpoint: its write fails in the middle, as on a full disk.
    let blocks = before.len() / 2 / 512;
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" {TRAIN} --out run --resume");
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &script, env!("CARGO_BIN_EXE_openwork")]).current_dir(dir).output().unwrap();
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    for words in ["checkpoint could not be written", "an earlier one is kept", "run/checkpoint.safetensors"] {
        assert!(message.contains(words), "{words:?} is not in {message}");
    }
    assert!(std::fs::read(&checkpoint).unwrap() == before, "the last good checkpoint is untouched");
    ok(dir, &format!("{TRAIN} --out run --resume"));
}
