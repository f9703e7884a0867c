//! Contrast pairs as batches of sequences.

use openwork_model::{Matrix, Padded};
use openwork_tasks::{Pair, Side};

use crate::{Outcome, contrast};

/// Sequences of a few pairs, padded on the right to one length. Pair after pair, the positive sequence is followed by the
/// negative one ([`Side`]).
#[derive(Clone, Debug)]
pub struct Batch {
    /// Tokens, sequence after sequence.
    pub tokens: Vec<u16>,
    /// Length of a sequence.
    pub seq_len: usize,
    /// Column of the last token of every sequence.
    pub readout: Vec<usize>,
    /// `answer` and `alternative` of the pair of every sequence.
    pub candidates: Vec<(u16, u16)>,
}

impl Batch {
    /// Outcome of a pass over this batch with logits `[vocab, sequences]` at the columns read out. `with_log_probs` also
    /// keeps the whole distribution.
    pub fn outcome(&self, logits: &Matrix, with_log_probs: bool) -> Outcome {
        Outcome {
            differences: contrast::differences(logits, self).collect(),
            log_probs: if with_log_probs { contrast::log_probs(logits) } else { vec![] },
        }
    }

    /// Sum over sequences of the task loss `softplus(−d)`, `d` the logit of the right candidate less that of the wrong one,
    /// in nats, and its gradient with respect to `logits`.
    pub fn task_loss(&self, logits: &Matrix) -> (f64, Matrix) {
        contrast::contrast(logits, self, |sequence, difference| {
            let side = Side::of_sequence(sequence);
            let d = side.towards_right(difference);
            (contrast::softplus(-d), side.towards_right(-1.0 / (1.0 + d.exp())))
        })
    }
}

/// Groups pairs into batches of `pairs_per_batch`. Sequences longer than `n_ctx` lose tokens on the left.
pub fn batches(pairs: &[Pair], pairs_per_batch: usize, n_ctx: usize) -> Vec<Batch> {
    let one = |pairs: &[Pair]| {
        let Padded { tokens, seq_len, readout } = Padded::new(pairs.iter().flat_map(Pair::prompts), n_ctx);
        let candidates = pairs.iter().flat_map(|p| [(p.answer, p.alternative); 2]).collect();
        Batch { tokens, seq_len, readout, candidates }
    };
    pairs.chunks(pairs_per_batch.max(1)).map(one).collect()
}
