//! Localisation of circuits of a run: the localised model in a folder of its own, with what it cost.

use std::{
    borrow::Cow,
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use openwork_circuit::{
    Circuit, CircuitFile, Claim, Localisation, Localised as LocalisedSearch, NodeSet, NodeSpace, SearchSettings, edges,
};
use openwork_data::TokenizerError;
use openwork_extract::calibrate;
use openwork_localise::{
    Goal, Localised, LocalisedGoal, Localiser, NotInTheModel, Progress, Standing, check_goal, connected_random,
};
use openwork_model::{Model, NoTap, SaveError, Tokens};
use openwork_tasks::{Pair, Split};
use openwork_tensor::{ShardError, TokenShards};
use openwork_train::{Recipe, Windows};
use rayon::prelude::*;
use serde::Serialize;

use crate::{
    Beside, FindRecipeError, Project, ProjectError, Sample, SampleError, TOKENIZER_KEY, TRAINED_CONTEXT_KEY, TaskScore,
    TaskScoreError, find_recipe, find_task, sample::seed_of_run, task_scores,
};

/// Metadata key of the model that a localised model was before, by hash.
pub const LOCALISED_FROM_KEY: &str = "localised_from_sha256";

/// Circuits to train in, and where everything lies.
pub struct LocaliseRequest<'a> {
    /// Circuits of the project.
    pub circuits: &'a [CircuitFile],
    /// Corpus that the model was trained on.
    pub data: &'a Path,
    /// Folder of the localised model; it must not be there yet.
    pub out: &'a Path,
    /// Settings.
    pub settings: &'a Localisation,
    /// Control: circuits need not perform their tasks in the untouched model.
    pub control: bool,
    /// Control: trains connected random circuits of the same shape instead, drawn with this seed.
    pub random: Option<u64>,
    /// Rounds the bigram table to half precision before everything else, which halves the file of a small model.
    pub half_bigram: bool,
}

/// State after a step.
#[derive(Clone, Copy, Debug)]
pub struct LocaliseStep<'a> {
    /// True in the twin, which makes the same steps without the circuits.
    pub twin: bool,
    /// Names of the tasks.
    pub tasks: &'a [String],
    /// State of the training.
    pub progress: Progress<'a>,
}

/// Observer of a localisation; its `Break` ends it, and nothing is written.
pub type OnLocaliseStep<'a> = dyn FnMut(LocaliseStep<'_>) -> ControlFlow<()> + 'a;

/// A localised model in its folder, and what was measured beside it. Written there as `localised.json`.
#[derive(Clone, Debug, Serialize)]
pub struct LocalisedRun {
    format: &'static str,
    /// Hash of the model before.
    pub original_sha256: String,
    /// Hash of the localised model.
    pub model_sha256: String,
    /// Settings.
    pub settings: Localisation,
    /// Steps until the circuits stood, and after idle nodes were dropped.
    pub phases: [u64; 2],
    /// True of a control, whose circuits need not perform their tasks in the model before.
    pub control: bool,
    /// Seed of the random circuits, where these were trained in.
    pub random: Option<u64>,
    /// True if the bigram table was rounded to half precision first.
    pub half_bigram: bool,
    /// The circuits.
    pub circuits: Vec<LocalisedCircuit>,
    /// Losses on text.
    pub text: TextCosts,
    /// Every task that the model before performs.
    pub tasks: Vec<TaskChange>,
    /// Recipe of the model before.
    pub recipe: String,
}

/// A circuit that was trained in.
#[derive(Clone, Debug, Serialize)]
pub struct LocalisedCircuit {
    /// True if in the end it holds what the settings ask for under every intervention of the training.
    pub stands: bool,
    /// Task.
    pub task: String,
    /// Its file.
    #[serde(skip)]
    pub path: PathBuf,
    /// Nodes before and after idle ones were dropped.
    pub nodes: [usize; 2],
    /// Edges in the end.
    pub edges: usize,
    /// Task loss of the circuit in the model before, nats per sequence.
    pub original_loss: f64,
    /// Task loss of the circuit in the localised model.
    pub loss: f64,
    /// Relative change of the circuit's own weights, ‖w − w₀‖ / ‖w₀‖.
    pub edge_change: f64,
    /// States before, on the way and after, by steps done.
    pub standings: Vec<(u64, Standing)>,
}

/// Cross-entropies on validation text, nats per token.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TextCosts {
    /// Tokens predicted.
    pub tokens: usize,
    /// The model before.
    pub original: f64,
    /// The localised model.
    pub localised: f64,
    /// The twin: the same steps without the circuits.
    pub twin: f64,
    /// KL(original ‖ localised), nats per token.
    pub kl: f64,
}

/// Scores on a task before and after, on fresh pairs and on held-out templates.
#[derive(Clone, Debug, Serialize)]
pub struct TaskChange {
    /// The task.
    pub task: String,
    /// True if a circuit of it was trained in.
    pub localised: bool,
    /// Loss before, nats per sequence.
    pub before: [f64; 2],
    /// Loss after.
    pub after: [f64; 2],
    /// Loss of the twin.
    pub twin: [f64; 2],
}

/// Reason that nothing was localised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocaliseError {
    /// The folder has no recipe.
    #[error("localisation goes on with the recipe of the run, and there is none in {}", dir.display())]
    NoRecipe {
        /// The folder.
        dir: PathBuf,
        /// The fault.
        source: Box<FindRecipeError>,
    },
    /// The recipe is that of another shape of model.
    #[error("the recipe in {} is of a model of another shape", dir.display())]
    OtherRecipe {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder to write is there.
    #[error("{} is there already; name a folder that is not", out.display())]
    Taken {
        /// The folder.
        out: PathBuf,
    },
    /// The folder to write lies inside the run.
    #[error("{} lies inside {}, the folder of the model before; name a folder beside it", out.display(), dir.display())]
    Inside {
        /// The folder to write.
        out: PathBuf,
        /// Folder of the model before.
        dir: PathBuf,
    },
    /// The folder that the new one is to lie in is not there.
    #[error("{} is to lie in {}, and there is no such folder: make it first", out.display(), parent.display())]
    NoParent {
        /// The folder to write.
        out: PathBuf,
        /// The folder that is missing.
        parent: PathBuf,
    },
    /// Two circuits of one task.
    #[error("two circuits are of the task {task}")]
    SameTask {
        /// The task.
        task: String,
    },
    /// No circuit, or one without nodes.
    #[error("{0}")]
    Nothing(&'static str),
    /// The precondition fails.
    #[error(transparent)]
    NotInTheModel(#[from] NotInTheModel),
    /// A site has too few nodes for a random circuit.
    #[error("the model has too few nodes outside the circuit of {task} for a random one of its shape")]
    NoRandomCircuit {
        /// The task.
        task: String,
    },
    /// The text is shorter than a window.
    #[error("the {part} shards in {} are shorter than a window of {n_ctx} tokens", data.display())]
    TooShort {
        /// Folder of the data.
        data: PathBuf,
        /// Shards.
        part: &'static str,
        /// Tokens of a window.
        n_ctx: usize,
    },
    /// Shards.
    #[error(transparent)]
    Shards(#[from] ShardError),
    /// The project, its circuits or pairs.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// Scores of a task.
    #[error("task {task}")]
    Scores {
        /// The task.
        task: String,
        /// The fault.
        source: TaskScoreError,
    },
    /// The sample of the localised model.
    #[error(transparent)]
    Sample(#[from] SampleError),
    /// The tokenizer of the localised model.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The model file.
    #[error(transparent)]
    Save(#[from] SaveError),
    /// Another file or the folder.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

/// Loss on a task up to which the model performs it, nats per sequence: such tasks are preserved and listed.
const PERFORMED: f64 = 0.35;
/// Pairs of a preserved task.
const PRESERVED: usize = 96;
/// Pairs of a split in the table of tasks.
const SCORED: usize = 96;
/// Validation windows of the costs.
const VALIDATION: usize = 256;
/// Windows that are measured before somebody is asked whether to go on.
const WINDOWS_AT_ONCE: usize = 16;

/// Trains circuits of `project` into its model, makes the twin, and writes the localised model with its circuits and costs to `out`. `None`
/// where `on_step` ended it, or `compares`, which is asked between the measurements after training: then nothing is written.
///
/// # Errors
/// When the run has no recipe, the data are not those of the run, a circuit misses its target in the untouched model, or a file cannot
/// be written, or `out` is there already, lies inside the run, or in a folder that is not there.
pub fn localise(
    project: &Project,
    request: &LocaliseRequest<'_>,
    on_step: &mut OnLocaliseStep<'_>,
    compares: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<LocalisedRun>, LocaliseError> {
    check_out(project, request.out)?;
    let recipe = recipe_of(project)?;
    let mut original = Cow::Borrowed(&project.model);
    if request.half_bigram {
        original.to_mut().round_bigram();
    }
    let original = &*original;
    let mut text = Text::open(project, request, &recipe)?;
    let goals = goals(project, request)?;
    let target = request.settings.target_loss;
    let original_losses = goals.iter().map(|goal| {
        match check_goal(original, &project.means, goal, target) {
            // A control shows what the precondition is there for.
            Err(missed) if request.control || request.random.is_some() => Ok(missed.loss),
            checked => Ok(checked?),
        }
    });
    let original_losses = original_losses.collect::<Result<Vec<f64>, LocaliseError>>()?;
    let names: Vec<String> = goals.iter().map(|goal| goal.task.clone()).collect();
    let tasks = performed(project, original)?;
    let preserved = preserved(project, &tasks, &names)?;
    let localiser = Localiser {
        original,
        means: &project.means,
        sample: &project.sample.tokens,
        seq_len: project.sample.n_ctx,
        goals: &goals,
        preserved: &preserved,
        schedule: &recipe.schedule,
        lanes: (recipe.lanes, recipe.chunk_sequences),
        settings: request.settings,
    };
    let tasks_of = &names;
    let mut on_own = |progress: Progress<'_>| on_step(LocaliseStep { twin: false, tasks: tasks_of, progress });
    let Ok(localised) = localiser.run(&mut |at| text.batch(at), &mut on_own)? else { return Ok(None) };
    let mut on_twin = |progress: Progress<'_>| on_step(LocaliseStep { twin: true, tasks: tasks_of, progress });
    let Ok(twin) = localiser.twin(localised.phases, &mut |at| text.batch(at), &mut on_twin)? else { return Ok(None) };
    let models = [original, &localised.model, &twin];
    let Some(costs) = text.costs(models, compares)? else { return Ok(None) };
    let Some(tasks) = changes(project, &tasks, &names, [&localised.model, &twin], compares)? else { return Ok(None) };
    let mut run = LocalisedRun {
        format: "openwork-localised 1",
        original_sha256: project.model_sha256.clone(),
        model_sha256: String::new(),
        settings: request.settings.clone(),
        phases: localised.phases,
        control: request.control || request.random.is_some(),
        random: request.random,
        half_bigram: request.half_bigram,
        circuits: vec![],
        text: costs,
        tasks,
        recipe: recipe.text.clone(),
    };
    write(project, request, (&goals, &original_losses), &localised, &mut run)?;
    Ok(Some(run))
}

/// Checks the place of the localised model before hours of work.
fn check_out(project: &Project, out: &Path) -> Result<(), LocaliseError> {
    let owned = || out.to_owned();
    if out.exists() {
        return Err(LocaliseError::Taken { out: owned() });
    }
    let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return Err(LocaliseError::NoParent { out: owned(), parent: parent.to_owned() });
    }
    let dir = if project.dir.as_os_str().is_empty() { Path::new(".") } else { &project.dir };
    let place = |path: &Path| path.canonicalize().map_err(failed(path));
    match place(parent)?.starts_with(place(dir)?) {
        true => Err(LocaliseError::Inside { out: owned(), dir: dir.to_owned() }),
        false => Ok(()),
    }
}

/// The recipe of the run in the project's folder.
fn recipe_of(project: &Project) -> Result<Recipe, LocaliseError> {
    let dir = project.dir.clone();
    let recipe = find_recipe(dir.join("recipe.toml"))
        .map_err(|source| LocaliseError::NoRecipe { dir: dir.clone(), source: Box::new(source) })?;
    match recipe.config == project.model.config {
        true => Ok(recipe),
        false => Err(LocaliseError::OtherRecipe { dir }),
    }
}

/// Goals: circuits, or random ones in their places, with the pairs that they were found on. The judge's pairs are others.
fn goals(project: &Project, request: &LocaliseRequest<'_>) -> Result<Vec<Goal>, LocaliseError> {
    let mut goals: Vec<Goal> = vec![];
    let space = NodeSpace::new(&project.model.config);
    let union = request.circuits.iter().flat_map(|c| c.circuit.nodes().numbers().collect::<Vec<_>>());
    let union = NodeSet::of(space, union);
    for circuit in request.circuits {
        let task = circuit.task.clone();
        if goals.iter().any(|goal| goal.task == task) {
            return Err(LocaliseError::SameTask { task });
        }
        project.check_means(circuit)?;
        let splits = project.splits_of(circuit)?;
        let nodes = circuit.circuit.nodes();
        if nodes.is_empty() || nodes.complement().is_empty() {
            return Err(LocaliseError::Nothing("a circuit of no nodes or of all has nothing to be trained in"));
        }
        let nodes = match request.random {
            None => nodes.clone(),
            Some(seed) => connected_random(&project.model, nodes, &union, seed)
                .ok_or_else(|| LocaliseError::NoRandomCircuit { task: task.clone() })?,
        };
        goals.push(Goal { task, nodes, train: splits.train, selection: splits.selection });
    }
    match goals.is_empty() {
        true => Err(LocaliseError::Nothing("there is no circuit to train in")),
        false => Ok(goals),
    }
}

/// Tasks that the model performs, with its scores; those that the tokenizer cannot say are none.
fn performed(project: &Project, model: &Model) -> Result<Vec<(&'static str, [TaskScore; 2])>, LocaliseError> {
    let mut found = vec![];
    for task in openwork_tasks::all() {
        match task_scores(model, &project.tokenizer, task, SCORED, 0) {
            Ok(scores) if scores[0].loss <= PERFORMED => found.push((task.name(), scores)),
            Ok(_) | Err(TaskScoreError::Pairs(_)) => (),
            Err(source) => return Err(LocaliseError::Scores { task: task.name().into(), source }),
        }
    }
    Ok(found)
}

/// Training pairs of the other tasks that the model performs.
fn preserved(
    project: &Project,
    tasks: &[(&'static str, [TaskScore; 2])],
    goals: &[String],
) -> Result<Vec<Vec<Pair>>, LocaliseError> {
    let others = tasks.iter().filter(|(name, _)| !goals.iter().any(|goal| goal == name));
    let pairs = others.map(|(name, _)| {
        let drawn = find_task(name)?.pairs(&|text| project.tokenizer.encode(text), Split::Train, PRESERVED, 0);
        drawn.map_err(|source| ProjectError::Pairs { task: (*name).into(), source })
    });
    Ok(pairs.collect::<Result<Vec<_>, ProjectError>>()?)
}

/// Scores of the localised model and of the twin beside those of the model before.
fn changes(
    project: &Project,
    tasks: &[(&'static str, [TaskScore; 2])],
    goals: &[String],
    models: [&Model; 2],
    compares: &mut dyn FnMut() -> ControlFlow<()>,
) -> Result<Option<Vec<TaskChange>>, LocaliseError> {
    let losses = |scores: &[TaskScore; 2]| [scores[0].loss, scores[1].loss];
    let one = |(name, before): &(&'static str, [TaskScore; 2])| {
        let task = find_task(name)?;
        let score = |model: &Model| {
            let scores = task_scores(model, &project.tokenizer, task, SCORED, 0);
            let scores = scores.map_err(|source| LocaliseError::Scores { task: (*name).into(), source })?;
            Ok::<_, LocaliseError>(losses(&scores))
        };
        let (after, twin) = (score(models[0])?, score(models[1])?);
        let localised = goals.iter().any(|goal| goal == name);
        Ok::<_, LocaliseError>(TaskChange { task: (*name).into(), localised, before: losses(before), after, twin })
    };
    let mut changes = vec![];
    for task in tasks {
        if compares().is_break() {
            return Ok(None);
        }
        changes.push(one(task)?);
    }
    Ok(Some(changes))
}

/// The text of a run: its training and validation shards.
struct Text {
    train: TokenShards,
    windows: Windows,
    validation: Vec<u16>,
    n_ctx: usize,
    sequences: usize,
}

impl Text {
    fn open(project: &Project, request: &LocaliseRequest<'_>, recipe: &Recipe) -> Result<Self, LocaliseError> {
        let (n_ctx, sha256) = (project.sample.n_ctx, project.tokenizer.sha256());
        let too_short = |part| LocaliseError::TooShort { data: request.data.to_owned(), part, n_ctx };
        let open = |part: &'static str| {
            let shards = TokenShards::open(request.data.join(part), sha256)?;
            shards.verify_hashes()?;
            if shards.len() < n_ctx as u64 { Err(too_short(part)) } else { Ok(shards) }
        };
        let (train, shards) = (open("train")?, open("validation")?);
        let mut validation = vec![0; (shards.len() as usize / n_ctx).min(VALIDATION) * n_ctx];
        shards.read(0, &mut validation)?;
        // An order of its own, unlike that of the run.
        const ORDER: u64 = 0x6c6f_6361_6c69_7365;
        let windows =
            Windows::new(train.len(), n_ctx, request.settings.seed ^ ORDER).ok_or_else(|| too_short("train"))?;
        Ok(Self { train, windows, validation, n_ctx, sequences: recipe.batch_sequences })
    }

    /// The text of a step: windows of the training shards.
    fn batch(&mut self, step: u64) -> Result<Vec<u16>, LocaliseError> {
        Ok(self.windows.read(&self.train, step * self.sequences as u64, self.sequences)?)
    }

    /// Costs on validation text: losses of the model before, the localised one and the twin, and the divergence of the first two. `None` where
    /// `compares`, asked before every few windows, breaks.
    fn costs(
        &self,
        models: [&Model; 3],
        compares: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Option<TextCosts>, LocaliseError> {
        let per_window = |window: &[u16]| {
            let readout: Vec<usize> = (0..window.len() - 1).collect();
            let tokens = Tokens::new(window, window.len());
            let log_probs = models
                .map(|model| openwork_circuit::log_probs(&model.forward(tokens, Some(&readout), &mut NoTap).logits));
            let mut sums = [0.0; 4];
            for (at, &next) in window[1..].iter().enumerate() {
                for (sum, p) in sums.iter_mut().zip(&log_probs) {
                    *sum -= f64::from(p[at][usize::from(next)]);
                }
                let (p, q) = (&log_probs[0][at], &log_probs[1][at]);
                sums[3] += p.iter().zip(q).map(|(p, q)| f64::from(p.exp()) * f64::from(p - q)).sum::<f64>();
            }
            sums
        };
        let mut parts: Vec<[f64; 4]> = vec![];
        for few in self.validation.chunks(WINDOWS_AT_ONCE * self.n_ctx) {
            if compares().is_break() {
                return Ok(None);
            }
            parts.par_extend(few.par_chunks(self.n_ctx).map(per_window));
        }
        let tokens = self.validation.len() / self.n_ctx * (self.n_ctx - 1);
        let mean = |i: usize| parts.iter().map(|part| part[i]).sum::<f64>() / tokens as f64;
        Ok(Some(TextCosts { tokens, original: mean(0), localised: mean(1), twin: mean(2), kl: mean(3) }))
    }
}

/// Writes the folder of the localised model under a name of this process, and gives it its own when it is whole. What cannot be written whole
/// is removed.
fn write(
    project: &Project,
    request: &LocaliseRequest<'_>,
    goals: (&[Goal], &[f64]),
    localised: &Localised,
    run: &mut LocalisedRun,
) -> Result<(), LocaliseError> {
    let out = request.out;
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let dir = out.with_file_name(format!(".{name}.partial-{}", std::process::id()));
    // A folder that is there is not ours.
    std::fs::create_dir(&dir).map_err(failed(&dir))?;
    let written = write_into(&dir, project, request, goals, localised, run)
        .and_then(|()| openwork_tensor::rename_folder(&dir, out).map_err(failed(out)));
    if written.is_err() {
        std::fs::remove_dir_all(&dir).map_err(failed(&dir))?;
    }
    written
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> LocaliseError + use<> {
    let path = path.to_owned();
    move |source| LocaliseError::Write { path, source }
}

/// Writes model, tokenizer, sample, means, circuits and `localised.json` into an empty folder.
fn write_into(
    dir: &Path,
    project: &Project,
    request: &LocaliseRequest<'_>,
    (goals, original_losses): (&[Goal], &[f64]),
    localised: &Localised,
    run: &mut LocalisedRun,
) -> Result<(), LocaliseError> {
    let metadata = [
        (TOKENIZER_KEY, project.tokenizer.sha256().to_owned()),
        (TRAINED_CONTEXT_KEY, project.sample.n_ctx.to_string()),
        (LOCALISED_FROM_KEY, project.model_sha256.clone()),
    ];
    project.tokenizer.save(&dir.join("tokenizer.json"))?;
    let seed = seed_of_run(&project.dir);
    Sample::write(dir, request.data, project.tokenizer.sha256(), project.sample.n_ctx, seed)?;
    localised.model.save(dir.join("model.safetensors"), &metadata.map(|(k, v)| (k.to_owned(), v)).into())?;
    let after = Project::open(dir, Beside::default(), &mut |_| ())?;
    run.model_sha256.clone_from(&after.model_sha256);
    for ((goal, trained_in), &original_loss) in goals.iter().zip(&localised.goals).zip(original_losses) {
        let search = SearchSettings::Localised(LocalisedSearch {
            original_sha256: project.model_sha256.clone(),
            original_loss,
            steps: localised.phases.iter().sum(),
            random: request.random,
            settings: request.settings.clone(),
        });
        let own = request.circuits.iter().find(|c| c.task == goal.task);
        let (seed, claim) = own.map_or((0, Claim::Answer), |c| (c.seed, c.claim));
        let file = circuit_file(&after, goal, trained_in, (search, seed, request.settings.target_loss));
        let file = CircuitFile { claim, ..file };
        after.save_circuit(&file, &after.circuit_path(&goal.task), false)?;
        let mut standings = vec![(0, trained_in.before)];
        standings.extend(&trained_in.on_the_way);
        standings.push((run.phases.iter().sum(), trained_in.after));
        let Localisation { agreement, target_loss, .. } = *request.settings;
        let stands =
            standings.last().is_some_and(|(_, last): &(u64, Standing)| last.is_localised(agreement, target_loss));
        run.circuits.push(LocalisedCircuit {
            stands,
            task: goal.task.clone(),
            path: request.out.join("circuits").join(format!("{}.json", goal.task)),
            nodes: [goal.nodes.len(), trained_in.nodes.len()],
            edges: file.circuit.edges().len(),
            original_loss,
            loss: file.loss,
            edge_change: change_of(&project.model, &file.circuit),
            standings,
        });
    }
    let path = dir.join("localised.json");
    let text = serde_json::to_string_pretty(run).expect("plain values");
    openwork_tensor::write_atomic(&path, |w| writeln!(w, "{text}")).map_err(failed(&path))
}

/// The file of a circuit that was trained into the model of `project`.
fn circuit_file(
    project: &Project,
    goal: &Goal,
    trained_in: &LocalisedGoal,
    (search, seed, target_loss): (SearchSettings, u64, f64),
) -> CircuitFile {
    let Project { model, means, .. } = project;
    CircuitFile {
        task: goal.task.clone(),
        model_sha256: project.model_sha256.clone(),
        means_sha256: means.sha256(),
        tokenizer_sha256: project.tokenizer.sha256().into(),
        circuit: Circuit::new(model, trained_in.nodes.clone()),
        claim: Claim::Answer,
        calibration: calibrate(model, means, &trained_in.nodes, &goal.train),
        target_loss,
        loss: trained_in.after.loss,
        seed,
        search,
    }
}

/// Relative change ‖w − w₀‖ / ‖w₀‖ of a circuit's weights from those of the model before.
fn change_of(original: &Model, circuit: &Circuit) -> f64 {
    let before = edges(original, circuit.nodes());
    let (mut change, mut size) = (0.0, 0.0);
    for old in &before {
        let new = circuit.edges().iter().find(|e| (e.from, e.to) == (old.from, old.to)).map_or(0.0, |e| e.weight);
        change += f64::from(new - old.weight).powi(2);
        size += f64::from(old.weight).powi(2);
    }
    if size > 0.0 { (change / size).sqrt() } else { 0.0 }
}
