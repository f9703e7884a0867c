//! Other implementations, each in a Python process that answers one line at a time.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::repository;

/// Names the Python that has what a list in `benches/peers` lists. It may name several, as PATH names folders: of tools that
/// cannot be installed side by side each runs in the first that has it.
const PYTHON: &str = "OPENWORK_PEERS_PYTHON";

/// Pythons to run peers with.
pub struct Peers {
    pythons: Vec<PathBuf>,
}

impl Peers {
    /// `None` when they are not asked for, or when no Python is named; an empty name is that of somebody who
    /// has said why already.
    pub fn find(asked: bool) -> Option<Self> {
        match env::var_os(PYTHON) {
            Some(python) if asked => {
                Some(python).filter(|p| !p.is_empty()).map(|p| Self { pythons: env::split_paths(&p).collect() })
            }
            None if asked => {
                println!("peers skipped: {PYTHON} names no Python; `cargo xtask` makes one and sets it");
                None
            }
            _ => None,
        }
    }

    /// Starts `benches/peers/SCRIPT`; `None`, said aloud, where it does not run.
    pub fn start(&self, name: &str, script: &str, args: &[String]) -> Option<Peer> {
        eprintln!("starting {name}");
        let mut reasons = vec![];
        for python in &self.pythons {
            match Peer::start(python, name, script, args) {
                Ok(peer) => return Some(peer),
                Err(error) => reasons.push(format!("{error:#}")),
            }
        }
        println!("{name} skipped: {}", reasons.join("; "));
        None
    }
}

/// A running peer.
pub struct Peer {
    name: String,
    /// Name and version that the peer reports.
    pub version: String,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Peer {
    fn start(python: &PathBuf, name: &str, script: &str, args: &[String]) -> Result<Self> {
        let script = repository().join("benches/peers").join(script);
        let mut command = Command::new(python);
        // Bytecode beside the scripts would only be noise in the repository.
        command.arg("-B").arg(&script).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", python.display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("a pipe")?);
        let mut peer = Self { name: name.into(), version: String::new(), child, input, output: BufReader::new(output) };
        let said = peer.read()?;
        match said.strip_prefix("ready ") {
            Some(version) => peer.version = format!("{name}: {version}"),
            None => bail!("{} says {said:?} instead of being ready", script.display()),
        }
        Ok(peer)
    }

    /// Its name in tables and files.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a line and returns the number it answers with: seconds, or a score.
    pub fn ask(&mut self, line: &str) -> Result<f64> {
        let name = self.name.clone();
        let input = self.input.as_mut().context("a pipe")?;
        writeln!(input, "{line}").and_then(|()| input.flush()).with_context(|| format!("{name} has ended"))?;
        let answer = self.read()?;
        match answer.parse() {
            Ok(number) => Ok(number),
            Err(_) => bail!("{}", answer.trim_start_matches("error: ")),
        }
    }

    fn read(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line).with_context(|| format!("cannot read what {} says", self.name))?;
        match line.is_empty() {
            true => bail!("it ended; what it said on the way is above"),
            false => Ok(line.trim_end().to_owned()),
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its input is the end of its loop.
        drop(self.input.take());
        // Nothing depends on how it ended.
        let _ = self.child.wait();
    }
}
