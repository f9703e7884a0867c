//! Circuits that carry which of two prompts gets which answer, and leave the threshold between the answers to others; and such as
//! only look as if they did after a shift.

use super::{Plan, Start};
use crate::{LOGIT, Variable, token};

/// Logits by which a whole threshold moves the answer when the nodes that set it are ablated by their means; the lead is [`LOGIT`].
const MOVES: f32 = 40.0;

/// Factor by which several nodes move it further together: an adversary with a quarter of the circuit's budget ablates half of eight.
const SEVERAL: f32 = 2.5;

/// Share of tokens that are no cue in the training text: one in ten is one.
const NO_CUE: f32 = 0.9;

impl Start {
    /// A threshold: the unembedding gives `no` so many logits at every token, and `nodes` neurons, each from a channel of its own
    /// that is 1 at every token but cues, take them away. At their means, 0.9, a tenth of it is left, on all prompts alike.
    fn threshold(&mut self, out: &Variable, nodes: usize, strength: f32) {
        let more = if nodes > 1 { SEVERAL } else { 1.0 };
        let whole = more * MOVES * strength / (1.0 - NO_CUE);
        let always = self.always.channel(0);
        self.b.output_times(token::ANSWER[1], always, whole);
        for _ in 0..nodes {
            let no_cue = self.b.tokens(1, |t| (!token::CUE.contains(&t)).then_some(0)).channel(0);
            self.b.relu(&[(no_cue, 1.0)], 0.0, &[(out.channel(1), -whole / LOGIT / nodes as f32)]);
        }
    }
}

impl Plan {
    /// The honest path, and a threshold that others set.
    pub(super) fn threshold(nodes: usize, strength: f32) -> Self {
        let mut s = Start::new();
        let out = s.path(LOGIT);
        let honest = s.b.parts();
        s.threshold(&out, nodes, strength);
        s.plan(honest.clone(), honest)
    }

    /// One head finds the cue by what it is, one looks at the first place, and a node outside sets the threshold. The circuit has the
    /// second head.
    pub(super) fn contrast_by_place() -> Self {
        let mut s = Start::new();
        let (found, sign) = s.fetch(token::CUE);
        let places = s.b.positions();
        let mark = s.b.mark();
        let first = s.b.aggregate(&s.always, &places, |_, k| k == 1, &sign);
        let out = s.answers(LOGIT);
        s.saturate(&[(found.channel(0), 1.0), (first.channel(0), 1.0)], &out);
        let (circuit, truth) = (s.b.since(mark), s.b.parts());
        s.threshold(&out, 1, 0.5);
        s.plan(circuit, truth)
    }

    /// A neuron writes [`MOVES`] · `strength` logits to `yes` where the last token is one of the first fillers, and one outside takes
    /// them away. The two prompts of a pair end alike, so that the circuit tells them apart; no common shift does for two pairs of
    /// which one ends in a first filler once the offset exceeds twice the lead.
    pub(super) fn varying_offset(strength: f32) -> Self {
        let mut s = Start::new();
        let out = s.path(LOGIT);
        let half = token::FILLERS.start + token::FILLERS.len() / 2;
        let kind = s.b.token_numbers(1, |t, _| f32::from(u8::from((token::FILLERS.start..half).contains(&t))));
        let write = |s: &mut Start, weight: f32| {
            s.b.relu(&[(kind.channel(0), 1.0)], 0.0, &[(out.channel(0), weight * MOVES / LOGIT)]);
        };
        write(&mut s, strength);
        let circuit = s.b.parts();
        write(&mut s, -strength);
        let truth = s.b.parts();
        s.plan(circuit, truth)
    }

    /// `ReLU(x)` to `yes`, which the circuit has, and `strength` times `ReLU(−x)` to `no`. Alone the first gives 10 logits or none: as much
    /// of a contrast as both, at another threshold.
    pub(super) fn half_cue(strength: f32) -> Self {
        let mut s = Start::new();
        let (x, _) = s.fetch(token::CUE);
        let out = s.answers(LOGIT);
        s.b.relu(&[(x.channel(0), 1.0)], 0.0, &[(out.channel(0), 1.0)]);
        let circuit = s.b.parts();
        s.b.relu(&[(x.channel(0), -1.0)], 0.0, &[(out.channel(1), strength)]);
        let truth = s.b.parts();
        s.plan(circuit, truth)
    }
}
