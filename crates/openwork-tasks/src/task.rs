//! Tasks: templates, answers, and the pairs drawn from them.

use std::collections::HashSet;

use thiserror::Error;

use crate::{Pair, Split, TextPair, fill::Filler};

/// Errors of drawing pairs under an encoding.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskError {
    /// No way of writing the answers gives single tokens.
    #[error(
        "task {task}: after {prompt:?} the answer {answer:?} is not one token of its own but the tokens {pieces:?}"
    )]
    NotOneToken {
        /// Name of the task.
        task: &'static str,
        /// The end of the prompt.
        prompt: String,
        /// The preferred answer.
        answer: String,
        /// Tokens of the answer after the prompt (of both, if the encoding joins them).
        pieces: Vec<u16>,
    },
    /// The templates and words do not yield so many different pairs.
    #[error("task {task}: only {found} of {wanted} different pairs could be drawn")]
    TooFew {
        /// Name of the task.
        task: &'static str,
        /// Pairs found.
        found: usize,
        /// Pairs asked for.
        wanted: usize,
    },
}

/// Two prompts and their answers, with placeholders.
pub(crate) struct Template {
    pub positive: &'static str,
    pub negative: &'static str,
}

/// A binary next-token task.
pub struct Task {
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    /// Answer and alternative in order of preference, with placeholders.
    pub(crate) answers: &'static [(&'static str, &'static str)],
    /// True if the answers are names; pairs whose names are single tokens are kept.
    pub(crate) open: bool,
    pub(crate) templates: &'static [Template],
    pub(crate) held_out: &'static [Template],
}

impl Task {
    /// The published name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The question of the task, in a line.
    pub fn description(&self) -> &'static str {
        self.description
    }

    /// `n` different pairs; fewer when templates and words do not yield so many.
    ///
    /// The same arguments give the same pairs, and a larger `n` only adds to them.
    pub fn text_pairs(&self, split: Split, n: usize, seed: u64) -> Vec<TextPair> {
        self.draw(split, seed).take(n).collect()
    }

    /// `n` different pairs under `encode`, each with single-token answers that continue the prompt's own tokens.
    ///
    /// # Errors
    /// [`TaskError::NotOneToken`] when the encoding offers no such answers, [`TaskError::TooFew`] when there are not
    /// `n` pairs.
    pub fn pairs(
        &self,
        encode: &dyn Fn(&str) -> Vec<u16>,
        split: Split,
        n: usize,
        seed: u64,
    ) -> Result<Vec<Pair>, TaskError> {
        let (pairs, drawn): (Vec<Pair>, usize) = if self.open {
            self.pairs_of_names(encode, split, n, seed)?
        } else {
            let texts = self.text_pairs(split, n, seed);
            (self.pairs_of_marks(encode, &texts)?, texts.len())
        };
        let found = pairs.len().min(drawn);
        if found < n {
            return Err(TaskError::TooFew { task: self.name, found, wanted: n });
        }
        Ok(pairs)
    }

    /// All pairs with the same way of writing the answers: the first that suits every pair.
    fn pairs_of_marks(&self, encode: &dyn Fn(&str) -> Vec<u16>, texts: &[TextPair]) -> Result<Vec<Pair>, TaskError> {
        let mut first_error = None;
        for choice in 0..self.answers.len() {
            let encoded: Result<Vec<Pair>, TaskError> =
                texts.iter().map(|text| self.encode_pair(encode, text, choice)).collect();
            match encoded {
                Ok(pairs) => return Ok(pairs),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error.expect("every task offers answers"))
    }

    /// The first `n` pairs whose names are single tokens, of at most `20 n + 200` drawn.
    fn pairs_of_names(
        &self,
        encode: &dyn Fn(&str) -> Vec<u16>,
        split: Split,
        n: usize,
        seed: u64,
    ) -> Result<(Vec<Pair>, usize), TaskError> {
        let (mut pairs, mut first_error, mut drawn) = (Vec::new(), None, 0);
        for text in self.draw(split, seed).take(20 * n + 200) {
            if pairs.len() == n {
                break;
            }
            drawn += 1;
            match self.encode_pair(encode, &text, 0) {
                Ok(pair) => pairs.push(pair),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        match first_error {
            Some(error) if pairs.is_empty() && n > 0 => Err(error),
            _ => Ok((pairs, drawn)),
        }
    }

    fn encode_pair(
        &self,
        encode: &dyn Fn(&str) -> Vec<u16>,
        text: &TextPair,
        choice: usize,
    ) -> Result<Pair, TaskError> {
        let (answer, alternative) = &text.answers[choice];
        let (positive, right) = self.continuation(encode, &text.positive, answer)?;
        let (negative, other) = self.continuation(encode, &text.negative, alternative)?;
        Ok(Pair { positive, negative, answer: right, alternative: other, template: text.template })
    }

    /// The tokens of `prompt` and the one token that `answer` adds to them.
    fn continuation(
        &self,
        encode: &dyn Fn(&str) -> Vec<u16>,
        prompt: &str,
        answer: &str,
    ) -> Result<(Vec<u16>, u16), TaskError> {
        let before = encode(prompt);
        let whole = encode(&format!("{prompt}{answer}"));
        match whole.strip_prefix(&before[..]) {
            Some(&[token]) => Ok((before, token)),
            rest => {
                let tail = prompt.chars().rev().take(40).collect::<Vec<_>>();
                Err(TaskError::NotOneToken {
                    task: self.name,
                    prompt: tail.into_iter().rev().collect(),
                    answer: answer.to_owned(),
                    pieces: rest.map_or_else(|| whole.clone(), <[u16]>::to_vec),
                })
            }
        }
    }

    /// Different pairs in the order of `seed`, until a thousand draws in a row bring nothing new.
    fn draw(&self, split: Split, seed: u64) -> impl Iterator<Item = TextPair> {
        let (templates, first) = match split {
            Split::HeldOutTemplate => (self.held_out, self.templates.len()),
            _ => (self.templates, 0),
        };
        let stream = self.name.bytes().fold(split as u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(byte));
        let mut filler = Filler::new(split, seed, stream);
        let mut seen = HashSet::new();
        let answers = self.answers;
        std::iter::from_fn(move || {
            for _ in 0..1000 {
                let at = filler.below(templates.len());
                filler.start();
                let positive = filler.expand(templates[at].positive);
                let negative = filler.expand(templates[at].negative);
                let answers = answers.iter().map(|(a, b)| (filler.expand(a), filler.expand(b))).collect();
                if seen.insert((positive.clone(), negative.clone())) {
                    return Some(TextPair { positive, negative, answers, template: first + at });
                }
            }
            None
        })
    }
}
