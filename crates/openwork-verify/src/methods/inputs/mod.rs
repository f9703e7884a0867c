//! Inputs that no split has: prompts with other tokens in some places.
//!
//! The places in which the two prompts of a pair differ are its *cue*. What else may stand in a prompt of the task no data
//! say for certain; so every search states what it exchanges, and counts only answers of which the model is sure.

mod companions;
mod exchange;
mod tokens;

pub(crate) use companions::companions;
pub(crate) use exchange::worst_input;
pub(crate) use tokens::rare_tokens;

use openwork_circuit::{Batch, Calibration, Keep, NodeSet, evaluate};
use openwork_model::{NoTap, Padded};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::run::{evaluator::Evaluator, prompts::PER_CHUNK, scheme::Scheme};

/// Logit difference from which on the model is sure of an answer, nats.
const SURE: f64 = 1.0;

/// True if the model is sure of its answer and the circuit gives the other.
pub(crate) fn is_turned(model: f64, circuit: f64) -> bool {
    model.abs() > SURE && model.signum() != circuit.signum()
}

/// A prompt to make others of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Parent {
    pub prompt: Vec<u16>,
    pub candidates: (u16, u16),
    /// Places in which the two prompts of its pair differ, aligned at the last token.
    pub cue: Vec<bool>,
}

impl Parent {
    fn new(evaluator: &Evaluator<'_>, sequence: usize) -> Self {
        let (prompt, other) = (evaluator.prompt(sequence), evaluator.prompt(sequence ^ 1));
        let shorter = prompt.len().saturating_sub(other.len());
        let longer = other.len().saturating_sub(prompt.len());
        let cue = (0..prompt.len()).map(|t| t < shorter || prompt[t] != other[t - shorter + longer]).collect();
        let pair = &evaluator.pairs[sequence / 2];
        Self { prompt: prompt.to_vec(), candidates: (pair.answer, pair.alternative), cue }
    }

    /// The same with `token` in a place.
    fn with(&self, token: u16, place: usize) -> Self {
        let mut child = self.clone();
        child.prompt[place] = token;
        child
    }

    /// The same with about half of what it can take from another.
    fn with_some_of(&self, other: &Self, rng: &mut ChaCha8Rng) -> Self {
        let mut child = self.clone();
        for (t, token) in child.prompt.iter_mut().enumerate() {
            if !self.cue[t] && !other.cue[t] && rng.random_bool(0.5) {
                *token = other.prompt[t];
            }
        }
        child
    }
}

/// Batches of prompts, in their order.
fn batches(prompts: &[&Parent], n_ctx: usize) -> Vec<Batch> {
    let one = |prompts: &[&Parent]| {
        let Padded { tokens, seq_len, readout } = Padded::new(prompts.iter().map(|p| &p.prompt[..]), n_ctx);
        Batch { tokens, seq_len, readout, candidates: prompts.iter().map(|p| p.candidates).collect() }
    };
    prompts.chunks(PER_CHUNK).map(one).collect()
}

/// Logit differences after each prompt: the model's, and the calibrated ones of the circuit.
fn answers(
    evaluator: &Evaluator<'_>,
    circuit: &NodeSet,
    calibration: Calibration,
    prompts: &[&Parent],
) -> [Vec<f64>; 2] {
    let context = evaluator.context;
    let batches = batches(prompts, context.model.config.n_ctx);
    let plain = evaluate(context.model, &batches, false, || NoTap, |_| ()).differences;
    let ablation = context.constants(Scheme::MEAN.value).expect("constants");
    let model = context.model_with(context.weights(circuit));
    let run = evaluate(model, &batches, false, || Keep::new(circuit, ablation), |_| ()).differences;
    [plain, run.iter().map(|d| calibration.scale * d + calibration.shift).collect()]
}
