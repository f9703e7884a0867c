//! `openwork tasks`: what tasks there are, their prompts, and how a model does on them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use openwork_circuit::{Calibration, batches, evaluate};
use openwork_data::Tokenizer;
use openwork_model::{Model, NoTap};
use openwork_tasks::{Split, Splits, Task, TaskError};

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

/// Draws the splits of `task` under `tokenizer`.
pub fn splits(task: &Task, tokenizer: &Tokenizer, seed: u64) -> Result<Splits> {
    Splits::draw(task, &|text| tokenizer.encode(text), seed).with_context(|| format!("task {}", task.name()))
}

/// The pairs from elsewhere, as the judge takes them.
pub fn shifts(splits: &Splits) -> [Shift<'_>; 2] {
    [
        Shift { split: openwork_verify::Split::HeldOutTemplates, pairs: &splits.held_out_templates },
        Shift { split: openwork_verify::Split::Lengths, pairs: &splits.lengths },
    ]
}

/// The task of a name, or an error that lists the names.
pub fn find(name: &str) -> Result<&'static Task> {
    let names = || openwork_tasks::all().iter().map(Task::name).collect::<Vec<_>>().join(", ");
    openwork_tasks::find(name).ok_or_else(|| anyhow!("there is no task {name:?}; there are {}", names()))
}

/// Runs the command.
pub fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::List => {
            for task in openwork_tasks::all() {
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
                true => openwork_tasks::all().iter().collect(),
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
