//! The whole model on a task.

use openwork_circuit::{Batch, Calibration, batches, evaluate};
use openwork_data::Tokenizer;
use openwork_model::{Model, NoTap, NotFinite, Tokens};
use openwork_tasks::{Split, Task, TaskError};
use openwork_verify::{Estimate, fraction};
use rayon::prelude::*;
use serde::Serialize;

/// Performance of a model on one split of a task.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TaskScore {
    /// Task loss in nats per sequence; chance is ln 2.
    #[serde(rename = "loss_nats")]
    pub loss: f64,
    /// Fraction of sequences whose right candidate has the larger logit; a tie counts half. Its 95 % interval is exact, over pairs.
    pub accuracy: Estimate,
}

/// Reason that a model has no score on a task.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TaskScoreError {
    /// The pairs cannot be drawn.
    #[error(transparent)]
    Pairs(#[from] TaskError),
    /// A value of the model is not finite on a prompt.
    #[error(transparent)]
    NotFinite(#[from] NotFinite),
}

/// Score of `model` on `pairs` fresh pairs of a task, and on as many of held-out templates.
///
/// # Errors
/// When the tokenizer lacks an answer, the task has too few pairs, or a value of the model is not finite.
pub fn task_scores(
    model: &Model,
    tokenizer: &Tokenizer,
    task: &Task,
    pairs: usize,
    seed: u64,
) -> Result<[TaskScore; 2], TaskScoreError> {
    let on = |split| {
        let pairs = task.pairs(&|text| tokenizer.encode(text), split, pairs, seed)?;
        let batches = batches(&pairs, 8, model.config.n_ctx);
        check_finite(model, &batches)?;
        let outcome = evaluate(model, &batches, false, || NoTap, |_| ());
        let accuracy = fraction(&outcome.pair_accuracy(Calibration::NONE).collect::<Vec<_>>());
        Ok::<_, TaskScoreError>(TaskScore { loss: outcome.loss(Calibration::NONE), accuracy })
    };
    Ok([on(Split::Validation)?, on(Split::HeldOutTemplate)?])
}

/// Checks that all values of a model are finite where it is read on contrast pairs.
///
/// # Errors
/// The first value that is not.
pub(crate) fn check_finite(model: &Model, batches: &[Batch]) -> Result<(), NotFinite> {
    batches.par_iter().try_for_each(|batch| {
        let tokens = Tokens::new(&batch.tokens, batch.seq_len);
        model.check_finite(tokens, &model.forward(tokens, Some(&batch.readout), &mut NoTap).logits)
    })
}
