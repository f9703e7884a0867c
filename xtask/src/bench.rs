//! `cargo xtask bench`: calls the programs of `openwork-benches`, with a Python for the peers where they are
//! asked for.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::{cargo, hand_over, manifest, root, succeed, target};

const HELP: &str = "\
cargo xtask bench WHAT [ARGS]      (WHAT --help lists the arguments)

  kernels [OP..]  operations, each alone; with --device cuda on a GPU
  step            whole training steps; with --device cuda on a GPU
  search          passes of a search for circuits
  plot            drawings of saved training steps, in docs/bench
  quality         what the faster training modes cost in validation loss

With --save results go to benches/runs/DATE-DEVICE. With --peers other implementations take part; they need python3,
from which an environment is made in target/peers-kernels (benches/peers/kernels.txt), or the Python that has them in
OPENWORK_PEERS_PYTHON. Without either, peers are skipped.";

const PYTHON: &str = "OPENWORK_PEERS_PYTHON";

/// Lists of `benches/peers` for benchmarks and for calibration. Each has an environment of its own: what they list cannot be
/// installed side by side.
const KERNELS: &[&str] = &["kernels"];
const CIRCUITS: &[&str] = &["auto-circuit", "circuitkit", "rust-circuit"];

/// True if `--device` names a GPU.
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
        "search" => ("search", &[]),
        "plot" => ("step", &["plot"]),
        "quality" => ("quality", &[]),
        "help" | "--help" | "-h" => {
            println!("{HELP}");
            return Ok(());
        }
        other => bail!("there is no benchmark {other}\n\n{HELP}"),
    };
    start(program, words, KERNELS, args)
}

/// Runs `cargo xtask calibrate ARGS`.
pub fn calibrate(args: &[OsString]) -> Result<()> {
    start("calibrate", &[], CIRCUITS, args)
}

/// Becomes a program of the benches, with Pythons for peers if they are asked for.
fn start(program: &str, words: &[&str], lists: &[&str], args: &[OsString]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "openwork-benches", "--bin", program]).arg(manifest());
    command.arg("--").args(words);
    let peers = args.iter().any(|arg| arg.to_string_lossy().starts_with("--peers"));
    if peers && env::var_os(PYTHON).is_none() {
        let python = |list: &&str| {
            let made = environment(list);
            made.map_err(|error| println!("peers skipped: no environment for {list}: {error:#}")).ok()
        };
        // None at all tells the program that why was said.
        let pythons: Vec<PathBuf> = lists.iter().filter_map(python).collect();
        command.env(PYTHON, env::join_paths(pythons).context("the folder of what is built has an odd name")?);
    }
    hand_over(command.args(args))
}

/// The Python of a list's environment, which is made where it is missing or of another list.
fn environment(list: &str) -> Result<PathBuf> {
    let path = root().join("benches/peers").join(list).with_extension("txt");
    let wanted = wanted(&path)?;
    let folder = target().join(format!("peers-{list}"));
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    // Written when all of it was installed.
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|found| found == wanted) && python.exists() {
        return Ok(python);
    }
    eprintln!("== peers: installing {list} in {}", folder.display());
    succeed(Command::new(interpreter()).args(["-m", "venv", "--clear"]).arg(&folder))?;
    succeed(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&path))?;
    fs::write(&installed, wanted).with_context(|| format!("cannot write {}", installed.display()))?;
    Ok(python)
}

/// A list and those that it names, as text.
fn wanted(list: &Path) -> Result<String> {
    let text = fs::read_to_string(list).with_context(|| format!("cannot read {}", list.display()))?;
    let named = text.lines().filter_map(|line| line.strip_prefix("--requirement "));
    let named: Result<String> = named.map(|name| wanted(&list.with_file_name(name))).collect();
    Ok(named? + &text)
}

/// Python 3.11 where there is one, since some peers have wheels for no later one.
fn interpreter() -> &'static str {
    let tried = Command::new("python3.11").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if tried.is_ok_and(|status| status.success()) { "python3.11" } else { "python3" }
}
