//! `openwork tasks`: what tasks there are, their prompts, and how a model does on them.

use std::{collections::HashSet, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use openwork_circuit::{
    Calibration, batches, evaluate,
    tasks::{self, Pair, Split, TaskError},
};
use openwork_data::Tokenizer;
use openwork_model::{Model, NoTap};

pub use openwork_circuit::tasks::Task;
use openwork_verify::Shift;

use crate::{
    model,
    show::{say, table},
};

/// Subcommands.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Name the tasks
    List,
    /// Print contrast pairs of a task
    Show {
        /// Name of the task
        task: String,
        /// Number of pairs
        #[arg(long, default_value_t = 3)]
        pairs: usize,
        /// Show held-out templates
        #[arg(long)]
        held_out: bool,
        /// Seed of the pairs
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Measure a model on tasks: loss in nats per sequence (chance is 0.693) and accuracy
    Eval {
        /// Model file or folder of a finished run
        model: PathBuf,
        /// Tasks [default: all]
        #[arg(long)]
        task: Vec<String>,
        /// The model's tokenizer [default: tokenizer.json beside the model]
        #[arg(long)]
        tokenizer: Option<PathBuf>,
        /// Pairs per split
        #[arg(long, default_value_t = 128)]
        pairs: usize,
        /// Seed of the pairs
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
}

/// Pairs of a task as its circuit is made and judged with: disjoint but for their templates.
pub struct Pairs {
    /// What masks and calibrations are fitted on.
    pub train: Vec<Pair>,
    /// What a circuit is selected on.
    pub selection: Vec<Pair>,
    /// Fresh pairs of the same templates.
    pub held_out: Vec<Pair>,
    /// Pairs of templates that occur nowhere else.
    pub held_out_templates: Vec<Pair>,
    /// Fresh pairs longer than nearly all that the circuit is selected on.
    pub lengths: Vec<Pair>,
}

impl Pairs {
    /// Training pairs.
    const TRAIN: usize = 384;
    /// Selection pairs.
    const SELECTION: usize = 128;
    /// Pairs of each of the two held-out sets: an accuracy of 0.95 has a 95 % interval of ±0.03.
    const HELD_OUT: usize = 192;
    /// Pairs drawn beyond those, since some share a prompt with another and are left out.
    const SPARE: usize = 48;
    /// Pairs drawn to find long ones among them.
    const POOL: usize = 2400;

    /// Draws the pairs of `task`. No prompt of a held-out pair occurs in any pair before it.
    pub fn draw(task: &Task, tokenizer: &Tokenizer, seed: u64) -> Result<Self> {
        let encode = |text: &str| tokenizer.encode(text);
        let draw = |split, n| task.pairs(&encode, split, n, seed).with_context(|| format!("task {}", task.name()));
        let train = draw(Split::Train, Self::TRAIN)?;
        let mut selection = draw(Split::Validation, Self::SELECTION + Self::HELD_OUT + Self::SPARE)?;
        let mut held_out = selection.split_off(Self::SELECTION);
        let mut held_out_templates = draw(Split::HeldOutTemplate, Self::HELD_OUT + Self::SPARE)?;
        // A larger draw adds to a smaller one; tasks of few words have no more.
        let mut lengths = task.pairs(&encode, Split::Validation, Self::POOL, seed).unwrap_or_default();
        let limit = long(&selection);
        lengths.retain(|p| p.positive.len() > limit && p.negative.len() > limit);
        let prompts = |p: &Pair| [p.positive.clone(), p.negative.clone()];
        let mut seen: HashSet<Vec<u16>> = train.iter().chain(&selection).flat_map(prompts).collect();
        for pairs in [&mut held_out, &mut held_out_templates, &mut lengths] {
            pairs.retain(|p| {
                let fresh = prompts(p).iter().all(|prompt| !seen.contains(prompt));
                seen.extend(prompts(p));
                fresh
            });
            pairs.truncate(Self::HELD_OUT);
        }
        Ok(Self { train, selection, held_out, held_out_templates, lengths })
    }

    /// The pairs from elsewhere, as the judge takes them.
    pub fn shifts(&self) -> [Shift<'_>; 2] {
        [
            Shift { split: openwork_verify::Split::HeldOutTemplates, pairs: &self.held_out_templates },
            Shift { split: openwork_verify::Split::Lengths, pairs: &self.lengths },
        ]
    }
}

/// The length that nineteen prompts in twenty do not exceed.
fn long(pairs: &[Pair]) -> usize {
    let mut lengths: Vec<usize> = pairs.iter().flat_map(|p| [p.positive.len(), p.negative.len()]).collect();
    lengths.sort_unstable();
    lengths[lengths.len() * 19 / 20]
}

/// The task of a name, or an error that lists the names.
pub fn find(name: &str) -> Result<&'static Task> {
    let names = || tasks::all().iter().map(Task::name).collect::<Vec<_>>().join(", ");
    tasks::find(name).ok_or_else(|| anyhow!("there is no task {name:?}; there are {}", names()))
}

/// Runs the command.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List => {
            for task in tasks::all() {
                say!("{:<28} {}", task.name(), task.description());
            }
        }
        Command::Show { task, pairs, held_out, seed } => {
            let split = if held_out { Split::HeldOutTemplate } else { Split::Train };
            for pair in find(&task)?.text_pairs(split, pairs, seed) {
                let (answer, alternative) = &pair.answers[0];
                say!("--- template {} ---\n{}⟨{answer:?}⟩", pair.template, pair.positive);
                say!("--- against ---\n{}⟨{alternative:?}⟩\n", pair.negative);
            }
        }
        Command::Eval { model, task, tokenizer, pairs, seed } => {
            let found = model::find(&model)?;
            let tokenizer = found.tokenizer(tokenizer.as_deref())?;
            let tasks = match task.is_empty() {
                true => tasks::all().iter().collect(),
                false => task.iter().map(|t| find(t)).collect::<Result<Vec<_>>>()?,
            };
            let mut rows = Vec::new();
            for task in tasks {
                match measure(&found.model, &tokenizer, task, pairs, seed) {
                    Ok(splits) => {
                        let cell = |(loss, accuracy): (f64, f64)| format!("{loss:.3} {:>4.0} %", 100.0 * accuracy);
                        let [fresh, held_out] = splits.map(cell);
                        rows.push([task.name().to_owned(), fresh, held_out]);
                    }
                    // Some tokenizers lack some answers; the other tasks can still be measured.
                    Err(error) => eprintln!("note: {}: {error}", task.name()),
                }
            }
            table(["task (loss in nats, accuracy)", "fresh pairs", "held-out templates"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Loss in nats per sequence and accuracy of `model` on fresh pairs and on held-out templates.
pub fn measure(
    model: &Model,
    tokenizer: &Tokenizer,
    task: &Task,
    pairs: usize,
    seed: u64,
) -> Result<[(f64, f64); 2], TaskError> {
    let encode = |text: &str| tokenizer.encode(text);
    let on = |split| {
        let pairs = task.pairs(&encode, split, pairs, seed)?;
        let outcome = evaluate(model, &batches(&pairs, 8, model.config.n_ctx), false, || NoTap, |_| ());
        Ok((outcome.loss(Calibration::NONE), outcome.accuracy(Calibration::NONE)))
    };
    Ok([on(Split::Validation)?, on(Split::HeldOutTemplate)?])
}
