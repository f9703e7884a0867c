//! Tests on a GPU: here, or packed for a machine that has a driver and nothing else.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{cargo, root, stages, target};

/// Tests that run on a GPU where there is one: package, target, and what the binary is called in the pack.
const TESTS: [(&str, &str, &str); 2] =
    [("openwork-ops", "gpu", "test-operations"), ("openwork-train", "gpu", "test-steps")];
/// Programs of the pack.
const PROGRAMS: [(&str, &str, &str); 4] = [
    ("openwork", "openwork", "openwork"),
    ("openwork-tests", "parity", "parity"),
    ("openwork-benches", "gpu", "bench-kernels"),
    ("openwork-benches", "step", "bench-step"),
];
/// Larger than that is no pack to send around.
const MOST: u64 = 60_000_000;

const RUN: &str = r#"#!/bin/sh
# Tests and measurements on a GPU. Needs NVIDIA's driver and nothing else; python3 with PyTorch takes part in the
# measurements where there is one.
#   sh run [test|bench|all]      results: ./results
set -u
cd "$(dirname "$0")"
what=${1:-all}
mkdir -p results
./openwork devices | tee results/devices.txt
failed=0
step() {
    name=$1; shift
    echo "== $name: $*"
    "$@" > "results/$name.txt" 2>&1; code=$?
    tail -n 3 "results/$name.txt"
    [ $code = 0 ] || { echo "== $name FAILED ($code)"; failed=1; }
}
if [ "$what" != bench ]; then
    export OPENWORK_REQUIRE_GPU=1
    step test-operations ./test-operations --nocapture
    step test-steps ./test-steps --nocapture
    [ -d fixtures ] && step parity ./parity fixtures cuda
    if command -v compute-sanitizer > /dev/null; then
        step memcheck compute-sanitizer --tool memcheck --error-exitcode 1 ./test-operations
        step racecheck compute-sanitizer --tool racecheck --error-exitcode 1 ./test-operations
    else
        echo "== memcheck and racecheck skipped: there is no compute-sanitizer"
    fi
fi
if [ "$what" != test ]; then
    export OPENWORK_ROOT="$PWD"
    peers=
    python=${OPENWORK_PEERS_PYTHON:-python3}
    if "$python" -c 'import torch; assert torch.cuda.is_available()' 2> /dev/null; then
        export OPENWORK_PEERS_PYTHON="$python"
        peers=--peers
        # cuBLAS comes with PyTorch, if not with the system: dense products of ours use it.
        libs=$("$python" -c 'import importlib.util, pathlib
spec = importlib.util.find_spec("nvidia")
found = [p for root in spec.submodule_search_locations for p in pathlib.Path(root).rglob("libcublas.so.*")]
print(found[0].parent if found else "")' 2> /dev/null)
        [ -z "$libs" ] || export LD_LIBRARY_PATH="$libs${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    else
        echo "== peers skipped: $python has no PyTorch that sees the GPU"
    fi
    step bench-kernels ./bench-kernels --device cuda --save $peers
    step bench-step ./bench-step --device cuda --save $peers --variants fp32,bf16,compile --sequences 64 \
        --shapes 1024x4,2048x4 --densities 1,1/4,1/64,1/256
    cp -r benches/runs results/ 2> /dev/null
fi
exit $failed
"#;

/// `cargo xtask test-gpu`: the tests that need a GPU; they fail without one.
pub fn test(args: &[OsString]) -> Result<()> {
    ensure!(args.is_empty(), "`cargo xtask test-gpu` takes no arguments");
    for (package, target, name) in TESTS {
        let args = ["test", "--release", "--package", package, "--test", target];
        stages::run(name, cargo().current_dir(root()).args(args).env("OPENWORK_REQUIRE_GPU", "1"))?;
    }
    let sanitizer = Command::new("compute-sanitizer").arg("--version").stdout(Stdio::null()).status();
    if !sanitizer.is_ok_and(|status| status.success()) {
        println!("== memcheck and racecheck skipped: there is no compute-sanitizer in PATH");
        return Ok(());
    }
    let (package, target, _) = TESTS[0];
    let binary = built(&["test", "--release", "--no-run", "--package", package, "--test", target], None)?;
    for tool in ["memcheck", "racecheck"] {
        let mut command = Command::new("compute-sanitizer");
        command.args(["--tool", tool, "--error-exitcode", "1"]).arg(&binary).env("OPENWORK_REQUIRE_GPU", "1");
        stages::run(tool, &mut command)?;
    }
    Ok(())
}

/// `cargo xtask pack-gpu [DIR]`: everything that a GPU machine needs, in one folder.
pub fn pack(args: &[OsString]) -> Result<()> {
    ensure!(args.len() <= 1, "usage: cargo xtask pack-gpu [DIR]");
    let out = args.first().map_or_else(|| target().join("gpu-pack"), PathBuf::from);
    ensure!(
        !out.exists() || out.join("run").exists(),
        "{} is there and is no earlier pack; name another folder",
        out.display()
    );
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(out.join("benches/peers"))?;
    // Of its own: other builds keep their symbols.
    let build = target().join("gpu");
    for (package, name, called) in TESTS {
        let binary = built(&["test", "--release", "--no-run", "--package", package, "--test", name], Some(&build))?;
        fs::copy(binary, out.join(called))?;
    }
    for (package, name, called) in PROGRAMS {
        let binary = built(&["build", "--release", "--package", package, "--bin", name], Some(&build))?;
        fs::copy(binary, out.join(called))?;
    }
    for entry in fs::read_dir(root().join("benches/peers"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "py") {
            fs::copy(&path, out.join("benches/peers").join(path.file_name().context("a file")?))?;
        }
    }
    // Numbers of the original implementation, where they are at hand.
    let fixtures = root().join("../shared/fixtures");
    if fixtures.exists() {
        copy_folder(&fixtures, &out.join("fixtures"))?;
    }
    fs::write(out.join("run"), RUN)?;
    let bytes = size(&out)?;
    ensure!(bytes <= MOST, "{} has {bytes} bytes, more than {MOST}", out.display());
    println!("{}: {:.1} MB; there: sh run", out.display(), bytes as f64 / 1e6);
    Ok(())
}

/// Runs cargo and returns the executable that it built, stripped if it has a target folder of its own.
fn built(args: &[&str], target: Option<&Path>) -> Result<PathBuf> {
    let mut command = cargo();
    command.current_dir(root()).args(args).args(["--message-format", "json-render-diagnostics"]);
    if let Some(target) = target {
        command.env("CARGO_TARGET_DIR", target);
        command.env("CARGO_PROFILE_RELEASE_STRIP", "symbols").env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    }
    let output = command.stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    ensure!(output.status.success(), "cargo {} failed", args.join(" "));
    let messages = String::from_utf8_lossy(&output.stdout).into_owned();
    let executable = |line: &str| -> Option<PathBuf> {
        let message: Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    };
    match messages.lines().filter_map(executable).collect::<Vec<_>>().as_slice() {
        [only] => Ok(only.clone()),
        found => bail!("cargo {} built {} executables", args.join(" "), found.len()),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot list {}", from.display()))? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

fn size(folder: &Path) -> Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let is_folder = entry.file_type()?.is_dir();
        Ok(sum + if is_folder { size(&entry.path())? } else { entry.metadata()?.len() })
    })
}
