//! Running the model with some nodes set to what they are on other prompts.

use std::{collections::BTreeMap, ops::ControlFlow};

use openwork_circuit::Node;
use openwork_expression::Value;
use openwork_model::{Matrix, Model, Site, Tap};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    HypothesisError, Prompts, Tokens,
    model::{Answers, HighLevel},
};
use crate::run::{
    measures::kl,
    prompts::{self, Chunk, PER_CHUNK, Recorded, aligned, seen},
};

/// Some nodes at some tokens.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// Indices of nodes by site, in the order of the node space.
    by_site: Vec<Vec<usize>>,
    when: When,
}

/// At which tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum When {
    All,
    Last,
    AllButLast,
}

impl From<Tokens> for When {
    fn from(at: Tokens) -> Self {
        match at {
            Tokens::Last => When::Last,
            Tokens::All => When::All,
        }
    }
}

/// Nodes of a patched run, and the prompt that they take their values from.
#[derive(Clone)]
pub(super) struct Patch<'a> {
    pub group: &'a Group,
    pub source: usize,
}

/// A run of one prompt with patches. They name no node twice at one token.
#[derive(Clone)]
pub(super) struct Job<'a> {
    pub base: usize,
    pub patches: Vec<Patch<'a>>,
}

/// Result of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    /// The answer, a token.
    pub answer: u16,
    /// KL(plain run ‖ patched run) in nats.
    pub kl: f64,
}

/// The prompts, the plain model on them, and what a hypothesis says.
pub(super) struct Patcher<'a> {
    model: &'a Model,
    pub recorded: Recorded,
    prompts: Vec<&'a [u16]>,
    /// Prompts of every number of tokens.
    by_length: BTreeMap<usize, Vec<usize>>,
    /// Texts of the tokens of every prompt.
    pub texts: Vec<Vec<String>>,
}

impl<'a> Patcher<'a> {
    /// Takes the first `max` prompts.
    pub fn new(model: &'a Model, prompts: Prompts<'a>, max: usize) -> Result<Self, HypothesisError> {
        let cut = |p: &'a Vec<u16>| seen(p, model.config.n_ctx);
        let tokens: Vec<&[u16]> = prompts.tokens.iter().take(max).map(cut).collect();
        if tokens.len() < 2 {
            return Err(HypothesisError::TooFewPrompts { found: tokens.len() });
        }
        prompts::check(&tokens, model.config.vocab_size)?;
        let texts = tokens.iter().map(|p| p.iter().map(|&t| (prompts.text)(t)).collect()).collect();
        let mut by_length: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (i, prompt) in tokens.iter().enumerate() {
            by_length.entry(prompt.len()).or_default().push(i);
        }
        Ok(Self { model, recorded: Recorded::new(model, &tokens), prompts: tokens, by_length, texts })
    }

    pub fn len(&self) -> usize {
        self.prompts.len()
    }

    /// A source for a base: any prompt where nodes are set at the last token only, else one of as many tokens. It can
    /// be the base.
    pub fn source(&self, base: usize, at: Tokens, rng: &mut ChaCha8Rng) -> usize {
        match at {
            Tokens::Last => rng.random_range(0..self.len()),
            Tokens::All => {
                let peers = &self.by_length[&self.prompts[base].len()];
                peers[rng.random_range(0..peers.len())]
            }
        }
    }

    pub fn group(&self, nodes: impl IntoIterator<Item = Node>, when: When) -> Group {
        let mut by_site = vec![vec![]; self.recorded.space.sites().len()];
        for node in nodes {
            by_site[self.recorded.site(node.site).expect("a node of the model")].push(node.index);
        }
        Group { by_site, when }
    }

    /// The model's answers without any intervention.
    pub fn plain(&self, answers: &Answers) -> Vec<u16> {
        self.recorded.log_probs.iter().map(|l| answers.of(l)).collect()
    }

    /// Runs all jobs; the results do not depend on threads.
    pub fn run(&self, jobs: &[Job<'_>], answers: &Answers) -> Result<Vec<Outcome>, HypothesisError> {
        let parts: Result<Vec<Vec<Outcome>>, HypothesisError> =
            jobs.par_chunks(PER_CHUNK).map(|jobs| self.chunk(jobs, answers)).collect();
        Ok(parts?.concat())
    }

    fn chunk(&self, jobs: &[Job<'_>], answers: &Answers) -> Result<Vec<Outcome>, HypothesisError> {
        let bases: Vec<&[u16]> = jobs.iter().map(|job| self.prompts[job.base]).collect();
        let chunk = Chunk::new(0, &bases);
        let mut tap = PatchTap { recorded: &self.recorded, chunk: &chunk, jobs, visited: 0 };
        let log_probs = chunk.log_probs(self.model, &mut tap);
        let (visited, expected) = (tap.visited, self.recorded.space.sites().len());
        if visited != expected {
            return Err(HypothesisError::Hooks { visited, expected });
        }
        let one = |(job, run): (&Job<'_>, Vec<f32>)| {
            let kl = kl(&self.recorded.log_probs[job.base], &run);
            match kl.is_finite() {
                true => Ok(Outcome { answer: answers.of(&run), kl }),
                false => Err(HypothesisError::NotFinite { prompt: job.base }),
            }
        };
        jobs.iter().zip(log_probs).map(one).collect()
    }
}

/// Predictions of a hypothesis on every prompt.
pub(super) struct Sayings {
    pub values: Vec<Vec<Value>>,
    /// Predicted answers, tokens.
    pub answers: Vec<u16>,
}

impl Sayings {
    pub fn new(patcher: &Patcher<'_>, high: &HighLevel<'_>, answers: &Answers) -> Result<Self, HypothesisError> {
        let none = vec![None; high.hypothesis.variables.len()];
        let mut all = Self { values: vec![], answers: vec![] };
        for prompt in &patcher.texts {
            let values = high.values(prompt, &none)?;
            all.answers.push(predict(high, answers, prompt, &values)?);
            all.values.push(values);
        }
        Ok(all)
    }

    /// The answer to prompt `base` where every variable that has a source takes its value there.
    pub fn swapped(
        &self,
        patcher: &Patcher<'_>,
        high: &HighLevel<'_>,
        answers: &Answers,
        base: usize,
        sources: &[Option<usize>],
    ) -> Result<u16, HypothesisError> {
        let forced: Vec<Option<Value>> =
            sources.iter().enumerate().map(|(v, source)| source.map(|s| self.values[s][v].clone())).collect();
        let same = |(v, value): (usize, &Option<Value>)| value.as_ref().is_none_or(|x| *x == self.values[base][v]);
        if forced.iter().enumerate().all(same) {
            return Ok(self.answers[base]);
        }
        let prompt = &patcher.texts[base];
        predict(high, answers, prompt, &high.values(prompt, &forced)?)
    }
}

fn predict(
    high: &HighLevel<'_>,
    answers: &Answers,
    prompt: &[String],
    values: &[Value],
) -> Result<u16, HypothesisError> {
    let text = high.answer(prompt, values)?;
    answers.id(&text).map_err(|reason| high.fails("answer".into(), prompt, reason))
}

/// The tap that patches: `value[node, token of the base] ← recorded value of the source`, aligned at the last token.
struct PatchTap<'a> {
    recorded: &'a Recorded,
    chunk: &'a Chunk,
    jobs: &'a [Job<'a>],
    visited: usize,
}

impl Tap for PatchTap<'_> {
    fn forward(&mut self, site: Site, value: &mut Matrix) -> ControlFlow<()> {
        let Some(at) = self.recorded.site(site) else { return ControlFlow::Continue(()) };
        self.visited += 1;
        for (columns, job) in self.chunk.columns().zip(self.jobs) {
            let len = columns.len();
            for Patch { group, source } in &job.patches {
                let tokens = match group.when {
                    When::All => 0..len,
                    When::Last => len - 1..len,
                    When::AllButLast => 0..len - 1,
                };
                for &index in &group.by_site[at] {
                    let values = self.recorded.of(at, index, *source);
                    for p in tokens.clone() {
                        value[[index, columns.start + p]] = aligned(values, p, len);
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use openwork_model::{Config, Record, SiteKind};

    use super::*;

    #[test]
    fn nodes_are_set_at_the_tokens_that_are_named_and_nowhere_else() {
        let model = Model::init(Config { vocab_size: 20, n_ctx: 8, act_density: None, ..Config::default() }, 2);
        let tokens: Vec<Vec<u16>> = vec![vec![1, 2, 3, 4], vec![5, 6, 7, 8], vec![9, 10]];
        let patcher = Patcher::new(&model, Prompts { tokens: &tokens, text: &|t| t.to_string() }, 9).unwrap();
        let site = Site { layer: 0, kind: SiteKind::Value };
        let at = patcher.recorded.site(site).unwrap();
        for (when, source, expected) in [
            // By token of the base: the token of the source it is set from, if it is.
            (When::All, 1, [Some(0), Some(1), Some(2), Some(3)]),
            (When::Last, 1, [None, None, None, Some(3)]),
            (When::AllButLast, 1, [Some(0), Some(1), Some(2), None]),
            (When::All, 2, [Some(0), Some(0), Some(0), Some(1)]),
        ] {
            let group = patcher.group([Node { site, index: 3 }], when);
            // A job without patches beside it stays what it is.
            let patched = Job { base: 0, patches: vec![Patch { group: &group, source }] };
            let jobs = [Job { base: 1, patches: vec![] }, patched];
            let chunk = Chunk::new(0, &[patcher.prompts[1], patcher.prompts[0]]);
            let patches = PatchTap { recorded: &patcher.recorded, chunk: &chunk, jobs: &jobs, visited: 0 };
            let mut both = (patches, Record::default());
            chunk.log_probs(&model, &mut both);
            let value = &both.1.values.iter().find(|(s, _)| *s == site).unwrap().1;
            for token in 0..4 {
                assert!((value[[3, token]] - patcher.recorded.of(at, 3, 1)[token]).abs() < 1e-6);
                assert!((value[[4, 4 + token]] - patcher.recorded.of(at, 4, 0)[token]).abs() < 1e-6, "another node");
                match expected[token] {
                    Some(from) => {
                        assert_eq!(value[[3, 4 + token]], patcher.recorded.of(at, 3, source)[from], "{when:?}")
                    }
                    None => assert!((value[[3, 4 + token]] - patcher.recorded.of(at, 3, 0)[token]).abs() < 1e-6),
                }
            }
        }
    }
}
