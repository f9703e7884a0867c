//! `openwork tasks`: what tasks there are, their prompts, and how a model does on them.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result, ensure};
use openwork_project::{TaskScore, TaskScoreError, find_task, task_scores};
use openwork_tasks::Split;
use openwork_tensor::quoted;

use crate::ui::{
    args::{check_distinct, open_model, tokenizer_of},
    ranges::{between, seed},
    show::{percent, say, table},
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
        #[arg(long, default_value_t = 3, value_parser = between::<usize>(1, 1 << 20))]
        pairs: usize,
        /// Show held-out templates
        #[arg(long)]
        held_out: bool,
        /// Seed of the pairs
        #[arg(long, default_value_t = 0, value_parser = seed)]
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
        #[arg(long, default_value_t = 128, value_parser = between::<usize>(1, 1 << 20))]
        pairs: usize,
        /// Seed of the pairs
        #[arg(long, default_value_t = 0, value_parser = seed)]
        seed: u64,
        /// Print the scores as JSON
        #[arg(long)]
        json: bool,
    },
}

/// Scores of a model as JSON, and their origin.
#[derive(serde::Serialize)]
struct Json<'a> {
    model_sha256: &'a str,
    pairs: usize,
    seed: u64,
    tasks: Vec<TaskJson<'a>>,
}

/// Score on one task.
#[derive(serde::Serialize)]
struct TaskJson<'a> {
    task: &'a str,
    fresh: TaskScore,
    held_out_templates: TaskScore,
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
            for pair in find_task(&task)?.text_pairs(split, pairs, seed) {
                let (answer, alternative) = &pair.answers[0];
                say!("--- template {} ---\n{}⟨{}⟩", pair.template, pair.positive, quoted(answer));
                say!("--- against ---\n{}⟨{}⟩\n", pair.negative, quoted(alternative));
            }
        }
        Command::Eval { model, task, tokenizer, pairs, seed, json } => {
            let open = open_model(&model)?;
            let tokenizer = tokenizer_of(&open, tokenizer.as_deref())?;
            let tasks = match task.is_empty() {
                true => openwork_tasks::all().iter().collect(),
                false => task.iter().map(|t| find_task(t).map_err(Into::into)).collect::<Result<Vec<_>>>()?,
            };
            check_distinct("--task", &task)?;
            let mut measured = Vec::new();
            for task in tasks {
                match task_scores(&open.model, &tokenizer, task, pairs, seed) {
                    Ok([fresh, held_out_templates]) => {
                        measured.push(TaskJson { task: task.name(), fresh, held_out_templates });
                    }
                    // Some tokenizers lack some answers; the other tasks can still be measured.
                    Err(error @ TaskScoreError::Pairs(_)) => eprintln!("note: {}: {error}", task.name()),
                    Err(error) => return Err(error).with_context(|| format!("task {}", task.name())),
                }
            }
            ensure!(!measured.is_empty(), "no task can be measured with this tokenizer");
            if json {
                let json = Json { model_sha256: &open.sha256, pairs, seed, tasks: measured };
                say!("{}", serde_json::to_string_pretty(&json)?);
                return Ok(ExitCode::SUCCESS);
            }
            let cell = |TaskScore { loss, accuracy }: &TaskScore| format!("{loss:.3}  {}", percent(accuracy));
            let row = |t: &TaskJson<'_>| [t.task.to_owned(), cell(&t.fresh), cell(&t.held_out_templates)];
            let rows: Vec<_> = measured.iter().map(row).collect();
            table(["task (loss in nats, accuracy, 95 % interval)", "fresh pairs", "held-out templates"], &rows)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
