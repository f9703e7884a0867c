//! Prompts made ready to run, and what the plain model's nodes do on them.

use std::ops::ControlFlow;

use openwork_circuit::NodeSpace;
use openwork_model::{Matrix, Model, Padded, Site, Tap};
use rayon::prelude::*;

/// Sixteen sequences a pass: wide enough for the kernels, small enough to spread over threads.
pub(crate) const PER_CHUNK: usize = 16;

/// A few prompts, padded on the right to one length: what comes later is causally invisible.
pub(crate) struct Chunk {
    /// Index of the first prompt.
    pub first: usize,
    padded: Padded,
}

impl Chunk {
    pub fn new(first: usize, prompts: &[&[u16]]) -> Self {
        Self { first, padded: Padded::new(prompts.iter().copied(), usize::MAX) }
    }

    /// The columns of every prompt's own tokens, padding left out.
    pub fn columns(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        self.padded.columns()
    }

    /// Log-probabilities after the last token of every prompt, `[vocab]` each.
    pub fn log_probs(&self, model: &Model, tap: &mut dyn Tap) -> Vec<Vec<f32>> {
        let logits = model.forward(self.padded.tokens(), Some(&self.padded.readout), tap).logits;
        openwork_circuit::log_probs(&logits)
    }
}

/// Groups prompts into chunks, in their order.
pub(crate) fn chunks(prompts: &[&[u16]]) -> Vec<Chunk> {
    prompts.chunks(PER_CHUNK).enumerate().map(|(i, prompts)| Chunk::new(i * PER_CHUNK, prompts)).collect()
}

/// The part of a prompt that the model sees: it is cut on the left to the context.
pub(crate) fn seen(prompt: &[u16], n_ctx: usize) -> &[u16] {
    &prompt[prompt.len().saturating_sub(n_ctx)..]
}

/// A prompt that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("prompt {prompt} is empty or has a token outside the vocabulary of {vocab_size}")]
pub struct PromptError {
    /// Its number.
    pub prompt: usize,
    /// Tokens of the vocabulary.
    pub vocab_size: usize,
}

/// Fails on the first prompt that is empty or has a token outside the vocabulary.
pub(crate) fn check(prompts: &[&[u16]], vocab_size: usize) -> Result<(), PromptError> {
    let bad = |p: &&[u16]| p.is_empty() || p.iter().any(|&t| usize::from(t) >= vocab_size);
    match prompts.iter().position(bad) {
        Some(prompt) => Err(PromptError { prompt, vocab_size }),
        None => Ok(()),
    }
}

/// Values of all nodes on all tokens of some prompts, in the plain model.
///
/// Takes `nodes · tokens · 4` bytes.
pub(crate) struct Recorded {
    pub space: NodeSpace,
    /// First column and number of tokens of every prompt.
    spans: Vec<(usize, usize)>,
    /// By site, in the order of the node space: `[nodes of the site, tokens of all prompts]`.
    values: Vec<Matrix>,
    /// Log-probabilities after the last token of every prompt.
    pub log_probs: Vec<Vec<f32>>,
}

impl Recorded {
    pub fn new(model: &Model, prompts: &[&[u16]]) -> Self {
        struct Keep<'a> {
            space: &'a NodeSpace,
            columns: Vec<usize>,
            values: Vec<Matrix>,
        }
        impl Tap for Keep<'_> {
            fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
                if self.space.range(site).is_some() {
                    self.values.push(value.select(ndarray::Axis(1), &self.columns));
                }
                ControlFlow::Continue(())
            }
        }
        let space = NodeSpace::new(&model.config);
        let parts: Vec<(Vec<Matrix>, Vec<Vec<f32>>)> = chunks(prompts)
            .par_iter()
            .map(|chunk| {
                let mut tap = Keep { space: &space, columns: chunk.columns().flatten().collect(), values: vec![] };
                let log_probs = chunk.log_probs(model, &mut tap);
                (tap.values, log_probs)
            })
            .collect();
        let joined = |site: usize| {
            let views: Vec<_> = parts.iter().map(|(values, _)| values[site].view()).collect();
            // Rows stay contiguous: a node's tokens lie side by side.
            ndarray::concatenate(ndarray::Axis(1), &views).expect("one width a site").as_standard_layout().into_owned()
        };
        let values = (0..space.sites().len()).map(joined).collect();
        let mut start = 0;
        let span = |p: &&[u16]| {
            start += p.len();
            (start - p.len(), p.len())
        };
        let spans = prompts.iter().map(span).collect();
        let log_probs = parts.into_iter().flat_map(|(_, l)| l).collect();
        Self { space, spans, values, log_probs }
    }

    /// Number of prompts.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Values of one node on the tokens of one prompt.
    pub fn of(&self, site: usize, index: usize, prompt: usize) -> &[f32] {
        let (start, len) = self.spans[prompt];
        let row = self.values[site].row(index).to_slice().expect("rows are contiguous");
        &row[start..start + len]
    }

    /// Position of a site in the order of the node space.
    pub fn site(&self, site: Site) -> Option<usize> {
        self.space.sites().iter().position(|(s, _)| *s == site)
    }
}

/// The value of a source prompt at position `p` of a prompt of `len` tokens. Positions are aligned at the last token;
/// a source that is shorter repeats the value of its first token.
pub(crate) fn aligned(source: &[f32], p: usize, len: usize) -> f32 {
    source[(source.len() + p).saturating_sub(len)]
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, NoTap, Record, Tokens};

    use super::*;

    #[test]
    fn recorded_values_are_those_of_a_run_of_the_prompt_alone() {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 8, ..Config::default() }, 2);
        let prompts: Vec<Vec<u16>> = (1..20_u16).map(|n| (0..1 + n % 7).map(|t| (t * n + 3) % 20).collect()).collect();
        let prompts: Vec<&[u16]> = prompts.iter().map(Vec::as_slice).collect();
        let recorded = Recorded::new(&model, &prompts);
        assert_eq!((recorded.len(), recorded.log_probs.len()), (19, 19));
        for at in [0, 5, 18] {
            let mut alone = Record::default();
            model.forward(Tokens::new(prompts[at], prompts[at].len()), None, &mut alone);
            for (site, value) in &alone.values {
                let Some(index) = recorded.site(*site) else { continue };
                for (row, values) in value.rows().into_iter().enumerate() {
                    let own = recorded.of(index, row, at);
                    // Batches only change the order of sums: eps times a few terms of size 1.
                    assert!(own.len() == values.len() && own.iter().zip(values).all(|(a, b)| (a - b).abs() < 1e-5));
                }
            }
        }
        let log_probs = Chunk::new(0, &prompts[5..6]).log_probs(&model, &mut NoTap);
        assert!(log_probs[0].iter().zip(&recorded.log_probs[5]).all(|(a, b)| (a - b).abs() < 1e-5));
    }

    #[test]
    fn alignment_is_at_the_last_token() {
        let all = |source: &[f32], len: usize| (0..len).map(|p| aligned(source, p, len)).collect::<Vec<_>>();
        assert_eq!(all(&[1.0, 2.0, 3.0], 2), [2.0, 3.0]);
        assert_eq!(all(&[1.0, 2.0], 4), [1.0, 1.0, 1.0, 2.0]);
        assert_eq!(seen(&[1, 2, 3], 2), [2, 3]);
        assert_eq!(check(&[&[1], &[]], 4), Err(PromptError { prompt: 1, vocab_size: 4 }));
        assert_eq!(check(&[&[4]], 4), Err(PromptError { prompt: 0, vocab_size: 4 }));
        assert_eq!(check(&[&[3]], 4), Ok(()));
    }
}
