//! The program as its user sees it: files, output, exit codes.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

mod certificates;
mod circuits;
mod claims;
mod data;
mod debug;
mod devices;
mod errors;
#[cfg(target_os = "linux")]
mod faults;
mod forward;
mod kill;
mod localise;
mod messages;
mod models;
mod pipeline;
mod runs;
mod scores;
mod screen;
mod tune;
mod verdicts;
mod view;
mod watch;

/// The program, with its arguments; runs in `dir`.
fn openwork<S: AsRef<std::ffi::OsStr>>(dir: &Path, args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_openwork"));
    // Models that come with the program are a test of their own.
    command.current_dir(dir).args(args).stdin(Stdio::null()).env("OPENWORK_MODELS", "none");
    command
}

/// Runs `line`, split at blanks, in `dir`.
fn run(dir: &Path, line: &str) -> Output {
    openwork(dir, &line.split_whitespace().collect::<Vec<_>>()).output().unwrap()
}

/// Runs `line` in `dir`, which must succeed; returns standard output.
#[track_caller]
fn ok(dir: &Path, line: &str) -> String {
    let output = run(dir, line);
    assert!(output.status.success(), "openwork {line}: {}", stderr(&output));
    String::from_utf8(output.stdout).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Folders of single passes, made by other implementations: ours in the repository and, where they are at
/// hand, those of the original implementation.
fn passes() -> Vec<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders = Vec::new();
    for place in [repository.join("tests/golden"), repository.join("../shared/fixtures")] {
        let Ok(entries) = std::fs::read_dir(&place) else {
            println!("SKIPPED: {} is not at hand", place.display());
            continue;
        };
        folders.extend(entries.map(|entry| entry.unwrap().path()));
    }
    folders.retain(|folder| folder.join("expected.safetensors").exists());
    folders.sort();
    folders.into_iter().map(|folder| folder.canonicalize().unwrap()).collect()
}
