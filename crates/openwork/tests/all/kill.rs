//! Leftovers of a run that ends without a chance to clean up, or whose disk is full.

use std::{path::Path, process::Command, process::Stdio, time::Duration};

use crate::{
    errors::walk,
    ok, openwork,
    pipeline::{RECIPE, TRAIN, prepare},
    stderr,
};

/// Starts `openwork train` with the further arguments `more` and kills it as soon as `ready` says so.
fn killed(dir: &Path, more: &str, ready: impl Fn() -> bool) {
    let line = format!("{TRAIN} {more}");
    kill_when(openwork(dir, &line.split_whitespace().collect::<Vec<_>>()), ready);
}

/// Starts a command and kills it as soon as `ready` says so.
fn kill_when(mut command: Command, ready: impl Fn() -> bool) {
    let mut child = command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
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
fn a_quickstart_that_is_killed_ends_as_if_it_never_was() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let recipe = RECIPE.replace("vocab_size = 320", "vocab_size = 2048").replace("n_ctx = 32", "n_ctx = 128");
    let recipe = recipe.replace("steps = 240", "steps = 12").replace("checkpoint_every = 1000", "checkpoint_every = 5");
    std::fs::write(dir.join("tiny.toml"), &recipe).unwrap();
    let quickstart = |out: &str| {
        let line = format!("quickstart --recipe tiny.toml --tasks for_while --out {out}");
        openwork(dir, &line.split_whitespace().collect::<Vec<_>>())
    };
    let output = quickstart("straight").output().unwrap();
    // So small a model does no task.
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));

    let run = dir.join("q/run");
    let moments: [&dyn Fn() -> bool; 3] =
        [&|| dir.join("q/tokenizer.json").exists(), &|| log_lines(&run) >= 7, &|| run.join("sample").exists()];
    for (i, ready) in moments.into_iter().enumerate() {
        kill_when(quickstart("q"), ready);
        assert!(!dir.join("q/report.html").exists(), "kill {i} is too late to mean anything");
    }
    let output = quickstart("q").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let files = |out: &str| {
        let mut files: Vec<_> =
            walk(&dir.join(out)).into_iter().map(|p| p.strip_prefix(dir.join(out)).unwrap().to_owned()).collect();
        files.sort();
        files
    };
    assert_eq!(files("q"), files("straight"));
    for file in files("q").iter().filter(|file| !file.ends_with("log.jsonl") && !file.ends_with("report.html")) {
        let bytes = |out: &str| std::fs::read(dir.join(out).join(file)).unwrap();
        assert!(bytes("q") == bytes("straight"), "{} depends on the kills", file.display());
    }
    // Data of another seed are not trained on.
    std::fs::write(dir.join("tiny.toml"), recipe.replace("seed = 5", "seed = 6")).unwrap();
    std::fs::remove_dir_all(&run).unwrap();
    let output = quickstart("q").output().unwrap();
    assert!(output.status.code() == Some(2) && stderr(&output).contains("seed 6"), "{}", stderr(&output));
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
