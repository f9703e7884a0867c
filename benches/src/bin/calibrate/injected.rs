//! Known circuits inside a trained model: everything else that it learned goes on beside them.

use std::{collections::HashSet, ops::Range, path::Path};

use anyhow::{Context, Result, ensure};
use openwork_circuit::{Claim, Means};
use openwork_model::Model;
use openwork_project::{OpenModel, Sample};
use openwork_tasks::Pair;
use openwork_truth::{
    Injection,
    zoo::{CaseKind, Expected, GroundTruthCase, Shift},
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A trained model and text that it was trained on.
pub struct Host {
    model: Model,
    text: Vec<u16>,
}

/// Tokens of text for the means, and the length of prompts.
const TEXT: usize = 1 << 15;
const LENGTHS: Range<usize> = 8..25;
const LONGER: Range<usize> = 30..41;

impl Host {
    /// The model of a run's folder, and the sample of its training data beside it.
    pub fn open(run: &Path) -> Result<Self> {
        let open = OpenModel::open(run)?;
        let tokenizer = open.tokenizer_sha256.context("the model does not name its tokenizer")?;
        let Sample { mut tokens, .. } =
            Sample::open(&open.dir, None, &tokenizer, [open.model.config.n_ctx, open.model.config.vocab_size])?;
        tokens.truncate(TEXT);
        ensure!(tokens.len() >= 4096, "the sample beside {} has only {} tokens", run.display(), tokens.len());
        Ok(Self { model: open.model, text: tokens })
    }

    /// A circuit injected into it that tells two rare tokens apart, judged on its training text with one of them put in.
    pub fn case(&self, seed: u64) -> Result<GroundTruthCase> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let common: HashSet<u16> = self.text.iter().copied().collect();
        let vocabulary = self.model.config.vocab_size as u16;
        let mut rare: Vec<u16> = (0..vocabulary).filter(|t| !common.contains(t)).collect();
        if rare.len() < 4 {
            rare = (0..vocabulary).collect();
        }
        let mut draw = || rare.swap_remove(rng.random_range(0..rare.len()));
        let (cues, answers) = ([draw(), draw()], [draw(), draw()]);
        let injected = Injection { cues, answers, seed }.into_host(&self.model)?;
        let n_ctx = injected.model.config.n_ctx;
        // Means over text in which cues occur, as the training text of a model that knows them would have them.
        let seq_len = n_ctx.min(128);
        let mut text = self.text[..self.text.len() / seq_len * seq_len].to_vec();
        for i in (0..text.len()).step_by(16) {
            text[i] = cues[i / 16 % 2];
        }
        let mut seen = HashSet::new();
        // Other words are those of the last fifth of the text.
        let here = 0..self.text.len() / 5 * 4;
        let there = here.end..self.text.len();
        let mut drawn =
            |n: usize, lengths: Range<usize>, of: &Range<usize>, template: usize, last: bool| -> Vec<Pair> {
                let mut found = Vec::new();
                while found.len() < n {
                    let length = rng.random_range(lengths.clone());
                    let start = rng.random_range(of.start..of.end - length);
                    let mut positive = self.text[start..start + length].to_vec();
                    let at = if last { length - 2 } else { rng.random_range(0..length - 1) };
                    positive[at] = cues[0];
                    let mut negative = positive.clone();
                    negative[at] = cues[1];
                    if seen.insert(positive.clone()) {
                        found.push(Pair { positive, negative, answer: answers[0], alternative: answers[1], template });
                    }
                }
                found
            };
        let mut pairs = |n: usize| drawn(n, LENGTHS, &here, 0, false);
        let (selection, held_out, training) = (pairs(48), pairs(72), pairs(32));
        let shifted = vec![
            (Shift::Templates, drawn(64, LENGTHS, &here, 1, true)),
            (Shift::Lengths, drawn(64, LONGER, &here, 2, false)),
            (Shift::Vocabulary, drawn(64, LENGTHS, &there, 3, false)),
        ];
        Ok(GroundTruthCase {
            kind: CaseKind::True,
            host: "injected into a trained model",
            severity: 1.0,
            seed,
            means: Means::compute(&injected.model, &text, seq_len),
            text,
            seq_len,
            circuit: injected.truth.clone(),
            claim: Claim::Answer,
            truth: Some(injected.truth),
            model: injected.model,
            target_loss: 0.15,
            training,
            selection,
            held_out,
            shifted,
            domain: None,
            variables: vec![],
            true_variables: vec![],
            dead_hook: false,
            expected: Expected::Pass,
        })
    }
}
