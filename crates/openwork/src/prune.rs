//! `openwork prune`: find a circuit.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context, Result, ensure};
use openwork_circuit::{CircuitFile, LearnedMasks, Means, Objective, SearchSettings};
use openwork_data::Tokenizer;
use openwork_extract::{OnStep, PruneError, Search, Settings};
use openwork_model::Model;
use openwork_ops::{Device, DeviceChoice};
use openwork_tasks::{Splits, Task};

use crate::{devices, interrupt, model, progress::Progress, sample, show::say, tasks};

/// Arguments of the command.
#[derive(clap::Args)]
pub struct Args {
    /// The circuit file to write [default: circuits/TASK.json beside the model]
    #[arg(long)]
    out: Option<PathBuf>,
    #[command(flatten)]
    search: SearchArgs,
}

/// What is searched, where, and how hard.
#[derive(clap::Args)]
pub struct SearchArgs {
    /// Model file or folder of a finished run
    model: PathBuf,
    /// Task the circuit is for (see `openwork tasks list`)
    #[arg(long)]
    task: String,
    /// Data the model was trained on, for the means; needed once if the model has no sample of it beside it
    #[arg(long)]
    data: Option<PathBuf>,
    /// The model's tokenizer [default: tokenizer.json beside the model]
    #[arg(long)]
    tokenizer: Option<PathBuf>,
    /// Where masks are learned: cpu, cuda, cuda:N, or auto for a GPU if there is one (`openwork devices` lists them)
    #[arg(long, default_value_t)]
    device: DeviceChoice,
    #[command(flatten)]
    pub budget: Budget,
}

impl SearchArgs {
    /// The task, the model and the device. From now on Ctrl-C ends searches.
    pub fn open(&self) -> Result<(&'static Task, Subject, Device)> {
        let task = tasks::find(&self.task)?;
        let device = devices::open(self.device)?;
        let subject = Subject::open(&self.model, self.tokenizer.as_deref(), self.data.as_deref())?;
        interrupt::listen()?;
        Ok((task, subject, device))
    }
}

/// How hard to search.
#[derive(clap::Args, Clone)]
pub struct Budget {
    /// Loss to reach, in nats per sequence (chance is 0.693)
    #[arg(long, default_value_t = 0.15)]
    pub target_loss: f64,
    /// Independent searches; the circuit with the fewest edges is kept
    #[arg(long, default_value_t = LearnedMasks::default().restarts)]
    pub restarts: usize,
    /// Optimizer steps of each search
    #[arg(long, default_value_t = LearnedMasks::default().steps)]
    pub steps: usize,
    /// Price of a kept node in nats
    #[arg(long, default_value_t = LearnedMasks::default().k_coef)]
    pub k_coef: f64,
    /// Learning rate of the masks
    #[arg(long, default_value_t = LearnedMasks::default().lr)]
    pub lr: f64,
    /// Seed of pairs, masks and batches
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// What masks are learned for: task (the published task loss), kl (to do what the model does) or adversarial (and
    /// to be safe from ablation of a few nodes outside)
    #[arg(long, default_value_t)]
    pub objective: Objective,
}

impl Budget {
    /// As settings of the search.
    pub fn settings(&self) -> Settings {
        let &Budget { target_loss, restarts, steps, k_coef, lr, seed, objective } = self;
        let masks = LearnedMasks { restarts, steps, k_coef, lr, objective, ..LearnedMasks::default() };
        Settings { target_loss, seed, masks }
    }
}

/// A model with what every circuit of it needs.
pub struct Subject {
    /// The model.
    pub model: Model,
    /// SHA-256 of its file.
    pub sha256: String,
    /// Folder it lies in.
    pub dir: PathBuf,
    /// Its tokenizer.
    pub tokenizer: Tokenizer,
    /// Sample of its training data.
    pub sample: sample::Sample,
    /// Means over that sample.
    pub means: Means,
}

impl Subject {
    /// Reads the model that `path` means, its tokenizer and its means, which are taken (and written beside
    /// the model) where they are not there yet.
    pub fn open(path: &Path, tokenizer: Option<&Path>, data: Option<&Path>) -> Result<Self> {
        let found = model::find(path)?;
        let tokenizer = found.tokenizer(tokenizer)?;
        let file = model::file(path)?;
        let sha256 = openwork_tensor::sha256_file(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let (dir, model) = (found.dir, found.model);
        let sample = sample::read(&dir, data, tokenizer.sha256(), model.config.n_ctx)?;
        let means_path = dir.join("means.safetensors");
        let means = match means_path.exists() {
            true => Means::load(&means_path, &model, &sha256)?,
            false => {
                eprintln!(
                    "taking means over {} tokens of training data",
                    crate::show::count(sample.tokens.len() as u64)
                );
                let means = sample.means(&model);
                means.save(&means_path, &sha256)?;
                means
            }
        };
        Ok(Self { model, sha256, dir, tokenizer, sample, means })
    }
}

/// Runs the command.
pub fn run(args: Args) -> Result<ExitCode> {
    let (task, subject, device) = args.search.open()?;
    let budget = &args.search.budget;
    let pairs = tasks::splits(task, &subject.tokenizer, budget.seed)?;
    let Some(circuit) = find(&subject, task.name(), &pairs, &budget.settings(), &device)? else {
        eprintln!("interrupted before the first search was finished: nothing was written");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    };
    let out = args.out.unwrap_or_else(|| path(&subject, task.name()));
    let circuit = annotated(circuit, &out, &subject);
    write(&circuit, &out)?;
    say!("{}", describe(&circuit));
    say!("{}", out.display());
    if interrupt::requested() {
        eprintln!("interrupted: this is the best of the searches that were finished");
        return Ok(ExitCode::from(interrupt::INTERRUPTED));
    }
    Ok(ExitCode::SUCCESS)
}

/// Where the circuit of a task lies by default.
pub fn path(subject: &Subject, task: &str) -> PathBuf {
    subject.dir.join("circuits").join(format!("{task}.json"))
}

/// Writes a circuit, making its folder.
pub fn write(circuit: &CircuitFile, out: &Path) -> Result<()> {
    if let Some(dir) = out.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    Ok(circuit.save(out)?)
}

/// The circuit with the groups and labels of the file that it replaces, as far as their nodes are in it.
fn annotated(found: CircuitFile, replaced: &Path, subject: &Subject) -> CircuitFile {
    match CircuitFile::load(replaced, &subject.model, &subject.sha256) {
        Ok(old) => CircuitFile { circuit: found.circuit.annotated_as(&old.circuit), ..found },
        Err(_) => found,
    }
}

/// Refuses a circuit that leaves out edges between its nodes: commands run circuits by their nodes.
pub fn ensure_all_edges(circuit: &CircuitFile, model: &Model) -> Result<()> {
    ensure!(
        circuit.circuit.has_all_edges(model),
        "the circuit of {} leaves out edges between its nodes, and this command judges nodes with all their edges",
        circuit.task
    );
    Ok(())
}

/// One line on a circuit.
pub fn describe(circuit: &CircuitFile) -> String {
    let size = circuit.circuit.size();
    format!(
        "{}: {} nodes, {} edges, loss {:.3} nats (target {})",
        circuit.task, size.nodes, size.edges, circuit.loss, circuit.target_loss
    )
}

/// Searches the circuit of a task; masks are learned on `device`. `None` where somebody ended the search before it had one.
pub fn find(
    subject: &Subject,
    task: &str,
    pairs: &Splits,
    settings: &Settings,
    device: &Device,
) -> Result<Option<CircuitFile>> {
    let pruned = with_progress(settings, task, None, |progress| {
        let Subject { model, means, .. } = subject;
        Search { model, means, train: &pairs.train, validation: &pairs.selection, settings }.prune(device, progress)
    });
    let pruned = match pruned {
        Err(PruneError::Ended) => return Ok(None),
        pruned => pruned.with_context(|| format!("no circuit for {task}"))?,
    };
    ensure!(
        pruned.reached,
        "no circuit for {task}: the best mask has a loss of {:.3} nats, the target is {}; try more --steps or --restarts",
        pruned.loss,
        settings.target_loss
    );
    Ok(Some(CircuitFile {
        task: task.into(),
        model_sha256: subject.sha256.clone(),
        means_sha256: subject.means.sha256(),
        tokenizer_sha256: subject.tokenizer.sha256().into(),
        circuit: pruned.circuit,
        calibration: pruned.calibration,
        target_loss: settings.target_loss,
        loss: pruned.loss,
        seed: settings.seed,
        // As many searches as it took, which is what controls get, too.
        search: SearchSettings::LearnedMasks(LearnedMasks { restarts: pruned.restarts, ..settings.masks.clone() }),
    }))
}

/// Runs a search that shows its progress under `name`, and ends it on Ctrl-C and once `until` is past.
pub fn with_progress<R>(
    settings: &Settings,
    name: &str,
    until: Option<Instant>,
    search: impl FnOnce(&mut OnStep<'_>) -> R,
) -> R {
    let progress = Progress::new(Some((settings.masks.restarts * settings.masks.steps) as u64), 0);
    search(&mut |p| {
        progress.update((p.restart * settings.masks.steps + p.step + 1) as u64, || {
            format!(
                "{name}: search {}/{}  loss {:.3}  {} nodes open",
                p.restart + 1,
                settings.masks.restarts,
                p.loss,
                p.kept
            )
        });
        match interrupt::requested() || until.is_some_and(|until| Instant::now() > until) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    })
}
