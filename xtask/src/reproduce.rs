//! `cargo xtask reproduce`: studies, cell by cell. A cell that is recorded is not run again.

use std::{
    ffi::OsString,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{cargo, manifest, succeed, target};

const USAGE: &str = "usage: cargo xtask reproduce localise RUN DATA OUT [--seeds N] [--controls N]
RUN is a finished run with circuits, DATA the corpus that it was trained on, OUT a folder for models and records";

/// Runs `cargo xtask reproduce ARGS`.
pub fn run(args: &[OsString]) -> Result<()> {
    let words: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let [study, run, data, out, options @ ..] = &words[..] else { bail!("{USAGE}") };
    ensure!(study == "localise", "{USAGE}");
    let (mut seeds, mut controls) = (3, 5);
    for option in options.chunks(2) {
        let [name, value] = option else { bail!("{USAGE}") };
        let value: u64 = value.parse().with_context(|| format!("{name} {value}: expected a whole number"))?;
        match &name[..] {
            "--seeds" => seeds = value,
            "--controls" => controls = value,
            _ => bail!("{USAGE}"),
        }
    }
    succeed(cargo().args(["build", "--release", "--package", "openwork"]).arg(manifest()))?;
    Study { program: target().join("release/openwork"), run: run.into(), data: data.into(), out: out.into() }
        .run(seeds, controls)
}

/// Localisation of every circuit of a run, and its controls: connected random circuits and another task's circuit, at once, twice and three
/// times the steps that the found circuit took with seed 0.
struct Study {
    program: PathBuf,
    run: PathBuf,
    data: PathBuf,
    out: PathBuf,
}

/// Nodes that a cell trains in.
enum Subject {
    Found,
    Random(u64),
    OfTask(String),
}

impl Study {
    fn run(&self, seeds: u64, controls: u64) -> Result<()> {
        fs::create_dir_all(&self.out).with_context(|| format!("cannot create {}", self.out.display()))?;
        let tasks = self.tasks()?;
        for task in &tasks {
            for seed in 0..seeds {
                self.cell(&format!("found-{task}-{seed}"), task, &Subject::Found, &["--seed", &seed.to_string()])?;
            }
        }
        for task in &tasks {
            let found = self.recorded(&format!("found-{task}-0"))?.context("its cell was run")?;
            let Some(steps) = found["phases"][0].as_u64() else { continue };
            for times in 1..=3 {
                // A control gets its steps whatever it looks like on the way.
                let fixed = (steps * times).to_string();
                let options = ["--steps", &fixed, "--agreement", "1"];
                for draw in 1..=controls {
                    self.cell(&format!("random{draw}-{task}-x{times}"), task, &Subject::Random(draw), &options)?;
                }
                for other in tasks.iter().filter(|other| *other != task) {
                    let subject = Subject::OfTask(other.clone());
                    self.cell(&format!("of-{other}-{task}-x{times}"), task, &subject, &options)?;
                }
            }
        }
        Ok(())
    }

    /// Tasks with a circuit in the run.
    fn tasks(&self) -> Result<Vec<String>> {
        let dir = self.run.join("circuits");
        let files = fs::read_dir(&dir).with_context(|| format!("cannot list {}", dir.display()))?;
        let mut tasks = vec![];
        for file in files {
            let name = file?.file_name().to_string_lossy().into_owned();
            let stem = name.strip_suffix(".json").filter(|stem| !stem.contains('.'));
            tasks.extend(stem.map(str::to_owned));
        }
        tasks.sort();
        ensure!(!tasks.is_empty(), "there are no circuits in {}; `openwork prune` finds some", dir.display());
        Ok(tasks)
    }

    /// Trains, verifies and records one cell, unless its record is there.
    fn cell(&self, name: &str, task: &str, subject: &Subject, options: &[&str]) -> Result<()> {
        if self.recorded(name)?.is_some() {
            return Ok(());
        }
        println!("== {name}");
        let (folder, started) = (self.out.join(name), Instant::now());
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        let circuit = self.circuit(name, task, subject)?;
        let mut localise = Command::new(&self.program);
        localise.arg("localise").arg(&self.run).arg("--circuit").arg(&circuit).arg("--data").arg(&self.data);
        localise.arg("--out").arg(&folder).args(options);
        match subject {
            Subject::Found => (),
            Subject::Random(draw) => drop(localise.args(["--random", &draw.to_string()])),
            Subject::OfTask(_) => drop(localise.arg("--control")),
        }
        let status = localise.status().with_context(|| format!("cannot start {}", self.program.display()))?;
        if !status.success() {
            // A circuit that misses its target in the untouched model is a result, an interruption is none.
            ensure!(status.code() == Some(2), "{name} was interrupted");
            return self.record(json!({ "cell": name, "task": task, "localised": false }));
        }
        let verdict = self.verdict(&folder, task)?;
        let text = fs::read_to_string(folder.join("localised.json"))?;
        let localised: Value = serde_json::from_str(&text)?;
        self.record(json!({
            "cell": name,
            "task": task,
            "localised": true,
            "phases": localised["phases"],
            "text": localised["text"],
            "tasks": localised["tasks"],
            "circuit": localised["circuits"][0],
            "settings": localised["settings"],
            "original_sha256": localised["original_sha256"],
            "model_sha256": localised["model_sha256"],
            "verdict": verdict,
            "seconds": started.elapsed().as_secs(),
        }))
    }

    /// The circuit file of a cell: one of the run, or that of another task under this task's name.
    fn circuit(&self, name: &str, task: &str, subject: &Subject) -> Result<PathBuf> {
        let of = |task: &str| self.run.join("circuits").join(format!("{task}.json"));
        let Subject::OfTask(other) = subject else { return Ok(of(task)) };
        let mut json: Value = serde_json::from_str(&fs::read_to_string(of(other))?)?;
        json["task"] = task.into();
        let path = self.out.join(format!("{name}.json"));
        fs::write(&path, json.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// The verdict at level 5: with control searches where nothing refutes the circuit before them.
    fn verdict(&self, folder: &Path, task: &str) -> Result<Value> {
        let circuit = folder.join("circuits").join(format!("{task}.json"));
        let mut report = Value::Null;
        for controls in [&["--no-controls"][..], &[]] {
            let mut verify = Command::new(&self.program);
            verify.arg("verify").arg(folder).arg(&circuit).arg("--json").args(controls);
            let output = verify.stderr(std::process::Stdio::inherit()).output()?;
            ensure!(matches!(output.status.code(), Some(0 | 1 | 3)), "the verification of {} failed", folder.display());
            let file: Value = serde_json::from_slice(&output.stdout)?;
            report = file["report"].clone();
            if report["verdict"]["verdict"] != "incomplete" {
                break;
            }
        }
        let checks = report["checks"].as_array().context("a report has checks")?;
        let estimate = |id: &str| checks.iter().find(|c| c["id"] == id).map_or(Value::Null, |c| c["estimate"].clone());
        let failed: Vec<&Value> = checks.iter().filter(|c| c["status"] == "failed").map(|c| &c["id"]).collect();
        Ok(json!({
            "verdict": report["verdict"]["verdict"],
            "level_reached": report["level_reached"],
            "failed": failed,
            "adversary": estimate("adversary"),
            "adversary_shifted": estimate("adversary_shifted"),
            "larger_adversary": estimate("larger_adversary"),
            "larger_adversary_shifted": estimate("larger_adversary_shifted"),
            "completeness": estimate("completeness"),
            "necessity": estimate("necessity"),
        }))
    }

    fn records(&self) -> PathBuf {
        self.out.join("records.jsonl")
    }

    fn recorded(&self, cell: &str) -> Result<Option<Value>> {
        let Ok(text) = fs::read_to_string(self.records()) else { return Ok(None) };
        let records = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(records.into_iter().find(|record| record["cell"] == cell))
    }

    fn record(&self, record: Value) -> Result<()> {
        let path = self.records();
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{record}")
            .and_then(|()| file.sync_all())
            .with_context(|| format!("cannot write {}", path.display()))
    }
}
