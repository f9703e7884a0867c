//! Faults of the machine: the n-th write, sync, rename or allocation fails, or the process is killed at some moment. The end is
//! what it would have been without, byte for byte, or an error in words; and after the command has run again, nothing is
//! left behind.
//!
//! A few moments of every kind are tried; `OPENWORK_FAULTS=all` tries every one.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{ok, openwork, pipeline::RECIPE, stderr};

/// Commands of the chain, each with the files of earlier ones.
const STAGES: [&str; 5] = [
    "data build --from code --validation-fraction 0.3 --tokenizer tokenizer.json --out data",
    "train tiny.toml --data data --tokenizer tokenizer.json --out run",
    "prune run --task for_while --steps 2 --restarts 1 --target-loss 0.8",
    "verify run run/circuits/for_while.json --level 1 --no-controls",
    "quickstart --recipe tiny.toml --tasks for_while --out q",
];
/// The last stage, which generates data for seconds every time: fewer moments of it are tried.
const QUICKSTART: usize = 4;
const OPERATIONS: [&str; 4] = ["write", "sync", "rename", "memory"];

/// The library that makes calls fail; `None` where there is no C compiler.
fn shim(dir: &Path) -> Option<PathBuf> {
    let (library, source) = (dir.join("shim.so"), dir.join("shim.c"));
    fs::write(&source, include_str!("faults/shim.c")).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    cc.status().is_ok_and(|status| status.success()).then_some(library)
}

/// Begin of the chain: a tokenizer, code, a recipe of a few steps.
fn begin(dir: &Path) {
    let recipe = RECIPE.replace("vocab_size = 320", "vocab_size = 2048").replace("n_ctx = 32", "n_ctx = 128");
    let recipe = recipe.replace("steps = 240", "steps = 4").replace("checkpoint_every = 1000", "checkpoint_every = 2");
    fs::write(dir.join("tiny.toml"), recipe.replace("sequences = 16", "sequences = 4")).unwrap();
    ok(dir, "tokenizer train --generated --megabytes 4 --out tokenizer.json");
    fs::create_dir(dir.join("code")).unwrap();
    for file in 0..40 {
        let lines = (0..60).map(|line| format!("for item_{file} in range({line}):\n    print('{}')\n", line * file));
        fs::write(dir.join("code").join(format!("{file}.py")), lines.collect::<String>()).unwrap();
    }
}

/// Contents of every file below a folder, by path, apart from clocks: a log has speeds, and a verdict the time that it took.
fn tree(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>, root: &Path) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found, root);
                continue;
            }
            let bytes = match path.file_name().unwrap().to_str().unwrap() {
                "log.jsonl" => fs::read_to_string(&path).unwrap().lines().count().to_string().into_bytes(),
                // A run that is killed after its line of the log was a try, and the next one says so.
                "verdicts.jsonl" => {
                    let text = fs::read_to_string(&path).unwrap();
                    text.lines().collect::<std::collections::BTreeSet<_>>().into_iter().collect::<String>().into_bytes()
                }
                name if name.ends_with(".verdict.json") => {
                    let mut verdict: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
                    verdict.as_object_mut().unwrap().remove("earlier");
                    verdict.to_string().into_bytes()
                }
                // It draws the speed of training, which the log has.
                "report.html" => vec![],
                _ => fs::read(&path).unwrap(),
            };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), bytes);
        }
    }
    let mut found = BTreeMap::new();
    walk(dir, &mut found, dir);
    found
}

/// A copy of a folder.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = entry.map(|e| (e.path(), e.file_name())).unwrap();
        match path.is_dir() {
            true => copy(&path, &to.join(name)),
            false => drop(fs::copy(&path, to.join(name)).unwrap()),
        }
    }
}

fn command(dir: &Path, line: &str) -> Command {
    openwork(dir, &line.split_whitespace().collect::<Vec<_>>())
}

/// The chain before and after every stage, and moments to try.
struct Chain {
    root: tempfile::TempDir,
    all: bool,
}

impl Chain {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let first = root.path().join("0");
        fs::create_dir(&first).unwrap();
        begin(&first);
        for (i, line) in STAGES.iter().enumerate() {
            let (before, after) = (root.path().join(i.to_string()), root.path().join((i + 1).to_string()));
            copy(&before, &after);
            let output = command(&after, line).output().unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{line}: {}", stderr(&output));
        }
        Self { root, all: std::env::var("OPENWORK_FAULTS").is_ok_and(|value| value == "all") }
    }

    /// A folder as it is before a stage.
    fn before(&self, stage: usize) -> PathBuf {
        let dir = self.root.path().join("trial");
        if dir.exists() {
            fs::remove_dir_all(&dir).unwrap();
        }
        copy(&self.root.path().join(stage.to_string()), &dir);
        dir
    }

    /// Moments from 1 to `count` to try: all, or the first, the last and some between.
    fn moments(&self, count: u64, some: u64) -> Vec<u64> {
        let mut moments: Vec<u64> = match self.all {
            true => (1..=count).collect(),
            false if some == 1 => vec![1 + count / 2],
            false => (0..some).map(|i| 1 + i * count.saturating_sub(1) / (some - 1)).collect(),
        };
        moments.dedup();
        moments.retain(|&moment| moment <= count);
        moments
    }

    /// Runs a stage again after a fault and compares the end with that of no fault. `what` happened.
    fn ends_well(&self, dir: &Path, stage: usize, what: &str) {
        let again = match stage {
            1 if dir.join("run/checkpoint.safetensors").exists() => format!("{} --resume", STAGES[stage]),
            _ => STAGES[stage].to_owned(),
        };
        let output = command(dir, &again).output().unwrap();
        let message = stderr(&output);
        // An operation that failed after the last of the work: all is there, and the command says so.
        let there =
            message.contains("exists already") || message.contains("already holds") || message.contains("--force");
        let well = matches!(output.status.code(), Some(0 | 1 | 3)) || there;
        assert!(well && !message.contains("panicked"), "{what}, then openwork {again}: {message}");
        let (found, expected) = (tree(dir), tree(&self.root.path().join((stage + 1).to_string())));
        let names = |tree: &BTreeMap<PathBuf, Vec<u8>>| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{what}");
        let other: Vec<_> =
            found.iter().filter(|(path, bytes)| expected[*path] != **bytes).map(|(path, _)| path).collect();
        assert!(other.is_empty(), "{what}: {other:?} depend on it");
    }
}

/// A command with a fault must end as if there were none, or with an error in words; without memory it may also end at once.
fn check_end(output: &Output, operation: &str, what: &str) {
    let message = stderr(output);
    let in_words = output.status.code() == Some(2) && message.contains("error: ");
    let aborted = operation == "memory" && output.status.code() != Some(0);
    let fine = matches!(output.status.code(), Some(0 | 1 | 3)) || in_words || aborted;
    assert!(fine, "{what}: {:?} {message}", output.status);
    assert!(aborted || !message.contains("panicked"), "{what}: {message}");
}

#[test]
fn a_call_that_fails_ends_in_an_error_and_leaves_nothing_behind() {
    let chain = Chain::new();
    let Some(shim) = shim(chain.root.path()) else {
        println!("SKIPPED: there is no C compiler to make calls fail");
        return;
    };
    let counts = chain.root.path().join("count");
    for (stage, line) in STAGES.iter().enumerate() {
        let few = stage == QUICKSTART && !chain.all;
        for operation in OPERATIONS.into_iter().filter(|operation| !few || ["write", "rename"].contains(operation)) {
            let run = |dir: &Path, at: u64| {
                let mut command = command(dir, line);
                command.env("LD_PRELOAD", &shim).env("FAULT_OP", operation).env("FAULT_AT", at.to_string());
                command.env("FAULT_COUNT", &counts).output().unwrap()
            };
            let whole = run(&chain.before(stage), 0);
            check_end(&whole, operation, line);
            let count: u64 = fs::read_to_string(&counts).unwrap().parse().unwrap();
            assert!(count > 0, "{line} has no {operation}");
            for at in chain.moments(count, if few { 1 } else { 2 }) {
                let dir = chain.before(stage);
                let what = format!("{operation} {at} of {count} failed in openwork {line}");
                let output = run(&dir, at);
                check_end(&output, operation, &what);
                chain.ends_well(&dir, stage, &what);
            }
        }
    }
}

#[test]
fn a_kill_at_any_moment_leaves_nothing_behind() {
    let chain = Chain::new();
    // Kills of the quickstart have a test of their own.
    for (stage, line) in STAGES.iter().enumerate().filter(|(stage, _)| *stage != QUICKSTART || chain.all) {
        let started = Instant::now();
        command(&chain.before(stage), line).output().unwrap();
        let whole = started.elapsed().as_micros() as u64;
        for part in chain.moments(if chain.all { 40 } else { 3 }, 3) {
            let dir = chain.before(stage);
            let mut child = command(&dir, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(whole * part / if chain.all { 41 } else { 4 }));
            child.kill().unwrap();
            let status = child.wait().unwrap();
            assert!(status.signal() == Some(9) || status.code().is_some());
            chain.ends_well(&dir, stage, &format!("openwork {line} was killed after {part} parts of its time"));
        }
    }
}
