//! What the build needs from the machine: a C linker, and nothing else.

use std::{
    env,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};

/// What brings a linker on Debian and its relatives.
const PACKAGES: [&str; 2] = ["gcc", "libc6-dev"];

/// Checks for a linker; installs one where that is allowed, else names the command that does.
pub fn prepare() -> Result<()> {
    if on_path("cc") {
        return Ok(());
    }
    let packages = PACKAGES.join(" ");
    if !on_path("apt-get") {
        bail!("rustc needs the C linker `cc`; install a C compiler (on Debian: {packages})");
    }
    if !is_root() {
        bail!("rustc needs the C linker `cc`; install it with\n  sudo apt-get install --yes {packages}");
    }
    println!("== installing the C linker that rustc needs ({packages})");
    for args in [vec!["update"], [&["install", "--yes", "--no-install-recommends"][..], &PACKAGES].concat()] {
        let status = Command::new("apt-get").args(&args).status().context("cannot start apt-get")?;
        ensure!(status.success(), "apt-get {} failed ({status})", args.join(" "));
    }
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
