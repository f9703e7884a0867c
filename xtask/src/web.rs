//! The viewer's front end: `web/` built into `crates/openwork-view/assets`, with the hash of its sources.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::{cargo, hand_over, manifest, root};

const USAGE: &str = "usage: cargo xtask web [--check | --measure]";

/// Builds the front end; `--check` runs the tests in a browser with the checker of accessibility, `--measure` measures first
/// paint and frames.
pub fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<_> = args.iter().map(|arg| arg.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>()[..] {
        [] => build(),
        ["--check"] => {
            install()?;
            let test = ["nextest", "run", "--package", "openwork-view", "browser"];
            hand_over(cargo().args(test).arg(manifest()).env("OPENWORK_REQUIRE_BROWSER", "1"))
        }
        ["--measure"] => {
            let test = ["test", "--package", "openwork-view", "--test", "all"];
            let only = ["--", "--ignored", "--nocapture", "measure"];
            hand_over(cargo().args(test).arg(manifest()).args(only).env("OPENWORK_REQUIRE_BROWSER", "1"))
        }
        _ => bail!(USAGE),
    }
}

fn npm(words: &[&str]) -> Result<()> {
    let mut command = Command::new("npm");
    command.args(words).current_dir(root().join("web"));
    let status =
        command.status().context("cannot run npm: Node 20 or later brings it, and only this command needs it")?;
    ensure!(status.success(), "npm {} failed", words.join(" "));
    Ok(())
}

fn install() -> Result<()> {
    npm(&["ci", "--no-audit", "--no-fund"])
}

fn build() -> Result<()> {
    install()?;
    npm(&["exec", "--", "tsc", "--noEmit", "--project", "."])?;
    let assets = root().join("crates/openwork-view/assets");
    let out = assets.to_string_lossy().into_owned();
    npm(&["exec", "--call", &format!("node build.mjs '{out}'")])?;
    let mut lines = format!("sources {}\n", hash_of_sources(&root().join("web"))?);
    for name in ["view.js", "view.css"] {
        let bytes = fs::read(assets.join(name)).with_context(|| format!("esbuild wrote no {name}"))?;
        lines += &format!("{name} {}\n", hex(&Sha256::digest(&bytes)));
    }
    fs::write(assets.join("sources.sha256"), lines)?;
    println!("built {out}");
    Ok(())
}

/// SHA-256 over path, length and bytes of every source, in the order of their paths. `tests/tests/all/web.rs` computes it likewise.
fn hash_of_sources(web: &Path) -> Result<String> {
    let mut files: Vec<PathBuf> =
        ["build.mjs", "package.json", "package-lock.json", "tsconfig.json"].map(PathBuf::from).into();
    for entry in fs::read_dir(web.join("src"))? {
        files.push(Path::new("src").join(entry?.file_name()));
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let bytes = fs::read(web.join(&file)).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(format!("{}\0{}\0", file.to_string_lossy().replace('\\', "/"), bytes.len()));
        hash.update(&bytes);
    }
    Ok(hex(&hash.finalize()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
