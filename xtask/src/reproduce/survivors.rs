//! `cargo xtask reproduce survivors`: circuits that are small and survive verification, over model seeds, tasks, methods and claims.
//! Criteria and results: `docs/survivors.md`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::{Lab, Options, Search, USAGE, summarize};

/// Loss in nats per sequence below which a model performs a task; also the target of its circuits, as the judge has it.
const PERFORMED: f64 = 0.15;
/// Target of the searches, stricter than the judge's, and their budget: those of the quickstart.
const SEARCH: [&str; 6] = ["--target-loss", "0.08", "--restarts", "2", "--steps", "300"];
/// Most nodes of a grown circuit: the study's target for untouched models.
const MAX_GROWN: &str = "100";
/// Tasks of `--quick`.
const QUICK: [&str; 2] = ["with_as", "single_double_quote"];

/// Runs `cargo xtask reproduce survivors ARGS`.
pub(super) fn run(args: &[&str]) -> Result<()> {
    let (quickstart, out, options) = match args {
        ["--summary", out] => return summarize("survivors", Path::new(out)),
        [quickstart, out, options @ ..] => (quickstart, out, options),
        _ => bail!("{USAGE}"),
    };
    let mut options = Options { words: options.to_vec() };
    let quick = options.flag("--quick");
    let seeds = options.number("--seeds", if quick { 1 } else { 3 }, 1..=100)?;
    let minutes = options.number("--minutes", if quick { 5 } else { 20 }, 1..=600)?;
    let controls = options.number("--controls", if quick { 1 } else { 5 }, 0..=100)?;
    let tasks: Vec<String> = match options.take("--tasks")? {
        Some(list) => list.split(',').map(str::to_owned).collect(),
        None if quick => QUICK.map(str::to_owned).to_vec(),
        None => vec![],
    };
    options.end()?;
    let lab = Lab::new(out)?;
    let study = Study { lab, quickstart: quickstart.into(), limit: Duration::from_secs(60 * minutes) };
    study.run(seeds, tasks, controls)?;
    summarize("survivors", &study.lab.out)
}

/// The study: models of several seeds of the quickstart's recipe, and every task that they perform.
struct Study {
    lab: Lab,
    quickstart: PathBuf,
    /// Time that one search may take.
    limit: Duration,
}

/// One row of the study: a task in a model.
struct Subject<'a> {
    seed: u64,
    model: &'a Path,
    task: &'a str,
}

impl Subject<'_> {
    fn cell(&self, kind: &str) -> String {
        format!("{kind}-{}-{}", self.task, self.seed)
    }
}

impl Study {
    fn run(&self, seeds: u64, tasks: Vec<String>, controls: u64) -> Result<()> {
        let models = (0..seeds).map(|seed| self.model(seed)).collect::<Result<Vec<_>>>()?;
        let performed = (0..seeds).map(|seed| self.performed(seed)).collect::<Result<Vec<_>>>()?;
        let tasks = match tasks.is_empty() {
            true => self.tasks()?,
            false => tasks,
        };
        let subjects = || {
            tasks.iter().flat_map(|task| (0..seeds).map(move |seed| (task, seed))).filter_map(|(task, seed)| {
                let model = &models[seed as usize];
                performed[seed as usize].contains(task).then_some(Subject { seed, model, task })
            })
        };
        for subject in subjects() {
            if self.masks(&subject)? {
                self.localised(&subject)?;
                self.grown(&subject, "contrast")?;
            }
        }
        for seed in 0..seeds {
            self.together(&subjects().filter(|subject| subject.seed == seed).collect::<Vec<_>>())?;
        }
        // The stronger claim, and the controls of what passed, are the longest part: last.
        for subject in subjects() {
            if self.circuit(&subject, "masks").exists() {
                self.grown(&subject, "answer")?;
            }
        }
        for times in 1..=3 {
            for subject in subjects() {
                self.controls(&subject, times, controls)?;
            }
        }
        Ok(())
    }

    /// The finished run of a seed. Seed 0 is the quickstart's own.
    fn model(&self, seed: u64) -> Result<PathBuf> {
        let first = self.quickstart.join("run");
        if seed == 0 {
            ensure!(
                first.join("sample").exists(),
                "{} is not the folder of a finished quickstart",
                self.quickstart.display()
            );
            return Ok(first);
        }
        let folder = self.lab.out.join(format!("model-{seed}"));
        println!("== model-{seed}");
        let text = fs::read_to_string(first.join("recipe.toml"))?;
        ensure!(text.matches("\nseed = 0\n").count() == 1, "the recipe of the quickstart has seed 0");
        let path = self.lab.out.join(format!("recipe-{seed}.toml"));
        fs::write(&path, text.replace("\nseed = 0\n", &format!("\nseed = {seed}\n")))?;
        let (data, tokenizer) = (self.quickstart.join("data"), self.quickstart.join("tokenizer.json"));
        self.lab.train(&path, &data, &tokenizer, &folder)?;
        Ok(folder)
    }

    /// Names of the tasks that the model of a seed performs; recorded once.
    fn performed(&self, seed: u64) -> Result<Vec<String>> {
        let cell = format!("model-{seed}");
        if self.lab.recorded(&cell)?.is_none() {
            let scores = self.lab.scores(&self.model(seed)?)?;
            self.lab.record(json!({ "cell": cell, "kind": "model", "seed": seed, "scores": scores }))?;
        }
        let record = self.lab.recorded(&cell)?.context("it was just recorded")?;
        let tasks = record["scores"]["tasks"].as_array().context("scores have tasks")?;
        let performed = tasks.iter().filter(|task| task["fresh"]["loss_nats"].as_f64().is_some_and(|l| l <= PERFORMED));
        Ok(performed.filter_map(|task| task["task"].as_str().map(str::to_owned)).collect())
    }

    /// Tasks in the program's order.
    fn tasks(&self) -> Result<Vec<String>> {
        let record = self.lab.recorded("model-0")?.context("its tasks were measured")?;
        let tasks = record["scores"]["tasks"].as_array().context("scores have tasks")?;
        Ok(tasks.iter().filter_map(|task| task["task"].as_str().map(str::to_owned)).collect())
    }

    fn circuit(&self, subject: &Subject<'_>, kind: &str) -> PathBuf {
        self.lab.out.join(format!("{}.json", subject.cell(kind)))
    }

    /// Searches with learned masks, and judges the circuit as either claim. True if there is a circuit.
    fn masks(&self, subject: &Subject<'_>) -> Result<bool> {
        let circuit = self.circuit(subject, "masks");
        let prune = |claim: &str, path: &Path| {
            let mut prune = self.prune(subject, claim, path);
            prune.args(SEARCH);
            prune
        };
        if !self.judged(subject, "masks", "contrast", &circuit, None, self.by(prune("contrast", &circuit)))? {
            return Ok(false);
        }
        // The search is the same whatever the claim: the file says another one.
        let answer = self.circuit(subject, "masks-answer");
        if !answer.exists() {
            let mut json: Value = serde_json::from_str(&fs::read_to_string(&circuit)?)?;
            json["claim"] = "answer".into();
            fs::write(&answer, json.to_string())?;
        }
        // The answer is the stronger claim.
        let contrast = self.lab.recorded(&subject.cell("masks"))?.context("it was judged")?;
        if contrast["verdict"]["verdict"] != "refuted" {
            self.judge(subject, "masks-answer", "answer", &answer)?;
        }
        Ok(true)
    }

    /// Grows the masks' circuit.
    fn grown(&self, subject: &Subject<'_>, claim: &str) -> Result<()> {
        let kind = format!("grown-{claim}");
        let circuit = self.circuit(subject, &kind);
        let mut prune = self.prune(subject, claim, &circuit);
        prune.args(["--method", "grow", "--max-nodes", MAX_GROWN, "--from"]).arg(self.circuit(subject, "masks"));
        self.judged(subject, &kind, claim, &circuit, None, self.by(prune))?;
        Ok(())
    }

    fn prune(&self, subject: &Subject<'_>, claim: &str, out: &Path) -> Command {
        let mut prune = self.lab.command("prune");
        prune.arg(subject.model).args(["--task", subject.task, "--claim", claim, "--force", "--out"]).arg(out);
        prune
    }

    /// Trains the masks' circuit in, and judges it as an answer.
    fn localised(&self, subject: &Subject<'_>) -> Result<()> {
        self.trained_in(subject, "localised", &self.circuit(subject, "masks-answer"), &[])
    }

    /// Trains the masks' circuits of all tasks of a seed into one model, and judges each as an answer.
    fn together(&self, subjects: &[Subject<'_>]) -> Result<()> {
        let subjects: Vec<_> =
            subjects.iter().filter(|subject| self.circuit(subject, "masks-answer").exists()).collect();
        let [first, _, ..] = subjects[..] else { return Ok(()) };
        let folder = self.lab.out.join(format!("together-{}", first.seed));
        let trained = |task: &str| folder.join("circuits").join(format!("{task}.json"));
        let mut failed = None;
        let open = subjects.iter().map(|subject| Ok(self.lab.recorded(&subject.cell("together"))?.is_none()));
        let open = open.collect::<Result<Vec<bool>>>()?.contains(&true);
        // A study that ended between the records of a failed localisation makes it again.
        if open && !folder.join("localised.json").exists() {
            println!("== together-{}", first.seed);
            let circuits: Vec<_> = subjects.iter().map(|subject| self.circuit(subject, "masks-answer")).collect();
            let circuits: Vec<_> = circuits.iter().map(PathBuf::as_path).collect();
            let localise = self.lab.localise(first.model, &circuits, &self.quickstart.join("data"), &folder)?;
            failed = Some(self.lab.search(localise, self.limit)?).filter(|end| !matches!(end, Search::Done));
        }
        for subject in subjects {
            let made = failed.clone().unwrap_or(Search::Done);
            self.judged(subject, "together", "answer", &trained(subject.task), Some(&folder), || Ok(made))?;
        }
        Ok(())
    }

    /// Connected random circuits in the place of a localised one that is STRONG, at `times` its steps.
    fn controls(&self, subject: &Subject<'_>, times: u64, draws: u64) -> Result<()> {
        let Some(found) = self.lab.recorded(&subject.cell("localised"))? else { return Ok(()) };
        let Some(steps) = found["phases"][0].as_u64().filter(|_| found["verdict"]["verdict"] == "strong") else {
            return Ok(());
        };
        let steps = (steps * times).to_string();
        for draw in 1..=draws {
            let draw = draw.to_string();
            // A control gets its steps whatever it looks like on the way.
            let options = ["--random", &draw, "--steps", &steps, "--agreement", "1"];
            let kind = format!("random{draw}x{times}");
            self.trained_in(subject, &kind, &self.circuit(subject, "masks-answer"), &options)?;
        }
        Ok(())
    }

    fn trained_in(&self, subject: &Subject<'_>, kind: &str, circuit: &Path, options: &[&str]) -> Result<()> {
        if self.lab.recorded(&subject.cell(kind))?.is_some() {
            return Ok(());
        }
        let folder = self.lab.out.join(subject.cell(kind));
        let mut localise = self.lab.localise(subject.model, &[circuit], &self.quickstart.join("data"), &folder)?;
        localise.args(options);
        let trained = folder.join("circuits").join(format!("{}.json", subject.task));
        self.judged(subject, kind, "answer", &trained, Some(&folder), self.by(localise))?;
        Ok(())
    }

    /// A search by the program within the time limit.
    fn by(&self, search: Command) -> impl FnOnce() -> Result<Search> + '_ {
        || self.lab.search(search, self.limit)
    }

    /// Runs a search, unless its cell is recorded, and judges what it finds, in the subject's model or in the localised one that it makes.
    /// True if there is a circuit.
    fn judged(
        &self,
        subject: &Subject<'_>,
        kind: &str,
        claim: &str,
        circuit: &Path,
        localised: Option<&Path>,
        search: impl FnOnce() -> Result<Search>,
    ) -> Result<bool> {
        let cell = subject.cell(kind);
        if let Some(record) = self.lab.recorded(&cell)? {
            return Ok(record["outcome"] == "judged");
        }
        println!("== {cell}");
        let started = Instant::now();
        let outcome = search()?;
        let seconds = started.elapsed().as_secs();
        let mut record = json!({
            "cell": cell, "kind": kind, "task": subject.task, "seed": subject.seed, "claim": claim, "search_seconds": seconds,
        });
        if outcome.entered(&mut record) {
            record["outcome"] = "judged".into();
            if let Some(folder) = localised {
                let file: Value = serde_json::from_str(&fs::read_to_string(folder.join("localised.json"))?)?;
                for key in ["phases", "text", "tasks", "circuits", "original_sha256", "model_sha256"] {
                    record[key] = file[key].clone();
                }
            }
            self.add_verdict(&mut record, localised.unwrap_or(subject.model), circuit)?;
        }
        self.lab.record(record.clone())?;
        Ok(record["outcome"] == "judged")
    }

    /// Judges a circuit that needs no search, unless its cell is recorded.
    fn judge(&self, subject: &Subject<'_>, kind: &str, claim: &str, circuit: &Path) -> Result<()> {
        let cell = subject.cell(kind);
        if self.lab.recorded(&cell)?.is_some() {
            return Ok(());
        }
        println!("== {cell}");
        let mut record = json!({
            "cell": cell, "kind": kind, "task": subject.task, "seed": subject.seed, "claim": claim, "outcome": "judged",
        });
        self.add_verdict(&mut record, subject.model, circuit)?;
        self.lab.record(record)
    }

    fn add_verdict(&self, record: &mut Value, model: &Path, circuit: &Path) -> Result<()> {
        let started = Instant::now();
        record["verdict"] = self.lab.verdict(model, circuit)?;
        record["verdict_seconds"] = started.elapsed().as_secs().into();
        let file: Value = serde_json::from_str(&fs::read_to_string(circuit)?)?;
        record["loss_nats"] = file["loss_nats"].clone();
        record["model_sha256"] = file["model_sha256"].clone();
        Ok(())
    }
}
