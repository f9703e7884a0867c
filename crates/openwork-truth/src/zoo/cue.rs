//! Prompts and pairs of the cue task.

use std::{collections::HashSet, ops::Range};

use openwork_tasks::Pair;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::{BOS, CUE_CONTEXT, token};

/// Place of the cue.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum CuePlace {
    /// Anywhere but at the last place.
    Anywhere,
    /// First.
    First,
    /// Anywhere but at the first place and the last.
    NotFirst,
    /// Last.
    Last,
}

/// Kind of prompts.
#[derive(Clone)]
pub(super) struct Kind {
    /// Number of tokens after BOS.
    pub lengths: Range<usize>,
    pub fillers: Range<usize>,
    pub at: CuePlace,
    /// The second kind of cue.
    pub second: Second,
    /// Share of pairs whose prompts have the rare token, and true if it turns the right answers.
    pub rare: Option<(f32, bool)>,
    pub template: usize,
}

/// The second kind of cue in a prompt.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Second {
    /// Not there.
    Absent,
    /// Has its own sign, and the answer depends on both.
    Independent,
    /// Has the sign of the first.
    Companion,
}

impl Kind {
    /// The prompts circuits are selected on.
    pub fn usual(at: CuePlace, second: Second) -> Self {
        // The last fillers are for the shift of vocabulary alone.
        let fillers = token::FILLERS.start..token::FILLERS.end - 2;
        Self { lengths: 4..7, fillers, at, second, rare: None, template: 0 }
    }
}

/// A source of pairs that have no prompt in common, and of text.
pub(super) struct Source {
    pub rng: ChaCha8Rng,
    pub ids: Vec<u16>,
    seen: HashSet<Vec<usize>>,
}

impl Source {
    pub fn new(rng: ChaCha8Rng, ids: &[u16]) -> Self {
        Self { rng, ids: ids.to_vec(), seen: HashSet::new() }
    }

    /// Two prompts by logical number that differ in a cue; `yes` is right for the first.
    fn prompts(&mut self, kind: &Kind) -> [Vec<usize>; 2] {
        let n = self.rng.random_range(kind.lengths.clone());
        let mut x: Vec<usize> =
            [BOS].into_iter().chain((0..n).map(|_| self.rng.random_range(kind.fillers.clone()))).collect();
        let place = |rng: &mut ChaCha8Rng| match kind.at {
            CuePlace::Anywhere => rng.random_range(1..n),
            CuePlace::First => 1,
            CuePlace::NotFirst => rng.random_range(2..n),
            CuePlace::Last => n,
        };
        let first = place(&mut self.rng);
        let mut which = first;
        let mut cues = token::CUE;
        let mut second = first;
        while kind.second != Second::Absent && second == first {
            second = place(&mut self.rng);
        }
        if kind.second == Second::Independent {
            x[second] = token::SECOND_CUE[1];
            x[first] = token::CUE[0];
            // `yes` is `+` and `-`; either may change.
            if self.rng.random_range(0..2) == 0 {
                (which, cues) = (second, [token::SECOND_CUE[1], token::SECOND_CUE[0]]);
            }
        }
        if kind.rare.is_some_and(|(share, _)| self.rng.random::<f32>() < share) {
            let free: Vec<usize> = (1..x.len()).filter(|&t| t != first && t != second).collect();
            x[free[self.rng.random_range(0..free.len())]] = token::RARE;
        }
        [0, 1].map(|side| {
            let mut x = x.clone();
            if kind.second == Second::Companion {
                x[second] = token::SECOND_CUE[side];
            }
            x[which] = cues[side];
            x
        })
    }

    /// `n` pairs with prompts that no earlier pair had.
    pub fn pairs(&mut self, n: usize, kind: &Kind) -> Vec<Pair> {
        let mut pairs = Vec::with_capacity(n);
        while pairs.len() < n {
            let [positive, negative] = self.prompts(kind);
            if self.seen.contains(&positive) || self.seen.contains(&negative) {
                continue;
            }
            let turned = kind.rare.is_some_and(|(_, turns)| turns) && positive.contains(&token::RARE);
            let [answer, alternative] = [usize::from(turned), usize::from(!turned)].map(|i| self.ids[token::ANSWER[i]]);
            let pair = Pair {
                positive: self.named(&positive),
                negative: self.named(&negative),
                answer,
                alternative,
                template: kind.template,
            };
            self.seen.extend([positive, negative]);
            pairs.push(pair);
        }
        pairs
    }

    fn named(&self, x: &[usize]) -> Vec<u16> {
        x.iter().map(|&t| self.ids[t]).collect()
    }

    /// Training text of `4 n` sequences: prompts filled up with fillers; of each both signs, and again with every filler
    /// exchanged for one of the other half, so that signs of cues and fillers have a mean of zero.
    pub fn text(&mut self, n: usize, kind: &Kind) -> Vec<u16> {
        let half = token::FILLERS.len() / 2;
        let flip = |t: usize| match t {
            t if !token::FILLERS.contains(&t) => t,
            t if t < token::FILLERS.start + half => t + half,
            t => t - half,
        };
        let mut text = Vec::with_capacity(4 * n * CUE_CONTEXT);
        for _ in 0..n {
            let rest: Vec<usize> = (0..CUE_CONTEXT).map(|_| self.rng.random_range(token::FILLERS)).collect();
            for mut prompt in self.prompts(&Kind { fillers: token::FILLERS, ..kind.clone() }) {
                prompt.extend_from_slice(&rest[prompt.len()..]);
                text.extend(self.named(&prompt));
                prompt.iter_mut().for_each(|t| *t = flip(*t));
                text.extend(self.named(&prompt));
            }
        }
        text
    }
}
