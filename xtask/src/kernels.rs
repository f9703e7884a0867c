//! Compiles the CUDA kernels: PTX into crates/openwork-cuda/ptx, which is committed, and the table in kernels/README.md.

use std::{
    env,
    ffi::OsString,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{root, succeed, target};

const USAGE: &str = "\
cargo xtask kernels [--check]

  Compiles kernels/*.cu to PTX (compute capability 8.0, CUDA 13.0), writes it to crates/openwork-cuda/ptx with the hash of
  its sources, and the table of registers and shared memory to kernels/README.md. With --check it writes nothing and
  fails where the files differ. The compiler is that in NVCC, or nvcc in PATH, if it is of CUDA 13.0; otherwise it is
  installed from wheels into target/cuda-venv (needs python3; about 100 MB).";

/// Nothing newer: drivers from 580 on load its PTX.
const CUDA: &str = "13.0";
/// All five pinned, because they do not pin each other.
const WHEELS: [&str; 5] = [
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cuda-cccl==13.0.85",
];
/// Multiply-adds are fused where the source says so, as on the CPU.
const FLAGS: [&str; 2] = ["-fmad=false", "-std=c++17"];
/// Architectures that registers are counted for.
const REPORTED: [&str; 2] = ["sm_80", "sm_90a"];
const TABLE: [&str; 2] = ["<!-- written by cargo xtask kernels -->\n", "<!-- end -->\n"];

/// Runs the command.
pub fn run(args: &[OsString]) -> Result<()> {
    let check = match args {
        [] => false,
        [only] if only == "--check" => true,
        _ => bail!("{USAGE}"),
    };
    let nvcc = compiler()?;
    let (kernels, out) = (root().join("kernels"), root().join("crates/openwork-cuda/ptx"));
    let common = fs::read(kernels.join("common.cuh"))?;
    let scratch = target().join("kernels");
    fs::create_dir_all(&scratch)?;
    let mut rows = String::new();
    for source in sources(&kernels)? {
        let stem = source.file_stem().context("a file")?.to_string_lossy().into_owned();
        let ptx = scratch.join(format!("{stem}.ptx"));
        let target = ["-gencode", "arch=compute_80,code=compute_80", "-ptx"];
        succeed(Command::new(&nvcc).args(FLAGS).args(target).arg("-o").arg(&ptx).arg(&source))?;
        let hash = source_hash(&common, &fs::read(&source)?);
        let text = format!("// Sources: sha256 {hash}\n// Options: {}\n{}", FLAGS.join(" "), fs::read_to_string(&ptx)?);
        write(&out.join(format!("{stem}.ptx")), &text, check)?;
        table(&nvcc, &source, &scratch, &text, &mut rows)?;
    }
    let readme = kernels.join("README.md");
    let text = fs::read_to_string(&readme)?;
    let (before, rest) = text.split_once(TABLE[0]).context("kernels/README.md has lost the mark of the table")?;
    let (_, after) = rest.split_once(TABLE[1]).context("kernels/README.md has lost the end of the table")?;
    let head = "| file | kernel | registers sm_80 / sm_90a | static shared memory, bytes | loads of 128 bits |\n|---|---|---|---|---|\n";
    write(&readme, &format!("{before}{}{head}{rows}{}{after}", TABLE[0], TABLE[1]), check)?;
    print!("{rows}");
    Ok(())
}

/// Hash of everything that a file of PTX is made from, which a test compares.
fn source_hash(common: &[u8], source: &[u8]) -> String {
    let mut hash = Sha256::new();
    [common, source].into_iter().for_each(|part| hash.update(part));
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn sources(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let mut files: Vec<_> = entries.into_iter().filter(|path| path.extension().is_some_and(|e| e == "cu")).collect();
    files.sort();
    Ok(files)
}

fn write(path: &Path, text: &str, check: bool) -> Result<()> {
    let same = fs::read_to_string(path).is_ok_and(|old| old == text);
    ensure!(same || !check, "{} is stale: run cargo xtask kernels", path.display());
    if !same {
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// A line for every kernel of a file; none may spill registers.
fn table(nvcc: &Path, source: &Path, scratch: &Path, ptx: &str, rows: &mut String) -> Result<()> {
    let mut used: Vec<Vec<(String, u32, u32)>> = Vec::new();
    for arch in REPORTED {
        let cubin = scratch.join("kernel.cubin");
        let output = Command::new(nvcc)
            .args(FLAGS)
            .args([&format!("-arch={arch}"), "-cubin", "-Xptxas", "-v", "-o"])
            .args([&cubin, source])
            .output()?;
        ensure!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
        let mut kernels = usage(&String::from_utf8_lossy(&output.stderr))
            .with_context(|| format!("what ptxas says of {} for {arch}", source.display()))?;
        kernels.sort();
        used.push(kernels);
    }
    for (first, second) in used[0].iter().zip(&used[1]) {
        let ((name, registers, shared), (_, other, _)) = (first, second);
        let (wide, all) = loads(ptx, name);
        let file = source.file_name().expect("a file").to_string_lossy();
        writeln!(rows, "| `{file}` | `{name}` | {registers} / {other} | {shared} | {wide} of {all} |")?;
    }
    Ok(())
}

/// Name, registers and static shared memory of every kernel in what ptxas reports.
fn usage(report: &str) -> Result<Vec<(String, u32, u32)>> {
    let mut kernels = Vec::new();
    let mut name = None;
    for line in report.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            name = rest.split('\'').next().map(str::to_owned);
        } else if line.contains("bytes spill stores") {
            let clean = line.contains(" 0 bytes spill stores, 0 bytes spill loads");
            ensure!(clean, "{} spills registers: {}", name.unwrap_or_default(), line.trim());
        } else if let Some((before, rest)) = line.split_once(" registers") {
            let registers = before.rsplit(' ').next().unwrap_or_default().parse()?;
            let shared = rest.split(", ").find_map(|part| part.strip_suffix(" bytes smem"));
            let shared = shared.map_or(Ok(0), str::parse)?;
            kernels.push((name.take().context("registers of no kernel")?, registers, shared));
        }
    }
    ensure!(!kernels.is_empty(), "no kernels");
    Ok(kernels)
}

/// Number of 128-bit loads from memory in a kernel's PTX.
fn loads(ptx: &str, name: &str) -> (usize, usize) {
    let Some((_, body)) = ptx.split_once(&format!(".entry {name}(")) else { return (0, 0) };
    let body = body.split(".visible .entry").next().unwrap_or_default();
    let loads =
        body.lines().map(str::trim).filter(|line| line.starts_with("ld.global") || line.starts_with("ld.shared"));
    let wide = |line: &str| line.contains(".v4.f32") || line.contains(".v4.u32") || line.contains(".v2.u64");
    loads.fold((0, 0), |(n, all), line| (n + usize::from(wide(line)), all + 1))
}

/// An nvcc of the right version.
fn compiler() -> Result<PathBuf> {
    if let Some(path) = env::var_os("NVCC").map(PathBuf::from) {
        let found = version(&path)?;
        ensure!(
            found.contains(CUDA),
            "NVCC is {}, of CUDA {found}; the kernels are compiled with {CUDA}",
            path.display()
        );
        return Ok(path);
    }
    if version(Path::new("nvcc")).is_ok_and(|found| found.contains(CUDA)) {
        return Ok("nvcc".into());
    }
    let venv = target().join("cuda-venv");
    let installed = || -> Option<PathBuf> {
        let lib = fs::read_dir(venv.join("lib")).ok()?.flatten().next()?.path();
        Some(lib.join("site-packages/nvidia/cu13/bin/nvcc")).filter(|path| path.exists())
    };
    if let Some(path) = installed() {
        return Ok(path);
    }
    eprintln!("installing nvcc {CUDA} in {}", venv.display());
    succeed(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    succeed(Command::new(venv.join("bin/pip")).args(["install", "--quiet", "--no-deps"]).args(WHEELS))?;
    installed().context("the wheels hold no nvcc")
}

/// `release 13.0` and the like, as the compiler says.
fn version(nvcc: &Path) -> Result<String> {
    let output =
        Command::new(nvcc).arg("--version").output().with_context(|| format!("cannot run {}", nvcc.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find_map(|line| line.split_once("release ")).map(|(_, rest)| rest.to_owned());
    line.with_context(|| format!("{} --version says nothing of a release", nvcc.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_and_spills_refused() {
        let report = "ptxas info    : Compiling entry function 'adam' for 'sm_80'\n\
                      ptxas info    : Function properties for adam\n    \
                      0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n\
                      ptxas info    : Used 32 registers, used 1 barriers, 64 bytes smem, 432 bytes cmem[0]\n";
        assert_eq!(usage(report).unwrap(), [("adam".to_owned(), 32, 64)]);
        let spilled = report.replace("0 bytes spill stores", "8 bytes spill stores");
        assert!(usage(&spilled).unwrap_err().to_string().contains("adam spills registers"));
        assert!(usage("nvcc: nothing").is_err());
    }

    #[test]
    fn loads_are_counted_kernel_by_kernel() {
        let ptx = ".visible .entry a(\n)\n{\n ld.param.u64 %r;\n ld.global.v4.f32 {..};\n ld.shared.u32 %r;\n}\n\
                   .visible .entry b(\n)\n{\n ld.global.f32 %f;\n}\n";
        assert_eq!((loads(ptx, "a"), loads(ptx, "b")), ((1, 2), (0, 1)));
    }
}
