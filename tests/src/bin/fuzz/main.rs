//! Fuzzing of every format that is read: `cargo xtask fuzz [TARGET] [--minutes M | --cases N]`.
//!
//! Files that our writers made are damaged, and the readers have to refuse or read them: no panic, no memory beyond a limit, no
//! end of patience. Case N of a target is a function of its name and N. Cases run in child processes under a limit of
//! address space; a child that dies or hangs names its case, which is written to `target/fuzz/`.

mod mutate;
mod targets;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use targets::{Target, targets};

/// Address space of a child in kilobytes. Files are small, and nothing may take more than they justify; the rest is the
/// program's and its threads'.
const MEMORY_KB: u64 = 4 << 20;
/// Longest time for a case.
const PATIENCE: Duration = Duration::from_secs(20);
/// Cases of a child.
const CASES_OF_A_CHILD: u64 = 2000;

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    if let [first, name, from, to] = &args[..]
        && first == "--child"
    {
        return child(name, from.parse()?, to.parse()?);
    }
    let (mut wanted, mut minutes, mut cases) = (None, 1.0_f64, None);
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        let mut value = || rest.next().with_context(|| format!("{arg} needs a number"));
        match arg.as_str() {
            "--minutes" => minutes = value()?.parse().context("--minutes needs a number")?,
            "--cases" => cases = Some(value()?.parse::<u64>().context("--cases needs a number")?),
            name => wanted = Some(name.to_owned()),
        }
    }
    ensure!(minutes > 0.0 && minutes.is_finite(), "--minutes has to be above 0");
    let dir = Folder::new()?;
    let names: Vec<&str> = targets(&dir.0).iter().map(|target| target.name).collect();
    let chosen: Vec<&str> = names.iter().copied().filter(|name| wanted.as_deref().is_none_or(|w| w == *name)).collect();
    ensure!(!chosen.is_empty(), "there is no target {}; there are {}", wanted.unwrap_or_default(), names.join(", "));
    for name in chosen {
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(60.0 * minutes);
        let mut done = 0;
        while cases.map_or_else(|| Instant::now() < until, |cases| done < cases) {
            let to = cases.unwrap_or(u64::MAX).min(done + CASES_OF_A_CHILD);
            done = parent(name, done, to, cases.is_none().then_some(until))?;
        }
        println!("{name}: {done} cases in {:.0} s", started.elapsed().as_secs_f64());
    }
    Ok(())
}

/// Runs cases in a child; returns the number of the next case. A child that dies or hangs is an error.
fn parent(name: &str, from: u64, to: u64, until: Option<Instant>) -> Result<u64> {
    let program = env::current_exe()?;
    let limited = format!("ulimit -v {MEMORY_KB}; exec \"$0\" --child {name} {from} {to}");
    let mut child = Command::new("sh").arg("-c").arg(limited).arg(program).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (send, receive) = mpsc::channel();
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| send.send(line)));
    let mut next = from;
    loop {
        match receive.recv_timeout(PATIENCE) {
            Ok(line) => next = line.parse::<u64>().context("a child writes numbers")?,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                stop(&mut child)?;
                return failed(name, next, "took longer than 20 s");
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if until.is_some_and(|until| Instant::now() > until) {
            stop(&mut child)?;
            return Ok(next);
        }
    }
    drop(reader);
    match child.wait()? {
        status if status.success() => Ok(to),
        status => failed(name, next, &format!("ended the process ({status})")),
    }
}

fn stop(child: &mut Child) -> Result<()> {
    child.kill()?;
    child.wait()?;
    Ok(())
}

/// Keeps the bytes of a case that failed, and says which it was.
fn failed(name: &str, case: u64, what: &str) -> Result<u64> {
    let dir = Folder::new()?;
    let kept = Path::new("target/fuzz");
    fs::create_dir_all(kept)?;
    let path = kept.join(format!("{name}-{case}"));
    let all = targets(&dir.0);
    let target = all.iter().find(|target| target.name == name).context("a target of this name")?;
    fs::write(&path, target.case(case))?;
    bail!("case {case} of {name} {what}; it is in {}", path.display())
}

/// Runs cases; writes the number of each before it begins.
fn child(name: &str, from: u64, to: u64) -> Result<()> {
    let dir = Folder::new()?;
    let all = targets(&dir.0);
    let target = all.iter().find(|target| target.name == name).context("a target of this name")?;
    for seed in &target.seeds {
        ensure!((target.read)(seed), "{name}: a file that our writer made is refused");
    }
    let mut out = std::io::stdout().lock();
    for case in from..to {
        writeln!(out, "{case}")?;
        out.flush()?;
        (target.read)(&target.case(case));
    }
    Ok(())
}

/// A temporary folder of this process, which removes itself.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = env::temp_dir().join(format!("openwork-fuzz-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Target {
    /// Bytes of a case: a file of the corpus with some damage.
    fn case(&self, number: u64) -> Vec<u8> {
        let mut random = mutate::Random::new(self.name, number);
        let seed = &self.seeds[random.below(self.seeds.len())];
        mutate::damaged(seed, &self.seeds, &mut random)
    }
}
