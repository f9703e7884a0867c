//! `cargo xtask reproduce frontier`: sizes of circuits against validation loss, of sparse models and of dense models whose losses bracket
//! theirs. Criteria and results: `docs/frontier.md`.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::{Lab, Options, USAGE, summarize};

/// Targets of the searches, nats per sequence (Gao et al. 2025, figure 2, has these and three more below).
const TARGETS: [&str; 4] = ["0.5", "0.35", "0.15", "0.05"];
/// Target of the baselines, and of the circuits that are judged: the paper's.
const JUDGED: &str = "0.15";
/// Budget of a search: one restart a seed.
const SEARCH: [&str; 4] = ["--restarts", "1", "--steps", "300"];
/// Scores whose rankings are the baselines.
const BASELINES: [&str; 2] = ["gradient", "random"];
/// Width at which `pfrac` is 1 for a dense model.
const BASE_WIDTH: u64 = 32;

/// Runs `cargo xtask reproduce frontier ARGS`.
pub(super) fn run(args: &[&str]) -> Result<()> {
    let (data, tokenizer, out, options) = match args {
        ["--summary", out] => return summarize("frontier", Path::new(out)),
        [data, tokenizer, out, options @ ..] => (data, tokenizer, out, options),
        _ => bail!("{USAGE}"),
    };
    let mut options = Options { words: options.to_vec() };
    let quick = options.flag("--quick");
    let steps = options.number("--steps", if quick { 500 } else { 4000 }, 40..=10_000_000)?;
    let seeds = options.number("--seeds", if quick { 1 } else { 3 }, 1..=100)?;
    let judged = options.number("--judged", 1, 0..=20)?;
    let minutes = options.number("--minutes", 5, 1..=600)?;
    let tasks = options.take("--tasks")?.map(|list| list.split(',').map(str::to_owned).collect());
    options.end()?;
    let lab = Lab::new(out)?;
    let limit = Duration::from_secs(60 * minutes);
    let study = Study { lab, data: data.into(), tokenizer: tokenizer.into(), steps, seeds, tasks, limit };
    study.run(if quick { &QUICK } else { &FULL }, judged)?;
    summarize("frontier", &study.lab.out)
}

/// Shape of a model. Sparse ones of different width have equal numbers of nonzeros where their `pfrac` is equal.
struct Shape {
    width: u64,
    /// Nonzeros of the matrices, relative to a dense model of `BASE_WIDTH`; dense without.
    pfrac: Option<f64>,
}

const fn sparse(width: u64, pfrac: f64) -> Shape {
    Shape { width, pfrac: Some(pfrac) }
}

const fn dense(width: u64) -> Shape {
    Shape { width, pfrac: None }
}

/// Two total sizes with three numbers of nonzeros each, and dense models around them.
const FULL: [Shape; 11] = [
    sparse(128, 0.5),
    dense(32),
    dense(16),
    dense(64),
    sparse(64, 0.5),
    sparse(128, 1.0),
    sparse(128, 0.25),
    sparse(64, 1.0),
    sparse(64, 0.25),
    dense(8),
    dense(128),
];
const QUICK: [Shape; 3] = [sparse(64, 0.5), dense(8), dense(32)];

impl Shape {
    fn name(&self) -> String {
        match self.pfrac {
            Some(pfrac) => format!("sparse-{}-{pfrac}", self.width),
            None => format!("dense-{}", self.width),
        }
    }

    /// Recipe of `python-small` in this shape. Dense models have neither sparse weights nor sparse activations.
    fn recipe(&self, steps: u64) -> String {
        let Self { width, pfrac } = self;
        // The trainer wants a whole factor; narrower models than the base are dense at a factor of 1.
        let expansion = (width / BASE_WIDTH).max(1);
        let dense = (expansion * expansion) as f64;
        let every = (steps / 20).max(1);
        format!(
            r#"seed = 0

[model]
vocab_size = 2048
n_ctx = 128
n_layer = 2
n_head = {heads}
d_head = {head}
d_model = {width}
d_mlp = {mlp}
norm = "rms"
linear_bias = true
activation = "gelu"
act_density = {act_density:?}
act_sites = "all"
positions = "none"
position_channels = 0
sink = true
bigram = "learned"
tied_unembed = false

[batch]
sequences = 64
chunk_sequences = 2
lanes = 4

[optimizer]
steps = {steps}
peak_lr = 0.05
warmup_fraction = 0.05
beta1 = 0.9
beta2 = 0.95
eps = 0.1
weight_decay = 0.1
sharkfin = true

[sparsity]
expansion_factor = {expansion}
pfrac = {pfrac:?}
anneal = "cubic"
anneal_start = 0.01
anneal_stop = 0.5
min_per_unit = 2
gradient = "exact"
refresh_every = 0
regrow = 0.0
sparse_biases = false

[run]
validation_every = {every}
validation_sequences = 256
checkpoint_every = {every}
"#,
            heads = (width / 16).max(1),
            head = width.min(&16),
            mlp = 4 * width,
            act_density = if pfrac.is_some() { 0.25 } else { 1.0 },
            pfrac = pfrac.unwrap_or(dense),
        )
    }
}

/// The study. All models see the same tokens; all searches have the same budget.
struct Study {
    lab: Lab,
    data: PathBuf,
    tokenizer: PathBuf,
    steps: u64,
    seeds: u64,
    tasks: Option<Vec<String>>,
    limit: Duration,
}

/// Task in a model, and the loss that a circuit of it has to reach.
struct Subject<'a> {
    /// Name of the model's shape.
    shape: &'a str,
    model: &'a Path,
    task: &'a str,
    target: &'a str,
}

impl Subject<'_> {
    fn cell(&self, kind: &str, seed: u64) -> String {
        let Self { shape, task, target, .. } = self;
        format!("{kind}-{shape}-{task}-{target}-{seed}")
    }
}

impl Study {
    fn run(&self, shapes: &[Shape], judged: u64) -> Result<()> {
        for shape in shapes {
            let (model, scores) = self.model(shape)?;
            let name = shape.name();
            let mut left = judged;
            for target in TARGETS {
                for task in self.performed(&scores, target) {
                    let subject = Subject { shape: &name, model: &model, task: &task, target };
                    for seed in 0..self.seeds {
                        let number = seed.to_string();
                        let options = [&SEARCH[..], &["--seed", &number]].concat();
                        self.search(&subject, "masks", seed, &options)?;
                    }
                    if target != JUDGED {
                        continue;
                    }
                    for score in BASELINES {
                        self.search(&subject, score, 0, &["--method", "scores", "--score", score])?;
                    }
                    if left > 0 && self.judge(&subject)? {
                        left -= 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// The trained model of a shape, and its scores on the tasks; recorded once.
    fn model(&self, shape: &Shape) -> Result<(PathBuf, Value)> {
        let (cell, folder) = (format!("model-{}", shape.name()), self.lab.out.join(shape.name()));
        if let Some(record) = self.lab.recorded(&cell)? {
            return Ok((folder, record["scores"].clone()));
        }
        println!("== {cell}");
        let recipe = self.lab.out.join(format!("{}.toml", shape.name()));
        fs::write(&recipe, shape.recipe(self.steps))?;
        self.lab.train(&recipe, &self.data, &self.tokenizer, &folder)?;
        let log = fs::read_to_string(folder.join("log.jsonl"))?;
        let last = log.lines().rfind(|line| line.contains("\"validation_loss\""));
        let last: Value = serde_json::from_str(last.context("the run has a validation loss")?)?;
        let scores = self.lab.scores(&folder)?;
        self.lab.record(json!({
            "cell": cell, "kind": "model", "model": shape.name(), "width": shape.width, "pfrac": shape.pfrac,
            "tokens": last["tokens"], "validation_nats": last["validation_loss"], "nonzeros": last["l0"], "scores": scores,
        }))?;
        Ok((folder, scores))
    }

    /// Tasks that a model performs better than a target, on fresh pairs; of those that were asked for.
    fn performed(&self, scores: &Value, target: &str) -> Vec<String> {
        let target: f64 = target.parse().expect("targets are numbers");
        let asked = |task: &str| self.tasks.as_ref().is_none_or(|tasks| tasks.iter().any(|asked| asked == task));
        let tasks = scores["tasks"].as_array().into_iter().flatten();
        let performed = tasks.filter(|task| task["fresh"]["loss_nats"].as_f64().is_some_and(|loss| loss < target));
        performed.filter_map(|task| task["task"].as_str()).filter(|task| asked(task)).map(str::to_owned).collect()
    }

    fn circuit(&self, cell: &str) -> PathBuf {
        self.lab.out.join("circuits").join(format!("{cell}.json"))
    }

    /// Runs a search, unless its cell is recorded.
    fn search(&self, subject: &Subject<'_>, kind: &str, seed: u64, options: &[&str]) -> Result<()> {
        let cell = subject.cell(kind, seed);
        if self.lab.recorded(&cell)?.is_some() {
            return Ok(());
        }
        println!("== {cell}");
        let &Subject { shape, model, task, target } = subject;
        let circuit = self.circuit(&cell);
        fs::create_dir_all(self.lab.out.join("circuits"))?;
        let mut prune = self.lab.command("prune");
        prune
            .arg(model)
            .args(["--task", task, "--target-loss", target, "--force", "--out"])
            .arg(&circuit)
            .args(options);
        let started = Instant::now();
        let outcome = self.lab.search(prune, self.limit)?;
        let mut record = json!({
            "cell": cell, "kind": kind, "model": shape, "task": task, "target": target, "seed": seed,
            "seconds": started.elapsed().as_secs_f64(),
        });
        if outcome.entered(&mut record) {
            let file: Value = serde_json::from_str(&fs::read_to_string(&circuit)?)?;
            let count = |list: &Value| list.as_array().map_or(0, Vec::len);
            let nodes: usize = file["nodes"].as_object().context("a circuit has nodes")?.values().map(count).sum();
            record["outcome"] = "found".into();
            record["nodes"] = nodes.into();
            record["edges"] = count(&file["edges"]).into();
            record["loss_nats"] = file["loss_nats"].clone();
        }
        self.lab.record(record)
    }

    /// Judges the circuit of the first seed at level 4, with searches on nonsense labels and random weights whatever its verdict. True if
    /// there is such a circuit.
    fn judge(&self, subject: &Subject<'_>) -> Result<bool> {
        let circuit = self.circuit(&subject.cell("masks", 0));
        if !circuit.exists() {
            return Ok(false);
        }
        let cell = subject.cell("verdict", 0);
        if self.lab.recorded(&cell)?.is_none() {
            println!("== {cell}");
            let started = Instant::now();
            let file = self.lab.verify(subject.model, &circuit, &["--level", "4"])?;
            self.lab.record(json!({
                "cell": cell, "kind": "verdict", "model": subject.shape, "task": subject.task, "controls": file["controls"],
                "verdict": super::summary(&file["report"])?, "seconds": started.elapsed().as_secs(),
            }))?;
        }
        Ok(true)
    }
}
