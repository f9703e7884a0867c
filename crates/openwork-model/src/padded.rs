//! Sequences of several lengths as one batch.

use std::ops::Range;

use crate::Tokens;

/// Sequences padded on the right to one length. Attention is causal, so no token sees the padding after it.
///
/// ```
/// let padded = openwork_model::Padded::new([&[5, 6, 7][..], &[8]], 2);
/// assert_eq!((padded.tokens, padded.readout), (vec![6, 7, 8, 0], vec![1, 2]));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padded {
    /// Tokens, sequence after sequence.
    pub tokens: Vec<u16>,
    /// Length of a padded sequence.
    pub seq_len: usize,
    /// Column of the last token of every sequence.
    pub readout: Vec<usize>,
}

impl Padded {
    /// A batch of `sequences`; those longer than `n_ctx` lose tokens on the left.
    ///
    /// # Panics
    /// When a sequence or the batch is empty.
    #[track_caller]
    pub fn new<'s>(sequences: impl IntoIterator<Item = &'s [u16]>, n_ctx: usize) -> Self {
        let sequences: Vec<&[u16]> = sequences.into_iter().map(|s| &s[s.len().saturating_sub(n_ctx)..]).collect();
        assert!(!sequences.is_empty() && sequences.iter().all(|s| !s.is_empty()), "sequences have tokens");
        let seq_len = sequences.iter().map(|s| s.len()).max().expect("there are sequences");
        let mut tokens = vec![0; seq_len * sequences.len()];
        for (row, sequence) in tokens.chunks_exact_mut(seq_len).zip(&sequences) {
            row[..sequence.len()].copy_from_slice(sequence);
        }
        let readout = sequences.iter().enumerate().map(|(i, s)| i * seq_len + s.len() - 1).collect();
        Self { tokens, seq_len, readout }
    }

    /// The batch as a pass takes it.
    pub fn tokens(&self) -> Tokens<'_> {
        Tokens::new(&self.tokens, self.seq_len)
    }

    /// Columns of the tokens of every sequence, without its padding.
    pub fn columns(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.readout.iter().enumerate().map(|(i, last)| i * self.seq_len..last + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Config, Model, NoTap};

    #[test]
    fn padding_changes_no_logit_of_a_sequence() {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 6, ..Config::default() }, 3);
        let long: Vec<u16> = (0..9).collect();
        let sequences = [&[4, 2][..], &long, &[7]];
        let padded = Padded::new(sequences, 6);
        assert_eq!(padded.columns().collect::<Vec<_>>(), [0..2, 6..12, 12..13]);
        let together = model.forward(padded.tokens(), Some(&padded.readout), &mut NoTap).logits;
        for (i, sequence) in [&[4, 2][..], &long[3..], &[7]].into_iter().enumerate() {
            let last = [sequence.len() - 1];
            let alone = model.forward(Tokens::new(sequence, sequence.len()), Some(&last), &mut NoTap).logits;
            for (a, b) in together.column(i).iter().zip(alone.column(0)) {
                // Batches of other widths may take other products; f32 sums of 64 terms.
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}
