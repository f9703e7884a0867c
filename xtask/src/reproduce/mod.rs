//! `cargo xtask reproduce`: studies, cell by cell. A cell that is recorded is not run again.

mod frontier;
mod localise;
mod survivors;

use std::{
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{cargo, manifest, root, succeed, target};

const USAGE: &str = "\
usage: cargo xtask reproduce localise RUN DATA OUT [--seeds N] [--controls N]
       cargo xtask reproduce survivors QUICKSTART OUT [--seeds N] [--tasks A,B] [--controls N] [--minutes M] [--quick]
       cargo xtask reproduce survivors --summary OUT
       cargo xtask reproduce frontier DATA TOKENIZER OUT [--steps N] [--seeds N] [--tasks A,B] [--judged N] [--minutes M] [--quick]
       cargo xtask reproduce frontier --summary OUT
RUN is a finished run with circuits, DATA the corpus that it was trained on, QUICKSTART the folder of a finished quickstart, TOKENIZER the
tokenizer.json that made DATA, OUT a folder for models and records";

/// Runs `cargo xtask reproduce ARGS`.
pub fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<&str> =
        args.iter().map(|arg| arg.to_str().with_context(|| format!("{arg:?} is not UTF-8"))).collect::<Result<_>>()?;
    match &words[..] {
        ["frontier", rest @ ..] => frontier::run(rest),
        ["localise", rest @ ..] => localise::run(rest),
        ["survivors", rest @ ..] => survivors::run(rest),
        _ => bail!("{USAGE}"),
    }
}

/// Options after the positional arguments of a study: pairs of a name and a value, or a flag alone.
struct Options<'a> {
    words: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Value of an option, taken out.
    fn take(&mut self, name: &str) -> Result<Option<&'a str>> {
        let Some(at) = self.words.iter().position(|word| *word == name) else { return Ok(None) };
        ensure!(at + 1 < self.words.len(), "{name} needs a value\n\n{USAGE}");
        self.words.remove(at);
        Ok(Some(self.words.remove(at)))
    }

    /// Number of an option in a range, taken out.
    fn number(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>) -> Result<u64> {
        let Some(text) = self.take(name)? else { return Ok(default) };
        text.parse().ok().filter(|value| range.contains(value)).with_context(|| {
            format!("{name} {text}: expected a whole number from {} to {}", range.start(), range.end())
        })
    }

    /// True if a flag was given, which is taken out.
    fn flag(&mut self, name: &str) -> bool {
        let before = self.words.len();
        self.words.retain(|word| *word != name);
        self.words.len() < before
    }

    /// Checks that nothing is left.
    fn end(self) -> Result<()> {
        ensure!(self.words.is_empty(), "unexpected: {}\n\n{USAGE}", self.words.join(" "));
        Ok(())
    }
}

/// Tables and drawings of the records of a study, by the program of its name in `benches`.
fn summarize(study: &str, out: &Path) -> Result<()> {
    let program = ["run", "--quiet", "--release", "--package", "openwork-benches", "--bin", study];
    succeed(cargo().args(program).arg(manifest()).arg("--").arg(out))
}

/// End of a search.
#[derive(Clone)]
enum Search {
    Done,
    /// The program says why there is no circuit.
    Failed(String),
    OutOfTime,
}

impl Search {
    /// Enters into the record of a cell why there is no circuit; nothing where there is one. True if there is.
    fn entered(self, record: &mut Value) -> bool {
        match self {
            Self::Done => return true,
            Self::OutOfTime => record["outcome"] = "out of time".into(),
            Self::Failed(message) => {
                record["outcome"] = "not reached".into();
                record["message"] = message.into();
            }
        }
        false
    }
}

/// Workplace of a study: the program, and the folder for models and records.
struct Lab {
    program: PathBuf,
    /// Commit of the program, as `git describe` says it; none outside a checkout.
    commit: Option<String>,
    out: PathBuf,
}

impl Lab {
    /// Makes the folder, builds the program, and copies it there, so that a build during the study does not change it.
    fn new(out: &str) -> Result<Self> {
        succeed(cargo().args(["build", "--release", "--package", "openwork"]).arg(manifest()))?;
        fs::create_dir_all(out).with_context(|| format!("cannot create {out}"))?;
        let program = Path::new(out).join("openwork");
        fs::copy(target().join("release/openwork"), &program)
            .with_context(|| format!("cannot write {}", program.display()))?;
        let git = Command::new("git").current_dir(root()).args(["describe", "--always", "--dirty"]).output();
        let commit = git.ok().filter(|output| output.status.success());
        let commit = commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Ok(Self { program, commit, out: out.into() })
    }

    /// A call of the program.
    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name);
        command
    }

    /// A localisation of circuits into a new `folder`; what an interrupted one left there is removed.
    fn localise(&self, model: &Path, circuits: &[&Path], data: &Path, folder: &Path) -> Result<Command> {
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let mut localise = self.command("localise");
        localise.arg(model).arg("--data").arg(data).arg("--out").arg(folder);
        for circuit in circuits {
            localise.arg("--circuit").arg(circuit);
        }
        Ok(localise)
    }

    /// Trains a recipe into `folder`, or goes on with it, unless the run is finished.
    fn train(&self, recipe: &Path, data: &Path, tokenizer: &Path, folder: &Path) -> Result<()> {
        if folder.join("sample/manifest.json").exists() {
            return Ok(());
        }
        let mut train = self.command("train");
        train.arg(recipe).arg("--data").arg(data).arg("--tokenizer").arg(tokenizer).arg("--out").arg(folder);
        if folder.join("checkpoint.safetensors").exists() {
            train.arg("--resume");
        }
        succeed(&mut train)
    }

    /// Loss and accuracy of a model on every task, as `openwork tasks eval --json` writes them.
    fn scores(&self, model: &Path) -> Result<Value> {
        let output = self.command("tasks").arg("eval").arg(model).arg("--json").output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Runs a search within a time limit. An interruption is no result: it ends the study.
    fn search(&self, mut command: Command, limit: Duration) -> Result<Search> {
        let log = self.out.join("search.log");
        command.stdout(Stdio::null()).stderr(fs::File::create(&log)?);
        let mut child = command.spawn().with_context(|| format!("cannot start {}", self.program.display()))?;
        let started = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > limit {
                child.kill()?;
                child.wait()?;
                return Ok(Search::OutOfTime);
            }
            std::thread::sleep(Duration::from_millis(200));
        };
        if status.success() {
            return Ok(Search::Done);
        }
        let text = fs::read_to_string(&log)?;
        ensure!(status.code() == Some(2), "a search was interrupted: {}", text.trim_end());
        let error = text.split("error: ").last().unwrap_or_default();
        Ok(Search::Failed(error.split_whitespace().collect::<Vec<_>>().join(" ")))
    }

    /// Verdict at level 5: with control searches where nothing refutes the circuit before them.
    fn verdict(&self, model: &Path, circuit: &Path) -> Result<Value> {
        let mut report = Value::Null;
        for controls in [&["--no-controls"][..], &[]] {
            report = self.verify(model, circuit, controls)?["report"].take();
            if report["verdict"]["verdict"] != "incomplete" {
                break;
            }
        }
        summary(&report)
    }

    /// Verdict file of a circuit, as `openwork verify --json` prints it; it stays beside the circuit.
    fn verify(&self, model: &Path, circuit: &Path, options: &[&str]) -> Result<Value> {
        let mut verify = self.command("verify");
        verify.arg(model).arg(circuit).args(["--json", "--force"]).args(options);
        let output = verify.stderr(Stdio::inherit()).output()?;
        let code = output.status.code();
        ensure!(matches!(code, Some(0 | 1 | 3)), "the verification of {} failed", circuit.display());
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn records(&self) -> PathBuf {
        self.out.join("records.jsonl")
    }

    fn recorded(&self, cell: &str) -> Result<Option<Value>> {
        let path = self.records();
        if !path.exists() {
            return Ok(None);
        }
        Ok(read_records(&path)?.into_iter().find(|record| record["cell"] == cell))
    }

    /// Adds a record, which says the commit that the program was built from.
    fn record(&self, mut record: Value) -> Result<()> {
        record["commit"] = self.commit.clone().into();
        let path = self.records();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{record}")
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Records of a study. A last line that a kill cut off is no record; any other line that is not one is an error.
fn read_records(path: &Path) -> Result<Vec<Value>> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let record = |(number, line): (usize, &str)| {
        serde_json::from_str(line).with_context(|| format!("{}, line {}", path.display(), number + 1))
    };
    whole.lines().enumerate().map(record).collect()
}

/// The figures of a report that studies compare.
fn summary(report: &Value) -> Result<Value> {
    let checks = report["checks"].as_array().context("a report has checks")?;
    let estimate = |id: &str| checks.iter().find(|c| c["id"] == id).map_or(Value::Null, |c| c["estimate"].clone());
    let failed = |role: &str| -> Vec<&Value> {
        checks.iter().filter(|c| c["status"] == "failed" && c["role"] == role).map(|c| &c["id"]).collect()
    };
    Ok(json!({
        "verdict": report["verdict"]["verdict"],
        "level_reached": report["level_reached"],
        "size": report["size"],
        "failed_required": failed("required"),
        "failed_for_strong": failed("for_strong"),
        "adversary": estimate("adversary"),
        "adversary_shifted": estimate("adversary_shifted"),
        "larger_adversary": estimate("larger_adversary"),
        "larger_adversary_shifted": estimate("larger_adversary_shifted"),
        "completeness": estimate("completeness"),
        "necessity": estimate("necessity"),
    }))
}
