//! Checks of CI, stage by stage; stops at the first failure and names the command that repeats it.

use std::{
    fs,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, Result, bail};

use crate::{cargo, root, target};

/// Warnings of rustdoc, broken links first of all, are errors.
const RUSTDOCFLAGS: &str = "-D warnings -D rustdoc::broken_intra_doc_links";

/// Runs every check.
pub fn test() -> Result<()> {
    let started = Instant::now();
    let stage = |name: &str, args: &str| run(name, cargo().current_dir(root()).args(args.split(' ')));
    stage("formatting", "fmt --all --check")?;
    stage("lints", "clippy --workspace --all-targets -- -D warnings")?;
    match has("nextest") {
        true => stage("tests", "nextest run --workspace")?,
        false => stage("tests", "test --workspace --lib --bins --tests")?,
    }
    sanitized()?;
    // Of the whole workspace: one package alone has other features, and its dependencies would be built again.
    stage("building the fuzzer", "build --workspace --bin fuzz")?;
    // A short pass, the same on every machine; `cargo xtask fuzz` takes a minute for every format.
    let mut fuzzer = Command::new(target().join("debug/fuzz"));
    run("fuzzing", fuzzer.current_dir(root()).args(["--cases", "300"]))?;
    match has("deny") {
        true => stage("licences and bans of dependencies", "deny check licenses bans sources")?,
        false => println!("== licences and bans of dependencies: skipped, as cargo-deny is not installed"),
    }
    stage("documentation tests", "test --workspace --doc")?;
    examples()?;
    let mut documentation = cargo();
    documentation.current_dir(root()).env("RUSTDOCFLAGS", RUSTDOCFLAGS).args(["doc", "--workspace", "--no-deps"]);
    run("documentation", &mut documentation)?;
    println!("== all passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// Runs every example of every crate, without arguments; what they print is shown only where one fails. They are built
/// together: one package at a time has other features, and its dependencies would be built again.
fn examples() -> Result<()> {
    let started = Instant::now();
    run("building the examples", cargo().current_dir(root()).args(["build", "--workspace", "--examples"]))?;
    let mut crates: Vec<_> = fs::read_dir(root().join("crates"))?.collect::<std::io::Result<_>>()?;
    crates.sort_by_key(fs::DirEntry::path);
    let mut count = 0;
    for dir in crates {
        let Ok(files) = fs::read_dir(dir.path().join("examples")) else { continue };
        for file in files {
            let path = file?.path();
            let name = path.file_stem().expect("a file has a name").to_string_lossy().into_owned();
            let package = dir.file_name().to_string_lossy().into_owned();
            let program = target().join("debug/examples").join(&name);
            let output = Command::new(&program).current_dir(root()).output();
            let output = output.with_context(|| format!("cannot start {}", program.display()))?;
            if !output.status.success() {
                print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
                bail!(
                    "an example failed ({}); to repeat it: cargo run --package {package} --example {name}",
                    output.status
                );
            }
            count += 1;
        }
    }
    println!("== examples: {count} ran in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The CUDA kernels under the address sanitizer, where the C++ compiler has it.
fn sanitized() -> Result<()> {
    let probe = target().join("sanitizer-probe");
    fs::create_dir_all(target())?;
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let compile = ["-fsanitize=address,undefined", "-x", "c++", "-", "-o"];
    let mut child = Command::new(compiler);
    child.args(compile).arg(&probe).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let compiled = child.spawn().and_then(|mut child| {
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), b"int main() {}")?;
        child.wait()
    });
    if !compiled.is_ok_and(|status| status.success()) {
        println!("== kernels under the address sanitizer: skipped, as the C++ compiler has none");
        return Ok(());
    }
    let packages =
        ["test", "--package", "openwork-cuda-sim", "--package", "openwork-ops", "--test", "kernels", "--test", "gpu"];
    // In a folder of its own: the simulator is compiled otherwise.
    let mut command = cargo();
    command.current_dir(root()).args(packages).env("OPENWORK_SANITIZE", "1");
    command.env("CARGO_TARGET_DIR", target().join("sanitized"));
    // Cargo strips programs that are built without debug information, and its reports would name no line of a kernel.
    command.env("CARGO_PROFILE_DEV_STRIP", "none");
    run("kernels under the address sanitizer", &mut command)
}

/// Runs one stage and says how long it took.
pub fn run(name: &str, command: &mut Command) -> Result<()> {
    let line = shell_line(command);
    println!("== {name}: {line}");
    let started = Instant::now();
    let status = command.status().with_context(|| format!("cannot start {line}"))?;
    let seconds = started.elapsed().as_secs_f64();
    if !status.success() {
        bail!("{name} failed after {seconds:.0} s ({status}); to repeat it: {line}");
    }
    println!("== {name}: passed in {seconds:.0} s");
    Ok(())
}

/// True if cargo has the subcommand `name`.
pub fn has(name: &str) -> bool {
    let quiet = cargo().args([name, "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// The command as one would type it.
fn shell_line(command: &Command) -> String {
    let quoted = |text: &str| if text.contains(' ') { format!("'{text}'") } else { text.to_owned() };
    let env = command.get_envs().filter_map(|(key, value)| Some((key.to_string_lossy(), value?.to_string_lossy())));
    let env = env.map(|(key, value)| format!("{key}={}", quoted(&value)));
    let args = command.get_args().map(|arg| quoted(&arg.to_string_lossy()));
    env.chain(["cargo".to_owned()]).chain(args).collect::<Vec<_>>().join(" ")
}
