//! Content of a report on a model and its verified circuits: everything a page shows, without its form.

use std::{collections::BTreeMap, path::PathBuf};

use openwork_circuit::{Ablation, Calibration, CircuitFile, Keep, Size, batches, evaluate};
use openwork_model::{Config, Model, NoTap, NotFinite, Sampling};
use openwork_tasks::Pair;
use openwork_train::LogLine;
use openwork_verify::{Control, Report, Verdict};

use crate::{
    LogError, LoggedVerdict, Project, ProjectError, Standing, TaskScore, TaskScoreError, VerdictError, VerdictFile,
    circuits_in, earlier_verdicts, read_log, task_scores, verdict_path,
};

/// Pairs per split that the whole model is measured on.
const TASK_PAIRS: usize = 64;

/// Report on a model: its training, its circuits, and how it does on every task.
pub struct ModelReport {
    /// Configuration of the model.
    pub config: Config,
    /// Number of parameters, zeros included.
    pub parameters: usize,
    /// Hash of the model.
    pub model_sha256: String,
    /// Tokens of the sequences over which its ablation means are taken, as in training.
    pub context: usize,
    /// Log of its training; empty where there is none.
    pub log: Vec<LogLine>,
    /// A text that the model writes.
    pub writing: Writing,
    /// Its circuits with a verdict that is about them, in order of their file names.
    pub circuits: Vec<CircuitReport>,
    /// Its other circuits.
    pub unjudged: Vec<UnjudgedCircuit>,
    /// The whole model on every task.
    pub tasks: Vec<TaskRow>,
}

/// A prompt and the continuation that the model writes.
pub struct Writing {
    /// The prompt.
    pub prompt: String,
    /// The continuation.
    pub continuation: String,
}

/// The whole model on one task.
pub struct TaskRow {
    /// Name of the task.
    pub name: &'static str,
    /// Description of the task.
    pub description: &'static str,
    /// Scores on fresh pairs and on held-out templates, or the reason that there are none.
    pub scores: Result<[TaskScore; 2], TaskScoreError>,
}

/// A circuit without a verdict that is about it.
pub struct UnjudgedCircuit {
    /// The circuit file.
    pub path: PathBuf,
    /// Its task.
    pub task: String,
    /// Its nodes and edges.
    pub size: Size,
    /// The verdict beside it, which is none about this circuit that this version reads.
    pub standing: Standing,
    /// The latest verdict in the log of the folder on this very circuit and model, under whatever name.
    pub logged: Option<LoggedVerdict>,
}

impl UnjudgedCircuit {
    /// Sentence on what the circuit lacks.
    pub fn words(&self) -> String {
        let without = || "it has no verdict beside it; `openwork verify` makes one".into();
        let words = match &self.standing {
            Standing::Unverified => without(),
            standing => standing.reservation().unwrap_or_else(without),
        };
        match &self.logged {
            Some(verdict) => format!(
                "{words}. This very circuit was verified in this folder as {}: {}",
                verdict.name,
                verdict.words()
            ),
            None => words,
        }
    }
}

/// A circuit with its verdict.
pub struct CircuitReport {
    /// The circuit.
    pub file: CircuitFile,
    /// Outcome of the control searches.
    pub controls: Vec<Control>,
    /// Report of the verifier.
    pub report: Report,
    /// Prompts with the answers of model and circuit.
    pub examples: Vec<Example>,
    /// Texts of the tokens of the counter-example.
    pub tokens: BTreeMap<u16, String>,
    /// Search that found the circuit, and earlier verdicts on circuits of its task, in words.
    pub provenance: Vec<String>,
    /// The verdict file, which replays the counter-example.
    pub verdict_path: PathBuf,
}

/// A prompt with the answers of model and circuit.
pub struct Example {
    /// The prompt.
    pub prompt: String,
    /// The right continuation and the wrong one.
    pub candidates: (String, String),
    /// Probability of the right one among the two: the model's and the circuit's (calibrated).
    pub p_right: (f64, f64),
    /// True if its template is held out from the search for the circuit.
    pub held_out_template: bool,
}

/// Reason that a report cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A circuit or its task.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// The log of the training.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A verdict file.
    #[error(transparent)]
    Verdict(#[from] VerdictError),
    /// The folder of circuits cannot be listed.
    #[error("cannot read {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
}

impl ModelReport {
    /// Gathers the report on a model and the circuits beside it.
    ///
    /// # Errors
    /// When a circuit or verdict beside the model cannot be read or is of another model.
    pub fn new(project: &Project) -> Result<Self, ReportError> {
        let row = |task: &'static openwork_tasks::Task| TaskRow {
            name: task.name(),
            description: task.description(),
            scores: task_scores(&project.model, &project.tokenizer, task, TASK_PAIRS, 0),
        };
        let (circuits, unjudged) = circuits(project)?;
        Ok(Self {
            config: project.model.config.clone(),
            parameters: project.model.params.values().iter().map(|w| w.dense().len()).sum(),
            model_sha256: project.model_sha256.clone(),
            context: project.means.seq_len(),
            // A model may lie in a folder in which nothing was trained.
            log: match project.dir.join("log.jsonl").exists() {
                true => read_log(&project.dir)?.steps,
                false => vec![],
            },
            writing: writing(project).map_err(ProjectError::from)?,
            circuits,
            unjudged,
            tasks: openwork_tasks::all().iter().map(row).collect(),
        })
    }
}

/// A text that the model writes from nothing but a first word.
fn writing(project: &Project) -> Result<Writing, NotFinite> {
    let prompt = "def ";
    let tokens = project.tokenizer.encode(prompt);
    let sampling = Sampling { temperature: 0.8, top_k: 50, tokens: project.tokenizer.vocab_size(), seed: 0 };
    let end = Some(project.tokenizer.end_of_text());
    let mut text = project.model.generate(&tokens, 160, end, sampling)?;
    text.pop_if(|last| Some(*last) == end);
    Ok(Writing { prompt: prompt.to_owned(), continuation: project.tokenizer.decode(&text) })
}

/// Every circuit beside the model, in order of name: those with a verdict about them, and the others.
fn circuits(project: &Project) -> Result<(Vec<CircuitReport>, Vec<UnjudgedCircuit>), ReportError> {
    let (mut judged, mut unjudged) = (vec![], vec![]);
    let dir = project.dir.join("circuits");
    let failed = |source| ReportError::Folder { path: dir.clone(), source };
    for path in circuits_in(&project.dir).map_err(failed)? {
        let file = project.circuit(&path)?;
        let standing = match Standing::of(&path, &file, Some(project))? {
            Standing::Judged(verdict) => {
                judged.push(CircuitReport::new(project, file, *verdict, verdict_path(&path))?);
                continue;
            }
            standing => standing,
        };
        let (earlier, _) = earlier_verdicts(&path, &file.task)?;
        let (circuit, model) = (file.claim_sha256(), &project.model_sha256);
        let logged = earlier.into_iter().rev().find(|v| v.circuit_sha256 == circuit && v.model_sha256 == *model);
        unjudged.push(UnjudgedCircuit { path, task: file.task.clone(), size: file.circuit.size(), standing, logged });
    }
    Ok((judged, unjudged))
}

impl CircuitReport {
    /// The report on a circuit whose verdict lies in `verdict_path`.
    ///
    /// # Errors
    /// When the task of the circuit is unknown, its pairs cannot be drawn, or it leaves out a residual edge.
    pub fn new(
        project: &Project,
        file: CircuitFile,
        verdict: VerdictFile,
        verdict_path: PathBuf,
    ) -> Result<Self, ReportError> {
        let splits = project.splits_of(&file)?;
        let residual = |source| ProjectError::ResidualEdge { task: file.task.clone(), source };
        let masked = file.circuit.masked(&project.model).map_err(residual)?;
        let mut examples = examples(project, (&file, &masked), &splits.held_out[..2], false);
        examples.extend(self::examples(project, (&file, &masked), &splits.held_out_templates[..1], true));
        drop(masked);
        Ok(Self {
            provenance: verdict.provenance(),
            controls: verdict.controls,
            tokens: token_texts(project, &verdict.report),
            report: verdict.report,
            examples,
            file,
            verdict_path,
        })
    }
}

/// Texts of the tokens that the counter-example names.
fn token_texts(project: &Project, report: &Report) -> BTreeMap<u16, String> {
    let Verdict::Refuted { counter_example: Some(example), .. } = &report.verdict else { return BTreeMap::new() };
    let (answer, alternative) = example.candidates;
    let prompts = example.prompts.iter().chain(example.intervention.sources.iter().flatten());
    let tokens = prompts.flatten().copied().chain([answer, alternative]);
    tokens.map(|token| (token, project.tokenizer.decode(&[token]))).collect()
}

/// Both prompts of each pair, with the answers of model and circuit. The circuit runs in `masked`, the model without the
/// weights that it leaves out.
fn examples(
    project: &Project,
    (circuit, masked): (&CircuitFile, &Model),
    pairs: &[Pair],
    held_out_template: bool,
) -> Vec<Example> {
    let batches = batches(pairs, 8, project.model.config.n_ctx);
    let keep = || Keep::new(circuit.circuit.nodes(), Ablation::Mean(&project.means));
    let model = evaluate(&project.model, &batches, false, || NoTap, |_| ()).losses(Calibration::NONE);
    let kept = evaluate(masked, &batches, false, keep, |_| ()).losses(circuit.calibration);
    let text = |tokens: &[u16]| project.tokenizer.decode(tokens);
    let sides =
        pairs.iter().flat_map(|p| [(&p.positive, p.answer, p.alternative), (&p.negative, p.alternative, p.answer)]);
    sides
        .zip(model.iter().zip(&kept))
        .map(|((prompt, right, wrong), (model, kept))| Example {
            prompt: text(prompt),
            candidates: (text(&[right]), text(&[wrong])),
            p_right: ((-model).exp(), (-kept).exp()),
            held_out_template,
        })
        .collect()
}
