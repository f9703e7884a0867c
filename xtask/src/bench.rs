//! `cargo xtask bench`: calls the programs of `openwork-benches`, with a Python for the peers where they are
//! asked for.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{cargo, hand_over, manifest, root, succeed, target};

const HELP: &str = "\
cargo xtask bench WHAT [ARGS]      (WHAT --help lists the arguments)

  kernels [OP..]  operations, each alone; with --device cuda on a GPU
  step            whole training steps; with --device cuda on a GPU
  plot            drawings of saved training steps, in docs/bench
  quality         what the faster training modes cost in validation loss

With --save results go to benches/runs/DATE-DEVICE. With --peers other implementations take part; they need python3,
from which an environment is made in target/peers-venv (benches/peers/requirements.txt), or the Python that has them in
OPENWORK_PEERS_PYTHON. Without either, peers are skipped.";

const PYTHON: &str = "OPENWORK_PEERS_PYTHON";

/// Whether `--device` names a GPU.
fn on_gpu(args: &[OsString]) -> bool {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    let cuda = |name: &str| name.starts_with("cuda");
    words.windows(2).any(|pair| pair[0] == "--device" && cuda(&pair[1]))
        || words.iter().any(|word| word.strip_prefix("--device=").is_some_and(cuda))
}

/// Runs `cargo xtask bench ARGS`.
pub fn run(args: &[OsString]) -> Result<()> {
    let (what, args) = args.split_first().map_or((OsStr::new("help"), args), |(what, args)| (what.as_os_str(), args));
    let (program, words): (&str, &[&str]) = match &*what.to_string_lossy() {
        "kernels" if on_gpu(args) => ("gpu", &[]),
        "kernels" => ("kernels", &[]),
        "step" => ("step", &[]),
        "plot" => ("step", &["plot"]),
        "quality" => ("quality", &[]),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            return Ok(());
        }
        other => bail!("there is no benchmark {other}\n\n{HELP}"),
    };
    start(program, words, args)
}

/// Runs `cargo xtask calibrate ARGS`.
pub fn calibrate(args: &[OsString]) -> Result<()> {
    start("calibrate", &[], args)
}

/// Becomes a program of the benches, with a Python for peers if they are asked for.
fn start(program: &str, words: &[&str], args: &[OsString]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "openwork-benches", "--bin", program]).arg(manifest());
    command.arg("--").args(words);
    let peers = args.iter().any(|arg| arg.to_string_lossy().starts_with("--peers"));
    if peers && env::var_os(PYTHON).is_none() {
        // An empty name tells the program that this was said.
        let python = environment().unwrap_or_else(|error| {
            println!("peers skipped: {error:#}");
            PathBuf::new()
        });
        command.env(PYTHON, python);
    }
    hand_over(command.args(args))
}

/// The Python of the peers' environment, which is made where it is missing or older than its list.
fn environment() -> Result<PathBuf> {
    let list = root().join("benches/peers/requirements.txt");
    let wanted = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
    let folder = target().join("peers-venv");
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Copied there when all of it was installed.
    let installed = folder.join("requirements.txt");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) && python.exists() {
        return Ok(python);
    }
    eprintln!("== peers: installing them in {}", folder.display());
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&list))?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}
