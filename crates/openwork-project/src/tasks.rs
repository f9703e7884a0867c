//! The whole model on a task.

use openwork_circuit::{Calibration, batches, evaluate};
use openwork_data::Tokenizer;
use openwork_model::{Model, NoTap};
use openwork_tasks::{Split, Task, TaskError};

/// Performance of a model on one split of a task.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TaskScore {
    /// Task loss in nats per sequence; chance is ln 2.
    pub loss: f64,
    /// Fraction of sequences whose right candidate has the larger logit; a tie counts half.
    pub accuracy: f64,
}

/// Score of `model` on `pairs` fresh pairs of a task, and on as many of held-out templates.
///
/// # Errors
/// When the tokenizer lacks an answer or the task has too few pairs.
pub fn task_scores(
    model: &Model,
    tokenizer: &Tokenizer,
    task: &Task,
    pairs: usize,
    seed: u64,
) -> Result<[TaskScore; 2], TaskError> {
    let on = |split| {
        let pairs = task.pairs(&|text| tokenizer.encode(text), split, pairs, seed)?;
        let outcome = evaluate(model, &batches(&pairs, 8, model.config.n_ctx), false, || NoTap, |_| ());
        let (loss, accuracy) = (outcome.loss(Calibration::NONE), outcome.accuracy(Calibration::NONE));
        Ok(TaskScore { loss, accuracy })
    };
    Ok([on(Split::Validation)?, on(Split::HeldOutTemplate)?])
}
