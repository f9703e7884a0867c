//! `cargo xtask reproduce localise`: circuits of a run trained into its model, and controls.

use std::{fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Lab, Options, USAGE};

/// Runs `cargo xtask reproduce localise ARGS`.
pub(super) fn run(args: &[&str]) -> Result<()> {
    let [run, data, out, options @ ..] = args else { bail!("{USAGE}") };
    let mut options = Options { words: options.to_vec() };
    let seeds = options.number("--seeds", 3, 1..=100)?;
    let controls = options.number("--controls", 5, 0..=100)?;
    options.end()?;
    Study { lab: Lab::new(out)?, run: run.into(), data: data.into() }.run(seeds, controls)
}

/// Localisation of every circuit of a run, and its controls: connected random circuits and another task's circuit, at once, twice and three
/// times the steps that the found circuit took with seed 0.
struct Study {
    lab: Lab,
    run: PathBuf,
    data: PathBuf,
}

/// Nodes that a cell trains in.
enum Subject {
    Found,
    Random(u64),
    OfTask(String),
}

impl Study {
    fn run(&self, seeds: u64, controls: u64) -> Result<()> {
        let tasks = self.tasks()?;
        for task in &tasks {
            for seed in 0..seeds {
                self.cell(&format!("found-{task}-{seed}"), task, &Subject::Found, &["--seed", &seed.to_string()])?;
            }
        }
        for task in &tasks {
            let found = self.lab.recorded(&format!("found-{task}-0"))?.context("its cell was run")?;
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
        if self.lab.recorded(name)?.is_some() {
            return Ok(());
        }
        println!("== {name}");
        let (folder, started) = (self.lab.out.join(name), Instant::now());
        let circuit = self.circuit(name, task, subject)?;
        let mut localise = self.lab.localise(&self.run, &[&circuit], &self.data, &folder)?;
        localise.args(options);
        match subject {
            Subject::Found => (),
            Subject::Random(draw) => drop(localise.args(["--random", &draw.to_string()])),
            Subject::OfTask(_) => drop(localise.arg("--control")),
        }
        let status = localise.status().with_context(|| format!("cannot start {}", self.lab.program.display()))?;
        if !status.success() {
            // A circuit that misses its target in the untouched model is a result, an interruption is none.
            ensure!(status.code() == Some(2), "{name} was interrupted");
            return self.lab.record(json!({ "cell": name, "task": task, "localised": false }));
        }
        let verdict = self.lab.verdict(&folder, &folder.join("circuits").join(format!("{task}.json")))?;
        let text = fs::read_to_string(folder.join("localised.json"))?;
        let localised: Value = serde_json::from_str(&text)?;
        self.lab.record(json!({
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
        let path = self.lab.out.join(format!("{name}.json"));
        fs::write(&path, json.to_string()).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }
}
