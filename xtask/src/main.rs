//! Automation of this repository: `cargo xtask` lists the commands. Shells out and depends on no crate of
//! the workspace, so that it builds in seconds and runs even where the rest does not build.

mod bench;
mod gpu;
mod kernels;
mod reproduce;
mod stages;
mod web;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail, ensure};

const HELP: &str = "\
cargo xtask COMMAND

  quickstart [ARGS]  build, and run `openwork quickstart ARGS`
  test               everything CI checks: formatting, lints, tests, documentation
  parity DIR [DEVICE]
                     compare with the numbers of other implementations, one line per folder under DIR
  kernels [--check]  compile the CUDA kernels, whose output is committed
  test-gpu           tests on the GPU of this machine; they fail where there is none
  pack-gpu [DIR]     the same tests and measurements as one folder for a machine with a driver and nothing else
  calibrate [ARGS]   judge circuits of known truth: the judge's error rates; `cargo xtask calibrate --help`
  fuzz [TARGET] [--minutes M | --cases N]
                     damage files of every format that is read, a minute each, and read them
  reproduce localise|survivors ARGS
                     studies of circuits, cell by cell; resumable, a record a cell in OUT/records.jsonl
  web [--check | --measure]
                     build the viewer's front end, whose output is committed; needs Node, which nothing else does
  bench WHAT [ARGS]  measure; `cargo xtask bench` says what there is";

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1);
    let command = args.next().unwrap_or_default();
    let args: Vec<OsString> = args.collect();
    match run(&command.to_string_lossy(), &args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: &str, args: &[OsString]) -> Result<()> {
    match command {
        "quickstart" => {
            stages::run("build", cargo().args(["build", "--release", "--package", "openwork"]).arg(manifest()))?;
            let program = ["run", "--quiet", "--release", "--package", "openwork"];
            hand_over(cargo().args(program).arg(manifest()).args(["--", "quickstart"]).args(args))
        }
        "test" => {
            ensure!(args.is_empty(), "`cargo xtask test` takes no arguments");
            stages::test()
        }
        "parity" => {
            ensure!(matches!(args.len(), 1 | 2), "usage: cargo xtask parity DIR [DEVICE]");
            let program = ["run", "--quiet", "--release", "--package", "openwork-tests", "--bin", "parity"];
            hand_over(cargo().args(program).arg(manifest()).arg("--").args(args))
        }
        "fuzz" => {
            let program = ["run", "--quiet", "--release", "--package", "openwork-tests", "--bin", "fuzz"];
            hand_over(cargo().args(program).arg(manifest()).arg("--").args(args))
        }
        "kernels" => kernels::run(args),
        "test-gpu" => gpu::test(args),
        "pack-gpu" => gpu::pack(args),
        "web" => web::run(args),
        "calibrate" => bench::calibrate(args),
        "reproduce" => reproduce::run(args),
        "bench" => bench::run(args),
        "" | "help" | "--help" | "-h" => {
            println!("{HELP}");
            Ok(())
        }
        other => bail!("there is no command {other}\n\n{HELP}"),
    }
}

/// Folder of what is built.
fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// Runs a command, which must succeed.
fn succeed(command: &mut Command) -> Result<()> {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    ensure!(status.success(), "{line} failed ({status})");
    Ok(())
}

/// Folder of the repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the repository")
}

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Names the workspace, so that commands can run in the user's folder and relative paths mean what they
/// say.
fn manifest() -> OsString {
    let mut argument = OsString::from("--manifest-path=");
    argument.push(PathBuf::from(root()).join("Cargo.toml"));
    argument
}

/// Becomes `command`: its exit code, and Ctrl-C, go straight through.
fn hand_over(command: &mut Command) -> Result<()> {
    #[cfg(unix)]
    let error = std::os::unix::process::CommandExt::exec(command);
    #[cfg(not(unix))]
    let error = match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(2)),
        Err(error) => error,
    };
    Err(error).with_context(|| format!("cannot start {}", command.get_program().display()))
}
