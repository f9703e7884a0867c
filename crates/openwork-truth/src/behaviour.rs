//! Next-token distributions after prompts, and KL divergences between them, in f64 from the logits.

use openwork_model::{Model, Tap, Tokens};

use crate::Prompt;

/// Log-probabilities of the whole vocabulary at the last token of each prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Behaviour(pub Vec<Vec<f64>>);

/// Prompts of different lengths as one batch; what follows a prompt in its sequence it cannot see.
#[derive(Clone, Debug)]
pub struct PromptBatch {
    tokens: Vec<u16>,
    seq_len: usize,
    last: Vec<usize>,
}

impl PromptBatch {
    /// A batch of `prompts`.
    pub fn new(prompts: &[Prompt]) -> Self {
        let (tokens, seq_len) = padded(prompts, 0);
        let last = prompts.iter().enumerate().map(|(i, p)| i * seq_len + p.tokens.len() - 1).collect();
        Self { tokens, seq_len, last }
    }
}

/// The prompts as sequences of one length, filled up with `padding` on the right; and that length.
fn padded(prompts: &[Prompt], padding: u16) -> (Vec<u16>, usize) {
    let seq_len = prompts.iter().map(|p| p.tokens.len()).max().unwrap_or(1);
    let mut tokens = vec![padding; seq_len * prompts.len()];
    for (row, prompt) in tokens.chunks_exact_mut(seq_len).zip(prompts) {
        row[..prompt.tokens.len()].copy_from_slice(&prompt.tokens);
    }
    (tokens, seq_len)
}

/// Prompts as training text for [`openwork_circuit::Means`]: each on the left of a sequence that `bos` fills up. Returns
/// the length of the sequences too.
pub fn text(prompts: &[Prompt], bos: u16) -> (Vec<u16>, usize) {
    padded(prompts, bos)
}

impl Behaviour {
    /// Of `model` under `tap`.
    pub fn of(model: &Model, batch: &PromptBatch, tap: &mut dyn Tap) -> Self {
        let pass = model.forward(Tokens::new(&batch.tokens, batch.seq_len), Some(&batch.last), tap);
        let column = |i: usize| {
            let logits: Vec<f64> = pass.logits.column(i).iter().map(|&x| f64::from(x)).collect();
            let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logits.iter().map(|x| (x - largest).exp()).sum();
            logits.into_iter().map(|x| x - largest - sum.ln()).collect()
        };
        Self((0..batch.last.len()).map(column).collect())
    }

    /// Largest `|log p − log q|` over prompts and tokens, in nats.
    pub fn distance(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().flatten().zip(other.0.iter().flatten());
        pairs.map(|(p, q)| (p - q).abs()).fold(0.0, f64::max)
    }

    /// Largest `KL(p ‖ q) = Σ p (log p − log q)` over prompts, in nats.
    pub fn largest_kl(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(kl).fold(0.0, f64::max)
    }

    /// Mean `KL(p ‖ q)` over prompts, in nats.
    pub fn mean_kl(&self, other: &Self) -> f64 {
        self.0.iter().zip(&other.0).map(kl).sum::<f64>() / self.0.len() as f64
    }

    /// By how much the right token leads the next one, at the prompt where it leads least; negative where it does not lead.
    pub fn margin(&self, prompts: &[Prompt]) -> f64 {
        let one = |(p, prompt): (&Vec<f64>, &Prompt)| {
            let answer = usize::from(prompt.answer);
            let others = p.iter().enumerate().filter(|o| o.0 != answer).map(|o| *o.1);
            p[answer] - others.fold(f64::NEG_INFINITY, f64::max)
        };
        self.0.iter().zip(prompts).map(one).fold(f64::INFINITY, f64::min)
    }
}

fn kl((p, q): (&Vec<f64>, &Vec<f64>)) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum()
}
